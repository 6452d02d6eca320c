//! What holding a lease needs of the world. Traits, so that the same rules run against Postgres and
//! JetStream and in a simulation.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use crate::lane::ports::StoreAway;
use crate::model::InboxKey;
use crate::store::{Beat, Buried, Claim, Fate, LeftLog, Node, OpenLog, Postgres, Standing};
use crate::stream::Nats;

/// Who lives, and who owns what, by the clock of the store.
pub trait Leases: Clone + Send + Sync + 'static {
    /// This process as the store knows it.
    fn node(&self) -> &Node;

    /// Tells that this node lives, and prolongs its lease. `None`: it was fenced out.
    fn heartbeat(
        &self,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Beat>, StoreAway>> + Send;

    /// Fences out nodes whose lease is over and takes over their logs; see [`Self::own_logs`].
    fn bury(&self) -> impl Future<Output = Result<Vec<Buried>, StoreAway>> + Send;

    /// Why this node can write no more.
    fn fate(&self) -> impl Future<Output = Result<Fate, StoreAway>> + Send;

    /// Has this node own a unit, unless another one does.
    fn claim(&self, unit: &str) -> impl Future<Output = Result<Claim, StoreAway>> + Send;

    /// Gives a unit up, for others to own.
    fn release(&self, unit: &str) -> impl Future<Output = Result<(), StoreAway>> + Send;

    /// Notes that the lanes of these logs work no more.
    fn close_logs(&self, logs: &[i32]) -> impl Future<Output = Result<(), StoreAway>> + Send;

    /// Logs that this node publishes and has not published to their end; `inherited`: those alone
    /// that it took over from other nodes.
    fn own_logs(
        &self,
        inherited: bool,
    ) -> impl Future<Output = Result<Vec<OpenLog>, StoreAway>> + Send;

    /// Logs of a handler that other nodes wrote and that are not published to their end.
    fn left_logs(
        &self,
        handler: &str,
    ) -> impl Future<Output = Result<Vec<LeftLog>, StoreAway>> + Send;

    /// Messages that were in hand at crashes, and at how many they were alone.
    fn suspects(&self) -> impl Future<Output = Result<HashMap<InboxKey, i32>, StoreAway>> + Send;
}

/// What has piled up for a handler.
pub trait Piles: Clone + Send + Sync + 'static {
    /// What bears on its intake now, with at most `limit` parked messages that are due.
    fn standing(
        &self,
        handler: &str,
        limit: i64,
    ) -> impl Future<Output = Result<Standing, StoreAway>> + Send;

    /// How many of its messages are parked, by state, each counted up to `limit`.
    fn count_parked(
        &self,
        handler: &str,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<(String, i64)>, StoreAway>> + Send;

    /// How many of its delayed messages wait, counted up to `limit`.
    fn count_scheduled_by(
        &self,
        handler: &str,
        limit: i64,
    ) -> impl Future<Output = Result<i64, StoreAway>> + Send;
}

/// A connection over which acknowledgements leave.
pub trait Flush: Clone + Send + Sync + 'static {
    /// Sends what is buffered.
    fn flush(&self) -> impl Future<Output = ()> + Send;
}

impl Leases for Postgres {
    fn node(&self) -> &Node {
        self.node()
    }

    async fn heartbeat(&self, lease: Duration) -> Result<Option<Beat>, StoreAway> {
        self.heartbeat(lease).await
    }

    async fn bury(&self) -> Result<Vec<Buried>, StoreAway> {
        self.bury().await
    }

    async fn fate(&self) -> Result<Fate, StoreAway> {
        self.fate().await
    }

    async fn claim(&self, unit: &str) -> Result<Claim, StoreAway> {
        self.claim(unit).await
    }

    async fn release(&self, unit: &str) -> Result<(), StoreAway> {
        self.release(unit).await
    }

    async fn close_logs(&self, logs: &[i32]) -> Result<(), StoreAway> {
        self.close_logs(logs).await
    }

    async fn own_logs(&self, inherited: bool) -> Result<Vec<OpenLog>, StoreAway> {
        self.own_logs(inherited).await
    }

    async fn left_logs(&self, handler: &str) -> Result<Vec<LeftLog>, StoreAway> {
        self.left_logs(handler).await
    }

    async fn suspects(&self) -> Result<HashMap<InboxKey, i32>, StoreAway> {
        self.suspects().await
    }
}

impl Piles for Postgres {
    async fn standing(&self, handler: &str, limit: i64) -> Result<Standing, StoreAway> {
        self.standing(handler, limit).await
    }

    async fn count_parked(
        &self,
        handler: &str,
        limit: i64,
    ) -> Result<Vec<(String, i64)>, StoreAway> {
        self.count_parked(handler, limit).await
    }

    async fn count_scheduled_by(&self, handler: &str, limit: i64) -> Result<i64, StoreAway> {
        self.count_scheduled_by(handler, limit).await
    }
}

impl Flush for Nats {
    async fn flush(&self) {
        self.flush().await;
    }
}
