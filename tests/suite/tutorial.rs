//! The tutorial of docs/WRITING-HANDLERS.md, done as it stands there: each block of shell after a line
//! `<!-- tutorial -->`, one after the other, and what it prints compared with what the page shows.
//! `until`: it is run again until it prints that. `runs on`: it goes on while the others run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tribox_tests::{programs, wait_until, wait_within};

const PAGE: &str = "docs/WRITING-HANDLERS.md";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Once,
    Until,
    RunsOn,
}

/// Commands of the page, and what they are said to print.
#[derive(Debug)]
struct Step {
    line: usize,
    kind: Kind,
    script: String,
    expected: Option<String>,
}

fn steps(page: &str) -> Result<Vec<Step>> {
    let lines: Vec<&str> = page.lines().collect();
    let fenced = |start: usize| -> Result<(String, usize)> {
        let end = (start..lines.len()).find(|n| lines[*n] == "```").context("no end of a block")?;
        Ok((lines[start..end].join("\n"), end))
    };
    let mut steps = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(mark) = line.strip_prefix("<!-- tutorial").and_then(|l| l.strip_suffix("-->"))
        else {
            continue;
        };
        let kind = match mark.trim_matches([':', ' ']) {
            "" => Kind::Once,
            "until" => Kind::Until,
            "runs on" => Kind::RunsOn,
            other => anyhow::bail!("line {}: what is {other}?", n + 1),
        };
        ensure!(lines.get(n + 1) == Some(&"```sh"), "line {}: no ```sh follows", n + 1);
        let (script, end) = fenced(n + 2)?;
        let shows = lines.get(end + 2) == Some(&"```");
        let expected = if shows { Some(fenced(end + 3)?.0) } else { None };
        steps.push(Step { line: n + 1, kind, script, expected });
    }
    Ok(steps)
}

/// Whether the expected lines stand in `out` in this order. A line `…` is any lines, or none; within a
/// line it is any text.
fn shows(out: &str, expected: &str) -> Result<(), String> {
    let mut lines = out.lines();
    for wanted in expected.lines().filter(|line| line.trim() != "…") {
        let parts: Vec<&str> = wanted.split('…').map(str::trim).collect();
        let fits = |line: &str| {
            let mut rest = line;
            parts.iter().all(|part| match rest.find(part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
        };
        if !lines.any(fits) {
            return Err(format!("no line {wanted:?} in its place:\n{out}"));
        }
    }
    Ok(())
}

/// A reader of the page: a shell that remembers where it is.
struct Reader {
    place: tempfile::TempDir,
    running: Option<Child>,
}

impl Reader {
    fn new() -> Result<Reader> {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir()?;
        // Root's Postgres runs as another user: let it pass through.
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711))?;
        std::fs::write(place.path().join("where"), text(place.path()))?;
        Ok(Reader { place, running: None })
    }

    fn shell(&self, script: &str) -> Result<Command> {
        let file = |name: &str| self.place.path().join(name);
        let place = std::fs::read_to_string(file("where"))?;
        let script = format!("{script}\npwd > '{}'", text(&file("where")));
        let mut path: Vec<PathBuf> = Vec::new();
        for program in [programs::tribox()?, programs::nats_server(), programs::psql()?] {
            path.push(program.parent().context("no directory")?.to_owned());
        }
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", &script]).current_dir(place.trim()).stdin(Stdio::null());
        command.env("PATH", std::env::join_paths(path)?);
        // What it depends on is compiled once for all runs, from crates that are here already.
        command.env("CARGO_NET_OFFLINE", "true");
        command.env("CARGO_BUILD_BUILD_DIR", programs::repository().join("target/new-projects"));
        for name in ["DATABASE_URL", "NATS_URL", "CARGO_TARGET_DIR"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    fn run(&self, script: &str) -> Result<String, String> {
        let mut shell = self.shell(script).map_err(|why| format!("{why:#}"))?;
        let output = shell.output().map_err(|why| why.to_string())?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(out) } else { Err(format!("{out}\n{said}")) }
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        let expected = step.expected.as_deref().unwrap_or_default();
        let what = format!("{PAGE}, line {}: {}", step.line, step.script);
        match step.kind {
            Kind::Once => {
                let out =
                    self.run(&step.script).map_err(anyhow::Error::msg).context(what.clone())?;
                shows(&out, expected).map_err(anyhow::Error::msg).context(what)
            }
            Kind::Until => {
                wait_until(&what, async || shows(&self.run(&step.script)?, expected)).await
            }
            Kind::RunsOn => {
                let log = self.place.path().join("log");
                let script = format!("exec {}", step.script.trim());
                let mut shell = self.shell(&script)?;
                let file = std::fs::File::create(&log)?;
                self.running = Some(shell.stdout(file).stderr(Stdio::null()).spawn()?);
                let read = async || {
                    let log = std::fs::read_to_string(&log).map_err(|why| why.to_string())?;
                    shows(&log, expected)
                };
                wait_within(std::time::Duration::from_secs(60), &what, read).await
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(child) = &mut self.running else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It stops its servers; where it is gone already, there is nothing to stop.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = child.wait();
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn the_tutorial_works_as_it_stands() -> Result<()> {
    let _alone = crate::new_project::CARGO.lock().await;
    let page = std::fs::read_to_string(programs::repository().join(PAGE))?;
    let steps = steps(&page)?;
    assert!(steps.len() >= 8, "{} steps", steps.len());
    let mut reader = Reader::new()?;
    for step in &steps {
        reader.step(step).await?;
    }
    Ok(())
}

#[test]
fn what_is_shown_is_compared() {
    let out = "one\ntwo 2 and more\nthree\n";
    assert_eq!(shows(out, "one\n…\nthree"), Ok(()));
    assert_eq!(shows(out, "two … more"), Ok(()));
    assert_eq!(shows(out, ""), Ok(()));
    assert!(shows(out, "three\none").is_err(), "the order counts");
    assert!(shows(out, "two … less").is_err());
    let page = "<!-- tutorial: until -->\n```sh\na\nb\n```\n\n```\nshown\n```\n";
    let steps = steps(page).expect("steps");
    assert_eq!((steps[0].kind, steps[0].script.as_str()), (Kind::Until, "a\nb"));
    assert_eq!(steps[0].expected.as_deref(), Some("shown"));
}
