//! Handlers in partitions, as hosts see them: which stream holds them, and whether it is its turn. Each
//! partition is read through a consumer of its own; split.rs makes the streams.

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Info;
use futures_util::TryStreamExt;

use super::{Nats, NatsError};
use crate::model::{Description, Unit, partition_stream};

/// What NATS notes with each message that was sourced: whence, and under which sequence.
pub(super) const SOURCED: &str = "Nats-Stream-Source";

/// A stream of partitions that is there.
pub(super) struct Layout {
    pub of: u32,
    pub info: Info,
}

impl Layout {
    /// It takes nothing more: another one has followed.
    pub fn ended(&self) -> bool {
        self.info.config.sources.as_ref().is_none_or(Vec::is_empty)
    }
}

/// Why a handler cannot be worked on in so many partitions, or in none, as things stand, and what to do;
/// `None`: it can.
///
/// # Errors
/// JetStream does not answer.
pub async fn obstacle(
    nats: &Nats,
    description: &Description,
    partitions: Option<u32>,
) -> Result<Option<String>, NatsError> {
    let handler = &description.name;
    let layouts = layouts(nats, handler).await?;
    let current = layouts.iter().find(|layout| !layout.ended());
    let Some(of) = partitions else {
        return Ok(current.or(layouts.first()).map(|Layout { of, .. }| {
            format!("it is in {of} partitions: set [handlers.{handler}] partitions = {of}")
        }));
    };
    let provision = "run `tribox provision`";
    let Some(mine) = layouts.iter().find(|layout| layout.of == of) else {
        let stream = partition_stream(handler, of);
        return Ok(Some(format!("there is no stream {stream} for its partitions; {provision}")));
    };
    if mine.ended() && is_read(nats, handler, mine).await? {
        let now = current.map_or(0, |layout| layout.of);
        return Ok(Some(format!(
            "it is in {now} partitions now: set [handlers.{handler}] partitions = {now}"
        )));
    }
    for other in layouts.iter().filter(|layout| layout.of != of && layout.ended()) {
        if !mine.ended() && !is_read(nats, handler, other).await? {
            let was = other.of;
            return Ok(Some(format!(
                "what came while it was in {was} partitions is not handled yet: a host with \
                 [handlers.{handler}] partitions = {was} has to, before others begin"
            )));
        }
    }
    let sources = mine.info.config.sources.iter().flatten();
    let carried: Vec<&str> =
        sources.flat_map(|s| &s.subject_transforms).map(|t| t.source.as_str()).collect();
    let subscribed = description.subscriptions.iter().map(|s| s.subject.as_str());
    let missing: Vec<&str> = subscribed.filter(|subject| !carried.contains(subject)).collect();
    if !mine.ended() && !missing.is_empty() {
        let stream = &mine.info.config.name;
        return Ok(Some(format!(
            "stream {stream} does not carry {missing:?}, which it subscribes to as well: set another \
             number of partitions, and {provision}"
        )));
    }
    Ok(None)
}

/// Whether a partition's stream takes nothing more, and the partition is read to its end: another layout
/// has followed.
///
/// # Errors
/// JetStream does not answer.
pub async fn has_ended(nats: &Nats, unit: &Unit) -> Result<bool, NatsError> {
    let Some(partition) = unit.partition() else { return Ok(false) };
    let layouts = layouts(nats, unit.handler()).await?;
    match layouts.iter().find(|layout| layout.of == partition.of) {
        Some(layout) if layout.ended() => {
            let left = unread(nats, &layout.info, unit).await?;
            Ok(left == 0)
        }
        _ => Ok(false),
    }
}

/// The streams of a handler's partitions, however many these are.
pub(super) async fn layouts(nats: &Nats, handler: &str) -> Result<Vec<Layout>, NatsError> {
    let streams: Vec<Info> =
        nats.jetstream.streams().try_collect().await.map_err(|why| failed(&why))?;
    let layout = |info: Info| {
        let (_, of) = info.config.name.rsplit_once('-')?;
        let of = of.parse().ok()?;
        (info.config.name == partition_stream(handler, of)).then_some(Layout { of, info })
    };
    Ok(streams.into_iter().filter_map(layout).collect())
}

/// Whether all partitions of a layout are read to their end.
async fn is_read(nats: &Nats, handler: &str, layout: &Layout) -> Result<bool, NatsError> {
    for unit in Unit::all(handler, Some(layout.of)) {
        if unread(nats, &layout.info, &unit).await? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many messages of a partition are not handled.
async fn unread(nats: &Nats, info: &Info, unit: &Unit) -> Result<u64, NatsError> {
    let stream = nats.jetstream.get_stream(&info.config.name).await.map_err(|why| failed(&why))?;
    match stream.consumer_info(unit.durable()).await {
        Ok(info) => Ok(info.num_pending + info.num_ack_pending as u64),
        // It was never read.
        Err(why) if why.kind() == ConsumerInfoErrorKind::NotFound => {
            let filter = format!("{}>", unit.prefix());
            let held = stream.info_with_subjects(filter).await.map_err(|why| failed(&why))?;
            let counts: Vec<(String, usize)> =
                held.try_collect().await.map_err(|why| failed(&why))?;
            Ok(counts.into_iter().map(|(_, count)| count as u64).sum())
        }
        Err(why) => Err(failed(&why)),
    }
}

pub(super) fn failed(why: &dyn std::fmt::Display) -> NatsError {
    NatsError::passing("streams of partitions cannot be seen to", why)
}
