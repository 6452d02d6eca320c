//! Does the suite notice? Takes out one safety rule after the other, each a line or a condition of
//! the program (rules.toml), and sees whether one of the tests that are to hold it turns red. A
//! rule whose text is not found is an error, and so is a test that is not there or is red with all
//! rules in place.
//!
//! A build takes minutes, so there is one: of a copy of the tree in which each rule has a switch
//! (switches.rs). Which rule is out is told to the program, or to the host's own tests, by the
//! environment when it is run.
//!
//! `make mutants`, or with `RULES=fence` those with that in their name alone.
//!
//! With a list that cargo-mutants made of whatever could be written otherwise, each of that is tried in
//! place of the rules (every.rs): `make every-mutant`.

mod every;
mod switches;
mod tree;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use self::tree::{Outcome, Tree};

/// Rules that are tried at a time: a test that is to notice one mostly waits for what does not come.
const AT_ONCE: usize = 4;

/// A rule: what in the program keeps it, and which tests do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    /// Below host/.
    file: String,
    /// What `text` is found in; `text` itself where it stands once.
    at: Option<String>,
    text: String,
    /// What is there instead, without the rule.
    instead: String,
    /// Tests that are to notice, fast ones first: `unit <filter>` or `suite <filter>`.
    tests: Vec<String>,
    /// Cases of `faults::` alone, where that is among the tests.
    #[serde(default)]
    points: String,
}

#[derive(Debug, Deserialize)]
struct Rules {
    rule: Vec<Rule>,
}

/// Where a test is run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    unit: bool,
    filter: String,
    points: String,
}

impl Rule {
    fn tests(&self) -> Result<Vec<Test>> {
        let test = |text: &String| {
            let (kind, filter) = text.split_once(' ').context(text.clone())?;
            ensure!(matches!(kind, "unit" | "suite"), "{}: {text}", self.name);
            let faults = filter.starts_with("faults::");
            let points = if faults { self.points.clone() } else { String::new() };
            Ok(Test { unit: kind == "unit", filter: filter.to_owned(), points })
        };
        self.tests.iter().map(test).collect()
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filter)?;
        if self.points.is_empty() { Ok(()) } else { write!(f, " ({})", self.points) }
    }
}

fn main() -> Result<ExitCode> {
    if let Some(list) = std::env::args_os().nth(1) {
        return every::run(&PathBuf::from(list));
    }
    let only = std::env::var("RULES").unwrap_or_default();
    let Rules { rule: rules } = toml::from_str(include_str!("rules.toml")).context("rules.toml")?;
    let tree = Tree::build(&rules)?;
    let chosen = || rules.iter().enumerate().filter(|(_, rule)| rule.name.contains(&only));
    ensure!(chosen().next().is_some(), "no rule has '{only}' in its name");
    holds_with_all(&tree, chosen().map(|(_, rule)| rule))?;
    let rules = Mutex::new(chosen());
    let next = || rules.lock().unwrap_or_else(PoisonError::into_inner).next();
    let try_some = || {
        let (mut count, mut killed) = (0, 0);
        while let Some((n, rule)) = next() {
            count += 1;
            killed += usize::from(is_killed(&tree, n, rule).with_context(|| rule.name.clone())?);
        }
        anyhow::Ok((count, killed))
    };
    let (mut count, mut killed) = (0, 0);
    for some in std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(try_some)).collect();
        workers.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
    }) {
        let some = some.map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        (count, killed) = (count + some.0, killed + some.1);
    }
    println!("mutants killed: {killed} of {count}");
    Ok(if killed == count { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what became of rule `n`; whether a test noticed that it is out.
fn is_killed(tree: &Tree, n: usize, rule: &Rule) -> Result<bool> {
    let started = Instant::now();
    let killer = noticed(tree, n, rule)?;
    let seconds = started.elapsed().as_secs();
    match &killer {
        Some(test) => println!("killed ({seconds} s): {}, by {test}", rule.name),
        None => println!("SURVIVED ({seconds} s): {}, {}", rule.name, rule.file),
    }
    Ok(killer.is_some())
}

/// The tests are there, and green with all rules in place.
fn holds_with_all<'a>(tree: &Tree, rules: impl Iterator<Item = &'a Rule>) -> Result<()> {
    let mut tests = Vec::new();
    for rule in rules {
        tests.extend(rule.tests()?);
    }
    tests.sort();
    tests.dedup();
    println!("with all rules in place: {} tests", tests.len());
    for test in &tests {
        ensure!(tree.has(test)?, "{test}: there is no such test");
    }
    let alike = |one: &Test, other: &Test| (one.unit, &one.points) == (other.unit, &other.points);
    tests.sort_by(|one, other| (one.unit, &one.points).cmp(&(other.unit, &other.points)));
    for together in tests.chunk_by(alike) {
        if let Outcome::Red(said) = tree.run(together, None)? {
            anyhow::bail!("red with all rules in place:\n{said}");
        }
    }
    Ok(())
}

/// Which test noticed that rule `n` is out.
fn noticed(tree: &Tree, n: usize, rule: &Rule) -> Result<Option<Test>> {
    for test in rule.tests()? {
        if let Outcome::Red(_) = tree.run(std::slice::from_ref(&test), Some(n))? {
            return Ok(Some(test));
        }
    }
    Ok(None)
}
