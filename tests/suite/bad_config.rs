//! Configs that make no sense: the host does not start, and one line names the place and the remedy.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use tribox_tests::{Stack, programs};

/// Runs a command with a config file; no server is needed to refuse one.
fn run(command: &str, config: &Path) -> Result<Output> {
    let mut child = Command::new(programs::tribox()?);
    child.arg(command).arg("--config").arg(config);
    for name in ["DATABASE_URL", "NATS_URL", "NATS_CREDS", "RUST_LOG"] {
        child.env_remove(name);
    }
    child.output().context("failed to run tribox")
}

/// The line that a command fails with.
fn refused(command: &str, config: &Path) -> Result<String> {
    let output = run(command, config)?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    // Log lines may come before it.
    let words: Vec<&str> = text.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = words[..] else { panic!("one line: {text}") };
    assert!(line.starts_with("tribox: "), "{line}");
    Ok(line.to_owned())
}

#[test]
fn what_is_wrong_with_a_config_is_said_in_one_line() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("tribox.toml");
    for (text, words) in [
        ("[postgres]\nurll = \"x\"\n", ["line 2", "unknown field `urll`", "`url`"]),
        ("[postgress]\nurl = \"x\"\n", ["line 1", "unknown field `postgress`", "`postgres`"]),
        ("[lanes]\nturn = \"many\"\n", ["line 2", "(turn)", "expected usize"]),
        ("[lanes]\n\ncount = -1\n", ["line 3", "(count)", "expected usize"]),
        ("[lanes]\nturn = 0\n", ["lanes.turn", "is 0", "at least 1"]),
        ("[retention]\ninbox = \"soon\"\n", ["line 2", "(inbox)", "expected a duration"]),
        ("[admin]\nlisten = \"everywhere\"\n", ["line 2", "(listen)", "socket address"]),
        ("[log]\nformat = \"xml\"\n", ["line 2", "(format)", "`auto`"]),
        ("[handlers.a]\nlane = 2\n", ["line 2", "unknown field `lane`", "`lanes`"]),
        ("[handlers.a.settings]\nn = 3\n", ["line 2", "(n)", "string"]),
        ("[postgres\n", ["line 1", "([postgres)", "docs/tribox.toml"]),
        ("nodes: 3\n", ["line 1", "(nodes: 3)", "docs/tribox.toml"]),
    ] {
        std::fs::write(&file, text)?;
        for command in ["serve", "migrate", "provision"] {
            let line = refused(command, &file)?;
            assert!(line.contains("tribox.toml"), "{text}: {line}");
            assert!(words.iter().all(|words| line.contains(words)), "{text}: {line}");
        }
    }
    Ok(())
}

#[test]
fn a_config_that_cannot_be_read_is_named() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let missing = directory.path().join("missing.toml");
    let line = refused("serve", &missing)?;
    assert!(line.contains("missing.toml cannot be read: No such file"), "{line}");
    assert!(line.contains("--config FILE"), "{line}");
    let line = refused("serve", directory.path())?;
    assert!(line.contains("cannot be read: Is a directory"), "{line}");
    let latin = directory.path().join("latin.toml");
    std::fs::write(&latin, b"# caf\xe9\n")?;
    let line = refused("serve", &latin)?;
    assert!(line.contains("latin.toml cannot be read") && line.contains("UTF-8"), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_named() -> Result<()> {
    let mut stack = Stack::new("bad-config").await?;
    let nowhere = stack.directory().join("nowhere");
    for (key, value, words) in [
        (
            "plugins.directory",
            nowhere.display().to_string(),
            ["nowhere cannot be opened", "create it"],
        ),
        ("nats.credentials", nowhere.display().to_string(), ["credentials file", "cannot be read"]),
        ("log.filter", "loud,=".to_owned(), ["the log filter 'loud,='", "cannot be read"]),
    ] {
        let before = stack.config.clone();
        stack.config.set("admin.listen", "127.0.0.1:0").set(key, value);
        let line = refused("serve", &stack.write_config()?)?;
        assert!(words.iter().all(|words| line.contains(words)), "{key}: {line}");
        stack.config = before;
    }
    let taken = TcpListener::bind("127.0.0.1:0")?;
    stack.config.set("admin.listen", taken.local_addr()?.to_string());
    let line = refused("serve", &stack.write_config()?)?;
    let address = format!("the admin address {} cannot be opened", taken.local_addr()?);
    assert!(line.contains(&address) && line.contains("Address already in use"), "{line}");
    assert!(line.contains("set [admin] listen to a free one"), "{line}");
    Ok(())
}

#[test]
fn arguments_that_make_no_sense_are_exit_code_2() -> Result<()> {
    for arguments in [&["serv"][..], &["check"], &["serve", "--confg", "x"], &[]] {
        let output = Command::new(programs::tribox()?).args(arguments).output()?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8(output.stderr)?.contains("Usage: tribox"), "{arguments:?}");
    }
    Ok(())
}
