//! The directory itself, opened once and never left: a link that leads out of it is an error.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata};

use super::lock;

/// Bytes of the largest component that is read.
pub const MAX_SIZE: u64 = 256 << 20;

/// The directory that handlers are dropped into.
pub struct PluginDirectory {
    path: PathBuf,
    directory: Dir,
}

/// What tells one state of a file from another, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub length: u64,
    modified: Option<SystemTime>,
    /// On unix the inode and the time of its last change, which see a file that was replaced by
    /// one of the same size within the same second.
    identity: (u64, i64, i64),
}

/// A file of the directory whose name ends in `.wasm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub file: String,
    /// An error where the file cannot be looked at: a link that leads out of the directory, say.
    pub fingerprint: Result<Fingerprint, String>,
}

/// The plugin directory, or a file of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("plugin directory {path} cannot be opened: {error}; create it, or name another one")]
    Open { path: String, error: io::Error },
    #[error("plugin directory {path} cannot be listed: {error}")]
    List { path: String, error: io::Error },
    #[error("{file}: {why}")]
    Read { file: String, why: String },
}

impl PluginDirectory {
    /// # Errors
    /// There is no such directory, or it cannot be opened.
    pub fn open(path: &Path) -> Result<PluginDirectory, DirectoryError> {
        let directory = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|error| DirectoryError::Open { path: path.display().to_string(), error })?;
        Ok(PluginDirectory { path: path.to_owned(), directory })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All `*.wasm` files, by name. Directories, other files and hidden names are passed over.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn scan(&self) -> Result<Vec<Entry>, DirectoryError> {
        let failed = |error| DirectoryError::List { path: self.path.display().to_string(), error };
        let mut found = Vec::new();
        for entry in self.directory.entries().map_err(failed)? {
            // A name that is not UTF-8 could not be shown, configured or removed by a user.
            let Ok(file) = entry.map_err(failed)?.file_name().into_string() else { continue };
            if !is_plugin(&file) {
                continue;
            }
            match self.directory.metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {}
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_link(&file) => {}
                Ok(metadata) => found.push(Entry { file, fingerprint: fingerprint(&metadata) }),
                Err(error) => {
                    let fingerprint = Err(self.explain(&file, &error));
                    found.push(Entry { file, fingerprint });
                }
            }
        }
        found.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(found)
    }

    /// Reads a file that [`PluginDirectory::scan`] has listed.
    ///
    /// # Errors
    /// It is gone, leads out of the directory, is not a file, is larger than [`MAX_SIZE`], or is not in
    /// the directory's `plugins.lock`.
    pub fn read(&self, file: &str) -> Result<Vec<u8>, DirectoryError> {
        let refused = |why| DirectoryError::Read { file: file.to_owned(), why };
        let opened = self.directory.open(file).map_err(|e| refused(self.explain(file, &e)))?;
        let wasm = read_all(&opened).map_err(|error| refused(error.to_string()))?;
        lock::check(&self.directory, &wasm).map_err(refused)?;
        Ok(wasm)
    }

    fn is_link(&self, file: &str) -> bool {
        self.directory.symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink())
    }

    fn explain(&self, file: &str, error: &io::Error) -> String {
        if self.is_link(file) {
            return format!(
                "a link that leads nowhere or out of the plugin directory ({error}); copy the \
                 component into the directory instead"
            );
        }
        format!("cannot be read: {error}")
    }
}

fn is_plugin(file: &str) -> bool {
    file.ends_with(".wasm") && !file.starts_with('.')
}

fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read: the limit is on what is read, not on what it was.
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        let why = format!(
            "larger than {MAX_SIZE} bytes, which no handler should be; build it by \
                           `cargo build --release`, which leaves out what is for debugging"
        );
        return Err(io::Error::other(why));
    }
    Ok(bytes)
}

fn fingerprint(metadata: &Metadata) -> Result<Fingerprint, String> {
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    Ok(Fingerprint {
        length: metadata.len(),
        modified: metadata.modified().ok().map(|time| time.into_std()),
        identity: identity(metadata),
    })
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, i64, i64) {
    use cap_std::fs::MetadataExt;
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_plain_wasm_files_are_listed() {
        let place = tempfile::tempdir().unwrap();
        for name in ["b.wasm", "a.wasm", ".hidden.wasm", "c.wasm.tmp", "notes.txt"] {
            fs::write(place.path().join(name), name).unwrap();
        }
        fs::create_dir(place.path().join("d.wasm")).unwrap();
        let plugins = PluginDirectory::open(place.path()).unwrap();
        let files: Vec<_> = plugins.scan().unwrap().into_iter().map(|e| e.file).collect();
        assert_eq!(files, ["a.wasm", "b.wasm"]);
        assert_eq!(plugins.read("a.wasm").unwrap(), b"a.wasm");
        let error = plugins.read("gone.wasm").unwrap_err().to_string();
        assert!(error.starts_with("gone.wasm: cannot be read"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let place = tempfile::tempdir().unwrap();
        let missing = place.path().join("nowhere");
        let error = PluginDirectory::open(&missing).err().unwrap().to_string();
        assert!(error.contains("nowhere cannot be opened"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_within_the_directory_only() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.wasm"), "secret").unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("..data")).unwrap();
        fs::write(place.path().join("..data/inside.wasm"), "inside").unwrap();
        symlink("..data/inside.wasm", place.path().join("inside.wasm")).unwrap();
        symlink(outside.path().join("secret.wasm"), place.path().join("out.wasm")).unwrap();
        symlink("nothing", place.path().join("dangling.wasm")).unwrap();

        let plugins = PluginDirectory::open(place.path()).unwrap();
        assert_eq!(plugins.read("inside.wasm").unwrap(), b"inside");
        let entries = plugins.scan().unwrap();
        let bad: Vec<_> = entries.iter().filter(|e| e.fingerprint.is_err()).collect();
        assert_eq!(bad.len(), 2, "{entries:?}");
        for file in ["out.wasm", "dangling.wasm"] {
            let error = plugins.read(file).unwrap_err().to_string();
            assert!(error.contains("out of the plugin directory"), "{error}");
        }
    }
}
