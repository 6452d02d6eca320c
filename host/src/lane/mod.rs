//! A lane: a serial executor that owns a share of a handler's keys. It repeats one turn: drain, load,
//! handle, commit, settle. It does no I/O of its own and knows store, stream and relay as traits.
//!
//! What it must never do: acknowledge before the commit, or let an error of the store become a
//! failure of a message.

mod batch;
mod cache;
mod caution;
#[cfg(test)]
mod chain_tests;
mod commit;
mod drain;
mod gate;
mod handle;
mod load;
mod map;
mod policy;
pub mod ports;
#[cfg(test)]
mod properties;
mod settle;
mod snapshot;
mod source;
mod write;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::mpsc;

use self::batch::Batch;
use self::cache::Cache;
use self::ports::{Clock, Delivery, DueParked, Loaded, Log, Outlet, Settle, Store};
use crate::fault::{self, Fault, Point};
use crate::model::{Failure, InboxKey};
use crate::telemetry::{HandlerMetrics, Health};

pub use self::caution::Caution;
pub use self::gate::{Gate, Intake};
pub use self::policy::Policy;
pub use self::snapshot::prefix_end;

/// How a lane works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Messages in a turn at most.
    pub turn: usize,
    /// Bytes of payload in a turn, roughly at most.
    pub turn_bytes: usize,
    /// Bytes of documents that are kept.
    pub cache: usize,
    pub policy: Policy,
    /// Unpublished messages of this lane above which it waits.
    pub backlog: i64,
    /// Where the death of a message is told.
    pub announce: Option<String>,
}

/// A lane of one handler.
pub struct Lane<S, T, O> {
    pub index: i32,
    /// Swapped between two turns when a new build is dropped in.
    pub handler: Arc<ArcSwap<Loaded>>,
    pub options: Options,
    pub log: Log,
    pub store: Arc<S>,
    pub settle: Arc<T>,
    pub outlet: Arc<O>,
    pub clock: Arc<dyn Clock>,
    pub gate: Arc<Gate>,
    pub caution: Arc<Caution>,
    pub deliveries: mpsc::Receiver<Delivery>,
    pub due: mpsc::Receiver<DueParked>,
    pub health: Arc<Health>,
    pub metrics: HandlerMetrics,
    pub memory: Memory,
}

/// What a lane remembers from turn to turn. All of it can be lost.
pub struct Memory {
    cache: Cache,
    /// Keys that have messages waiting in order.
    held: HashSet<String>,
    /// Keys whose waiting messages are to be gone on with.
    again: VecDeque<DueParked>,
    /// Turns that still look into the inbox before handling; without, the commit finds duplicates.
    wary: u32,
    /// The outcome of a commit is unknown.
    unsure: bool,
}

/// Turns that look into the inbox after a duplicate was met.
const WARY_TURNS: u32 = 100;
/// First turns of a lane that look into the inbox: what an earlier process handled and did not
/// acknowledge comes again in these, and the first that does makes it wary for longer.
const FIRST_TURNS: u32 = 16;

impl Memory {
    /// `held`: keys with messages waiting; they are gone on with at once.
    pub fn new(cache: usize, held: impl IntoIterator<Item = String>) -> Self {
        let held: Vec<String> = held.into_iter().collect();
        let again = held.iter().map(|key| DueParked { id: 0, key: Some(key.clone()) }).collect();
        let held = held.into_iter().collect();
        Memory { cache: Cache::new(cache), held, again, wary: FIRST_TURNS, unsure: true }
    }
}

/// Why a lane stopped before its deliveries ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("fenced out: {0}")]
pub struct FencedOut(pub String);

/// Why an attempt at a turn did not end it.
enum Again {
    /// Something it rested on has changed, or it has to look into the inbox.
    Changed,
    /// The store cannot be used, or the outcome is unknown.
    Away(String),
    /// Postgres refuses what some message writes.
    Refused(String),
    Fenced(String),
}

impl From<Fault> for Again {
    fn from(fault: Fault) -> Self {
        Again::Away(fault.to_string())
    }
}

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Takes turns until the deliveries end.
    ///
    /// # Errors
    /// Another process has taken over.
    pub async fn run(mut self) -> Result<(), FencedOut> {
        while let Some(batch) = self.drain().await {
            if self.caution.applies_to(&batch) {
                self.careful_turns(batch).await?;
            } else {
                self.turn(batch).await?;
            }
        }
        Ok(())
    }

    /// Turns after a crash: what is in hand is noted before, by one lane at a time.
    async fn careful_turns(&mut self, batch: Batch) -> Result<(), FencedOut> {
        let caution = Arc::clone(&self.caution);
        for part in caution.parts(batch) {
            let _alone = caution.alone().await;
            let keys: Vec<InboxKey> = part.members.iter().map(|m| m.inbox_key).collect();
            let mut failures = 0;
            while let Err(why) = self.store.note_in_hand(&keys).await {
                failures += 1;
                self.wait_for_store(failures, &why.0).await;
            }
            self.turn(part).await?;
            let innocent = caution.survived(&keys);
            if !innocent.is_empty()
                && let Err(why) = self.store.forget_suspects(&innocent).await
            {
                // It is handled alone once more after the next start; no harm is done.
                self.health.away("postgres", &why.0);
            }
        }
        Ok(())
    }

    /// One turn. A batch that Postgres refuses is halved down to the message that is the cause.
    async fn turn(&mut self, batch: Batch) -> Result<(), FencedOut> {
        let mut batches = VecDeque::from([batch]);
        let mut failures = 0;
        while let Some(batch) = batches.pop_front() {
            match self.attempt(&batch).await {
                Ok(()) => failures = 0,
                Err(Again::Changed) => {
                    failures += 1;
                    self.pause_after_conflict(failures).await;
                    batches.push_front(self.refreshed(batch));
                }
                Err(Again::Away(why)) => {
                    failures += 1;
                    self.wait_for_store(failures, &why).await;
                    batches.push_front(self.refreshed(batch));
                }
                Err(Again::Refused(why)) => {
                    if let Some(stuck) = halve(batch, &why, &mut batches) {
                        failures += 1;
                        self.wait_for_store(failures, &stuck).await;
                    }
                }
                Err(Again::Fenced(why)) => return Err(FencedOut(why)),
            }
        }
        Ok(())
    }

    /// Load, handle, commit, settle.
    async fn attempt(&mut self, batch: &Batch) -> Result<(), Again> {
        let loaded = self.handler.load_full();
        let (known, snapshot) = self.load(&loaded, batch).await?;
        fault::point(Point::Loaded)?;
        let started = Instant::now();
        let rules = handle::Rules {
            handler: &*loaded.handler,
            policy: &self.options.policy,
            held: &self.memory.held,
            known: &known,
            now: self.clock.unix_millis(),
        };
        let handled = blocking(|| handle::handle(&rules, batch, snapshot));
        let handled = handled.map_err(|why| Again::Away(why.to_string()))?;
        if handled.snapshot.lock().unwrap_or_else(PoisonError::into_inner).torn() {
            self.memory.cache.clear();
            return Err(Again::Changed);
        }
        fault::point(Point::Handled)?;
        self.metrics.handle_seconds.observe(started.elapsed().as_secs_f64());
        let source = write::Source {
            handler: &loaded.handler.description().name,
            component: loaded.component,
            log: &self.log,
            announce: self.options.announce.as_deref(),
        };
        let written = write::write(&source, batch, &handled);
        if !written.empty {
            let started = Instant::now();
            self.commit(&written.commit).await?;
            self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        }
        self.settle(batch, &handled, written).await;
        Ok(())
    }

    /// Drops what is read from the table of parked messages: it is read again when it is due.
    fn refreshed(&mut self, mut batch: Batch) -> Batch {
        for key in std::mem::take(&mut batch.taken_up).into_keys() {
            self.memory.held.insert(key.clone());
            self.memory.again.push_back(DueParked { id: 0, key: Some(key) });
        }
        batch.members.retain(|member| member.delivery().is_some());
        batch
    }
}

/// Guests compute, and may block: for a read of a document, or in WASI, which blocks on futures of its
/// own. Other tasks of a multi-thread runtime go on meanwhile.
fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Puts the halves of a refused batch first in line; a batch of one is the cause and is set aside.
/// Returns what is to be said where that was refused as well: nothing is lost, but nothing goes on.
fn halve(mut batch: Batch, why: &str, batches: &mut VecDeque<Batch>) -> Option<String> {
    if let [member] = batch.members.as_mut_slice() {
        let id = &member.message().id;
        let stuck = format!("message {id} can be neither handled nor parked: {why}");
        let stuck = matches!(member.fault, Some(Failure::Refused(_))).then_some(stuck);
        member.fault = Some(Failure::Refused(why.to_owned()));
        batches.push_front(batch);
        return stuck;
    }
    let middle = batch.members.len() / 2;
    let (first, second) = batch.split(middle);
    batches.push_front(second);
    batches.push_front(first);
    None
}
