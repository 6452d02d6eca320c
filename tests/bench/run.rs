//! One run of one variant: fresh servers, a full stream, and the time until the last event stands in
//! its stream; or messages at a steady rate, and how long each takes. Every run is verified.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use futures_util::StreamExt;
use sqlx::Row;
use tribox_tests::Stack;

use crate::measure::{Usage, percentile, usage};
use crate::servers::{self, PATIENCE, reached, wal_bytes};
use crate::work::{EVENTS, Event, command};
use crate::{Shape, Variant};

/// What a throughput run came to.
#[derive(Debug, Clone)]
pub struct Throughput {
    pub messages_per_s: f64,
    /// CPU µs per message.
    pub postgres_us: f64,
    pub nats_us: f64,
    pub program_us: f64,
    /// Bytes of write-ahead log per message.
    pub wal: f64,
    /// Resident bytes of the program at the end.
    pub memory: f64,
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Throughput { messages_per_s, postgres_us, nats_us, program_us, .. } = self;
        write!(
            f,
            "{messages_per_s:.0}/s, CPU µs a message: Postgres {postgres_us:.1}, NATS \
             {nats_us:.1}, program {program_us:.1}"
        )
    }
}

/// What a latency run came to, in milliseconds from publishing to reading the event.
#[derive(Debug, Clone)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub most: f64,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p99, p999, .. } = self;
        write!(f, "p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms")
    }
}

/// Messages a second when a full stream is worked off.
pub async fn throughput(variant: Variant, shape: &Shape) -> Result<Throughput> {
    let mut stack = servers::usual(variant.name()).await?;
    let measured = throughput_on(&mut stack, variant, shape).await?;
    Ok(measured)
}

/// The same on servers that are there.
pub async fn throughput_on(
    stack: &mut Stack,
    variant: Variant,
    shape: &Shape,
) -> Result<Throughput> {
    servers::fill(&stack.broker, shape).await?;
    let program = servers::start(stack, variant, shape).await?;
    let all = u64::try_from(shape.messages)?;
    let what = format!("events of {}", variant.name());
    let broker = stack.broker.clone();
    let events = async || broker.count(EVENTS).await;
    // Measured from the first events on: starting up is another matter.
    let (first, from) = reached(&what, all / 20, events).await?;
    let before = (all_used(stack, program.id())?, wal_bytes(stack).await?);
    let (last, until) = reached(&what, all, events).await?;
    let after = (all_used(stack, program.id())?, wal_bytes(stack).await?);
    let done = (last - first) as f64;
    let each = |n: usize| (after.0[n].cpu - before.0[n].cpu) * 1e6 / done;
    verify(stack, variant, shape).await?;
    Ok(Throughput {
        messages_per_s: done / (until - from).as_secs_f64(),
        postgres_us: each(0),
        nats_us: each(1),
        program_us: each(2),
        wal: (after.1 - before.1) / done,
        memory: after.0[2].resident,
    })
}

fn all_used(stack: &Stack, program: u32) -> Result<[Usage; 3]> {
    let postgres = stack.postgres.as_ref().and_then(|p| p.pid()).context("no Postgres")?;
    let nats = stack.nats.pid().context("no nats-server")?;
    Ok([usage(postgres)?, usage(nats)?, usage(program)?])
}

/// Checks the state and the events of a run: complete, and nothing twice. One check for all.
pub async fn verify(stack: &Stack, variant: Variant, shape: &Shape) -> Result<()> {
    let rows = sqlx::query(variant.accounts()).fetch_all(&stack.pool).await?;
    let mut sum = 0_i64;
    for row in &rows {
        sum += row.try_get::<i64, _>("balance")?;
    }
    let expected = i64::try_from(shape.messages)?;
    ensure!(sum == expected, "{variant:?}: the balances add up to {sum} and not to {expected}");
    let accounts = shape.keys.min(shape.messages);
    ensure!(rows.len() == accounts, "{variant:?}: {} accounts and not {accounts}", rows.len());
    let mut commands: HashSet<String> = HashSet::new();
    let mut changes: HashSet<(String, u64)> = HashSet::new();
    for stored in stack.broker.read(EVENTS).await? {
        let event: Event = serde_json::from_slice(&stored.payload)?;
        let reference = event.reference.context("an event without a reference")?;
        let number = reference.split('-').next().unwrap_or_default().to_owned();
        ensure!(commands.insert(number), "{variant:?}: two events of command {reference}");
        // It does not know its balances when it writes its events.
        if variant != Variant::Limit {
            let change = (event.account, event.sequence);
            ensure!(changes.insert(change.clone()), "{variant:?}: {change:?} stands twice");
        }
    }
    ensure!(commands.len() == shape.messages, "{variant:?}: {} events", commands.len());
    Ok(())
}

/// Latency at a steady rate.
pub async fn latency(variant: Variant, shape: &Shape, rate: f64) -> Result<Latency> {
    let mut stack = servers::usual(variant.name()).await?;
    latency_on(&mut stack, variant, shape, rate).await
}

/// The same on servers that are there.
pub async fn latency_on(
    stack: &mut Stack,
    variant: Variant,
    shape: &Shape,
    rate: f64,
) -> Result<Latency> {
    let program = servers::start(stack, variant, shape).await?;
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
                let (id, subject, payload) = command(next, shape);
                let reference = reference(&payload)?;
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", id.as_str());
                sent.insert(reference, Instant::now());
                stack.broker.client.publish_with_headers(subject, headers, payload.into()).await?;
                next += 1;
                if done == 0 {
                    // Ticks that pass while the program starts are not made up for.
                    ticks.reset();
                }
            }
            event = events.next() => {
                let event = event.context("the events end")??;
                let event: Event = serde_json::from_slice(&event.payload)?;
                let started = event.reference.and_then(|reference| sent.remove(&reference));
                let started = started.context("an event that nobody asked for")?;
                done += 1;
                if done == 1 {
                    ticks.reset();
                }
                if done > warm {
                    took.push(started.elapsed().as_secs_f64() * 1_000.0);
                }
            }
            () = &mut deadline => anyhow::bail!("{variant:?}: {done} events in {PATIENCE:?}"),
        }
    }
    drop(program);
    verify(stack, variant, shape).await?;
    took.sort_by(f64::total_cmp);
    Ok(Latency {
        p50: percentile(&took, 0.5),
        p99: percentile(&took, 0.99),
        p999: percentile(&took, 0.999),
        most: took.last().copied().unwrap_or_default(),
    })
}

fn reference(payload: &[u8]) -> Result<String> {
    let command: crate::work::Command = serde_json::from_slice(payload)?;
    command.reference.context("no reference")
}
