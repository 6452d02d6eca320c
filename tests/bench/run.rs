//! One run of one variant: fresh servers, a full stream, and the time until the last event stands in
//! its stream; or messages at a steady rate, and how long each takes. Every run is verified.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use futures_util::StreamExt;
use sqlx::Row;
use tribox_tests::{Broker, Host, Stack, StackOptions, wait_within};

use crate::measure::{Usage, percentile, usage};
use crate::work::{COMMANDS, EVENTS, Event, command};
use crate::{Shape, Variant};

/// What a throughput run came to.
#[derive(Debug, Clone)]
pub struct Throughput {
    pub messages_per_s: f64,
    /// CPU µs per message.
    pub postgres_us: f64,
    pub nats_us: f64,
    pub program_us: f64,
    /// Resident bytes of the program at the end.
    pub memory: f64,
}

/// What a latency run came to, in milliseconds from publishing to reading the event.
#[derive(Debug, Clone)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(300);

enum Program {
    Shipped(Host),
    Own(Child),
}

impl Program {
    fn id(&self) -> u32 {
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

async fn servers(name: &str) -> Result<Stack> {
    let stack =
        Stack::with(name, StackOptions { own_postgres: true, ..Default::default() }).await?;
    stack.broker.create_stream(COMMANDS, &["accounts.*.credit"]).await?;
    let events = ["accounts.events.*.*", "accounts.*.enforce-overdrawn"];
    stack.broker.create_stream(EVENTS, &events).await?;
    Ok(stack)
}

async fn start(stack: &mut Stack, variant: Variant, shape: &Shape) -> Result<Program> {
    if variant == Variant::Tribox {
        stack.drop_in(&["accounts"])?;
        stack.config.set("lanes.count", i64::try_from(shape.lanes)?);
        stack.config.set("lanes.turn", i64::try_from(shape.turn)?);
        stack.config.set("plugins.watch", false);
        stack.config.set("log.filter", "warn");
        return Ok(Program::Shipped(stack.spawn()?.quiet()));
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["variant", variant.name(), stack.database_url(), &stack.nats_url()]);
    child.args([shape.lanes.to_string(), shape.turn.to_string(), shape.tasks.to_string()]);
    Ok(Program::Own(child.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?))
}

/// Publishes commands, many at a time.
async fn fill(broker: &Broker, shape: &Shape) -> Result<()> {
    let mut acks = Vec::new();
    for n in 0..shape.messages {
        let (id, subject, payload) = command(n, shape.keys);
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

/// Messages a second when a full stream is worked off.
pub async fn throughput(variant: Variant, shape: &Shape) -> Result<Throughput> {
    let mut stack = servers(variant.name()).await?;
    fill(&stack.broker, shape).await?;
    let servers = [
        stack.postgres.as_ref().and_then(|p| p.pid()).context("no Postgres")?,
        stack.nats.pid().context("no nats-server")?,
    ];
    let program = start(&mut stack, variant, shape).await?;
    // Measured from the first events on: starting up is another matter.
    let (first, from) = progress(&stack, shape.messages / 20).await?;
    let before = all_used(servers, program.id())?;
    let (last, until) = progress(&stack, shape.messages).await?;
    let after = all_used(servers, program.id())?;
    let done = (last - first) as f64;
    let each = |n: usize| (after[n].cpu - before[n].cpu) * 1e6 / done;
    verify(&stack, variant, shape).await?;
    Ok(Throughput {
        messages_per_s: done / (until - from).as_secs_f64(),
        postgres_us: each(0),
        nats_us: each(1),
        program_us: each(2),
        memory: after[2].resident,
    })
}

fn all_used(servers: [u32; 2], program: u32) -> Result<[Usage; 3]> {
    Ok([usage(servers[0])?, usage(servers[1])?, usage(program)?])
}

/// Waits until that many events stand in the stream; how many there are then, and when that was.
async fn progress(stack: &Stack, events: usize) -> Result<(u64, Instant)> {
    let wanted = u64::try_from(events)?;
    wait_within(PATIENCE, "the events are there", async || {
        let count = stack.broker.count(EVENTS).await.map_err(|why| format!("{why:#}"))?;
        if count < wanted {
            return Err(format!("{count} of {wanted} events"));
        }
        Ok((count, Instant::now()))
    })
    .await
}

/// Checks the state and the events of a run: complete, and nothing twice.
async fn verify(stack: &Stack, variant: Variant, shape: &Shape) -> Result<()> {
    let rows = sqlx::query(variant.accounts()).fetch_all(&stack.pool).await?;
    let mut sum = 0_i64;
    for row in &rows {
        sum += row.try_get::<i64, _>("balance")?;
    }
    let expected = i64::try_from(shape.messages)?;
    ensure!(sum == expected, "{variant:?}: the balances add up to {sum} and not to {expected}");
    let accounts = shape.keys.min(shape.messages);
    ensure!(rows.len() == accounts, "{variant:?}: {} accounts and not {accounts}", rows.len());
    if variant == Variant::Limit {
        // It does not know its balances when it writes its events; their number must be right.
        let count = stack.broker.count(EVENTS).await?;
        ensure!(count == u64::try_from(shape.messages)?, "{variant:?}: {count} events");
        return Ok(());
    }
    let mut seen: HashMap<(String, u64), ()> = HashMap::new();
    for stored in stack.broker.read(EVENTS).await? {
        let event: Event = serde_json::from_slice(&stored.payload)?;
        let key = (event.account, event.sequence);
        ensure!(seen.insert(key.clone(), ()).is_none(), "{variant:?}: event {key:?} stands twice");
    }
    ensure!(seen.len() == shape.messages, "{variant:?}: {} events", seen.len());
    Ok(())
}

/// Latency at a steady rate.
pub async fn latency(variant: Variant, shape: &Shape, rate: f64) -> Result<Latency> {
    let mut stack = servers(variant.name()).await?;
    let program = start(&mut stack, variant, shape).await?;
    let stream = stack.broker.jetstream.get_stream(EVENTS).await?;
    let ordered = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let mut events = stream.create_consumer(ordered).await?.messages().await?;
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let mut took: Vec<f64> = Vec::with_capacity(shape.messages);
    // The first messages wait for the program to start and are not counted.
    let warm = shape.messages / 10;
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut next = 0;
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    let mut done = 0;
    while done < shape.messages {
        tokio::select! {
            _ = ticks.tick(), if next < shape.messages && (next == 0 || done > 0) => {
                let (id, subject, payload) = command(next, shape.keys);
                let reference = reference(&payload)?;
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", id.as_str());
                sent.insert(reference, Instant::now());
                stack.broker.client.publish_with_headers(subject, headers, payload.into()).await?;
                next += 1;
            }
            event = events.next() => {
                let event = event.context("the events end")??;
                let event: Event = serde_json::from_slice(&event.payload)?;
                let started = event.reference.and_then(|reference| sent.remove(&reference));
                let started = started.context("an event that nobody asked for")?;
                done += 1;
                if done > warm {
                    took.push(started.elapsed().as_secs_f64() * 1_000.0);
                }
            }
            () = &mut deadline => anyhow::bail!("{variant:?}: {done} events in {PATIENCE:?}"),
        }
    }
    drop(program);
    took.sort_by(f64::total_cmp);
    Ok(Latency {
        p50: percentile(&took, 0.5),
        p99: percentile(&took, 0.99),
        p999: percentile(&took, 0.999),
    })
}

fn reference(payload: &[u8]) -> Result<String> {
    let command: crate::work::Command = serde_json::from_slice(payload)?;
    command.reference.context("no reference")
}
