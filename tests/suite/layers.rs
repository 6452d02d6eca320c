//! The rooms of the host: who may use whom, which library each may speak to, and how large a file may
//! grow. docs/ARCHITECTURE.md says why; what holds it is here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tribox_tests::programs;

/// Each room with those it may use. Downhill: no room is used by one below it.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("telemetry", &[]),
    ("servers", &[]),
    ("fault", &[]),
    ("lane", &["fault", "model", "telemetry"]),
    ("sandbox", &["model"]),
    ("plugins", &["sandbox"]),
    ("store", &["fault", "lane", "model"]),
    ("stream", &["fault", "lane", "model", "telemetry"]),
    ("relay", &["fault", "lane", "model", "store", "stream", "telemetry"]),
    // Defaults come from the rooms that they are for.
    ("config", &["lane", "model"]),
    ("admin", &["telemetry"]),
    ("desk", &["model", "stream"]),
    (
        "node",
        &[
            "admin",
            "config",
            "fault",
            "lane",
            "model",
            "plugins",
            "relay",
            "sandbox",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "desk",
            "model",
            "node",
            "plugins",
            "sandbox",
            "servers",
            "store",
            "stream",
            "telemetry",
        ],
    ),
];

/// Rooms that know the lane by its ports alone: traits and plain data.
const BY_PORTS: &[&str] = &["store", "stream", "relay"];

/// Libraries that one room alone speaks to.
const LIBRARIES: &[(&str, &[&str])] = &[
    // `servers` sees to it that a private Postgres answers.
    ("sqlx", &["store", "servers"]),
    ("async_nats", &["stream"]),
    ("wasmtime", &["sandbox"]),
    ("wasmtime_wasi", &["sandbox"]),
    ("cap_std", &["plugins", "sandbox"]),
    ("axum", &["admin", "desk"]),
    ("clap", &["cli"]),
];

/// Lines of a file at most.
const LONGEST: usize = 420;

/// All source files below a directory.
fn sources(below: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).with_context(|| below.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The code of the host by room, without comments: (file, code).
fn rooms() -> Result<BTreeMap<String, Vec<(PathBuf, String)>>> {
    let top = programs::repository().join("host/src");
    let mut rooms: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    for path in sources(&top)? {
        let inside = path.strip_prefix(&top)?.to_owned();
        let mut parts = inside.components();
        let room = parts.next().context("a name")?.as_os_str().to_string_lossy().into_owned();
        if parts.next().is_none() {
            // lib.rs and main.rs belong to no room.
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code: Vec<&str> = code.collect();
        rooms.entry(room).or_default().push((inside, code.join("\n")));
    }
    Ok(rooms)
}

/// What follows each `prefix` in some code, up to the end of the path.
fn paths<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(prefix).filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &code[at + prefix.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        (!inside).then(|| &rest[..end.unwrap_or(rest.len())])
    })
}

#[test]
fn rooms_use_those_below_them_alone() -> Result<()> {
    let rooms = rooms()?;
    let known: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let mut sorted = known.clone();
    sorted.sort_unstable();
    assert_eq!(rooms.keys().collect::<Vec<_>>(), sorted, "every room has its line in ROOMS");
    for (room, may) in ROOMS {
        for (file, code) in &rooms[*room] {
            let file = file.display();
            assert!(!code.contains("crate::{"), "{file}: name each room by a `use` of its own");
            for path in paths(code, "crate::") {
                let used = path.split(':').next().unwrap_or_default();
                let allowed = used == *room || may.contains(&used);
                assert!(allowed, "{file}: {room} may not use crate::{path}");
                let by_ports = BY_PORTS.contains(room) && used == "lane";
                assert!(!by_ports || path.starts_with("lane::ports"), "{file}: crate::{path}");
            }
        }
    }
    Ok(())
}

#[test]
fn no_two_rooms_use_each_other() {
    let may = |room: &str| ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |r| r.1);
    for (room, _) in ROOMS {
        let mut reached: Vec<&str> = may(room).to_vec();
        let mut at = 0;
        while let Some(next) = reached.get(at) {
            assert_ne!(next, room, "{room} is reached from itself");
            let more = may(next).iter().filter(|one| !reached.contains(one)).copied();
            let more: Vec<&str> = more.collect();
            reached.extend(more);
            at += 1;
        }
    }
}

#[test]
fn each_library_has_its_room() -> Result<()> {
    for (room, files) in rooms()? {
        for (file, code) in files {
            for (library, at_home) in LIBRARIES {
                let path = format!("{library}::");
                let used = paths(&code, &path).next().is_some();
                let allowed = !used || at_home.contains(&room.as_str());
                assert!(allowed, "{}: {room} may not speak to {library}", file.display());
            }
        }
    }
    Ok(())
}

#[test]
fn files_stay_short_and_finished() -> Result<()> {
    let repository = programs::repository();
    for part in ["host", "guests", "tests"] {
        for file in sources(&repository.join(part))? {
            let text = std::fs::read_to_string(&file)?;
            let (file, lines) = (file.display(), text.lines().count());
            assert!(lines <= LONGEST, "{file} has {lines} lines; {LONGEST} are a lot");
            // Put together here, so that this file does not hold them itself.
            for unfinished in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!")] {
                assert!(!text.contains(unfinished), "{file} has a {unfinished}");
            }
        }
    }
    Ok(())
}

/// docs/GUARANTEES.md names the tests that hold each: `file::test`.
#[test]
fn the_tests_that_hold_the_guarantees_exist() -> Result<()> {
    let repository = programs::repository();
    let guarantees = std::fs::read_to_string(repository.join("docs/GUARANTEES.md"))?;
    let mut found = 0;
    for name in guarantees.split('`').skip(1).step_by(2) {
        let Some((file, test)) = name.rsplit_once("::") else { continue };
        let file = file.replace("::", "/");
        let path = repository.join(format!("tests/suite/{file}.rs"));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        assert!(text.contains(&format!("fn {test}(")), "{} has no {test}", path.display());
        found += 1;
    }
    assert!(found > 30, "{found} tests are named");
    Ok(())
}
