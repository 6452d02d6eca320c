//! Parked messages, as operators look at them and decide on them.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use std::time::Duration;

use super::{BATCH, Batch, Operator, answered, change, milliseconds};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// Which parked messages are meant; what is not given is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedFilter {
    pub handler: Option<String>,
    pub state: Option<String>,
    pub reason: Option<String>,
    pub key: Option<String>,
    pub message_id: Option<String>,
    pub row: Option<i64>,
    pub older_than: Option<Duration>,
    pub newer_than: Option<Duration>,
}

/// How many there are of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedCount {
    pub handler: String,
    pub state: String,
    pub reason: String,
    pub count: i64,
    pub newest_row: i64,
    pub oldest_ms: i64,
    pub newest_ms: i64,
}

/// One of them, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedLine {
    pub row: i64,
    pub handler: String,
    pub key: Option<String>,
    pub state: String,
    pub reason: String,
    pub attempts: i32,
    pub message_id: String,
    pub subject: String,
    pub error: String,
    pub age_ms: i64,
    /// Until the next attempt; past ones are below zero.
    pub next_attempt_ms: Option<i64>,
}

/// All of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedDetail {
    pub line: ParkedLine,
    pub parked_at: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
    pub stored_at: u64,
    /// The build it failed under: version and digest.
    pub build: Option<(String, String)>,
    /// Messages of its key that wait behind it.
    pub waiting_behind: i64,
    /// The first message of its key, if it is another one that comes before.
    pub first_of_key: Option<i64>,
    pub key_paused: bool,
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl ParkedFilter {
    /// Whether it means any at all.
    pub fn is_empty(&self) -> bool {
        *self == ParkedFilter::default()
    }

    fn bind<'q>(&'q self, query: Bound<'q>) -> Bound<'q> {
        query
            .bind(&self.handler)
            .bind(&self.state)
            .bind(&self.reason)
            .bind(&self.key)
            .bind(&self.message_id)
            .bind(self.row)
            .bind(milliseconds(self.older_than))
            .bind(milliseconds(self.newer_than))
    }
}

impl Operator {
    /// How many are meant, by handler, state and reason.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_counts(
        &self,
        filter: &ParkedFilter,
    ) -> Result<Vec<ParkedCount>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("parked_counts"))).try_map(|row: PgRow| {
            Ok(ParkedCount {
                handler: row.try_get("handler")?,
                state: row.try_get("state")?,
                reason: row.try_get("reason")?,
                count: row.try_get("count")?,
                newest_row: row.try_get("newest_row")?,
                oldest_ms: row.try_get("oldest_ms")?,
                newest_ms: row.try_get("newest_ms")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// The newest that are meant.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_list(
        &self,
        filter: &ParkedFilter,
        limit: i64,
    ) -> Result<Vec<ParkedLine>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("parked_list"))).bind(limit);
        answered(query.try_map(|row: PgRow| line(&row)).fetch_all(&self.pool)).await
    }

    /// All of one.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_one(&self, row: i64) -> Result<Option<ParkedDetail>, StoreAway> {
        let query = sqlx::query(sql!("parked_one")).bind(row);
        answered(query.try_map(|row: PgRow| detail(&row)).fetch_optional(&self.pool)).await
    }

    /// Makes the next batch due, after row `after` and up to row `until`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_retry(
        &self,
        filter: &ParkedFilter,
        after: i64,
        until: i64,
    ) -> Result<Batch, StoreAway> {
        change(async || {
            let query = filter.bind(sqlx::query(sql!("parked_retry")));
            let query = query.bind(after).bind(until).bind(BATCH);
            query.try_map(batch).fetch_one(&self.pool).await
        })
        .await
    }

    /// Throws the next batch away, after row `after` and up to row `until`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_discard(
        &self,
        filter: &ParkedFilter,
        after: i64,
        until: i64,
        by_whom: &str,
    ) -> Result<Batch, StoreAway> {
        change(async || {
            let query = filter.bind(sqlx::query(sql!("parked_discard")));
            let query = query.bind(after).bind(until).bind(BATCH).bind(by_whom);
            query.try_map(batch).fetch_one(&self.pool).await
        })
        .await
    }
}

pub(super) fn batch(row: PgRow) -> Result<Batch, sqlx::Error> {
    Ok(Batch {
        last: row.try_get("last_row")?,
        changed: row.try_get("changed")?,
        woken: row.try_get("woken")?,
    })
}

fn line(row: &PgRow) -> Result<ParkedLine, sqlx::Error> {
    Ok(ParkedLine {
        row: row.try_get("id")?,
        handler: row.try_get("handler")?,
        key: row.try_get("key")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        message_id: row.try_get("message_id")?,
        subject: row.try_get("subject")?,
        error: row.try_get("error")?,
        age_ms: row.try_get("age_ms")?,
        next_attempt_ms: row.try_get("next_attempt_ms")?,
    })
}

fn detail(row: &PgRow) -> Result<ParkedDetail, sqlx::Error> {
    let headers: String = row.try_get("headers")?;
    let version: Option<String> = row.try_get("component_version")?;
    let digest: Option<String> = row.try_get("component_digest")?;
    let stored_at: i64 = row.try_get("stored_at")?;
    Ok(ParkedDetail {
        line: line(row)?,
        parked_at: row.try_get("parked_at")?,
        headers: serde_json::from_str(&headers).map_err(|why| sqlx::Error::Decode(why.into()))?,
        payload: row.try_get("payload")?,
        stored_at: u64::try_from(stored_at).unwrap_or_default(),
        build: version.zip(digest),
        waiting_behind: row.try_get("waiting_behind")?,
        first_of_key: row.try_get("first_of_key")?,
        key_paused: row.try_get("key_paused")?,
    })
}
