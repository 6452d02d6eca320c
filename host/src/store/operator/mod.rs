//! What operators ask and do by a command, without being a node: looking at what was set aside,
//! retrying and discarding it, pausing, and the state of everything. Each statement is a transaction
//! by itself; thousands of rows go in batches along their ids, so that no host waits for long.

mod documents;
mod parked;
mod pause;
mod retained;
mod scheduled;
mod status;
mod undelivered;

use std::time::Duration;

pub use self::parked::{ParkedCount, ParkedDetail, ParkedFilter, ParkedLine};
pub use self::pause::PausedKey;
pub use self::retained::Retained;
pub use self::scheduled::{ScheduledCount, ScheduledFilter, ScheduledLine};
pub use self::status::{HandlerStatus, NodeStatus, Position, UnitStatus};
pub use self::undelivered::{
    UndeliveredCount, UndeliveredDetail, UndeliveredFilter, UndeliveredLine,
};
use super::error::{is_away, was_in_the_way};
use super::{ConnectError, MigrateError, PATIENCE, Pool, Statements, connect, pending};
use crate::lane::ports::StoreAway;

/// Rows that are changed at once.
pub const BATCH: i64 = 1_000;
/// How often a batch is tried that met a host's commit in the middle.
const TRIES: u32 = 5;

/// The database, as operators use it.
#[derive(Debug, Clone)]
pub struct Operator {
    pool: Pool,
}

/// Why there is no operating on a database.
#[derive(Debug, thiserror::Error)]
pub enum NotOperable {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the database lacks migrations ({0}); run `tribox migrate`, or start the new host")]
    Migrations(String),
    #[error("Postgres cannot be used: {0}")]
    Away(#[from] MigrateError),
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The last row that was looked at; none: there are no more.
    pub last: Option<i64>,
    pub changed: i64,
    /// Messages that waited behind what is gone and are due now.
    pub woken: i64,
}

impl Operator {
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// # Errors
    /// The database cannot be used, or does not have the tables and functions of this program.
    pub async fn connect(url: &str, statements: Statements) -> Result<Operator, NotOperable> {
        let pool = connect(url, 2, statements).await?;
        let lacking = pending(&pool).await?;
        if !lacking.is_empty() {
            let names: Vec<&str> = lacking.iter().map(|step| step.name).collect();
            return Err(NotOperable::Migrations(names.join(", ")));
        }
        Ok(Operator { pool })
    }
}

/// Waits for an answer, as long as the host would.
async fn answered<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreAway> {
    super::read::patiently(query).await.map_err(away)
}

/// An error as the end of a command: what failed and what to do.
fn away(StoreAway(why): StoreAway) -> StoreAway {
    StoreAway(format!("Postgres did not do it: {why}; what was done before stays done"))
}

/// Changes a batch. It locks rows along their ids and a host's commit in an order of its own, so
/// that they can be in each other's way: Postgres ends one of them, and it is tried again.
async fn change<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, sqlx::Error>,
) -> Result<T, StoreAway> {
    for _ in 1..TRIES {
        match tokio::time::timeout(PATIENCE, attempt()).await {
            Ok(Err(error)) if was_in_the_way(&error) => {}
            Ok(done) => return done.map_err(is_away).map_err(away),
            Err(_) => break,
        }
    }
    answered(attempt()).await
}

/// A duration as the statements take it.
fn milliseconds(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// A subject filter as a regular expression of Postgres.
fn pattern(filter: &str) -> String {
    let token = |token: &str| match token {
        "*" => "[^.]+".to_owned(),
        ">" => ".+".to_owned(),
        literal => literal.chars().fold(String::new(), |mut text, c| {
            if !c.is_alphanumeric() {
                text.push('\\');
            }
            text.push(c);
            text
        }),
    };
    let tokens: Vec<String> = filter.split('.').map(token).collect();
    format!("^{}$", tokens.join("\\."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_filters_become_patterns() {
        assert_eq!(pattern("items.created"), "^items\\.created$");
        assert_eq!(pattern("a.*.b+c.>"), "^a\\.[^.]+\\.b\\+c\\..+$");
        assert_eq!(pattern(">"), "^.+$");
    }
}
