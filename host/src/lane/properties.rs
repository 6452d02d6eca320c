//! Properties of what a lane goes by: documents in a turn, what is in hand, pauses, ranges. Each
//! against the plainest way to say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::policy::Policy;
use super::ports::{Admission, ListRange, ParkedState, Reader, Row, Source};
use super::snapshot::{Changes, Snapshot, prefix_end};
use crate::model::{Document, Documents, Failure, InboxKey, Mutation, Trap, Unreadable};

/// Rows by key: version and body.
type Table = BTreeMap<String, (i64, Option<String>)>;

/// A table.
struct InMemory {
    table: Table,
}

impl InMemory {
    fn row(&self, collection: &str, key: &str) -> Option<Row> {
        let (version, body) = self.table.get(key)?;
        let body = body.as_deref().map(Arc::from);
        let (collection, key) = (collection.to_owned(), key.to_owned());
        Some(Row { collection, key, version: *version, body })
    }
}

impl Reader for InMemory {
    fn document(&self, collection: &str, key: &str) -> Result<Option<Row>, Unreadable> {
        Ok(self.row(collection, key))
    }

    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let within = |key: &&String| {
            **key >= range.from
                && range.until.as_ref().is_none_or(|until| *key < until)
                && range.after.as_ref().is_none_or(|after| *key > after)
        };
        let rows = self.table.keys().filter(within).filter_map(|key| self.row("c", key));
        Ok(rows.filter(|row| row.body.is_some()).take(limit).collect())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Get(String),
    List { prefix: String, after: Option<String>, limit: u32 },
    Put(String, u8),
    Delete(String),
}

fn key() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        key().prop_map(Step::Get),
        ("[ab]{0,2}", proptest::option::of(key()), 0_u32..8)
            .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit }),
        (key(), any::<u8>()).prop_map(|(key, n)| Step::Put(key, n)),
        key().prop_map(Step::Delete),
    ]
}

/// What the commit of a turn makes of the table; nothing if something is not as it was.
fn committed(mut table: Table, changes: &Changes) -> Option<Table> {
    let version = |table: &Table, key: &str| table.get(key).map_or(0, |(version, _)| *version);
    let body = |row: &Row| row.body.as_deref().map(str::to_owned);
    let known = changes.updates.iter().chain(&changes.creates).chain(&changes.reads);
    if known.into_iter().any(|row| version(&table, &row.key) != row.version) {
        return None;
    }
    for row in changes.updates.iter().chain(&changes.creates) {
        table.insert(row.key.clone(), (row.version + 1, body(row)));
    }
    for row in &changes.blind {
        let version = version(&table, &row.key);
        table.insert(row.key.clone(), (version + 1, body(row)));
    }
    Some(table)
}

fn live(table: &Table) -> BTreeMap<String, String> {
    let live = table.iter().filter_map(|(key, (_, body))| Some((key.clone(), body.clone()?)));
    live.collect()
}

fn put(key: &str, body: String) -> Mutation {
    Mutation::Put(Document { collection: "c".into(), key: key.into(), body })
}

proptest! {
    #[test]
    fn a_turn_sees_its_own_writes_over_the_table_and_commits_just_these(
        table in btree_map(key(), (1_i64..5, proptest::option::of("[0-9]{1,2}")), 0..8),
        ahead in vec(key(), 0..4),
        steps in vec(step(), 0..30),
    ) {
        let reader = Arc::new(InMemory { table: table.clone() });
        let mut snapshot = Snapshot::new(Arc::clone(&reader) as Arc<dyn Reader>);
        for key in &ahead {
            let absent = Row { collection: "c".into(), key: key.clone(), version: 0, body: None };
            snapshot.preload(&reader.row("c", key).unwrap_or(absent));
        }
        let mut expected = live(&table);
        let mut read = BTreeSet::new();
        for step in &steps {
            match step {
                Step::Get(key) => {
                    read.insert(key.clone());
                    let found = snapshot.get("c", key).expect("readable");
                    prop_assert_eq!(&found, &expected.get(key).cloned());
                }
                Step::List { prefix, after, limit } => {
                    let found = snapshot.list("c", prefix, after.as_deref(), *limit);
                    let found: Vec<(String, String)> =
                        found.expect("readable").into_iter().map(|d| (d.key, d.body)).collect();
                    let within = |(key, _): &(&String, &String)| {
                        key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after)
                    };
                    let all = expected.iter().filter(within).take(*limit as usize);
                    let all: Vec<_> = all.map(|(k, b)| (k.clone(), b.clone())).collect();
                    read.extend(all.iter().map(|(key, _)| key.clone()));
                    prop_assert_eq!(found, all);
                }
                Step::Put(key, n) => {
                    snapshot.apply(&[put(key, n.to_string())]);
                    expected.insert(key.clone(), n.to_string());
                }
                Step::Delete(key) => {
                    let (collection, key) = ("c".to_owned(), key.clone());
                    expected.remove(&key);
                    snapshot.apply(&[Mutation::Delete { collection, key }]);
                }
            }
        }
        prop_assert!(!snapshot.torn());
        let changes = snapshot.changes();
        let after = committed(table.clone(), &changes).expect("nobody else changed anything");
        prop_assert_eq!(live(&after), expected);
        // Whoever changes what was read, and not only written, stops the commit.
        let known = changes.updates.iter().chain(&changes.creates).chain(&changes.reads);
        let known: BTreeSet<&str> = known.map(|row| row.key.as_str()).collect();
        let blind: BTreeSet<&str> = changes.blind.iter().map(|row| row.key.as_str()).collect();
        for key in &read {
            prop_assert!(known.contains(key.as_str()) || blind.contains(key.as_str()), "{}", key);
        }
        for key in known {
            let mut other = table.clone();
            let row = other.entry(key.to_owned()).or_insert((0, None));
            row.0 += 1;
            prop_assert!(committed(other, &changes).is_none(), "{} is not checked", key);
        }
        // What the cache keeps is what the table has then.
        for kept in snapshot.after_commit() {
            if let Some(version) = kept.version {
                let (there, body) = after.get(kept.key).cloned().unwrap_or((0, None));
                prop_assert_eq!((version, kept.body.as_deref()), (there, body.as_deref()));
            }
        }
    }

    #[test]
    fn a_prefix_ends_behind_all_its_keys(
        prefix in "\\PC{0,4}|[a\u{d7ff}\u{10ffff}]{0,4}", key in "\\PC{0,6}", tail in "\\PC{0,3}",
    ) {
        let within = |key: &str| {
            *key >= *prefix && prefix_end(&prefix).is_none_or(|end| *key < *end)
        };
        let longer = format!("{prefix}{tail}");
        prop_assert!(within(&longer));
        prop_assert_eq!(within(&key), key.starts_with(&prefix));
    }

    #[test]
    fn pauses_double_up_to_their_cap_less_a_quarter(
        backoff in 1_u64..100_000, cap in 1_u64..10_000_000, attempt in 1_i32..200,
        seed in any::<u8>(),
    ) {
        let policy = Policy {
            attempts: 1_000,
            backoff: Duration::from_millis(backoff),
            cap: Duration::from_millis(cap),
            ..Policy::default()
        };
        let decide = || policy.decide(&Failure::Retry(String::new()), attempt, InboxKey([seed; 16]));
        let pause = decide().retry_after.expect("tried again");
        let doubled = |pause: u64, _| pause.saturating_mul(2).min(cap);
        let whole = (1..attempt).fold(backoff, doubled).min(cap);
        let whole = i64::try_from(whole).expect("short");
        let least = whole - whole / 4 - 1;
        prop_assert!((least..=whole).contains(&pause), "{} of {}", pause, whole);
        prop_assert_eq!(decide(), decide());
    }

    #[test]
    fn a_message_is_tried_again_until_its_attempts_are_used_up(
        attempts in 1_i32..30, attempt in 1_i32..40, traps in any::<bool>(), hold in any::<bool>(),
        trap in prop_oneof![Just(Trap::Panic), Just(Trap::Fuel), Just(Trap::Deadline)],
    ) {
        let policy = Policy { attempts, retry_traps: traps, hold, ..Policy::default() };
        let gone = if hold { ParkedState::Holding } else { ParkedState::Dead };
        let state = |failure: Failure| policy.decide(&failure, attempt, InboxKey([0; 16])).state;
        let expected = |limit| if attempt < limit { ParkedState::Retrying } else { gone };
        prop_assert_eq!(state(Failure::Retry(String::new())), expected(attempts));
        prop_assert_eq!(state(Failure::Reject(String::new())), gone);
        let by_trap = match (traps, trap) {
            (true, _) => attempts,
            (false, Trap::Deadline) => 3,
            (false, _) => 1,
        };
        let failure = Failure::Trap { trap, detail: String::new() };
        prop_assert_eq!(state(failure), expected(by_trap));
    }
}

/// What can happen to a stream that is read.
#[derive(Debug, Clone)]
enum Delivered {
    Again(u64),
    Anew(u64),
    Done(u64),
    WentBack(u64),
    FloorIs(u64),
}

fn delivered() -> impl Strategy<Value = Delivered> {
    prop_oneof![
        6 => (1_u64..20).prop_map(Delivered::Again),
        1 => (1_u64..20).prop_map(Delivered::Anew),
        6 => (1_u64..20).prop_map(Delivered::Done),
        1 => (0_u64..20).prop_map(Delivered::WentBack),
        1 => (0_u64..4).prop_map(Delivered::FloorIs),
    ]
}

proptest! {
    #[test]
    fn the_floor_never_passes_what_is_in_hand(
        floor in 0_u64..5, ordered in any::<bool>(), steps in vec(delivered(), 0..60),
    ) {
        let source = Source::new("S".into(), 0, floor, ordered);
        // Sequences in hand, whether they are done, by which delivery they came, and the floor then.
        let mut hand: BTreeMap<u64, (bool, String, u64)> = BTreeMap::new();
        // How often a sequence was given: when its message was stored.
        let mut given: BTreeMap<u64, u64> = BTreeMap::new();
        let now = Instant::now();
        for (n, step) in steps.iter().enumerate() {
            let before = source.floor();
            match step {
                Delivered::Again(seq) => {
                    let reply = n.to_string();
                    let expected = match hand.get_mut(seq) {
                        None => Admission::New,
                        Some((true, ..)) => Admission::Done,
                        Some((false, last, _)) => {
                            last.clone_from(&reply);
                            Admission::InHand
                        }
                    };
                    let stored_at = given.get(seq).copied().unwrap_or_default();
                    prop_assert_eq!(source.admit(*seq, stored_at, &reply, now), expected);
                    hand.entry(*seq).or_insert((false, reply, before));
                }
                Delivered::Anew(seq) => {
                    let reply = n.to_string();
                    let stored_at = given.entry(*seq).or_default();
                    *stored_at += 1;
                    let admission = source.admit(*seq, *stored_at, &reply, now);
                    prop_assert_eq!(admission, Admission::New);
                    prop_assert_eq!(source.done(*seq, *stored_at - 1), None);
                    hand.insert(*seq, (false, reply, before));
                }
                Delivered::Done(seq) => {
                    let mut expected = None;
                    if let Some((done, reply, _)) = hand.get_mut(seq) {
                        *done = true;
                        expected = Some(std::mem::take(reply));
                    }
                    let stored_at = given.get(seq).copied().unwrap_or_default();
                    prop_assert_eq!(source.done(*seq, stored_at), expected);
                    if !ordered {
                        hand.remove(seq);
                    }
                    while hand.first_key_value().is_some_and(|(_, (done, ..))| *done) {
                        hand.pop_first();
                    }
                    prop_assert!(source.floor() >= before);
                }
                Delivered::WentBack(last) => {
                    let lost = hand.split_off(&(last + 1));
                    prop_assert_eq!(source.went_back(*last), before > *last || !lost.is_empty());
                    prop_assert_eq!(source.floor(), before.min(*last));
                }
                Delivered::FloorIs(floor) => {
                    // JetStream's floor is below whatever is not acknowledged.
                    let open = hand.iter().find(|(_, (done, ..))| !done);
                    source.advance(open.map_or(*floor, |(first, _)| *floor.min(&(first - 1))));
                }
            }
            prop_assert_eq!(source.in_hand(), hand.len());
            let open = hand.iter().find(|(seq, (done, _, floor))| !done && *seq > floor);
            if let Some((first, _)) = open {
                prop_assert!(source.floor() < *first, "{} is passed", first);
            }
            let open = hand.values().filter(|(done, ..)| !done);
            let open: Vec<String> = open.map(|(_, reply, _)| reply.clone()).collect();
            prop_assert_eq!(source.overdue(now + Duration::from_secs(1), now), open);
        }
    }
}
