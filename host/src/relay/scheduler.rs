//! Delayed messages: when they are due they move from their table into a log of the scheduler's own,
//! in one transaction, and are relayed like everything else.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Relay;
use crate::lane::ports::StoreAway;
use crate::store::Postgres;
use crate::telemetry::Health;

/// The name of the scheduler's writer; no handler can have it.
const WRITER: &str = "(scheduled)";
/// Messages moved at once.
const BATCH: i64 = 1_000;
/// How long messages that another node scheduled may go unnoticed.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Moves due messages on.
pub struct Scheduler {
    pub store: Postgres,
    pub relay: Relay,
    pub health: Arc<Health>,
}

impl Scheduler {
    /// Moves messages until it is stopped.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.work() => {
                    if let Err(why) = ended {
                        self.health.away("postgres", &why.to_string());
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LONGEST_REST) => {}
            }
        }
    }

    /// Works until the store fails; everything is read anew after that.
    async fn work(&self) -> Result<(), StoreAway> {
        let opened = self.store.open_writer(WRITER, 0, 1).await?;
        self.relay.open(opened.id, opened.published, opened.last);
        let mut last = opened.last;
        loop {
            let moved = self.store.release_due(opened.id, last + 1, BATCH).await?;
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
                () = self.relay.scheduling() => {}
                () = tokio::time::sleep(wait.min(LONGEST_REST)) => {}
            }
        }
    }
}
