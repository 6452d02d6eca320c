//! What a log is made of: entries with where each stands, and subjects that are refused.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// An entry that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub seq: i64,
    pub id: String,
    pub subject: String,
    pub headers: String,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch.
    pub committed_at: i64,
    pub expires_at: Option<i64>,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unsent,
    InFlight,
    /// Held back by a refusal of its subject.
    Stuck,
    Done,
}

/// An entry and where it stands.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Pending,
    pub(super) state: State,
    /// It may have been sent before, by an earlier process or over a connection that broke, and its
    /// stream is to be asked for it.
    pub(super) doubtful: bool,
    /// It may have been sent before, whatever its stream said since.
    pub(super) sent_before: bool,
    /// When its stream was last asked and did not have it.
    pub(super) asked: Option<Instant>,
    /// Headers and payload were dropped and are read again before it is sent.
    pub(super) light: bool,
}

/// How long it counts that a stream did not have an entry: what an old connection had taken may have
/// arrived since, and be forgotten. Less than what `jobs.rs` allows for a resend.
pub(super) const GOOD: Duration = Duration::from_secs(30);

impl Slot {
    /// Whether what its stream said is too old to go by.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let waits = matches!(self.state, State::Unsent | State::Stuck);
        waits && self.sent_before && self.asked.is_none_or(|at| at + GOOD <= now)
    }

    /// Whether something has to be found out, or read, before it can be sent.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.light || self.doubtful || self.is_stale(now)
    }
}

/// A subject whose stream refuses.
#[derive(Debug)]
pub(super) struct Blocked {
    /// Sequences that wait, in order.
    pub(super) queue: VecDeque<i64>,
    pub(super) refusals: u32,
    pub(super) until: Instant,
    pub(super) probing: bool,
    /// Until then its entries leave one at a time: where a stream refuses and takes in turn (it is
    /// full, and somebody takes from it), those in flight together would change places.
    pub(super) careful_until: Instant,
}

/// How long after a refusal the entries of a subject leave one at a time.
pub(super) const CARE: Duration = Duration::from_secs(2);

impl Blocked {
    pub(super) fn front(&self) -> Option<i64> {
        self.queue.front().copied()
    }

    /// Puts an entry in its place in the line.
    pub(super) fn line_up(&mut self, seq: i64) {
        let place = self.queue.partition_point(|waiting| *waiting < seq);
        if self.queue.get(place) != Some(&seq) {
            self.queue.insert(place, seq);
        }
    }

    /// Whether its first entry may be tried again.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.probing && self.until <= now && !self.queue.is_empty()
    }
}
