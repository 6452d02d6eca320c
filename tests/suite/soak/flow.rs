//! Commands at a steady rate, and whether their events come once and in order.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures_util::StreamExt;
use tribox_tests::Broker;

use crate::books::EVENTS;

const ACCOUNTS: u64 = 10_000;
/// How often commands are published, and how many at once at most.
const TICK: Duration = Duration::from_millis(20);
const MOST: u64 = 1_000;
/// How long a stream may take to say that it has a command, and an event may fail to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far a run is, shared by those who do it.
#[derive(Debug, Clone, Default)]
pub struct Over(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    enough: AtomicBool,
    ended: AtomicBool,
    publishing: AtomicBool,
    published: AtomicU64,
    told: AtomicU64,
}

impl Over {
    /// No more commands from now on; those that are on their way are counted.
    pub fn stop_publishing(&self) {
        self.0.enough.store(true, Ordering::SeqCst);
    }

    /// Everybody stops.
    pub fn end(&self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }

    pub fn ended(&self) -> bool {
        self.0.ended.load(Ordering::SeqCst)
    }

    pub fn published(&self) -> u64 {
        self.0.published.load(Ordering::SeqCst)
    }

    /// Events that were read.
    pub fn told(&self) -> u64 {
        // While some are being published it is not known how many there are to be.
        let publishing = self.0.publishing.load(Ordering::SeqCst);
        if publishing { 0 } else { self.0.told.load(Ordering::SeqCst) }
    }
}

/// Publishes commands until it is enough, each until a stream has it.
pub async fn publish(broker: Broker, rate: u64, over: Over) -> Result<()> {
    over.0.publishing.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let (mut next, mut jetstream) = (0, broker.jetstream.clone());
    while !over.0.enough.load(Ordering::SeqCst) {
        tokio::time::sleep(TICK).await;
        let due = u64::try_from(started.elapsed().as_millis())? * rate / 1_000;
        let mut some: Vec<u64> = (next..due.min(next + MOST)).collect();
        next += u64::try_from(some.len())?;
        while !some.is_empty() {
            some = publish_once(&jetstream, some).await;
            if !some.is_empty() {
                // Those that nobody answers count as in flight for a while.
                jetstream = jetstream::new(broker.client.clone());
            }
        }
        over.0.published.store(next, Ordering::SeqCst);
    }
    over.0.publishing.store(false, Ordering::SeqCst);
    Ok(())
}

/// Publishes these; returns those of which it is not known whether a stream has them.
async fn publish_once(jetstream: &jetstream::Context, some: Vec<u64>) -> Vec<u64> {
    // One for all of them: a server that was killed answers none.
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut sent = Vec::new();
    for n in some {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("soak-{n}").as_str());
        let subject = format!("accounts.S{}.credit", n % ACCOUNTS);
        let body = r#"{"amount":1}"#.into();
        let publishing = jetstream.publish_with_headers(subject, headers, body);
        sent.push((n, tokio::time::timeout_at(until, publishing).await));
    }
    let mut left = Vec::new();
    for (n, ack) in sent {
        let stored = match ack {
            Ok(Ok(ack)) => tokio::time::timeout_at(until, ack).await.is_ok_and(|ack| ack.is_ok()),
            _ => false,
        };
        if !stored {
            left.push(n);
        }
    }
    left
}

/// What was found of the events.
#[derive(Debug, Default)]
pub struct Checked {
    last: HashMap<String, u64>,
    /// One that came before, or behind a later one of its account.
    again: u64,
    missing: u64,
}

impl Checked {
    pub fn wrong(&self) -> bool {
        self.again + self.missing > 0
    }

    fn note(&mut self, account: &str, sequence: u64) {
        let last = self.last.entry(account.to_owned()).or_default();
        if sequence <= *last {
            self.again += 1;
        } else {
            self.missing += sequence - *last - 1;
            *last = sequence;
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "events missing {}, twice or out of order {}", self.missing, self.again)
    }
}

/// Reads the events as they come: those of an account are numbered.
pub async fn check(broker: Broker, over: Over) -> Result<Checked> {
    let (mut checked, mut next) = (Checked::default(), 1);
    while !over.ended() {
        // Whatever is wrong: the stream is read on from where it was.
        let _ = read(&broker, &over, &mut next, &mut checked).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(checked)
}

async fn read(broker: &Broker, over: &Over, next: &mut u64, checked: &mut Checked) -> Result<()> {
    let stream = broker.jetstream.get_stream(EVENTS).await?;
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: *next },
        ..pull::OrderedConfig::default()
    };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    while !over.ended() {
        let message = tokio::time::timeout(PATIENCE, messages.next()).await?;
        let message = message.context("the consumer ended")??;
        let sequence = message.info().map_err(anyhow::Error::msg)?.stream_sequence;
        if sequence < *next {
            continue;
        }
        *next = sequence + 1;
        let event: serde_json::Value = serde_json::from_slice(&message.payload)?;
        let account = event["account"].as_str().context("an account")?;
        checked.note(account, event["sequence"].as_u64().context("a sequence")?);
        over.0.told.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
