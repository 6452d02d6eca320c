//! A small transactional model of the database: what each function of host/migrations and each statement
//! of host/sql does, one at a time. Times are milliseconds since the Unix epoch, by its own clock.

mod delayed;
mod logs;
mod nodes;
mod parked;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tribox::lane::ports::{ParkedState, Scheduled};
use tribox::model::{InboxKey, Message};
use tribox::store::LoggedEntry;

use crate::world::{EPOCH, Rule, elapsed};

/// What a commit did, for those who check afterwards.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "shown with a run")]
pub struct Done {
    /// When, and into which log, up to which entry.
    pub at: i64,
    pub writer: i32,
    pub last: Option<i64>,
    pub handler: String,
    /// Messages in the order in which the turn had them.
    pub handled: Vec<InboxKey>,
}

#[derive(Debug, Clone)]
struct Stored {
    version: i64,
    body: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
pub struct Writer {
    pub node: String,
    pub handler: String,
    pub lane: i32,
    fence: i64,
    lanes: i32,
    pub published: i64,
}

#[derive(Debug, Clone)]
struct NodeRow {
    epoch: i64,
    seen: i64,
    lease_until: i64,
    lease_ms: i64,
    steady_since: i64,
    beats: i64,
    fenced_by: Option<String>,
    holder: String,
    clean: bool,
    crashes: Vec<i64>,
}

#[derive(Debug, Clone)]
pub struct Parked {
    pub handler: String,
    pub state: ParkedState,
    attempts: i32,
    next_attempt_at: Option<i64>,
    pub reason: &'static str,
    pub error: String,
    component: i32,
    pub inbox_key: InboxKey,
    pub message: Message,
}

#[derive(Debug, Clone)]
struct Waiting {
    due_at: i64,
    handler: String,
    scheduled: Scheduled,
}

#[derive(Debug, Clone)]
struct Undelivered {
    position: i64,
    entry: LoggedEntry,
    reason: String,
    attempts: i32,
    retry_at: Option<i64>,
    resent: Option<(i32, i64)>,
}

#[derive(Debug, Default, Clone)]
pub struct Database {
    documents: BTreeMap<(String, String), Stored>,
    pub inbox: BTreeMap<InboxKey, i64>,
    pub writers: BTreeMap<i32, Writer>,
    pub outbox: BTreeMap<(i32, i64), LoggedEntry>,
    nodes: BTreeMap<String, NodeRow>,
    owners: BTreeMap<String, (String, i64)>,
    scheduled: BTreeMap<String, Waiting>,
    pub parked: BTreeMap<i64, Parked>,
    next_parked: i64,
    undelivered: BTreeMap<String, Undelivered>,
    next_undelivered: i64,
    in_hand: BTreeMap<String, Vec<InboxKey>>,
    suspects: BTreeMap<InboxKey, i32>,
    floors: BTreeMap<(String, String, i64), i64>,
    /// Ids that stood in their streams when consumers were set back.
    pub already_sent: BTreeSet<String>,
    pub history: Vec<Done>,
    without: Option<Rule>,
}

/// The time by the clock of Postgres.
pub fn now() -> i64 {
    EPOCH + elapsed()
}

impl Database {
    /// One that breaks a rule.
    pub fn without(without: Option<Rule>) -> Database {
        Database { without, ..Database::default() }
    }

    /// Whether it keeps a rule.
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn new_fence(old: i64) -> i64 {
        (old + 1).max(now() * 1_000)
    }

    /// Whether an outgoing message is delayed, undelivered, or sent by one that was not handled or is parked.
    pub fn still_to_send(&self, id: &str, key: InboxKey) -> bool {
        let waits = self.scheduled.contains_key(id) || self.undelivered.contains_key(id);
        waits || !self.inbox.contains_key(&key) || self.is_parked(key)
    }

    pub fn last_sign_of_life(&self) -> i64 {
        self.nodes.values().map(|node| node.seen).max().unwrap_or(i64::MAX)
    }

    pub fn is_parked(&self, key: InboxKey) -> bool {
        self.parked.values().any(|parked| parked.inbox_key == key)
    }

    pub fn last_of(&self, writer: i32) -> i64 {
        let published = self.writers.get(&writer).map_or(0, |w| w.published);
        let range = (writer, 0)..=(writer, i64::MAX);
        let last = self.outbox.range(range).next_back().map_or(0, |((_, seq), _)| *seq);
        published.max(last)
    }

    fn open_end(&self, writer: i32) -> bool {
        self.writers.get(&writer).is_some_and(|w| self.last_of(writer) > w.published)
    }
}

/// An entry's payload as text, for messages to people.
pub fn text(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).into_owned()
}
