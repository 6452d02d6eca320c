//! A private Postgres: its cluster, made when it is new, and its server process.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor};

use super::account::Account;
use super::directory::{self, DataDirectory};
use super::error::{OnPath, ServerError};
use super::process::{self, Process};
use super::programs::{self, PostgresPrograms};

const PROGRAM: &str = "postgres";
/// The superuser and the database that are made with the cluster.
const NAME: &str = "tribox";
/// Starts that end at once are repeated: the port was taken meanwhile, or backends of a killed
/// server still hold its shared memory.
const ATTEMPTS: u32 = 10;

/// A Postgres server of our own. It stops when this is dropped; its data stay.
#[derive(Debug)]
pub struct PrivatePostgres {
    directory: DataDirectory,
    cluster: Cluster,
    settings: Vec<(String, String)>,
    password: String,
    port: u16,
    server: Option<Process>,
}

/// Where the data are, and as whom which programs run on them.
#[derive(Debug)]
struct Cluster {
    /// Holds `data`; belongs to the account.
    home: PathBuf,
    account: Account,
    programs: PostgresPrograms,
}

impl PrivatePostgres {
    /// Starts a server on the data in `directory`, which is made if it is new, with additional
    /// `settings` (names and values as in postgresql.conf). Returns when it answers.
    ///
    /// # Errors
    /// There is no Postgres 15 or newer, another process uses the directory, or the server does
    /// not start.
    pub async fn start(
        directory: &Path,
        settings: &[(String, String)],
    ) -> Result<Self, ServerError> {
        let directory = DataDirectory::open(directory)?;
        let cluster = Cluster::locate(&directory)?;
        cluster.stop_left_over().await?;
        let password = directory.secret("password")?;
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.make(&password).await?;
        }
        let settings = settings.to_vec();
        let mut postgres =
            PrivatePostgres { directory, cluster, settings, password, port: 0, server: None };
        postgres.launch(None).await?;
        Ok(postgres)
    }

    /// The URL of the database `tribox`, with the password in it.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The loopback port it listens on; the same after [`Self::start_again`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::id)
    }

    /// What people should be told: that it runs as another user, or keeps its data elsewhere.
    pub fn note(&self) -> Option<String> {
        let home = &self.cluster.home;
        let place = (!home.starts_with(self.directory.path()))
            .then(|| format!("keeps its data in {}", home.display()));
        let user = match &self.cluster.account {
            Account::Own => None,
            Account::User(user) => Some(format!("runs as {} since it refuses root", user.name)),
            Account::Namespace => Some("runs in a user namespace since it refuses root".to_owned()),
        };
        let parts: Vec<String> = user.into_iter().chain(place).collect();
        (!parts.is_empty()).then(|| format!("postgres {}", parts.join(" and ")))
    }

    /// Stops the server: open transactions are rolled back. The data directory stays ours.
    ///
    /// # Errors
    /// It does not stop, even when killed.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        match self.server.take() {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the server with SIGKILL, as a crash would.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<(), ServerError> {
        self.server.take().map_or(Ok(()), Process::kill)
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill`], on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_again(&mut self) -> Result<(), ServerError> {
        self.stop().await?;
        self.launch(Some(self.port)).await
    }

    async fn launch(&mut self, port: Option<u16>) -> Result<(), ServerError> {
        let mut attempt = 1;
        loop {
            self.port = match port {
                Some(port) => port,
                None if attempt == 1 => self.directory.free_port()?,
                None => directory::any_free_port()?,
            };
            match self.launch_once().await {
                Ok(server) => {
                    self.server = Some(server);
                    return self.directory.remember_port(self.port);
                }
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => tracing::debug!(%error, attempt, "starting postgres once more"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            attempt += 1;
        }
    }

    async fn launch_once(&self) -> Result<Process, ServerError> {
        let mut command = self.cluster.command(&self.cluster.programs.postgres);
        command.arg("-D").arg(self.cluster.data()).arg("-p").arg(self.port.to_string());
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Last, so that no setting opens it to the network.
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let log = self.directory.log_file("postgres.log")?;
        let mut server = Process::spawn(PROGRAM, command, log, Signal::INT)?;
        server.ready(async || self.answer().await.map_err(|e| e.to_string())).await?;
        Ok(server)
    }

    /// Connects, and makes our database where it is not there yet.
    async fn answer(&self) -> Result<(), sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(NAME)
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
            .log_statements(tracing::log::LevelFilter::Trace);
        let connect = PgConnection::connect_with(&options);
        let timeout = tokio::time::timeout(Duration::from_secs(5), connect).await;
        let mut connection = timeout.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1")
            .bind(NAME)
            .fetch_optional(&mut connection)
            .await?;
        if found.is_none() {
            connection.execute("CREATE DATABASE tribox").await?;
        }
        connection.close().await
    }
}

impl Cluster {
    /// Finds the cluster of a directory, or prepares the place for a new one.
    fn locate(directory: &DataDirectory) -> Result<Self, ServerError> {
        let home = home(directory)?;
        let made_by = directory::read_if_there(&home.join("data/PG_VERSION"));
        let made_by: Option<u32> = match made_by {
            Ok(text) => text.and_then(|text| text.trim().parse().ok()),
            // Not ours to read: it was made by root, or for another user.
            Err(e) => {
                let reason = format!("{e}; run this as the user that made it, or remove it");
                return Err(ServerError::Directory { directory: directory.path().into(), reason });
            }
        };
        let programs = programs::postgres(made_by).map_err(|error| match made_by {
            Some(major) => ServerError::Directory {
                directory: directory.path().to_owned(),
                reason: format!("its data were made by Postgres {major}: {error}; or remove it"),
            },
            None => error,
        })?;
        let account = Account::choose(&programs.postgres, &home.join("data"))?;
        let mut cluster = Cluster { home, account, programs };
        if made_by.is_none() {
            cluster.settle(directory)?;
        }
        Ok(cluster)
    }

    /// Makes the directory of a new cluster where its account can reach it: in the data directory,
    /// or, if that is below one like /root, among the system's temporary files.
    fn settle(&mut self, directory: &DataDirectory) -> Result<(), ServerError> {
        directory::private_directories(&self.home)?;
        self.account.take(&self.home)?;
        if self.account.can_run(&self.programs.postgres, &self.home) {
            return Ok(());
        }
        let temporary = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
        let reachable =
            temporary.into_iter().find(|t| self.account.can_run(&self.programs.postgres, t));
        let Some(temporary) = reachable else {
            let reason = "the user that Postgres must run as cannot reach it, nor /tmp; use a \
                directory that others may pass through, or run this as an ordinary user";
            let directory = directory.path().to_owned();
            return Err(ServerError::Directory { directory, reason: reason.to_owned() });
        };
        // A random name: nobody else can have prepared it.
        self.home = temporary.join(format!("tribox-postgres-{:016x}", rand::random::<u64>()));
        let made = DirBuilder::new().mode(0o700).create(&self.home);
        made.on_path("make directory", &self.home)?;
        self.account.take(&self.home)?;
        let place = self.home.to_string_lossy();
        directory::write_private(&directory.join("cluster-elsewhere"), &place)
    }

    /// Runs initdb. The cluster appears whole or not at all.
    async fn make(&self, password: &str) -> Result<(), ServerError> {
        let unfinished = self.home.join("data.new");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).on_path("remove", &unfinished)?;
        }
        let secret = self.home.join("initdb-password");
        directory::write_private(&secret, password)?;
        self.account.take(&secret)?;
        let mut command = self.command(&self.programs.initdb);
        command
            .args(["--username", NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg("--pwfile")
            .arg(&secret)
            .arg("-D")
            .arg(&unfinished);
        let made = process::run("initdb", "make a database cluster", command).await;
        std::fs::remove_file(&secret).on_path("remove", &secret)?;
        made?;
        std::fs::rename(&unfinished, self.data()).on_path("rename", &unfinished)
    }

    /// Stops the server that a killed owner of this directory left running.
    async fn stop_left_over(&self) -> Result<(), ServerError> {
        let file = self.data().join("postmaster.pid");
        let text = directory::read_if_there(&file)?.unwrap_or_default();
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else {
            return Ok(());
        };
        process::stop_left_over(PROGRAM, pid, &self.data(), Signal::INT).await?;
        // The system has given the pid to another program: the server would take that for itself.
        let other = process::command_line(pid).is_some_and(|line| !line.contains(PROGRAM));
        if other { std::fs::remove_file(&file).on_path("remove", &file) } else { Ok(()) }
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A command under the cluster's account. It starts in the cluster: where we stand, the account
    /// may not be allowed to.
    fn command(&self, program: &Path) -> std::process::Command {
        let mut command = self.account.command(program);
        command.current_dir(&self.home);
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command
    }
}

/// Where the cluster of a directory is, or would be.
fn home(directory: &DataDirectory) -> Result<PathBuf, ServerError> {
    let elsewhere = directory::read_if_there(&directory.join("cluster-elsewhere"))?;
    let elsewhere = elsewhere.map(PathBuf::from).filter(|place| place.is_dir());
    Ok(elsewhere.unwrap_or_else(|| directory.join("cluster")))
}
