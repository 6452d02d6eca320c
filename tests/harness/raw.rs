//! A publisher that sends bytes as they are: what no client library would.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Publishes to the nats-server on loopback port `port`. `headers` are lines as on the wire,
/// without the one that names the version; no header at all where they are empty.
///
/// # Errors
/// The server refuses, or does not answer.
pub async fn publish(port: u16, subject: &[u8], headers: &[u8], payload: &[u8]) -> Result<()> {
    let sent = async {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let (read, mut write) = client.into_split();
        let mut said = BufReader::new(read).lines();
        said.next_line().await?.context("no greeting")?;
        let mut bytes = b"CONNECT {\"verbose\":false,\"headers\":true}\r\n".to_vec();
        if headers.is_empty() {
            let sizes = format!(" {}\r\n", payload.len());
            bytes.extend([b"PUB ", subject, sizes.as_bytes(), payload].concat());
        } else {
            let headers = [b"NATS/1.0\r\n", headers, b"\r\n"].concat();
            let sizes = format!(" {} {}\r\n", headers.len(), headers.len() + payload.len());
            bytes.extend([b"HPUB ", subject, sizes.as_bytes(), &headers, payload].concat());
        }
        bytes.extend(b"\r\nPING\r\n");
        write.write_all(&bytes).await?;
        match said.next_line().await? {
            Some(line) if line.starts_with("PONG") => Ok(()),
            Some(line) => bail!("the server says {line}"),
            None => bail!("the server closes the connection"),
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(5), sent).await;
    sent.context("the server does not answer")?
}
