//! Migrations: forward only, applied in one transaction each, noted in `tribox.migrations`. The table
//! is in our own schema, so a team's migrations in the same database are not touched.

use sqlx::{AssertSqlSafe, Executor};

use super::{MigrateError, Pool};

/// A step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub version: i32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// All steps, oldest first. What was released is never changed.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "tables", sql: include_str!("../../migrations/0001_tables.sql") },
    Migration {
        version: 2,
        name: "functions",
        sql: include_str!("../../migrations/0002_functions.sql"),
    },
    Migration {
        version: 3,
        name: "operator",
        sql: include_str!("../../migrations/0003_operator.sql"),
    },
    Migration { version: 4, name: "nodes", sql: include_str!("../../migrations/0004_nodes.sql") },
    Migration {
        version: 5,
        name: "restored",
        sql: include_str!("../../migrations/0005_restored.sql"),
    },
    Migration {
        version: 6,
        name: "partitions",
        sql: include_str!("../../migrations/0006_partitions.sql"),
    },
];

const PREPARE: &str = "CREATE SCHEMA IF NOT EXISTS tribox;
CREATE TABLE IF NOT EXISTS tribox.migrations (
    version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());";

/// Two hosts that start at once apply each step once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1953655139);";

/// The steps that the database lacks. One quick query; a newer database than this binary is fine.
///
/// # Errors
/// The database cannot be used.
pub async fn pending(pool: &Pool) -> Result<Vec<Migration>, MigrateError> {
    let known: bool = sqlx::query_scalar("SELECT to_regclass('tribox.migrations') IS NOT NULL")
        .fetch_one(pool)
        .await?;
    let applied: i32 = if known {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM tribox.migrations")
            .fetch_one(pool)
            .await?
    } else {
        0
    };
    Ok(MIGRATIONS.iter().copied().filter(|m| m.version > applied).collect())
}

/// The SQL of a step as it is run: by hand, too (`tribox migrate --print`).
pub fn script(migration: &Migration) -> String {
    let Migration { version, name, sql } = migration;
    format!(
        "BEGIN;\n{LOCK}\nINSERT INTO tribox.migrations (version, name) VALUES ({version}, '{name}');\n\n\
         {sql}\nCOMMIT;\n"
    )
}

/// All pending SQL, for review or to be run by somebody with more rights.
pub fn print(migrations: &[Migration]) -> String {
    let scripts: Vec<String> = migrations.iter().map(script).collect();
    format!("{PREPARE}\n\n{}", scripts.join("\n"))
}

/// Applies what is pending; returns the names of the steps.
///
/// # Errors
/// The database cannot be used, or the user lacks the rights (CREATE on the database).
pub async fn migrate(pool: &Pool) -> Result<Vec<&'static str>, MigrateError> {
    let mut applied = Vec::new();
    let steps = pending(pool).await?;
    if steps.is_empty() {
        return Ok(applied);
    }
    let prepare = format!("BEGIN;\n{LOCK}\n{PREPARE}\nCOMMIT;");
    run(pool, prepare).await?;
    for step in steps {
        if let Err(error) = run(pool, script(&step)).await {
            if pending(pool).await?.iter().any(|m| m.version == step.version) {
                return Err(error);
            }
            // Another host was faster with this step.
            continue;
        }
        applied.push(step.name);
    }
    Ok(applied)
}

/// Runs a script of several statements, which begins and ends its own transaction.
async fn run(pool: &Pool, script: String) -> Result<(), MigrateError> {
    let mut connection = pool.acquire().await?;
    let outcome = connection.execute(AssertSqlSafe(script)).await;
    if outcome.is_err() {
        connection.execute("ROLLBACK").await?;
    }
    Ok(outcome.map(drop)?)
}
