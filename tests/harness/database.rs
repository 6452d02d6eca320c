//! Databases for tests: one private Postgres for all tests of a process, with a migrated template
//! that each test gets a copy of.

use anyhow::{Context, Result, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;
use tribox::servers::PrivatePostgres;

use crate::{programs, run, wait_until};

const TEMPLATE: &str = "template_tribox";

/// The URL of a fresh, migrated database on the Postgres that this process's tests share.
///
/// # Errors
/// There is no Postgres, or it has a database of that name.
pub async fn fresh(name: &str) -> Result<String> {
    let postgres = shared().await?;
    migrated_template(postgres).await?;
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}");
    connection.execute(AssertSqlSafe(sql)).await.with_context(|| format!("database {name}"))?;
    Ok(postgres.url_of(name))
}

/// The URL of a fresh database with nothing in it, on the same Postgres.
///
/// # Errors
/// There is no Postgres, or it has a database of that name.
pub async fn empty(name: &str) -> Result<String> {
    let postgres = shared().await?;
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let sql = format!("CREATE DATABASE \"{name}\"");
    connection.execute(AssertSqlSafe(sql)).await.with_context(|| format!("database {name}"))?;
    Ok(postgres.url_of(name))
}

/// Runs `tribox migrate` on a database.
///
/// # Errors
/// The program was not built, or fails.
pub async fn migrate(url: &str) -> Result<()> {
    let output = tokio::process::Command::new(programs::tribox()?)
        .arg("migrate")
        .env("DATABASE_URL", url)
        .current_dir("/")
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run tribox migrate")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tribox migrate: {}: {said}", output.status);
    Ok(())
}

/// It stays until this process is gone; then the run's watchdog stops it.
async fn shared() -> Result<&'static PrivatePostgres> {
    static SHARED: OnceCell<PrivatePostgres> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || {
            let directory = run::new_directory("postgres")?;
            // Many hosts with their pools at once.
            let settings = [("max_connections".to_owned(), "300".to_owned())];
            Ok(PrivatePostgres::start(&directory, &settings).await?)
        })
        .await
}

async fn migrated_template(postgres: &PrivatePostgres) -> Result<()> {
    static TEMPLATE_MADE: OnceCell<Result<(), String>> = OnceCell::const_new();
    // A failure is kept: each test tells of it, and none waits for it again.
    let made = TEMPLATE_MADE
        .get_or_init(async || make_template(postgres).await.map_err(|e| format!("{e:#}")));
    match made.await {
        Ok(()) => Ok(()),
        Err(e) => bail!("{e}"),
    }
}

async fn make_template(postgres: &PrivatePostgres) -> Result<()> {
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let create = format!("CREATE DATABASE {TEMPLATE}");
    connection.execute(AssertSqlSafe(create)).await?;
    migrate(&postgres.url_of(TEMPLATE)).await?;
    // A database that somebody is connected to cannot be copied; connections close by and by.
    wait_until("nobody is connected to the migrated template", async || {
        let count = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'template_tribox'",
        );
        match count.fetch_one(&mut connection).await {
            Ok(0) => Ok(()),
            Ok(count) => Err(format!("{count} connections")),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
}
