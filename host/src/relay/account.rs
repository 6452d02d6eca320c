//! What the relay lets others see: its numbers, and whether publishing works.

use super::ports::{Outbox, Outgoing, Streams};
use super::task::RelayTask;

impl<S: Outbox, N: Streams, P: Outgoing> RelayTask<S, N, P> {
    /// Keeps the numbers that others look at.
    pub(super) fn account(&mut self) {
        let backlog: u64 = self.logs.values().map(|relayed| relayed.log.backlog()).sum();
        self.metrics.backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        if backlog == 0 && self.connection.is_some() {
            self.answered();
        }
        let oldest = self.logs.values().filter_map(|relayed| relayed.log.oldest()).min();
        let age = oldest.map_or(0, |at| (self.unix_millis() - at).max(0));
        self.metrics.oldest_unsent_seconds.set(age as f64 / 1_000.0);
    }

    /// The connection is good: a server with a full disk takes what is published and says nothing.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.unanswered) {
            self.health.back("publishing");
        }
    }
}
