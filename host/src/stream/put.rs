//! One message put into its stream, for `tribox publish`: the way of somebody who tries something out.
//! What handlers send goes through the relay alone.

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use super::{Nats, NatsError};

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub stream: String,
    pub sequence: u64,
    /// The stream had a message of this id already and kept that.
    pub duplicate: bool,
}

/// Publishes a message and waits until a stream has it.
///
/// # Errors
/// No stream takes the subject, a header cannot be sent, or JetStream does not answer.
pub async fn put(
    nats: &Nats,
    subject: &str,
    headers: &[(String, String)],
    payload: Bytes,
) -> Result<Stored, NatsError> {
    let what = format!("the message to {subject} was not stored");
    let failed = |why: &dyn std::fmt::Display| NatsError::passing(&what, why);
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|why| failed(&why))?;
        let value: HeaderValue = value.parse().map_err(|why| failed(&why))?;
        map.append(name, value);
    }
    let told = |why: async_nats::jetstream::context::PublishError| match why.kind() {
        PublishErrorKind::StreamNotFound => {
            let why =
                "no stream takes this subject; `tribox check FILE` shows what a handler takes";
            NatsError { fatal: true, ..failed(&why) }
        }
        _ => failed(&why),
    };
    let sent = nats.jetstream.publish_with_headers(subject.to_owned(), map, payload).await;
    let ack = sent.map_err(told)?.await.map_err(told)?;
    Ok(Stored { stream: ack.stream, sequence: ack.sequence, duplicate: ack.duplicate })
}
