//! What a handler sees around it: clocks, random numbers, files, sockets, the environment. Inside
//! the host all of it repeats, or is not there.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tribox_guest::Timestamp;

/// The wall clock, and what two readings of the monotonic clock are apart: at once, and after a
/// sleep of five seconds.
pub fn clock(stored_at: Timestamp) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Instant::now();
    let at_once = start.elapsed();
    std::thread::sleep(Duration::from_secs(5));
    let slept = start.elapsed();
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "stored_at": stored_at,
        "now": now.as_millis() as u64,
        "at_once_ns": at_once.as_nanos() as u64,
        "slept_ns": slept.as_nanos() as u64,
        "later": later.as_millis() as u64,
    })
}

/// A hash by random keys, and the order of a map that uses such.
pub fn random() -> Value {
    let hash = RandomState::new().hash_one(0);
    let map: HashMap<u32, ()> = (0..16).map(|n| (n, ())).collect();
    let order: Vec<u32> = map.into_keys().collect();
    json!({"hash": hash.to_string(), "order": order})
}

/// What reaching out came to: how many bytes or lines there were, or why it failed.
pub fn file() -> Value {
    json!({
        "read": tried(std::fs::read("/etc/passwd").map(|text| text.len())),
        "write": tried(std::fs::write("chaos.txt", "chaos").map(|()| 5)),
        "list": tried(std::fs::read_dir("/").map(Iterator::count)),
        "connect": tried(TcpStream::connect("127.0.0.1:4222").map(|_| 1)),
        "bind": tried(UdpSocket::bind("127.0.0.1:0").map(|_| 1)),
        "resolve": tried(TcpStream::connect("localhost:4222").map(|_| 1)),
        "environment": std::env::vars_os().count(),
        "arguments": std::env::args_os().count(),
    })
}

fn tried(outcome: Result<usize, impl Display>) -> Value {
    match outcome {
        Ok(reached) => json!({"reached": reached}),
        Err(error) => json!({"failed": error.to_string()}),
    }
}

/// A line on stdout, one on stderr, and one on stdout without an end.
pub fn print(text: &str) -> Value {
    println!("stdout: {text}");
    eprintln!("stderr: {text}");
    print!("unfinished: {text}");
    // Without a line's end it stays in the guest's buffer, which nothing flushes after the call.
    json!({ "text": text, "flushed": std::io::stdout().flush().is_ok() })
}
