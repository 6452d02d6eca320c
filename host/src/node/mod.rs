//! A node: one running host process. It puts the rooms together: connects, registers, runs the
//! relay and a runner for each handler, follows the plugin directory, and stops in order.

mod build;
mod clock;
mod connect;
mod handler;
mod housekeeping;
pub mod intake;
mod lane;
pub mod lease;
mod plugins;
pub mod ports;
mod posts;
mod restored;
mod term;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::Config;
use crate::lane::Caution;
use crate::plugins::PluginDirectory;
use crate::relay::ports::Delayed;
use crate::relay::{self, Relay, RelayTask, SCHEDULED, Scheduler};
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::store::Postgres;
use crate::stream::{Fence, Nats, Publisher};
use crate::telemetry::{Health, Metrics};

pub use self::clock::SystemClock;
pub use self::connect::{connect_nats, connect_nats_once, connect_postgres};
pub use self::restored::{Compare, Lost, Unknown, compare, remembered_since};

/// Why a node ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(pub String);

/// What the parts of a node share.
#[derive(Clone)]
pub struct Shared<S = Postgres, N = Nats> {
    pub config: Arc<Config>,
    pub store: S,
    pub nats: N,
    pub relay: Relay,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// The care that is taken after a crash.
    pub caution: Arc<Caution>,
    /// Holds while this process is the node that it is registered as.
    pub fence: Fence,
    /// The units that it works on or stands by for.
    pub posts: Arc<posts::Posts>,
    /// Rises when the database may have lost what it had committed.
    pub suspicion: Arc<AtomicU64>,
    /// Ends the node: it can write no more.
    pub lost: mpsc::UnboundedSender<Ousted>,
}

/// Why a node can write no more.
pub enum Ousted {
    /// Its lease was over and others took over: it registers again.
    Lease(String),
    /// Another process has its name: this one ends.
    Name(String),
    /// A mistake of this program: it ends, and what it had in hand is looked at as after any crash.
    Broken(String),
}

/// Runs a node until `stop`.
///
/// # Errors
/// The config is wrong, a server refuses for good, or another process has taken the node's name.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), NodeError> {
    let config = Arc::new(config);
    let health = Arc::new(Health::default());
    let metrics = Metrics::new();
    health.starting("node");
    let listener = admin::listen(config.admin.listen).await.map_err(|why| {
        let address = config.admin.listen;
        NodeError(format!(
            "the admin address {address} cannot be opened: {why}; set [admin] listen to a free one"
        ))
    })?;
    let mut tasks = JoinSet::new();
    let admin_stop = CancellationToken::new();
    let serving = admin::serve(listener, health.clone(), metrics.clone(), admin_stop.clone());
    tasks.spawn(serving);
    let outcome = loop {
        let started = tokio::select! {
            started = start(Arc::clone(&config), health.clone(), metrics.clone(), stop.clone()) => {
                started
            }
            () = stop.cancelled() => Ok(None),
        };
        match started {
            Ok(Some(node)) => match node.run(stop.clone()).await {
                Ok(End::Stopped) => break Ok(()),
                Ok(End::FencedOut) => health.start_again(),
                Err(why) => break Err(why),
            },
            Ok(None) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    admin_stop.cancel();
    // Whoever still holds an admin connection open does not hold the process up.
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.join_next()).await;
    outcome
}

/// A node whose servers are there.
struct Node {
    shared: Shared,
    plugins: PluginDirectory,
    sandbox: Sandbox,
    relay_task: RelayTask<Postgres, Nats, Publisher>,
    lost: mpsc::UnboundedReceiver<Ousted>,
}

/// How a node ended.
enum End {
    Stopped,
    /// Others have taken over; it may register again, and begins from nothing.
    FencedOut,
}

async fn start(
    config: Arc<Config>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<Option<Node>, NodeError> {
    let error = |why: &dyn std::fmt::Display| NodeError(why.to_string());
    let plugins = PluginDirectory::open(&config.plugins.directory).map_err(|why| error(&why))?;
    let sandbox = SandboxConfig { cache: config.plugins.cache(), ..SandboxConfig::default() };
    let sandbox = Sandbox::new(sandbox).map_err(|why| error(&why))?;
    let Some(pool) = connect_postgres(&config.postgres, &health, &stop).await? else {
        return Ok(None);
    };
    if !connect::migrate(&pool, config.postgres.migrate, &health, &stop).await? {
        return Ok(None);
    }
    let Some(nats) = connect_nats(&config.nats, &health, &stop).await? else { return Ok(None) };
    let Some((registered, fence)) = connect::register(&pool, &config, &health, &stop).await else {
        return Ok(None);
    };
    health.back("postgres");
    tracing::info!(node = registered.node.name, epoch = registered.node.epoch, "registered");
    let store = Postgres::new(pool, config.postgres.connections, registered.node.clone());
    let caution = Arc::new(connect::caution(registered));
    let publisher = Publisher::start(connect::nats_options(&config.nats), fence.clone())
        .map_err(|why| NodeError(format!("the publisher cannot be started: {why}")))?;
    let options = relay::Options { window: config.relay.window };
    let (relay, relay_task) = RelayTask::new(
        options,
        store.clone(),
        nats.clone(),
        publisher,
        Arc::new(SystemClock),
        health.clone(),
        metrics.clone(),
    );
    // Before the scheduler sends anything: whether consumers were set back while no host ran. Where that
    // cannot be read each message is asked for until it can, which costs time alone.
    relay.be_wary(store.any_already_sent().await.unwrap_or(true));
    let (lost_sender, lost) = mpsc::unbounded_channel();
    let shared = Shared {
        config,
        store,
        nats,
        relay,
        health,
        metrics,
        caution,
        fence,
        posts: Arc::default(),
        suspicion: Arc::default(),
        lost: lost_sender,
    };
    Ok(Some(Node { shared, plugins, sandbox, relay_task, lost }))
}

impl Node {
    /// Works until it is asked to stop or can write no more; then stops in order: consuming, turns,
    /// relay.
    async fn run(mut self, stop: CancellationToken) -> Result<End, NodeError> {
        let shared = self.shared;
        let keeper_stop = CancellationToken::new();
        let mut keeping = JoinSet::new();
        keeping.spawn(lease::keep(shared.clone(), keeper_stop.clone()));
        let relay_stop = CancellationToken::new();
        let mut relaying = JoinSet::new();
        relaying.spawn(self.relay_task.run(relay_stop.clone()));
        let background_stop = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(schedule(shared.clone(), background_stop.clone()));
        background.spawn(posts::balance(shared.clone(), background_stop.clone()));
        background.spawn(housekeeping::prune(shared.clone(), background_stop.clone()));
        let handlers_stop = CancellationToken::new();
        let mut handlers = JoinSet::new();
        let follow = plugins::Follower::new(shared.clone(), self.plugins, self.sandbox);
        let (leftovers, follow_stop) = (shared.clone(), handlers_stop.clone());
        handlers.spawn(async move {
            lease::publish_leftovers(&leftovers, &follow_stop).await;
            follow.run(follow_stop).await;
        });
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(End::Stopped),
            lost = self.lost.recv() => match lost {
                Some(Ousted::Name(why) | Ousted::Broken(why)) => Err(NodeError(why)),
                Some(Ousted::Lease(why)) => {
                    tracing::error!("{why}");
                    Ok(End::FencedOut)
                }
                None => Ok(End::Stopped),
            },
        };
        shared.health.stopping();
        let in_order = matches!(outcome, Ok(End::Stopped));
        let grace = shared.config.shutdown.grace;
        if in_order {
            let grace_s = grace.as_secs();
            tracing::info!(grace_s, "stopping: finishing turns, publishing the rest");
        }
        let finish = async {
            handlers_stop.cancel();
            while handlers.join_next().await.is_some() {}
            background_stop.cancel();
            while background.join_next().await.is_some() {}
            relay_stop.cancel();
            while relaying.join_next().await.is_some() {}
            shared.nats.flush().await;
            keeper_stop.cancel();
            while keeping.join_next().await.is_some() {}
            // Otherwise others take the end for a crash, and wait until the lease is over.
            if in_order {
                let _ = shared.store.end_node().await;
            }
        };
        // Whoever can commit nothing more has nothing to wait for.
        let grace = if in_order { grace } else { Duration::from_secs(1) };
        let finished = tokio::time::timeout(grace, finish).await.is_ok();
        if in_order && finished {
            tracing::info!("stopped");
        } else if in_order {
            tracing::warn!(
                "not everything was finished in time; the next start, or another node, goes on"
            );
        }
        outcome
    }
}

/// Moves delayed messages on, where this node is the one to do so.
pub async fn schedule<S: ports::Leases + Delayed, N: ports::Flush>(
    shared: Shared<S, N>,
    stop: CancellationToken,
) {
    let part = "delayed messages";
    if !lease::own(&shared, SCHEDULED, part, &stop).await {
        return;
    }
    loop {
        let left = lease::finish_left(&shared, SCHEDULED, part);
        let left = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            left = left => left,
        };
        match left {
            Ok(()) => break,
            Err(why) => shared.health.away("postgres", &why.to_string()),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    shared.health.forget(part);
    let scheduler = Scheduler {
        store: shared.store.clone(),
        relay: shared.relay.clone(),
        health: shared.health.clone(),
        metrics: shared.metrics.clone(),
    };
    scheduler.run(&stop).await;
    lease::hand_over(&shared, SCHEDULED, Vec::new()).await;
}
