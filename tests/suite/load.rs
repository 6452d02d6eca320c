//! `tribox bench`: load for a handler on servers that are there.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tribox_tests::{Stack, programs};

/// Runs it with these arguments beside the usual ones.
fn bench(stack: &Stack, arguments: &[&str]) -> Result<Output> {
    let payload = stack.directory().join("payload.json");
    std::fs::write(&payload, "{\"amount\": 1, \"reference\": \"{n}\"}\n")?;
    let mut command = Command::new(programs::tribox()?);
    command.arg("bench").arg("--config").arg(stack.write_config()?);
    command.arg("--payload").arg(payload).args(arguments);
    for name in ["DATABASE_URL", "NATS_URL"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).output().context("failed to run tribox bench")
}

#[tokio::test]
async fn a_handler_is_put_under_load_and_followed_to_the_last_message() -> Result<()> {
    let mut stack = Stack::new("load").await?;
    stack.broker.create_stream("COMMANDS", &["accounts.*.credit"]).await?;
    let events = ["accounts.events.*.*", "accounts.*.enforce-overdrawn", "accounts.*.debit"];
    stack.broker.create_stream("EVENTS", &events).await?;
    stack.drop_in(&["accounts"])?;
    let host = stack.serve().await?;
    let usual = ["--subject", "accounts.{key}.credit", "--handler", "accounts", "--json"];
    let more = ["--count", "500", "--keys", "20", "--output", "accounts.events.*.balance-changed"];
    let output = bench(&stack, &[&usual[..], &more[..]].concat())?;
    ensure!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["messages"] == 500 && said["outputs"] == 500, "{said}");
    ensure!(said["publish_to_output_ms"]["p50"].as_f64().is_some_and(|p50| p50 > 0.0), "{said}");
    // A second run is not taken for a repetition of the first.
    let output = bench(&stack, &[&usual[..], &["--count", "10", "--rate", "500"]].concat())?;
    ensure!(output.status.success(), "{output:?}");
    let sum = "SELECT sum((body->>'balance')::bigint)::bigint FROM tribox.documents";
    let sum: i64 = sqlx::query_scalar(sum).fetch_one(&stack.pool).await?;
    ensure!(sum == 510, "{sum}");
    drop(host);
    Ok(())
}

#[tokio::test]
async fn what_is_missing_is_named() -> Result<()> {
    let stack = Stack::new("no-load").await?;
    let arguments = ["--subject", "accounts.{key}.credit", "--handler", "accounts"];
    let output = bench(&stack, &arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{said}");
    ensure!(said.contains("no stream takes accounts.0.credit"), "{said}");
    stack.broker.create_stream("COMMANDS", &["accounts.*.credit"]).await?;
    let output = bench(&stack, &arguments)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("handler accounts does not read stream COMMANDS"), "{said}");
    ensure!(said.contains("tribox serve"), "{said}");
    Ok(())
}
