//! From a JetStream message to a delivery for a lane: its id, its key, its lane.

use std::sync::Arc;

use async_nats::jetstream;

use super::unreadable::Unreadable;
use crate::lane::ports::{Delivery, Source};
use crate::model::{Description, Failure, Header, Message, Subscription, identity, key_of};

/// Turns messages into deliveries for one handler.
#[derive(Debug)]
pub struct Router {
    subscriptions: Vec<Subscription>,
}

impl Router {
    pub fn new(description: &Description) -> Self {
        Router { subscriptions: description.subscriptions.clone() }
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
        let subject = message.subject.to_string();
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
    pub(super) fn unreadable(source: &Arc<Source>, message: Unreadable) -> Delivery {
        let Unreadable { sequence, subject, payload, stored_at, why } = message;
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

/// Header lines sorted by name; the client keeps them in no order of its own.
pub(super) fn headers(message: &jetstream::Message) -> Vec<Header> {
    let Some(map) = &message.headers else { return Vec::new() };
    let mut headers: Vec<Header> = map
        .iter()
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
