//! Which parts of the world can be used now. A change of state is logged once, not every attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Parts that readiness depends on, by name: `postgres`, `nats`, `handler accounts`.
pub type Part = String;

/// The state of each part; a part that nobody spoke of is fine.
#[derive(Debug, Default)]
pub struct Health {
    trouble: Mutex<BTreeMap<Part, String>>,
}

/// What is said of a part that is not ready yet.
const STARTING: &str = "starting";

impl Health {
    /// Notes that a part cannot be used, and logs it where that is news.
    pub fn away(&self, part: &str, why: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let before = trouble.insert(part.to_owned(), why.to_owned());
        if before.is_none_or(|before| before == STARTING) {
            tracing::warn!(part, "{part} cannot be used, waiting for it: {why}");
        }
    }

    /// Notes that a part can be used again, and logs it where that is news.
    pub fn back(&self, part: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.remove(part).is_some_and(|before| before != STARTING) {
            tracing::info!(part, "{part} can be used again");
        }
    }

    /// A part is not ready before it says so. That alone is not worth a line in the log.
    pub fn starting(&self, part: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.insert(part.to_owned(), STARTING.to_owned());
    }

    /// Everything that was to be started was.
    pub fn started(&self) {
        self.forget("node");
    }

    /// The host begins anew: what was said before is past.
    pub fn start_again(&self) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.starting("node");
    }

    /// The host ends: nothing new should be sent to it.
    pub fn stopping(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.insert("node".to_owned(), "stopping".to_owned());
    }

    /// A part that is no longer wanted.
    pub fn forget(&self, part: &str) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).remove(part);
    }

    /// What is wrong now, by part.
    pub fn trouble(&self) -> BTreeMap<Part, String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
