//! The servers of a run, its own and fresh, and the program that does the work on them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use tribox_tests::{Broker, Host, Stack, StackOptions};

use crate::work::{COMMANDS, EVENTS, command};
use crate::{Shape, Variant};

/// How long a run may take.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What Postgres is set to; fsync and synchronous commit are on, as everywhere.
const POSTGRES: &[(&str, &str)] =
    &[("shared_buffers", "512MB"), ("max_wal_size", "4GB"), ("wal_compression", "off")];

/// A program that works.
pub enum Program {
    Shipped(Host),
    Own(Child),
}

impl Program {
    pub fn id(&self) -> u32 {
        match self {
            Program::Shipped(host) => host.pid(),
            Program::Own(child) => child.id(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Program::Own(child) = self {
            // An error means that it has ended already.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Postgres and NATS with streams for these subjects.
pub async fn with_streams(name: &str, commands: &[&str], events: &[&str]) -> Result<Stack> {
    let settings = POSTGRES.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let options =
        StackOptions { own_postgres: true, postgres: settings, ..StackOptions::default() };
    let stack = Stack::with(name, options).await?;
    stack.broker.create_stream(COMMANDS, commands).await?;
    stack.broker.create_stream(EVENTS, events).await?;
    Ok(stack)
}

/// The servers for the usual work.
pub async fn usual(name: &str) -> Result<Stack> {
    let events = ["accounts.events.*.*", "accounts.*.enforce-overdrawn"];
    with_streams(name, &["accounts.*.credit"], &events).await
}

/// Starts who does the work.
pub async fn start(stack: &mut Stack, variant: Variant, shape: &Shape) -> Result<Program> {
    if variant == Variant::Tribox {
        // Unless there is another build of it already.
        if !stack.plugins().join("accounts.wasm").exists() {
            stack.drop_in(&["accounts"])?;
        }
        return serve(stack, shape);
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["variant", variant.name(), stack.database_url(), &stack.nats_url()]);
    child.arg(serde_json::to_string(shape)?);
    Ok(Program::Own(child.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
}

/// Starts tribox on what is in its plugin directory.
pub fn serve(stack: &mut Stack, shape: &Shape) -> Result<Program> {
    stack.config.set("lanes.count", i64::try_from(shape.lanes)?);
    stack.config.set("lanes.turn", i64::try_from(shape.turn)?);
    stack.config.set("plugins.watch", false);
    stack.config.set("log.filter", "warn");
    Ok(Program::Shipped(stack.spawn()?.quiet()))
}

/// Publishes the commands of a run.
pub async fn fill(broker: &Broker, shape: &Shape) -> Result<()> {
    publish(broker, (0..shape.messages).map(|n| command(n, shape))).await
}

/// Publishes messages (id, subject, payload), many at a time.
pub async fn publish(
    broker: &Broker,
    messages: impl Iterator<Item = (String, String, Vec<u8>)>,
) -> Result<()> {
    let mut acks = Vec::new();
    for (id, subject, payload) in messages {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let sent = broker.jetstream.publish_with_headers(subject, headers, payload.into()).await;
        acks.push(sent?.into_future());
        if acks.len() == 1_024 {
            futures_util::future::try_join_all(acks.drain(..)).await?;
        }
    }
    futures_util::future::try_join_all(acks).await?;
    Ok(())
}

/// Waits until `count` has come to `wanted`: what it is then, and when that was.
pub async fn reached(
    what: &str,
    wanted: u64,
    mut count: impl AsyncFnMut() -> Result<u64>,
) -> Result<(u64, Instant)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = count().await?;
        if now >= wanted {
            return Ok((now, Instant::now()));
        }
        ensure!(Instant::now() < deadline, "{what}: {now} of {wanted} in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Bytes that Postgres has written to its log so far.
pub async fn wal_bytes(stack: &Stack) -> Result<f64> {
    let query = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
    sqlx::query_scalar(query).fetch_one(&stack.pool).await.context("no WAL position")
}
