//! Reaching Postgres and NATS at start: what waiting mends is waited for, visibly; the rest ends the
//! process with a text that says what to do.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::NodeError;
use crate::config::{self, Config};
use crate::lane::Caution;
use crate::model::InboxKey;
use crate::store;
use crate::stream::{Fence, Moment, Nats, NatsError, NatsOptions};
use crate::telemetry::Health;

const RETRY: Duration = Duration::from_secs(1);

/// Connects to Postgres, waiting for it where it is away; `None`: asked to stop before.
///
/// # Errors
/// It refuses for good: a wrong URL, user or password, no such database, too old.
pub async fn connect_postgres(
    config: &config::Postgres,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<store::Pool>, NodeError> {
    let statements = store::Statements::from_config(config.prepared_statements);
    loop {
        match store::connect(&config.url, config.connections, statements).await {
            Ok(pool) => {
                health.back("postgres");
                return Ok(Some(pool));
            }
            Err(why) if why.fatal => return Err(NodeError(why.to_string())),
            Err(why) => health.away("postgres", &why.to_string()),
        }
        if !pause(stop).await {
            return Ok(None);
        }
    }
}

/// Connects to NATS, waiting for it where it is away; `None`: asked to stop before.
///
/// # Errors
/// It refuses for good: a wrong URL, credentials, too old.
pub async fn connect_nats(
    config: &config::Nats,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<Nats>, NodeError> {
    let options = nats_options(config);
    loop {
        match Nats::connect(&options).await {
            Ok(nats) => {
                health.back("nats");
                return Ok(Some(nats));
            }
            Err(why) if why.fatal => return Err(NodeError(why.to_string())),
            Err(why) => health.away("nats", &why.to_string()),
        }
        if !pause(stop).await {
            return Ok(None);
        }
    }
}

/// Connects to NATS, or says why not.
///
/// # Errors
/// It is away, or refuses.
pub async fn connect_nats_once(config: &config::Nats) -> Result<Nats, NatsError> {
    Nats::connect(&nats_options(config)).await
}

pub(super) fn nats_options(config: &config::Nats) -> NatsOptions {
    NatsOptions {
        url: config.url.clone(),
        credentials: config.credentials.clone(),
        ca: config.ca.clone(),
    }
}

/// Applies pending migrations, or refuses where that is not wanted; waits where Postgres is away
/// meanwhile. False: asked to stop before.
pub(super) async fn migrate(
    pool: &store::Pool,
    wanted: bool,
    health: &Health,
    stop: &CancellationToken,
) -> Result<bool, NodeError> {
    loop {
        match migrate_once(pool, wanted).await {
            Ok(refused) => return refused.map(|()| true),
            Err(why) if why.passing => health.away("postgres", &why.to_string()),
            Err(why) => return Err(NodeError(format!("migrating the database failed: {why}"))),
        }
        if !pause(stop).await {
            return Ok(false);
        }
    }
}

async fn migrate_once(
    pool: &store::Pool,
    wanted: bool,
) -> Result<Result<(), NodeError>, store::MigrateError> {
    let pending = store::pending(pool).await?;
    if pending.is_empty() {
        return Ok(Ok(()));
    }
    if !wanted {
        let names: Vec<&str> = pending.iter().map(|step| step.name).collect();
        return Ok(Err(NodeError(format!(
            "the database lacks migrations ({}); run `tribox migrate`, or set [postgres] migrate",
            names.join(", ")
        ))));
    }
    let applied = store::migrate(pool).await?;
    tracing::info!(steps = applied.join(", "), "migrated the database");
    Ok(Ok(()))
}

/// Takes this node's name, with a lease; waits where Postgres is away meanwhile. `None`: asked to stop
/// before.
pub(super) async fn register(
    pool: &store::Pool,
    config: &Config,
    health: &Health,
    stop: &CancellationToken,
) -> Option<(store::Registered, Fence)> {
    let (name, holder, lease) = (node_name(config), holder(), config.node.lease);
    loop {
        let asked = Moment::now();
        match store::register(pool, &name, &holder, lease).await {
            Ok(registered) => return Some((registered, Fence::new(asked.after(lease)))),
            Err(why) => health.away("postgres", &why.to_string()),
        }
        if !pause(stop).await {
            return None;
        }
    }
}

/// Waits a while; false: asked to stop.
async fn pause(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(RETRY) => true,
    }
}

/// How long turns note what they have in hand after one crash, and after several within an hour: longer
/// than the pause before a parked message is tried again.
const CARE: Duration = Duration::from_secs(60);
const MORE_CARE: Duration = Duration::from_secs(900);

/// The care that is to be taken after the process before.
pub(super) fn caution(registered: store::Registered) -> Caution {
    let caution = Caution::default();
    take_care(&caution, registered.crashes, registered.suspects);
    caution
}

/// More care from now on, after so many crashes within an hour.
pub(super) fn take_care(caution: &Caution, crashes: i32, suspects: HashMap<InboxKey, i32>) {
    let care = match crashes {
        0 => None,
        1 => Some(CARE),
        _ => Some(MORE_CARE),
    };
    if crashes > 0 {
        tracing::warn!(
            crashes,
            suspects = suspects.len(),
            "the process before did not end in order; messages that were in hand are handled alone"
        );
    }
    caution.renew(care.map(|care| tokio::time::Instant::now() + care), suspects);
}

/// The name of this node: what the config says, or the host's name.
fn node_name(config: &Config) -> String {
    config.node.name.clone().unwrap_or_else(host_name)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who we are, for people who wonder who holds a name.
fn holder() -> String {
    format!("process {} on {}", std::process::id(), host_name())
}
