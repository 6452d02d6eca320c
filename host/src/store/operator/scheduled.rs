//! Delayed messages, as operators look at them and take them back.

use serde::Serialize;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::{BATCH, Operator, answered, change, pattern};
use crate::lane::ports::StoreAway;
use crate::store::sql;

/// Which of them are meant; what is not given is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledFilter {
    pub handler: Option<String>,
    pub name: Option<String>,
    /// A subject filter.
    pub subject: Option<String>,
    pub id: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub due_before: Option<i64>,
}

/// How many there are of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduledCount {
    pub handler: String,
    pub count: i64,
    /// Those that the handler has given a name.
    pub named: i64,
    /// Until the first and the last of them are due.
    pub first_ms: i64,
    pub last_ms: i64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledLine {
    pub id: String,
    pub handler: String,
    pub name: Option<String>,
    pub subject: String,
    pub headers: String,
    pub payload: Vec<u8>,
    /// Milliseconds past being due after which it is dropped.
    pub expires_after: Option<i64>,
    pub due_at: String,
    pub due_ms: i64,
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl ScheduledFilter {
    /// Whether it means any at all.
    pub fn is_empty(&self) -> bool {
        *self == ScheduledFilter::default()
    }

    fn bind<'q>(&'q self, query: Bound<'q>) -> Bound<'q> {
        query
            .bind(&self.handler)
            .bind(&self.name)
            .bind(self.subject.as_deref().map(pattern))
            .bind(&self.id)
            .bind(self.due_before)
    }
}

impl Operator {
    /// How many are meant, by handler.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn scheduled_counts(
        &self,
        filter: &ScheduledFilter,
    ) -> Result<Vec<ScheduledCount>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("scheduled_counts"))).try_map(|row: PgRow| {
            Ok(ScheduledCount {
                handler: row.try_get("handler")?,
                count: row.try_get("count")?,
                named: row.try_get("named")?,
                first_ms: row.try_get("first_ms")?,
                last_ms: row.try_get("last_ms")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// Those that are due first.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn scheduled_list(
        &self,
        filter: &ScheduledFilter,
        limit: i64,
    ) -> Result<Vec<ScheduledLine>, StoreAway> {
        let query = filter.bind(sqlx::query(sql!("scheduled_list"))).bind(limit);
        let query = query.try_map(|row: PgRow| {
            Ok(ScheduledLine {
                id: row.try_get("id")?,
                handler: row.try_get("handler")?,
                name: row.try_get("name")?,
                subject: row.try_get("subject")?,
                headers: row.try_get("headers")?,
                payload: row.try_get("payload")?,
                expires_after: row.try_get("expires_after")?,
                due_at: row.try_get("due_at")?,
                due_ms: row.try_get("due_ms")?,
            })
        });
        answered(query.fetch_all(&self.pool)).await
    }

    /// Takes the next batch back; returns how many there were, none at the end.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn scheduled_cancel(
        &self,
        filter: &ScheduledFilter,
        by_whom: &str,
    ) -> Result<i64, StoreAway> {
        change(async || {
            let query = filter.bind(sqlx::query(sql!("scheduled_cancel")));
            let query = query.bind(BATCH).bind(by_whom);
            query.try_map(|row: PgRow| row.try_get("changed")).fetch_one(&self.pool).await
        })
        .await
    }
}
