//! Removing what is past its retention, in bounded batches along an index, so that no sweep holds a
//! commit up however large the tables are.

use std::time::Duration;

use super::read::patiently;
use super::{Postgres, sql};
use crate::lane::ports::StoreAway;

/// Rows in one batch.
const BATCH: i64 = 2_000;

fn milliseconds(duration: Duration) -> f64 {
    duration.as_millis() as f64
}

impl Postgres {
    /// Removes one batch of inbox rows older than `retention`; returns how many.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn prune_inbox(&self, retention: Duration) -> Result<u64, StoreAway> {
        let query = sqlx::query(sql!("prune_inbox")).bind(milliseconds(retention)).bind(BATCH);
        Ok(patiently(query.execute(&self.pool)).await?.rows_affected())
    }

    /// Removes one batch of published entries older than `retention` from each log of this node and of
    /// nodes that are gone, and logs that were taken over and are empty by now; returns how many rows.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn prune_outbox(&self, retention: Duration) -> Result<u64, StoreAway> {
        let query = sqlx::query_scalar(sql!("writer_ids")).bind(&self.node.name);
        let writers: Vec<i32> = patiently(query.fetch_all(&self.pool)).await?;
        let mut gone = 0;
        for writer in writers {
            let query = sqlx::query_scalar(sql!("prune_outbox"))
                .bind(writer)
                .bind(milliseconds(retention))
                .bind(BATCH);
            let count: i64 = patiently(query.fetch_one(&self.pool)).await?;
            gone += u64::try_from(count).unwrap_or_default();
        }
        let logs: i64 =
            patiently(sqlx::query_scalar(sql!("prune_writers")).fetch_one(&self.pool)).await?;
        Ok(gone + u64::try_from(logs).unwrap_or_default())
    }

    /// Removes one batch of tombstones older than `retention`; returns how many. No turn lasts that
    /// long, so none can mistake a later document for the one it knew.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn prune_tombstones(&self, retention: Duration) -> Result<u64, StoreAway> {
        let query = sqlx::query(sql!("prune_tombstones")).bind(milliseconds(retention)).bind(BATCH);
        Ok(patiently(query.execute(&self.pool)).await?.rows_affected())
    }

    /// Removes one batch of what operators discarded longer than `retention` ago, and suspects that
    /// never came again; returns how many rows that were.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn prune_discarded(&self, retention: Duration) -> Result<u64, StoreAway> {
        let query = sqlx::query(sql!("prune_discarded")).bind(milliseconds(retention)).bind(BATCH);
        let discarded = patiently(query.execute(&self.pool)).await?.rows_affected();
        let suspects = patiently(sqlx::query(sql!("prune_suspects")).execute(&self.pool)).await?;
        Ok(discarded + suspects.rows_affected())
    }
}
