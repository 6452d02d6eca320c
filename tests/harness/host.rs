//! The real program as a child process, and the signals that befall it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Response, get, programs, wait_until};

/// A running `tribox serve`. It is killed when this is dropped, and what it logged is shown with
/// the test's output, which is to say when the test fails.
#[derive(Debug)]
pub struct Host {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
    show_log: bool,
}

impl Host {
    /// Starts `tribox serve` with a config file that lets it listen on `admin`.
    ///
    /// # Errors
    /// The program was not built, or cannot be run.
    pub fn spawn(config: &Path, admin: SocketAddr, log: &Path) -> Result<Self> {
        Host::spawn_command(Host::command(config)?, admin, log)
    }

    /// The command for [`Self::spawn_command`] that [`Self::spawn`] runs.
    ///
    /// # Errors
    /// The program was not built.
    pub fn command(config: &Path) -> Result<Command> {
        let mut command = Command::new(programs::tribox()?);
        command.arg("serve").arg("--config").arg(config);
        Ok(command)
    }

    /// Starts a command that serves on `admin`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn spawn_command(mut command: Command, admin: SocketAddr, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("failed to make {}", log.display()))?;
        // Whoever runs the tests may have servers of their own in the environment.
        for name in ["DATABASE_URL", "NATS_URL"] {
            command.env_remove(name);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("failed to run {:?}", command.get_program()))?;
        Ok(Host { child, admin, log: log.to_owned(), show_log: true })
    }

    /// Does not show the log when this is dropped.
    pub fn quiet(mut self) -> Self {
        self.show_log = false;
        self
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far, standard output included.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has logged this.
    ///
    /// # Errors
    /// It does not.
    pub async fn logs(&self, what: &str) -> Result<()> {
        wait_until(&format!("the log says: {what}"), async || {
            if self.log().contains(what) { Ok(()) } else { Err("it does not".to_owned()) }
        })
        .await
    }

    /// Asks its admin address.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn get(&self, path: &str) -> Result<Response> {
        get(self.admin, path).await
    }

    /// The value of a line of `/metrics`, labels included in `name` as they are written there.
    ///
    /// # Errors
    /// It does not answer, or has no such line.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let body = self.get("/metrics").await?.body;
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no metric {name} in:\n{body}"))?;
        value.parse().with_context(|| format!("metric {name} is {value}"))
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends instead, or takes too long.
    pub async fn ready(&mut self) -> Result<()> {
        let program = self.log.display().to_string();
        wait_until(&format!("the host is ready ({program})"), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(Err(status));
            }
            match get(self.admin, "/readyz").await {
                Ok(Response { status: 200, .. }) => Ok(Ok(())),
                Ok(Response { status, body }) => Err(format!("{status} {body}")),
                Err(e) => Err(format!("{e:#}")),
            }
        })
        .await?
        .map_err(|status| anyhow::anyhow!("the host ended with {status}:\n{}", self.log()))
    }

    /// SIGTERM: stop in order.
    ///
    /// # Errors
    /// It is gone already.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// SIGSTOP: freeze, as a machine under pressure does.
    ///
    /// # Errors
    /// It is gone already.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: go on after [`Self::freeze`].
    ///
    /// # Errors
    /// It is gone already.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).context("failed to kill the host")?;
        Ok(())
    }

    /// How it ended, where it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("failed to look after the host")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        wait_until("the host ends", async || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(e) => Err(e.to_string()),
        })
        .await
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It takes too long, or ends with a failure.
    pub async fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.exit().await?;
        ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let raw = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(raw.context("no process id")?, signal).context("failed to signal the host")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
        if self.show_log {
            let log = self.log();
            let skipped = log.lines().count().saturating_sub(200);
            println!("--- {} (without the first {skipped} lines)", self.log.display());
            log.lines().skip(skipped).for_each(|line| println!("{line}"));
        }
    }
}
