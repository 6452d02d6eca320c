//! Pausing handlers and keys. It is in the tables that a host finds out.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Operator, answered, change};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// A key that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausedKey {
    pub handler: String,
    pub key: String,
    /// "paused by", and whom.
    pub paused_by: String,
    pub paused_at: String,
    /// Messages of the key that are set aside.
    pub behind: i64,
}

impl Operator {
    /// Handlers that a host has run.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn known_handlers(&self) -> Result<Vec<String>, StoreAway> {
        answered(sqlx::query_scalar(sql!("known_handlers")).fetch_all(&self.pool)).await
    }

    /// Pauses a handler; false: it is paused already.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn pause_handler(&self, handler: &str, by_whom: &str) -> Result<bool, StoreAway> {
        let query = sqlx::query(sql!("pause_handler")).bind(handler).bind(by_whom);
        Ok(answered(query.execute(&self.pool)).await?.rows_affected() == 1)
    }

    /// Lets a handler go on; false: it is not paused.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn resume_handler(&self, handler: &str) -> Result<bool, StoreAway> {
        let query = sqlx::query(sql!("resume_handler")).bind(handler);
        Ok(answered(query.execute(&self.pool)).await?.rows_affected() == 1)
    }

    /// Pauses a key; false: it is paused already.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn pause_key(
        &self,
        handler: &str,
        key: &str,
        by_whom: &str,
    ) -> Result<bool, StoreAway> {
        let query = sqlx::query_scalar(sql!("pause_key")).bind(handler).bind(key).bind(by_whom);
        answered(query.fetch_one(&self.pool)).await
    }

    /// Lets a key go on; false: it is not paused.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn resume_key(&self, handler: &str, key: &str) -> Result<bool, StoreAway> {
        change(async || {
            let query = sqlx::query(sql!("resume_key")).bind(handler).bind(key);
            query.try_map(|row: PgRow| row.try_get("resumed")).fetch_one(&self.pool).await
        })
        .await
    }

    /// Keys that are paused, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn paused_keys(&self, limit: i64) -> Result<Vec<PausedKey>, StoreAway> {
        let query = sqlx::query(sql!("status_paused_keys")).bind(limit).try_map(|row: PgRow| {
            Ok(PausedKey {
                handler: row.try_get("handler")?,
                key: row.try_get("key")?,
                paused_by: row.try_get("paused_by")?,
                paused_at: row.try_get("paused_at")?,
                behind: row.try_get("behind")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }
}
