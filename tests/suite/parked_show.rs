//! `tribox parked show`: all of a message, whatever is in it, and the case as files: the command that
//! it prints comes offline to what the host came to.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tribox_tests::chaos;
use tribox_tests::tool::{Desk, Row};
use tribox_tests::{Stack, programs, tables};

#[tokio::test]
async fn a_message_is_shown_whatever_is_in_it() -> Result<()> {
    let desk = Desk::new("show").await?;
    desk.execute(
        "INSERT INTO tribox.components (handler, version, digest) VALUES ('chaos', '1.7', 'd1')",
    )
    .await?;
    let park = async |state: &str, id: &str| {
        desk.park(&Row { handler: "chaos", key: Some("k"), state, reason: "retry", id }).await
    };
    let (first, second) = (park("retrying", "m-1").await?, park("waiting", "m-2").await?);
    let show = |row: i64| desk.run(&["parked", "show", &row.to_string()])?.ok();
    let text = show(first)?;
    for words in [
        "1.7 (d1)",
        "m-1",
        "chaos.7.do",
        "next attempt in",
        "it went wrong",
        "1 message of its key",
        "  {\n    \"do\": \"count\"\n  }",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = show(second)?;
    assert!(text.contains(&format!("waiting: row {first} is the first of its key")), "{text}");

    desk.execute("UPDATE tribox.parked SET payload = '\\x1b5d303b6869ff', error = E'\\x1b[31mred'")
        .await?;
    let text = show(first)?;
    assert!(text.contains("1b 5d 30 3b 68 69 ff") && !text.contains('\x1b'), "{text}");
    let shown = desk.json(&["parked", "show", &first.to_string()])?;
    assert_eq!(shown["message"]["payload_base64"], "G10wO2hp/w==");
    assert_eq!((&shown["build"]["version"], &shown["waiting_behind"]), (&json!("1.7"), &json!(1)));
    desk.execute("UPDATE tribox.parked SET payload = 'plain'").await?;
    assert!(show(first)?.contains("payload\n  plain\n"));
    let why = desk.run(&["parked", "show", "4711"])?.refused()?;
    assert!(why.contains("no parked message has row 4711"), "{why}");
    Ok(())
}

/// Exports the one parked message of a reason and runs the command that is printed, in the stack's
/// directory: exit code and what it prints as JSON.
async fn reproduced(stack: &Stack, reason: &str) -> Result<(i32, Value)> {
    let list = stack.tool_json(&["parked", "list", "--reason", reason])?;
    let row = list["messages"][0]["row"].as_i64().context("a row")?.to_string();
    let case = format!("case-{reason}");
    let text = stack.tool(&["parked", "show", &row, "--export", &case])?.ok()?;
    let command = text.lines().find_map(|line| line.trim().strip_prefix("tribox "));
    let command = command.with_context(|| format!("no command in {text}"))?;
    let script = format!("exec {} {command} --json", programs::tribox()?.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(stack.directory());
    // It needs no server, wherever that would be.
    shell.env("DATABASE_URL", "postgres://127.0.0.1:1/none").env("NATS_URL", "nats://127.0.0.1:1");
    let output = shell.output()?;
    let outcome = serde_json::from_slice(&output.stdout);
    let outcome = outcome.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code().context("killed")?, outcome))
}

#[tokio::test]
async fn an_exported_case_fails_offline_as_it_did() -> Result<()> {
    let mut stack = Stack::new("reproduce").await?;
    chaos::prepare(&stack).await?;
    stack.drop_in(&["items"])?;
    stack.broker.create_stream("ITEMS", &["items.>"]).await?;
    let host = stack.serve().await?;
    let broker = &stack.broker;
    for (id, what) in [
        ("m-1", json!({"do": "panic"})),
        ("m-2", json!({"do": "read-outside"})),
        ("m-3", json!({"do": "write-outside"})),
        ("m-4", json!({"do": "retry-until", "of": "nobody"})),
    ] {
        chaos::order(broker, id, &format!("key of {id}").replace(' ', "_"), &what).await?;
    }
    // It fails only because of a document that is not under its key.
    broker.publish_as("i-1", "items.create", r#"{"id": "7", "name": "lamp"}"#).await?;
    tables_handled(&stack, "i-1").await?;
    broker.publish_as("i-2", "items.create", r#"{ "id":"7", "name":"sofa" }"#).await?;
    // It cannot be routed.
    let long = format!("chaos.{}.do", "7".repeat(1_025));
    broker.publish_as("m-5", &long, "{}").await?;
    let parked = tables::parked_when(&stack.pool, 6).await?;
    for (reason, code) in [
        ("trap", 4),
        ("contract", 4),
        ("invalid-effects", 4),
        ("retry", 2),
        ("reject", 3),
        ("no-key", 4),
    ] {
        let row = parked.iter().find(|row| row.reason == reason).context(reason)?;
        let (exit, outcome) = reproduced(&stack, reason).await?;
        assert_eq!(exit, code, "{outcome:#}");
        assert_eq!(outcome["verdict"], reason);
        assert_eq!(outcome["error"], row.error, "as the host had it");
        assert_eq!(outcome["message_id"], row.message_id);
    }
    let documents = std::fs::read_to_string(stack.directory().join("case-reject/documents.json"))?;
    let documents: Value = serde_json::from_str(&documents)?;
    assert_eq!(documents[0]["key"], "7", "{documents}");
    assert_eq!(documents[0]["body"]["name"], "lamp", "{documents}");
    host.stop().await
}

async fn tables_handled(stack: &Stack, id: &str) -> Result<()> {
    tribox_tests::wait_until(&format!("{id} is handled"), async || {
        match stack.document("items", "7").await {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_case_without_its_component_is_exported_with_a_word() -> Result<()> {
    let stack = Stack::new("no-component").await?;
    let sql = "INSERT INTO tribox.parked (handler, key, state, attempts, reason, error, component,
                      inbox_key, message_id, subject, headers, payload, stored_at)
               VALUES ('gone', 'k', 'dead', 1, 'trap', '', 9, gen_random_uuid(), 'm', 's', '[]', '', 0)";
    sqlx::query(sql).execute(&stack.pool).await?;
    let text = stack.tool(&["parked", "show", "1", "--export", "it's here"])?.ok()?;
    assert!(text.contains("has the handler 'gone'"), "{text}");
    assert!(text.contains(r"--message 'it'\''s here/message.json'"), "{text}");
    let message = std::fs::read_to_string(stack.directory().join("it's here/message.json"))?;
    let message: Value = serde_json::from_str(&message)?;
    ensure!(message["payload_base64"] == "" && message["key"] == "k", "{message}");
    Ok(())
}
