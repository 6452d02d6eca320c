//! Delayed messages, and undelivered ones that are sent again: when they are due they move from their
//! table into a log of the scheduler's own, in one transaction, and are relayed like everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Relay;
use super::ports::Delayed;
use crate::lane::ports::StoreAway;
use crate::telemetry::{Health, Metrics};

/// The name of the scheduler's log, and of the unit that one node at a time owns; no handler can have it.
pub const SCHEDULED: &str = "(scheduled)";
/// Messages moved at once.
const BATCH: i64 = 1_000;
/// Undelivered messages that are counted at most.
const COUNTED: i64 = 100_000;
const TAKEN_OVER: &str = "the log of delayed messages was opened by another process";
/// How long messages that others scheduled may go unnoticed.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Moves due messages on.
pub struct Scheduler<S> {
    pub store: S,
    pub relay: Relay,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl<S: Delayed> Scheduler<S> {
    /// Moves messages until it is stopped. One node at a time may do that.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                ended = self.work() => {
                    if let Err(why) = ended {
                        self.health.away("postgres", &why.to_string());
                    }
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LONGEST_REST) => {}
            }
        }
    }

    /// Works until the store fails; everything is read anew after that.
    async fn work(&self) -> Result<(), StoreAway> {
        let opened = self.store.open_log().await?;
        self.relay.open(opened.id, opened.published, opened.last);
        let mut last = opened.last;
        let mut next_look = Instant::now();
        let mut looks = 0_u32;
        loop {
            if next_look <= Instant::now() {
                self.settle_resent(looks.is_multiple_of(10)).await?;
                looks = looks.wrapping_add(1);
                next_look = Instant::now() + LONGEST_REST;
            }
            let due = self.store.release_due(&opened, last + 1, BATCH).await?;
            // Opened once more, by a statement that was given up and came late: it is opened anew.
            let due = due.ok_or_else(|| StoreAway(TAKEN_OVER.to_owned()))?;
            let moved = due + self.store.resend(&opened, last + due + 1, BATCH).await?;
            if moved > 0 {
                last += moved;
                self.relay.goes_to(opened.id, last);
                continue;
            }
            let wait = match self.store.next_due().await? {
                Some(ms) => Duration::from_millis(u64::try_from(ms).unwrap_or_default()),
                None => LONGEST_REST,
            };
            tokio::select! {
                biased;
                () = self.relay.scheduling() => {}
                () = tokio::time::sleep(wait.min(LONGEST_REST)) => {}
            }
        }
    }

    /// Takes note of undelivered messages that have arrived meanwhile.
    async fn settle_resent(&self, wake: bool) -> Result<(), StoreAway> {
        let waiting = self.store.count_undelivered(COUNTED).await?;
        self.metrics.undelivered_now.set(waiting);
        if waiting == 0 {
            return Ok(());
        }
        let arrived = self.store.settle_resent().await?;
        if arrived > 0 {
            self.metrics.resent.inc_by(u64::try_from(arrived).unwrap_or_default());
            tracing::info!(count = arrived, "undelivered messages were taken after all");
        }
        if wake {
            self.store.wake_undelivered().await?;
        }
        Ok(())
    }
}
