//! A message as it stands in its stream, and a document of the state.

use bytes::Bytes;

/// One NATS header line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A message as a handler gets it. The contract's `message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is deduplicated by, per handler. See [`super::identity::message_id`].
    pub id: String,
    pub subject: String,
    /// What the subscription's key source picked out of the message.
    pub key: Option<String>,
    pub headers: Vec<Header>,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch: when the stream stored the message.
    pub stored_at: u64,
}

/// A JSON document of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub collection: String,
    pub key: String,
    /// JSON text.
    pub body: String,
}
