//! Whatever could be written otherwise, in place of the rules that somebody thought of: cargo-mutants lists
//! it (`a < b` as `a == b`, a function that does nothing, an arm that is not there, …), and each is tried by
//! the host's own tests and, where they do not notice, by the simulation. cargo-mutants would build the
//! program once for each of them; here it is built once for all (switch.rs).
//!
//! With `SUITE="order:: relay::"` these tests of the suite look at what survives both, which takes a minute each.
//!
//! What survives is listed. That is not always a test too few: some of it is the same in another form, and
//! some costs time alone.

mod edit;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use tribox_tests::programs;

use self::switch::Mutant;
use crate::{switches, tree};

/// Mutants that are tried at a time.
const AT_ONCE: usize = 3;
/// Runs of the simulation for each, where nobody says how many (`SEEDS`).
const SEEDS: &str = "30";
/// Seconds that a program may take: without an end it has noticed, too.
const LONGEST: &str = "30";
const LONGEST_SUITE: &str = "300";
/// Seconds that a test of the suite waits for what does not come.
const PATIENCE: &str = "30";
/// The simulation runs at the speed that it usually has.
const USUAL: &str = "profile.dev.package.tribox.opt-level=1";
const TESTS: &str = "test -p tribox -p tribox-tests --lib --test simulation --no-run";
/// As if no mutant were there.
const NONE: usize = 0;

const MODULE: &str = "//! Which mutant is in force: TRIBOX_MUTANT has its number.

use std::sync::OnceLock;

pub fn out() -> usize {
    static OUT: OnceLock<usize> = OnceLock::new();
    let number = || std::env::var(\"TRIBOX_MUTANT\").ok()?.parse().ok();
    *OUT.get_or_init(|| number().unwrap_or(0))
}

pub fn is(mutant: usize) -> bool {
    out() == mutant
}

pub fn among(mutants: &[usize]) -> bool {
    mutants.contains(&out())
}
";

/// By what a mutant is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Killer {
    UnitTest,
    Simulation,
    Suite,
}

/// The programs that have all mutants, and the numbers of those mutants.
struct Programs {
    unit: PathBuf,
    simulation: PathBuf,
    /// The suite as it is, the program that it is to run, and which of its tests.
    suite: Option<(PathBuf, PathBuf, String)>,
    tried: BTreeSet<usize>,
    /// Whose own tests have a look: `lane::`.
    rooms: BTreeSet<String>,
}

pub fn run(list: &Path) -> Result<ExitCode> {
    let read = std::fs::read(list).with_context(|| list.display().to_string())?;
    let mutants: Vec<Mutant> = serde_json::from_slice(&read).with_context(|| {
        format!("{}: this is not what `cargo mutants --list --json` writes", list.display())
    })?;
    let programs = Programs::build(&mutants)?;
    if let Some(killer) = programs.noticed(NONE)? {
        anyhow::bail!("{killer:?} is red with no mutant");
    }
    let numbers: Vec<usize> = programs.tried.iter().copied().collect();
    let (next, killers) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let try_some = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(n) = numbers.get(at) else { break };
            if at % 50 == 0 {
                println!("{at} of {}", numbers.len());
            }
            let killer = programs.noticed(*n)?;
            if killer.is_none() {
                println!("SURVIVED: {}", mutants[n - 1].name);
            }
            killers.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.insert(*n, killer);
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(try_some)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?
        })
    })?;
    let killers = killers.into_inner().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let by = |killer| killers.values().filter(|it| **it == killer).count();
    let [unit, simulation, suite] =
        [Killer::UnitTest, Killer::Simulation, Killer::Suite].map(|killer| by(Some(killer)));
    println!(
        "mutants killed: {} of {} ({unit} by the host's own tests, {simulation} by the simulation, \
         {suite} by the suite); {} are not tried",
        killers.len() - by(None),
        killers.len(),
        mutants.len() - killers.len()
    );
    Ok(ExitCode::SUCCESS)
}

impl Programs {
    /// Builds with a switch for each mutant, but for those that cannot be had: as compiled by themselves
    /// they may be wrong, or stand where no choice can be made, as in a constant.
    fn build(mutants: &[Mutant]) -> Result<Programs> {
        let place = programs::repository().join("target/mutants");
        let (top, target) = (place.join("every"), place.join("target"));
        let target = Some((&*target, USUAL));
        let mut tried: BTreeSet<usize> = (1..=mutants.len()).collect();
        println!("building the program with switches for {} mutants", tried.len());
        let said = loop {
            let (files, done) = files(mutants, &tried)?;
            tried = done;
            tree::copy(&top, files.clone())?;
            let said = tree::cargo(&top, target, TESTS)?;
            if said.success {
                break said;
            }
            let wrong = wrong(&said.messages, &files);
            ensure!(!wrong.is_empty(), "{}", said.rendered());
            tried.retain(|n| !wrong.contains(n));
            println!("{} of them can be had together so far", tried.len());
        };
        for (n, mutant) in (1..).zip(mutants) {
            if !tried.contains(&n) {
                println!("not tried: {}", mutant.name);
            }
        }
        let suite = said_by("SUITE").map(|tests| {
            let usual = "test -p tribox -p tribox-tests --test suite --no-run";
            let suite = tree::built(programs::repository(), None, usual, "suite")?;
            let program = "build -p tribox -p tribox-tests --bin tribox";
            anyhow::Ok((suite, tree::built(&top, target, program, "tribox")?, tests))
        });
        Ok(Programs {
            unit: said.program("tribox")?,
            simulation: said.program("simulation")?,
            suite: suite.transpose()?,
            tried,
            rooms: mutants.iter().filter_map(|mutant| room(&mutant.file)).collect(),
        })
    }

    fn noticed(&self, n: usize) -> Result<Option<Killer>> {
        let bounded = |program: &Path, longest: &str| {
            let mut command = Command::new("timeout");
            command.args(["--kill-after=10", longest]).arg(program);
            command
        };
        let mut unit = bounded(&self.unit, LONGEST);
        unit.args(&self.rooms);
        let mut simulation = bounded(&self.simulation, LONGEST);
        let seeds = said_by("SEEDS").unwrap_or_else(|| SEEDS.to_owned());
        simulation.arg("the_guarantees_hold_under").env("TRIBOX_SEEDS", seeds);
        simulation.env("TRIBOX_STOP", "1");
        let suite = self.suite.as_ref().map(|(suite, program, tests)| {
            let mut command = bounded(suite, LONGEST_SUITE);
            command.args(tests.split_whitespace()).arg("--test-threads=4");
            command.env("TRIBOX_BIN", program).env("TRIBOX_PATIENCE", PATIENCE);
            (Killer::Suite, command)
        });
        let first = [(Killer::UnitTest, unit), (Killer::Simulation, simulation)];
        for (killer, mut program) in first.into_iter().chain(suite) {
            if !success(&mut program, n)? {
                return Ok(Some(killer));
            }
        }
        Ok(None)
    }
}

/// The tests of the room that a file of the host is in.
fn room(file: &str) -> Option<String> {
    let (room, _) = file.strip_prefix("host/src/")?.split_once('/')?;
    Some(format!("{room}::"))
}

/// What the environment says.
fn said_by(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|said| !said.is_empty())
}

fn success(program: &mut Command, n: usize) -> Result<bool> {
    program.env("TRIBOX_MUTANT", n.to_string()).current_dir(programs::repository().join("tests"));
    let run = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(ExitStatus::success(&run.context("the tests cannot be run")?))
}

/// The host's files with switches for some mutants, and those of them that have one.
fn files(
    mutants: &[Mutant],
    tried: &BTreeSet<usize>,
) -> Result<(BTreeMap<String, String>, BTreeSet<usize>)> {
    let source = |file: &str| {
        let path = programs::repository().join("host").join(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let mut of_file: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for n in tried {
        let mutant = &mutants[n - 1];
        let file = mutant.file.strip_prefix("host/").with_context(|| mutant.file.clone())?;
        of_file.entry(file).or_default().push((*n, mutant));
    }
    let mut files = BTreeMap::new();
    let mut all_done = BTreeSet::new();
    for (file, mutants) in of_file {
        let (text, done) =
            switch::put_in(&source(file)?, &mutants).with_context(|| file.to_owned())?;
        files.insert(file.to_owned(), text);
        all_done.extend(done);
    }
    let (lib, line) = switches::MODULES;
    let declared = source(lib)?.replacen(line, &format!("{line}mod mutant;\n"), 1);
    files.insert(lib.to_owned(), declared);
    files.insert("src/mutant.rs".to_owned(), MODULE.to_owned());
    Ok((files, all_done))
}

/// The mutants that errors of the compiler are of.
fn wrong(messages: &[serde_json::Value], files: &BTreeMap<String, String>) -> BTreeSet<usize> {
    let mut wrong = BTreeSet::new();
    for message in messages.iter().map(|message| &message["message"]) {
        if message["level"] != "error" {
            continue;
        }
        for span in message["spans"].as_array().into_iter().flatten() {
            let file = span["file_name"].as_str().unwrap_or_default();
            let text = file.strip_prefix("host/").and_then(|file| files.get(file));
            let line = span["line_start"].as_u64().and_then(|line| usize::try_from(line).ok());
            let (Some(text), Some(line)) = (text, line) else { continue };
            if span["is_primary"] == true {
                wrong.extend(switch::of_line(text, line));
            }
        }
    }
    wrong
}
