//! Others talk with tribox without knowing of it: a client in another language publishes and
//! consumes, and people look at the state with psql.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tribox_tests::{Stack, programs, tables};

/// What tests/interop/client.py printed.
async fn client(stack: &Stack, arguments: &[&str]) -> Result<Vec<Value>> {
    let script = programs::repository().join("tests/interop/client.py");
    let output = Command::new(programs::python())
        .arg(script)
        .arg(stack.nats_url())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run the Python that scripts/setup.sh makes")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "client.py {arguments:?}: {lines}\n{said}");
    lines.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

async fn psql(stack: &Stack, sql: &str) -> Result<String> {
    let output = Command::new(programs::psql()?)
        .args(["--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .arg(stack.database_url())
        .kill_on_drop(true)
        .output()
        .await
        .context("failed to run psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[tokio::test]
async fn another_client_publishes_and_consumes_and_psql_reads_the_state() -> Result<()> {
    let mut stack = Stack::new("interop").await?;
    stack.drop_in(&["accounts"])?;
    let commands = ["accounts.*.debit", "accounts.*.credit", "accounts.*.enforce-overdrawn"];
    stack.broker.create_stream("COMMANDS", &commands).await?;
    stack.broker.create_stream("EVENTS", &["accounts.events.*.*"]).await?;
    let host = stack.serve().await?;

    let acks = client(&stack, &["publish"]).await?;
    let duplicates: Vec<bool> = acks.iter().map(|ack| ack["duplicate"] == true).collect();
    assert_eq!(duplicates, [false, true, false, false, false, false, false, false]);

    let events = client(&stack, &["consume", "5"]).await?;
    let mut seen = Vec::new();
    for event in &events {
        let id = event["headers"]["Nats-Msg-Id"].as_str().context("no id")?;
        assert_eq!(id.len(), 34, "{id}");
        seen.push((
            event["subject"].as_str().context("subject")?,
            event["body"]["balance"].clone(),
        ));
    }
    let of_seven: Vec<_> = seen.iter().filter(|(subject, _)| subject.contains(".7.")).collect();
    let changed = "accounts.events.7.balance-changed";
    let expected = [500, 490, 480, 380].map(|balance| (changed, json!(balance)));
    assert_eq!(of_seven, expected.iter().collect::<Vec<_>>());
    assert!(seen.contains(&("accounts.events.8.balance-changed", json!(1))), "{seen:?}");

    // The one that cannot be read is the last of the seven; it is kept byte for byte.
    tables::parked_when(&stack.pool, 1).await?;
    let sql = "SELECT reason, encode(payload, 'hex') FROM tribox.parked";
    let bytes: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(psql(&stack, sql).await?, format!("reject|{bytes}"));

    let sql = "SELECT key, body->>'balance', body->'changes' \
               FROM tribox_state.accounts ORDER BY key";
    assert_eq!(psql(&stack, sql).await?, "7|380|4\n8|1|1");
    let sql = "SELECT count(*) FROM tribox.inbox \
               WHERE key = tribox.inbox_key('accounts', 'shop#42')";
    assert_eq!(psql(&stack, sql).await?, "1", "the CloudEvent, under its own id");
    host.stop().await
}
