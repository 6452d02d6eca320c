//! A private nats-server with JetStream: its config file and its process.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::directory::{self, DataDirectory};
use super::error::{OnPath, ServerError};
use super::process::{self, Process};
use super::programs;

const PROGRAM: &str = "nats-server";
/// Starts that end at once are repeated: the port was taken meanwhile.
const ATTEMPTS: u32 = 10;

/// How a private nats-server differs from the usual one.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The program; found on this machine where none is given.
    pub program: Option<PathBuf>,
    /// Off only to see what a server without it leads to.
    pub jetstream: bool,
    /// Additional settings: names and values as in its config file, `("max_payload", "8MB")`.
    pub settings: Vec<(String, String)>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        NatsOptions { program: None, jetstream: true, settings: Vec::new() }
    }
}

/// A nats-server of our own. It stops when this is dropped; its streams stay.
#[derive(Debug)]
pub struct PrivateNats {
    directory: DataDirectory,
    program: PathBuf,
    options: NatsOptions,
    /// Told to whoever connects; shows that it is our server that answers.
    name: String,
    port: u16,
    server: Option<Process>,
}

impl PrivateNats {
    /// Starts a server on the data in `directory`, which is made if it is new. Returns when it
    /// answers.
    ///
    /// # Errors
    /// There is no nats-server 2.10 or newer, another process uses the directory, or the server
    /// does not start.
    pub async fn start(directory: &Path, options: NatsOptions) -> Result<Self, ServerError> {
        let program = match &options.program {
            Some(program) => programs::nats_in(std::slice::from_ref(program))?,
            None => programs::nats()?,
        };
        let directory = DataDirectory::open(directory)?;
        let name = format!("tribox-{}", &directory.secret("name")?[..8]);
        let mut nats = PrivateNats { directory, program, options, name, port: 0, server: None };
        nats.stop_left_over().await?;
        nats.launch(None).await?;
        Ok(nats)
    }

    /// The URL for clients: `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it calls itself, to clients and to the other servers of a cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The loopback port it listens on; the same after [`Self::start_again`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::id)
    }

    /// Stops the server in order. The data directory stays ours.
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
                Err(error) => tracing::debug!(%error, attempt, "starting nats-server once more"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            attempt += 1;
        }
    }

    async fn launch_once(&self) -> Result<Process, ServerError> {
        let file = self.config_file();
        std::fs::write(&file, self.config()).on_path("write", &file)?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&file).current_dir(self.directory.path());
        let log = self.directory.log_file("nats-server.log")?;
        let mut server = Process::spawn(PROGRAM, command, log, Signal::TERM)?;
        server.ready(async || self.answer().await).await?;
        Ok(server)
    }

    fn config_file(&self) -> PathBuf {
        self.directory.join("nats-server.conf")
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("nats-server.pid")
    }

    fn config(&self) -> String {
        let mut text = "# Written at each start.\n".to_owned();
        let mut line = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {value}");
        };
        for (name, value) in &self.options.settings {
            line(name, value);
        }
        line("listen", &format!("\"127.0.0.1:{}\"", self.port));
        line("server_name", &self.name);
        line("pid_file", &quoted(&self.pid_file()));
        if self.options.jetstream {
            let store = quoted(&self.directory.join("jetstream"));
            line("jetstream", &format!("{{ store_dir: {store} }}"));
        }
        text
    }

    /// Reads what the server says of itself to whoever connects.
    async fn answer(&self) -> Result<(), String> {
        let read = async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await?;
            Ok::<_, std::io::Error>(line)
        };
        let line = tokio::time::timeout(Duration::from_secs(2), read).await;
        let line = line.map_err(|_| "it is silent".to_owned())?.map_err(|e| e.to_string())?;
        let info = line.strip_prefix("INFO ").unwrap_or("null");
        let info: serde_json::Value = serde_json::from_str(info).unwrap_or_default();
        if info["server_name"] != self.name.as_str() {
            return Err(format!("another server answers: {}", line.trim()));
        }
        let jetstream = info["jetstream"].as_bool().unwrap_or(false);
        (jetstream == self.options.jetstream).then_some(()).ok_or("JetStream is not on".to_owned())
    }

    /// Stops the server that a killed owner of this directory left running.
    async fn stop_left_over(&self) -> Result<(), ServerError> {
        let text = directory::read_if_there(&self.pid_file())?.unwrap_or_default();
        match text.trim().parse() {
            Ok(pid) => {
                process::stop_left_over(PROGRAM, pid, &self.config_file(), Signal::TERM).await
            }
            Err(_) => Ok(()),
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
