//! One server process: started, waited for, stopped. Signals go only to a child of ours, or to a
//! process whose command line shows that it serves the data directory we hold the lock of.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::{OnPath, ServerError};

/// How long a server may take to answer after its start, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A running server; it is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    program: &'static str,
    child: Child,
    log: PathBuf,
    /// The signal that asks this server to stop in order.
    stop_signal: Signal,
}

impl Process {
    /// Starts `command` with its output in the file `log`, in a process group of its own: Ctrl-C in
    /// a terminal stops the owner, and the owner then stops the server, in that order.
    pub fn spawn(
        program: &'static str,
        mut command: Command,
        log: PathBuf,
        stop_signal: Signal,
    ) -> Result<Self, ServerError> {
        let out = File::create(&log).on_path("make", &log)?;
        let err = out.try_clone().on_path("open", &log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|e| failed_to_run(program, &e))?;
        Ok(Process { program, child, log, stop_signal })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Repeats `probe` until it succeeds.
    ///
    /// # Errors
    /// The process ends meanwhile (the end of its log is in the error), or it does not answer in
    /// time (the last failure is).
    pub async fn ready<T>(
        &mut self,
        mut probe: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, ServerError> {
        let started = Instant::now();
        loop {
            let answer = probe().await;
            // Only now: an answer may have come from somebody else who took the port before us.
            if let Ok(Some(status)) = self.child.try_wait() {
                let detail = format!("{status}; the end of {}", self.log_end());
                return Err(self.error("start", detail));
            }
            match answer {
                Ok(value) => return Ok(value),
                Err(last) if started.elapsed() > PATIENCE => {
                    let waited = PATIENCE.as_secs();
                    let detail =
                        format!("no answer in {waited} s ({last}); the end of {}", self.log_end());
                    return Err(self.error("start", detail));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Asks the server to stop and waits; after a while it is killed. Returns when it is gone.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        let program = self.program;
        let stopped = tokio::task::spawn_blocking(move || self.end()).await;
        stopped.unwrap_or_else(|e| {
            Err(ServerError::Program { program, action: "stop", detail: e.to_string() })
        })
    }

    /// Kills the server at once, as a crash would.
    pub fn kill(mut self) -> Result<(), ServerError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|e| self.error("be killed", e.to_string()))
    }

    fn end(&mut self) -> Result<(), ServerError> {
        let started = Instant::now();
        let mut asked = false;
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) if started.elapsed() > PATIENCE => {
                    let killed = self.child.kill().and_then(|()| self.child.wait());
                    return killed.map(|_| ()).map_err(|e| self.error("stop", e.to_string()));
                }
                Ok(None) if asked => std::thread::sleep(POLL),
                // Not before try_wait has shown that it runs: its pid is ours as long as it was
                // not waited for.
                Ok(None) => {
                    signal(self.child.id(), self.stop_signal)
                        .map_err(|detail| self.error("stop", detail))?;
                    asked = true;
                }
                Err(e) => return Err(self.error("stop", e.to_string())),
            }
        }
    }

    fn error(&self, action: &'static str, detail: String) -> ServerError {
        ServerError::Program { program: self.program, action, detail }
    }

    fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        let end: Vec<&str> = lines.into_iter().rev().collect();
        format!("{}:\n{}", self.log.display(), end.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "a private server was left running");
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started, or does not succeed: its error output is in the error.
pub(super) async fn run(
    program: &'static str,
    action: &'static str,
    command: Command,
) -> Result<(), ServerError> {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|e| failed_to_run(program, &e))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let detail = format!("{}: {}", output.status, text.trim());
    Err(ServerError::Program { program, action, detail })
}

/// Stops the server that a killed owner of a data directory left running. `mark` is an argument of
/// its command line that no other process has: a path in that directory.
///
/// # Errors
/// It is there and does not go away.
pub(super) async fn stop_left_over(
    program: &'static str,
    pid: u32,
    mark: &Path,
    stop_signal: Signal,
) -> Result<(), ServerError> {
    if !serves(pid, program, mark) {
        return Ok(());
    }
    tracing::info!(program, pid, directory = %mark.display(), "stopping a server left running");
    let started = Instant::now();
    for (patience, next) in [(PATIENCE / 2, stop_signal), (PATIENCE, Signal::KILL)] {
        // An error means that it has just gone, or is not ours to stop: the loop finds out.
        let sent = signal(pid, next);
        while started.elapsed() < patience {
            if !serves(pid, program, mark) {
                return Ok(());
            }
            if let Err(detail) = &sent {
                let detail = format!("{detail}; process {pid} still serves {}", mark.display());
                return Err(ServerError::Program { program, action: "stop", detail });
            }
            tokio::time::sleep(POLL).await;
        }
    }
    let detail = format!("process {pid} still serves {}", mark.display());
    Err(ServerError::Program { program, action: "stop", detail })
}

/// Whether process `pid` runs `program` with the argument `mark`.
fn serves(pid: u32, program: &str, mark: &Path) -> bool {
    command_line(pid).is_some_and(|line| {
        line.split('\0').next().is_some_and(|first| first.ends_with(program))
            && line.contains(&*mark.to_string_lossy())
    })
}

/// The arguments of a process, each followed by a NUL; where there is no /proc, spaces count as such.
/// Nothing for a process that is gone, a zombie among them.
pub(super) fn command_line(pid: u32) -> Option<String> {
    let text = if Path::new("/proc/self").exists() {
        std::fs::read(format!("/proc/{pid}/cmdline")).ok()?
    } else {
        let pid = pid.to_string();
        let line = Command::new("ps").args(["-o", "command=", "-p", &pid]).output().ok()?.stdout;
        line.into_iter().map(|byte| if byte == b' ' { 0 } else { byte }).collect()
    };
    Some(String::from_utf8_lossy(&text).into_owned()).filter(|text| !text.trim().is_empty())
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| format!("{pid} is not a process id"))?;
    kill_process(pid, signal).map_err(|e| e.to_string())
}

fn failed_to_run(program: &'static str, e: &std::io::Error) -> ServerError {
    ServerError::Program { program, action: "run", detail: e.to_string() }
}
