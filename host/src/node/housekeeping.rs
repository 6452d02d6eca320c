//! What runs beside the handlers: the heartbeat, publishing what was left, and removing what is past
//! its retention.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::lane::ports::{LogState, StoreAway};
use crate::store::Unfinished;

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Between two sweeps; a sweep that finds much goes on at once, with pauses in between.
const PRUNE: Duration = Duration::from_secs(10);
/// Delayed messages that are counted at most.
const COUNTED: i64 = 100_000;
const BETWEEN_BATCHES: Duration = Duration::from_millis(50);
/// Tombstones are kept far longer than any turn lasts.
const TOMBSTONES: Duration = Duration::from_secs(3_600);

/// What operators have discarded stays for so long.
const DISCARDED: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Tells the database that this node lives, and ends the node when its name is taken.
pub async fn heartbeat(shared: Shared, stop: CancellationToken) {
    loop {
        match shared.store.heartbeat().await {
            Ok(true) => {}
            Ok(false) => {
                let holder = shared.store.holder().await.unwrap_or_default();
                let name = &shared.store.node().name;
                let _ = shared.fatal.send(fenced_out(name, &holder));
                return;
            }
            Err(why) => shared.health.away("postgres", &why.to_string()),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

/// Has everything published that this node committed earlier, also for handlers that are no longer
/// there, and says what other nodes have left behind. Runs before any handler opens its logs.
pub async fn publish_leftovers(shared: &Shared, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match take_up(shared).await {
            Ok(()) => return,
            Err(why) => shared.health.away("postgres", &why.to_string()),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

async fn take_up(shared: &Shared) -> Result<(), StoreAway> {
    let own = &shared.store.node().name;
    for log in shared.store.unfinished().await? {
        let Unfinished { node, writer, handler, alive, .. } = log;
        if node == *own {
            let LogState { published, last } = shared.store.writer_state(writer).await?;
            shared.relay.open(writer, published, last);
        } else if !alive {
            tracing::warn!(
                handler,
                "node '{node}' has left messages unpublished that only a host of its name \
                 publishes: start one with [node] name = \"{node}\""
            );
        }
    }
    Ok(())
}

/// What a node says that lost its name.
pub fn fenced_out(name: &str, holder: &str) -> String {
    format!(
        "node name '{name}' was taken over by {holder}; this process can commit nothing any more \
         and ends. Two hosts on one database need two names: set [node] name"
    )
}

/// Removes what is past its retention, in small batches, and counts what waits to be due.
pub async fn prune(shared: Shared, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PRUNE) => {}
        }
        // An error is met again, and shown, by whoever works with the database.
        if let Err(why) = sweep(&shared, &stop).await {
            tracing::debug!("pruning was cut short: {why}");
        }
    }
}

async fn sweep(shared: &Shared, stop: &CancellationToken) -> Result<(), StoreAway> {
    shared.metrics.scheduled.set(shared.store.count_scheduled(COUNTED).await?);
    let retention = &shared.config.retention;
    loop {
        let gone = shared.store.prune_inbox(retention.inbox).await?
            + shared.store.prune_outbox(retention.outbox).await?
            + shared.store.prune_tombstones(TOMBSTONES).await?
            + shared.store.prune_discarded(DISCARDED).await?;
        shared.metrics.pruned.inc_by(gone);
        if gone == 0 || stop.is_cancelled() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_BATCHES).await;
    }
}
