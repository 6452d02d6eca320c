//! The task behind the relay: one loop over what lanes commit, what the publisher reports and what
//! jobs in the background have found out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::jobs::{Done, Job, Judgement};
use super::log::{Pending, WriterLog};
use super::ports::{Outbox, Outgoing, Streams};
use super::{Ask, Relay, Shared};
use crate::fault::{self, Point};
use crate::lane::ports::{Clock, Entry};
use crate::store::LoggedEntry;
use crate::stream::{Event, Publish};
use crate::telemetry::{Health, Metrics};

/// How the relay works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Messages on their way to the server at most.
    pub window: usize,
}

/// Entries of one log that are kept in memory at most.
const CAPACITY: usize = 8_192;
/// How often it is looked whether logs are empty that somebody waits for.
const TICK: Duration = Duration::from_millis(50);
/// How often cursors are written down when no commit takes them along.
const CURSOR_PERIOD: Duration = Duration::from_secs(1);

/// A log that is relayed.
pub(super) struct Relayed {
    pub(super) log: WriterLog,
    pub(super) published: Arc<AtomicI64>,
    /// The cursor as the table has it.
    pub(super) written: i64,
    pub(super) reading: bool,
    pub(super) resolving: bool,
    /// A commit to it was given up: it may take place at any time, so it is looked at again and again.
    pub(super) unsure: bool,
    pub(super) looking: bool,
    /// Until then the store or the stream is not asked again.
    pub(super) rest_until: Instant,
}

/// The relay's task. It owns all logs of this node.
pub struct RelayTask<S, N, P> {
    asks: mpsc::UnboundedReceiver<Ask>,
    pub(super) store: S,
    pub(super) nats: N,
    pub(super) publisher: P,
    events: mpsc::UnboundedReceiver<Event>,
    pub(super) options: Options,
    clock: Arc<dyn Clock>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) logs: BTreeMap<i32, Relayed>,
    pub(super) jobs: FuturesUnordered<Job>,
    pub(super) tokens: HashMap<u64, (i32, i64)>,
    pub(super) next_token: u64,
    pub(super) connection: Option<(u64, usize)>,
    /// Whether the server has answered nothing yet over this connection, be it a refusal.
    pub(super) unanswered: bool,
    waiting: Vec<(Vec<i32>, oneshot::Sender<()>)>,
    pub(super) wary: bool,
    writing_cursors: bool,
}

impl<S: Outbox, N: Streams, P: Outgoing> RelayTask<S, N, P> {
    pub fn new(
        options: Options,
        store: S,
        nats: N,
        (publisher, events): (P, mpsc::UnboundedReceiver<Event>),
        clock: Arc<dyn Clock>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> (Relay, Self) {
        let (sender, asks) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let relay = Relay { asks: sender, shared };
        let task = RelayTask {
            asks,
            store,
            nats,
            publisher,
            events,
            options,
            clock,
            health,
            metrics,
            logs: BTreeMap::new(),
            jobs: FuturesUnordered::new(),
            tokens: HashMap::new(),
            next_token: 0,
            connection: None,
            unanswered: true,
            waiting: Vec::new(),
            wary: false,
            writing_cursors: false,
        };
        (relay, task)
    }

    /// Relays until `stop`, and then until everything is published and written down; the caller
    /// bounds how long that may take.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        let mut cursors = tokio::time::interval(CURSOR_PERIOD);
        loop {
            // What is rare comes first, so that it has its turn however much arrives.
            tokio::select! {
                biased;
                _ = cursors.tick() => {
                    self.write_cursors();
                    self.look_out();
                }
                _ = tick.tick() => self.answer_waiting(),
                Some(done) = self.jobs.next() => self.finished(done),
                Some(event) = self.events.recv() => {
                    self.happened(event);
                    while let Ok(event) = self.events.try_recv() {
                        self.happened(event);
                    }
                }
                Some(ask) = self.asks.recv() => {
                    self.asked(ask);
                    while let Ok(ask) = self.asks.try_recv() {
                        self.asked(ask);
                    }
                }
                () = stop.cancelled(), if self.idle() => {
                    self.write_cursors();
                    while let Some(done) = self.jobs.next().await {
                        self.finished(done);
                    }
                    return;
                }
            }
            self.pump();
            self.account();
        }
    }

    fn idle(&self) -> bool {
        self.asks.is_empty() && self.logs.values().all(|r| r.log.backlog() == 0)
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Open { writer, last, published } => {
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    // It has been open before, and knows more than the table.
                    relayed.log.goes_to(last);
                    relayed.published = published;
                    relayed.note();
                    return;
                }
                let cursor = published.load(Ordering::Acquire);
                let mut log = WriterLog::new(cursor, last, CAPACITY);
                log.be_wary(self.wary);
                let relayed = Relayed {
                    log,
                    published,
                    written: cursor,
                    reading: false,
                    resolving: false,
                    unsure: false,
                    looking: false,
                    rest_until: Instant::now(),
                };
                self.logs.insert(writer, relayed);
            }
            Ask::Committed { writer, entries } => {
                fault::pass(Point::HandedToRelay);
                let now = self.unix_millis();
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    if fault::twice(Point::HandedToRelay) {
                        let entries = entries.iter().cloned().map(|e| pending(e, now));
                        relayed.log.announce(entries.collect());
                    }
                    relayed.log.announce(entries.into_iter().map(|e| pending(e, now)).collect());
                }
            }
            Ask::LookAgain { writer, last: Some(last) } => {
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    relayed.log.goes_to(last);
                }
            }
            Ask::LookAgain { writer, last: None } => {
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    relayed.unsure = true;
                }
                self.look(writer);
            }
            Ask::Transient { entries } => {
                let Some((connection, _)) = self.connection else { return };
                for Entry { id, subject, headers, payload, .. } in entries {
                    let token = None;
                    let message = Publish { connection, token, id, subject, headers, payload };
                    self.publisher.send(message);
                }
            }
            Ask::BeWary(wary) => {
                self.wary = wary;
                self.logs.values_mut().for_each(|relayed| relayed.log.be_wary(wary));
            }
            Ask::WhenEmpty { writers, answer } => self.waiting.push((writers, answer)),
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Up { connection, max_payload } => {
                self.connection = Some((connection, max_payload));
                self.unanswered = true;
            }
            Event::Down { why, .. } => {
                self.connection = None;
                self.tokens.clear();
                let now = Instant::now();
                self.logs.values_mut().for_each(|relayed| relayed.log.start_again(now));
                self.health.away("publishing", &why);
            }
            Event::Stored { token, duplicate } => {
                let Some((writer, seq)) = self.tokens.remove(&token) else { return };
                self.answered();
                self.metrics.published.inc();
                self.metrics.published_again.inc_by(u64::from(duplicate));
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    if fault::twice(Point::PubAckSeen) {
                        relayed.log.stored(seq, Instant::now());
                    }
                    relayed.log.stored(seq, Instant::now());
                    relayed.note();
                }
            }
            Event::Refused { token, refusal } => {
                if let Some((writer, seq)) = self.tokens.remove(&token) {
                    self.answered();
                    self.refused(writer, seq, &refusal);
                }
            }
        }
    }

    fn finished(&mut self, done: Done) {
        match done {
            Done::Read { writer, after, entries } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                relayed.reading = false;
                match entries {
                    Ok(entries) => {
                        relayed.log.read(after, entries.into_iter().map(logged).collect());
                    }
                    Err(why) => relayed.rest(&self.health, "postgres", &why.to_string()),
                }
            }
            Done::Filled { writer, entries } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                relayed.reading = false;
                match entries {
                    Ok(entries) => relayed.log.fill(entries.into_iter().map(logged).collect()),
                    Err(why) => relayed.rest(&self.health, "postgres", &why.to_string()),
                }
            }
            Done::Looked { writer, last } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                relayed.looking = false;
                match last {
                    Ok(last) => relayed.log.goes_to(last),
                    Err(why) => {
                        relayed.rest(&self.health, "postgres", &why.to_string());
                        self.look(writer);
                    }
                }
            }
            Done::Resolved { writer, asked, found } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                relayed.resolving = false;
                match found {
                    Ok(found) => {
                        self.health.back("read-back");
                        let now = Instant::now();
                        for (seq, id) in asked {
                            relayed.log.resolved(seq, found.contains(&id), now);
                        }
                        relayed.note();
                    }
                    Err(why) => relayed.rest(&self.health, "read-back", &why),
                }
            }
            Done::Judged { writer, seq, verdict: Judgement::SetAside(why) } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                if let Some(entry) = relayed.log.entry(seq) {
                    self.metrics.undelivered.inc();
                    tracing::error!(
                        subject = entry.subject,
                        message_id = entry.id,
                        reason = why.reason,
                        "message is undeliverable and set aside in tribox.undelivered: {}",
                        why.error
                    );
                }
                relayed.log.set_aside(seq, Instant::now());
                relayed.note();
            }
            Done::Judged { verdict: Judgement::TryAgain, .. } => {}
            Done::CursorsWritten { result, cursors } => {
                self.writing_cursors = false;
                if result.is_ok() {
                    self.cursors_written(&cursors);
                }
            }
        }
    }

    fn cursors_written(&mut self, cursors: &[(i32, i64)]) {
        for (writer, published) in cursors {
            if let Some(relayed) = self.logs.get_mut(writer) {
                relayed.written = *published;
            }
        }
    }

    fn write_cursors(&mut self) {
        if self.writing_cursors {
            return;
        }
        let behind = self.logs.iter().filter(|(_, r)| r.written < r.log.published());
        let cursors: Vec<(i32, i64)> = behind.map(|(w, r)| (*w, r.log.published())).collect();
        if cursors.is_empty() {
            return;
        }
        self.writing_cursors = true;
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let result = store.advance_cursors(&cursors).await;
            Done::CursorsWritten { result, cursors }
        }));
    }

    /// Milliseconds since the Unix epoch, by this host's clock: for ages and expiry, which allow for
    /// clocks that differ by a margin.
    pub(super) fn unix_millis(&self) -> i64 {
        i64::try_from(self.clock.unix_millis()).unwrap_or(i64::MAX)
    }

    /// Answers those whose logs are empty, by the table as well: another node may wait for that.
    fn answer_waiting(&mut self) {
        let logs = &self.logs;
        let all = |writers: &[i32], holds: fn(&Relayed) -> bool| {
            writers.iter().all(|w| logs.get(w).is_none_or(holds))
        };
        let mut unwritten = false;
        for (writers, answer) in std::mem::take(&mut self.waiting) {
            let empty = all(&writers, |r| r.log.backlog() == 0);
            let written = all(&writers, |r| r.written >= r.log.published());
            unwritten |= empty && !written;
            if empty && written {
                let _ = answer.send(());
            } else {
                self.waiting.push((writers, answer));
            }
        }
        if unwritten {
            self.write_cursors();
        }
    }
}

impl Relayed {
    /// Tells the lane how far the log is published.
    pub(super) fn note(&self) {
        self.published.store(self.log.published(), Ordering::Release);
    }

    /// Leaves whoever did not answer alone for a while.
    fn rest(&mut self, health: &Health, part: &str, why: &str) {
        health.away(part, why);
        self.rest_until = Instant::now() + Duration::from_millis(500);
    }
}

fn pending(entry: Entry, now: i64) -> Pending {
    let Entry { seq, id, subject, headers, payload, expires_after } = entry;
    let expires_at = expires_after.map(|after| now.saturating_add(after));
    Pending { seq, id, subject, headers, payload, committed_at: now, expires_at }
}

fn logged(entry: LoggedEntry) -> Pending {
    let LoggedEntry { seq, id, subject, headers, payload, committed_at, expires_at } = entry;
    Pending { seq, id, subject, headers, payload, committed_at, expires_at }
}
