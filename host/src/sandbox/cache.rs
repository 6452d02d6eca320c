//! Compiled components on disk, so that a restart takes milliseconds a handler. A hint and nothing
//! more: whatever is wrong with it, the component is compiled instead.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Files that are kept; the oldest go first.
const MAX_FILES: usize = 200;
/// Bytes of the digest in front of the code.
const DIGEST: usize = 32;

pub(super) struct Cache {
    directory: Dir,
    written: AtomicU64,
}

impl Cache {
    /// Opens the directory, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be opened, or somebody else can write to it: what it holds is run as machine code.
    pub(super) fn open(path: &Path) -> io::Result<Cache> {
        let authority = ambient_authority();
        Dir::create_ambient_dir_all(path, authority)?;
        let directory = Dir::open_ambient_dir(path, authority)?;
        private(&directory)?;
        let cache = Cache { directory, written: AtomicU64::new(0) };
        cache.prune()?;
        Ok(cache)
    }

    pub(super) fn get(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let name = name(engine, digest);
        let file = match self.directory.read(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("the compiled component {name} cannot be read: {error}");
                return None;
            }
        };
        let (expected, code) = file.split_at_checked(DIGEST)?;
        if Sha256::digest(code)[..] != *expected {
            tracing::warn!("the compiled component {name} is damaged; compiling again");
            return None;
        }
        // SAFETY: deserializing trusts the bytes to be wasmtime's own output. They are: the digest
        // says that they are what `put` wrote, and only this user can write to the directory
        // (`private`), who could as well replace this program. wasmtime itself checks that they
        // were made by the same version with the same configuration.
        #[expect(unsafe_code, reason = "the one place where compiled code is read back")]
        let component = unsafe { Component::deserialize(engine, code) };
        component
            .inspect_err(|error| tracing::debug!("{name} was compiled otherwise: {error:#}"))
            .ok()
    }

    pub(super) fn put(&self, engine: &Engine, digest: &str, component: &Component) {
        let name = name(engine, digest);
        let written = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .and_then(|code| self.write(&name, &code));
        if let Err(error) = written {
            tracing::warn!("the compiled component {name} cannot be kept: {error}");
        }
    }

    /// Under a name of its own first: a reader sees all of it or nothing.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{}-{count}.tmp", std::process::id());
        let mut file = Vec::with_capacity(DIGEST + code.len());
        file.extend_from_slice(&Sha256::digest(code));
        file.extend_from_slice(code);
        let result = self
            .directory
            .write(&temporary, file)
            .and_then(|()| self.directory.rename(&temporary, &self.directory, name));
        if result.is_err() {
            // Best effort: it is pruned at the next start.
            let _ = self.directory.remove_file(&temporary);
        }
        result
    }

    /// Removes what a crash left half-written, and the oldest files beyond the number kept.
    fn prune(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in self.directory.entries()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let modified = entry.metadata().and_then(|m| m.modified()).map(|t| t.into_std());
            match modified {
                Ok(modified) if name.ends_with(".cwasm") => kept.push((modified, name)),
                Ok(modified) if name.ends_with(".tmp") && old(modified) => {
                    self.remove(&name)?;
                }
                _ => {}
            }
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(MAX_FILES);
        kept[..surplus].iter().try_for_each(|(_, name)| self.remove(name))
    }

    /// Removes a file, unless another host that shares the directory was faster.
    fn remove(&self, name: &str) -> io::Result<()> {
        match self.directory.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a temporary file cannot be one that another process is just writing.
fn old(modified: std::time::SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(3600))
}

/// Compiled code fits one component and one engine: version, target, settings.
fn name(engine: &Engine, digest: &str) -> String {
    let mut hash = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hash);
    format!("{digest}-{:016x}.cwasm", hash.finish())
}

/// Makes sure that nobody else can write to the directory.
#[cfg(unix)]
fn private(directory: &Dir) -> io::Result<()> {
    use cap_std::fs::{MetadataExt, PermissionsExt};

    // A file of our own tells who we are.
    let probe = format!("{}-probe.tmp", std::process::id());
    let us = directory.create(&probe)?.metadata()?.uid();
    directory.remove_file(&probe)?;
    let metadata = directory.dir_metadata()?;
    if metadata.uid() != us {
        return Err(io::Error::other(format!(
            "it belongs to user {}, not to {us}; give it to {us} or name another directory",
            metadata.uid()
        )));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "others can write to it (mode {:o}); run chmod go-w on it",
            mode & 0o7777
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
fn private(_directory: &Dir) -> io::Result<()> {
    Err(io::Error::other("whether others can write to it can be told on unix alone"))
}
