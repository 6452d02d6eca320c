//! Servers that say no more than what they are: a nats-server and a Postgres of versions that
//! nobody can install any more.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A server of the NATS protocol that names this version and knows nothing but PING. It ends with
/// the runtime of its test.
///
/// # Errors
/// There is no free port.
pub async fn nats(version: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to listen")?;
    let address = listener.local_addr()?;
    let info = serde_json::json!({
        "server_id": "FAKE", "server_name": "fake", "version": version, "proto": 1,
        "host": "127.0.0.1", "port": address.port(), "headers": true, "max_payload": 1_048_576,
        "jetstream": true,
    });
    let greeting = format!("INFO {info}\r\n");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A client that goes away is no failure of its server.
            let _ = answer_pings(client, &greeting).await;
        }
    });
    Ok(address)
}

async fn answer_pings(client: TcpStream, greeting: &str) -> std::io::Result<()> {
    let (read, mut write) = client.into_split();
    write.write_all(greeting.as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("PING") {
            write.write_all(b"PONG\r\n").await?;
        }
    }
    Ok(())
}

/// A server of the Postgres protocol that lets everybody in and answers each statement with one
/// row of one integer: its version, as `server_version_num` has it.
///
/// # Errors
/// There is no free port.
pub async fn postgres(version: i32) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to listen")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let _ = answer_statements(client, version).await;
        }
    });
    Ok(address)
}

/// Until the client says TLS and then who it is, messages have no type.
async fn answer_statements(mut client: TcpStream, version: i32) -> std::io::Result<()> {
    const TLS_WANTED: i32 = 80_877_103;
    loop {
        let length = client.read_i32().await?;
        let wanted = client.read_i32().await?;
        skip(&mut client, length - 8).await?;
        if wanted != TLS_WANTED {
            break;
        }
        client.write_all(b"N").await?;
    }
    let ready = message(b'Z', b"I");
    let welcome = [message(b'R', &0_i32.to_be_bytes()), ready.clone()].concat();
    client.write_all(&welcome).await?;
    loop {
        let kind = client.read_u8().await?;
        let length = client.read_i32().await?;
        skip(&mut client, length - 4).await?;
        let answer = match kind {
            b'P' => message(b'1', b""),
            b'B' => message(b'2', b""),
            b'C' => message(b'3', b""),
            b'D' => [message(b't', &[0, 0]), message(b'T', &one_integer())].concat(),
            b'E' => {
                let row = [&[0, 1, 0, 0, 0, 4][..], &version.to_be_bytes()].concat();
                [message(b'D', &row), message(b'C', b"SELECT 1\0")].concat()
            }
            b'S' => ready.clone(),
            b'X' => return Ok(()),
            _ => continue,
        };
        client.write_all(&answer).await?;
    }
}

async fn skip(client: &mut TcpStream, count: i32) -> std::io::Result<()> {
    let mut body = vec![0; usize::try_from(count).unwrap_or_default()];
    client.read_exact(&mut body).await.map(|_| ())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).unwrap_or_default();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// The description of a row of one `int4` in binary form.
fn one_integer() -> Vec<u8> {
    const INT4: i32 = 23;
    let mut row = vec![0, 1];
    row.extend(b"version\0");
    // No table and no column of one; four bytes, no modifier, binary.
    row.extend([0; 6]);
    row.extend(INT4.to_be_bytes());
    row.extend(4_i16.to_be_bytes());
    row.extend((-1_i32).to_be_bytes());
    row.extend(1_i16.to_be_bytes());
    row
}
