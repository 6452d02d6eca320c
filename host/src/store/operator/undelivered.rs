//! Messages that no stream took, as operators look at them and decide on them.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::parked::batch;
use super::{BATCH, Batch, Operator, answered, change, milliseconds, pattern};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// Which of them are meant; what is not given is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndeliveredFilter {
    pub handler: Option<String>,
    /// A subject filter.
    pub subject: Option<String>,
    pub reason: Option<String>,
    pub id: Option<String>,
    pub row: Option<i64>,
    pub older_than: Option<Duration>,
    pub newer_than: Option<Duration>,
}

/// How many there are of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndeliveredCount {
    pub handler: String,
    pub reason: String,
    pub count: i64,
    pub subjects: i64,
    pub newest_row: i64,
    pub oldest_ms: i64,
    pub newest_ms: i64,
}

/// One of them, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndeliveredLine {
    pub row: i64,
    pub id: String,
    pub handler: String,
    pub subject: String,
    pub reason: String,
    pub error: String,
    pub attempts: i32,
    pub age_ms: i64,
    /// Until it is sent again; null: when it is asked for, or after the first of its subject.
    pub retry_ms: Option<i64>,
    /// It stands in a log again.
    pub on_its_way: bool,
}

/// All of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndeliveredDetail {
    pub line: UndeliveredLine,
    pub failed_at: String,
    /// As on the wire: `Name: value`, a line each.
    pub headers: String,
    pub payload: Vec<u8>,
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl UndeliveredFilter {
    /// Whether it means any at all.
    pub fn is_empty(&self) -> bool {
        *self == UndeliveredFilter::default()
    }

    fn bind<'q>(&'q self, query: Bound<'q>) -> Bound<'q> {
        query
            .bind(&self.handler)
            .bind(self.subject.as_deref().map(pattern))
            .bind(&self.reason)
            .bind(&self.id)
            .bind(self.row)
            .bind(milliseconds(self.older_than))
            .bind(milliseconds(self.newer_than))
    }
}

impl Operator {
    /// How many are meant, by handler and reason.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn undelivered_counts(
        &self,
        filter: &UndeliveredFilter,
    ) -> Result<Vec<UndeliveredCount>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("undelivered_counts"))).try_map(|row: PgRow| {
            Ok(UndeliveredCount {
                handler: row.try_get("handler")?,
                reason: row.try_get("reason")?,
                count: row.try_get("count")?,
                subjects: row.try_get("subjects")?,
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
    pub async fn undelivered_list(
        &self,
        filter: &UndeliveredFilter,
        limit: i64,
    ) -> Result<Vec<UndeliveredLine>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("undelivered_list"))).bind(limit);
        answered(query.try_map(|row: PgRow| line(&row)).fetch_all(&self.pool)).await
    }

    /// All of one.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn undelivered_one(&self, row: i64) -> Result<Option<UndeliveredDetail>, StoreAway> {
        let query = sqlx::query(sql!("undelivered_one")).bind(row).try_map(|row: PgRow| {
            Ok(UndeliveredDetail {
                line: line(&row)?,
                failed_at: row.try_get("failed_at")?,
                headers: row.try_get("headers")?,
                payload: row.try_get("payload")?,
            })
        });
        answered(query.fetch_optional(&self.pool)).await
    }

    /// Makes the next batch due, after row `after` and up to row `until`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn undelivered_retry(
        &self,
        filter: &UndeliveredFilter,
        after: i64,
        until: i64,
    ) -> Result<Batch, StoreAway> {
        change(async || {
            let query = filter.bind(sqlx::query(sql!("undelivered_retry")));
            let query = query.bind(after).bind(until).bind(BATCH);
            query.try_map(batch).fetch_one(&self.pool).await
        })
        .await
    }

    /// Throws the next batch away, after row `after` and up to row `until`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn undelivered_discard(
        &self,
        filter: &UndeliveredFilter,
        after: i64,
        until: i64,
        by_whom: &str,
    ) -> Result<Batch, StoreAway> {
        change(async || {
            let query = filter.bind(sqlx::query(sql!("undelivered_discard")));
            let query = query.bind(after).bind(until).bind(BATCH).bind(by_whom);
            query.try_map(batch).fetch_one(&self.pool).await
        })
        .await
    }
}

fn line(row: &PgRow) -> Result<UndeliveredLine, sqlx::Error> {
    Ok(UndeliveredLine {
        row: row.try_get("position")?,
        id: row.try_get("id")?,
        handler: row.try_get("handler")?,
        subject: row.try_get("subject")?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        attempts: row.try_get("attempts")?,
        age_ms: row.try_get("age_ms")?,
        retry_ms: row.try_get("retry_ms")?,
        on_its_way: row.try_get("on_its_way")?,
    })
}
