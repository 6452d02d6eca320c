//! Files in the plugin directory that are no handlers: each is refused by name and with a remedy,
//! while the others run, and none is loaded before it is whole.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::{Host, Stack, programs, wait_until};

/// A file, and words of the refusal: what is wrong, and what to do.
type Bad = (&'static str, Vec<u8>, [&'static str; 2]);

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn bad_files() -> Result<Vec<Bad>> {
    let items = fs::read(programs::guest("items")?)?;
    Ok(vec![
        ("empty", Vec::new(), ["the file is empty", "rename it when it is complete"]),
        ("text", b"#!/bin/sh\nexit 0\n".to_vec(), ["not WebAssembly", "--target wasm32-wasip2"]),
        ("header", b"\0asm".to_vec(), ["cut short or broken", "build or copy it again"]),
        ("truncated", items[..items.len() / 2].to_vec(), ["cut short or broken", "copy it again"]),
        ("core", component("(module)"), ["a core module", "wasm-tools component new"]),
        ("nothing", component("(component)"), ["exports nothing", "world `plugin`"]),
        (
            "world",
            component("(component (instance $i) (export \"acme:other/run@1.0.0\" (instance $i)))"),
            ["it exports `acme:other/run@1.0.0`", "world `plugin`"],
        ),
        (
            "http",
            component("(component (import \"wasi:http/outgoing-handler@0.2.3\" (instance)))"),
            ["imports `wasi:http/outgoing-handler@0.2.3`", "send a message to a service"],
        ),
        (
            "foreign",
            component("(component (import \"acme:billing/charge@1.0.0\" (instance)))"),
            ["imports `acme:billing/charge@1.0.0`", "remove what imports this"],
        ),
    ])
}

/// One byte more than is read, and no block on the disk.
fn huge(place: &Path) -> Result<()> {
    let mut header = component("(component)");
    header.truncate(8);
    fs::write(place, header)?;
    Ok(File::options().write(true).open(place)?.set_len((256 << 20) + 1)?)
}

const HUGE: [&str; 2] = ["larger than 268435456 bytes", "build it by"];

/// The log line that refuses a file.
fn refusal(host: &Host, file: &str) -> Option<Value> {
    let log = host.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut refusals = lines.filter(|line| {
        let text = line["message"].as_str().unwrap_or_default();
        line["file"] == file && (text.contains("refused") || text.contains("not started"))
    });
    refusals.next_back()
}

async fn refused(host: &Host, file: &str, words: &[&str]) -> Result<()> {
    let what = format!("{file} is refused");
    let line = wait_until(&what, async || {
        refusal(host, file).ok_or_else(|| "no line in the log".to_owned())
    });
    let line = line.await?;
    let text = line["message"].as_str().unwrap_or_default();
    assert!(words.iter().all(|words| text.contains(words)), "{file}: {text}");
    assert!(text.contains(file), "{text}");
    assert_eq!(line["level"], "ERROR", "{text}");
    Ok(())
}

async fn streams(stack: &Stack) -> Result<()> {
    stack.broker.create_stream("CREATE", &["items.create", "bare.create"]).await?;
    stack.broker.create_stream("CREATED", &["items.created", "bare.created"]).await
}

/// Has an item made and waits until it is told.
async fn make(stack: &Stack, handler: &str, id: &str) -> Result<()> {
    let payload = json!({ "name": "lamp" }).to_string();
    stack.broker.publish_as(id, &format!("{handler}.create"), payload).await?;
    wait_until(&format!("{handler} has made {id}"), async || {
        let created = stack.broker.read("CREATED").await.map_err(|e| format!("{e:#}"))?;
        let subject = format!("{handler}.created");
        let found = created.iter().any(|m| m.subject == subject && m.json()["id"] == id);
        if found { Ok(()) } else { Err(format!("{} others", created.len())) }
    })
    .await
}

#[tokio::test]
async fn each_bad_file_is_refused_by_name_while_the_others_run() -> Result<()> {
    let mut stack = Stack::new("bad-files").await?;
    streams(&stack).await?;
    let plugins = stack.plugins();
    let bad = bad_files()?;
    for (name, bytes, _) in &bad {
        fs::write(plugins.join(name).with_extension("wasm"), bytes)?;
    }
    huge(&plugins.join("huge.wasm"))?;
    stack.drop_in(&["items"])?;
    fs::copy(programs::guest("items")?, plugins.join("more-items.wasm"))?;
    let outside = stack.directory().join("bare.wasm");
    fs::copy(programs::guest("bare")?, &outside)?;
    symlink(&outside, plugins.join("link.wasm"))?;
    fs::create_dir(plugins.join("directory.wasm"))?;

    let host = stack.serve().await?;
    for (name, _, words) in &bad {
        refused(&host, &format!("{name}.wasm"), words).await?;
    }
    refused(&host, "huge.wasm", &HUGE).await?;
    let other = ["named 'items' like that of items.wasm", "take one of the two files away"];
    refused(&host, "more-items.wasm", &other).await?;
    let link = ["leads nowhere or out of the plugin directory", "copy the component into"];
    refused(&host, "link.wasm", &link).await?;
    make(&stack, "items", "m1").await?;
    host.stop().await
}

#[tokio::test]
async fn a_bad_new_version_leaves_the_running_one() -> Result<()> {
    let mut stack = Stack::new("bad-version").await?;
    streams(&stack).await?;
    stack.drop_in(&["items"])?;
    let host = stack.serve().await?;
    make(&stack, "items", "m1").await?;
    for (name, bytes, words) in bad_files()? {
        let file = stack.directory().join(name);
        fs::write(&file, bytes)?;
        stack.drop_in_file(&file, "items")?;
        wait_until(&format!("{name} is refused"), async || {
            let said = refusal(&host, "items.wasm").unwrap_or_default()["message"].to_string();
            let stays = said.contains("the build that runs stays");
            if stays && words.iter().all(|words| said.contains(words)) { Ok(()) } else { Err(said) }
        })
        .await?;
    }
    make(&stack, "items", "m2").await?;
    let builds = "SELECT count(DISTINCT component) FROM tribox.inbox";
    let builds: i64 = sqlx::query_scalar(builds).fetch_one(&stack.pool).await?;
    assert_eq!(builds, 1, "the same build has handled both");

    // What is right again is taken up, under whatever name.
    stack.drop_in(&["items", "bare"])?;
    make(&stack, "bare", "m3").await?;
    make(&stack, "items", "m4").await?;
    host.stop().await
}

#[tokio::test]
async fn a_file_is_loaded_when_it_is_whole() -> Result<()> {
    let mut stack = Stack::new("half").await?;
    streams(&stack).await?;
    stack.drop_in(&["items"])?;
    let host = stack.serve().await?;
    let whole = fs::read(programs::guest("bare")?)?;
    let place = stack.plugins().join("bare.wasm");
    // Whoever writes it stops in the middle, at several places.
    for quarters in 1..4 {
        let half = &whole[..whole.len() * quarters / 4];
        fs::write(&place, half)?;
        wait_until("half of a file is refused", async || {
            let log = host.log();
            let times = log.lines().filter(|line| line.contains("bare.wasm: not a valid")).count();
            if times >= quarters { Ok(()) } else { Err(format!("refused {times} times")) }
        })
        .await?;
    }
    assert!(!host.log().contains("\"handler\":\"bare\""), "{}", host.log());
    fs::write(&place, &whole)?;
    make(&stack, "bare", "m1").await?;
    make(&stack, "items", "m2").await?;
    host.stop().await
}

/// Writes the lock as its page says.
fn lock(plugins: &Path, files: &str) -> Result<()> {
    let script = format!("sha256sum {files} > plugins.lock");
    let status = Command::new("sh").args(["-c", &script]).current_dir(plugins).status()?;
    anyhow::ensure!(status.success(), "{script}");
    Ok(())
}

#[tokio::test]
async fn only_what_the_lock_lists_runs() -> Result<()> {
    let mut stack = Stack::new("lock").await?;
    streams(&stack).await?;
    let plugins = stack.plugins();
    stack.drop_in(&["items", "bare"])?;
    lock(&plugins, "items.wasm")?;
    let host = stack.serve().await?;
    refused(&host, "bare.wasm", &["is not in plugins.lock", "sha256sum *.wasm"]).await?;
    make(&stack, "items", "m1").await?;
    let checked = check(&plugins.join("bare.wasm"), false)?;
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("is not in plugins.lock"));

    lock(&plugins, "*.wasm")?;
    stack.drop_in(&["bare"])?;
    make(&stack, "bare", "m2").await?;
    // Another build of what runs is refused, and what runs stays.
    fs::copy(programs::guest("orders")?, plugins.join("items.wasm"))?;
    refused(&host, "items.wasm", &["is not in plugins.lock"]).await?;
    make(&stack, "items", "m3").await?;
    host.stop().await
}

fn check(file: &Path, json: bool) -> Result<Output> {
    let mut command = Command::new(programs::tribox()?);
    command.arg("check").arg(file);
    if json {
        command.arg("--json");
    }
    command.output().context("failed to run tribox check")
}

#[test]
fn check_says_what_is_wrong_with_a_file() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name).with_extension("wasm");
    let mut cases = Vec::new();
    for (name, bytes, words) in bad_files()? {
        fs::write(place(name), bytes)?;
        cases.push((name, words));
    }
    huge(&place("huge"))?;
    cases.push(("huge", HUGE));
    cases.push(("missing", ["missing.wasm cannot be opened", "No such file"]));
    for (name, words) in cases {
        let output = check(&place(name), false)?;
        let text = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("refused: ") && text.contains(name), "{text}");
        assert!(words.iter().all(|words| text.contains(words)), "{name}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");

        let output = check(&place(name), true)?;
        assert_eq!(output.status.code(), Some(1));
        let object: Value = serde_json::from_slice(&output.stdout)?;
        let error = object["error"].as_str().unwrap_or_default();
        assert!(words.iter().all(|words| error.contains(words)), "{name}: {object}");
        assert_eq!(object["handler"], Value::Null);
    }
    Ok(())
}

#[test]
fn check_says_what_a_handler_is() -> Result<()> {
    // A link that is named on the command line is followed.
    let directory = tempfile::tempdir()?;
    let link = directory.path().join("link.wasm");
    symlink(programs::guest("accounts")?, &link)?;
    for file in [programs::guest("accounts")?, link] {
        let output = check(&file, false)?;
        let text = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(0), "{text}");
        let line =
            "subscription  accounts.*.debit  key: token 1 of the subject  read ahead: accounts";
        assert!(text.contains(line), "{text}");
        let output = check(&file, true)?;
        assert_eq!(output.status.code(), Some(0));
        let object: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!((&object["handler"], &object["error"]), (&json!("accounts"), &Value::Null));
        assert_eq!(object["collections"], json!(["accounts"]));
    }
    Ok(())
}
