//! The data directory of one private server: who owns it, its port, and the secrets it keeps.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::{OnPath, ServerError};

/// A directory that this process owns as long as this value lives.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Locked; the system releases it with the process, however it ends.
    _lock: File,
}

impl DataDirectory {
    /// Opens `path`, making it if it is new, and takes its lock.
    ///
    /// # Errors
    /// Another process holds the lock (its pid is in the error), or the directory cannot be made.
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        private_directories(path)?;
        let path = path.canonicalize().on_path("resolve", path)?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .on_path("open", &file)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).on_path("read", &file)?;
                return Err(ServerError::InUse { directory: path, pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(source).on_path("lock", &file),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .on_path("write", &file)?;
        Ok(DataDirectory { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A free loopback port: the one this directory had before if nobody has taken it meanwhile.
    pub fn free_port(&self) -> Result<u16, ServerError> {
        let last = read_if_there(&self.join("port"))?.and_then(|text| text.trim().parse().ok());
        match last {
            Some(port) if is_free(port) => Ok(port),
            _ => any_free_port(),
        }
    }

    /// Remembers the port for the next start.
    pub fn remember_port(&self, port: u16) -> Result<(), ServerError> {
        let file = self.join("port");
        std::fs::write(&file, format!("{port}\n")).on_path("write", &file)
    }

    /// The secret kept in file `name`, made at random the first time: 32 hex digits.
    pub fn secret(&self, name: &str) -> Result<String, ServerError> {
        let file = self.join(name);
        if let Some(secret) = read_if_there(&file)? {
            return Ok(secret.trim().to_owned());
        }
        let secret: String =
            rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        write_private(&file, &secret)?;
        Ok(secret)
    }

    /// A log file for the next start of the server; the one of the start before keeps `.old`.
    pub fn log_file(&self, name: &str) -> Result<PathBuf, ServerError> {
        let file = self.join(name);
        match std::fs::rename(&file, self.join(&format!("{name}.old"))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).on_path("rename", &file),
            _ => Ok(file),
        }
    }
}

/// Whether nobody listens on this loopback port.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Ports that are not reserved, and that systems, unless told otherwise, give neither to outgoing
/// connections nor to whoever asks for any port: a server that was stopped finds its port free.
const PORTS: std::ops::Range<u16> = 10_000..32_768;

/// A loopback port, picked at random, that is free now. Somebody may take it before the server
/// does: the start is then tried again with another.
///
/// # Errors
/// A hundred ports that were tried are taken.
pub fn any_free_port() -> Result<u16, ServerError> {
    let mut picked = (0..100).map(|_| rand::random_range(PORTS));
    picked.find(|port| is_free(*port)).ok_or_else(|| ServerError::Program {
        program: "the system",
        action: "give out a free loopback port",
        detail: format!("100 of {} to {}, picked at random, are taken", PORTS.start, PORTS.end - 1),
    })
}

/// Makes a directory and its parents. Others may pass through it, since Postgres may run as another
/// user, but not look into it.
pub(super) fn private_directories(path: &Path) -> Result<(), ServerError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent).on_path("make directory", parent)?;
    match DirBuilder::new().mode(0o711).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.on_path("make directory", path),
    }
}

/// Writes a new file that only its owner can read.
pub(super) fn write_private(file: &Path, text: &str) -> Result<(), ServerError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .on_path("write", file)
}

/// The text of a file, or nothing where there is none.
pub(super) fn read_if_there(file: &Path) -> Result<Option<String>, ServerError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).on_path("read", file),
    }
}
