//! The plugin directory: which files are handlers, what became of each, and what has changed since.
//! It never looks outside the directory and never runs a guest.

mod catalog;
mod directory;
mod lock;
mod watch;

pub use catalog::{Catalog, Loaded, Refused};
pub use directory::{DirectoryError, Entry, Fingerprint, PluginDirectory};
pub use watch::{Change, ChangeKind, Watch};
