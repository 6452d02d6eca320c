//! Until when this process may act as the node that it is registered as. Whoever was frozen past its
//! lease, or could not tell the database that it lives, may have been replaced meanwhile: it must not
//! publish, or set a consumer back, before it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// A clock that goes on while the machine sleeps.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A point in time of this machine's own, which no setting of its clock moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Moment {
        let now = clock_gettime(CLOCK);
        let millis = u64::try_from(now.tv_sec).unwrap_or_default() * 1_000
            + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000;
        Moment(millis)
    }

    /// The moment when this machine's clock has so many milliseconds.
    pub fn at(millis: u64) -> Moment {
        Moment(millis)
    }

    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Tells the time: [`Moment::now`], but in a simulation.
pub type Watch = fn() -> Moment;

/// Shared by all that acts for a node; prolonged with its lease.
#[derive(Debug, Clone)]
pub struct Fence(Arc<State>);

#[derive(Debug)]
struct State {
    watch: Watch,
    until: AtomicU64,
    prolonged: Notify,
}

impl Fence {
    /// One that holds until `until`.
    pub fn new(until: Moment) -> Fence {
        Fence::by(Moment::now, until)
    }

    /// One that goes by another clock.
    pub fn by(watch: Watch, until: Moment) -> Fence {
        let until = AtomicU64::new(until.0);
        Fence(Arc::new(State { watch, until, prolonged: Notify::new() }))
    }

    /// What time it is by the clock that it goes by.
    pub fn now(&self) -> Moment {
        (self.0.watch)()
    }

    /// One that always holds: for whoever acts for no node.
    pub fn open() -> Fence {
        Fence::new(Moment(u64::MAX))
    }

    /// Holds until `until` at least: the lease, counted from before the database was asked for it.
    pub fn prolong(&self, until: Moment) {
        self.0.until.fetch_max(until.0, Ordering::AcqRel);
        self.0.prolonged.notify_waiters();
    }

    /// Whether this process may act now.
    pub fn holds(&self) -> bool {
        self.now().0 < self.0.until.load(Ordering::Acquire)
    }

    /// Waits until this process may act; at once where it may.
    pub async fn held(&self) {
        loop {
            let prolonged = self.0.prolonged.notified();
            if self.holds() {
                return;
            }
            prolonged.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_for_as_long_as_it_was_prolonged() {
        let fence = Fence::new(Moment::now());
        assert!(!fence.holds());
        let waiting = fence.clone();
        let waited = async move { waiting.held().await };
        let prolonging = async {
            tokio::task::yield_now().await;
            fence.prolong(Moment::now().after(Duration::from_secs(60)));
        };
        tokio::join!(waited, prolonging);
        assert!(fence.holds());
        // An answer that comes late takes nothing back.
        fence.prolong(Moment::now());
        assert!(fence.holds());
        assert!(Fence::open().holds());
    }
}
