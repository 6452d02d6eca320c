//! A lane: a serial executor that owns a share of a handler's keys. It repeats one turn: drain, load,
//! handle, commit, settle. It does no I/O of its own and knows store, stream and relay as traits.
//!
//! What it must never do: acknowledge before the commit, or let an error of the store become a
//! failure of a message.

mod batch;
mod cache;
mod commit;
mod drain;
mod handle;
mod load;
mod map;
mod policy;
pub mod ports;
mod settle;
mod snapshot;
mod source;
mod write;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use self::batch::{Batch, Member, Whole};
use self::cache::Cache;
use self::ports::{Delivery, DueParked, Loaded, Log, Outlet, Settle, Store};
use crate::telemetry::{HandlerMetrics, Health};

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

impl Memory {
    /// `held`: keys with messages waiting; they are gone on with at once.
    pub fn new(cache: usize, held: impl IntoIterator<Item = String>) -> Self {
        let held: HashSet<String> = held.into_iter().collect();
        let again = held.iter().map(|key| DueParked { id: 0, key: Some(key.clone()) }).collect();
        Memory { cache: Cache::new(cache), held, again, wary: WARY_TURNS, unsure: true }
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

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Takes turns until the deliveries end.
    ///
    /// # Errors
    /// Another process has taken over.
    pub async fn run(mut self) -> Result<(), FencedOut> {
        while let Some(batch) = self.drain().await {
            self.turn(batch).await?;
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
        self.make_sure().await?;
        let (known, snapshot) = self.load(&loaded, batch).await?;
        let started = Instant::now();
        let handled = blocking(|| {
            let handler = &*loaded.handler;
            let memory = &self.memory;
            handle::handle(handler, &self.options.policy, &memory.held, batch, &known, snapshot)
        });
        let handled = handled.map_err(|why| Again::Away(why.to_string()))?;
        if handled.snapshot.lock().unwrap_or_else(PoisonError::into_inner).torn() {
            self.memory.cache.clear();
            return Err(Again::Changed);
        }
        self.metrics.handle_seconds.observe(started.elapsed().as_secs_f64());
        let mut written = write::write(self.index, loaded.component, &self.log, batch, &handled);
        loaded.handler.description().name.clone_into(&mut written.commit.handler);
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
        for key in batch.taken_up.drain().map(|(key, _)| key) {
            self.memory.held.insert(key.clone());
            self.memory.again.push_back(DueParked { id: 0, key: Some(key) });
        }
        batch.members.retain(|member| member.delivery().is_some());
        batch
    }
}

/// Guests may block for a read; on a multi-thread runtime other tasks go on meanwhile.
fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Puts the halves of a refused batch first in line; a batch of one is the cause and is set aside.
/// Returns what is to be said where that was refused as well: nothing is lost, but nothing goes on.
fn halve(mut batch: Batch, why: &str, batches: &mut VecDeque<Batch>) -> Option<String> {
    if let [member] = batch.members.as_mut_slice() {
        let id = &member.message().id;
        let stuck = format!("message {id} can be neither handled nor parked: {why}");
        let stuck = member.refused.is_some().then_some(stuck);
        member.refused = Some(why.to_owned());
        batches.push_front(batch);
        return stuck;
    }
    let mut second = batch.members.split_off(batch.members.len() / 2);
    // Parked messages of one key are handled in order: those behind the first half wait for it.
    let key = |member: &Member| match member.delivery() {
        Some(_) => None,
        None => member.message().key.clone(),
    };
    let before: HashSet<String> = batch.members.iter().filter_map(key).collect();
    second.retain(|member| key(member).is_none_or(|key| !before.contains(&key)));
    // Neither half alone knows when a key is free; it is gone on with afterwards.
    batch.taken_up.values_mut().for_each(|whole| *whole = Whole::MoreFrom(0));
    let taken_up = batch.taken_up.clone();
    batches.push_front(Batch { members: second, taken_up });
    batches.push_front(batch);
    None
}
