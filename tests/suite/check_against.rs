//! `tribox check --against`: what is different between two builds of a handler, and what it means.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tribox_tests::tool::{Ran, tribox};
use tribox_tests::{Stack, programs};

/// A handler named `h` that subscribes to `subject`, in two bytes, and describes itself as its
/// version `version`, in one.
fn handler(place: &Path, file: &str, version: char, subject: &str) -> Result<PathBuf> {
    let text = include_str!("../../host/src/sandbox/tests_handler.wat")
        .replace(";;DESCRIBE", "i32.const 1024")
        .replace(";;HANDLE", "i32.const 2048")
        .replace("h1in", &format!("h{version}{subject}"));
    let path = place.join(file);
    std::fs::write(&path, wat::parse_str(text)?)?;
    Ok(path)
}

fn check(place: &Path, arguments: &[&str]) -> Result<Ran> {
    tribox(place, None, &[&["check"], arguments].concat())
}

/// What differs: (what, change, which); each says what it means.
fn differences(object: &Value) -> Vec<(&str, &str, &str)> {
    let found = object["against"]["differences"].as_array().expect("differences");
    let mut differences = Vec::new();
    for difference in found {
        let field = |name: &str| difference[name].as_str().expect("a text");
        assert!(field("means").len() > 10, "{difference}");
        differences.push((field("what"), field("change"), field("which")));
    }
    differences
}

#[test]
fn what_differs_is_listed_with_what_it_means() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    handler(place, "old.wasm", '1', "in")?;
    handler(place, "new.wasm", '2', "up")?;
    let ran = check(place, &["new.wasm", "--against", "old.wasm", "--json"])?;
    let object = ran.json()?;
    assert_eq!(ran.code, Some(0), "a change is no failure");
    assert_eq!(object["against"]["same_build"], false);
    assert_eq!(
        differences(&object),
        [
            ("version", "changed", "1 → 2"),
            ("subscription", "added", "up (key: none)"),
            ("subscription", "removed", "in (key: none)"),
        ]
    );
    let text = check(place, &["new.wasm", "--against", "old.wasm"])?.ok()?;
    assert!(text.contains("compared with old.wasm"), "{text}");
    assert!(text.contains("subscription added: up (key: none)\n      it needs a stream"), "{text}");
    let text = check(place, &["old.wasm", "--against", "old.wasm"])?.ok()?;
    assert!(text.contains("the same build"), "{text}");
    let (accounts, orders) = (programs::guest("accounts")?, programs::guest("orders")?);
    let (accounts, orders) = (accounts.display().to_string(), orders.display().to_string());
    let object = check(place, &[&accounts, "--against", &orders, "--json"])?.json()?;
    let found = differences(&object);
    for expected in [
        ("name", "changed", "orders → accounts"),
        ("collection", "added", "accounts"),
        ("collection", "removed", "orders"),
        ("publishes", "removed", "orders.events.*.*"),
        ("subscription", "added", "accounts.*.debit (key: token 1 of the subject)"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not in {found:#?}");
    }
    let ran = check(place, &["old.wasm", "--against", "none.wasm"])?;
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("none.wasm cannot be opened"), "{ran:?}");
    let both = ["old.wasm", "--against", "new.wasm", "--against-running"];
    assert_eq!(check(place, &both)?.code, Some(2));
    Ok(())
}

#[test]
fn likely_mistakes_are_said_and_fail_where_that_is_wanted() -> Result<()> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    // It declares no collection and publishes nothing.
    handler(place, "h.wasm", '1', "in")?;
    let text = check(place, &["h.wasm"])?.ok()?;
    assert!(text.contains("suggestion    h: it declares no collection"), "{text}");
    let ran = check(place, &["h.wasm", "--strict", "--json"])?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()?["suggestions"][0]["what"], "no-effect");
    // What people begin with, and what is meant, is no mistake.
    for guest in ["items", "accounts", "orders", "bookings", "baskets"] {
        let guest = programs::guest(guest)?.display().to_string();
        check(place, &[&guest, "--strict"])?.ok()?;
    }
    let accounts = programs::guest("accounts")?.display().to_string();
    let text = check(place, &[&accounts])?.ok()?;
    assert!(text.contains("note          accounts.*.enforce-overdrawn: what it sends"), "{text}");
    Ok(())
}

#[tokio::test]
async fn the_running_build_is_found_by_its_handlers_name() -> Result<()> {
    let stack = Stack::new("against").await?;
    stack.drop_in(&["accounts", "chaos"])?;
    // Under whatever file name.
    let running = handler(stack.directory(), "running.wasm", '1', "in")?;
    stack.drop_in_file(&running, "zebra")?;
    handler(stack.directory(), "h.wasm", '1', "up")?;
    let object =
        stack.tool_json(&["check", "h.wasm", "--against-running", "--config", "tribox.toml"])?;
    let file = object["against"]["file"].as_str().unwrap_or_default();
    assert!(file.ends_with("plugins/zebra.wasm"), "{file}");
    assert_eq!(object["against"]["version"], json!("1"));
    assert_eq!(differences(&object).len(), 2, "{object:#}");
    let orders = programs::guest("orders")?.display().to_string();
    let ran = stack.tool(&["check", &orders, "--against-running"])?;
    assert_eq!(ran.code, Some(1));
    for words in ["no file in the plugin directory", "'orders'", "accounts, chaos, h"] {
        assert!(ran.out.contains(words), "{ran:?}");
    }
    Ok(())
}
