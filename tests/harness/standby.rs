//! A standby of a stack's own Postgres, and the failover to it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tribox::servers::PrivatePostgres;

use crate::{FaultProxy, Stack, backup, programs, wait_until};

/// A hot standby that streams by way of a proxy, so that it can be cut off.
#[derive(Debug)]
pub struct Standby {
    server: PrivatePostgres,
    /// Between the primary and the standby.
    pub way: FaultProxy,
    pool: PgPool,
}

impl Standby {
    /// Makes one with `pg_basebackup -R`, and waits until it streams.
    ///
    /// # Errors
    /// There is no pg_basebackup, or the standby does not come up.
    pub async fn of(stack: &Stack) -> Result<Standby> {
        let primary = stack.postgres()?;
        let way = FaultProxy::start(primary.port()).await?;
        let data = stack.data_directory().await?;
        let secrets = stack.directory().join("postgres");
        // As its own server keeps them: the password beside the cluster.
        let place = stack.directory().join("standby");
        let copy = place.join("cluster/data");
        std::fs::create_dir_all(place.join("cluster"))?;
        for directory in [&place, &place.join("cluster")] {
            std::fs::set_permissions(directory, Permissions::from_mode(0o711))?;
        }
        std::fs::copy(secrets.join("password"), place.join("password"))?;
        let mut command = Command::new(programs::postgres("pg_basebackup")?);
        command.arg("--dbname").arg(way.instead_of(stack.database_url()));
        command.args(["--write-recovery-conf", "--checkpoint", "fast", "--no-sync", "--pgdata"]);
        command.arg(&copy);
        // The proxy works on this thread.
        tokio::task::spawn_blocking(move || backup::run(&mut command)).await??;
        let reference = backup::reference(&data);
        backup::run(Command::new("chown").arg("-R").arg(reference).arg(place.join("cluster")))?;
        let server = PrivatePostgres::start(&place, &[]).await?;
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&server.url())?;
        let standby = Standby { server, way, pool };
        standby.streams(stack).await?;
        Ok(standby)
    }

    async fn streams(&self, stack: &Stack) -> Result<()> {
        wait_until("the standby streams", async || {
            let streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            match stack.number(streams).await {
                Ok(0) => Err("it does not".to_owned()),
                Ok(_) => Ok(()),
                Err(why) => Err(why.to_string()),
            }
        })
        .await
    }

    /// Waits until the standby has all that was committed so far.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn has_all(&self, stack: &Stack) -> Result<()> {
        let now: String =
            sqlx::query_scalar("SELECT pg_current_wal_lsn()::text").fetch_one(&stack.pool).await?;
        wait_until("the standby has all commits", async || {
            let there = "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn";
            match sqlx::query_scalar::<_, bool>(there).bind(&now).fetch_one(&self.pool).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("it lacks some".to_owned()),
                Err(why) => Err(why.to_string()),
            }
        })
        .await
    }

    /// From here on, no commit is confirmed that the standby does not have.
    ///
    /// # Errors
    /// The primary does not take the setting.
    pub async fn synchronous(&self, stack: &Stack) -> Result<()> {
        let set = "ALTER SYSTEM SET synchronous_standby_names = '*'";
        sqlx::query(set).execute(&stack.pool).await?;
        sqlx::query("SELECT pg_reload_conf()").execute(&stack.pool).await?;
        wait_until("the standby is synchronous", async || {
            let streams = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            match stack.number(streams).await {
                Ok(1) => Ok(()),
                Ok(n) => Err(format!("{n} are")),
                Err(why) => Err(why.to_string()),
            }
        })
        .await
    }

    /// Kills the primary, makes the standby the new one, and leads `front` to it, by which hosts reach
    /// Postgres. The stack looks at the new one from here on.
    ///
    /// # Errors
    /// The standby is not promoted.
    pub async fn take_over(self, stack: &mut Stack, front: &FaultProxy) -> Result<()> {
        front.refuse();
        let mut primary = stack.postgres.replace(self.server).context("no Postgres of its own")?;
        primary.kill()?;
        let promoted: bool =
            sqlx::query_scalar("SELECT pg_promote()").fetch_one(&self.pool).await?;
        ensure!(promoted, "the standby was not promoted");
        front.lead_to(stack.postgres()?.port());
        front.restore();
        stack.pool = self.pool;
        Ok(())
    }
}
