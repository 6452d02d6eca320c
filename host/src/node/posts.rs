//! Which units this node works on or stands by for, told to the others; and giving some up to a node that
//! has less, so that all have their share. Postgres decides (`tribox.surplus`, `tribox.claim`): a unit at a
//! time, while the others go on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::store::Postgres;

/// The units that this node wants, each with what ends its term here.
#[derive(Debug, Default)]
pub struct Posts(Mutex<BTreeMap<String, CancellationToken>>);

impl Posts {
    /// Wants a unit from now on; `term` ends it here once it is worked on.
    pub async fn want(&self, store: &Postgres, unit: &str, term: &CancellationToken) {
        self.lock().insert(unit.to_owned(), term.clone());
        self.tell(store).await;
    }

    /// Wants a unit no more.
    pub async fn forget(&self, store: &Postgres, unit: &str) {
        self.lock().remove(unit);
        self.tell(store).await;
    }

    /// Tells the others. Where that fails it is told again with the next look.
    async fn tell(&self, store: &Postgres) {
        let units: Vec<String> = self.lock().keys().cloned().collect();
        if let Err(why) = store.want(&units).await {
            tracing::debug!("the other nodes were not told what this one stands by for: {why}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks four times in a lease whether another node should have something of what this one has.
pub async fn balance(shared: Shared, stop: CancellationToken) {
    loop {
        shared.posts.tell(&shared.store).await;
        match shared.store.surplus().await {
            Ok(Some(unit)) => {
                if let Some(term) = shared.posts.lock().get(&unit)
                    && !term.is_cancelled()
                {
                    tracing::info!(unit, "giving up: another node stands by for it and has less");
                    term.cancel();
                }
            }
            Ok(None) => {}
            // An error is met again, and shown, by the lease.
            Err(why) => tracing::debug!("shares are not known: {why}"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(shared.config.node.lease / 4) => {}
        }
    }
}
