//! Counts from outside how often JetStream delivered a message again.

use std::collections::BTreeMap;

use anyhow::Result;
use async_nats::jetstream::consumer::Info;
use futures_util::TryStreamExt;
use tribox::model::subject::matches;
use tribox_tests::Broker;

use crate::publish::COMMANDS;

/// Deliveries by each consumer that was seen. A host may make its consumer anew to go back: then
/// the new one counts from zero, and the old one counts for itself.
#[derive(Debug, Default)]
pub struct Deliveries(BTreeMap<(String, i128), (Vec<String>, u64)>);

impl Deliveries {
    /// Looks at the consumers as they are now.
    pub async fn look(&mut self, broker: &Broker) -> Result<()> {
        for info in consumers(broker).await? {
            let created = info.created.unix_timestamp_nanos();
            let mut filters = info.config.filter_subjects;
            filters.extend(Some(info.config.filter_subject).filter(|f| !f.is_empty()));
            self.0.insert((info.name, created), (filters, info.delivered.consumer_sequence));
        }
        Ok(())
    }

    /// All deliveries beyond one for each message and handler.
    pub async fn again(&self, broker: &Broker) -> Result<u64> {
        let stored = broker.read(COMMANDS).await?;
        let mut by_name: BTreeMap<&str, (&[String], u64)> = BTreeMap::new();
        for ((name, _), (filters, count)) in &self.0 {
            by_name.entry(name).or_insert((filters, 0)).1 += count;
        }
        let mut again = 0;
        for (filters, count) in by_name.into_values() {
            let wanted =
                |subject| filters.is_empty() || filters.iter().any(|f| matches(f, subject));
            let once = stored.iter().filter(|m| wanted(&m.subject)).count();
            again += count.saturating_sub(u64::try_from(once)?);
        }
        Ok(again)
    }
}

/// Messages that were not delivered or not acknowledged yet.
pub async fn open(broker: &Broker) -> Result<u64> {
    let consumers = consumers(broker).await?;
    Ok(consumers.iter().map(|info| info.num_pending + info.num_ack_pending as u64).sum())
}

/// Those of the host alone: readers of a stream have a consumer too, for a while.
async fn consumers(broker: &Broker) -> Result<Vec<Info>> {
    let stream = broker.jetstream.get_stream(COMMANDS).await?;
    let all: Vec<Info> = stream.consumers().try_collect().await?;
    Ok(all.into_iter().filter(|info| info.config.durable_name.is_some()).collect())
}
