//! A node: one running host process. It puts the rooms together: connects, registers, runs the
//! relay and a runner for each handler, follows the plugin directory, and stops in order.

mod build;
mod clock;
mod connect;
mod handler;
mod housekeeping;
mod intake;
mod plugins;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::Config;
use crate::lane::Caution;
use crate::plugins::PluginDirectory;
use crate::relay::{self, Relay, RelayTask, Scheduler};
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::store::Postgres;
use crate::stream::{Nats, Publisher};
use crate::telemetry::{Health, Metrics};

pub use self::clock::SystemClock;
pub use self::connect::{connect_nats, connect_postgres};

/// Why a node ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(pub String);

/// What the parts of a node share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub config: Arc<Config>,
    pub store: Postgres,
    pub nats: Nats,
    pub relay: Relay,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// The care that is taken after a crash.
    pub caution: Arc<Caution>,
    /// Ends the node with an error.
    pub fatal: mpsc::UnboundedSender<String>,
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
    let outcome = tokio::select! {
        outcome = start(Arc::clone(&config), health, metrics, stop.clone()) => outcome,
        () = stop.cancelled() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some(node)) => node.run(stop).await,
        Ok(None) => Ok(()),
        Err(why) => Err(why),
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
    relay_task: RelayTask,
    fatal: mpsc::UnboundedReceiver<String>,
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
    connect::migrate(&pool, config.postgres.migrate).await?;
    let Some(nats) = connect_nats(&config.nats, &health, &stop).await? else { return Ok(None) };
    let name = connect::node_name(&config);
    let holder = connect::holder();
    let registered =
        crate::store::register(&pool, &name, &holder).await.map_err(|why| error(&why))?;
    tracing::info!(node = registered.node.name, epoch = registered.node.epoch, "registered");
    let caution = Arc::new(connect::caution(&registered));
    let store = Postgres::new(pool, config.postgres.connections, registered.node);
    let publisher = Publisher::start(connect::nats_options(&config.nats))
        .map_err(|why| NodeError(format!("the publisher cannot be started: {why}")))?;
    let options = relay::Options { window: config.relay.window };
    let (relay, relay_task) = RelayTask::new(
        options,
        store.clone(),
        nats.clone(),
        publisher,
        health.clone(),
        metrics.clone(),
    );
    let (fatal_sender, fatal) = mpsc::unbounded_channel();
    let shared =
        Shared { config, store, nats, relay, health, metrics, caution, fatal: fatal_sender };
    Ok(Some(Node { shared, plugins, sandbox, relay_task, fatal }))
}

impl Node {
    /// Works until it is asked to stop or something fatal happens; then stops in order: consuming,
    /// turns, relay.
    async fn run(mut self, stop: CancellationToken) -> Result<(), NodeError> {
        let shared = self.shared;
        let relay_stop = CancellationToken::new();
        let mut relaying = JoinSet::new();
        relaying.spawn(self.relay_task.run(relay_stop.clone()));
        let background_stop = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(
            Scheduler {
                store: shared.store.clone(),
                relay: shared.relay.clone(),
                health: shared.health.clone(),
                metrics: shared.metrics.clone(),
            }
            .run(background_stop.clone()),
        );
        background.spawn(housekeeping::heartbeat(shared.clone(), background_stop.clone()));
        background.spawn(housekeeping::prune(shared.clone(), background_stop.clone()));
        let handlers_stop = CancellationToken::new();
        let mut handlers = JoinSet::new();
        let follow = plugins::Follower::new(shared.clone(), self.plugins, self.sandbox);
        let (leftovers, follow_stop) = (shared.clone(), handlers_stop.clone());
        handlers.spawn(async move {
            housekeeping::publish_leftovers(&leftovers, &follow_stop).await;
            follow.run(follow_stop).await;
        });
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            why = self.fatal.recv() => Err(NodeError(why.unwrap_or_default())),
        };
        shared.health.stopping();
        let grace = shared.config.shutdown.grace;
        tracing::info!(grace_s = grace.as_secs(), "stopping: finishing turns, publishing the rest");
        let finish = async {
            handlers_stop.cancel();
            while handlers.join_next().await.is_some() {}
            background_stop.cancel();
            while background.join_next().await.is_some() {}
            relay_stop.cancel();
            while relaying.join_next().await.is_some() {}
            shared.nats.flush().await;
            // Otherwise the next start takes the end for a crash, and some care that is not needed.
            let _ = shared.store.end_node().await;
        };
        // After a fatal end nothing more can be committed: there is nothing to wait for.
        let grace = if outcome.is_ok() { grace } else { Duration::from_secs(1) };
        if tokio::time::timeout(grace, finish).await.is_err() {
            tracing::warn!("not everything was finished in time; the next start goes on with it");
        } else {
            tracing::info!("stopped");
        }
        outcome
    }
}
