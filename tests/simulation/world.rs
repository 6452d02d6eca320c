//! The simulated world: one clock, one source of chance, one database, one broker, and a network
//! between them and the nodes. Everything happens on one thread, in an order that the seed decides.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tribox::sandbox::Guest;
use tribox::stream::Moment;

use crate::broker::Broker;
use crate::database::Database;

/// When the simulated world begins: milliseconds since the Unix epoch.
pub const EPOCH: i64 = 1_800_000_000_000;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Milliseconds since the world began.
pub fn elapsed() -> i64 {
    let start = START.get().unwrap_or_else(Instant::now);
    i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// The clock that fences go by.
pub fn watch() -> Moment {
    Moment::at(u64::try_from(elapsed()).unwrap_or_default())
}

/// A rule that the simulated servers, or the reader, break on purpose: the checks must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A message that the inbox has is committed again.
    Inbox,
    /// Whoever was fenced out can commit.
    Fence,
    /// A document is written over whatever is there.
    Writes,
    /// What was only read may have changed.
    Reads,
    /// What was not there may have come.
    Creates,
    /// A list may have changed.
    Lists,
    /// Outgoing messages get lost in a commit.
    Outbox,
    /// A commit takes place and leaves no trace in the inbox.
    Whole,
    /// Streams forget ids at once.
    Dedup,
    /// Reading a stream back finds nothing.
    ReadBack,
    /// A message is acknowledged when it arrives.
    AckLast,
    /// Deliveries that are missing are not missed.
    SetBack,
    /// What a dead node left unpublished is not waited for.
    LeftLogs,
    /// What is parked of a key is taken up in no order.
    ParkedOrder,
    /// Consumers stay where they are when the database is restored.
    Rewind,
    /// What stands in the streams is not noted when the database is restored.
    AlreadySent,
}

pub const RULES: [Rule; 16] = [
    Rule::Inbox,
    Rule::Fence,
    Rule::Writes,
    Rule::Reads,
    Rule::Creates,
    Rule::Lists,
    Rule::Outbox,
    Rule::Whole,
    Rule::Dedup,
    Rule::ReadBack,
    Rule::AckLast,
    Rule::SetBack,
    Rule::LeftLogs,
    Rule::ParkedOrder,
    Rule::Rewind,
    Rule::AlreadySent,
];

/// How often each kind of fault happened.
#[derive(Debug, Default, Clone)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// What happened, as a digest and, where somebody looks, as lines.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    pub shown: bool,
}

impl Trace {
    pub fn note(&mut self, line: &str) {
        (elapsed(), line).hash(&mut self.hasher);
        if self.shown {
            println!("{:>9} {line}", elapsed());
        }
    }

    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }
}

/// How a node is connected.
#[derive(Debug, Default, Clone, Copy)]
pub struct Line {
    /// Raised when the connection to NATS breaks.
    pub connection: u64,
    pub no_postgres: bool,
    pub no_nats: bool,
    /// How far this node's wall clock is off, in milliseconds.
    pub skew: i64,
}

/// All that is simulated.
pub struct Inner {
    pub chance: fastrand::Rng,
    pub trace: Trace,
    pub tally: Tally,
    pub database: Database,
    /// Raised when Postgres is started again: what was under way is gone.
    pub postgres_starts: u64,
    pub postgres_down: bool,
    pub broker: Broker,
    /// Raised when NATS is started again: what was under way is gone.
    pub nats_starts: u64,
    pub nats_down: bool,
    pub lines: BTreeMap<String, Line>,
    /// Chance of a small fault in each single step; 0: the world is at peace.
    pub rate: f64,
    /// Whether handlers fail that can be mended.
    pub broken: bool,
    /// The rule that is broken, if one is.
    pub without: Option<Rule>,
    /// The handler `book` as a component, where it is to be that.
    pub component: Option<Guest>,
    /// Ids in streams of messages that a restored database knows nothing of.
    pub undone: BTreeSet<String>,
}

impl Inner {
    /// Whether a fault of this kind happens now.
    pub fn strikes(&mut self, kind: &'static str, share: f64) -> bool {
        let strikes = self.rate > 0.0 && self.chance.f64() < self.rate * share;
        if strikes {
            self.tally.count(kind);
            self.trace.note(kind);
        }
        strikes
    }

    pub fn line(&mut self, node: &str) -> &mut Line {
        self.lines.entry(node.to_owned()).or_default()
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.chance.u64(from..=to))
    }

    /// How long a message is on its way: short, and sometimes not.
    pub fn latency(&mut self) -> Duration {
        let most = match self.chance.u8(..) {
            0..=229 => 2,
            230..=249 => 20,
            _ if self.rate > 0.0 => 1_500,
            _ => 20,
        };
        self.millis(0, most)
    }
}

/// The world, shared by all that happens in it.
#[derive(Clone)]
pub struct World(Arc<Mutex<Inner>>);

impl World {
    pub fn new(seed: u64, shown: bool, without: Option<Rule>, component: Option<Guest>) -> World {
        START.set(Some(Instant::now()));
        World(Arc::new(Mutex::new(Inner {
            chance: fastrand::Rng::with_seed(seed),
            trace: Trace { shown, ..Trace::default() },
            tally: Tally::default(),
            database: Database::without(without),
            postgres_starts: 0,
            postgres_down: false,
            broker: Broker::default(),
            nats_starts: 0,
            nats_down: false,
            lines: BTreeMap::new(),
            rate: 0.0,
            broken: false,
            without,
            component,
            undone: BTreeSet::new(),
        })))
    }

    pub fn look(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, line: &str) {
        self.look().trace.note(line);
    }
}
