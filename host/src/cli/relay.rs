//! `tribox relay`: sends again what a broker acknowledged and then lost. It compares what the outbox
//! keeps with what stands in the streams, so it can be run at any time, beside hosts, and twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::operate::{Common, say_json};
use super::text::{count, table};
use super::{Outcome, say};
use crate::node;
use crate::store::{Operator, Retained};
use crate::stream::{Again, Keeper, Nats, ids_in_stream, ids_since, keepers, send_again};
use crate::telemetry::Health;

/// Messages that are compared at once.
const CHUNK: i64 = 5_000;
/// How far the clocks of Postgres and NATS may be apart: milliseconds.
const SKEW: i64 = 60_000;

/// Which messages.
#[derive(Debug, clap::Args)]
pub(super) struct Relay {
    /// All that the outbox keeps, which is what was published within `[retention] outbox`.
    #[arg(long, required_unless_present = "since")]
    missing: bool,
    /// What was committed since a time (2026-05-01T12:00:00Z), or so long ago: 15m, 2h.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "missing")]
    since: Option<i64>,
    /// Of one handler alone.
    #[arg(long)]
    handler: Option<String>,
    /// Only say what is missing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// A point in time, in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "what an operator means by 'ago'")]
fn time(text: &str) -> Result<i64, String> {
    let time = match humantime::parse_duration(text) {
        Ok(ago) => std::time::SystemTime::now() - ago,
        Err(_) => humantime::parse_rfc3339_weak(text).map_err(|why| {
            format!("{why}; it is a time like 2026-05-01T12:00:00Z, or so long ago like 2h")
        })?,
    };
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).map_err(|why| why.to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a message has expired is told by this clock"
)]
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What came of the messages of one stream.
#[derive(Debug, Default, serde::Serialize)]
struct Counts {
    compared: i64,
    missing: i64,
    /// Missing, and not sent: the stream removes messages in order, or they have expired.
    left: i64,
    why_left: Option<&'static str>,
}

pub(super) fn run(relay: &Relay) -> Outcome {
    let config = relay.common.config.load()?;
    relay.common.operate(async |operator| {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let Some(nats) = node::connect_nats(&config.nats, &health, &stop).await? else {
            return Ok(());
        };
        let counts = Comparison::new(operator, &nats, relay).await?.run().await?;
        report(relay, &counts)
    })
}

struct Comparison<'a> {
    operator: &'a Operator,
    nats: &'a Nats,
    relay: &'a Relay,
    /// None: the outbox keeps nothing.
    since: Option<i64>,
    keepers: Vec<Keeper>,
    /// What stands in each stream that was asked so far.
    stored: HashMap<String, HashSet<Box<str>>>,
    counts: BTreeMap<String, Counts>,
}

impl<'a> Comparison<'a> {
    async fn new(
        operator: &'a Operator,
        nats: &'a Nats,
        relay: &'a Relay,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let oldest = operator.retained_since(relay.handler.as_deref()).await?;
        // What the outbox has no more need not be read from the streams.
        // Postgres counts finer than milliseconds.
        let since = oldest.map(|oldest| (oldest - 1).max(relay.since.unwrap_or(0)));
        let keepers = keepers(nats).await?;
        let (stored, counts) = (HashMap::new(), BTreeMap::new());
        Ok(Comparison { operator, nats, relay, since, keepers, stored, counts })
    }

    async fn run(mut self) -> Result<BTreeMap<String, Counts>, Box<dyn std::error::Error>> {
        let mut after = (0, 0);
        let handler = self.relay.handler.as_deref();
        let Some(since) = self.since else { return Ok(self.counts) };
        loop {
            let some = self.operator.retained(handler, since, after, CHUNK).await?;
            let Some(last) = some.last() else { return Ok(self.counts) };
            after = (last.writer, last.seq);
            let missing = self.missing(some, since).await?;
            if !self.relay.dry_run {
                send_again(self.nats, missing).await?;
            }
        }
    }

    /// Those of these messages that are to be sent again, in their order.
    async fn missing(
        &mut self,
        retained: Vec<Retained>,
        since: i64,
    ) -> Result<Vec<Again>, Box<dyn std::error::Error>> {
        let now = now();
        let mut lost = Vec::new();
        for message in retained {
            // One that no stream takes was set aside, or is a death that nobody keeps.
            let takes = |keeper: &&Keeper| keeper.takes(&message.subject);
            let Some(keeper) = self.keepers.iter().find(takes) else { continue };
            let counts = self.counts.entry(keeper.stream.clone()).or_default();
            counts.compared += 1;
            if let Some(why) = keeper.forgets {
                // Nothing could be said of it, and a work queue cannot be read by others.
                counts.left += 1;
                counts.why_left = Some(why);
                continue;
            }
            if !self.stored.contains_key(&keeper.stream) {
                let ids = ids_since(self.nats, &keeper.stream, since - SKEW).await?;
                self.stored.insert(keeper.stream.clone(), ids);
            }
            let stored = self.stored.entry(keeper.stream.clone()).or_default();
            if stored.contains(message.id.as_str()) {
                continue;
            }
            let removed = keeper.kept_since.is_some_and(|since| message.committed_at < since);
            let expired = message.expires_at.is_some_and(|at| at < now);
            let why_left = removed
                .then_some("it was removed by a limit of the stream, or a purge")
                .or(expired.then_some("it has expired"));
            if why_left.is_some() {
                counts.left += 1;
                counts.why_left = why_left;
                continue;
            }
            // The same message may stand in two logs.
            stored.insert(message.id.as_str().into());
            lost.push((keeper.stream.clone(), message));
        }
        self.look_again(&mut lost).await?;
        let ids: Vec<&str> = lost.iter().map(|(_, message)| message.id.as_str()).collect();
        let withdrawn = self.operator.withdrawn(&ids).await?;
        lost.retain(|(_, message)| !withdrawn.contains(&message.id));
        for (stream, _) in &lost {
            self.counts.entry(stream.clone()).or_default().missing += 1;
        }
        let again = |(_, message): (String, Retained)| {
            let Retained { id, subject, headers, payload, .. } = message;
            Again { id, subject, headers, payload }
        };
        Ok(lost.into_iter().map(again).collect())
    }

    /// Takes out what a host has published since the streams were read: all of these stood in the
    /// outbox as published before this look.
    async fn look_again(&self, lost: &mut Vec<(String, Retained)>) -> Outcome {
        let mut asked: HashMap<&str, (i64, HashSet<String>)> = HashMap::new();
        for (stream, message) in lost.iter() {
            let first = || (message.committed_at, HashSet::new());
            let (since, ids) = asked.entry(stream).or_insert_with(first);
            *since = message.committed_at.min(*since);
            ids.insert(message.id.clone());
        }
        let mut found = HashSet::new();
        for (stream, (since, ids)) in asked {
            found.extend(ids_in_stream(self.nats, stream, since - SKEW, &ids).await?);
        }
        lost.retain(|(_, message)| !found.contains(&message.id));
        Ok(())
    }
}

fn report(relay: &Relay, counts: &BTreeMap<String, Counts>) -> Outcome {
    if relay.common.json {
        return say_json(&json!({ "dry_run": relay.dry_run, "streams": counts }));
    }
    if counts.is_empty() {
        say("the outbox keeps nothing of that time that a stream takes");
        return Ok(());
    }
    let heading = ["stream", "compared", "missing", "left alone", ""];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (stream, c) in counts {
        let why = c.why_left.unwrap_or_default().to_owned();
        let number = |n: i64| n.to_string();
        rows.push(vec![stream.clone(), number(c.compared), number(c.missing), number(c.left), why]);
    }
    say(&table(&rows));
    let missing: i64 = counts.values().map(|counts| counts.missing).sum();
    let done = if relay.dry_run { "would be sent again" } else { "sent again, in order" };
    say(&format!("{} {done}", count(missing, "message")));
    Ok(())
}
