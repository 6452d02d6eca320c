//! Just enough of an HTTP client for the addresses of the program.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// Fetches `path` from `address`.
///
/// # Errors
/// Nobody answers within five seconds, or not with HTTP.
pub async fn get(address: SocketAddr, path: &str) -> Result<Response> {
    request(address, "GET", path, &[], "").await
}

/// Sends `body` to `path` at `address`, with header lines such as `Name: value`.
///
/// # Errors
/// As [`get`].
pub async fn post(address: SocketAddr, path: &str, lines: &[&str], body: &str) -> Result<Response> {
    request(address, "POST", path, lines, body).await
}

async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    lines: &[&str],
    body: &str,
) -> Result<Response> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP/1.0: the answer comes in one piece, and its end is the end of the connection.
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n{lines}\r\n\
             {body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    let answer = answer.with_context(|| format!("no answer from {address}{path}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP head")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok(Response { status: status.parse().context(status.to_owned())?, body: body.to_owned() })
}
