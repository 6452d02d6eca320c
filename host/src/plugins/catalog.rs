//! All handlers of the plugin directory, each loaded or refused. One bad file never keeps the
//! others from running.

use super::directory::{DirectoryError, PluginDirectory};
use crate::sandbox::{Guest, Sandbox};

/// What became of each file.
#[derive(Default)]
pub struct Catalog {
    /// By file name; no two have the same handler name.
    pub loaded: Vec<Loaded>,
    pub refused: Vec<Refused>,
}

/// A file whose handler can run.
#[derive(Clone)]
pub struct Loaded {
    pub file: String,
    pub guest: Guest,
}

/// A file whose handler cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub file: String,
    /// What is wrong and what to do, beginning with the file's name.
    pub error: String,
}

impl Catalog {
    /// Loads all files of the directory. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// The directory cannot be listed; what is wrong with a file is in the catalog.
    pub fn load(directory: &PluginDirectory, sandbox: &Sandbox) -> Result<Catalog, DirectoryError> {
        let mut catalog = Catalog::default();
        for entry in directory.scan()? {
            catalog.load_file(directory, sandbox, &entry.file);
        }
        Ok(catalog)
    }

    /// Loads one file, in place of what the catalog has under its name. A version that runs stays
    /// in place when the new one is refused; the file is then listed on both sides.
    ///
    /// Returns whether a new guest is in place.
    pub fn load_file(
        &mut self,
        directory: &PluginDirectory,
        sandbox: &Sandbox,
        file: &str,
    ) -> bool {
        self.refused.retain(|refused| refused.file != file);
        let loaded = read(directory, sandbox, file).and_then(|guest| self.unclaimed(file, guest));
        match loaded {
            Ok(guest) => {
                self.loaded.retain(|loaded| loaded.file != file);
                let at = self.loaded.partition_point(|loaded| loaded.file.as_str() < file);
                self.loaded.insert(at, Loaded { file: file.to_owned(), guest });
                true
            }
            Err(error) => {
                self.refused.push(Refused { file: file.to_owned(), error });
                false
            }
        }
    }

    /// Forgets a file that was removed. Returns the guest that ran from it.
    pub fn remove(&mut self, file: &str) -> Option<Guest> {
        self.refused.retain(|refused| refused.file != file);
        let at = self.loaded.iter().position(|loaded| loaded.file == file)?;
        Some(self.loaded.remove(at).guest)
    }

    /// Two handlers of one name would share an inbox: each would take the other's messages for
    /// duplicates.
    fn unclaimed(&self, file: &str, guest: Guest) -> Result<Guest, String> {
        let name = &guest.description().name;
        let taken =
            |loaded: &&Loaded| loaded.file != file && loaded.guest.description().name == *name;
        match self.loaded.iter().find(taken) {
            None => Ok(guest),
            Some(Loaded { file: other, .. }) => Err(format!(
                "{file}: its handler is named '{name}' like that of {other}; remove one of the \
                 two files, or give one another name in its description"
            )),
        }
    }
}

fn read(directory: &PluginDirectory, sandbox: &Sandbox, file: &str) -> Result<Guest, String> {
    let wasm = directory.read(file).map_err(|error| error.to_string())?;
    sandbox.load(file, &wasm).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::SandboxConfig;
    use std::fs;

    /// A handler named `h`, padded to be another file.
    fn handler(padding: &str) -> Vec<u8> {
        let text = include_str!("../sandbox/tests_handler.wat")
            .replace(";;DESCRIBE", "i32.const 1024")
            .replace(";;HANDLE", "i32.const 2048")
            .replace("h1in", &format!("h1in{padding}"));
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn the_second_file_of_one_handler_name_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("b.wasm"), handler("b")).unwrap();
        fs::write(place.path().join("a.wasm"), handler("a")).unwrap();
        let directory = PluginDirectory::open(place.path()).unwrap();
        let sandbox = Sandbox::new(SandboxConfig::default()).unwrap();
        let mut catalog = Catalog::load(&directory, &sandbox).unwrap();
        let files: Vec<_> = catalog.loaded.iter().map(|loaded| loaded.file.as_str()).collect();
        assert_eq!(files, ["a.wasm"]);
        let error = &catalog.refused[0].error;
        assert!(
            error.starts_with("b.wasm: its handler is named 'h' like that of a.wasm"),
            "{error}"
        );
        // Once the first is gone the second may run.
        catalog.remove("a.wasm").unwrap();
        assert!(catalog.load_file(&directory, &sandbox, "b.wasm"));
        assert!(catalog.refused.is_empty());
    }

    #[test]
    fn a_bad_new_version_leaves_the_running_one_in_place() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("h.wasm");
        fs::write(&file, handler("1")).unwrap();
        let directory = PluginDirectory::open(place.path()).unwrap();
        let sandbox = Sandbox::new(SandboxConfig::default()).unwrap();
        let mut catalog = Catalog::load(&directory, &sandbox).unwrap();
        let first = catalog.loaded[0].guest.digest().to_owned();
        fs::write(&file, &handler("2")[..500]).unwrap();
        assert!(!catalog.load_file(&directory, &sandbox, "h.wasm"));
        assert_eq!(catalog.loaded[0].guest.digest(), first);
        assert!(catalog.refused[0].error.starts_with("h.wasm: "));
        fs::write(&file, handler("2")).unwrap();
        assert!(catalog.load_file(&directory, &sandbox, "h.wasm"));
        assert_ne!(catalog.loaded[0].guest.digest(), first);
        assert!(catalog.refused.is_empty());
    }

    #[test]
    fn each_bad_file_is_refused_by_name_and_forgotten_when_removed() {
        let place = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("empty.wasm", &b""[..]),
            ("text.wasm", b"#!/bin/sh"),
            ("core.wasm", b"\0asm\x01\0\0\0"),
            ("nothing.wasm", b"\0asm\x0d\0\x01\0"),
        ] {
            fs::write(place.path().join(file), content).unwrap();
        }
        let directory = PluginDirectory::open(place.path()).unwrap();
        let sandbox = Sandbox::new(SandboxConfig::default()).unwrap();
        let mut catalog = Catalog::load(&directory, &sandbox).unwrap();
        assert!(catalog.loaded.is_empty());
        let errors: Vec<_> = catalog.refused.iter().map(|r| r.error.as_str()).collect();
        for (error, start) in errors.iter().zip([
            "core.wasm: a core module",
            "empty.wasm: the file is empty",
            "nothing.wasm: exports no `tribox:handler/handler@0.1.0`",
            "text.wasm: not WebAssembly",
        ]) {
            assert!(error.starts_with(start), "{error:?} does not start with {start:?}");
        }
        assert!(catalog.remove("core.wasm").is_none());
        assert_eq!(catalog.refused.len(), 3);
    }
}
