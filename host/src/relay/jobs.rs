//! What the relay has done in the background: reading logs, asking streams, setting messages aside.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::pin::Pin;

use super::log::Pending;
use super::ports::{Outbox, Streams};
use crate::fault::{self, Point};
use crate::lane::ports::StoreAway;
use crate::model::subject::matches;
use crate::store::LoggedEntry;
use crate::stream::StreamInfo;

/// How far clocks of Postgres, NATS and this host may be apart, and how long a resend may take:
/// milliseconds.
const SKEW: i64 = 60_000;

pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a job in the background came to.
pub(super) enum Done {
    Read { writer: i32, after: i64, entries: Result<Vec<LoggedEntry>, StoreAway> },
    Filled { writer: i32, entries: Result<Vec<LoggedEntry>, StoreAway> },
    Looked { writer: i32, last: Result<i64, StoreAway> },
    Resolved { writer: i32, asked: Vec<(i64, String)>, found: Result<HashSet<String>, String> },
    Judged { writer: i32, seq: i64, verdict: Judgement },
    CursorsWritten { result: Result<(), StoreAway>, cursors: Vec<(i32, i64)> },
}

/// What becomes of a refused entry.
pub(super) enum Judgement {
    SetAside(Undeliverable),
    TryAgain,
}

/// Why no stream takes an entry: the reason in a word, and in the server's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undeliverable {
    pub reason: &'static str,
    pub error: String,
}

impl Undeliverable {
    pub fn no_stream(subject: &str) -> Self {
        let error = format!("no stream takes subject '{subject}'");
        Undeliverable { reason: "no-stream", error }
    }

    pub fn denied(error: String) -> Self {
        Undeliverable { reason: "denied", error }
    }

    pub fn too_large(error: String) -> Self {
        Undeliverable { reason: "too-large", error }
    }
}

pub(super) async fn set_undelivered(
    store: &impl Outbox,
    writer: i32,
    seq: i64,
    why: Undeliverable,
) -> Judgement {
    match store.set_undelivered(writer, seq, why.reason, &why.error).await {
        Ok(()) => Judgement::SetAside(why),
        Err(_) => Judgement::TryAgain,
    }
}

/// Which of these entries, all of which may have been sent before, stand in their streams. One that a
/// stream surely remembers by its id is not looked for: sending it again does no harm. `now` in
/// milliseconds since the Unix epoch.
/// Where consumers were set back, `store` is asked first: it has noted what stood in the streams then.
pub(super) async fn look_for(
    nats: &impl Streams,
    store: Option<&impl Outbox>,
    asked: &[Pending],
    now: i64,
) -> Result<HashSet<String>, String> {
    fault::point(Point::LookingBack).map_err(|why| why.to_string())?;
    let mut found = HashSet::new();
    if let Some(store) = store {
        let ids: Vec<String> = asked.iter().map(|entry| entry.id.clone()).collect();
        found = store.already_sent(&ids).await.map_err(|why| why.to_string())?;
    }
    let asked: Vec<&Pending> = asked.iter().filter(|entry| !found.contains(&entry.id)).collect();
    let subjects: BTreeSet<&str> = asked.iter().map(|entry| entry.subject.as_str()).collect();
    let subjects: Vec<String> = subjects.into_iter().map(str::to_owned).collect();
    let streams = nats.find(&subjects).await?;
    let mut wanted: BTreeMap<&str, (i64, HashSet<String>)> = BTreeMap::new();
    for entry in asked.iter().copied() {
        let takes =
            |stream: &&StreamInfo| stream.subjects.iter().any(|s| matches(s, &entry.subject));
        // Without a stream it cannot have been stored.
        let Some(stream) = streams.iter().find(takes) else { continue };
        let window = i64::try_from(stream.dedup_window.as_millis()).unwrap_or(i64::MAX);
        if now - entry.committed_at < window - SKEW {
            continue;
        }
        let first = || (entry.committed_at, HashSet::new());
        let (since, ids) = wanted.entry(&stream.name).or_insert_with(first);
        *since = entry.committed_at.min(*since);
        ids.insert(entry.id.clone());
    }
    for (stream, (since, ids)) in wanted {
        tracing::info!(stream, count = ids.len(), "looking for messages that may be there already");
        found.extend(nats.ids_since(stream, since - SKEW, &ids).await?);
    }
    Ok(found)
}
