//! What must hold after a run, by a reference that handles the messages one by one, and from what
//! stands in the streams alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use tribox::lane::ports::ParkedState;
use tribox::model::{InboxKey, Message, Verdict, outgoing_id};

use crate::database::text;
use crate::handlers::{BOOK, COUNT, Plain, TAIL, description, handle};
use crate::reader::message_of;
use crate::serial;
use crate::world::Inner;

/// Which stream each handler reads.
pub const READS: [(&str, &str); 3] = [(BOOK, "IN"), (TAIL, "NEXT"), (COUNT, "IN")];

/// What is known of a run.
pub struct Of {
    /// Everything has drained.
    pub complete: bool,
    /// A stream came late: what was set aside meanwhile stands behind what was not.
    pub late: bool,
    /// A stream was full now and then: what was in flight at the first refusal may change places.
    pub fills: bool,
}

impl Of {
    /// Whether the order of a subject is promised.
    fn orders(&self, subject: &str) -> bool {
        let out_of_order = (self.late && subject.starts_with("late."))
            || (self.fills && subject.starts_with("out."));
        !out_of_order
    }

    /// Whether a handler surely gets a message. One without keys may not get one whose sequence a lost
    /// message had: whoever has that one in hand acknowledges both (docs/GUARANTEES.md, 8).
    fn due(&self, handler: &str, told: &Told) -> bool {
        told.sequence.is_some() && !(told.again && handler == COUNT)
    }
}

/// All that is wrong.
pub fn all(world: &mut Inner, of: &Of) -> Vec<String> {
    let mut wrong = Vec::new();
    let input = input(world);
    applied_once(world, &mut wrong);
    in_order(world, &input, &mut wrong);
    if of.complete {
        nothing_lost(world, &input, of, &mut wrong);
    }
    acknowledged_after_commit(world, &input, of, &mut wrong);
    let sent = as_the_reference(world, &input, &mut wrong);
    streams(world, &sent, of, &mut wrong);
    wrong.extend(serial::check(world));
    wrong
}

/// A message as its stream had it.
struct Told {
    message: Message,
    /// Its place among all that arrived: the first time, and the last time (a stream that lost it may
    /// get it again).
    first: u64,
    last: u64,
    /// Where it stands now, unless it was lost.
    sequence: Option<u64>,
    /// A message that its stream lost had this sequence before.
    again: bool,
}

/// The messages of each handler by their inbox keys; the first of a kind counts.
type Input = BTreeMap<&'static str, HashMap<InboxKey, Told>>;

fn input(world: &mut Inner) -> Input {
    let mut input = Input::new();
    for (handler, stream) in READS {
        let description = description(handler);
        let messages = input.entry(handler).or_default();
        let Some(stream) = world.broker.stream(stream) else { continue };
        let lost: BTreeSet<u64> = stream.lost.iter().map(|m| m.arrival).collect();
        for stored in stream.ever() {
            let (message, _) = message_of(&description, &stream.name, stored);
            let key = InboxKey::new(handler, &message.id);
            let first = stored.arrival;
            let new = Told { message, first, last: first, sequence: None, again: false };
            let told = messages.entry(key).or_insert(new);
            let anew = told.sequence.is_none();
            if anew && !lost.contains(&stored.arrival) {
                told.last = stored.arrival;
                told.sequence = Some(stored.sequence);
                told.again = stream.lost.iter().any(|m| m.sequence == stored.sequence);
            }
        }
    }
    input
}

/// No message changes the state twice.
fn applied_once(world: &Inner, wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for done in &world.database.history {
        for key in &done.handled {
            if !seen.insert(*key) {
                wrong.push(format!("applied twice: {key} by {}", done.handler));
            }
        }
    }
}

/// The messages of a key are applied in the order of their stream.
fn in_order(world: &Inner, input: &Input, wrong: &mut Vec<String>) {
    let mut last: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for done in &world.database.history {
        let Some(messages) = input.get(done.handler.as_str()) else { continue };
        for key in &done.handled {
            let Some(Told { message, first, last: latest, .. }) = messages.get(key) else {
                wrong.push(format!("applied, and in no stream: {key} by {}", done.handler));
                continue;
            };
            let Some(of) = &message.key else { continue };
            let last = last.entry((&done.handler, of)).or_default();
            if *latest < *last {
                let (id, handler) = (&message.id, &done.handler);
                wrong.push(format!(
                    "out of order: {id} of key {of} at {handler} came behind {last}"
                ));
            }
            *last = *first;
        }
    }
}

/// Every message was handled, or is dead and says so.
fn nothing_lost(world: &Inner, input: &Input, of: &Of, wrong: &mut Vec<String>) {
    let database = &world.database;
    let handled: BTreeSet<InboxKey> =
        database.history.iter().flat_map(|done| done.handled.iter().copied()).collect();
    for (handler, messages) in input {
        for (key, told) in messages.iter().filter(|(_, told)| of.due(handler, told)) {
            let message = &told.message;
            let parked = database.parked.values().find(|p| p.inbox_key == *key);
            let dead = parked.is_some_and(|p| p.state == ParkedState::Dead);
            let payload = text(&message.payload);
            let deserves = payload.contains("\"poison\"") || payload.contains("\"reject\"");
            let id = &message.id;
            match (handled.contains(key), dead) {
                (true, false) => {}
                (false, true) if deserves && *handler == BOOK => {}
                (false, true) => {
                    let why = parked.map(|p| format!("{}: {}", p.reason, p.error));
                    wrong.push(format!("dead for no reason: {id} at {handler}: {why:?}"));
                }
                (false, false) => wrong.push(format!("lost: {id} at {handler}")),
                (true, true) => wrong.push(format!("handled and dead: {id} at {handler}")),
            }
        }
    }
}

/// Nothing is acknowledged that is not committed.
fn acknowledged_after_commit(world: &mut Inner, input: &Input, of: &Of, wrong: &mut Vec<String>) {
    for (handler, stream) in READS {
        let info = world.broker.consumer(stream, &format!("tribox-{handler}")).map(|c| c.info());
        let floor = info.map_or(0, |info| info.ack_floor);
        for (key, told) in input[handler].iter().filter(|(_, told)| of.due(handler, told)) {
            let message = &told.message;
            if told.sequence.is_some_and(|sequence| sequence <= floor)
                && !world.database.inbox.contains_key(key)
            {
                wrong.push(format!("acknowledged and not committed: {} at {handler}", message.id));
            }
        }
    }
}

/// What a document says; the sandbox writes it in the form of `jsonb`.
fn json(body: &str) -> Option<Value> {
    serde_json::from_str(body).ok()
}

/// A message as the reference sends it.
pub struct Sent {
    pub subject: String,
    pub payload: String,
    pub delayed: bool,
}

/// Handles what was handled one by one, in the order of the commits, and compares all that came of it.
fn as_the_reference(world: &Inner, input: &Input, wrong: &mut Vec<String>) -> Vec<(String, Sent)> {
    let mut state = Plain::default();
    let mut sent = Vec::new();
    for done in &world.database.history {
        for key in &done.handled {
            let told = input.get(&*done.handler).and_then(|all| all.get(key));
            let Some(Told { message, .. }) = told else {
                continue;
            };
            let verdict = handle(&done.handler, message, &mut state, false);
            let Ok(Verdict::Effects(effects)) = verdict else {
                wrong.push(format!("{} handled what cannot be: {}", done.handler, message.id));
                continue;
            };
            state.apply(&effects.mutations);
            for (index, outgoing) in effects.messages.iter().enumerate() {
                let of = Sent {
                    subject: outgoing.subject.clone(),
                    payload: text(&outgoing.payload),
                    delayed: outgoing.due.is_some(),
                };
                sent.push((outgoing_id(*key, index), of));
            }
        }
    }
    let live = world.database.live();
    for (at, body) in &live {
        let should = state.0.get(at);
        if should.is_none_or(|should| json(should) != json(body)) {
            let (collection, key) = at;
            wrong.push(format!("{collection}/{key} is {body} and should be {should:?}"));
        }
    }
    for (collection, key) in state.0.keys().filter(|at| !live.contains_key(*at)) {
        wrong.push(format!("{collection}/{key} is not there and should be"));
    }
    sent
}

/// Each id stands in its stream at most once, nothing does that was not committed, and what a cursor
/// has passed does; and each subject is in the order of the commits.
fn streams(world: &mut Inner, sent: &[(String, Sent)], of: &Of, wrong: &mut Vec<String>) {
    let mut found: BTreeMap<String, (String, String, u64)> = BTreeMap::new();
    for stream in world.broker.streams.iter().filter(|s| s.name != "IN") {
        for stored in &stream.messages {
            let Some(id) = &stored.id else { continue };
            let there = (stored.subject.clone(), text(&stored.payload), stored.sequence);
            if found.insert(id.clone(), there).is_some() {
                wrong.push(format!("twice in {}: {id} to {}", stream.name, stored.subject));
            }
        }
    }
    let lost = world.broker.streams.iter().flat_map(|s| &s.lost).filter_map(|m| m.id.as_ref());
    let lost: BTreeSet<&String> = lost.collect();
    let known: HashMap<&String, &Sent> = sent.iter().map(|(id, sent)| (id, sent)).collect();
    for (id, (subject, payload, _)) in &found {
        // What a restore has undone need not come about again in the same way.
        if world.undone.contains(id) {
            continue;
        }
        match known.get(id) {
            None => wrong.push(format!("in a stream and never committed: {id} to {subject}")),
            Some(sent) if sent.payload != *payload || sent.subject != *subject => {
                wrong.push(format!("{id} to {subject} is {payload}, not {}", sent.payload));
            }
            Some(_) => {}
        }
    }
    let database = &world.database;
    for ((writer, seq), entry) in &database.outbox {
        let passed = database.writers.get(writer).is_some_and(|w| w.published >= *seq);
        let set_aside =
            entry.subject.starts_with("dead.") || (of.late && entry.subject.starts_with("late."));
        let excused = set_aside || lost.contains(&entry.id);
        if passed && !excused && !found.contains_key(&entry.id) {
            wrong.push(format!("passed and not in its stream: {} to {}", entry.id, entry.subject));
        }
    }
    let mut last: BTreeMap<&str, (u64, &String)> = BTreeMap::new();
    for (id, sent) in sent.iter().filter(|(_, sent)| !sent.delayed) {
        let Some((_, _, sequence)) = found.get(id) else {
            if of.complete && !lost.contains(id) {
                wrong.push(format!("not sent: {id} to {}", sent.subject));
            }
            continue;
        };
        // What a stream lost and got again stands behind what it had got meanwhile.
        let again = world.undone.contains(id) || lost.contains(id);
        if again || !of.orders(&sent.subject) {
            continue;
        }
        let last = last.entry(&sent.subject).or_insert((0, id));
        if *sequence < last.0 {
            wrong.push(format!("out of order in {}: {id} before {}", sent.subject, last.1));
        }
        *last = (*sequence, id);
    }
}

/// What a message of `book` saw: its number, and lists by their keys, its own first.
pub type Observation = (u64, Vec<(String, Vec<u64>)>);

/// What `book` said of its lists.
pub fn observations(world: &mut Inner) -> Vec<Observation> {
    let undone = std::mem::take(&mut world.undone);
    let mut seen = Vec::new();
    let stored = world.broker.stream("OUT").map(|stream| stream.ever()).unwrap_or_default();
    for stored in stored.into_iter().filter(|m| m.id.as_ref().is_none_or(|id| !undone.contains(id)))
    {
        let Ok(event) = serde_json::from_slice::<Value>(&stored.payload) else { continue };
        let (Some(n), Some(saw)) = (event["n"].as_u64(), event["saw"].as_array()) else { continue };
        let numbers = |list: &Value| {
            list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect::<Vec<u64>>()
        };
        let saw =
            saw.iter().filter_map(|pair| Some((pair[0].as_str()?.to_owned(), numbers(&pair[1]))));
        seen.push((n, saw.collect()));
    }
    world.undone = undone;
    seen
}
