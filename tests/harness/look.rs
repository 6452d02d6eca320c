//! Looking into a stack's database from outside.

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::Row as _;

use crate::{Stack, wait_until};

/// A row of `tribox.parked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub message_id: String,
    pub key: Option<String>,
    pub state: String,
    pub reason: String,
    pub attempts: i32,
    pub error: String,
}

impl Stack {
    /// The one number that a query answers with.
    ///
    /// # Errors
    /// The query fails.
    pub async fn number(&self, sql: &'static str) -> Result<i64> {
        let answer = sqlx::query_scalar(sql).fetch_one(&self.pool).await;
        answer.with_context(|| sql.to_owned())
    }

    /// Waits until a query answers with `expected`.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn until(&self, sql: &'static str, expected: i64) -> Result<()> {
        self.until_number(sql, &format!("is {expected}"), |number| number == expected).await
    }

    /// Waits until a query answers with `least` or more.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn until_at_least(&self, sql: &'static str, least: i64) -> Result<()> {
        self.until_number(sql, &format!("is at least {least}"), |number| number >= least).await
    }

    async fn until_number(
        &self,
        sql: &'static str,
        what: &str,
        fits: impl Fn(i64) -> bool,
    ) -> Result<()> {
        wait_until(&format!("{sql} {what}"), async || match self.number(sql).await {
            Ok(number) if fits(number) => Ok(()),
            Ok(number) => Err(number.to_string()),
            Err(e) => Err(format!("{e:#}")),
        })
        .await
    }

    /// Waits until so many messages are in the inbox.
    ///
    /// # Errors
    /// It does not come to that.
    pub async fn handled(&self, count: i64) -> Result<()> {
        self.until("SELECT count(*) FROM tribox.inbox", count).await
    }

    /// A document, if it is there.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn document(&self, collection: &str, key: &str) -> Result<Option<Value>> {
        let sql = "SELECT body::text FROM tribox.documents
                    WHERE collection = $1 AND key = $2 AND body IS NOT NULL";
        let body: Option<String> =
            sqlx::query_scalar(sql).bind(collection).bind(key).fetch_optional(&self.pool).await?;
        body.map(|body| serde_json::from_str(&body).context(body)).transpose()
    }

    /// What is parked, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn parked(&self) -> Result<Vec<Parked>> {
        let sql = "SELECT message_id, key, state, reason, attempts, error
                     FROM tribox.parked ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let parked = |row: &sqlx::postgres::PgRow| {
            Ok(Parked {
                message_id: row.try_get("message_id")?,
                key: row.try_get("key")?,
                state: row.try_get("state")?,
                reason: row.try_get("reason")?,
                attempts: row.try_get("attempts")?,
                error: row.try_get("error")?,
            })
        };
        rows.iter().map(parked).collect()
    }
}
