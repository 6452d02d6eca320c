//! Tests of chains: what a turn does with a message that came through too many handlers, and what it
//! writes on all that handlers send.

use std::collections::HashSet;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use super::batch::{Batch, Member};
use super::handle::{Fate, Rules, handle};
use super::policy::Policy;
use super::ports::{
    Delivery, Handler, ListRange, Log, ParkedMessage, ParkedState, Reader, Row, Source,
};
use super::snapshot::Snapshot;
use super::write::{self, Written};
use crate::model::{
    self, Call, Description, Documents, Due, Effects, Header, InboxKey, KeySource, Message,
    Outgoing, Subscription, Unreadable, Verdict,
};

/// Sends a message at once, a delayed one, a named one and a transient one.
struct Sender(Description);

impl Handler for Sender {
    fn description(&self) -> &Description {
        &self.0
    }

    fn call(&self, _: &Message, _: Arc<Mutex<dyn Documents>>) -> Call {
        let outgoing = |due: Option<Due>, name: Option<&str>| Outgoing {
            subject: "out".into(),
            headers: vec![Header { name: "A".into(), value: "b".into() }],
            payload: bytes::Bytes::new(),
            delivery: model::Delivery::Durable,
            due,
            expires_after: None,
            schedule_name: name.map(str::to_owned),
        };
        let mut messages = vec![
            outgoing(None, None),
            outgoing(Some(Due::After(1)), None),
            outgoing(Some(Due::At(1)), Some("tea")),
            outgoing(None, None),
        ];
        messages[3].delivery = model::Delivery::Transient;
        let effects = Effects { messages, ..Effects::default() };
        Call { verdict: Ok(Verdict::Effects(effects)), fuel: 0, memory: 0 }
    }
}

fn sender() -> Sender {
    let subject = "in.*".to_owned();
    let key = KeySource::SubjectToken(1);
    Sender(Description {
        name: "sender".to_owned(),
        version: "1".to_owned(),
        subscriptions: vec![Subscription { subject, key, read_ahead: Vec::new() }],
        collections: Vec::new(),
        publishes: vec!["out".to_owned()],
    })
}

struct Nothing;

impl Reader for Nothing {
    fn document(&self, _: &str, _: &str) -> Result<Option<Row>, Unreadable> {
        Ok(None)
    }

    fn list(&self, _: &ListRange, _: i64) -> Result<Vec<Row>, Unreadable> {
        Ok(Vec::new())
    }
}

fn message(hops: u32) -> Message {
    let header = |name: &str, value: String| Header { name: name.to_owned(), value };
    let mut headers = vec![header("Other", "9".to_owned())];
    if hops > 0 {
        headers.push(header("Tribox-Hops", hops.to_string()));
        headers.push(header("Tribox-Via", "first, sender".to_owned()));
    }
    Message {
        id: format!("m-{hops}"),
        subject: "in.7".to_owned(),
        key: Some("7".to_owned()),
        headers,
        payload: bytes::Bytes::new(),
        stored_at: 0,
    }
}

fn arrived(hops: u32) -> Member {
    let source = Arc::new(Source::new("S".to_owned(), 0, 0, true));
    let delivery = Delivery {
        message: message(hops),
        unroutable: None,
        source,
        sequence: u64::from(hops) + 1,
        redelivered: false,
    };
    Member::arrived("sender", delivery)
}

fn taken_up(hops: u32) -> Member {
    Member::taken_up(ParkedMessage {
        id: 1,
        asked: 0,
        attempts: 0,
        due: true,
        inbox_key: InboxKey::new("sender", &format!("m-{hops}")),
        message: message(hops),
    })
}

/// A turn with these messages, of a handler that takes what came through three handlers.
fn turn(members: Vec<Member>, policy: &Policy, held: &[&str]) -> (Vec<Fate>, Written) {
    let sender = sender();
    let held: HashSet<String> = held.iter().map(|key| (*key).to_owned()).collect();
    let known = HashSet::new();
    let rules = Rules { handler: &sender, policy, held: &held, known: &known, now: 0 };
    let batch = Batch { members, ..Batch::default() };
    let handled = handle(&rules, &batch, Snapshot::new(Arc::new(Nothing))).expect("readable");
    let log = Log { writer: 1, fence: 1, last: 0, published: Arc::new(AtomicI64::new(0)) };
    let source =
        write::Source { handler: "sender", component: 1, log: &log, announce: Some("dead") };
    let written = write::write(&source, &batch, &handled);
    (handled.fates, written)
}

fn three() -> Policy {
    Policy { hops: 3, ..Policy::default() }
}

#[test]
fn all_that_a_handler_sends_says_through_how_many_it_came() {
    for (hops, count, via) in [(0, 1, "sender"), (3, 4, "first, sender")] {
        let (_, written) = turn(vec![arrived(hops)], &three(), &[]);
        let commit = &written.commit;
        let sent = commit.entries.iter().chain(&written.transient).map(|entry| &entry.headers);
        let all: Vec<&String> = sent.chain(commit.scheduled.iter().map(|s| &s.headers)).collect();
        let expected = format!("Tribox-Hops: {count}\nTribox-Via: {via}\nA: b\n");
        assert_eq!(all, vec![&expected; 4]);
    }
}

#[test]
fn what_came_through_too_many_is_dead_and_so_told() {
    let (fates, written) = turn(vec![arrived(4), arrived(3)], &three(), &[]);
    let Fate::Parked(parking) = &fates[0] else { panic!("{fates:?}") };
    assert_eq!((parking.state, parking.reason), (ParkedState::Dead, "loop"));
    assert!(parking.error.contains("first, sender may send one another"), "{}", parking.error);
    assert!(matches!(fates[1], Fate::Handled(_)), "its key goes on: {fates:?}");
    let told = &written.commit.entries[0];
    assert_eq!(told.subject, "dead");
    let lines = "Tribox-Hops: 5\nTribox-Via: first, sender\nContent-Type: application/json\n";
    assert_eq!(told.headers, lines, "a loop through deaths ends as well");
}

#[test]
fn it_is_dead_in_its_turn_where_its_key_waits_and_holds_it_where_that_is_wanted() {
    let (fates, _) = turn(vec![arrived(4), arrived(3)], &three(), &["7"]);
    let state = |fate: &Fate| match fate {
        Fate::Parked(parking) => Some(parking.state),
        _ => None,
    };
    let states: Vec<_> = fates.iter().map(state).collect();
    assert_eq!(states, [Some(ParkedState::Dead), Some(ParkedState::Waiting)]);
    let hold = Policy { hold: true, ..three() };
    let (fates, _) = turn(vec![arrived(4), arrived(3)], &hold, &[]);
    let states: Vec<_> = fates.iter().map(state).collect();
    assert_eq!(states, [Some(ParkedState::Holding), Some(ParkedState::Waiting)]);
}

#[test]
fn what_is_taken_up_again_goes_on() {
    let (fates, written) = turn(vec![taken_up(4)], &three(), &[]);
    assert!(matches!(fates[0], Fate::Handled(_)), "{fates:?}");
    assert!(written.commit.entries[0].headers.starts_with("Tribox-Hops: 5\n"));
}
