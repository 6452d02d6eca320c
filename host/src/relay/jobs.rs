//! What the relay has done in the background: reading logs, asking streams, setting messages aside.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;

use super::log::Pending;
use crate::lane::ports::StoreAway;
use crate::store::{LoggedEntry, Postgres};
use crate::stream::{Nats, ids_in_stream, stream_of};

/// How far clocks of Postgres, NATS and this host may be apart.
const SKEW: i64 = 60_000;
pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a job in the background came to.
pub(super) enum Done {
    Read { writer: i32, after: i64, entries: Result<Vec<LoggedEntry>, StoreAway> },
    Looked { writer: i32, last: Result<i64, StoreAway> },
    Resolved { writer: i32, asked: Vec<(i64, String)>, found: Result<HashSet<String>, String> },
    Judged { writer: i32, seq: i64, verdict: Judgement },
    CursorsWritten { result: Result<(), StoreAway>, cursors: Vec<(i32, i64)> },
}

/// What becomes of a refused entry.
pub(super) enum Judgement {
    SetAside { reason: String },
    TryAgain,
}

pub(super) async fn set_undelivered(
    store: &Postgres,
    writer: i32,
    seq: i64,
    reason: String,
) -> Judgement {
    match store.set_undelivered(writer, seq, &reason).await {
        Ok(()) => Judgement::SetAside { reason },
        Err(_) => Judgement::TryAgain,
    }
}

/// Which of these entries stand in their streams.
pub(super) async fn look_for(nats: &Nats, asked: &[Pending]) -> Result<HashSet<String>, String> {
    let mut found = HashSet::new();
    let mut streams: HashMap<String, (i64, HashSet<String>)> = HashMap::new();
    let mut known: HashMap<&str, Option<String>> = HashMap::new();
    for entry in asked {
        if !known.contains_key(entry.subject.as_str()) {
            let stream = stream_of(nats, &entry.subject).await.map_err(|why| why.to_string())?;
            known.insert(&entry.subject, stream.map(|stream| stream.name));
        }
        // Without a stream it cannot have been stored.
        let Some(Some(stream)) = known.get(entry.subject.as_str()) else { continue };
        let (since, ids) =
            streams.entry(stream.clone()).or_insert_with(|| (entry.committed_at, HashSet::new()));
        *since = entry.committed_at.min(*since);
        ids.insert(entry.id.clone());
    }
    for (stream, (since, ids)) in streams {
        tracing::info!(stream, count = ids.len(), "looking for messages that may be there already");
        let there = ids_in_stream(nats, &stream, since - SKEW, &ids).await;
        found.extend(there.map_err(|why| why.to_string())?);
    }
    Ok(found)
}
