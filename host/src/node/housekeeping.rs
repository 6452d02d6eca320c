//! What runs beside the handlers: removing what is past its retention.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::lane::ports::StoreAway;

/// Between two sweeps; a sweep that finds much goes on at once, with pauses in between.
const PRUNE: Duration = Duration::from_secs(10);
/// Delayed messages that are counted at most.
const COUNTED: i64 = 100_000;
const BETWEEN_BATCHES: Duration = Duration::from_millis(50);
/// Tombstones are kept far longer than any turn lasts.
const TOMBSTONES: Duration = Duration::from_secs(3_600);

/// What operators have discarded stays for so long.
const DISCARDED: Duration = Duration::from_secs(30 * 24 * 3_600);

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
    shared.relay.be_wary(shared.store.any_already_sent().await?);
    let retention = &shared.config.retention;
    loop {
        let gone = shared.store.prune_inbox(retention.inbox).await?
            + shared.store.prune_outbox(retention.outbox).await?
            + shared.store.prune_tombstones(TOMBSTONES).await?
            + shared.store.prune_discarded(DISCARDED).await?
            + shared.store.prune_already_sent().await?;
        shared.metrics.pruned.inc_by(gone);
        if gone == 0 || stop.is_cancelled() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_BATCHES).await;
    }
}
