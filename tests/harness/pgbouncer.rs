//! A private PgBouncer before a Postgres: in transaction mode, so that each transaction of a client
//! may be on another connection than the one before.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpStream;
use tribox::servers::any_free_port;

use crate::{programs, wait_until};

/// Connections to Postgres: fewer than a host has to PgBouncer, so that they go from hand to hand.
const SERVERS: u32 = 5;

/// It is killed when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    /// Where clients reach the database.
    url: String,
}

impl PgBouncer {
    /// Starts before a database, with files in a directory of its own, and `tracked` prepared
    /// statements that are kept track of: 0 for none, as it is in versions before 1.21.
    ///
    /// # Errors
    /// There is no PgBouncer, or it does not start.
    pub async fn start(directory: &Path, database_url: &str, tracked: u32) -> Result<Self> {
        std::fs::create_dir(directory).with_context(|| directory.display().to_string())?;
        // Root's PgBouncer becomes another user, who is to see what is in here.
        std::fs::set_permissions(directory, Permissions::from_mode(0o711))?;
        let port = any_free_port()?;
        let config = directory.join("pgbouncer.ini");
        std::fs::write(&config, text(database_url, port, tracked)?)?;
        let log = File::create(directory.join("pgbouncer.log"))?;
        let child = Command::new(programs::pgbouncer()?)
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("failed to run pgbouncer")?;
        let target: PgConnectOptions = database_url.parse()?;
        let (user, database) = (target.get_username(), target.get_database().unwrap_or_default());
        let url = format!("postgres://{user}@127.0.0.1:{port}/{database}");
        let mut bouncer = PgBouncer { child, url };
        let started = wait_until("PgBouncer listens", async || {
            if let Ok(Some(status)) = bouncer.child.try_wait() {
                return Ok(Some(status));
            }
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            connected.map(|_| None).map_err(|why| why.to_string())
        });
        let ended = started.await?;
        let log = directory.join("pgbouncer.log");
        ensure!(ended.is_none(), "{ended:?}: {}", std::fs::read_to_string(log)?);
        Ok(bouncer)
    }

    /// Major and minor version.
    ///
    /// # Errors
    /// There is no PgBouncer, or it does not say.
    pub fn version() -> Result<(u32, u32)> {
        let output = Command::new(programs::pgbouncer()?).arg("--version").output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = said.split_whitespace().nth(1).and_then(|version| {
            let (major, rest) = version.split_once('.')?;
            let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        version.with_context(|| format!("no version in {said:?}"))
    }

    /// The database by way of it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn text(database_url: &str, port: u16, tracked: u32) -> Result<String> {
    let target: PgConnectOptions = database_url.parse()?;
    let database = target.get_database().context("no database")?;
    let (user, rest) = database_url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':'))
        .map_or((target.get_username(), None), |(user, password)| (user, Some(password)));
    let password = rest.map(|password| format!(" password={password}")).unwrap_or_default();
    let (host, server) = (target.get_host(), target.get_port());
    let mut text = String::new();
    writeln!(text, "[databases]")?;
    let place = format!("host={host} port={server} dbname={database} user={user}{password}");
    writeln!(text, "{database} = {place}")?;
    writeln!(text, "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}")?;
    // Whoever may reach the loopback address of a test.
    writeln!(text, "auth_type = any\nunix_socket_dir =")?;
    writeln!(text, "pool_mode = transaction\ndefault_pool_size = {SERVERS}")?;
    writeln!(text, "max_client_conn = 200\nserver_round_robin = 1")?;
    if PgBouncer::version()? >= (1, 21) {
        writeln!(text, "max_prepared_statements = {tracked}")?;
    }
    if rustix::process::geteuid().is_root() {
        writeln!(text, "user = nobody")?;
    }
    Ok(text)
}
