//! The commands that the documentation shows do what it says: each block of shell after a line
//! `<!-- test -->` is run as it stands, with the built program first in the PATH.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tribox_tests::programs;

/// Where such blocks may stand.
const PAGES: [&str; 3] = ["README.md", "docs/OPERATING.md", "docs/WRITING-HANDLERS.md"];
const MARK: &str = "<!-- test -->";

/// A block of shell, and the line that it begins at.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    line: usize,
    script: String,
}

/// The blocks of a page that are to be run.
fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.trim() != MARK {
            continue;
        }
        let (fence, _) =
            lines.find(|(line, _)| !line.trim().is_empty()).context("a lonely mark")?;
        ensure!(fence.trim_end() == "```sh", "line {number}: {MARK} is not followed by ```sh");
        let mut script = String::new();
        loop {
            let (line, _) = lines.next().with_context(|| format!("no end: line {number}"))?;
            if line.trim_end() == "```" {
                break;
            }
            // A page may show a prompt; a shell has its own.
            script += line.strip_prefix("$ ").unwrap_or(line);
            script.push('\n');
        }
        blocks.push(Block { line: number + 1, script });
    }
    Ok(blocks)
}

/// Runs the blocks of a page, one after the other, in one directory that starts out empty but for
/// what the pages speak of: the built guests, and the documented config.
fn run(page: &str, blocks: &[Block]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    std::fs::create_dir(place.join("plugins"))?;
    for guest in ["accounts", "items", "orders"] {
        let name = format!("{guest}.wasm");
        std::fs::copy(programs::guest(guest)?, place.join(&name))?;
    }
    let config = programs::repository().join("docs/tribox.toml");
    std::fs::copy(config, place.join("tribox.toml"))?;
    for Block { line, script } in blocks {
        let output = shell(script, place)?;
        let out = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        ensure!(status.success(), "{page}, line {line}: {status}\n{script}\n{out}\n{said}");
    }
    Ok(())
}

fn shell(script: &str, place: &Path) -> Result<std::process::Output> {
    let program = programs::tribox()?;
    let mut path = vec![program.parent().context("no directory")?.to_owned()];
    path.push(programs::repository().join(".tools/bin"));
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new("sh");
    command.args(["-eu", "-c", script]).current_dir(place).stdin(Stdio::null());
    command.env("PATH", std::env::join_paths(path)?);
    for name in ["DATABASE_URL", "NATS_URL"] {
        command.env_remove(name);
    }
    command.output().context("failed to run sh")
}

#[test]
fn the_commands_of_the_documentation_work() -> Result<()> {
    for page in PAGES {
        // Not every page is there, and not every page shows commands.
        let Ok(text) = std::fs::read_to_string(programs::repository().join(page)) else { continue };
        let blocks = blocks(&text).context(page)?;
        println!("{page}: {} blocks", blocks.len());
        run(page, &blocks)?;
    }
    Ok(())
}

#[test]
fn marked_blocks_are_found_and_run() -> Result<()> {
    let page = "```sh\nnot this one\n```\n<!-- test -->\n```sh\n$ tribox check items.wasm\n\
                tribox check items.wasm --json > seen.json\n```\ntext\n<!-- test -->\n\n```sh\n\
                test -s seen.json\n```\n";
    let found = blocks(page)?;
    assert_eq!(found.iter().map(|block| block.line).collect::<Vec<_>>(), [5, 11]);
    run("page", &found)?;
    let wrong = blocks("<!-- test -->\n```sh\ntribox check no-such.wasm\n```\n")?;
    let error = run("page", &wrong).unwrap_err().to_string();
    assert!(error.contains("page, line 2") && error.contains("no-such.wasm"), "{error}");
    assert!(blocks("<!-- test -->\n```text\n").is_err());
    Ok(())
}
