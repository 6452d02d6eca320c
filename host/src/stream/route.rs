//! From a JetStream message to a delivery for a lane: its id, its key, its lane.

use std::sync::Arc;

use async_nats::jetstream;

use super::unreadable::Unreadable;
use crate::lane::ports::{Delivery, Source};
use crate::model::{Description, Failure, Header, KeySource, Message, Subscription, identity};

/// The longest key, in bytes.
const MAX_KEY: usize = 1_024;

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
        let found = self
            .subscriptions
            .iter()
            .find(|s| crate::model::subject::matches(&s.subject, &subject));
        let key = match found {
            Some(subscription) => key(&subscription.key, &subject, &headers, &message.payload),
            None => Err("no subscription of the handler matches its subject any more".to_owned()),
        };
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
fn headers(message: &jetstream::Message) -> Vec<Header> {
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

/// Picks the key out of a message.
fn key(
    source: &KeySource,
    subject: &str,
    headers: &[Header],
    payload: &[u8],
) -> Result<Option<String>, String> {
    let key = match source {
        KeySource::None => return Ok(None),
        KeySource::SubjectToken(n) => {
            let token = usize::try_from(*n).ok().and_then(|n| subject.split('.').nth(n));
            token.map(str::to_owned).ok_or_else(|| format!("its subject has no token {n}"))?
        }
        KeySource::Header(name) => {
            let header = headers.iter().find(|h| h.name == *name);
            header.map(|h| h.value.clone()).ok_or_else(|| format!("it has no header '{name}'"))?
        }
        KeySource::PayloadField(pointer) => payload_key(pointer, payload)?,
    };
    if key.is_empty() {
        return Err(format!("its key ({source}) is empty"));
    }
    if key.len() > MAX_KEY {
        return Err(format!("its key ({source}) has {} bytes; {MAX_KEY} are allowed", key.len()));
    }
    if key.contains('\0') {
        return Err(format!("its key ({source}) contains NUL, which Postgres cannot store"));
    }
    Ok(Some(key))
}

fn payload_key(pointer: &str, payload: &[u8]) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|why| format!("its payload is not JSON ({why}), and the key is in {pointer}"))?;
    match value.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(number.to_string())
        }
        Some(other) => {
            let kind = match other {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a fraction",
                serde_json::Value::Array(_) => "an array",
                serde_json::Value::Object(_) => "an object",
                serde_json::Value::String(_) => "a string",
            };
            Err(format!("its payload has {kind} at {pointer}; a key is a string or an integer"))
        }
        None => Err(format!("its payload has nothing at {pointer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(source: KeySource, payload: &str) -> Result<Option<String>, String> {
        let headers = [Header { name: "Order".into(), value: "o1".into() }];
        key(&source, "a.7.c", &headers, payload.as_bytes())
    }

    #[test]
    fn keys_are_picked_from_subject_header_and_payload() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        let field = |pointer: &str| KeySource::PayloadField(pointer.into());
        assert_eq!(picked(KeySource::None, ""), Ok(None));
        assert_eq!(picked(KeySource::SubjectToken(1), ""), some("7"));
        assert_eq!(picked(KeySource::Header("Order".into()), ""), some("o1"));
        assert_eq!(picked(field("/a/b"), r#"{"a":{"b":"x"}}"#), some("x"));
        assert_eq!(picked(field("/a"), r#"{"a":42}"#), some("42"));
    }

    #[test]
    fn a_missing_or_bad_key_is_named() {
        let field = |payload: &str| picked(KeySource::PayloadField("/id".into()), payload);
        for (outcome, part) in [
            (picked(KeySource::SubjectToken(9), ""), "no token 9"),
            (picked(KeySource::Header("x".into()), ""), "no header 'x'"),
            (field(""), "not JSON"),
            (field("{\"id\":"), "not JSON"),
            (field("{}"), "nothing at /id"),
            (field(r#"{"id":1.5}"#), "a fraction"),
            (field(r#"{"id":""}"#), "is empty"),
            (field(r#"{"id":"a\u0000"}"#), "NUL"),
            (field(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1_025))), "1025 bytes"),
        ] {
            let error = outcome.expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

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
