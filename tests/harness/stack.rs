//! All that one test needs, its own and nobody else's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tribox::servers::{NatsOptions, PrivateNats, PrivatePostgres, any_free_port};

use crate::{Broker, Config, Host, SmallDisk, database, programs, run};

/// How a stack differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// A Postgres of its own, for a test that disturbs it; otherwise a database of its own on the
    /// one that the tests of this process share.
    pub own_postgres: bool,
    /// Settings of a Postgres of its own: names and values as in postgresql.conf.
    pub postgres: Vec<(String, String)>,
    /// The nats-server and its settings; each stack has one of its own.
    pub nats: NatsOptions,
    /// The server whose files lie on a small disk, if there can be one: see [`Stack::small_disk`].
    pub small_disk: Option<Server>,
}

/// One of a stack's own servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Postgres,
    Nats,
}

/// A database, a nats-server, a plugin directory and a config file.
#[derive(Debug)]
pub struct Stack {
    /// What is written to tribox.toml when a host is started.
    pub config: Config,
    /// A client of its nats-server.
    pub broker: Broker,
    /// Connections to its database.
    pub pool: PgPool,
    pub nats: PrivateNats,
    /// Present where the stack has one of its own.
    pub postgres: Option<PrivatePostgres>,
    database_url: String,
    directory: PathBuf,
    /// Counts the hosts that were started, for their log files.
    hosts: u32,
    /// The small disk that was asked for. None where this machine allows none.
    pub disk: Option<SmallDisk>,
}

impl Stack {
    /// A stack with the usual servers. `name` shows up in paths: the name of the test.
    ///
    /// # Errors
    /// A server or program is missing or does not start.
    pub async fn new(name: &str) -> Result<Self> {
        Stack::with(name, StackOptions::default()).await
    }

    /// A stack with servers of one's choice.
    ///
    /// # Errors
    /// A server or program is missing or does not start.
    pub async fn with(name: &str, options: StackOptions) -> Result<Self> {
        let directory = run::new_directory(name)?;
        let disk = match options.small_disk {
            Some(Server::Postgres) => SmallDisk::under(&directory.join("postgres"))?,
            Some(Server::Nats) => SmallDisk::under(&directory.join("nats"))?,
            None => None,
        };
        let (postgres, database_url) = if options.own_postgres {
            let postgres =
                PrivatePostgres::start(&directory.join("postgres"), &options.postgres).await?;
            let url = postgres.url();
            database::migrate(&url).await?;
            (Some(postgres), url)
        } else {
            let unique = directory.file_name().context("no name")?.to_string_lossy();
            (None, database::fresh(&unique).await?)
        };
        let mut nats_options = options.nats;
        nats_options.program.get_or_insert_with(programs::nats_server);
        let nats = PrivateNats::start(&directory.join("nats"), nats_options).await?;
        let broker = Broker::connect(&nats.url()).await?;
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&database_url)?;
        std::fs::create_dir(directory.join("plugins"))?;
        let config = Config::default();
        let hosts = 0;
        let mut stack =
            Stack { config, broker, pool, nats, postgres, database_url, directory, hosts, disk };
        stack.configure()?;
        Ok(stack)
    }

    /// A stack on this nats-server program.
    ///
    /// # Errors
    /// A server or program is missing or does not start.
    pub async fn on(nats_server: &Path, name: &str) -> Result<Self> {
        let program = Some(nats_server.to_owned());
        let nats = NatsOptions { program, ..NatsOptions::default() };
        Stack::with(name, StackOptions { nats, ..StackOptions::default() }).await
    }

    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Its own Postgres.
    ///
    /// # Errors
    /// It has none of its own.
    pub fn postgres(&self) -> Result<&PrivatePostgres> {
        self.postgres.as_ref().context("no Postgres of its own")
    }

    /// Its small disk.
    ///
    /// # Errors
    /// It has none.
    pub fn small_disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("no small disk")
    }

    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// A directory for files of the test's own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn plugins(&self) -> PathBuf {
        self.directory.join("plugins")
    }

    /// Drops guests into the plugin directory, each as a whole.
    ///
    /// # Errors
    /// A guest was not built, or the directory is gone.
    pub fn drop_in(&self, guests: &[&str]) -> Result<()> {
        for guest in guests {
            self.drop_in_file(&programs::guest(guest)?, guest)?;
        }
        Ok(())
    }

    /// Drops any file into the plugin directory as `<name>.wasm`, as a whole.
    ///
    /// # Errors
    /// The file or the directory is not there.
    pub fn drop_in_file(&self, file: &Path, name: &str) -> Result<()> {
        let unfinished = self.plugins().join(format!("{name}.part"));
        std::fs::copy(file, &unfinished).with_context(|| file.display().to_string())?;
        std::fs::rename(&unfinished, self.plugins().join(format!("{name}.wasm")))?;
        Ok(())
    }

    /// Writes the config file and says where it is.
    ///
    /// # Errors
    /// A value has no form in TOML, or the directory is gone.
    pub fn write_config(&self) -> Result<PathBuf> {
        let file = self.directory.join("tribox.toml");
        std::fs::write(&file, self.config.text()?)?;
        Ok(file)
    }

    /// Starts a host and waits until it is ready.
    ///
    /// # Errors
    /// It ends instead, or takes too long.
    pub async fn serve(&mut self) -> Result<Host> {
        let mut host = self.spawn()?;
        host.ready().await?;
        Ok(host)
    }

    /// Starts a host without waiting for it. Each has an admin port of its own.
    ///
    /// # Errors
    /// The program was not built.
    pub fn spawn(&mut self) -> Result<Host> {
        self.spawn_with(None)
    }

    /// Starts a host in which something goes wrong, as `TRIBOX_FAULT` says it, without waiting for it.
    ///
    /// # Errors
    /// The program was not built.
    pub fn spawn_with(&mut self, fault: Option<&str>) -> Result<Host> {
        let admin = free_address()?;
        self.config.set("admin.listen", admin.to_string());
        self.hosts += 1;
        let log = self.directory.join(format!("host-{}.log", self.hosts));
        let mut command = Host::command(&self.write_config()?)?;
        if let Some(fault) = fault {
            command.env("TRIBOX_FAULT", fault);
        }
        Host::spawn_command(command, admin, &log)
    }

    /// Keeps a copy of all streams and consumers as they are on disk, in place of an earlier one.
    ///
    /// # Errors
    /// The server does not come back, or the files cannot be copied.
    pub async fn save_streams(&mut self) -> Result<()> {
        self.nats.stop().await?;
        copy_over(&self.directory.join("nats/jetstream"), &self.directory.join("saved-streams"))?;
        Ok(self.nats.start_again().await?)
    }

    /// Kills the server and starts it with what was saved: all that came after is lost.
    ///
    /// # Errors
    /// Nothing was saved, or the server does not come back.
    pub async fn restore_streams(&mut self) -> Result<()> {
        self.nats.kill()?;
        copy_over(&self.directory.join("saved-streams"), &self.directory.join("nats/jetstream"))?;
        Ok(self.nats.start_again().await?)
    }

    /// Keeps a copy of the database as it is on disk, in place of an earlier one; of a stack with a
    /// Postgres of its own.
    ///
    /// # Errors
    /// The server does not come back, or the files cannot be copied.
    pub async fn save_database(&mut self) -> Result<()> {
        let data = self.data_directory().await?;
        let postgres = self.postgres.as_mut().context("no Postgres of its own")?;
        postgres.stop().await?;
        copy_over(&data, &self.directory.join("saved-database"))?;
        Ok(postgres.start_again().await?)
    }

    /// Kills the server and starts it with what was saved: all that was committed after is lost.
    ///
    /// # Errors
    /// Nothing was saved, or the server does not come back.
    pub async fn restore_database(&mut self) -> Result<()> {
        let data = self.data_directory().await?;
        let postgres = self.postgres.as_mut().context("no Postgres of its own")?;
        postgres.kill()?;
        copy_over(&self.directory.join("saved-database"), &data)?;
        Ok(postgres.start_again().await?)
    }

    /// Where its Postgres keeps its data.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn data_directory(&self) -> Result<PathBuf> {
        let shown = sqlx::query_scalar::<_, String>("SHOW data_directory").fetch_one(&self.pool);
        Ok(PathBuf::from(shown.await.context("data directory")?))
    }

    fn configure(&mut self) -> Result<()> {
        let plugins = self.plugins().display().to_string();
        let cache = run::compiled()?.display().to_string();
        self.config
            .set("postgres.url", self.database_url.clone())
            .set("nats.url", self.nats.url())
            .set("plugins.directory", plugins)
            .set("plugins.cache", cache);
        Ok(())
    }
}

/// Makes `to` a copy of the directory `from`.
pub(crate) fn copy_over(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    let status = Command::new("cp").arg("-a").args([from, to]).status().context("cp")?;
    ensure!(status.success(), "cp -a {} {} ended with {status}", from.display(), to.display());
    Ok(())
}

/// An address that a program may listen on, and find free again after it ended.
///
/// # Errors
/// None is free.
pub fn free_address() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, any_free_port()?).into())
}
