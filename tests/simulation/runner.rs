//! One handler on a node of the simulated world: its lanes, its readers and what is parked, in the order
//! of host/src/node/term.rs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tribox::lane::ports::{
    Clock, Delivery, DueParked, Loaded, Log, LogState, Source, Store, StoreAway,
};
use tribox::lane::{Gate, Lane, Memory, Options, Policy};
use tribox::model::{Description, Unit};
use tribox::node::intake::Supervisor;
use tribox::node::lease;
use tribox::relay::Relay;
use tribox::relay::ports::{Outbox, Streams};
use tribox::stream::lane_of_key;

use crate::nats::SimNats;
use crate::node::{Birth, Node};
use crate::reader::SimReader;
use crate::store::SimStore;

const LOOK: Duration = Duration::from_secs(1);

/// One handler on one node.
pub struct Runner {
    pub birth: Birth,
    pub shared: Node,
    pub description: Arc<Description>,
    pub loaded: Arc<ArcSwap<Loaded>>,
    pub clock: Arc<dyn Clock>,
    pub stop: CancellationToken,
}

/// The lanes of a handler, and the ways to them.
struct Lanes {
    lanes: Vec<Lane<SimStore, SimNats, Relay>>,
    deliveries: Vec<mpsc::Sender<Delivery>>,
    due: Vec<mpsc::Sender<DueParked>>,
    gate: Arc<Gate>,
}

impl Runner {
    pub async fn work(self) {
        let (name, part) = (self.description.name.clone(), format!("handler {}", self.birth.name));
        let owned = self.description.keyed();
        while !self.stop.is_cancelled() {
            if owned && !lease::own(&self.shared, &name, &part, &self.stop).await {
                return;
            }
            let term = self.stop.child_token();
            let logs = tokio::select! {
                biased;
                logs = self.work_on(&term) => logs,
                () = self.give_up(owned, &term) => return,
            };
            lease::close(&self.shared, &logs).await;
            if owned {
                lease::hand_over(&self.shared, &name, logs).await;
            }
        }
    }

    /// Ends a term after a while, as where another node should have a share.
    async fn give_up(&self, owned: bool, term: &CancellationToken) {
        let after = self.birth.world.look().millis(5_000, 200_000);
        tokio::time::sleep(after).await;
        if owned && self.birth.world.look().rate > 0.0 {
            self.birth.world.look().tally.count("node: unit given up");
            term.cancel();
        }
        std::future::pending().await
    }

    async fn work_on(&self, term: &CancellationToken) -> Vec<i32> {
        let opened = loop {
            let opened = tokio::select! {
                biased;
                () = term.cancelled() => return Vec::new(),
                opened = self.open() => opened,
            };
            match opened {
                Ok(lanes) => break lanes,
                Err(_) => tokio::time::sleep(LOOK).await,
            }
            let name = &self.description.name;
            if self.description.keyed() && !lease::still_own(&self.shared, name).await {
                return Vec::new();
            }
        };
        let logs = opened.lanes.iter().map(|lane| lane.log.writer).collect();
        let mut turns = JoinSet::new();
        for lane in opened.lanes {
            let shared = self.shared.clone();
            self.birth.spawn(&mut turns, async move {
                if lane.run().await.is_err() {
                    lease::lost(&shared).await;
                }
            });
        }
        self.read(opened.deliveries, opened.due, opened.gate, term).await;
        while turns.join_next().await.is_some() {}
        logs
    }

    async fn open(&self) -> Result<Lanes, StoreAway> {
        let (name, count) = (&self.description.name, self.birth.lanes);
        let signed = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let (shared, store) = (&self.shared, &self.shared.store);
        let owned = self.description.keyed();
        if owned {
            lease::finish_left(shared, name, "handler").await?;
        }
        let logs = store.moved_logs(name, signed(count)).await?;
        for log in &logs {
            let LogState { published, last } = store.writer_state(*log).await?;
            shared.relay.open(*log, published, last);
        }
        if !logs.is_empty() {
            shared.relay.when_empty(logs).await;
        }
        store.heal(name, self.loaded.load().component).await?;
        let mut held: HashMap<usize, Vec<String>> = HashMap::new();
        for key in store.held_keys(name).await? {
            held.entry(lane_of_key(&key, count)).or_default().push(key);
        }
        let options = Options {
            turn: 16,
            turn_bytes: 1 << 20,
            cache: 1 << 20,
            policy: Policy {
                attempts: 1_000,
                backoff: Duration::from_secs(1),
                cap: Duration::from_secs(20),
                ..Policy::default()
            },
            backlog: 1_000,
            announce: Some(format!("dead.{name}")),
        };
        let gate = Arc::new(Gate::default());
        let mut opened = Lanes {
            lanes: Vec::new(),
            deliveries: Vec::new(),
            due: Vec::new(),
            gate: Arc::clone(&gate),
        };
        for n in 0..count {
            let log = store.open_writer(name, signed(n), signed(count), owned).await?;
            let published = shared.relay.open(log.id, log.published, log.last);
            let (sender, deliveries) = mpsc::channel(64);
            let (due_sender, due) = mpsc::channel(256);
            opened.deliveries.push(sender);
            opened.due.push(due_sender);
            opened.lanes.push(Lane {
                index: signed(n),
                handler: Arc::clone(&self.loaded),
                log: Log { writer: log.id, fence: log.fence, last: log.last, published },
                store: Arc::new(store.clone()),
                settle: Arc::new(shared.nats.clone()),
                outlet: Arc::new(shared.relay.clone()),
                clock: Arc::clone(&self.clock),
                gate: Arc::clone(&gate),
                caution: Arc::clone(&shared.caution),
                deliveries,
                due,
                health: shared.health.clone(),
                metrics: shared.metrics.handler(name),
                memory: Memory::new(options.cache, held.remove(&n).unwrap_or_default()),
                options: options.clone(),
            });
        }
        Ok(opened)
    }

    /// Reads the streams and hands parked messages that are due to the lanes, until stopped.
    async fn read(
        &self,
        lanes: Vec<mpsc::Sender<Delivery>>,
        due: Vec<mpsc::Sender<DueParked>>,
        gate: Arc<Gate>,
        term: &CancellationToken,
    ) {
        let shared = &self.shared;
        let name = self.description.name.clone();
        let mut intake = Supervisor::new(
            Unit::whole(&name),
            shared.store.clone(),
            shared.config.backlog,
            shared.metrics.handler(&name),
            gate,
            due,
        );
        let filters: Vec<String> =
            self.description.subscriptions.iter().map(|s| s.subject.clone()).collect();
        let mut readers = JoinSet::new();
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = term.cancelled() => break,
                _ = tick.tick() => {}
            }
            let _ = intake.look().await;
            if !readers.is_empty() {
                continue;
            }
            let Ok(streams) = shared.nats.find(&filters).await else { continue };
            for stream in streams {
                let floor = shared.store.floor(&name, &stream.name, stream.created).await;
                let Ok(floor) = floor else { break };
                let Ok(sent) = shared.store.any_already_sent().await else { break };
                shared.relay.be_wary(sent);
                let floor = u64::try_from(floor).unwrap_or_default();
                let ordered = self.description.keyed();
                let source = Source::new(stream.name, stream.created, floor, ordered);
                let reader = SimReader {
                    nats: shared.nats.clone(),
                    description: Arc::clone(&self.description),
                    filters: filters.clone(),
                    source: Arc::new(source),
                    lanes: lanes.clone(),
                    fence: shared.fence.clone(),
                    stop: term.clone(),
                };
                self.birth.spawn(&mut readers, reader.run());
            }
        }
        drop(lanes);
        while readers.join_next().await.is_some() {}
    }
}
