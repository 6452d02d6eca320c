//! One run of a test process: its directory, and the watchdog that outlives it to clean up.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

struct Run {
    directory: PathBuf,
    /// Holds the pipe whose end tells the watchdog that this process is gone.
    _watchdog: Child,
}

/// A new directory for one test, below the directory of this process's run. All of it is removed
/// when the process is gone, after what still runs in it was stopped.
///
/// # Errors
/// The system's directory for temporary files cannot be written, or there is no `sh`.
pub fn new_directory(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = run_directory()?.join(format!("{name}-{count}"));
    make_directory(&directory)?;
    Ok(directory)
}

/// Where the hosts of this run keep compiled components: each guest is compiled once, and not by each
/// host of each test.
///
/// # Errors
/// The system's directory for temporary files cannot be written, or there is no `sh`.
pub fn compiled() -> Result<PathBuf> {
    Ok(run_directory()?.join("compiled"))
}

fn run_directory() -> Result<&'static Path> {
    static RUN: OnceLock<Result<Run, String>> = OnceLock::new();
    let run = RUN.get_or_init(|| Run::new().map_err(|e| format!("{e:#}")));
    run.as_ref().map(|run| run.directory.as_path()).map_err(|e| anyhow::anyhow!("{e}"))
}

impl Run {
    fn new() -> Result<Self> {
        // Root's Postgres runs as another user, which may not see root's own temporary files.
        let root = rustix::process::geteuid().is_root();
        let base = if root { PathBuf::from("/tmp") } else { std::env::temp_dir() };
        let directory = base.canonicalize()?.join(format!("tribox-run-{:016x}", unique()));
        make_directory(&directory)?;
        let watchdog = Command::new("sh")
            .args(["-c", include_str!("watchdog.sh")])
            .env("TRIBOX_TEST_RUN", &directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("failed to run sh")?;
        Ok(Run { directory, _watchdog: watchdog })
    }
}

/// Different for each run on this machine.
fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Makes a directory that other users may pass through.
fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o711)))
        .with_context(|| format!("failed to make {}", path.display()))
}
