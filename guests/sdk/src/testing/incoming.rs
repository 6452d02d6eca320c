//! A message on its way to a handler under test.

use serde::Serialize;

use super::{names, subject};
use crate::{Description, Header, KeySource, Message, Timestamp};

/// When a test's messages were stored unless it says otherwise: 2026-01-01 00:00:00 UTC.
pub const STORED_AT: Timestamp = 1_767_225_600_000;

/// A message on its way to [`super::TestHost::handle`], with an empty payload.
pub fn message(subject: &str) -> Incoming {
    Incoming {
        subject: subject.to_owned(),
        headers: Vec::new(),
        payload: Vec::new(),
        stored_at: STORED_AT,
    }
}

/// A message on its way; see [`message`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Incoming {
    subject: String,
    headers: Vec<Header>,
    payload: Vec<u8>,
    stored_at: Timestamp,
}

impl Incoming {
    /// Sets the payload, as JSON.
    ///
    /// # Panics
    /// Where `payload` cannot be written as JSON.
    #[track_caller]
    pub fn json<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        match serde_json::to_vec(payload) {
            Ok(payload) => self.bytes(payload),
            Err(error) => panic!("the payload for {} is not JSON: {error}", self.subject),
        }
    }

    /// Sets the payload.
    pub fn bytes(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Sets the message's id, which is its `Nats-Msg-Id` header.
    pub fn id(self, id: &str) -> Self {
        self.header("Nats-Msg-Id", id)
    }

    /// Sets when the stream stored it.
    pub fn stored_at(mut self, time: Timestamp) -> Self {
        self.stored_at = time;
        self
    }

    /// Routes it as the host does. Headers arrive sorted by name; lines of one name keep their
    /// order.
    pub(super) fn arrive(mut self, to: &Description, sequence: u64) -> Result<Message, String> {
        subject::check(&self.subject)?;
        self.headers.iter().try_for_each(names::check_header)?;
        self.headers.sort_by(|a, b| a.name.cmp(&b.name));
        let subscription = to
            .subscriptions
            .iter()
            .find(|subscription| subject::matches(&subscription.subject, &self.subject))
            .ok_or_else(|| format!("no subscription of '{}' matches {}", to.name, self.subject))?;
        Ok(Message {
            id: self.message_id(sequence),
            key: self.key(&subscription.key)?,
            subject: self.subject,
            headers: self.headers,
            payload: self.payload,
            stored_at: self.stored_at,
        })
    }

    fn first_header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    fn message_id(&self, sequence: u64) -> String {
        let cloud_event = || {
            let (source, id) = (self.first_header("ce-source")?, self.first_header("ce-id")?);
            Some(format!("{source}#{id}"))
        };
        self.first_header("Nats-Msg-Id")
            .map(str::to_owned)
            .or_else(cloud_event)
            .unwrap_or_else(|| format!("TEST:{}:{sequence}", STORED_AT / 1_000))
    }

    fn key(&self, source: &KeySource) -> Result<Option<String>, String> {
        let (found, what) = match source {
            KeySource::None => return Ok(None),
            KeySource::SubjectToken(n) => {
                let token = self.subject.split('.').nth(*n as usize);
                (token.map(str::to_owned), format!("token {n} of subject {}", self.subject))
            }
            KeySource::Header(name) => {
                (self.first_header(name).map(str::to_owned), format!("header {name}"))
            }
            KeySource::PayloadField(pointer) => {
                (self.payload_field(pointer), format!("payload field {pointer}"))
            }
        };
        let key = found.ok_or_else(|| format!("the message has no key: {what} is not there"))?;
        names::check_key(&key).map_err(|why| format!("the message's key, {what}, {why}"))?;
        Ok(Some(key))
    }

    fn payload_field(&self, pointer: &str) -> Option<String> {
        let payload: serde_json::Value = serde_json::from_slice(&self.payload).ok()?;
        match payload.pointer(pointer)? {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(n) if n.is_i64() || n.is_u64() => Some(n.to_string()),
            _ => None,
        }
    }
}
