//! How everything stands: nodes, handlers, positions in streams.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Operator, answered};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// A node, running or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    pub name: String,
    pub epoch: i64,
    pub holder: String,
    /// It ended in order, or was fenced out.
    pub clean: bool,
    pub fenced_by: Option<String>,
    pub started: String,
    /// Since its last sign of life.
    pub seen_ms: i64,
    /// Until its lease is over.
    pub lease_ms: i64,
}

/// A handler, and what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandlerStatus {
    pub handler: String,
    /// Of the newest build that a host has run.
    pub version: Option<String>,
    pub digest: Option<String>,
    /// The nodes that handle its messages.
    pub nodes: Vec<String>,
    /// The node that has it by lease: it has keys.
    pub owner: Option<String>,
    pub paused_by: Option<String>,
    pub paused_at: Option<String>,
    pub retrying: i64,
    pub waiting: i64,
    pub holding: i64,
    pub dead: i64,
    pub scheduled: i64,
    pub undelivered: i64,
    /// Committed and not yet in their streams.
    pub unpublished: i64,
    pub oldest_unsent_ms: Option<i64>,
}

/// Who has a handler with keys, or a partition of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    pub unit: String,
    pub node: String,
    pub since: String,
}

/// How far a handler, or a partition of one, has handled a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The name of the unit: `accounts`, or `accounts/2of4`.
    pub handler: String,
    pub stream: String,
    /// Unix seconds: when the stream was made.
    pub stream_created: i64,
    /// The highest sequence, and the one up to which all were.
    pub handled: i64,
    pub floor: i64,
}

impl Operator {
    /// # Errors
    /// The database cannot be used.
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, StoreAway> {
        let query = sqlx::query(sql!("status_nodes")).try_map(|row: PgRow| {
            Ok(NodeStatus {
                name: row.try_get("name")?,
                epoch: row.try_get("epoch")?,
                holder: row.try_get("holder")?,
                clean: row.try_get("clean")?,
                fenced_by: row.try_get("fenced_by")?,
                started: row.try_get("started")?,
                seen_ms: row.try_get("seen_ms")?,
                lease_ms: row.try_get("lease_ms")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// # Errors
    /// The database cannot be used.
    pub async fn handlers(&self) -> Result<Vec<HandlerStatus>, StoreAway> {
        let query = sqlx::query(sql!("status_handlers")).try_map(|row: PgRow| {
            Ok(HandlerStatus {
                handler: row.try_get("handler")?,
                version: row.try_get("version")?,
                digest: row.try_get("digest")?,
                nodes: row.try_get("nodes")?,
                owner: row.try_get("owner")?,
                paused_by: row.try_get("paused_by")?,
                paused_at: row.try_get("paused_at")?,
                retrying: row.try_get("retrying")?,
                waiting: row.try_get("waiting")?,
                holding: row.try_get("holding")?,
                dead: row.try_get("dead")?,
                scheduled: row.try_get("scheduled")?,
                undelivered: row.try_get("undelivered")?,
                unpublished: row.try_get("unpublished")?,
                oldest_unsent_ms: row.try_get("oldest_unsent_ms")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// # Errors
    /// The database cannot be used.
    pub async fn positions(&self) -> Result<Vec<Position>, StoreAway> {
        let query = sqlx::query(sql!("status_positions")).try_map(|row: PgRow| {
            Ok(Position {
                handler: row.try_get("handler")?,
                stream: row.try_get("stream")?,
                stream_created: row.try_get("stream_created")?,
                handled: row.try_get("handled")?,
                floor: row.try_get("floor")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// # Errors
    /// The database cannot be used.
    pub async fn units(&self) -> Result<Vec<UnitStatus>, StoreAway> {
        let query = sqlx::query(sql!("status_units")).try_map(|row: PgRow| {
            Ok(UnitStatus {
                unit: row.try_get("unit")?,
                node: row.try_get("node")?,
                since: row.try_get("since")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }
}
