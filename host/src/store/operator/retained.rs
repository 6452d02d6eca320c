//! What the outbox keeps of published messages, for sending again what a broker lost.

use std::collections::HashSet;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{Operator, answered};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// A published message that the outbox still has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    pub writer: i32,
    pub seq: i64,
    pub handler: String,
    pub id: String,
    pub subject: String,
    /// `Name: value` lines.
    pub headers: String,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch.
    pub committed_at: i64,
    pub expires_at: Option<i64>,
}

impl Operator {
    /// When the oldest message was committed that the outbox keeps; `None`: it keeps none.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn retained_since(&self, handler: Option<&str>) -> Result<Option<i64>, StoreAway> {
        let query = sqlx::query_scalar(sql!("retained_since")).bind(handler);
        answered(query.fetch_one(&self.pool)).await
    }

    /// Published messages committed since `since`, after (writer, sequence), in this order.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn retained(
        &self,
        handler: Option<&str>,
        since: i64,
        after: (i32, i64),
        limit: i64,
    ) -> Result<Vec<Retained>, StoreAway> {
        let query = sqlx::query(sql!("retained"))
            .bind(handler)
            .bind(since as f64)
            .bind(after.0)
            .bind(after.1)
            .bind(limit)
            .try_map(|row: PgRow| {
                Ok(Retained {
                    writer: row.try_get("writer")?,
                    seq: row.try_get("seq")?,
                    handler: row.try_get("handler")?,
                    id: row.try_get("id")?,
                    subject: row.try_get("subject")?,
                    headers: row.try_get("headers")?,
                    payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
                    committed_at: row.try_get("committed_at")?,
                    expires_at: row.try_get("expires_at")?,
                })
            });
        answered(query.fetch_all(&self.pool)).await
    }

    /// Which of these messages are not to be sent: no stream took them, or they were thrown away.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn withdrawn(&self, ids: &[&str]) -> Result<HashSet<String>, StoreAway> {
        let query = sqlx::query_scalar(sql!("withdrawn")).bind(ids);
        let ids: Vec<String> = answered(query.fetch_all(&self.pool)).await?;
        Ok(ids.into_iter().collect())
    }
}
