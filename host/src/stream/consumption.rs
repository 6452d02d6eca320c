//! What one handler, or a partition of it, consumes of one stream, and the durable consumer that stands for it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};

use super::Filters;
use crate::model::Unit;

/// When JetStream delivers a message again that was not acknowledged.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);

/// What is consumed, and how.
#[derive(Debug)]
pub struct Consumption {
    pub unit: Unit,
    pub stream: String,
    pub filters: Filters,
    /// Messages have keys: their order is kept.
    pub ordered: bool,
    /// Messages in hand at most.
    pub max_in_hand: i64,
    /// When nothing was delivered for so long though messages wait, the consumer is made anew.
    pub stalled: Duration,
}

impl Consumption {
    pub(super) fn config(&self, policy: DeliverPolicy, filters: Vec<String>) -> pull::Config {
        pull::Config {
            durable_name: Some(self.unit.durable()),
            description: Some(format!("tribox: handler {}", self.unit)),
            deliver_policy: policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Attempts are counted in Postgres; JetStream never gives up.
            max_deliver: -1,
            filter_subjects: filters,
            max_ack_pending: self.max_in_hand,
            ..pull::Config::default()
        }
    }
}
