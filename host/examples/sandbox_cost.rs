//! What a message costs in the sandbox: load times, then microseconds, fuel and memory per call.
//!
//! `cargo run --release --example sandbox_cost -- FILE.wasm SUBJECT KEY PAYLOAD DOCUMENT [CALLS]`, where
//! DOCUMENT is the body that every read of a document returns, and CALLS is 10,000 unless given. Figures are worth what the profile
//! and the load of the machine are worth.

use std::error::Error;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tribox::model::{Document, Documents, Header, Message, Unreadable};
use tribox::sandbox::{Guest, Sandbox, SandboxConfig};

const CALLS: usize = 10_000;

/// The same document under every key.
struct One(Document);

impl Documents for One {
    fn get(&mut self, _: &str, _: &str) -> Result<Option<String>, Unreadable> {
        Ok(Some(self.0.body.clone()))
    }

    fn list(
        &mut self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        Ok(vec![self.0.clone()])
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, subject, key, payload, body, calls @ ..] = arguments.as_slice() else {
        return Err("usage: sandbox_cost FILE.wasm SUBJECT KEY PAYLOAD DOCUMENT [CALLS]".into());
    };
    let calls: usize = calls.first().map_or(Ok(CALLS), |calls| calls.parse())?;
    #[expect(clippy::disallowed_methods, reason = "the component is named on the command line")]
    let wasm = fs::read(file)?;
    let place = tempfile::tempdir()?;
    let mut loaded = None;
    for what in ["cold", "cached"] {
        let cache = Some(place.path().join("cache"));
        let started = Instant::now();
        let sandbox = Sandbox::new(SandboxConfig { cache, ..SandboxConfig::default() })?;
        let set_up = started.elapsed();
        let guest = sandbox.load(file, &wasm)?;
        println!("{what}: set up {set_up:?}, load {:?}", started.elapsed() - set_up);
        loaded = Some(guest);
    }
    let guest = loaded.ok_or("nothing loaded")?;
    let message = Message {
        id: "orders-000001".into(),
        subject: subject.clone(),
        key: Some(key.clone()),
        headers: vec![Header { name: "Nats-Msg-Id".into(), value: "orders-000001".into() }],
        payload: payload.clone().into(),
        stored_at: 1_700_000_000_000,
    };
    let document = Document { collection: String::new(), key: key.clone(), body: body.clone() };
    let first = guest.call(&message, Arc::new(Mutex::new(One(document.clone()))));
    println!("{} bytes; first call: {first:?}", guest.size());
    for threads in [1, 2] {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| measure(threads, calls, &guest, &message, &document));
            }
        });
    }
    Ok(())
}

fn measure(threads: usize, calls: usize, guest: &Guest, message: &Message, document: &Document) {
    let documents = Arc::new(Mutex::new(One(document.clone())));
    let warm_up = calls / 10;
    let mut times: Vec<Duration> = (0..warm_up + calls)
        .map(|_| {
            let started = Instant::now();
            let _ = guest.call(message, documents.clone());
            started.elapsed()
        })
        .skip(warm_up)
        .collect();
    times.sort_unstable();
    let [p10, p50, p99] = [10, 50, 99].map(|p| times[calls * p / 100]);
    println!("{threads} threads: p10 {p10:?}, p50 {p50:?}, p99 {p99:?}");
}
