//! A lane: a serial executor that owns a share of a handler's keys. It repeats one turn: drain, load,
//! handle, commit, settle. It does no I/O of its own and knows store, stream and relay as traits.
//!
//! What it must never do: acknowledge before the commit, or let an error of the store become a
//! failure of a message.

mod batch;
mod cache;
mod drain;
mod handle;
mod map;
mod policy;
pub mod ports;
mod snapshot;
mod write;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use self::batch::{Batch, Member, Whole};
use self::cache::{Cache, Cached};
use self::handle::{Fate, Handled};
use self::ports::{
    CommitError, Delivery, DueParked, Entry, Load, Loaded, LoadedState, Log, Outlet, Settle, Store,
    StoreAway,
};
use self::snapshot::Snapshot;
use crate::model::{InboxKey, KeySource};
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
                Err(Again::Refused(why)) => halve(batch, &why, &mut batches),
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
        self.remember(batch, &handled);
        self.report(&written.commit.handler, batch, &handled);
        let delayed = !written.commit.scheduled.is_empty();
        self.hand_over(written.commit.entries, written.transient, delayed);
        let deliveries: Vec<Delivery> =
            batch.members.iter().filter_map(Member::delivery).cloned().collect();
        self.settle.settle(&deliveries).await;
        Ok(())
    }

    /// After a commit of unknown outcome: finds out from the log whether it took place.
    async fn make_sure(&mut self) -> Result<(), Again> {
        if self.memory.unsure {
            let state = self.store.log_state(self.log.writer).await.map_err(away)?;
            if state.last > self.log.last {
                self.log.last = state.last;
                self.outlet.look_again(self.log.writer);
            }
            self.memory.unsure = false;
        }
        Ok(())
    }

    /// One query: which messages were handled before, and what is to be read ahead and not cached.
    async fn load(
        &mut self,
        loaded: &Loaded,
        batch: &Batch,
    ) -> Result<(HashSet<InboxKey>, Snapshot), Again> {
        let mut wanted = Load::default();
        let redelivered = |m: &Member| m.delivery().is_some_and(|d| d.redelivered);
        if self.memory.wary > 0 || batch.members.iter().any(redelivered) {
            self.memory.wary = self.memory.wary.saturating_sub(1);
            let arrived = batch.members.iter().filter(|m| m.delivery().is_some());
            wanted.inbox = arrived.map(|m| m.inbox_key).collect();
        }
        let mut snapshot = Snapshot::new(self.store.reader());
        let mut missing = HashSet::new();
        for member in &batch.members {
            let message = member.message();
            let subscription = loaded.handler.description().subscription_for(&message.subject);
            let (Some(key), Some(subscription)) = (&message.key, subscription) else { continue };
            debug_assert_ne!(subscription.key, KeySource::None);
            for collection in &subscription.read_ahead {
                if snapshot.has(collection, key) {
                    continue;
                }
                match self.memory.cache.get(collection, key) {
                    Some(Cached { version, body }) => {
                        snapshot.preload(&row(collection, key, version, body));
                    }
                    None => {
                        missing.insert((collection.clone(), key.clone()));
                    }
                }
            }
        }
        wanted.documents = missing.iter().cloned().collect();
        let mut state = LoadedState::default();
        if !wanted.inbox.is_empty() || !wanted.documents.is_empty() {
            state = self.store.load(&wanted).await.map_err(away)?;
            self.health.back("postgres");
        }
        for (collection, key) in &wanted.documents {
            snapshot.preload(&row(collection, key, 0, None));
        }
        for row in &state.documents {
            snapshot.preload(row);
        }
        Ok((state.handled.into_iter().collect(), snapshot))
    }

    async fn commit(&mut self, commit: &ports::Commit) -> Result<(), Again> {
        let Err(error) = self.store.commit(commit).await else {
            self.health.back("postgres");
            return Ok(());
        };
        self.memory.cache.clear();
        match error {
            CommitError::Duplicate => {
                self.memory.wary = WARY_TURNS;
                Err(Again::Changed)
            }
            CommitError::Conflict(why) => {
                self.metrics.conflicts.inc();
                tracing::debug!(handler = commit.handler, "turn is run again: {why}");
                Err(Again::Changed)
            }
            CommitError::Fenced(why) => Err(Again::Fenced(why)),
            CommitError::Data(why) => Err(Again::Refused(why)),
            CommitError::Unavailable(why) => {
                self.memory.unsure = true;
                self.memory.wary = WARY_TURNS;
                Err(Again::Away(why))
            }
        }
    }

    /// Keeps what the next turns can use.
    fn remember(&mut self, batch: &Batch, handled: &Handled) {
        let snapshot = handled.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        for (collection, key, version, body) in snapshot.after_commit() {
            match version {
                Some(version) => {
                    self.memory.cache.put(collection, key, Cached { version, body: body.clone() });
                }
                None => self.memory.cache.remove(collection, key),
            }
        }
        drop(snapshot);
        self.memory.held.extend(handled.failed.iter().cloned());
        for (key, whole) in &batch.taken_up {
            if handled.released.contains(key) {
                self.memory.held.remove(key);
            } else if let Whole::MoreFrom(id) = whole
                && !handled.failed.contains(key)
            {
                self.memory.again.push_back(DueParked { id: *id, key: Some(key.clone()) });
            }
        }
        if handled.fates.iter().any(|fate| matches!(fate, Fate::Duplicate)) {
            self.memory.wary = WARY_TURNS;
        }
    }

    /// Counts what happened, and says what was set aside.
    fn report(&self, handler: &str, batch: &Batch, handled: &Handled) {
        self.metrics.turn_messages.observe(batch.members.len() as f64);
        let mut done = 0;
        let mut duplicates = 0;
        for (member, fate) in batch.members.iter().zip(&handled.fates) {
            match fate {
                Fate::Handled(_) => done += 1,
                Fate::Duplicate => duplicates += 1,
                Fate::Untouched => {}
                Fate::Parked(parking) => {
                    self.metrics.parked(parking.reason).inc();
                    let message = member.message();
                    if parking.reason != "waiting" {
                        tracing::warn!(
                            handler,
                            message_id = message.id,
                            subject = message.subject,
                            key = message.key,
                            reason = parking.reason,
                            attempts = parking.attempts,
                            retry_after_ms = parking.retry_after,
                            "message parked: {}",
                            parking.error
                        );
                    }
                }
            }
        }
        self.metrics.handled.inc_by(done);
        self.metrics.duplicates.inc_by(duplicates);
    }

    /// Hands what was committed to the relay.
    fn hand_over(&mut self, entries: Vec<Entry>, transient: Vec<Entry>, delayed: bool) {
        self.metrics.sent.inc_by(entries.len() as u64);
        if let Some(last) = entries.last() {
            self.log.last = last.seq;
            self.outlet.committed(self.log.writer, entries);
        }
        if !transient.is_empty() {
            self.outlet.transient(transient);
        }
        if delayed {
            self.outlet.scheduled();
        }
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

    async fn pause_after_conflict(&self, failures: u32) {
        if failures > 1 {
            // Lanes that met on a document do not meet again in step.
            let step = u64::from(failures.min(8)) * (3 + u64::from(self.index.unsigned_abs()) % 5);
            tokio::time::sleep(Duration::from_millis(step)).await;
        }
    }

    async fn wait_for_store(&self, failures: u32, why: &str) {
        self.health.away("postgres", why);
        let pause = Duration::from_millis(50).saturating_mul(1 << failures.min(6));
        tokio::time::sleep(pause.min(Duration::from_secs(2))).await;
    }
}

/// Guests may block for a read; on a multi-thread runtime other tasks go on meanwhile.
fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn away(error: StoreAway) -> Again {
    Again::Away(error.0)
}

fn row(collection: &str, key: &str, version: i64, body: Option<Arc<str>>) -> ports::Row {
    ports::Row { collection: collection.to_owned(), key: key.to_owned(), version, body }
}

/// Puts the halves of a refused batch first in line; a batch of one is the cause.
fn halve(mut batch: Batch, why: &str, batches: &mut VecDeque<Batch>) {
    if let [member] = batch.members.as_mut_slice() {
        member.refused = Some(why.to_owned());
        batches.push_front(batch);
        return;
    }
    let second = batch.members.split_off(batch.members.len() / 2);
    // Neither half alone knows when a key is free; it is gone on with afterwards.
    batch.taken_up.values_mut().for_each(|whole| *whole = Whole::MoreFrom(0));
    let taken_up = batch.taken_up.clone();
    batches.push_front(Batch { members: second, taken_up });
    batches.push_front(batch);
}
