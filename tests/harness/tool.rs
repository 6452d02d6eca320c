//! The program's commands as an operator runs them, and what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Stack, database, programs};

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, where it went well.
    ///
    /// # Errors
    /// It did not.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == Some(0), "{self:?}");
        Ok(self.out)
    }

    /// The object it printed, whether or not it went well.
    ///
    /// # Errors
    /// It printed something else.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }

    /// What it said, where it failed with exit code 1.
    ///
    /// # Errors
    /// It did not fail.
    pub fn refused(self) -> Result<String> {
        ensure!(self.code == Some(1) && self.err.starts_with("tribox: "), "{self:?}");
        Ok(self.err)
    }
}

/// Where the commands keep compiled components.
pub fn cache() -> PathBuf {
    programs::repository().join("target/suite-cache/tribox")
}

/// Runs `tribox` in a directory, with nothing of the environment's but what is given.
///
/// # Errors
/// The program was not built, or prints what is no text.
pub fn tribox(directory: &Path, database_url: Option<&str>, arguments: &[&str]) -> Result<Ran> {
    let mut command = Command::new(programs::tribox()?);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    for name in ["DATABASE_URL", "NATS_URL", "NATS_CREDS", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("USER", "somebody");
    // What is compiled once is there at the next run of the suite.
    command.env("XDG_CACHE_HOME", cache().parent().context("no directory")?);
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    let output = command.output().context("failed to run tribox")?;
    Ok(Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

impl Stack {
    /// Runs a command with this stack's config, in its directory.
    ///
    /// # Errors
    /// The program was not built.
    pub fn tool(&self, arguments: &[&str]) -> Result<Ran> {
        self.write_config()?;
        tribox(self.directory(), None, arguments)
    }

    /// The object that a command prints with `--json`.
    ///
    /// # Errors
    /// It fails.
    pub fn tool_json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.tool(&[arguments, &["--json"]].concat())?;
        ensure!(ran.code == Some(0), "{arguments:?}: {ran:?}");
        ran.json()
    }
}

/// A row of `tribox.parked` that no host has put there.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub handler: &'a str,
    pub key: Option<&'a str>,
    pub state: &'a str,
    pub reason: &'a str,
    pub id: &'a str,
}

/// A database with tables and no host, and commands on it.
#[derive(Debug)]
pub struct Desk {
    pub url: String,
    pub pool: sqlx::PgPool,
}

impl Desk {
    /// # Errors
    /// There is no Postgres.
    pub async fn new(name: &str) -> Result<Desk> {
        let url = database::fresh(name).await?;
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect_lazy(&url)?;
        Ok(Desk { url, pool })
    }

    /// Runs a command.
    ///
    /// # Errors
    /// The program was not built.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        tribox(Path::new("/"), Some(&self.url), arguments)
    }

    /// The object that a command prints with `--json`.
    ///
    /// # Errors
    /// It fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.run(&[arguments, &["--json"]].concat())?;
        ensure!(ran.code == Some(0), "{arguments:?}: {ran:?}");
        ran.json()
    }

    /// # Errors
    /// Postgres refuses.
    pub async fn execute(&self, sql: &'static str) -> Result<u64> {
        Ok(sqlx::query(sql).execute(&self.pool).await?.rows_affected())
    }

    /// The one number that a query answers with.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn number(&self, sql: &'static str) -> Result<i64> {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.context(sql)
    }

    /// Puts a message aside, in its third attempt; one that is retried is due in an hour.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn park(&self, row: &Row<'_>) -> Result<i64> {
        let sql = "INSERT INTO tribox.parked (handler, key, state, attempts, next_attempt_at,
                          reason, error, component, inbox_key, message_id, subject, headers,
                          payload, stored_at)
                   VALUES ($1, $2, $3, 3, CASE WHEN $3 = 'retrying' THEN now() + interval '1 h' END,
                           $4, 'it went wrong', 1, tribox.inbox_key($1, $5), $5, 'chaos.7.do', '[]',
                           '{\"do\": \"count\"}', 1700000000000)
                   RETURNING id";
        let query = sqlx::query_scalar(sql).bind(row.handler).bind(row.key).bind(row.state);
        Ok(query.bind(row.reason).bind(row.id).fetch_one(&self.pool).await?)
    }

    /// Every message that is parked: id, state, attempts, and whether it is due.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn states(&self) -> Result<Vec<(String, String, i32, bool)>> {
        let sql = "SELECT message_id, state, attempts, coalesce(next_attempt_at <= now(), false)
                     FROM tribox.parked WHERE id > 0 ORDER BY id";
        Ok(sqlx::query_as(sql).fetch_all(&self.pool).await?)
    }
}
