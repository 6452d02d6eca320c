//! The programs that tests run: built by `make test` before, and fetched by scripts/setup.sh.

use std::env;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub fn repository() -> &'static Path {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory.parent().unwrap_or(crate_directory)
}

/// The nats-server that tests run against.
pub fn nats_server() -> PathBuf {
    match env::var_os("NATS_SERVER") {
        Some(named) if !named.is_empty() => named.into(),
        _ => repository().join(".tools/bin/nats-server"),
    }
}

/// The oldest nats-server that is supported.
pub fn oldest_nats_server() -> PathBuf {
    repository().join(".tools/nats-2.10/nats-server")
}
