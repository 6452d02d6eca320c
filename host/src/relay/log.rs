//! One writer's log on its way into the streams: what is unsent, in flight, stuck and done. Pure: no
//! clock and no I/O of its own.
//!
//! The order of a log is kept: entries leave in order, a broken connection sends everything again
//! from the first one that is not acknowledged, and an entry that its stream refuses holds back the
//! later ones of its subject alone.

use std::collections::{BTreeMap, VecDeque};
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    InFlight,
    /// Held back by a refusal of its subject.
    Stuck,
    Done,
}

#[derive(Debug)]
struct Slot {
    entry: Pending,
    state: State,
    /// It may have been sent before: by an earlier process, or over a connection that broke.
    doubtful: bool,
    /// Headers and payload were dropped and are read again before it is sent.
    light: bool,
}

/// Stuck entries that are kept whole; those beyond it are light.
const LIGHT: usize = 256;
/// Light entries that are read again at once.
const FILLED: usize = 256;

/// A subject whose stream refuses.
#[derive(Debug)]
struct Blocked {
    /// Sequences that wait, in order.
    queue: VecDeque<i64>,
    refusals: u32,
    until: Instant,
    probing: bool,
    /// Until then its entries leave one at a time: where a stream refuses and takes in turn (it is
    /// full, and somebody takes from it), those in flight together would change places.
    careful_until: Instant,
}

/// How long after a refusal the entries of a subject leave one at a time.
const CARE: Duration = Duration::from_secs(2);

impl Blocked {
    fn front(&self) -> Option<i64> {
        self.queue.front().copied()
    }

    /// Whether its first entry may be tried again.
    fn is_ready(&self, now: Instant) -> bool {
        !self.probing && self.until <= now && !self.queue.is_empty()
    }
}

/// One writer's log.
#[derive(Debug)]
pub struct WriterLog {
    /// Everything up to here is done.
    published: i64,
    /// The last entry that was committed, as far as is known.
    last: i64,
    slots: VecDeque<Slot>,
    /// Where the unsent part of `slots` begins.
    next: usize,
    /// Entries whose subject goes through again; they leave before anything else.
    again: VecDeque<i64>,
    blocked: BTreeMap<String, Blocked>,
    /// Entries that are stuck; they do not count against the capacity, so that others go on.
    stuck: usize,
    capacity: usize,
    /// Entries read from here on may have been sent by an earlier process, up to this one.
    doubtful_to: i64,
    /// Whether any entry may be in doubt.
    doubts: bool,
    /// Whether every entry is: what sends it may have been handled before, and forgotten.
    wary: bool,
}

/// What refusing an entry came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// How often its subject was refused in a row.
    pub refusals: u32,
}

impl WriterLog {
    /// A log whose entries up to `published` are done and that goes up to `last`; it keeps at most
    /// `capacity` entries in memory, beside those that are stuck. What it has beyond `published` may have been sent before.
    pub fn new(published: i64, last: i64, capacity: usize) -> Self {
        WriterLog {
            published,
            last,
            slots: VecDeque::new(),
            next: 0,
            again: VecDeque::new(),
            blocked: BTreeMap::new(),
            stuck: 0,
            capacity,
            doubtful_to: last,
            doubts: false,
            wary: false,
        }
    }

    /// Whether entries that come from now on may have been sent before all of them.
    pub fn be_wary(&mut self, wary: bool) {
        self.wary = wary;
    }

    pub fn published(&self) -> i64 {
        self.published
    }

    /// Entries that are committed and not done.
    pub fn backlog(&self) -> u64 {
        u64::try_from(self.last - self.published).unwrap_or_default()
    }

    /// When the oldest entry that is in memory was committed.
    pub fn oldest(&self) -> Option<i64> {
        self.slots.front().map(|slot| slot.entry.committed_at)
    }

    fn read_to(&self) -> i64 {
        self.slots.back().map_or(self.published, |slot| slot.entry.seq)
    }

    /// Notes that the log goes up to `last` at least.
    pub fn goes_to(&mut self, last: i64) {
        self.last = self.last.max(last);
    }

    /// Takes in committed entries, if they follow what is there and fit; the table has them anyway.
    pub fn announce(&mut self, entries: Vec<Pending>) {
        for entry in entries {
            let follows = entry.seq == self.read_to() + 1;
            self.goes_to(entry.seq);
            if follows && self.slots.len() - self.stuck < self.capacity {
                self.doubts |= self.wary;
                self.push(entry, self.wary);
            }
        }
    }

    /// Where to read the table from, if there is more in it than here and room for it: (after,
    /// limit).
    pub fn wants(&self) -> Option<(i64, usize)> {
        let room = self.capacity.saturating_sub(self.slots.len() - self.stuck);
        (self.read_to() < self.last && room * 2 >= self.capacity).then(|| (self.read_to(), room))
    }

    /// Takes in what was read from the table after `after`.
    pub fn read(&mut self, after: i64, entries: Vec<Pending>) {
        if after != self.read_to() {
            return;
        }
        if entries.is_empty() {
            // The log ends here: what was announced was never committed.
            self.last = after;
        }
        for entry in entries {
            let doubtful = self.wary || entry.seq <= self.doubtful_to;
            self.doubts |= doubtful;
            self.push(entry, doubtful);
        }
    }

    fn push(&mut self, entry: Pending, doubtful: bool) {
        self.slots.push_back(Slot { entry, state: State::Unsent, doubtful, light: false });
    }

    /// The only way in which a slot changes its state.
    fn turn(&mut self, at: usize, state: State) {
        let slot = &mut self.slots[at];
        let before = std::mem::replace(&mut slot.state, state);
        if before != State::Stuck && state == State::Stuck {
            self.stuck += 1;
            if self.stuck > LIGHT {
                slot.entry.payload = Bytes::new();
                slot.entry.headers = String::new();
                slot.light = true;
            }
        } else if before == State::Stuck && state != State::Stuck {
            self.stuck -= 1;
        }
    }

    /// Where to read bodies from that are needed now: (after, limit).
    pub fn wants_bodies(&self, now: Instant) -> Option<(i64, usize)> {
        let light = |seq: &i64| self.index(*seq).is_some_and(|at| self.slots[at].light);
        let unsent = || self.slots.get(self.next).map(|slot| slot.entry.seq);
        let probe = self.blocked.values().filter(|b| b.is_ready(now)).filter_map(Blocked::front);
        let seq = probe.chain(self.again.front().copied()).chain(unsent()).find(light)?;
        Some((seq - 1, FILLED))
    }

    /// Takes in bodies that were read again.
    pub fn fill(&mut self, entries: Vec<Pending>) {
        for entry in entries {
            if let Some(at) = self.index(entry.seq)
                && self.slots[at].light
            {
                self.slots[at].light = false;
                self.slots[at].entry = entry;
            }
        }
    }

    fn index(&self, seq: i64) -> Option<usize> {
        self.slots.binary_search_by_key(&seq, |slot| slot.entry.seq).ok()
    }

    /// An entry that is not done.
    pub fn entry(&self, seq: i64) -> Option<&Pending> {
        self.index(seq).map(|at| &self.slots[at].entry)
    }

    /// The next entry to send, which is in flight from now on. None as well where its body is to be
    /// read again first.
    pub fn send(&mut self, now: Instant) -> Option<&Pending> {
        let next = self.probe(now).or_else(|| self.next_unblocked()).or_else(|| self.probe(now))?;
        let at = self.index(next)?;
        self.turn(at, State::InFlight);
        Some(&self.slots[at].entry)
    }

    /// The next entry of a subject that is not blocked; those that are line up behind it.
    fn next_unblocked(&mut self) -> Option<i64> {
        while let Some(seq) = self.again.front().copied() {
            let at = self.index(seq);
            if at.is_some_and(|at| self.slots[at].light) {
                return None;
            }
            self.again.pop_front();
            if at.is_some() {
                return Some(seq);
            }
        }
        while self.next < self.slots.len() {
            let at = self.next;
            if self.slots[at].state == State::Unsent {
                let slot = &self.slots[at];
                if let Some(blocked) = self.blocked.get_mut(&slot.entry.subject) {
                    blocked.queue.push_back(slot.entry.seq);
                    self.next += 1;
                    self.turn(at, State::Stuck);
                    continue;
                }
                if slot.light {
                    return None;
                }
                self.next += 1;
                return Some(slot.entry.seq);
            }
            self.next += 1;
        }
        None
    }

    /// The first entry of a refused subject whose time has come.
    fn probe(&mut self, now: Instant) -> Option<i64> {
        let whole = |seq: i64| {
            let at = self.slots.binary_search_by_key(&seq, |slot| slot.entry.seq);
            at.is_ok_and(|at| !self.slots[at].light)
        };
        let ready = |b: &&mut Blocked| b.is_ready(now) && b.front().is_some_and(whole);
        let blocked = self.blocked.values_mut().find(ready)?;
        blocked.probing = true;
        blocked.front()
    }

    /// An entry is done: stored, expired, or set aside.
    pub fn done(&mut self, seq: i64) {
        let Some(at) = self.index(seq) else { return };
        self.turn(at, State::Done);
        self.slots[at].doubtful = false;
        if let Some(blocked) = self.blocked.get_mut(&self.slots[at].entry.subject) {
            blocked.queue.retain(|waiting| *waiting != seq);
        }
        while self.slots.front().is_some_and(|slot| slot.state == State::Done) {
            if let Some(slot) = self.slots.pop_front() {
                self.published = slot.entry.seq;
                self.next = self.next.saturating_sub(1);
            }
        }
    }

    /// An entry was stored: its subject goes through, one entry at a time for a while.
    pub fn stored(&mut self, seq: i64, now: Instant) {
        if let Some(at) = self.index(seq)
            && let Some(blocked) = self.blocked.get_mut(&self.slots[at].entry.subject)
        {
            blocked.queue.retain(|waiting| *waiting != seq);
            if now < blocked.careful_until {
                blocked.probing = false;
                blocked.refusals = 0;
                blocked.until = now;
            } else if let Some(blocked) = self.blocked.remove(&self.slots[at].entry.subject) {
                self.again.extend(blocked.queue);
            }
        }
        self.done(seq);
    }

    /// An entry was set aside for good, or has expired: the next one of its subject is tried at once,
    /// and once.
    pub fn set_aside(&mut self, seq: i64, now: Instant) {
        if let Some(at) = self.index(seq)
            && let Some(blocked) = self.blocked.get_mut(&self.slots[at].entry.subject)
        {
            blocked.until = now;
            blocked.probing = false;
        }
        self.done(seq);
        self.blocked.retain(|_, blocked| !blocked.queue.is_empty());
    }

    /// An entry was refused: its subject waits, and goes on with it.
    pub fn refused(&mut self, seq: i64, now: Instant) -> Option<Refused> {
        let at = self.index(seq)?;
        self.turn(at, State::Stuck);
        let subject = self.slots[at].entry.subject.clone();
        let blocked = self.blocked.entry(subject).or_insert_with(|| Blocked {
            queue: VecDeque::new(),
            refusals: 0,
            until: now,
            probing: true,
            careful_until: now,
        });
        blocked.careful_until = now + CARE;
        let place = blocked.queue.partition_point(|waiting| *waiting < seq);
        if blocked.queue.get(place) != Some(&seq) {
            blocked.queue.insert(place, seq);
        }
        // Entries that were in flight together count as one refusal.
        if blocked.probing && blocked.queue.front() == Some(&seq) {
            blocked.refusals += 1;
            blocked.probing = false;
            let pause = Duration::from_millis(100).saturating_mul(1 << blocked.refusals.min(8));
            blocked.until = now + pause.min(Duration::from_secs(10));
        }
        Some(Refused { refusals: blocked.refusals })
    }

    /// The connection broke: everything that is not done is sent again, from the first on.
    pub fn start_again(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            slot.doubtful |= slot.state == State::InFlight;
            self.doubts |= slot.doubtful;
            if slot.state != State::Done {
                self.turn(at, State::Unsent);
            }
        }
        self.next = 0;
        self.again.clear();
        // Subjects that were refused lately begin with one entry.
        self.blocked.retain(|_, blocked| {
            blocked.queue.clear();
            blocked.probing = false;
            blocked.until = now;
            blocked.careful_until = now + CARE;
            true
        });
    }

    /// Entries to send that may have been sent before: the stream may have forgotten their ids.
    pub fn doubtful(&mut self) -> Vec<Pending> {
        if !self.doubts {
            return Vec::new();
        }
        let open = |slot: &&Slot| slot.doubtful && slot.state == State::Unsent;
        self.doubts = self.slots.iter().any(|slot| open(&slot));
        let asked = self.slots.iter().filter(open);
        asked.map(|slot| slot.entry.clone()).collect()
    }

    /// The stream was asked for an entry; it is no longer in doubt.
    pub fn resolved(&mut self, seq: i64, stored: bool) {
        if stored {
            self.done(seq);
        } else if let Some(at) = self.index(seq) {
            self.slots[at].doubtful = false;
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
