//! What a handler says of itself: the contract's `description`.

use std::fmt;

/// A handler, described by itself. The host enforces these lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub subscriptions: Vec<Subscription>,
    pub collections: Vec<String>,
    /// Subject filters.
    pub publishes: Vec<String>,
}

/// What a handler wants to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// A subject filter.
    pub subject: String,
    pub key: KeySource,
    /// Collections whose document under the message's key is read ahead.
    pub read_ahead: Vec<String>,
}

/// Where a message's key stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    None,
    /// The nth token of the subject, from 0.
    SubjectToken(u32),
    Header(String),
    /// A JSON Pointer (RFC 6901) into the payload.
    PayloadField(String),
}

impl Description {
    /// Whether messages of this handler are ordered by a key: then one node at a time runs it.
    pub fn keyed(&self) -> bool {
        self.subscriptions.iter().any(|s| s.key != KeySource::None)
    }

    /// The subscription that `subject` belongs to; there is at most one.
    pub fn subscription_for(&self, subject: &str) -> Option<&Subscription> {
        self.subscriptions.iter().find(|s| super::subject::matches(&s.subject, subject))
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::None => f.write_str("none"),
            KeySource::SubjectToken(n) => write!(f, "token {n} of the subject"),
            KeySource::Header(name) => write!(f, "header {name}"),
            KeySource::PayloadField(pointer) => write!(f, "payload field {pointer}"),
        }
    }
}
