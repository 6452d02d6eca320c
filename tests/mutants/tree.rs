//! A copy of the tree in which rules have switches, how it is built, and how tests are run against
//! it. The suite itself is built of the tree as it is; it runs the program of the copy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tribox_tests::programs;

use crate::switches;
use crate::{Rule, Test};

/// How long a test waits for what does not come, in seconds: without a rule something may well be
/// stuck.
const PATIENCE: &str = "60";
/// Seconds that a run of tests may take.
const LONGEST: &str = "600";
/// The program with switches is built for one run.
const QUICK: &str = "profile.dev.package.tribox.opt-level=0";

pub struct Tree {
    /// The program with switches, the host's own tests with switches, and the suite.
    program: PathBuf,
    unit: PathBuf,
    suite: PathBuf,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Green,
    /// With what was said.
    Red(String),
}

impl Tree {
    /// Copies the tree, puts the switches in, and builds.
    pub fn build(rules: &[Rule]) -> Result<Tree> {
        let repository = programs::repository();
        let place = repository.join("target/mutants");
        let (top, target) = (place.join("tree"), place.join("target"));
        let source = |file: &str| {
            let path = repository.join("host").join(file);
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        copy(&top, switches::put_in(rules, source)?)?;
        println!("building the program with switches for {} rules", rules.len());
        let suite = built(repository, None, "test -p tribox-tests --test suite --no-run", "suite")?;
        let quick = Some((&*target, QUICK));
        let unit = built(&top, quick, "test -p tribox --lib --no-run", "tribox")?;
        built(&top, quick, "build -p tribox --bin tribox", "tribox")?;
        Ok(Tree { program: target.join("debug/tribox"), unit, suite })
    }

    fn command(&self, test: &Test) -> Command {
        // Without its rule a loop may have no end: that is noticed, too.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", LONGEST]);
        command.arg(if test.unit { &self.unit } else { &self.suite });
        command.current_dir(programs::repository().join("tests"));
        command
    }

    /// Whether a test is there.
    pub fn has(&self, test: &Test) -> Result<bool> {
        let listed = self.command(test).args([&*test.filter, "--list"]).output()?;
        Ok(text(&listed.stdout).contains(": test"))
    }

    /// Runs tests, all of the same kind and with the same points, with a rule out.
    pub fn run(&self, tests: &[Test], out: Option<usize>) -> Result<Outcome> {
        let first = tests.first().context("no test")?;
        let mut command = self.command(first);
        command.args(tests.iter().map(|test| &test.filter)).arg("--test-threads=3");
        command.env("TRIBOX_BIN", &self.program).env("TRIBOX_PATIENCE", PATIENCE);
        if let Some(out) = out {
            command.env("TRIBOX_MUTANT", out.to_string());
        }
        if !first.points.is_empty() {
            command.env("TRIBOX_POINTS", &first.points);
        }
        let output = command.output().context("the tests cannot be run")?;
        Ok(if output.status.success() {
            Outcome::Green
        } else {
            Outcome::Red(text(&output.stdout))
        })
    }
}

/// Copies what git knows of to `top`, with files of the host as they are in `changed`. Files that are as
/// they were are left alone, so that a second build builds little.
pub fn copy(top: &Path, mut changed: BTreeMap<String, String>) -> Result<()> {
    let repository = programs::repository();
    for name in names(repository)? {
        let inside = name.strip_prefix("host/").unwrap_or_default();
        let bytes = match changed.remove(inside) {
            Some(text) => text.into_bytes(),
            None => match std::fs::read(repository.join(&name)) {
                Ok(bytes) => bytes,
                // It was removed, and git does not know it yet.
                Err(_) => continue,
            },
        };
        put(&top.join(&name), &bytes)?;
    }
    for (file, text) in changed {
        put(&top.join("host").join(file), text.as_bytes())?;
    }
    Ok(())
}

/// The files that git knows of, or would.
fn names(repository: &Path) -> Result<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(repository).output()?;
    ensure!(listed.status.success(), "git ls-files: {}", text(&listed.stderr));
    let names = text(&listed.stdout);
    Ok(names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("a directory")?)?;
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// What cargo said of a build.
pub struct Said {
    pub success: bool,
    pub messages: Vec<Value>,
    errors: String,
}

impl Said {
    /// The compiler's messages as it shows them, and cargo's own.
    pub fn rendered(&self) -> String {
        let rendered = self.messages.iter().filter_map(|m| m["message"]["rendered"].as_str());
        format!("{}\n{}", self.errors, rendered.collect::<Vec<_>>().join("\n"))
    }

    /// Where the program is that was made of a target.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let mut made = self.messages.iter().filter(|message| message["target"]["name"] == name);
        let program = made.find_map(|message| message["executable"].as_str());
        Ok(program.with_context(|| format!("there is no program {name}"))?.into())
    }
}

/// Runs cargo at `top`: of another target directory, with a setting, where one is given.
pub fn cargo(top: &Path, target: Option<(&Path, &str)>, arguments: &str) -> Result<Said> {
    let mut command = Command::new("cargo");
    command.args(arguments.split(' ')).arg("--message-format=json").current_dir(top);
    // What cargo told this program of itself would have the build scripts of libraries run anew.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_")) {
        if !matches!(&*name, "CARGO_HOME" | "CARGO_TARGET_DIR" | "CARGO_TERM_COLOR") {
            command.env_remove(name);
        }
    }
    if let Some((target, setting)) = target {
        command.args(["--config", setting]).env("CARGO_TARGET_DIR", target);
    }
    let Output { status, stdout, stderr } = command.output().context("cargo cannot be run")?;
    let said = text(&stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(Said { success: status.success(), messages, errors: text(&stderr) })
}

/// Runs cargo; returns where the program is that it made of a target.
pub fn built(
    top: &Path,
    target: Option<(&Path, &str)>,
    arguments: &str,
    name: &str,
) -> Result<PathBuf> {
    let said = cargo(top, target, arguments)?;
    ensure!(said.success, "cargo {arguments}: {}", said.rendered());
    said.program(name).with_context(|| format!("cargo {arguments}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
