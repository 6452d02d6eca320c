//! What a call of a guest costs: in a fresh instance, as every message gets one, and, to compare,
//! again and again in one. No server is needed; the guest has to be built (`make guests`).

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tribox::model::{Document, Documents, Header, Message, Unreadable};
use tribox::sandbox::{Guest, Sandbox, SandboxConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls that one instance has memory for.
const CALLS: usize = 100;

/// The same document under every key.
struct One(String);

impl Documents for One {
    fn get(&mut self, _: &str, _: &str) -> Result<Option<String>, Unreadable> {
        Ok(Some(self.0.clone()))
    }

    fn list(
        &mut self,
        _: &str,
        _: &str,
        _: Option<&str>,
        _: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        Ok(Vec::new())
    }
}

/// The guest `accounts`, as `make guests` builds it.
fn accounts() -> Result<Guest, Box<dyn Error>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = target.unwrap_or_else(|| root.join("target"));
    let file = target.join("wasm32-wasip2/release/accounts.wasm");
    #[expect(clippy::disallowed_methods, reason = "the guest lies where it was built")]
    let component = std::fs::read(&file)
        .map_err(|why| format!("{}: {why}; run `make guests`", file.display()))?;
    Ok(Sandbox::new(SandboxConfig::default())?.load("accounts.wasm", &component)?)
}

fn call(criterion: &mut Criterion) {
    let guest = match accounts() {
        Ok(guest) => guest,
        Err(why) => return eprintln!("sandbox_call: {why}"),
    };
    let reference = "x".repeat(150);
    let message = Message {
        id: "command-1".into(),
        subject: "accounts.7.credit".into(),
        key: Some("7".into()),
        headers: vec![Header { name: "Nats-Msg-Id".into(), value: "command-1".into() }],
        payload: format!("{{\"amount\":1,\"reference\":\"{reference}\"}}").into(),
        stored_at: 1_700_000_000_000,
    };
    let body = format!("{{\"balance\":5,\"changes\":5,\"reference\":\"{reference}\"}}");
    let documents = Arc::new(Mutex::new(One(body)));
    let mut group = criterion.benchmark_group("sandbox call");
    group.throughput(Throughput::Elements(1));
    group.bench_function("fresh instance", |bencher| {
        bencher.iter(|| guest.call(&message, documents.clone()));
    });
    group.bench_function("one instance again", |bencher| {
        bencher.iter_custom(|calls| {
            // The SDK's allocator gives nothing back: an instance lives for one message.
            let times = (0..calls).step_by(CALLS).map(|done| {
                let some = (calls - done).min(CALLS as u64);
                let timed = guest.time_in_one_instance(&message, documents.clone(), some);
                timed.unwrap_or_else(|why| panic!("the guest failed: {why}"))
            });
            times.sum()
        });
    });
    group.finish();
}

criterion_group!(benches, call);
criterion_main!(benches);
