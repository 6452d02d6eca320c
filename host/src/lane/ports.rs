//! What a lane needs of the world: a store, a way to settle deliveries and a way out. Only traits
//! and plain data, so that the same lane runs against Postgres and JetStream and in a simulation.

use std::future::Future;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub use super::source::{Admission, Source};
use crate::fault::Fault;
use crate::model::{Call, Description, Documents, Failure, InboxKey, Message, Unreadable};

/// A handler as a lane calls it. Pure: all it does is in what it returns.
pub trait Handler: Send + Sync + 'static {
    fn description(&self) -> &Description;

    /// Runs the handler on one message. May block the thread for reads.
    fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call;
}

/// A handler and the row of `components` that names its build.
#[derive(Clone)]
pub struct Loaded {
    pub handler: Arc<dyn Handler>,
    pub component: i32,
}

/// A message that arrived for a lane.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message: Message,
    /// Why it is not handed to the handler: it lacks its key, or cannot be read.
    pub unroutable: Option<Failure>,
    pub source: Arc<Source>,
    pub sequence: u64,
    /// It was delivered before, so the inbox may have it.
    pub redelivered: bool,
}

impl Delivery {
    /// Marks it as handled; returns where its acknowledgement goes, if it is still in hand.
    pub fn done(&self) -> Option<String> {
        self.source.done(self.sequence, self.message.stored_at)
    }
}

/// A document's state as the store has it. Version 0: there is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub collection: String,
    pub key: String,
    pub version: i64,
    pub body: Option<Arc<str>>,
}

/// Blocking reads of what was not read ahead.
pub trait Reader: Send + Sync {
    /// # Errors
    /// The store cannot be reached.
    fn document(&self, collection: &str, key: &str) -> Result<Option<Row>, Unreadable>;

    /// Live documents, in byte order of their keys, at most `limit`; it may stop once their bodies
    /// have [`LIST_BYTES`](crate::model::LIST_BYTES).
    ///
    /// # Errors
    /// The store cannot be reached.
    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable>;
}

/// A range of keys of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRange {
    pub collection: String,
    /// The first key of the range.
    pub from: String,
    /// The first key past the range.
    pub until: Option<String>,
    /// Keys up to and including this one are left out.
    pub after: Option<String>,
}

/// What a turn wants to know before handling.
#[derive(Debug, Default)]
pub struct Load {
    pub inbox: Vec<InboxKey>,
    pub documents: Vec<(String, String)>,
}

/// What the store answered. Documents that are not there are missing.
#[derive(Debug, Default)]
pub struct LoadedState {
    pub handled: Vec<InboxKey>,
    pub documents: Vec<Row>,
}

/// A message to publish, as the outbox has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub seq: i64,
    pub id: String,
    pub subject: String,
    /// `Name: value` lines.
    pub headers: String,
    pub payload: Bytes,
    /// Milliseconds after the commit after which it is dropped.
    pub expires_after: Option<i64>,
}

/// A message to publish later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    pub id: String,
    pub name: Option<String>,
    pub due: crate::model::Due,
    pub expires_after: Option<i64>,
    pub subject: String,
    pub headers: String,
    pub payload: Bytes,
}

/// Where a parked message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedState {
    Retrying,
    Waiting,
    /// Dead, and later messages of its key wait for it.
    Holding,
    Dead,
}

/// Why and how a message is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    pub state: ParkedState,
    pub attempts: i32,
    /// Milliseconds until the next attempt.
    pub retry_after: Option<i64>,
    pub reason: &'static str,
    pub error: String,
}

/// A message that was set aside, taken up again.
#[derive(Debug, Clone)]
pub struct ParkedMessage {
    pub id: i64,
    /// Which of the keys that were asked for it belongs to, counted from 0.
    pub asked: usize,
    pub attempts: i32,
    /// Its time has come, or it waits behind an earlier one.
    pub due: bool,
    pub inbox_key: InboxKey,
    pub message: Message,
}

/// A parked message whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueParked {
    pub id: i64,
    pub key: Option<String>,
}

/// How far a stream was handled by a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub stream: String,
    pub created: i64,
    pub handled: i64,
    pub floor: i64,
}

/// A list that handling a message depended on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListGuard {
    pub range: ListRange,
    /// The last key that was seen, where the list was cut by its limit.
    pub last: Option<String>,
    pub count: i64,
}

/// All that a turn writes, in one transaction.
#[derive(Debug, Default)]
pub struct Commit {
    pub handler: String,
    pub component: i32,
    pub inbox: Vec<(InboxKey, i64)>,
    /// Documents with their expected version and new body; `None` deletes.
    pub updates: Vec<Row>,
    /// Documents that must not have a row yet. `None`: that fact alone is held fast.
    pub creates: Vec<Row>,
    /// Documents written whatever is there.
    pub blind: Vec<Row>,
    /// Documents that must still have this version.
    pub reads: Vec<Row>,
    pub lists: Vec<ListGuard>,
    /// Collections that documents come into or go from.
    pub changed: Vec<String>,
    pub writer: i32,
    /// Without it nothing can be appended to the log.
    pub fence: i64,
    pub entries: Vec<Entry>,
    /// How far the writer's log was published.
    pub published: Option<i64>,
    pub positions: Vec<Position>,
    /// Schedule names taken back: cancelled or replaced.
    pub dropped_names: Vec<String>,
    pub scheduled: Vec<Scheduled>,
    pub parked: Vec<(InboxKey, Message, Parking)>,
    /// Parked messages that were handled.
    pub unparked: Vec<i64>,
    pub reparked: Vec<(i64, Parking)>,
}

/// Why a commit did not take place.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A message is in the inbox already: run the turn again with a look at the inbox.
    #[error("a message was handled already")]
    Duplicate,
    /// Something that was read has changed: run the turn again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Another process has taken over; nothing can be committed here any more.
    #[error("fenced out: {0}")]
    Fenced(String),
    /// Postgres refuses what is to be written; some message of the turn is the cause.
    #[error("refused by Postgres: {0}")]
    Data(String),
    /// The outcome is unknown or nothing was done: the store cannot be used now.
    #[error("{0}")]
    Unavailable(String),
}

/// The store cannot be used now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreAway(pub String);

impl From<Fault> for StoreAway {
    fn from(fault: Fault) -> Self {
        StoreAway(fault.to_string())
    }
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        CommitError::Unavailable(fault.to_string())
    }
}

/// Where a writer's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    pub last: i64,
    pub published: i64,
}

/// The state of all handlers: Postgres.
pub trait Store: Send + Sync + 'static {
    fn load(&self, wanted: &Load) -> impl Future<Output = Result<LoadedState, StoreAway>> + Send;

    fn commit(&self, commit: &Commit) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// Blocking reads for guests.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Where a log stands, asked after a commit of unknown outcome.
    fn log_state(&self, writer: i32) -> impl Future<Output = Result<LogState, StoreAway>> + Send;

    /// Keys of a handler that have messages waiting in order.
    fn held_keys(
        &self,
        handler: &str,
    ) -> impl Future<Output = Result<Vec<String>, StoreAway>> + Send;

    /// The parked messages of these keys, one key after the other, each in order; of one without a
    /// key, that one. `limit` in all: where there are so many, the last key may have more.
    fn parked_messages(
        &self,
        handler: &str,
        due: &[DueParked],
        limit: i64,
    ) -> impl Future<Output = Result<Vec<ParkedMessage>, StoreAway>> + Send;

    /// Notes what is in hand, before it is handled: for finding out what brings the process down.
    fn note_in_hand(&self, keys: &[InboxKey])
    -> impl Future<Output = Result<(), StoreAway>> + Send;

    /// These messages were handled: they did not bring the process down.
    fn forget_suspects(
        &self,
        keys: &[InboxKey],
    ) -> impl Future<Output = Result<(), StoreAway>> + Send;
}

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn unix_millis(&self) -> u64;
}

/// Tells the stream what was handled.
pub trait Settle: Send + Sync + 'static {
    /// Acknowledges deliveries. Called after their commit and never before.
    fn settle(&self, deliveries: &[&Delivery]) -> impl Future<Output = ()> + Send;
}

/// Takes what was committed to be published.
pub trait Outlet: Send + Sync + 'static {
    /// A hint that these entries now stand in the log; the log itself is the truth.
    fn committed(&self, writer: i32, entries: Vec<Entry>);

    /// The log may have entries that nobody announces, now or later: a commit of unknown outcome.
    fn look_again(&self, writer: i32);

    /// Messages over core NATS, once and without a promise.
    fn transient(&self, entries: Vec<Entry>);

    /// Some delayed message was committed.
    fn scheduled(&self);
}

/// A lane's own log.
#[derive(Debug, Clone)]
pub struct Log {
    pub writer: i32,
    /// Given with the log when it was opened; another one is given when another node takes over.
    pub fence: i64,
    /// The sequence of the last committed entry.
    pub last: i64,
    /// How far it was published; the relay moves it.
    pub published: Arc<AtomicI64>,
}
