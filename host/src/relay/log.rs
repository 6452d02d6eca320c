//! One writer's log on its way into the streams: what is unsent, in flight, stuck and done. Pure: no
//! clock and no I/O of its own.
//!
//! The order of a log is kept: entries leave in order, a broken connection sends everything again
//! from the first one that is not acknowledged, and an entry that its stream refuses holds back the
//! later ones of its subject alone.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

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
}

/// A subject whose stream refuses.
#[derive(Debug)]
struct Blocked {
    /// Sequences that wait, in order.
    queue: VecDeque<i64>,
    refusals: u32,
    until: Instant,
    probing: bool,
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
    blocked: HashMap<String, Blocked>,
    capacity: usize,
    /// Entries read from here on may have been sent by an earlier process, up to this one.
    doubtful_to: i64,
    /// Whether any entry may be in doubt.
    doubts: bool,
}

/// What refusing an entry came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// How often its subject was refused in a row.
    pub refusals: u32,
}

impl WriterLog {
    /// A log whose entries up to `published` are done and that goes up to `last`; it keeps at most
    /// `capacity` entries in memory. What it has beyond `published` may have been sent before.
    pub fn new(published: i64, last: i64, capacity: usize) -> Self {
        WriterLog {
            published,
            last,
            slots: VecDeque::new(),
            next: 0,
            again: VecDeque::new(),
            blocked: HashMap::new(),
            capacity,
            doubtful_to: last,
            doubts: false,
        }
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
            if follows && self.slots.len() < self.capacity {
                self.slots.push_back(Slot { entry, state: State::Unsent, doubtful: false });
            }
        }
    }

    /// Where to read the table from, if there is more in it than here and room for it: (after,
    /// limit).
    pub fn wants(&self) -> Option<(i64, usize)> {
        let room = self.capacity - self.slots.len().min(self.capacity);
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
            let doubtful = entry.seq <= self.doubtful_to;
            self.doubts |= doubtful;
            self.slots.push_back(Slot { entry, state: State::Unsent, doubtful });
        }
    }

    fn index(&self, seq: i64) -> Option<usize> {
        self.slots.binary_search_by_key(&seq, |slot| slot.entry.seq).ok()
    }

    /// An entry that is not done.
    pub fn entry(&self, seq: i64) -> Option<&Pending> {
        self.index(seq).map(|at| &self.slots[at].entry)
    }

    /// The next entry to send, which is in flight from now on.
    pub fn send(&mut self, now: Instant) -> Option<&Pending> {
        if let Some(seq) = self.probe(now).or_else(|| self.again.pop_front()) {
            let at = self.index(seq)?;
            self.slots[at].state = State::InFlight;
            return Some(&self.slots[at].entry);
        }
        while self.next < self.slots.len() {
            let at = self.next;
            self.next += 1;
            if self.slots[at].state != State::Unsent {
                continue;
            }
            let slot = &mut self.slots[at];
            if let Some(blocked) = self.blocked.get_mut(&slot.entry.subject) {
                slot.state = State::Stuck;
                blocked.queue.push_back(slot.entry.seq);
                continue;
            }
            slot.state = State::InFlight;
            return Some(&self.slots[at].entry);
        }
        None
    }

    /// The first entry of a refused subject whose time has come.
    fn probe(&mut self, now: Instant) -> Option<i64> {
        let ready = |b: &&mut Blocked| !b.probing && b.until <= now && !b.queue.is_empty();
        let blocked = self.blocked.values_mut().find(ready)?;
        blocked.probing = true;
        blocked.queue.front().copied()
    }

    /// An entry is done: stored, expired, or set aside.
    pub fn done(&mut self, seq: i64) {
        let Some(at) = self.index(seq) else { return };
        self.slots[at].state = State::Done;
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

    /// An entry was stored: its subject goes through.
    pub fn stored(&mut self, seq: i64) {
        if let Some(at) = self.index(seq)
            && let Some(mut blocked) = self.blocked.remove(&self.slots[at].entry.subject)
        {
            blocked.queue.retain(|waiting| *waiting != seq);
            self.again.extend(blocked.queue);
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
        self.slots[at].state = State::Stuck;
        let subject = self.slots[at].entry.subject.clone();
        let blocked = self.blocked.entry(subject).or_insert_with(|| Blocked {
            queue: VecDeque::new(),
            refusals: 0,
            until: now,
            probing: true,
        });
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
    pub fn start_again(&mut self) {
        for slot in &mut self.slots {
            slot.doubtful |= slot.state == State::InFlight;
            self.doubts |= slot.doubtful;
            if slot.state != State::Done {
                slot.state = State::Unsent;
            }
        }
        self.next = 0;
        self.again.clear();
        self.blocked.clear();
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
mod tests {
    use super::*;

    fn entry(seq: i64, subject: &str) -> Pending {
        Pending {
            seq,
            id: format!("id-{seq}"),
            subject: subject.to_owned(),
            headers: String::new(),
            payload: Bytes::new(),
            committed_at: seq * 1_000,
            expires_at: None,
        }
    }

    fn sent(log: &mut WriterLog, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| log.send(now).map(|entry| entry.seq)).collect()
    }

    fn doubtful(log: &mut WriterLog) -> Vec<i64> {
        log.doubtful().into_iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn entries_leave_in_order_and_the_cursor_follows_without_gaps() {
        let now = Instant::now();
        let mut log = WriterLog::new(0, 0, 10);
        log.announce(vec![entry(1, "a"), entry(2, "b"), entry(3, "a")]);
        assert_eq!(sent(&mut log, now), [1, 2, 3]);
        log.stored(2);
        assert_eq!(log.published(), 0);
        log.stored(1);
        assert_eq!(log.published(), 2);
        log.stored(3);
        assert_eq!((log.published(), log.backlog()), (3, 0));
    }

    #[test]
    fn a_broken_connection_sends_again_what_was_not_stored() {
        let now = Instant::now();
        let mut log = WriterLog::new(0, 0, 10);
        log.announce(vec![entry(1, "a"), entry(2, "a"), entry(3, "a")]);
        sent(&mut log, now);
        log.stored(2);
        log.start_again();
        assert_eq!(doubtful(&mut log), [1, 3]);
        assert_eq!(sent(&mut log, now), [1, 3]);
    }

    #[test]
    fn a_refused_subject_holds_back_itself_alone_and_keeps_its_order() {
        let now = Instant::now();
        let mut log = WriterLog::new(0, 0, 10);
        log.announce(vec![entry(1, "a"), entry(2, "b"), entry(3, "a")]);
        assert_eq!(sent(&mut log, now), [1, 2, 3]);
        assert_eq!(log.refused(1, now), Some(Refused { refusals: 1 }));
        log.stored(2);
        assert_eq!(log.refused(3, now), Some(Refused { refusals: 1 }));
        log.announce(vec![entry(4, "a"), entry(5, "b")]);
        assert_eq!(sent(&mut log, now), [5]);
        let later = now + Duration::from_secs(60);
        assert_eq!(sent(&mut log, later), [1]);
        assert_eq!(log.refused(1, later), Some(Refused { refusals: 2 }));
        let later = later + Duration::from_secs(60);
        assert_eq!(sent(&mut log, later), [1]);
        log.stored(1);
        assert_eq!(sent(&mut log, later), [3, 4]);
        log.stored(5);
        log.stored(3);
        log.stored(4);
        assert_eq!((log.published(), log.backlog()), (5, 0));
    }

    #[test]
    fn what_is_set_aside_lets_the_next_of_its_subject_try() {
        let now = Instant::now();
        let mut log = WriterLog::new(0, 0, 10);
        log.announce(vec![entry(1, "a"), entry(2, "a")]);
        sent(&mut log, now);
        log.refused(1, now);
        log.refused(2, now);
        log.set_aside(1, now);
        assert_eq!(log.published(), 1);
        assert_eq!(sent(&mut log, now), [2]);
        log.set_aside(2, now);
        assert_eq!((log.published(), log.backlog()), (2, 0));
    }

    #[test]
    fn what_does_not_fit_or_follow_is_read_from_the_table() {
        let now = Instant::now();
        let mut log = WriterLog::new(0, 0, 4);
        log.announce((1..=6).map(|seq| entry(seq, "a")).collect());
        assert_eq!(sent(&mut log, now), [1, 2, 3, 4]);
        assert_eq!(log.wants(), None);
        (1..=4).for_each(|seq| log.stored(seq));
        assert_eq!(log.wants(), Some((4, 4)));
        log.announce(vec![entry(7, "a")]);
        log.read(4, vec![entry(5, "a"), entry(6, "a"), entry(7, "a")]);
        assert_eq!(sent(&mut log, now), [5, 6, 7]);
        assert_eq!(log.wants(), None);
    }

    #[test]
    fn entries_of_an_earlier_process_are_in_doubt_until_resolved() {
        let now = Instant::now();
        let mut log = WriterLog::new(2, 4, 10);
        assert_eq!(log.wants(), Some((2, 10)));
        log.read(2, vec![entry(3, "a"), entry(4, "a")]);
        log.announce(vec![entry(5, "a")]);
        assert_eq!(doubtful(&mut log), [3, 4]);
        log.resolved(3, true);
        log.resolved(4, false);
        assert_eq!(doubtful(&mut log), [0; 0]);
        assert_eq!(sent(&mut log, now), [4, 5]);
    }
}
