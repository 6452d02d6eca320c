//! A builder for what a handler says of itself. It must not check anything: the host does, and
//! [`crate::testing`] does as well.

use crate::{Description, KeySource, Subscription};

impl Description {
    /// A handler by its `name`, which must never change, and its `version`, usually
    /// `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Description {
            name: name.into(),
            version: version.into(),
            subscriptions: Vec::new(),
            collections: Vec::new(),
            publishes: Vec::new(),
        }
    }

    /// Adds what the handler wants to get. At least one is needed.
    #[must_use]
    pub fn subscribe(mut self, subscription: Subscription) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Adds a collection that the handler may read and change.
    #[must_use]
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.collections.push(name.into());
        self
    }

    /// Adds a subject filter that the handler may publish to.
    #[must_use]
    pub fn publish(mut self, filter: impl Into<String>) -> Self {
        self.publishes.push(filter.into());
        self
    }
}

impl Subscription {
    /// A subscription to a NATS subject filter, without a key: messages are handled in any order.
    pub fn to(subject: impl Into<String>) -> Self {
        Subscription { subject: subject.into(), key: KeySource::None, read_ahead: Vec::new() }
    }

    /// The key is the nth token of the subject, from 0.
    #[must_use]
    pub fn key_from_subject(mut self, token: u32) -> Self {
        self.key = KeySource::SubjectToken(token);
        self
    }

    /// The key is the value of a header.
    #[must_use]
    pub fn key_from_header(mut self, name: impl Into<String>) -> Self {
        self.key = KeySource::Header(name.into());
        self
    }

    /// The key stands in the JSON payload at this JSON Pointer, such as `/account`.
    #[must_use]
    pub fn key_from_payload(mut self, pointer: impl Into<String>) -> Self {
        self.key = KeySource::PayloadField(pointer.into());
        self
    }

    /// Reads the document of `collection` under the message's key ahead: `get` of it costs nothing.
    #[must_use]
    pub fn read_ahead(mut self, collection: impl Into<String>) -> Self {
        self.read_ahead.push(collection.into());
        self
    }
}
