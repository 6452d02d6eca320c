//! Nodes and the builds of handlers they run, and how far streams were handled.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row as _;
use uuid::Uuid;

use super::error::is_away;
use super::lease::milliseconds;
use super::read::patiently;
use super::{Pool, Postgres, sql};
use crate::fault::{self, Point};
use crate::lane::ports::StoreAway;
use crate::model::InboxKey;

/// This process as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// The fencing token.
    pub epoch: i64,
}

/// A node name taken, and what the process before left behind.
#[derive(Debug)]
pub struct Registered {
    pub node: Node,
    /// How often processes of this name did not end in order, in the last hour.
    pub crashes: i32,
    /// Messages that were in hand at crashes, and at how many they were alone.
    pub suspects: HashMap<InboxKey, i32>,
}

/// Takes a node name, over from whoever has it: the former holder can commit nothing more.
///
/// # Errors
/// The database cannot be used.
pub async fn register(
    pool: &Pool,
    name: &str,
    holder: &str,
    lease: Duration,
) -> Result<Registered, StoreAway> {
    if fault::twice(Point::LeaseTaken) {
        Box::pin(register(pool, name, holder, lease)).await?;
    }
    let query =
        sqlx::query_as(sql!("register_node")).bind(name).bind(holder).bind(milliseconds(lease));
    let (epoch, crashes): (i64, i32) = patiently(query.fetch_one(pool)).await?;
    fault::point(Point::LeaseTaken)?;
    let node = Node { name: name.to_owned(), epoch };
    Ok(Registered { node, crashes, suspects: suspects(pool).await? })
}

async fn suspects(pool: &Pool) -> Result<HashMap<InboxKey, i32>, StoreAway> {
    let query = sqlx::query_as(sql!("suspects"));
    let suspects: Vec<(Uuid, i32)> = patiently(query.fetch_all(pool)).await?;
    let suspect = |(key, alone): (Uuid, i32)| (InboxKey(key.into_bytes()), alone);
    Ok(suspects.into_iter().map(suspect).collect())
}

impl Postgres {
    /// Messages that were in hand at crashes, of whichever node.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn suspects(&self) -> Result<HashMap<InboxKey, i32>, StoreAway> {
        suspects(&self.pool).await
    }

    /// Notes that this process ends in order.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn end_node(&self) -> Result<(), StoreAway> {
        if fault::twice(Point::NodeEnded) {
            Box::pin(self.end_node()).await?;
        }
        let query = sqlx::query(sql!("end_node")).bind(&self.node.name).bind(self.node.epoch);
        patiently(query.execute(&self.pool)).await?;
        Ok(fault::point(Point::NodeEnded)?)
    }

    pub(super) async fn write_in_hand(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        let query = sqlx::query(sql!("note_in_hand")).bind(&self.node.name).bind(uuids(keys));
        patiently(query.execute(&self.pool)).await?;
        Ok(fault::point(Point::InHandNoted)?)
    }

    pub(super) async fn remove_suspects(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        let query = sqlx::query(sql!("forget_suspects")).bind(uuids(keys));
        patiently(query.execute(&self.pool)).await.map(drop)
    }

    /// The id of a build of a handler, which its inbox rows carry.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn register_component(
        &self,
        handler: &str,
        version: &str,
        digest: &str,
    ) -> Result<i32, StoreAway> {
        let query =
            sqlx::query_scalar(sql!("register_component")).bind(handler).bind(version).bind(digest);
        patiently(query.fetch_one(&self.pool)).await
    }

    /// Sees to it that a collection has its view, `tribox_state.<collection>`.
    ///
    /// # Errors
    /// The database cannot be used, or the user may not make views.
    pub async fn ensure_view(&self, collection: &str) -> Result<(), StoreAway> {
        let query = sqlx::query(sql!("ensure_view")).bind(collection);
        patiently(query.execute(&self.pool)).await.map(drop)
    }

    /// How far a unit has handled a stream: the highest sequence, and the one up to which all were.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn position(
        &self,
        unit: &str,
        stream: &str,
        created: i64,
    ) -> Result<Option<(i64, i64)>, StoreAway> {
        let query = sqlx::query(sql!("positions")).bind(unit).bind(stream).bind(created);
        let row = patiently(query.fetch_one(&self.pool)).await?;
        let handled: Option<i64> = row.try_get(0).map_err(is_away)?;
        let floor: Option<i64> = row.try_get(1).map_err(is_away)?;
        Ok(handled.zip(floor))
    }
}

fn uuids(keys: &[InboxKey]) -> Vec<Uuid> {
    keys.iter().map(|key| Uuid::from_bytes(key.0)).collect()
}
