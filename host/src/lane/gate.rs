//! Whether a handler takes messages in now. The node sets it: an operator paused the handler, or too
//! much of it has piled up.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// What lanes of a handler may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// All.
    Open,
    /// What is parked and due, but nothing new.
    ParkedAlone,
    /// Nothing.
    Closed,
}

/// The intake of one handler.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU8,
    changed: Notify,
}

impl Gate {
    pub fn set(&self, intake: Intake) {
        let state = match intake {
            Intake::Open => 0,
            Intake::ParkedAlone => 1,
            Intake::Closed => 2,
        };
        if self.state.swap(state, Ordering::AcqRel) != state {
            self.changed.notify_waiters();
        }
    }

    pub fn intake(&self) -> Intake {
        match self.state.load(Ordering::Acquire) {
            0 => Intake::Open,
            1 => Intake::ParkedAlone,
            _ => Intake::Closed,
        }
    }

    /// Waits until the intake is another one than `known`.
    pub async fn changed_from(&self, known: Intake) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change is missed in between.
            changed.as_mut().enable();
            if self.intake() != known {
                return;
            }
            changed.await;
        }
    }
}
