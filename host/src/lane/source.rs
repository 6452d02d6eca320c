//! What of a stream is in hand: which messages were delivered, which are done, and up to where all of
//! them are. Redeliveries are told from new messages by it, before they reach a lane.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One stream as one handler consumes it: which of its messages are in hand and which are done.
#[derive(Debug)]
pub struct Source {
    pub stream: String,
    /// Unix seconds: tells a stream from a later one of the same name.
    pub created: i64,
    /// Everything up to here was handled.
    floor: AtomicU64,
    /// Its messages have keys: this process alone consumes it, in order and without gaps, and the
    /// floor means something. Otherwise others may have in hand what is below any floor.
    ordered: bool,
    in_hand: Mutex<VecDeque<InHand>>,
}

#[derive(Debug)]
struct InHand {
    sequence: u64,
    /// When the stream stored it, in milliseconds since the Unix epoch: tells it from a later message
    /// that a stream which lost its end gives the same sequence.
    stored_at: u64,
    done: bool,
    since: Instant,
    reply: String,
}

/// What to do with a message that the stream delivered.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was not seen before: handle it.
    New,
    /// It is being handled right now: drop this copy.
    InHand,
    /// It was handled: acknowledge it again.
    Done,
}

impl Source {
    pub fn new(stream: String, created: i64, floor: u64, ordered: bool) -> Self {
        let in_hand = Mutex::new(VecDeque::new());
        let floor = AtomicU64::new(if ordered { floor } else { 0 });
        Source { stream, created, floor, ordered, in_hand }
    }

    /// Notes that everything up to `floor` was handled, by an earlier process.
    pub fn advance(&self, floor: u64) {
        if self.ordered {
            self.floor.fetch_max(floor, Ordering::AcqRel);
        }
    }

    /// Takes a delivered message in hand, unless it is there already. Whether one below the floor was
    /// handled is for the inbox to say: a stream that lost its end gives sequences a second time. For
    /// the same reason a message is known by its sequence and by when it was stored (milliseconds
    /// since the Unix epoch): another one of the same sequence takes the place of the one in hand.
    pub fn admit(&self, sequence: u64, stored_at: u64, reply: &str, now: Instant) -> Admission {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        match in_hand.binary_search_by_key(&sequence, |m| m.sequence) {
            Ok(at) if in_hand[at].stored_at != stored_at => {
                let reply = reply.to_owned();
                in_hand[at] = InHand { sequence, stored_at, done: false, since: now, reply };
                Admission::New
            }
            Ok(at) if in_hand[at].done => Admission::Done,
            Ok(at) => {
                in_hand[at].reply = reply.to_owned();
                Admission::InHand
            }
            Err(at) => {
                let reply = reply.to_owned();
                let new = InHand { sequence, stored_at, done: false, since: now, reply };
                in_hand.insert(at, new);
                Admission::New
            }
        }
    }

    /// Marks a message as handled and moves the floor past what is handled without a gap; returns
    /// where its acknowledgement goes, by its latest delivery. Nothing for one that is not in hand,
    /// and whose sequence another message may have by now.
    pub fn done(&self, sequence: u64, stored_at: u64) -> Option<String> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let at = in_hand.binary_search_by_key(&sequence, |m| m.sequence).ok()?;
        if in_hand[at].stored_at != stored_at {
            return None;
        }
        let reply = std::mem::take(&mut in_hand[at].reply);
        in_hand[at].done = true;
        if !self.ordered {
            in_hand.remove(at);
        }
        while in_hand.front().is_some_and(|m| m.done) {
            if let Some(message) = in_hand.pop_front() {
                self.floor.fetch_max(message.sequence, Ordering::AcqRel);
            }
        }
        Some(reply)
    }

    /// The stream has given no sequence after `last` so far, though some of them were in hand: it lost
    /// its end, and what comes under these sequences is new. Returns whether that was so.
    pub fn went_back(&self, last: u64) -> bool {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = in_hand.partition_point(|m| m.sequence <= last);
        let lost = self.floor() > last || kept < in_hand.len();
        in_hand.truncate(kept);
        self.floor.fetch_min(last, Ordering::AcqRel);
        lost
    }

    /// Everything up to this sequence was handled.
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    /// How many messages are in hand or wait for an earlier one to be done.
    pub fn in_hand(&self) -> usize {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Reply subjects of messages that have been in hand since before `since` and are not done; their
    /// clock is set to `now`.
    pub fn overdue(&self, since: Instant, now: Instant) -> Vec<String> {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut replies = Vec::new();
        for message in in_hand.iter_mut().filter(|m| !m.done && m.since < since) {
            message.since = now;
            replies.push(message.reply.clone());
        }
        replies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(source: &Source, sequence: u64) -> Admission {
        source.admit(sequence, 0, &format!("reply-{sequence}"), Instant::now())
    }

    #[test]
    fn the_floor_moves_past_what_is_done_without_a_gap() {
        let source = Source::new("S".into(), 0, 10, true);
        for sequence in [11, 13, 14] {
            assert_eq!(admit(&source, sequence), Admission::New);
        }
        source.done(13, 0);
        assert_eq!((source.floor(), source.in_hand()), (10, 3));
        assert_eq!(admit(&source, 13), Admission::Done);
        assert_eq!(admit(&source, 11), Admission::InHand);
        source.done(11, 0);
        assert_eq!((source.floor(), source.in_hand()), (13, 1));
    }

    #[test]
    fn what_is_below_the_floor_is_left_to_the_inbox() {
        let source = Source::new("S".into(), 0, 10, true);
        assert_eq!(admit(&source, 9), Admission::New);
        assert_eq!(source.done(9, 0).as_deref(), Some("reply-9"));
        assert_eq!((source.floor(), source.in_hand()), (10, 0));
    }

    #[test]
    fn sequences_that_are_given_again_are_new() {
        let source = Source::new("S".into(), 0, 10, true);
        for sequence in [11, 12, 13] {
            admit(&source, sequence);
        }
        source.done(12, 0);
        assert!(!source.went_back(13));
        assert!(source.went_back(11));
        assert_eq!(admit(&source, 11), Admission::InHand);
        assert_eq!(admit(&source, 12), Admission::New);
        assert!(source.went_back(5));
        assert_eq!((source.floor(), source.in_hand()), (5, 0));
        assert_eq!(source.done(12, 0), None, "an old turn acknowledges nothing of the new ones");
    }

    #[test]
    fn what_is_stored_later_under_a_sequence_in_hand_is_another_message() {
        for ordered in [true, false] {
            let source = Source::new("S".into(), 0, 0, ordered);
            assert_eq!(source.admit(1, 7, "old", Instant::now()), Admission::New);
            assert_eq!(source.admit(1, 9, "new", Instant::now()), Admission::New);
            assert_eq!(source.done(1, 7), None, "the old one acknowledges nothing of the new one");
            assert_eq!(source.in_hand(), 1);
            assert_eq!(source.done(1, 9).as_deref(), Some("new"));
        }
    }

    #[test]
    fn without_order_nothing_is_concluded_from_a_sequence() {
        let source = Source::new("S".into(), 0, 10, false);
        assert_eq!(admit(&source, 5), Admission::New);
        assert_eq!(source.done(5, 0).as_deref(), Some("reply-5"));
        assert_eq!(admit(&source, 5), Admission::New);
        assert_eq!(source.floor(), 0);
    }

    #[test]
    fn the_latest_delivery_is_acknowledged() {
        let source = Source::new("S".into(), 0, 0, true);
        source.admit(1, 0, "first", Instant::now());
        source.admit(1, 0, "second", Instant::now());
        assert_eq!(source.done(1, 0).as_deref(), Some("second"));
    }
}
