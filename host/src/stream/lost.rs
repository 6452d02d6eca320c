//! What a stream should have and has not: for sending again what a broker lost after it had
//! acknowledged it.

use std::collections::{HashSet, VecDeque};

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::RetentionPolicy;
use futures_util::TryStreamExt;

use super::lookup::each_id;
use super::publish::{Publish, header_map};
use super::{Nats, NatsError};
use crate::model::subject::matches;

/// Messages that wait for their acknowledgement at most.
const WINDOW: usize = 256;

/// A stream, and whether what is not in it was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    pub stream: String,
    subjects: Vec<String>,
    /// Why a message that is not there may have been removed in order, if that is so for all.
    pub forgets: Option<&'static str>,
    /// What was stored before this time (milliseconds since the Unix epoch) was removed by a limit or a
    /// purge.
    pub kept_since: Option<i64>,
    /// Whether it removes what was consumed; then nobody else may read it.
    pub queue: bool,
    /// The last sequence that it gave.
    pub last: u64,
}

impl Keeper {
    pub fn takes(&self, subject: &str) -> bool {
        self.subjects.iter().any(|filter| matches(filter, subject))
    }
}

/// All streams.
///
/// # Errors
/// JetStream does not answer.
pub async fn keepers(nats: &Nats) -> Result<Vec<Keeper>, NatsError> {
    let streams: Vec<_> = nats
        .jetstream
        .streams()
        .try_collect()
        .await
        .map_err(|why| NatsError::passing("streams cannot be listed", &why))?;
    let keeper = |info: async_nats::jetstream::stream::Info| {
        let forgets = match (info.config.retention, info.config.max_messages_per_subject) {
            (RetentionPolicy::Limits, ..=0) => None,
            (RetentionPolicy::Limits, _) => Some("it keeps the newest of a subject alone"),
            _ => Some("what was consumed is removed from it"),
        };
        let first = info.state.first_timestamp.unix_timestamp_nanos() / 1_000_000;
        let kept_since = (info.state.first_sequence > 1 && info.state.messages > 0)
            .then(|| i64::try_from(first).unwrap_or(i64::MAX));
        let last = info.state.last_sequence;
        let (stream, subjects) = (info.config.name, info.config.subjects);
        let queue = info.config.retention != RetentionPolicy::Limits;
        Keeper { stream, subjects, forgets, kept_since, queue, last }
    };
    Ok(streams.into_iter().map(keeper).collect())
}

/// The ids that stand in a stream since `since` (milliseconds since the Unix epoch).
///
/// # Errors
/// The stream cannot be read to its end.
pub async fn ids_since(
    nats: &Nats,
    stream: &str,
    since: i64,
) -> Result<HashSet<Box<str>>, NatsError> {
    let mut ids = HashSet::new();
    each_id(nats, stream, since, |id| {
        ids.insert(id.into());
    })
    .await?;
    Ok(ids)
}

/// A message that is sent again.
#[derive(Debug, Clone)]
pub struct Again {
    pub id: String,
    pub subject: String,
    /// `Name: value` lines.
    pub headers: String,
    pub payload: bytes::Bytes,
}

/// Publishes messages under their ids, in this order, and waits until their streams have them.
///
/// # Errors
/// One of them was not taken: those before it were.
pub async fn send_again(nats: &Nats, messages: Vec<Again>) -> Result<(), NatsError> {
    let mut sent: VecDeque<(String, PublishAckFuture)> = VecDeque::new();
    let stored = async |(id, ack): (String, PublishAckFuture)| match ack.await {
        Ok(_) => Ok(()),
        Err(why) => Err(NatsError::passing(&format!("message {id} was not taken"), &why)),
    };
    for Again { id, subject, headers, payload } in messages {
        let message = Publish {
            connection: 0,
            token: Some(0),
            id: id.clone(),
            subject: subject.clone(),
            headers,
            payload: payload.clone(),
        };
        let failed =
            |why: &dyn std::fmt::Display| NatsError::passing(&format!("message {id}"), why);
        let headers = header_map(&message).map_err(|why| failed(&why))?;
        let ack = nats.jetstream.publish_with_headers(subject, headers, payload).await;
        sent.push_back((id.clone(), ack.map_err(|why| failed(&why))?));
        if sent.len() >= WINDOW
            && let Some(oldest) = sent.pop_front()
        {
            stored(oldest).await?;
        }
    }
    for oldest in sent {
        stored(oldest).await?;
    }
    Ok(())
}
