//! Any order of what can happen to a log, beside a table, a stream and a connection in a few lines.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Entries of these subjects are committed; the relay is told, or is told how far the log goes.
    Commit {
        subjects: Vec<u8>,
        announced: bool,
    },
    Read,
    Send(usize),
    /// One that is in flight is stored, refused, or refused and set aside.
    Stored(usize),
    Refused(usize),
    SetAside(usize),
    /// Of what was in flight some is stored all the same: a bit for each.
    Break(u16),
    Resolve,
    /// Seconds.
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let subjects = vec(0_u8..3, 1..5);
    prop_oneof![
        4 => (subjects, any::<bool>())
            .prop_map(|(subjects, announced)| Step::Commit { subjects, announced }),
        4 => proptest::strategy::Just(Step::Read),
        6 => (1_usize..5).prop_map(Step::Send),
        6 => (0_usize..8).prop_map(Step::Stored),
        2 => (0_usize..8).prop_map(Step::Refused),
        1 => (0_usize..8).prop_map(Step::SetAside),
        2 => any::<u16>().prop_map(Step::Break),
        4 => proptest::strategy::Just(Step::Resolve),
        2 => (0_u8..40).prop_map(Step::Pass),
    ]
}

/// The world around a log.
struct Around {
    log: WriterLog,
    now: Instant,
    table: BTreeMap<i64, Pending>,
    in_flight: Vec<i64>,
    /// What the stream has, or was set aside: an entry that is here is done.
    done: BTreeSet<i64>,
    /// May be in the stream without the log's knowledge.
    maybe: BTreeSet<i64>,
    /// When the stream was asked for one that may be there, and did not have it.
    asked: BTreeMap<i64, Instant>,
    published: i64,
}

type Checked = Result<(), proptest::test_runner::TestCaseError>;

impl Around {
    fn new(before: u8, capacity: usize) -> Around {
        let mut around = Around {
            log: WriterLog::new(0, i64::from(before), capacity),
            now: Instant::now(),
            table: BTreeMap::new(),
            in_flight: Vec::new(),
            done: BTreeSet::new(),
            maybe: BTreeSet::new(),
            asked: BTreeMap::new(),
            published: 0,
        };
        for n in 0..before {
            let entry = around.entry(n % 3);
            around.maybe.insert(entry.seq);
            around.table.insert(entry.seq, entry);
        }
        around
    }

    fn last(&self) -> i64 {
        i64::try_from(self.table.len()).expect("few")
    }

    fn entry(&self, subject: u8) -> Pending {
        let seq = self.last() + 1;
        Pending {
            seq,
            id: seq.to_string(),
            subject: subject.to_string(),
            headers: String::new(),
            payload: Bytes::from(seq.to_string()),
            committed_at: 0,
            expires_at: None,
        }
    }

    fn take(&self, after: i64, limit: usize) -> Vec<Pending> {
        self.table.range(after + 1..).take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    fn step(&mut self, step: &Step) -> Checked {
        match step {
            Step::Commit { subjects, announced } => {
                let mut entries = Vec::new();
                for subject in subjects {
                    let entry = self.entry(*subject);
                    self.table.insert(entry.seq, entry.clone());
                    entries.push(entry);
                }
                if *announced {
                    self.log.announce(entries);
                } else {
                    self.log.goes_to(self.last());
                }
            }
            Step::Read => self.read(),
            Step::Send(count) => {
                for _ in 0..*count {
                    self.send()?;
                }
            }
            Step::Stored(at) => {
                if let Some(seq) = self.answered(*at) {
                    self.done.insert(seq);
                    self.log.stored(seq, self.now);
                }
            }
            Step::Refused(at) => {
                if let Some(seq) = self.answered(*at) {
                    prop_assert!(self.log.refused(seq, self.now).is_some());
                }
            }
            Step::SetAside(at) => {
                if let Some(seq) = self.answered(*at) {
                    self.log.refused(seq, self.now);
                    self.done.insert(seq);
                    self.log.set_aside(seq, self.now);
                }
            }
            Step::Break(stored) => {
                for (n, seq) in std::mem::take(&mut self.in_flight).into_iter().enumerate() {
                    self.maybe.insert(seq);
                    if stored & (1 << (n % 16)) != 0 {
                        self.done.insert(seq);
                    }
                }
                self.asked.clear();
                self.log.start_again(self.now);
            }
            Step::Resolve => self.resolve(),
            Step::Pass(seconds) => self.now += Duration::from_secs(u64::from(*seconds)),
        }
        self.check()
    }

    fn read(&mut self) {
        if let Some((after, limit)) = self.log.wants() {
            self.log.read(after, self.take(after, limit));
        }
        if let Some((after, limit)) = self.log.wants_bodies(self.now) {
            self.log.fill(self.take(after, limit));
        }
    }

    fn answered(&mut self, at: usize) -> Option<i64> {
        let seq = (at < self.in_flight.len()).then(|| self.in_flight.remove(at))?;
        self.maybe.remove(&seq);
        Some(seq)
    }

    fn resolve(&mut self) {
        for entry in self.log.doubtful(self.now) {
            let stored = self.done.contains(&entry.seq);
            self.log.resolved(entry.seq, stored, self.now);
            self.asked.insert(entry.seq, self.now);
        }
    }

    /// Whatever leaves is whole, not in doubt, and behind all that came before it of its subject.
    fn send(&mut self) -> Checked {
        let Some(entry) = self.log.send(self.now).cloned() else { return Ok(()) };
        let seq = entry.seq;
        prop_assert_eq!(&entry, &self.table[&seq]);
        prop_assert!(!self.in_flight.contains(&seq), "{} is in flight twice", seq);
        let lately = |at: &Instant| self.now - *at < GOOD;
        let known = self.asked.get(&seq).is_some_and(lately);
        prop_assert!(known || !self.maybe.contains(&seq), "{} is sent in doubt", seq);
        for (earlier, other) in self.table.range(..seq) {
            let behind = other.subject != entry.subject
                || self.done.contains(earlier)
                || self.in_flight.contains(earlier);
            prop_assert!(behind, "{} overtakes {}", seq, earlier);
        }
        self.in_flight.push(seq);
        Ok(())
    }

    fn check(&mut self) -> Checked {
        let published = self.log.published();
        prop_assert!(published >= self.published, "the cursor went back");
        for seq in self.published + 1..=published {
            prop_assert!(self.done.contains(&seq), "the cursor passed {}, which is not done", seq);
        }
        self.published = published;
        Ok(())
    }

    /// With nothing more in the way, everything is published.
    fn finish(&mut self) -> Checked {
        for _ in 0..200 {
            self.now += Duration::from_secs(11);
            self.step(&Step::Resolve)?;
            self.step(&Step::Read)?;
            self.step(&Step::Send(16))?;
            while !self.in_flight.is_empty() {
                self.step(&Step::Stored(0))?;
            }
        }
        prop_assert_eq!(self.log.published(), self.last());
        prop_assert_eq!(self.log.backlog(), 0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_passed_overtaken_or_sent_in_doubt(
        before in 0_u8..6,
        capacity in 2_usize..12,
        steps in vec(step(), 0..120),
    ) {
        let mut around = Around::new(before, capacity);
        for step in &steps {
            around.step(step)?;
        }
        around.finish()?;
    }
}
