//! What stands in a host's tables, as anybody with psql sees it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::PgPool;

use crate::wait_until;

/// A row of `tribox.parked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub message_id: String,
    pub key: Option<String>,
    pub state: String,
    pub reason: String,
    pub error: String,
    pub attempts: i32,
}

/// All that is set aside, in the order in which it was.
///
/// # Errors
/// The database does not answer.
pub async fn parked(pool: &PgPool) -> Result<Vec<Parked>> {
    let sql = "SELECT message_id, key, state, reason, error, attempts FROM tribox.parked \
               ORDER BY id";
    type Row = (String, Option<String>, String, String, String, i32);
    let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(pool).await.context("parked messages")?;
    let parked = |(message_id, key, state, reason, error, attempts)| Parked {
        message_id,
        key,
        state,
        reason,
        error,
        attempts,
    };
    Ok(rows.into_iter().map(parked).collect())
}

/// Waits until this many messages are set aside, and returns them.
///
/// # Errors
/// It takes too long, or there are more.
pub async fn parked_when(pool: &PgPool, count: usize) -> Result<Vec<Parked>> {
    let what = format!("{count} messages are parked");
    let rows = wait_until(&what, async || {
        let rows = parked(pool).await.map_err(|e| format!("{e:#}"))?;
        if rows.len() >= count { Ok(rows) } else { Err(format!("{rows:#?}")) }
    });
    let rows = rows.await?;
    ensure!(rows.len() == count, "{count} expected: {rows:#?}");
    Ok(rows)
}

/// The body of a document, if there is one.
///
/// # Errors
/// The database does not answer.
pub async fn document(pool: &PgPool, collection: &str, key: &str) -> Result<Option<Value>> {
    let sql = "SELECT body::text FROM tribox.documents \
               WHERE collection = $1 AND key = $2 AND body IS NOT NULL";
    let query = sqlx::query_scalar::<_, String>(sql).bind(collection).bind(key);
    let body = query.fetch_optional(pool).await.context("document")?;
    body.map(|text| serde_json::from_str(&text).context(text)).transpose()
}

/// How many messages the inbox has.
///
/// # Errors
/// The database does not answer.
pub async fn handled(pool: &PgPool) -> Result<i64> {
    let sql = "SELECT count(*) FROM tribox.inbox";
    sqlx::query_scalar(sql).fetch_one(pool).await.context("inbox")
}
