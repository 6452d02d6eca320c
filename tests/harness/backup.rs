//! A base backup and archived WAL of a stack's own Postgres, and a restore to a point in time.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{Stack, programs, stack::copy_over, wait_until};

/// Settings of a Postgres that archives its WAL beside its data directory, where it is as well when the
/// server runs as another user.
pub fn archiving() -> Vec<(String, String)> {
    let archive = "mkdir -p ../archive && cp %p ../archive/%f";
    [("archive_mode", "on"), ("archive_command", archive)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

impl Stack {
    /// Takes a base backup of the running server with pg_basebackup.
    ///
    /// # Errors
    /// There is no pg_basebackup, or it fails.
    pub fn base_backup(&self) -> Result<()> {
        let to = self.directory().join("base-backup");
        let mut command = Command::new(programs::postgres("pg_basebackup")?);
        command.arg("--dbname").arg(self.database_url()).arg("--pgdata").arg(&to);
        run(command.args(["--wal-method", "none", "--checkpoint", "fast", "--no-sync"]))
    }

    /// Names this point in time, and waits until the WAL up to here is archived.
    ///
    /// # Errors
    /// The server does not answer, or does not archive.
    pub async fn restore_point(&self, name: &str) -> Result<()> {
        let point = "SELECT pg_walfile_name(pg_create_restore_point($1))";
        let file: String = sqlx::query_scalar(point).bind(name).fetch_one(&self.pool).await?;
        sqlx::query("SELECT pg_switch_wal()").execute(&self.pool).await?;
        wait_until("the WAL is archived", async || {
            let archived = "SELECT coalesce(max(last_archived_wal), '') FROM pg_stat_archiver";
            let last = sqlx::query_scalar::<_, String>(archived).fetch_one(&self.pool).await;
            match last {
                Ok(last) if last >= file => Ok(()),
                Ok(last) => Err(format!("{last} of {file}")),
                Err(why) => Err(why.to_string()),
            }
        })
        .await
    }

    /// Kills the server, and starts it from the base backup and the WAL up to a point in time: what was
    /// committed after that is lost.
    ///
    /// # Errors
    /// There is no backup, or the server does not come back.
    pub async fn restore_to(&mut self, point: &str) -> Result<()> {
        let data = self.data_directory().await?;
        let backup = self.directory().join("base-backup");
        let postgres = self.postgres.as_mut().context("no Postgres of its own")?;
        postgres.kill()?;
        // As whoever the server runs as.
        run(Command::new("chown").arg("-R").arg(reference(&data)).arg(&backup))?;
        copy_over(&backup, &data)?;
        let mut settings = String::new();
        writeln!(settings, "restore_command = 'cp ../archive/%f %p'")?;
        writeln!(settings, "recovery_target_name = '{point}'")?;
        writeln!(settings, "recovery_target_action = 'promote'")?;
        let file = data.join("postgresql.auto.conf");
        OpenOptions::new().append(true).open(&file)?.write_all(settings.as_bytes())?;
        std::fs::write(data.join("recovery.signal"), "")?;
        run(Command::new("chown").arg(reference(&data)).arg(data.join("recovery.signal")))?;
        postgres.start_again().await?;
        wait_until("Postgres has left recovery", async || {
            let recovers = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
            match recovers.fetch_one(&self.pool).await {
                Ok(false) => Ok(()),
                Ok(true) => Err("it recovers".to_owned()),
                Err(why) => Err(why.to_string()),
            }
        })
        .await
    }
}

pub(crate) fn reference(data: &Path) -> String {
    format!("--reference={}", data.join("PG_VERSION").display())
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {}: {said}", command.get_program(), output.status);
    Ok(())
}
