//! Which streams hold the subjects that a handler subscribes to.

use std::time::Duration;

use futures_util::TryStreamExt;

use super::{Nats, NatsError};
use crate::model::is_of_partitions;
use crate::model::subject::overlap;

/// A stream as discovery sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    pub name: String,
    /// Unix seconds.
    pub created: i64,
    pub subjects: Vec<String>,
    /// How long it remembers ids.
    pub dedup_window: Duration,
}

/// All streams that overlap with one of the filters. Those of partitions hold what stands elsewhere, and are
/// found by who asks for them alone.
///
/// # Errors
/// JetStream does not answer.
pub async fn find_streams(nats: &Nats, filters: &[String]) -> Result<Vec<StreamInfo>, NatsError> {
    let streams: Vec<_> = nats
        .jetstream
        .streams()
        .try_collect()
        .await
        .map_err(|why| NatsError::passing("streams cannot be listed", &why))?;
    let mut found: Vec<StreamInfo> = streams
        .into_iter()
        .map(|info| StreamInfo {
            name: info.config.name,
            created: info.created.unix_timestamp(),
            subjects: info.config.subjects,
            dedup_window: info.config.duplicate_window,
        })
        .filter(|s| {
            let found = |a: &String, b: &String| {
                overlap(a, b) && is_of_partitions(a) == is_of_partitions(b)
            };
            s.subjects.iter().any(|a| filters.iter().any(|b| found(a, b)))
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
