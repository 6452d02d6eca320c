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

use super::slot::{Blocked, CARE, GOOD, Slot, State};

pub use super::slot::Pending;

/// Stuck entries that are kept whole; those beyond it are light.
const LIGHT: usize = 256;
/// Light entries that are read again at once.
const FILLED: usize = 256;

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
    /// When what streams said first becomes too old to go by.
    stale_from: Option<Instant>,
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
            stale_from: None,
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
        self.slots.push_back(Slot {
            entry,
            state: State::Unsent,
            doubtful,
            sent_before: doubtful,
            asked: None,
            light: false,
        });
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
        let seq = self.leaving(now).chain(unsent()).find(light)?;
        Some((seq - 1, FILLED))
    }

    /// Entries that were stuck and leave next.
    fn leaving(&self, now: Instant) -> impl Iterator<Item = i64> {
        let ready = self.blocked.values().filter(move |blocked| blocked.is_ready(now));
        ready.filter_map(Blocked::front).chain(self.again.front().copied())
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
    /// read again first, or its stream to be asked.
    pub fn send(&mut self, now: Instant) -> Option<&Pending> {
        let next =
            self.probe(now).or_else(|| self.next_unblocked(now)).or_else(|| self.probe(now))?;
        let at = self.index(next)?;
        self.turn(at, State::InFlight);
        Some(&self.slots[at].entry)
    }

    /// The next entry of a subject that is not blocked; those that are line up behind it.
    fn next_unblocked(&mut self, now: Instant) -> Option<i64> {
        while let Some(seq) = self.again.front().copied() {
            let at = self.index(seq).filter(|at| self.slots[*at].state == State::Stuck);
            if at.is_some_and(|at| self.slots[at].waits(now)) {
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
                    blocked.line_up(slot.entry.seq);
                    self.next += 1;
                    self.turn(at, State::Stuck);
                    continue;
                }
                if slot.waits(now) {
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
        // One that is on its way already is not sent a second time.
        let whole = |seq: i64| {
            let at = self.slots.binary_search_by_key(&seq, |slot| slot.entry.seq);
            at.is_ok_and(|at| self.slots[at].state == State::Stuck && !self.slots[at].waits(now))
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
        let refused = self.index(seq).filter(|at| self.slots[*at].state != State::Done)?;
        self.turn(refused, State::Stuck);
        // Its stream has been asked, and now says itself that it has no copy.
        self.slots[refused].sent_before = false;
        let subject = self.slots[refused].entry.subject.clone();
        let blocked = self.blocked.entry(subject).or_insert_with(|| Blocked {
            queue: VecDeque::new(),
            refusals: 0,
            until: now,
            probing: true,
            careful_until: now,
        });
        blocked.careful_until = now + CARE;
        blocked.line_up(seq);
        // Entries that were in flight together count as one refusal.
        if blocked.probing && blocked.queue.front() == Some(&seq) {
            blocked.refusals += 1;
            blocked.probing = false;
            let pause = Duration::from_millis(100).saturating_mul(1 << blocked.refusals.min(8));
            blocked.until = now + pause.min(Duration::from_secs(10));
        }
        // It went through for a while, and not all that waited has left.
        let slots = &self.slots;
        self.again.retain(|waiting| {
            let at = slots.binary_search_by_key(waiting, |slot| slot.entry.seq);
            let same = at.is_ok_and(|at| slots[at].entry.subject == slots[refused].entry.subject);
            if same && at.is_ok_and(|at| slots[at].state == State::Stuck) {
                blocked.line_up(*waiting);
            }
            !same
        });
        Some(Refused { refusals: blocked.refusals })
    }

    /// The connection broke: everything that is not done is sent again, from the first on.
    pub fn start_again(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            slot.sent_before |= slot.state == State::InFlight;
            slot.doubtful |= slot.sent_before && slot.state != State::Done;
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
    pub fn doubtful(&mut self, now: Instant) -> Vec<Pending> {
        if self.stale_from.is_some_and(|from| from <= now) {
            self.stale_from = None;
            for slot in self.slots.iter_mut().filter(|slot| slot.sent_before && !slot.doubtful) {
                if slot.is_stale(now) {
                    slot.doubtful = true;
                    self.doubts |= slot.state == State::Unsent;
                } else if let Some(at) = slot.asked {
                    let from = self.stale_from.get_or_insert(at + GOOD);
                    *from = (*from).min(at + GOOD);
                }
            }
        }
        let in_doubt = |seq: &i64| self.index(*seq).is_some_and(|at| self.slots[at].doubtful);
        let leaving: Vec<i64> = self.leaving(now).filter(in_doubt).collect();
        if !self.doubts && leaving.is_empty() {
            return Vec::new();
        }
        let open = |slot: &&Slot| slot.doubtful && slot.state == State::Unsent;
        self.doubts = self.slots.iter().any(|slot| open(&slot));
        let asked = self.slots.iter().filter(open).map(|slot| slot.entry.clone());
        asked.chain(leaving.iter().filter_map(|seq| self.entry(*seq)).cloned()).collect()
    }

    /// The stream was asked for an entry; it is no longer in doubt, for a while.
    pub fn resolved(&mut self, seq: i64, stored: bool, now: Instant) {
        if stored {
            self.done(seq);
        } else if let Some(at) = self.index(seq) {
            self.slots[at].doubtful = false;
            self.slots[at].asked = Some(now);
            self.stale_from.get_or_insert(now + GOOD);
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "log_properties.rs"]
mod properties;
