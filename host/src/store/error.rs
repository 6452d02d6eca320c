//! What Postgres says, told apart: a conflict, data it refuses, or that it cannot be used now.

use crate::lane::ports::{CommitError, StoreAway};

/// Why the database cannot be used at start.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    message: String,
    /// Waiting does not mend it.
    pub fatal: bool,
}

impl ConnectError {
    pub(super) fn url(why: &dyn std::fmt::Display) -> Self {
        let message = format!(
            "the Postgres URL cannot be read: {why}; it looks like \
             postgres://user:password@host:5432/database (tribox.toml [postgres] url, or DATABASE_URL)"
        );
        ConnectError { message, fatal: true }
    }

    pub(super) fn too_old(version: i32, oldest: i32) -> Self {
        let message = format!(
            "Postgres {} is too old: tribox needs {} or later; upgrade the server",
            version / 10_000,
            oldest / 10_000
        );
        ConnectError { message, fatal: true }
    }

    pub(super) fn server(why: &sqlx::Error) -> Self {
        let code = code(why);
        let (advice, fatal) = match code.as_deref() {
            Some("28P01" | "28000") => ("check user and password in the Postgres URL", true),
            Some("3D000") => ("create the database, or name another one in the Postgres URL", true),
            Some("42501") => {
                ("the user lacks a right; see docs/OPERATING.md for those it needs", true)
            }
            Some(code) if is_of_another(code) => (POOLED, true),
            Some("53300") => ("raise max_connections or lower [postgres] connections", false),
            Some("57P03") => ("the server is starting", false),
            _ => ("check that the server runs and that the Postgres URL is right", false),
        };
        ConnectError { message: format!("Postgres cannot be used: {why}; {advice}"), fatal }
    }
}

/// The SQLSTATE of an error that Postgres itself reported.
fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// Of a pooler that hands connections from one client to the next.
const POOLED: &str = "a pooler mixes up prepared statements: set [postgres] prepared_statements to false, \
     or give PgBouncer 1.21 or later max_prepared_statements; see docs/OPERATING.md";

/// Whether a prepared statement is there that this client has not prepared, or is not that it has.
fn is_of_another(code: &str) -> bool {
    matches!(code, "26000" | "42P05")
}

/// An error of a statement that nobody's data can be the cause of.
pub fn is_away(error: sqlx::Error) -> StoreAway {
    StoreAway(told(&error))
}

/// What an error says, and what to do where that is known.
fn told(error: &sqlx::Error) -> String {
    match code(error) {
        Some(code) if is_of_another(&code) => format!("{error}; {POOLED}"),
        _ => error.to_string(),
    }
}

/// Whether a statement was ended because another one was in its way: again, it may go through.
pub(super) fn was_in_the_way(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Why migrations are not known, or were not applied.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct MigrateError {
    message: String,
    /// The database cannot be used for now: it was cut off, is short of something, shuts down, starts,
    /// or is read-only, and waiting mends that.
    pub passing: bool,
}

impl From<sqlx::Error> for MigrateError {
    fn from(why: sqlx::Error) -> Self {
        let passing = match code(&why).as_deref() {
            None => !matches!(why, sqlx::Error::Configuration(_)),
            Some(code) => {
                code == "25006" || matches!(code.get(..2), Some("08" | "40" | "53" | "57"))
            }
        };
        MigrateError { message: why.to_string(), passing }
    }
}

/// An error of a commit.
pub(super) fn of_commit(error: &sqlx::Error) -> CommitError {
    let text = told(error);
    let Some(database) = error.as_database_error() else {
        return CommitError::Unavailable(text);
    };
    let constraint = database.constraint().unwrap_or_default();
    match database.code().as_deref() {
        Some("TB001") => CommitError::Fenced(text),
        Some("TB002" | "TB003" | "TB004" | "40001" | "40P01") => CommitError::Conflict(text),
        Some("23505") => match constraint {
            "inbox_pkey" | "parked_inbox_key_key" | "scheduled_pkey" => CommitError::Duplicate,
            "scheduled_name" => CommitError::Conflict(text),
            // The log has an entry this lane does not know: an earlier commit took place after all.
            "outbox_pkey" => CommitError::Unavailable(text),
            _ => CommitError::Data(text),
        },
        // Data that does not fit a type, is too large for a row or an index, or too deep, or that
        // a constraint or a trigger of the team's own refuses.
        Some(code) if code == "P0001" || matches!(code.get(..2), Some("22" | "23" | "54")) => {
            CommitError::Data(text)
        }
        _ => CommitError::Unavailable(text),
    }
}
