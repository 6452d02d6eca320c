//! The task behind the relay: it feeds the publisher from the logs, and the logs from the table.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::log::{Pending, WriterLog};
use super::{Ask, Relay, Shared};
use crate::lane::ports::{Entry, StoreAway};
use crate::store::{LoggedEntry, Postgres};
use crate::stream::{Event, Nats, Publish, Publisher, Refusal, ids_in_stream, stream_of};
use crate::telemetry::{Health, Metrics};

/// How the relay works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Messages on their way to the server at most.
    pub window: usize,
    /// Unpublished messages above which lanes wait.
    pub backlog: u64,
}

/// Entries of one log that are kept in memory at most.
const CAPACITY: usize = 8_192;
/// How often a subject is refused before its message is looked at for being undeliverable.
const REFUSALS: u32 = 6;
/// Codes of JetStream that no waiting mends: the message is larger than its stream takes.
const FOR_GOOD: [u64; 1] = [10_054];
/// How far clocks of Postgres, NATS and this host may be apart.
const SKEW: i64 = 60_000;
/// How often cursors are written down when no commit takes them along.
const CURSOR_PERIOD: Duration = Duration::from_secs(1);

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What a job in the background came to.
enum Done {
    Read { writer: i32, after: i64, entries: Result<Vec<LoggedEntry>, StoreAway> },
    Looked { writer: i32, last: Result<i64, StoreAway> },
    Resolved { writer: i32, asked: Vec<(i64, String)>, found: Result<HashSet<String>, String> },
    Judged { writer: i32, seq: i64, verdict: Judgement },
    CursorsWritten { result: Result<(), StoreAway>, cursors: Vec<(i32, i64)> },
}

enum Judgement {
    SetAside { reason: String },
    TryAgain,
}

struct Relayed {
    log: WriterLog,
    published: Arc<AtomicI64>,
    /// The cursor as the table has it.
    written: i64,
    reading: bool,
    resolving: bool,
    /// Until then the store or the stream is not asked again.
    rest_until: Instant,
}

/// The relay's task. It owns all logs of this node.
pub struct RelayTask {
    asks: mpsc::UnboundedReceiver<Ask>,
    shared: Arc<Shared>,
    store: Postgres,
    nats: Nats,
    publisher: Publisher,
    events: mpsc::UnboundedReceiver<Event>,
    options: Options,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    logs: HashMap<i32, Relayed>,
    jobs: FuturesUnordered<Job>,
    tokens: HashMap<u64, (i32, i64)>,
    next_token: u64,
    connection: Option<(u64, usize)>,
    waiting: Vec<(Vec<i32>, oneshot::Sender<()>)>,
    writing_cursors: bool,
}

impl RelayTask {
    pub fn new(
        options: Options,
        store: Postgres,
        nats: Nats,
        (publisher, events): (Publisher, mpsc::UnboundedReceiver<Event>),
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> (Relay, RelayTask) {
        let (sender, asks) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        shared.limit.store(options.backlog, Ordering::Release);
        let relay = Relay { asks: sender, shared: Arc::clone(&shared) };
        let task = RelayTask {
            asks,
            shared,
            store,
            nats,
            publisher,
            events,
            options,
            health,
            metrics,
            logs: HashMap::new(),
            jobs: FuturesUnordered::new(),
            tokens: HashMap::new(),
            next_token: 0,
            connection: None,
            waiting: Vec::new(),
            writing_cursors: false,
        };
        (relay, task)
    }

    /// Relays until `stop`, and then until everything is published and written down; the caller
    /// bounds how long that may take.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let mut cursors = tokio::time::interval(CURSOR_PERIOD);
        loop {
            tokio::select! {
                Some(ask) = self.asks.recv() => {
                    self.asked(ask);
                    while let Ok(ask) = self.asks.try_recv() {
                        self.asked(ask);
                    }
                }
                Some(event) = self.events.recv() => {
                    self.happened(event);
                    while let Ok(event) = self.events.try_recv() {
                        self.happened(event);
                    }
                }
                Some(done) = self.jobs.next() => self.finished(done),
                _ = tick.tick() => self.answer_waiting(),
                _ = cursors.tick() => self.write_cursors(),
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
                let cursor = published.load(Ordering::Acquire);
                let relayed = Relayed {
                    log: WriterLog::new(cursor, last, CAPACITY),
                    published,
                    written: cursor,
                    reading: false,
                    resolving: false,
                    rest_until: Instant::now(),
                };
                self.logs.insert(writer, relayed);
            }
            Ask::Committed { writer, entries } => {
                let now = unix_millis();
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    relayed.log.announce(entries.into_iter().map(|e| pending(e, now)).collect());
                }
            }
            Ask::LookAgain { writer, last: Some(last) } => {
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    relayed.log.goes_to(last);
                }
            }
            Ask::LookAgain { writer, last: None } => self.look(writer),
            Ask::Transient { entries } => {
                let Some((connection, _)) = self.connection else { return };
                for Entry { id, subject, headers, payload, .. } in entries {
                    let token = None;
                    let message = Publish { connection, token, id, subject, headers, payload };
                    self.publisher.send(message);
                }
            }
            Ask::WhenEmpty { writers, answer } => self.waiting.push((writers, answer)),
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Up { connection, max_payload } => {
                self.connection = Some((connection, max_payload));
                self.health.back("publishing");
            }
            Event::Down { why, .. } => {
                self.connection = None;
                self.tokens.clear();
                self.logs.values_mut().for_each(|relayed| relayed.log.start_again());
                self.health.away("publishing", &why);
            }
            Event::Stored { token, duplicate } => {
                let Some((writer, seq)) = self.tokens.remove(&token) else { return };
                self.metrics.published.inc();
                self.metrics.published_again.inc_by(u64::from(duplicate));
                if let Some(relayed) = self.logs.get_mut(&writer) {
                    relayed.log.stored(seq);
                    relayed.note();
                }
            }
            Event::Refused { token, refusal } => {
                if let Some((writer, seq)) = self.tokens.remove(&token) {
                    self.refused(writer, seq, &refusal);
                }
            }
        }
    }

    fn refused(&mut self, writer: i32, seq: i64, refusal: &Refusal) {
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        let Some(entry) = relayed.log.entry(seq).cloned() else { return };
        let Some(refused) = relayed.log.refused(seq, Instant::now()) else { return };
        let what = match refusal {
            Refusal::NoStream => "no stream answers".to_owned(),
            Refusal::Server { code, description } => format!("{description} (code {code})"),
        };
        if refused.refusals == 1 {
            tracing::warn!(
                subject = entry.subject,
                message_id = entry.id,
                "message was not taken and is tried again: {what}"
            );
        }
        match refusal {
            Refusal::Server { code, .. } if FOR_GOOD.contains(code) => {
                self.set_aside(writer, seq, what);
            }
            Refusal::NoStream if refused.refusals >= REFUSALS => {
                let (nats, store) = (self.nats.clone(), self.store.clone());
                self.jobs.push(Box::pin(async move {
                    let subject = &entry.subject;
                    let verdict = match stream_of(&nats, subject).await {
                        Ok(None) => {
                            let reason = format!("no stream takes subject '{subject}'");
                            set_undelivered(&store, writer, seq, reason).await
                        }
                        _ => Judgement::TryAgain,
                    };
                    Done::Judged { writer, seq, verdict }
                }));
            }
            _ => {}
        }
    }

    /// Writes an entry down as undeliverable; it is out of the way once that is committed.
    fn set_aside(&mut self, writer: i32, seq: i64, reason: String) {
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let verdict = set_undelivered(&store, writer, seq, reason).await;
            Done::Judged { writer, seq, verdict }
        }));
    }

    /// Finds out how far a log goes.
    fn look(&mut self, writer: i32) {
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let last = store.writer_state(writer).await.map(|state| state.last);
            Done::Looked { writer, last }
        }));
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
            Done::Looked { writer, last } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
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
                        for (seq, id) in asked {
                            relayed.log.resolved(seq, found.contains(&id));
                        }
                        relayed.note();
                    }
                    Err(why) => relayed.rest(&self.health, "read-back", &why),
                }
            }
            Done::Judged { writer, seq, verdict: Judgement::SetAside { reason } } => {
                let Some(relayed) = self.logs.get_mut(&writer) else { return };
                if let Some(entry) = relayed.log.entry(seq) {
                    self.metrics.undelivered.inc();
                    tracing::error!(
                        subject = entry.subject,
                        message_id = entry.id,
                        "message is undeliverable and set aside in tribox.undelivered: {reason}"
                    );
                }
                relayed.log.set_aside(seq, Instant::now());
                relayed.note();
            }
            Done::Judged { verdict: Judgement::TryAgain, .. } => {}
            Done::CursorsWritten { result, cursors } => {
                self.writing_cursors = false;
                if result.is_ok() {
                    for (writer, published) in cursors {
                        if let Some(relayed) = self.logs.get_mut(&writer) {
                            relayed.written = published;
                        }
                    }
                }
            }
        }
    }

    /// Sends as much as the window allows, and has more read where the logs run out.
    fn pump(&mut self) {
        let now = Instant::now();
        let wall = unix_millis();
        let writers: Vec<i32> = self.logs.keys().copied().collect();
        for writer in writers {
            self.read_more(writer, now);
            if self.connection.is_some() && self.doubts_resolved(writer, now, wall) {
                self.send(writer, now, wall);
            }
        }
    }

    fn read_more(&mut self, writer: i32, now: Instant) {
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        if relayed.reading || relayed.rest_until > now {
            return;
        }
        if let Some((after, limit)) = relayed.log.wants() {
            relayed.reading = true;
            let store = self.store.clone();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.jobs.push(Box::pin(async move {
                let entries = store.read_log(writer, after, limit).await;
                Done::Read { writer, after, entries }
            }));
        }
    }

    /// Whether everything that may have been sent long ago was looked for in its stream.
    fn doubts_resolved(&mut self, writer: i32, now: Instant, wall: i64) -> bool {
        let Some(relayed) = self.logs.get_mut(&writer) else { return true };
        if relayed.resolving || relayed.rest_until > now {
            return false;
        }
        // Half of JetStream's shortest common window: a resend within it is told by its id alone.
        let asked = relayed.log.doubtful(wall - DOUBT_AFTER);
        if asked.is_empty() {
            return true;
        }
        relayed.resolving = true;
        let nats = self.nats.clone();
        self.jobs.push(Box::pin(async move {
            let found = look_for(&nats, &asked).await;
            let asked = asked.into_iter().map(|entry| (entry.seq, entry.id)).collect();
            Done::Resolved { writer, asked, found }
        }));
        false
    }

    fn send(&mut self, writer: i32, now: Instant, wall: i64) {
        let Some((connection, max_payload)) = self.connection else { return };
        let mut too_large = Vec::new();
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        while self.tokens.len() < self.options.window {
            let Some(entry) = relayed.log.send(now) else { break };
            let seq = entry.seq;
            if entry.expires_at.is_some_and(|at| at < wall) {
                tracing::warn!(subject = entry.subject, message_id = entry.id, "message expired");
                self.metrics.expired.inc();
                relayed.log.done(seq);
                relayed.note();
                continue;
            }
            let size = entry.payload.len() + entry.headers.len() + entry.id.len() + 64;
            if size > max_payload {
                too_large.push((seq, size));
                continue;
            }
            self.next_token += 1;
            self.tokens.insert(self.next_token, (writer, seq));
            self.publisher.send(Publish {
                connection,
                token: Some(self.next_token),
                id: entry.id.clone(),
                subject: entry.subject.clone(),
                headers: entry.headers.clone(),
                payload: entry.payload.clone(),
            });
        }
        for (seq, size) in too_large {
            let reason = format!("{size} bytes with headers; the server takes {max_payload}");
            self.set_aside(writer, seq, reason);
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

    /// Keeps the numbers that others look at.
    fn account(&mut self) {
        let backlog: u64 = self.logs.values().map(|relayed| relayed.log.backlog()).sum();
        self.shared.backlog.store(backlog, Ordering::Release);
        self.metrics.backlog.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        let oldest = self.logs.values().filter_map(|relayed| relayed.log.oldest()).min();
        let age = oldest.map_or(0, |at| (unix_millis() - at).max(0));
        self.metrics.oldest_unsent_seconds.set(age as f64 / 1_000.0);
        if backlog <= self.options.backlog {
            self.shared.room.notify_waiters();
        }
    }

    fn answer_waiting(&mut self) {
        let logs = &self.logs;
        let empty = |w: &i32| logs.get(w).is_none_or(|r| r.log.backlog() == 0);
        for (writers, answer) in std::mem::take(&mut self.waiting) {
            if writers.iter().all(empty) {
                let _ = answer.send(());
            } else {
                self.waiting.push((writers, answer));
            }
        }
    }
}

/// After this time an entry that may have been sent is looked for before it is sent again:
/// milliseconds, half of JetStream's default dedup window.
const DOUBT_AFTER: i64 = 60_000;

impl Relayed {
    /// Tells the lane how far the log is published.
    fn note(&self) {
        self.published.store(self.log.published(), Ordering::Release);
    }

    /// Leaves whoever did not answer alone for a while.
    fn rest(&mut self, health: &Health, part: &str, why: &str) {
        health.away(part, why);
        self.rest_until = Instant::now() + Duration::from_millis(500);
    }
}

async fn set_undelivered(store: &Postgres, writer: i32, seq: i64, reason: String) -> Judgement {
    match store.set_undelivered(writer, seq, &reason).await {
        Ok(()) => Judgement::SetAside { reason },
        Err(_) => Judgement::TryAgain,
    }
}

/// Which of these entries stand in their streams.
async fn look_for(nats: &Nats, asked: &[Pending]) -> Result<HashSet<String>, String> {
    let mut found = HashSet::new();
    let mut streams: HashMap<String, (i64, HashSet<String>)> = HashMap::new();
    let mut known: HashMap<&str, Option<String>> = HashMap::new();
    for entry in asked {
        if !known.contains_key(entry.subject.as_str()) {
            let stream = stream_of(nats, &entry.subject).await.map_err(|why| why.to_string())?;
            known.insert(&entry.subject, stream.map(|stream| stream.name));
        }
        // Without a stream it cannot have been stored.
        let Some(Some(stream)) = known.get(entry.subject.as_str()) else { continue };
        let (since, ids) =
            streams.entry(stream.clone()).or_insert_with(|| (entry.committed_at, HashSet::new()));
        *since = entry.committed_at.min(*since);
        ids.insert(entry.id.clone());
    }
    for (stream, (since, ids)) in streams {
        tracing::info!(stream, count = ids.len(), "looking for messages that may be there already");
        let there = ids_in_stream(nats, &stream, since - SKEW, &ids).await;
        found.extend(there.map_err(|why| why.to_string())?);
    }
    Ok(found)
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

/// Milliseconds since the Unix epoch, by this host's clock: for ages and expiry, which allow for
/// clocks that differ ([`SKEW`]).
#[expect(clippy::disallowed_methods, reason = "compared with a margin for clocks that differ")]
fn unix_millis() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
