//! What a node holds by its lease: its name, and the units that one node at a time may work on, which
//! are handlers with keys and the moving on of delayed messages. Others stand by.
//!
//! Postgres decides, by its own clock and in one statement each: who lives (`tribox.bury` fences out who
//! does not), and who owns what (`tribox.claim`). Every commit checks the fence of the log that it
//! appends to, so nothing here has to be up to date for that. What a commit cannot check, publishing
//! and setting consumers back, waits for the [`Fence`](crate::stream::Fence) of this process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ports::{Flush, Leases};
use super::{Ousted, Shared};
use crate::fault::{self, Point};
use crate::lane::ports::StoreAway;
use crate::store::{Beat, Buried, Claim, Fate, OpenLog};

/// How often whoever stands by asks whether it is needed.
const STAND_BY: Duration = Duration::from_millis(250);
/// How often it is looked whether others have published what they had left.
const LOOK: Duration = Duration::from_millis(50);

/// Prolongs this node's lease four times in its length, fences out nodes whose own is over, and has
/// their logs published. Ends when this node is fenced out itself.
pub async fn keep<S: Leases, N: Flush>(shared: Shared<S, N>, stop: CancellationToken) {
    let lease = shared.config.node.lease;
    let mut last: Option<Beat> = None;
    loop {
        let asked = shared.fence.now();
        // Longer than that, and another connection has to try.
        let beat = tokio::time::timeout(lease / 2, shared.store.heartbeat(lease)).await;
        match beat {
            Ok(Ok(Some(beat))) => {
                if last.replace(beat).is_some_and(|before| beat.may_have_gone_back(before)) {
                    tracing::info!("Postgres was started again: looking whether it was restored");
                    shared.suspicion.fetch_add(1, Ordering::AcqRel);
                }
                shared.fence.prolong(asked.after(lease));
                match take_over(&shared).await {
                    // Whoever met an outage may have nothing more to ask.
                    Ok(()) => shared.health.back("postgres"),
                    Err(why) => shared.health.away("postgres", &why.to_string()),
                }
            }
            Ok(Ok(None)) => return lost(&shared).await,
            Ok(Err(why)) => shared.health.away("postgres", &why.to_string()),
            Err(_) => shared.health.away("postgres", "no answer to a sign of life"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(lease / 4) => {}
        }
    }
}

/// Fences out whoever is dead, and has what they left unpublished relayed here.
async fn take_over<S: Leases, N: Flush>(shared: &Shared<S, N>) -> Result<(), StoreAway> {
    for Buried { name, holder, silent } in shared.store.bury().await? {
        shared.metrics.takeovers.inc();
        tracing::warn!(
            node = name,
            holder,
            silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            "node '{name}' gave no sign of life within its lease: it is fenced out, and what it \
             committed and did not publish is published here"
        );
    }
    // Also what was taken over by a statement whose answer was lost.
    open(shared, true).await
}

/// Has everything published that this node has committed earlier, also for handlers that are no longer
/// there. Runs before any handler opens its logs.
pub async fn publish_leftovers<S: Leases, N: Flush>(
    shared: &Shared<S, N>,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        match open(shared, false).await {
            Ok(()) => return,
            Err(why) => shared.health.away("postgres", &why.to_string()),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(STAND_BY) => {}
        }
    }
}

async fn open<S: Leases, N: Flush>(
    shared: &Shared<S, N>,
    inherited: bool,
) -> Result<(), StoreAway> {
    for OpenLog { writer, published, last } in shared.store.own_logs(inherited).await? {
        shared.relay.open(writer, published, last);
    }
    Ok(())
}

/// Waits until this node owns a unit. False: it was asked to stop before.
pub async fn own<S: Leases, N: Flush>(
    shared: &Shared<S, N>,
    unit: &str,
    part: &str,
    stop: &CancellationToken,
) -> bool {
    let mut owner = None;
    loop {
        match shared.store.claim(unit).await {
            Ok(Claim::Owned { crashes }) => {
                if owner.is_some() {
                    tracing::info!(unit, "taking over");
                }
                if crashes > 0 {
                    be_careful(shared, crashes).await;
                }
                return true;
            }
            Ok(Claim::Held { by }) => {
                shared.health.forget(part);
                if owner.as_ref() != Some(&by) {
                    tracing::info!(unit, "standing by: node '{by}' has it");
                    owner = Some(by);
                }
            }
            Err(why) => shared.health.away("postgres", &why.to_string()),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(STAND_BY) => {}
        }
    }
}

/// Whether a unit is still this node's. That it was given up before may be carried out late: then it is
/// owned anew here, unless another node was quicker.
pub async fn still_own<S: Leases, N: Flush>(shared: &Shared<S, N>, unit: &str) -> bool {
    !matches!(shared.store.claim(unit).await, Ok(Claim::Held { .. }))
}

/// What it was taken from has crashed: maybe a message is the cause, and comes here next.
async fn be_careful<S: Leases, N: Flush>(shared: &Shared<S, N>, crashes: i32) {
    match shared.store.suspects().await {
        Ok(suspects) => super::connect::take_care(&shared.caution, crashes, suspects),
        Err(why) => shared.health.away("postgres", &why.to_string()),
    }
}

/// Waits until nothing is left unpublished of what other nodes committed for a handler: whatever comes
/// now stands behind it.
///
/// # Errors
/// The database cannot be used.
pub async fn finish_left<S: Leases, N: Flush>(
    shared: &Shared<S, N>,
    handler: &str,
    part: &str,
) -> Result<(), StoreAway> {
    let own = &shared.store.node().name;
    loop {
        let left = shared.store.left_logs(handler).await?;
        let Some(log) = left.iter().find(|log| log.node != *own).or(left.first()) else {
            fault::pass(Point::LeftFinished);
            return Ok(());
        };
        let node = &log.node;
        shared
            .health
            .away(part, &format!("waiting until node '{node}' has published what is left"));
        let mine: Vec<i32> =
            left.iter().filter(|log| log.node == *own).map(|log| log.writer).collect();
        if !mine.is_empty() {
            open(shared, true).await?;
            shared.relay.when_empty(mine).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Notes for people that these lanes work no more.
pub async fn close<S: Leases, N: Flush>(shared: &Shared<S, N>, logs: &[i32]) {
    if let Err(why) = shared.store.close_logs(logs).await {
        shared.health.away("postgres", &why.to_string());
    }
}

/// Gives a unit up after its last turn: once what it sent is published, so that the next owner need not
/// wait, and acknowledged, so that nothing comes twice.
pub async fn hand_over<S: Leases, N: Flush>(shared: &Shared<S, N>, unit: &str, logs: Vec<i32>) {
    shared.nats.flush().await;
    shared.relay.when_empty(logs).await;
    while let Err(why) = shared.store.release(unit).await {
        shared.health.away("postgres", &why.to_string());
        tokio::time::sleep(STAND_BY).await;
    }
}

/// Finds out why this node can write no more, and says so to whoever runs it.
pub async fn lost<S: Leases, N: Flush>(shared: &Shared<S, N>) {
    let name = &shared.store.node().name;
    let why = match shared.store.fate().await {
        Ok(Fate::NameTaken { holder }) => Ousted::Name(format!(
            "node name '{name}' was taken over by {holder}; this process can commit nothing any \
             more and ends. Two hosts on one database need two names: set [node] name"
        )),
        Ok(Fate::Buried { by }) => Ousted::Lease(format!(
            "fenced out: this process gave no sign of life within its lease (frozen, or cut off \
             from Postgres), and node '{by}' has taken over; node '{name}' registers again"
        )),
        Ok(Fate::Unknown) => Ousted::Lease(format!(
            "fenced out: the database does not know node '{name}' as it was registered (was it \
             restored to an earlier time?); it registers again"
        )),
        Ok(Fate::Standing) => Ousted::Lease(format!(
            "fenced out: what node '{name}' worked on was taken from it; it registers again"
        )),
        Err(why) => Ousted::Lease(format!(
            "fenced out, and Postgres does not say why: {why}; node '{name}' registers again"
        )),
    };
    let _ = shared.lost.send(why);
}
