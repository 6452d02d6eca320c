//! From a handled turn to what is committed for it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::batch::{Batch, Member, Origin};
use super::handle::{Fate, Handled};
use super::ports::{Commit, Entry, Log, ParkedState, Parking, Position, Scheduled};
use super::source::Source as Stream;
use crate::model::identity::{announces_death, death_id};
use crate::model::{Delivery, Due, Header, InboxKey, Outgoing, chain, outgoing_id};

/// A turn's commit, and what goes out without the outbox.
pub struct Written {
    pub commit: Commit,
    pub transient: Vec<Entry>,
    /// Whether there is anything to commit.
    pub empty: bool,
}

/// Who commits a turn.
pub struct Source<'a> {
    pub handler: &'a str,
    pub component: i32,
    pub log: &'a Log,
    /// Where the death of a message is told.
    pub announce: Option<&'a str>,
}

/// Writes down what a turn commits.
pub fn write(source: &Source, batch: &Batch, handled: &Handled) -> Written {
    let Source { handler, component, log, .. } = *source;
    let snapshot = handled.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
    let changes = snapshot.changes();
    drop(snapshot);
    let commit = Commit {
        handler: handler.to_owned(),
        component,
        updates: changes.updates,
        creates: changes.creates,
        blind: changes.blind,
        reads: changes.reads,
        lists: changes.lists,
        changed: changes.changed,
        writer: log.writer,
        fence: log.fence,
        published: Some(log.published.load(Ordering::Acquire)),
        positions: positions(&batch.members),
        ..Commit::default()
    };
    let mut writer = Writer {
        source,
        commit,
        transient: Vec::new(),
        next: log.last + 1,
        names: BTreeMap::new(),
    };
    for (member, fate) in batch.members.iter().zip(&handled.fates) {
        writer.member(member, fate);
    }
    let Writer { mut commit, transient, names, .. } = writer;
    for (name, scheduled) in names {
        commit.dropped_names.push(name);
        commit.scheduled.extend(scheduled);
    }
    commit.dropped_names.sort_unstable();
    let empty = commit.inbox.is_empty() && commit.unparked.is_empty() && commit.reparked.is_empty();
    Written { commit, transient, empty }
}

struct Writer<'a> {
    source: &'a Source<'a>,
    commit: Commit,
    transient: Vec<Entry>,
    next: i64,
    /// Schedule names that the turn touched, with the message that holds the name at its end.
    names: BTreeMap<String, Option<Scheduled>>,
}

impl Writer<'_> {
    fn member(&mut self, member: &Member, fate: &Fate) {
        match (&member.origin, fate) {
            (_, Fate::Duplicate | Fate::Untouched) => {}
            (Origin::Stream(delivery), Fate::Handled(_) | Fate::Expired) => {
                self.commit.inbox.push((member.inbox_key, signed(delivery.sequence)));
            }
            (Origin::Parked(parked), Fate::Handled(_) | Fate::Expired) => {
                self.commit.unparked.push(parked.id);
            }
            (Origin::Stream(delivery), Fate::Parked(parking)) => {
                self.commit.inbox.push((member.inbox_key, signed(delivery.sequence)));
                let message = delivery.message.clone();
                self.commit.parked.push((member.inbox_key, message, parking.clone()));
            }
            (Origin::Parked(parked), Fate::Parked(parking)) => {
                self.commit.reparked.push((parked.id, parking.clone()));
            }
        }
        if let Fate::Parked(parking) = fate
            && matches!(parking.state, ParkedState::Dead | ParkedState::Holding)
        {
            self.announce(member, parking);
        }
        if let Fate::Handled(effects) = fate {
            for name in &effects.cancellations {
                self.names.insert(name.clone(), None);
            }
            if effects.messages.is_empty() {
                return;
            }
            let chain = self.chain(member);
            for (index, outgoing) in effects.messages.iter().enumerate() {
                self.outgoing(member.inbox_key, index, outgoing, &chain);
            }
        }
    }

    /// Tells the death of a message, except of one that told a death.
    fn announce(&mut self, member: &Member, parking: &Parking) {
        let Some(subject) = self.source.announce else { return };
        let message = member.message();
        if announces_death(&message.id) {
            return;
        }
        let error: String = parking.error.chars().take(4_096).collect();
        let payload = serde_json::json!({
            "handler": self.source.handler,
            "id": message.id,
            "subject": message.subject,
            "key": message.key,
            "reason": parking.reason,
            "error": error,
            "attempts": parking.attempts,
            "stored_at": message.stored_at,
        });
        let entry = Entry {
            seq: self.next,
            id: death_id(member.inbox_key, self.source.component, parking.attempts),
            subject: subject.to_owned(),
            headers: self.chain(member) + "Content-Type: application/json\n",
            payload: payload.to_string().into(),
            expires_after: None,
        };
        self.next += 1;
        self.commit.entries.push(entry);
    }

    /// The header lines of all that is sent because of a message.
    fn chain(&self, member: &Member) -> String {
        chain::lines(&member.message().headers, self.source.handler)
    }

    fn outgoing(&mut self, key: InboxKey, index: usize, outgoing: &Outgoing, chain: &str) {
        let id = outgoing_id(key, index);
        let headers = chain.to_owned() + &header_lines(&outgoing.headers);
        let expires_after = outgoing.expires_after.map(|ms| signed(ms.min(FOREVER)));
        if let Some(due) = outgoing.due {
            let scheduled = Scheduled {
                id,
                name: outgoing.schedule_name.clone(),
                due: match due {
                    Due::After(ms) => Due::After(ms.min(FOREVER)),
                    Due::At(ms) => Due::At(ms.min(FOREVER)),
                },
                expires_after,
                subject: outgoing.subject.clone(),
                headers,
                payload: outgoing.payload.clone(),
            };
            match &outgoing.schedule_name {
                Some(name) => {
                    self.names.insert(name.clone(), Some(scheduled));
                }
                None => self.commit.scheduled.push(scheduled),
            }
            return;
        }
        let mut entry = Entry {
            seq: 0,
            id,
            subject: outgoing.subject.clone(),
            headers,
            payload: outgoing.payload.clone(),
            expires_after,
        };
        match outgoing.delivery {
            Delivery::Transient => self.transient.push(entry),
            Delivery::Durable => {
                entry.seq = self.next;
                self.next += 1;
                self.commit.entries.push(entry);
            }
        }
    }
}

/// Some 10,000 years in milliseconds: what lies beyond is not told apart, and Postgres can hold it.
const FOREVER: u64 = 315_569_520_000_000;

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Header lines as on the wire, without the first and the last line.
fn header_lines(headers: &[Header]) -> String {
    let mut lines = String::new();
    for header in headers {
        lines.push_str(&header.name);
        lines.push_str(": ");
        lines.push_str(&header.value);
        lines.push('\n');
    }
    lines
}

/// How far this turn gets in each stream.
fn positions(members: &[Member]) -> Vec<Position> {
    let mut sources: Vec<(&Arc<Stream>, u64)> = Vec::new();
    for delivery in members.iter().filter_map(Member::delivery) {
        match sources.iter_mut().find(|(source, _)| Arc::ptr_eq(source, &delivery.source)) {
            Some((_, handled)) => *handled = delivery.sequence.max(*handled),
            None => sources.push((&delivery.source, delivery.sequence)),
        }
    }
    let position = |(source, handled): (&Arc<Stream>, u64)| Position {
        stream: source.stream.clone(),
        created: source.created,
        handled: signed(handled),
        floor: signed(source.floor()),
    };
    sources.into_iter().map(position).collect()
}
