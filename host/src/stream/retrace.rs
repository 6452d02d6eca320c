//! Back along a stream: what a handler's consumer was told was handled, for comparing it with what the
//! database knows.

use async_nats::jetstream::consumer::{Config, DeliverPolicy, pull};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::RetentionPolicy;
use futures_util::StreamExt;

use super::lookup::PATIENCE;
use super::route::headers;
use super::{Nats, NatsError};
use crate::model::{Unit, identity};

/// Messages that are read at once.
const SOME: usize = 2_000;

/// How the consumer of a handler, or of a partition of one, stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// Everything up to here was acknowledged: the handler said that it was handled.
    pub acknowledged: u64,
    /// The last message that was delivered. Of those up to here some may be acknowledged and some not.
    pub delivered: u64,
    /// What it was told of.
    pub filters: Vec<String>,
    /// Unix seconds: when the stream was made.
    pub stream_created: i64,
    /// Whether what was acknowledged can still be read: a work queue removes it.
    pub kept: bool,
    /// Not yet delivered, and delivered and not acknowledged.
    pub pending: u64,
    pub in_hand: u64,
}

/// The filters of a consumer, however they are written down; none: it gets all of its stream.
pub(super) fn filters_of(config: &Config) -> Vec<String> {
    let one = Some(&config.filter_subject).filter(|filter| !filter.is_empty());
    config.filter_subjects.iter().chain(one).cloned().collect()
}

/// How a handler's consumer of a stream stands; `None`: it has none there.
///
/// # Errors
/// JetStream does not answer.
pub async fn consumed(
    nats: &Nats,
    stream: &str,
    unit: &Unit,
) -> Result<Option<Consumed>, NatsError> {
    let failed = |why: &dyn std::fmt::Display| NatsError::passing("consumers cannot be read", why);
    let found = nats.jetstream.get_stream(stream).await.map_err(|why| failed(&why))?;
    let info = match found.consumer_info(unit.durable()).await {
        Ok(info) => info,
        Err(why) if why.kind() == ConsumerInfoErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(failed(&why)),
    };
    Ok(Some(Consumed {
        acknowledged: info.ack_floor.stream_sequence,
        delivered: info.delivered.stream_sequence,
        filters: filters_of(&info.config),
        stream_created: found.cached_info().created.unix_timestamp(),
        kept: found.cached_info().config.retention == RetentionPolicy::Limits,
        pending: info.num_pending,
        in_hand: info.num_ack_pending as u64,
    }))
}

/// A message that lies behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub sequence: u64,
    pub id: String,
    /// Milliseconds since the Unix epoch.
    pub stored_at: u64,
}

/// Messages of a stretch of a stream, in order.
pub struct Passing {
    messages: Option<pull::Ordered>,
    stream: String,
    to: u64,
}

impl Passing {
    /// Those after `after` and up to `to`.
    ///
    /// # Errors
    /// JetStream does not answer.
    pub async fn open(
        nats: &Nats,
        stream: &str,
        filters: &[String],
        after: u64,
        to: u64,
    ) -> Result<Passing, NatsError> {
        let name = stream.to_owned();
        if after >= to {
            return Ok(Passing { messages: None, stream: name, to });
        }
        let failed = |why: &dyn std::fmt::Display| NatsError::passing("stream cannot be read", why);
        let stream = nats.jetstream.get_stream(stream).await.map_err(|why| failed(&why))?;
        let config = pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            filter_subjects: filters.to_vec(),
            headers_only: true,
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|why| failed(&why))?;
        if consumer.cached_info().num_pending == 0 {
            return Ok(Passing { messages: None, stream: name, to });
        }
        let messages = consumer.messages().await.map_err(|why| failed(&why))?;
        Ok(Passing { messages: Some(messages), stream: name, to })
    }

    /// Some more of them; none: this is all.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn some(&mut self) -> Result<Vec<Passed>, NatsError> {
        let failed = |why: &dyn std::fmt::Display| NatsError::passing("stream cannot be read", why);
        let mut some = Vec::new();
        while some.len() < SOME
            && let Some(messages) = &mut self.messages
        {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await;
            let Ok(Some(message)) = next else { return Err(failed(&"it does not go on")) };
            let message = message.map_err(|why| failed(&why))?;
            let info = message.info().map_err(|why| failed(&why))?;
            let (sequence, last) = (info.stream_sequence, info.pending == 0);
            if sequence <= self.to {
                let stored_at = info.published.unix_timestamp_nanos() / 1_000_000;
                let stored_at = u64::try_from(stored_at).unwrap_or_default();
                let headers = headers(&message);
                let id = identity::message_id(&headers, &self.stream, sequence, stored_at);
                some.push(Passed { sequence, id, stored_at });
            }
            if last || sequence >= self.to {
                self.messages = None;
            }
        }
        Ok(some)
    }
}

/// Sets a handler's consumer back, so that the message at `sequence` comes next.
///
/// # Errors
/// JetStream does not do it.
pub async fn rewind(
    nats: &Nats,
    stream: &str,
    unit: &Unit,
    sequence: u64,
) -> Result<(), NatsError> {
    let failed =
        |why: &dyn std::fmt::Display| NatsError::passing("the consumer cannot be set back", why);
    let durable = unit.durable();
    let stream = nats.jetstream.get_stream(stream).await.map_err(|why| failed(&why))?;
    let info = stream.consumer_info(&durable).await.map_err(|why| failed(&why))?;
    let mut config = info.config;
    config.deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: sequence };
    stream.delete_consumer(&durable).await.map_err(|why| failed(&why))?;
    stream.create_consumer(config).await.map_err(|why| failed(&why))?;
    Ok(())
}
