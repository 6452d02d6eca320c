//! The fourth step of a turn: the commit, and what an error of it means for the lane.

use std::time::Duration;

use super::ports::{Commit, CommitError, Outlet, Settle, Store, StoreAway};
use super::{Again, Lane, WARY_TURNS};

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    pub(super) async fn commit(&mut self, commit: &Commit) -> Result<(), Again> {
        let Err(error) = self.store.commit(commit).await else {
            self.health.back("postgres");
            return Ok(());
        };
        self.memory.cache.clear();
        match error {
            CommitError::Duplicate => {
                // It may be a commit of our own that was given up and took place later.
                self.memory.unsure = true;
                self.memory.wary = WARY_TURNS;
                Err(Again::Changed)
            }
            CommitError::Conflict(why) => {
                self.metrics.conflicts.inc();
                tracing::debug!(handler = commit.handler, "turn is run again: {why}");
                Err(Again::Changed)
            }
            CommitError::Fenced(why) => Err(Again::Fenced(why)),
            CommitError::Data(why) => Err(Again::Refused(why)),
            CommitError::Unavailable(why) => {
                self.memory.unsure = true;
                // It may take place at any time; whatever this lane does then, the relay has to know.
                self.outlet.look_again(self.log.writer);
                self.memory.wary = WARY_TURNS;
                Err(Again::Away(why))
            }
        }
    }

    pub(super) async fn pause_after_conflict(&self, failures: u32) {
        if failures > 1 {
            // Lanes that met on a document do not meet again in step.
            let step = u64::from(failures.min(8)) * (3 + u64::from(self.index.unsigned_abs()) % 5);
            tokio::time::sleep(Duration::from_millis(step)).await;
        }
    }

    pub(super) async fn wait_for_store(&self, failures: u32, why: &str) {
        self.health.away("postgres", why);
        let pause = Duration::from_millis(50).saturating_mul(1 << failures.min(6));
        tokio::time::sleep(pause.min(Duration::from_secs(2))).await;
    }
}

/// The store could not be asked.
pub(super) fn away(error: StoreAway) -> Again {
    Again::Away(error.0)
}

#[cfg(test)]
#[path = "given_up_tests.rs"]
mod tests;
