//! Why a private server cannot be had. Each text names what failed, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private server did not start or stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program is not on this machine, or only older ones are.
    #[error("no {program} {minimum} or newer was found{seen}; {remedy}")]
    Missing {
        program: &'static str,
        minimum: &'static str,
        /// What was found instead, with a leading space and in brackets, or empty.
        seen: String,
        /// How to install it.
        remedy: &'static str,
    },
    /// Another running process owns the data directory.
    #[error("{} is in use by process {pid}; stop that process or use another directory",
        directory.display())]
    InUse { directory: PathBuf, pid: String },
    /// A file or directory of the server.
    #[error("failed to {action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The program could not be run, or it stopped.
    #[error("{program} failed to {action}: {detail}")]
    Program { program: &'static str, action: &'static str, detail: String },
    /// The directory holds something that cannot be used.
    #[error("{} cannot be used: {reason}", directory.display())]
    Directory { directory: PathBuf, reason: String },
}

/// Adds to an I/O error what was tried on which path.
pub(super) trait OnPath<T> {
    fn on_path(self, action: &'static str, path: &Path) -> Result<T, ServerError>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on_path(self, action: &'static str, path: &Path) -> Result<T, ServerError> {
        self.map_err(|source| ServerError::File { action, path: path.to_owned(), source })
    }
}
