//! Asking a stream whether it has messages, by id: past the dedup window a resend would not be told
//! from a new message.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamByNameErrorKind;
use futures_util::StreamExt;

use super::{Nats, NatsError};

/// How long the next message of a stream may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whether some stream takes `subject`; an answer means that JetStream is up to say so.
///
/// # Errors
/// JetStream does not answer.
pub async fn has_stream(nats: &Nats, subject: &str) -> Result<bool, NatsError> {
    match nats.jetstream.stream_by_subject(subject).await {
        Ok(_) => Ok(true),
        Err(why) if why.kind() == GetStreamByNameErrorKind::NotFound => Ok(false),
        Err(why) => Err(NatsError::passing("streams cannot be asked", &why)),
    }
}

/// Which of `ids` stand in a stream since `since` (milliseconds since the Unix epoch).
///
/// # Errors
/// The stream cannot be read to its end.
pub async fn ids_in_stream(
    nats: &Nats,
    stream: &str,
    since: i64,
    ids: &HashSet<String>,
) -> Result<HashSet<String>, NatsError> {
    let mut found = HashSet::new();
    each_id(nats, stream, since, |id| {
        if ids.contains(id) {
            found.insert(id.to_owned());
        }
    })
    .await?;
    Ok(found)
}

/// Tells each id that stands in a stream since `since`, to its end.
pub(super) async fn each_id(
    nats: &Nats,
    stream: &str,
    since: i64,
    mut tell: impl FnMut(&str),
) -> Result<(), NatsError> {
    let failed = |why: &dyn std::fmt::Display| NatsError::passing("the stream cannot be read", why);
    let since = Duration::from_millis(u64::try_from(since).unwrap_or_default());
    let stream = nats.jetstream.get_stream(stream).await.map_err(|why| failed(&why))?;
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartTime { start_time: (UNIX_EPOCH + since).into() },
        headers_only: true,
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|why| failed(&why))?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(());
    }
    let mut messages = consumer.messages().await.map_err(|why| failed(&why))?;
    loop {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let Ok(Some(message)) = next else {
            return Err(failed(&"it does not go on"));
        };
        let message = message.map_err(|why| failed(&why))?;
        let id = message.headers.as_ref().and_then(|h| h.get(async_nats::header::NATS_MESSAGE_ID));
        if let Some(id) = id {
            tell(id.as_str());
        }
        let pending = message.info().map_err(|why| failed(&why))?.pending;
        if pending == 0 {
            return Ok(());
        }
    }
}
