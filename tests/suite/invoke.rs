//! `tribox invoke`: a handler tried on a message from files, without servers, with what a host would
//! have come to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::tool::{self, Ran};
use tribox_tests::{Stack, chaos, programs};

/// Compiled components stay in the test's own directory.
const CONFIG: &str = "[plugins]\ncache = \"cache\"\n";

/// A directory with a message and documents.
struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Result<Case> {
        let case = Case(tempfile::tempdir()?);
        case.write("tribox.toml", CONFIG)?;
        Ok(case)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn run(&self, guest: &Path, more: &[&str]) -> Result<Ran> {
        let guest = guest.display().to_string();
        tool::tribox(
            self.0.path(),
            None,
            &[&["invoke", &guest, "--message", "m.json"], more].concat(),
        )
    }

    /// Hands `chaos` a message of key 7.
    fn chaos(&self, what: &Value, more: &[&str]) -> Result<Ran> {
        let message = json!({
            "id": "m-1", "subject": "chaos.7.do", "payload": what, "stored_at": 1_700_000_000_000_u64,
        });
        self.write("m.json", &message.to_string())?;
        self.run(&programs::guest("chaos")?, more)
    }
}

#[test]
fn the_exit_code_says_what_came_of_it() -> Result<()> {
    let case = Case::new()?;
    for (verb, code, verdict, words) in [
        ("count", 0, "effects", "effects: 1 document, 1 message"),
        ("retry", 2, "retry", "retry: 7 was told to retry"),
        ("reject", 3, "reject", "reject: 7 was told to reject"),
        ("panic", 4, "trap", "7 was told to panic"),
        ("allocate", 4, "memory", "the limit is 134217728 bytes"),
        ("read-outside", 4, "contract", "does not declare"),
        ("write-outside", 4, "invalid-effects", "collection \"accounts\""),
    ] {
        let ran = case.chaos(&json!({ "do": verb }), &[])?;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(ran.out.contains(words), "{verb}: {}", ran.out);
        let outcome = case.chaos(&json!({ "do": verb }), &["--json"])?;
        assert_eq!((outcome.code, &outcome.json()?["verdict"]), (Some(code), &json!(verdict)));
    }
    Ok(())
}

#[test]
fn effects_are_shown_as_what_changes() -> Result<()> {
    let case = Case::new()?;
    case.write("d.json", r#"[{"collection": "chaos", "key": "7", "body": {"count": 3, "b": 1}}]"#)?;
    let with = ["--documents", "d.json"];
    let text = case.chaos(&json!({"do": "count"}), &with)?.ok()?;
    for words in [
        "document chaos/7\n    {\n  -   \"b\": 1,\n  -   \"count\": 3\n  +   \"count\": 4\n    }\n",
        "message 0 to chaos.events.7.count (id aa8dec9818ffe4cb95b0410faf2c2708-0)\n  {\n    \"count\": 4\n  }",
        "key 7",
        "of 4000000000 units",
    ] {
        assert!(text.contains(words), "{words}\n---\n{text}");
    }
    let outcome =
        case.chaos(&json!({"do": "count"}), &["--documents", "d.json", "--json"])?.json()?;
    assert_eq!(outcome["documents"][0]["before"], json!({"b": 1, "count": 3}));
    assert_eq!(outcome["documents"][0]["after"], json!({"count": 4}));
    assert_eq!(outcome["messages"][0]["payload"], json!({"count": 4}));
    assert!(
        outcome["fuel"].as_u64() > Some(1_000) && outcome["memory_bytes"].as_u64() > Some(65_535)
    );

    let text = case.chaos(&json!({"do": "count"}), &[])?.ok()?;
    assert!(text.contains("chaos/7 (new)") && text.contains("chaos/7 was read and is not there"));
    let text = case.chaos(&json!({"do": "delete"}), &with)?.ok()?;
    assert!(text.contains("chaos/7 (deleted)\n  - {"), "{text}");
    let text = case.chaos(&json!({"do": "schedule", "name": "tea", "after": 5}), &[])?.ok()?;
    assert!(text.contains("after 5 ms, as schedule tea"), "{text}");
    let text = case.chaos(&json!({"do": "cancel", "name": "tea"}), &[])?.ok()?;
    assert!(text.contains("cancels schedule tea"), "{text}");
    let text = case.chaos(&json!({"do": "print", "text": "hi"}), &[])?.ok()?;
    assert!(text.contains("stdout  stdout: hi") && text.contains("stderr  stderr: hi"), "{text}");
    Ok(())
}

#[test]
fn lists_and_settings_come_from_where_they_are_given() -> Result<()> {
    let case = Case::new()?;
    let document = |key: &str| json!({"collection": "chaos", "key": key, "body": {}});
    let documents: Vec<Value> = ["b/2", "a/2", "a/1"].into_iter().map(document).collect();
    case.write("d.json", &json!(documents).to_string())?;
    let with = ["--documents", "d.json", "--json"];
    let outcome = case.chaos(&json!({"do": "list", "prefix": "a/"}), &with)?.json()?;
    assert_eq!(outcome["messages"][0]["payload"], json!({"keys": ["a/1", "a/2"]}));

    // A balance that falls below a threshold is told: below 100, the config's, or one's own.
    let debit = json!({
        "id": "m-1", "subject": "accounts.7.debit", "payload": {"amount": 30}, "stored_at": 1,
    });
    case.write("m.json", &debit.to_string())?;
    let account = json!({"balance": 120, "changes": 1});
    let account = json!([{"collection": "accounts", "key": "7", "body": account}]);
    case.write("d.json", &account.to_string())?;
    let accounts = programs::guest("accounts")?;
    let sent = |more: &[&str]| -> Result<usize> {
        let outcome = case.run(&accounts, &[&with[..], more].concat())?.json()?;
        Ok(outcome["messages"].as_array().with_context(|| format!("{outcome:#}"))?.len())
    };
    assert_eq!(sent(&[])?, 2);
    let settings = format!("{CONFIG}[handlers.accounts.settings]\nthreshold = \"10\"\n");
    case.write("other.toml", &settings)?;
    assert_eq!(sent(&["--config", "other.toml"])?, 1);
    assert_eq!(sent(&["--config", "other.toml", "--set", "threshold=115"])?, 2);
    case.write("tribox.toml", &settings)?;
    assert_eq!(sent(&[])?, 1, "tribox.toml in the working directory");
    case.write("small.toml", &format!("{CONFIG}[limits]\nfuel = 100\n"))?;
    let ran = case.run(&accounts, &["--config", "small.toml"])?;
    assert!(ran.code == Some(4) && ran.out.contains("all of its 100 units of fuel"), "{ran:?}");
    Ok(())
}

#[test]
fn a_key_is_derived_as_a_host_does() -> Result<()> {
    let case = Case::new()?;
    let message = |subject: &str, key: Value| {
        let mut message = json!({
            "id": "m-1", "subject": subject, "payload": {"do": "ok"}, "stored_at": 1,
        });
        if !key.is_null() {
            message["key"] = key;
        }
        case.write("m.json", &message.to_string())?;
        case.run(&programs::guest("chaos")?, &["--json"])
    };
    assert_eq!(message("chaos.7.do", Value::Null)?.json()?["key"], "7");
    let given = message("chaos.7.do", json!("8"))?.json()?;
    assert_eq!(given["key"], "8");
    assert_eq!(given["notes"][0], "its subscription would give it key '7'");
    let none = message("elsewhere", Value::Null)?;
    assert_eq!(none.code, Some(4));
    assert_eq!(none.json()?["verdict"], "no-key");
    Ok(())
}

#[test]
fn bad_files_are_named_with_what_is_wrong() -> Result<()> {
    let case = Case::new()?;
    let chaos = programs::guest("chaos")?;
    let why = case.run(&chaos, &[])?.refused()?;
    assert!(why.contains("m.json cannot be read"), "{why}");
    for (text, words) in [
        ("{", "m.json: EOF"),
        ("{\"id\": 7}", "expected a string"),
        (r#"{"id": "m", "subject": "s", "payload": 1}"#, "missing field `stored_at`"),
        (r#"{"id": "m", "subject": "s", "stored_at": 1}"#, "neither payload nor payload_base64"),
        (
            r#"{"id": "m", "subject": "s", "payload_base64": "?", "stored_at": 1}"#,
            "payload_base64: ",
        ),
        (r#"{"id": "m", "subject": "s s", "payload": 1, "stored_at": 1}"#, "subject: "),
        (r#"{"id": "m", "sub": "s"}"#, "unknown field `sub`"),
    ] {
        case.write("m.json", text)?;
        let why = case.run(&chaos, &[])?.refused()?;
        assert!(why.contains("m.json") && why.contains(words), "{text}: {why}");
    }
    case.write("m.json", r#"{"id": "m", "subject": "chaos.7.do", "payload": 1, "stored_at": 1}"#)?;
    case.write("d.json", r#"[{"collection": "chaos", "key": "7"}]"#)?;
    let why = case.run(&chaos, &["--documents", "d.json"])?.refused()?;
    assert!(why.contains("d.json") && why.contains("missing field `body`"), "{why}");
    let component = case.write("x.wasm", "text")?;
    let why = case.run(&component, &[])?.refused()?;
    assert!(why.contains("x.wasm: not WebAssembly"), "{why}");
    let why = case.run(&chaos, &["--config", "none.toml"])?.refused()?;
    assert!(why.contains("none.toml cannot be read"), "{why}");
    assert_eq!(case.run(&chaos, &["--set", "threshold"])?.code, Some(2));
    Ok(())
}

/// Clocks and randomness are seeded by the message: offline they are those of a host, and the same
/// every time.
#[tokio::test]
async fn what_it_comes_to_is_what_a_host_comes_to() -> Result<()> {
    let mut stack = Stack::new("invoke").await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    let (broker, case) = (&stack.broker, Case::new()?);
    for (n, verb) in ["random", "clock", "file", "count"].into_iter().enumerate() {
        let (id, key, what) = (format!("m-{n}"), format!("k{n}"), json!({ "do": verb }));
        chaos::order(broker, &id, &key, &what).await?;
        let told = chaos::told_when(broker, n + 1).await?;
        let told = told.last().context("told")?;
        let stream = broker.jetstream.get_stream(chaos::ORDERS).await?;
        let stored = stream.get_raw_message(n as u64 + 1).await?;
        let stored_at = stored.time.unix_timestamp_nanos() / 1_000_000;
        let message = json!({
            "id": id, "subject": format!("chaos.{key}.do"), "headers": [["Nats-Msg-Id", id]],
            "payload": what, "stored_at": u64::try_from(stored_at)?,
        });
        case.write("m.json", &message.to_string())?;
        let mut again = Vec::new();
        for _ in 0..2 {
            let mut outcome = case.run(&programs::guest("chaos")?, &["--json"])?.json()?;
            outcome["milliseconds"] = json!(0);
            again.push(outcome);
        }
        assert_eq!(again[0], again[1], "{verb}");
        let document = stack.document("chaos", &key).await?.context("a document")?;
        assert_eq!(again[0]["documents"][0]["after"], document, "{verb}");
        assert_eq!(again[0]["messages"][0]["payload"], told.body, "{verb}");
        assert_eq!(again[0]["messages"][0]["id"], told.id, "{verb}");
    }
    host.stop().await
}
