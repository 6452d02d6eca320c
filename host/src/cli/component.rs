//! Components that commands look at: a file that is named, or the one in the plugin directory that
//! has a handler's name.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::plugins::PluginDirectory;
use crate::sandbox::{Guest, Sandbox, SandboxConfig};

/// Loads one file as the host would; compiled code is kept in `cache`.
///
/// # Errors
/// It cannot be read, or is no handler.
pub(super) fn load(file: &Path, cache: Option<PathBuf>) -> Result<Guest, String> {
    // A link that is named on the command line is meant, wherever it leads.
    let place = file
        .canonicalize()
        .map_err(|error| format!("{} cannot be opened: {error}", file.display()))?;
    let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(format!("{} does not name a file", file.display()));
    };
    let name = name.to_string_lossy();
    let directory = PluginDirectory::open(directory).map_err(|error| error.to_string())?;
    let wasm = directory.read(&name).map_err(|error| error.to_string())?;
    let sandbox = sandbox(cache)?;
    sandbox.load(&name, &wasm).map_err(|error| error.to_string())
}

/// The file in the plugin directory whose handler has this name.
///
/// # Errors
/// The directory cannot be read, or there is none; the text names those there are.
pub(super) fn of_handler(config: &Config, handler: &str) -> Result<(PathBuf, Guest), String> {
    let path = &config.plugins.directory;
    let directory = PluginDirectory::open(path).map_err(|error| error.to_string())?;
    let mut entries = directory.scan().map_err(|error| error.to_string())?;
    // Most files are named like their handler: then no other has to be loaded.
    entries.sort_by_key(|entry| entry.file.strip_suffix(".wasm") != Some(handler));
    let sandbox = sandbox(config.plugins.cache())?;
    let mut found = Vec::new();
    for entry in entries {
        let Ok(wasm) = directory.read(&entry.file) else { continue };
        let Ok(guest) = sandbox.load(&entry.file, &wasm) else { continue };
        if guest.description().name == handler {
            return Ok((path.join(&entry.file), guest));
        }
        found.push(guest.description().name.clone());
    }
    let there = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    Err(format!(
        "no file in the plugin directory {} has the handler '{handler}'; handlers there: {there}; \
         name the directory's config by --config FILE",
        path.display()
    ))
}

fn sandbox(cache: Option<PathBuf>) -> Result<Sandbox, String> {
    Sandbox::new(SandboxConfig { concurrency: 1, cache }).map_err(|error| error.to_string())
}
