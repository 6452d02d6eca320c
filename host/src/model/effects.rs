//! What handling a message does: the contract's `effects`.

use bytes::Bytes;

use super::message::{Document, Header};

/// All that handling one message does. Committed whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// In order; later ones of one document win.
    pub mutations: Vec<Mutation>,
    pub messages: Vec<Outgoing>,
    /// Schedule names to take back, before `messages` is looked at.
    pub cancellations: Vec<String>,
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    Put(Document),
    Delete { collection: String, key: String },
}

impl Mutation {
    /// The collection and key of the document that is changed.
    pub fn target(&self) -> (&str, &str) {
        match self {
            Mutation::Put(document) => (&document.collection, &document.key),
            Mutation::Delete { collection, key } => (collection, key),
        }
    }
}

/// A message to be published once the effects are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub subject: String,
    pub headers: Vec<Header>,
    pub payload: Bytes,
    pub delivery: Delivery,
    pub due: Option<Due>,
    /// Milliseconds past being due after which it is dropped instead of published.
    pub expires_after: Option<u64>,
    pub schedule_name: Option<String>,
}

/// Through the outbox into a stream, or over core NATS right after the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Durable,
    Transient,
}

/// When a message may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Milliseconds after the commit, by the clock of Postgres.
    After(u64),
    /// Milliseconds since the Unix epoch.
    At(u64),
}
