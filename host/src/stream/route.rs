//! From a JetStream message to a delivery for a lane: its id, its key, its lane.

use std::sync::Arc;

use async_nats::jetstream;

use super::partitions::SOURCED;
use super::unreadable::Unreadable;
use crate::lane::ports::{Delivery, Source};
use crate::model::subject::matches;
use crate::model::{Description, Failure, Header, Message, Subscription, Unit, identity, key_of};

/// Turns messages into deliveries for one handler.
#[derive(Debug)]
pub struct Router {
    subscriptions: Vec<Subscription>,
    /// What stands before the subjects, and is not for the handler to see.
    prefix: String,
}

impl Router {
    pub fn new(description: &Description, unit: &Unit) -> Self {
        Router { subscriptions: description.subscriptions.clone(), prefix: unit.prefix() }
    }

    /// Whether the handler subscribes to this subject of its stream.
    pub(super) fn subscribes(&self, subject: &str) -> bool {
        let subject = subject.strip_prefix(&self.prefix).unwrap_or(subject);
        self.subscriptions.iter().any(|s| matches(&s.subject, subject))
    }

    /// The subject that a message was published to.
    fn subject(&self, subject: &str) -> String {
        subject.strip_prefix(&self.prefix).unwrap_or(subject).to_owned()
    }

    /// A delivery of a message of `source`; `stored_at` in milliseconds since the Unix epoch.
    pub(super) fn delivery(
        &self,
        source: &Arc<Source>,
        sequence: u64,
        redelivered: bool,
        stored_at: u64,
        message: jetstream::Message,
    ) -> Delivery {
        let headers = headers(&message);
        let message = message.message;
        let subject = self.subject(&message.subject);
        let key = key_of(&self.subscriptions, &subject, &headers, &message.payload);
        let (key, unroutable) = match key {
            Ok(key) => (key, None),
            Err(why) => (None, Some(Failure::NoKey(why))),
        };
        Delivery {
            message: Message {
                id: identity::message_id(&headers, &source.stream, sequence, stored_at),
                subject,
                key,
                headers,
                payload: message.payload,
                stored_at,
            },
            unroutable,
            source: Arc::clone(source),
            sequence,
            redelivered,
        }
    }

    /// A delivery of a message that the client cannot read, to be set aside.
    pub(super) fn unreadable(&self, source: &Arc<Source>, message: Unreadable) -> Delivery {
        let Unreadable { sequence, subject, payload, stored_at, why } = message;
        let subject = self.subject(&subject);
        Delivery {
            message: Message {
                id: identity::message_id(&[], &source.stream, sequence, stored_at),
                subject,
                key: None,
                headers: Vec::new(),
                payload,
                stored_at,
            },
            unroutable: Some(Failure::Unreadable(why)),
            source: Arc::clone(source),
            sequence,
            redelivered: true,
        }
    }
}

/// The lane of a delivery: by its key, or by its id where it has none.
pub(super) fn lane_of(message: &Message, lanes: usize) -> usize {
    lane_of_key(message.key.as_ref().unwrap_or(&message.id), lanes)
}

/// The lane of a key, the same on every run.
pub fn lane_of_key(key: &str, lanes: usize) -> usize {
    // FNV-1a: keys are short, and nothing but an even spread is asked of it.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let folded = (hash ^ (hash >> 32)) % u64::try_from(lanes.max(1)).unwrap_or(1);
    usize::try_from(folded).unwrap_or_default()
}

/// Header lines sorted by name, for the client keeps them in no order of its own; without the one that
/// tells of partitions.
pub(super) fn headers(message: &jetstream::Message) -> Vec<Header> {
    let Some(map) = &message.headers else { return Vec::new() };
    let mut headers: Vec<Header> = map
        .iter()
        .filter(|(name, _)| name.as_ref() as &str != SOURCED)
        .flat_map(|(name, values)| {
            values
                .iter()
                .map(|value| Header { name: name.to_string(), value: value.as_str().to_owned() })
        })
        .collect();
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_get_even_shares() {
        let mut counts = [0_u32; 4];
        for n in 0..4_000 {
            let message = Message {
                id: String::new(),
                subject: String::new(),
                key: Some(format!("account-{n}")),
                headers: Vec::new(),
                payload: bytes::Bytes::new(),
                stored_at: 0,
            };
            counts[lane_of(&message, 4)] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
