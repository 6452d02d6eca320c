//! A term: the time for which this node works on a unit. Its lanes, the readers of its streams, and the
//! parked messages that are due.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::build::heal;
use super::clock::SystemClock;
use super::handler::Works;
use super::intake::Supervisor;
use super::lane::run_lane;
use super::restored::Watch;
use super::{Shared, lease};
use crate::config;
use crate::lane::ports::{
    Delivery, DueParked, Loaded, Log, LogState, Source, Store as _, StoreAway,
};
use crate::lane::{Gate, Lane, Memory, Options, Policy};
use crate::model::{Description, Unit};
use crate::relay::Relay;
use crate::store::Postgres;
use crate::stream::{
    Acknowledge, Consumption, End, Filters, Lag, Reader, Router, StreamInfo, find_streams,
    has_ended, lane_of_key, obstacle,
};
use crate::telemetry::HandlerMetrics;

/// How often streams are looked for that are not there yet, and what is parked.
const LOOK: Duration = Duration::from_secs(1);
/// How often streams are looked for when none is missing.
const RARELY: Duration = Duration::from_secs(30);
/// Due parked messages that wait for a lane at most.
const DUE: usize = 4_096;

/// A unit that this node works on.
pub struct Term {
    pub shared: Shared,
    pub unit: Unit,
    pub description: Arc<Description>,
    pub settings: config::Handler,
    pub metrics: HandlerMetrics,
    pub works: Arc<Works>,
    pub stop: CancellationToken,
    lanes: Vec<mpsc::Sender<Delivery>>,
    due: Vec<mpsc::Sender<DueParked>>,
    gate: Arc<Gate>,
}

impl Term {
    /// A term of a unit, which ends with `stop`.
    pub fn new(
        shared: &Shared,
        unit: &Unit,
        description: &Arc<Description>,
        works: &Arc<Works>,
        stop: CancellationToken,
    ) -> Term {
        Term {
            shared: shared.clone(),
            unit: unit.clone(),
            description: Arc::clone(description),
            settings: shared.config.handler(&description.name),
            metrics: shared.metrics.handler(&description.name),
            works: Arc::clone(works),
            stop,
            lanes: Vec::new(),
            due: Vec::new(),
            gate: Arc::default(),
        }
    }

    /// Works until stopped; returns the logs of its lanes.
    pub async fn work(mut self, loaded: Arc<ArcSwap<Loaded>>) -> Vec<i32> {
        let lanes = loop {
            match self.open(&loaded).await {
                Ok(lanes) => break lanes,
                Err(why) => self.shared.health.away("postgres", &why.to_string()),
            }
            tokio::select! {
                () = self.stop.cancelled() => break Vec::new(),
                () = tokio::time::sleep(LOOK) => {}
            }
            let name = self.unit.to_string();
            if self.description.keyed() && !lease::still_own(&self.shared, &name).await {
                break Vec::new();
            }
        };
        if lanes.is_empty() {
            self.shared.health.forget(&self.part());
            return Vec::new();
        }
        let logs = lanes.iter().map(|lane| lane.log.writer).collect();
        let working = self.works.begin();
        let mut turns = JoinSet::new();
        for lane in lanes {
            turns.spawn(run_lane(lane, self.shared.clone()));
        }
        self.run().await;
        while turns.join_next().await.is_some() {}
        drop(working);
        logs
    }

    /// The lanes; none: asked to stop before.
    async fn open(
        &mut self,
        loaded: &Arc<ArcSwap<Loaded>>,
    ) -> Result<Vec<Lane<Postgres, Acknowledge, Relay>>, StoreAway> {
        let configured = self.settings.lanes.or(self.shared.config.lanes.count);
        // Partitions are lanes of their own, and a node has several.
        let usual = || self.unit.partition().map_or_else(default_lanes, |_| 1);
        let count = configured.unwrap_or_else(usual);
        tokio::select! {
            () = self.stop.cancelled() => return Ok(Vec::new()),
            published = self.publish_left(count) => published?,
        }
        let component = loaded.load().component;
        heal(&self.shared, &self.description.name, &self.settings, component).await?;
        self.lanes(loaded, count).await
    }

    /// Opens the logs and builds the lanes.
    async fn lanes(
        &mut self,
        loaded: &Arc<ArcSwap<Loaded>>,
        count: usize,
    ) -> Result<Vec<Lane<Postgres, Acknowledge, Relay>>, StoreAway> {
        let config = &self.shared.config;
        let (name, unit) = (&self.description.name, self.unit.to_string());
        let mut held: HashMap<usize, Vec<String>> = HashMap::new();
        let keys = self.shared.store.held_keys(name).await?;
        for key in keys.into_iter().filter(|key| self.unit.has_key(Some(key))) {
            held.entry(lane_of_key(&key, count)).or_default().push(key);
        }
        let retry = &self.settings.retry;
        let options = Options {
            turn: self.settings.turn.unwrap_or(config.lanes.turn),
            turn_bytes: config.lanes.turn_bytes,
            cache: config.lanes.cache_bytes,
            policy: Policy {
                attempts: i32::try_from(retry.attempts).unwrap_or(i32::MAX),
                backoff: retry.backoff,
                cap: retry.cap,
                retry_traps: self.settings.on_trap == config::OnTrap::Retry,
                hold: self.settings.hold,
                hops: self.settings.limits.as_ref().unwrap_or(&config.limits).hops,
            },
            backlog: i64::try_from(self.backlog().outbox).unwrap_or(i64::MAX)
                / i64::try_from(count).unwrap_or(1)
                / self.unit.partition().map_or(1, |partition| i64::from(partition.of)),
            announce: Some(config.dead.subject.replace("{handler}", name))
                .filter(|subject| !subject.is_empty()),
        };
        let signed = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let mut lanes = Vec::with_capacity(count);
        self.lanes.clear();
        self.due.clear();
        for n in 0..count {
            let index = signed(n);
            let owned = self.description.keyed();
            let store = &self.shared.store;
            let opened = store.open_writer(&unit, index, signed(count), owned).await?;
            let published = self.shared.relay.open(opened.id, opened.published, opened.last);
            let (sender, deliveries) = mpsc::channel(options.turn.max(64));
            let (due_sender, due) = mpsc::channel(DUE);
            self.lanes.push(sender);
            self.due.push(due_sender);
            lanes.push(Lane {
                index,
                handler: Arc::clone(loaded),
                log: Log { writer: opened.id, fence: opened.fence, last: opened.last, published },
                store: Arc::new(self.shared.store.for_lane()),
                settle: Arc::new(Acknowledge::new(&self.shared.nats)),
                outlet: Arc::new(self.shared.relay.clone()),
                clock: Arc::new(SystemClock),
                gate: Arc::clone(&self.gate),
                caution: Arc::clone(&self.shared.caution),
                deliveries,
                due,
                health: self.shared.health.clone(),
                metrics: self.metrics.clone(),
                memory: Memory::new(options.cache, held.remove(&n).unwrap_or_default()),
                options: options.clone(),
            });
        }
        Ok(lanes)
    }

    /// Where another node had the handler, or the number of lanes was another one, keys have moved
    /// between logs: what the old logs still hold is published before anything new, so that the order
    /// of each key stays.
    async fn publish_left(&self, count: usize) -> Result<(), StoreAway> {
        let (unit, store) = (self.unit.to_string(), &self.shared.store);
        if self.description.keyed() {
            lease::finish_left(&self.shared, &unit, &self.part()).await?;
        }
        let logs = store.moved_logs(&unit, i32::try_from(count).unwrap_or(i32::MAX)).await?;
        if logs.is_empty() {
            return Ok(());
        }
        let why = "the number of lanes has changed: publishing what is left in the old ones' logs";
        self.shared.health.away(&self.part(), why);
        for log in &logs {
            let LogState { published, last } = store.writer_state(*log).await?;
            self.shared.relay.open(*log, published, last);
        }
        self.shared.relay.when_empty(logs).await;
        Ok(())
    }

    /// Looks for streams and reads them, and hands due parked messages to the lanes, until stopped.
    async fn run(self) {
        let mut readers: JoinSet<(String, End)> = JoinSet::new();
        let mut reading: BTreeMap<String, i64> = BTreeMap::new();
        let mut watch = Watch::default();
        let mut tick = tokio::time::interval(LOOK);
        // Streams may come and go; while all are there, looking for more is rare.
        let mut next_look = Instant::now();
        let mut intake = Supervisor::new(
            self.unit.clone(),
            self.shared.store.clone(),
            self.backlog(),
            self.metrics.clone(),
            Arc::clone(&self.gate),
            self.due.clone(),
        );
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = readers.join_next(), if !readers.is_empty() => {
                    if let Ok((stream, end)) = ended {
                        reading.remove(&stream);
                        next_look = Instant::now();
                        if end == End::StreamGone {
                            let handler = &self.description.name;
                            tracing::warn!(handler, stream, "the stream is gone or was made anew");
                        }
                    }
                }
                _ = tick.tick() => {
                    // An error is met again, and shown, by the lanes.
                    let _ = intake.look().await;
                    let alarmed = watch.alarmed(&self.shared);
                    if alarmed || next_look <= Instant::now() {
                        let complete =
                            self.discover(&mut reading, &mut readers, &mut watch, alarmed).await;
                        next_look = Instant::now() + if complete { RARELY } else { LOOK / 2 };
                    }
                }
            }
        }
        while readers.join_next().await.is_some() {}
        self.shared.health.forget(&self.part());
    }

    fn backlog(&self) -> config::Backlog {
        self.settings.backlog.unwrap_or(self.shared.config.backlog)
    }

    fn part(&self) -> String {
        part(&self.unit)
    }

    /// Finds the streams of the subscriptions and starts a reader for each new one; whether all
    /// that is subscribed to is read now.
    async fn discover(
        &self,
        reading: &mut BTreeMap<String, i64>,
        readers: &mut JoinSet<(String, End)>,
        watch: &mut Watch,
        alarmed: bool,
    ) -> bool {
        if self.is_over().await {
            return false;
        }
        let prefix = self.unit.prefix();
        let filters: Vec<String> = self
            .description
            .subscriptions
            .iter()
            .map(|s| format!("{prefix}{}", s.subject))
            .collect();
        let streams = match find_streams(&self.shared.nats, &filters).await {
            Ok(streams) => streams,
            Err(why) => {
                self.shared.health.away(&self.part(), &why.to_string());
                return false;
            }
        };
        let overlap = crate::model::subject::overlap;
        let missing: Vec<&String> = filters
            .iter()
            .filter(|f| {
                !streams.iter().any(|s| s.subjects.iter().any(|subject| overlap(subject, f)))
            })
            .collect();
        let mut complete = missing.is_empty();
        if complete {
            self.shared.health.back(&self.part());
        } else {
            let why =
                format!("no stream has subject {missing:?}; create one, or run `tribox provision`");
            self.shared.health.away(&self.part(), &why);
        }
        for stream in streams {
            if reading.contains_key(&stream.name) {
                if alarmed {
                    watch
                        .look_at(&self.shared, &self.unit, self.description.keyed(), &stream)
                        .await;
                }
                continue;
            }
            if !watch.allows(&self.shared, &self.unit, self.description.keyed(), &stream).await {
                complete = false;
                continue;
            }
            let mine = filters.iter().filter(|f| stream.subjects.iter().any(|s| overlap(s, f)));
            let mine = mine.cloned().collect();
            match self.reader(&stream, mine).await {
                Ok(reader) => {
                    reading.insert(stream.name.clone(), stream.created);
                    readers.spawn(async move { (stream.name, reader.run().await) });
                }
                Err(why) => {
                    self.shared.health.away("postgres", &why.to_string());
                    complete = false;
                }
            }
        }
        if alarmed {
            watch.looked();
        }
        complete
    }

    /// Whether this unit's messages are another layout's by now; says so, and ends the term where it has
    /// handled all of its own.
    async fn is_over(&self) -> bool {
        let nats = &self.shared.nats;
        let outcome = match self.unit.partition() {
            // While it works, its stream may get a successor.
            Some(_) => has_ended(nats, &self.unit).await.map(|ended| {
                ended.then(|| {
                    self.stop.cancel();
                    "its partition is read to its end; it is in other partitions now".to_owned()
                })
            }),
            None if self.description.keyed() => obstacle(nats, &self.description, None).await,
            None => Ok(None),
        };
        let outcome = outcome.unwrap_or_else(|why| Some(why.to_string()));
        if let Some(why) = &outcome {
            self.shared.health.away(&self.part(), why);
        }
        outcome.is_some()
    }

    async fn reader(&self, stream: &StreamInfo, filters: Vec<String>) -> Result<Reader, StoreAway> {
        let unit = self.unit.to_string();
        let position = self.shared.store.position(&unit, &stream.name, stream.created).await?;
        let floor = position.map_or(0, |(_, floor)| u64::try_from(floor).unwrap_or_default());
        let ordered = self.description.keyed();
        let source = Arc::new(Source::new(stream.name.clone(), stream.created, floor, ordered));
        tracing::info!(handler = unit, stream = stream.name, "consuming {}", filters.join(", "));
        let turn = self.settings.turn.unwrap_or(self.shared.config.lanes.turn);
        // Enough for every lane to have a turn in hand, one waiting, and one on its way.
        let max_in_hand = i64::try_from(turn * self.lanes.len() * 4).unwrap_or(4_096);
        Ok(Reader {
            nats: self.shared.nats.clone(),
            consumption: Consumption {
                unit: self.unit.clone(),
                stream: stream.name.clone(),
                filters: Filters::new(filters, &self.unit),
                ordered,
                max_in_hand: max_in_hand.clamp(64, 16_384),
                stalled: self.shared.config.nats.stalled,
            },
            source,
            router: Arc::new(Router::new(&self.description, &self.unit)),
            lanes: self.lanes.clone(),
            acknowledge: Acknowledge::new(&self.shared.nats),
            fence: self.shared.fence.clone(),
            health: self.shared.health.clone(),
            metrics: self.metrics.clone(),
            lag: Lag::new(self.metrics.lag.clone()),
            stop: self.stop.clone(),
        })
    }
}

/// The name of a unit's part of the health.
pub fn part(unit: &Unit) -> String {
    format!("handler {unit}")
}

fn default_lanes() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4)
}
