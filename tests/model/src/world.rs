//! The state of the model: Postgres, JetStream, and what nodes have in memory. Everything is small
//! and plain, so that states can be told apart, hashed and printed.

use crate::scene::Faults;

/// A set of small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u16);

impl Set {
    pub fn has(self, n: u8) -> bool {
        self.0 & (1 << n) != 0
    }

    /// Whether it was not there before.
    pub fn add(&mut self, n: u8) -> bool {
        let new = !self.has(n);
        self.0 |= 1 << n;
        new
    }

    pub fn remove(&mut self, n: u8) {
        self.0 &= !(1 << n);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn first(self) -> Option<u8> {
        (0..16).find(|n| self.has(*n))
    }

    pub fn all(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |n| self.has(*n))
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Set {
        let mut set = Set::default();
        for n in numbers {
            set.add(n);
        }
        set
    }
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub postgres: Postgres,
    pub broker: Broker,
    pub nodes: Vec<Node>,
    /// Faults that may still happen.
    pub left: Faults,
}

/// The tables, and commits that are on their way to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Postgres {
    /// One for each key, and one that all messages write where the scene says so.
    pub documents: Vec<Document>,
    /// Ids of messages that were handled or parked.
    pub inbox: Set,
    /// In the order of their ids.
    pub parked: Vec<Parked>,
    pub logs: Vec<Log>,
    /// The table `nodes`.
    pub names: Vec<Name>,
    /// Node and epoch of the owner of the handler.
    pub owner: Option<(u8, u8)>,
    /// Everything up to here was handled.
    pub floor: u8,
    pub on_their_way: Vec<Commit>,
}

/// A document: which messages were applied to it, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Document {
    pub version: u8,
    pub applied: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    /// Of the message in its stream.
    pub seq: u8,
    pub attempts: u8,
    /// Behind another one of its key; otherwise it is tried again.
    pub waiting: bool,
}

/// A row of `writers` with its outbox: ids of what is to be published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    pub node: u8,
    /// None: taken over from another node.
    pub lane: Option<u8>,
    pub fence: u8,
    pub published: u8,
    pub entries: Vec<u8>,
}

impl Log {
    pub fn last(&self) -> u8 {
        u8::try_from(self.entries.len()).expect("few entries")
    }

    pub fn is_left(&self) -> bool {
        self.published < self.last()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    pub epoch: u8,
    pub clean: bool,
    /// Its lease is not over.
    pub lease: bool,
}

/// The one statement of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    pub node: u8,
    pub lane: u8,
    /// The lane still waits for the answer.
    pub awaited: bool,
    pub log: u8,
    pub fence: u8,
    /// Ids, one for each message; one that is there twice is there twice.
    pub inbox: Vec<u8>,
    /// Documents with the version that was read and the new content.
    pub writes: Vec<(u8, Document)>,
    /// The sequence of the first entry, less one.
    pub after: u8,
    pub entries: Vec<u8>,
    pub published: u8,
    pub park: Vec<Parked>,
    pub unpark: Vec<u8>,
    pub repark: Vec<(u8, u8)>,
    pub floor: u8,
}

/// The stream that is read, through its consumer, and the one that is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    pub consumer: Option<Consumer>,
    /// Ids in the order in which they were stored.
    pub out: Vec<u8>,
    /// Ids that the dedup window still knows.
    pub remembered: Set,
    /// Ids whose dedup window may be over.
    pub old: Set,
    /// What connections that nobody holds any more may still bring, in order.
    pub ghosts: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// The sequence that is delivered next.
    pub next: u8,
    /// Delivered and not acknowledged.
    pub pending: Set,
}

impl Consumer {
    pub fn after(floor: u8) -> Consumer {
        Consumer { next: floor + 1, pending: Set::default() }
    }

    /// Everything up to here was acknowledged.
    pub fn floor(&self) -> u8 {
        self.pending.first().unwrap_or(self.next) - 1
    }
}

/// A process, as far as it remembers anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub stage: Stage,
    pub epoch: u8,
    pub reader: Reader,
    pub source: Source,
    pub lanes: Vec<Lane>,
    pub relay: Vec<Relayed>,
    /// Ids that were sent over its connection and did not arrive yet.
    pub wire: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Not running, for good.
    Gone,
    #[default]
    Down,
    Standby,
    /// It owns the handler, and waits for what others left.
    Owner,
    Working,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reader {
    pub open: bool,
    /// Whether it saw every delivery of the consumer; none: it never had it.
    pub complete: Option<bool>,
}

/// `lane::Source`: what is in hand, and whether it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    pub floor: u8,
    pub in_hand: Vec<(u8, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    pub log: u8,
    pub fence: u8,
    pub last: u8,
    /// Sequences that arrived, and whether they are known to come again.
    pub queue: Vec<(u8, bool)>,
    pub held: Set,
    /// Keys to be gone on with.
    pub again: Set,
    pub wary: bool,
    pub unsure: bool,
    pub turn: Turn,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Turn {
    #[default]
    None,
    Drained(Batch),
    /// The log was asked how far it goes, where that was not known.
    Sure(Batch),
    Loaded(Batch, Loaded),
    Committing(Batch, Handled),
    Committed(Batch, Handled),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    pub members: Vec<Member>,
    /// Keys that are taken up, and whether all that waits there is in the turn.
    pub taken_up: Vec<(u8, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub seq: u8,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Stream { redelivered: bool },
    Parked { attempts: u8 },
}

/// What was read for a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loaded {
    pub known: Set,
    pub documents: Vec<Document>,
}

/// What is to be remembered of a turn once it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handled {
    pub duplicates: bool,
    pub failed: Set,
    pub released: Set,
    pub entries: Vec<u8>,
}

/// `relay::log::WriterLog`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relayed {
    pub log: u8,
    pub published: u8,
    pub last: u8,
    pub doubtful_to: u8,
    /// A commit to it was given up.
    pub unsure: bool,
    /// Entries behind `published` that are in memory.
    pub slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub id: u8,
    pub state: State,
    /// It may have been sent before, and that is to be found out.
    pub doubtful: bool,
    /// It may have been sent before, whatever was found out.
    pub sent_before: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Unsent,
    InFlight,
    Done,
}
