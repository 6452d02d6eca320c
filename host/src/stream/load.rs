//! What `tribox bench` needs of JetStream: how far a handler's consumer is, and which messages come
//! out on a subject.

use std::time::Instant;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{Nats, NatsError, find_streams};

/// A message that came out: its `Nats-Msg-Id`, and when it was seen here.
#[derive(Debug, Clone)]
pub struct Output {
    pub id: String,
    pub at: Instant,
}

/// The stream that takes a subject, of which a handler's consumer reads.
///
/// # Errors
/// No stream takes it, or JetStream does not answer.
pub async fn stream_of(nats: &Nats, subject: &str) -> Result<String, NatsError> {
    let streams = find_streams(nats, &[subject.to_owned()]).await?;
    match streams.first() {
        Some(stream) => Ok(stream.name.clone()),
        None => Err(NatsError::passing(
            &format!("no stream takes {subject}"),
            &"make it (`tribox provision`), or check --subject",
        )),
    }
}

/// Messages of a stream that a handler has not handled yet.
///
/// # Errors
/// The handler has no consumer there, or JetStream does not answer.
pub async fn waiting(nats: &Nats, stream: &str, handler: &str) -> Result<u64, NatsError> {
    let failed = |why: &dyn std::fmt::Display| {
        NatsError::passing(&format!("stream {stream} cannot be read"), why)
    };
    let found = nats.jetstream.get_stream(stream).await.map_err(|why| failed(&why))?;
    match found.consumer_info(format!("tribox-{handler}")).await {
        Ok(info) => Ok(info.num_pending + info.num_ack_pending as u64),
        Err(why) if why.kind() == ConsumerInfoErrorKind::NotFound => Err(NatsError::passing(
            &format!("handler {handler} does not read stream {stream}"),
            &"check --handler, and that `tribox serve` runs with it in the plugin directory",
        )),
        Err(why) => Err(failed(&why)),
    }
}

/// Has every message on a subject reported, until the receiver is dropped.
///
/// # Errors
/// The subject is not valid, or the connection is gone.
pub async fn outputs(
    nats: &Nats,
    subject: &str,
) -> Result<mpsc::UnboundedReceiver<Output>, NatsError> {
    let failed = |why: &dyn std::fmt::Display| {
        NatsError::passing(&format!("cannot subscribe to {subject}"), why)
    };
    let subscribed = nats.client.subscribe(subject.to_owned()).await;
    let mut messages = subscribed.map_err(|why| failed(&why))?;
    nats.client.flush().await.map_err(|why| failed(&why))?;
    let (sender, receiver) = mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "ends with the receiver or the connection")]
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let at = Instant::now();
            let headers = message.headers.as_ref();
            let id = headers.and_then(|h| h.get(async_nats::header::NATS_MESSAGE_ID));
            let Some(id) = id.map(|id| id.as_str().to_owned()) else { continue };
            if sender.send(Output { id, at }).is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}
