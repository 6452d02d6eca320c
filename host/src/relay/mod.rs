//! The relay: publishes what was committed. What lanes hand it is a hint and the outbox is the truth:
//! at start, after an error and past its capacity it reads the table from the cursor on.
//!
//! What it must never do: move a cursor past an entry that is neither stored nor set aside, or send
//! an entry again that its stream may have forgotten without asking the stream.

mod account;
mod jobs;
mod log;
pub mod ports;
mod refusals;
mod scheduler;
mod sending;
mod slot;
mod task;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::{Notify, mpsc, oneshot};

pub use self::scheduler::{SCHEDULED, Scheduler};
pub use self::task::{Options, RelayTask};
use crate::lane::ports::{Entry, Outlet};

/// What rooms ask of the relay.
#[derive(Debug)]
enum Ask {
    /// A log to be relayed; `published` is kept up to date.
    Open {
        writer: i32,
        last: i64,
        published: Arc<AtomicI64>,
    },
    Committed {
        writer: i32,
        entries: Vec<Entry>,
    },
    /// The log goes up to here at least, or, without a number, may go further than is known.
    LookAgain {
        writer: i32,
        last: Option<i64>,
    },
    Transient {
        entries: Vec<Entry>,
    },
    /// Whether any entry may have been sent before a consumer was set back.
    BeWary(bool),
    /// Answer when nothing of these logs is unpublished.
    WhenEmpty {
        writers: Vec<i32>,
        answer: oneshot::Sender<()>,
    },
}

/// The other rooms' end of the relay.
#[derive(Debug, Clone)]
pub struct Relay {
    asks: mpsc::UnboundedSender<Ask>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    scheduled: Notify,
}

impl Relay {
    /// Has a log relayed; returns how far it was published, kept up to date.
    pub fn open(&self, writer: i32, published: i64, last: i64) -> Arc<AtomicI64> {
        let cursor = Arc::new(AtomicI64::new(published));
        self.ask(Ask::Open { writer, last, published: Arc::clone(&cursor) });
        cursor
    }

    /// Waits until everything in these logs is published or set aside, and the table says so.
    pub async fn when_empty(&self, writers: Vec<i32>) {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::WhenEmpty { writers, answer });
        // An error means that the relay has ended, and the host with it.
        let _ = answered.await;
    }

    /// Whether entries that come from now on may stand in their streams already, because a consumer was
    /// set back: then each is asked for before it is sent.
    pub fn be_wary(&self, wary: bool) {
        self.ask(Ask::BeWary(wary));
    }

    /// Notes that a log goes up to `last`.
    pub(crate) fn goes_to(&self, writer: i32, last: i64) {
        self.ask(Ask::LookAgain { writer, last: Some(last) });
    }

    /// Waits until somebody schedules a message.
    async fn scheduling(&self) {
        self.shared.scheduled.notified().await;
    }

    fn ask(&self, ask: Ask) {
        // The task ends last of all; what comes later stands in the table.
        let _ = self.asks.send(ask);
    }
}

impl Outlet for Relay {
    fn committed(&self, writer: i32, entries: Vec<Entry>) {
        self.ask(Ask::Committed { writer, entries });
    }

    fn look_again(&self, writer: i32) {
        self.ask(Ask::LookAgain { writer, last: None });
    }

    fn transient(&self, entries: Vec<Entry>) {
        self.ask(Ask::Transient { entries });
    }

    fn scheduled(&self) {
        self.shared.scheduled.notify_one();
    }
}
