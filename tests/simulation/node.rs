//! A node of the simulated world: the real lanes, relay, scheduler and leases, started in the order of
//! host/src/node. It can be frozen, killed and stopped in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tribox::config::Config;
use tribox::lane::Caution;
use tribox::lane::ports::{Clock, Handler, Loaded};
use tribox::node::{Ousted, Shared, lease, schedule};
use tribox::relay::{self, RelayTask};
use tribox::stream::Fence;
use tribox::telemetry::{Health, Metrics};

use crate::handlers::{BOOK, COUNT, Simulated, TAIL};
use crate::nats::{Publishing, SimNats};
use crate::runner::Runner;
use crate::store::SimStore;
use crate::world::{EPOCH, World, elapsed, watch};

const LEASE: Duration = Duration::from_secs(5);

/// Whether a process may run.
#[derive(Default)]
struct Ice {
    frozen: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// A task of a process that may be frozen.
struct Freezing<F> {
    ice: Arc<Ice>,
    task: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Freezing<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.ice.frozen.load(Ordering::Relaxed) {
            let mut waiting = self.ice.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        self.task.as_mut().poll(context)
    }
}

/// A running process.
pub struct Process {
    ice: Arc<Ice>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Process {
    pub fn start(world: &World, name: &str, holder: String, lanes: usize) -> Process {
        let (ice, stop) = (Arc::new(Ice::default()), CancellationToken::new());
        let birth = Birth {
            world: world.clone(),
            name: name.to_owned(),
            holder,
            lanes,
            ice: Arc::clone(&ice),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(Freezing { ice: Arc::clone(&ice), task: Box::pin(birth.live(stop.clone())) });
        Process { ice, stop, tasks }
    }

    pub fn freeze(&self, frozen: bool) {
        self.ice.frozen.store(frozen, Ordering::Relaxed);
        if !frozen {
            let mut waiting = self.ice.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Stops in order, within the grace that a host has.
    pub async fn stop(mut self) {
        self.freeze(false);
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(30), ended).await;
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.tasks.try_join_next().is_some() || self.tasks.is_empty()
    }
}

/// The wall clock of one node.
struct SkewedClock(World, String);

impl Clock for SkewedClock {
    fn unix_millis(&self) -> u64 {
        let skew = self.0.look().line(&self.1).skew;
        u64::try_from(EPOCH + elapsed() + skew).unwrap_or_default()
    }
}

/// What a process is started with.
#[derive(Clone)]
pub struct Birth {
    pub world: World,
    pub name: String,
    holder: String,
    pub lanes: usize,
    ice: Arc<Ice>,
}

/// What the parts of a node share.
pub type Node = Shared<SimStore, SimNats>;

impl Birth {
    /// Starts a task that is frozen with the process.
    pub fn spawn(&self, tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        tasks.spawn(Freezing { ice: Arc::clone(&self.ice), task: Box::pin(task) });
    }

    /// Registers and works, again and again where it was fenced out.
    async fn live(self, stop: CancellationToken) {
        loop {
            let asked = watch();
            let registering =
                SimStore::register(&self.world, &self.name, self.holder.clone(), LEASE);
            let registered = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                registered = registering => registered,
            };
            let Ok((node, crashes, suspects)) = registered else {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            };
            self.world.note(&format!("{} registered at epoch {}", self.name, node.epoch));
            let caution = Caution::default();
            let care = match crashes {
                0 => None,
                1 => Some(60),
                _ => Some(900),
            };
            let now = tokio::time::Instant::now();
            caution.renew(care.map(|care| now + Duration::from_secs(care)), suspects);
            let store = SimStore { world: self.world.clone(), node };
            let ended = self.work(store, Arc::new(caution), asked.after(LEASE), &stop).await;
            if ended {
                return;
            }
        }
    }

    /// Works as one epoch of the node. True: the process ends.
    async fn work(
        &self,
        store: SimStore,
        caution: Arc<Caution>,
        until: tribox::stream::Moment,
        stop: &CancellationToken,
    ) -> bool {
        let fence = Fence::by(watch, until);
        let nats = SimNats { world: self.world.clone(), node: self.name.clone() };
        let (publisher, events, publishing) = Publishing::new(nats.clone(), fence.clone());
        let (health, metrics) = (Arc::new(Health::default()), Metrics::new());
        let clock: Arc<dyn Clock> = Arc::new(SkewedClock(self.world.clone(), self.name.clone()));
        let (relay, relaying) = RelayTask::new(
            relay::Options { window: 64 },
            store.clone(),
            nats.clone(),
            (publisher, events),
            Arc::clone(&clock),
            Arc::clone(&health),
            Arc::clone(&metrics),
        );
        relay.be_wary(store.any_already_sent().await.unwrap_or(true));
        let (lost_sender, mut lost) = mpsc::unbounded_channel();
        let shared = Shared {
            config: Arc::new(config()),
            store,
            nats,
            relay,
            health,
            metrics,
            caution,
            fence,
            suspicion: Arc::default(),
            posts: Arc::default(),
            lost: lost_sender,
        };
        let (keeper_stop, relay_stop) = (CancellationToken::new(), CancellationToken::new());
        let (background_stop, handlers_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut publishers = JoinSet::new();
        self.spawn(&mut publishers, publishing.run());
        let (mut keeping, mut relayed) = (JoinSet::new(), JoinSet::new());
        self.spawn(&mut keeping, lease::keep(shared.clone(), keeper_stop.clone()));
        self.spawn(&mut relayed, relaying.run(relay_stop.clone()));
        let (mut background, mut handlers) = (JoinSet::new(), JoinSet::new());
        self.spawn(&mut background, schedule(shared.clone(), background_stop.clone()));
        run_handlers(self, &shared, &mut handlers, &clock, &handlers_stop);
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            lost = lost.recv() => lost,
        };
        let in_order = outcome.is_none();
        let finish = async {
            handlers_stop.cancel();
            while handlers.join_next().await.is_some() {}
            background_stop.cancel();
            while background.join_next().await.is_some() {}
            relay_stop.cancel();
            while relayed.join_next().await.is_some() {}
            keeper_stop.cancel();
            while keeping.join_next().await.is_some() {}
            if in_order {
                let _ = shared.store.end_node().await;
            }
        };
        let grace = Duration::from_secs(if in_order { 20 } else { 1 });
        let _ = tokio::time::timeout(grace, finish).await;
        let end = outcome.as_ref().map_or("stopped", |ousted| match ousted {
            Ousted::Lease(_) => "fenced out",
            Ousted::Name(_) => "its name was taken",
            Ousted::Broken(_) => "broken",
        });
        self.world.note(&format!("{} {end}", self.name));
        !matches!(outcome, Some(Ousted::Lease(_)))
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.node.lease = LEASE;
    config
}

/// Publishes what earlier processes left, then runs the handlers.
fn run_handlers(
    birth: &Birth,
    shared: &Node,
    tasks: &mut JoinSet<()>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) {
    let (birth, shared, clock, stop) =
        (birth.clone(), shared.clone(), Arc::clone(clock), stop.clone());
    let spawner = birth.clone();
    spawner.spawn(tasks, async move {
        lease::publish_leftovers(&shared, &stop).await;
        let mut running = JoinSet::new();
        for name in [BOOK, TAIL, COUNT] {
            let handler: Arc<dyn Handler> = Arc::new(Simulated::new(name, birth.world.clone()));
            let runner = Runner {
                birth: birth.clone(),
                shared: shared.clone(),
                description: Arc::new(handler.description().clone()),
                loaded: Arc::new(ArcSwap::from_pointee(Loaded { handler, component: 1 })),
                clock: Arc::clone(&clock),
                stop: stop.clone(),
            };
            birth.spawn(&mut running, runner.work());
        }
        while running.join_next().await.is_some() {}
    });
}
