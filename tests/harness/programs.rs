//! The programs that tests run: built by `make test` before, and fetched by scripts/setup.sh.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The top of the repository.
pub fn repository() -> &'static Path {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_directory.parent().unwrap_or(crate_directory)
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(named) if !named.is_empty() => repository().join(named),
        _ => repository().join("target"),
    }
}

/// The `tribox` program: what the environment variable TRIBOX_BIN names, or the debug build.
///
/// # Errors
/// It was not built.
pub fn tribox() -> Result<PathBuf> {
    let program = match env::var_os("TRIBOX_BIN") {
        Some(named) if !named.is_empty() => named.into(),
        _ => target().join("debug/tribox"),
    };
    ensure!(program.is_file(), "{} is not there; run `cargo build -p tribox`", program.display());
    Ok(program)
}

/// The component of one of our guests.
///
/// # Errors
/// It was not built.
pub fn guest(name: &str) -> Result<PathBuf> {
    let file = target().join("wasm32-wasip2/release").join(format!("{name}.wasm"));
    ensure!(file.is_file(), "{} is not there; run `make guests`", file.display());
    Ok(file)
}

/// The nats-server that tests run against: what the environment variable NATS_SERVER names, or the
/// one that scripts/setup.sh fetched.
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

/// A `psql`.
///
/// # Errors
/// There is none.
pub fn psql() -> Result<PathBuf> {
    postgres("psql")
}

/// A client program of Postgres: the one on the PATH, or one that stands beside a Postgres server in
/// Debian's places.
///
/// # Errors
/// There is none.
pub fn postgres(name: &str) -> Result<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&on_path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|program| program.is_file());
    found.with_context(|| format!("there is no {name}; run `make setup`"))
}

/// The PgBouncer that tests run against: what the environment variable PGBOUNCER names, or the system's.
///
/// # Errors
/// There is none.
pub fn pgbouncer() -> Result<PathBuf> {
    if let Some(named) = env::var_os("PGBOUNCER").filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    // Debian's stands where ordinary users do not look.
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"].map(Path::new);
    let found = places.iter().map(|place| place.join("pgbouncer")).find(|file| file.is_file());
    found.context("there is no pgbouncer; run `make setup`")
}

/// A Python with `nats-py`, for looking at tribox through somebody else's client.
pub fn python() -> PathBuf {
    repository().join(".tools/python/bin/python")
}
