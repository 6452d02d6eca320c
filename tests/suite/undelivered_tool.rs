//! `tribox undelivered`: messages that no stream took, looked at, sent again, thrown away.

use anyhow::Result;
use async_nats::jetstream::stream;
use serde_json::{Value, json};
use tribox_tests::Stack;
use tribox_tests::chaos::{self, EVENTS, ORDERS};
use tribox_tests::tool::Desk;

async fn desk(name: &str) -> Result<Desk> {
    let desk = Desk::new(name).await?;
    let rows = "INSERT INTO tribox.undelivered
                       (id, handler, subject, headers, payload, reason, error, failed_at)
                VALUES ('u-1', 'chaos', 'nowhere.x', 'A: b', '{\"n\": 1}', 'no-stream', 'none', now() - interval '3 h'),
                       ('u-2', 'chaos', 'nowhere.y', '', '\\xff', 'denied', 'not allowed', now()),
                       ('u-3', 'items', 'nowhere.x', '', '', 'no-stream', 'none', now()),
                       ('u-4', 'items', 'nowhere.x.deep', '', '', 'too-large', 'large', now())";
    desk.execute(rows).await?;
    Ok(desk)
}

fn ids(list: &Value) -> Vec<&str> {
    let messages = list["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn filters_pick_messages() -> Result<()> {
    let desk = desk("undelivered_list").await?;
    for (filter, expected) in [
        (&[][..], &["u-4", "u-3", "u-2", "u-1"][..]),
        (&["--handler", "chaos"], &["u-2", "u-1"]),
        (&["--subject", "nowhere.x"], &["u-3", "u-1"]),
        (&["--subject", "nowhere.*"], &["u-3", "u-2", "u-1"]),
        (&["--subject", "*.x.>"], &["u-4"]),
        (&["--subject", "nowhere.."], &[]),
        (&["--reason", "denied"], &["u-2"]),
        (&["--id", "u-3"], &["u-3"]),
        (&["--row", "1"], &["u-1"]),
        (&["--older-than", "1h"], &["u-1"]),
        (&["--newer-than", "1h", "--handler", "chaos"], &["u-2"]),
    ] {
        let list = desk.json(&[&["undelivered", "list"], filter].concat())?;
        assert_eq!(ids(&list), expected, "{filter:?}");
    }
    let text = desk.run(&["undelivered", "list"])?.ok()?;
    assert!(text.contains("nowhere.x.deep") && text.contains("too-large"), "{text}");
    let text = desk.run(&["undelivered", "show", "1"])?.ok()?;
    assert!(text.contains("  A: b\n") && text.contains("  {\n    \"n\": 1\n  }"), "{text}");
    assert_eq!(desk.json(&["undelivered", "show", "2"])?["payload_base64"], "/w==");
    assert_eq!(desk.json(&["undelivered", "show", "1"])?["payload"], json!({"n": 1}));
    let why = desk.run(&["undelivered", "show", "99"])?.refused()?;
    assert!(why.contains("row 99"), "{why}");
    Ok(())
}

#[tokio::test]
async fn what_is_retried_is_due_and_what_is_thrown_away_is_recorded() -> Result<()> {
    let desk = desk("undelivered_change").await?;
    let due = "SELECT count(*) FROM tribox.undelivered WHERE retry_at <= now()";
    for command in ["retry", "discard"] {
        assert!(desk.run(&["undelivered", command])?.refused()?.contains("--all"));
        let said = desk.run(&["undelivered", command, "--all", "--dry-run"])?.ok()?;
        assert!(said.contains(&format!("would {command} 4 messages")), "{said}");
    }
    assert!(desk.run(&["undelivered", "discard", "--all"])?.refused()?.contains("--yes"));
    assert_eq!(desk.number(due).await?, 0);
    assert_eq!(desk.json(&["undelivered", "retry", "--subject", "nowhere.x"])?["retried"], 2);
    assert_eq!(desk.number(due).await?, 2);
    // What stands in a log again will be sent: it cannot be thrown away any more.
    desk.execute("UPDATE tribox.undelivered SET resent_by = 1, resent_seq = 7 WHERE id = 'u-4'")
        .await?;
    let said = desk.run(&["undelivered", "discard", "--id", "u-4", "--yes"])?.ok()?;
    assert!(said.contains("discarded 0 messages") && said.contains("on their way"), "{said}");
    assert!(desk.run(&["undelivered", "list"])?.ok()?.contains("on its way"));
    let done = desk.json(&["undelivered", "discard", "--handler", "chaos", "--yes"])?;
    assert_eq!(done["discarded"], 2);
    assert_eq!(ids(&desk.json(&["undelivered", "list"])?), ["u-4", "u-3"]);
    let recorded = "SELECT count(*) FROM tribox.discarded
                     WHERE origin = 'undelivered' AND discarded_by LIKE 'somebody@_%'
                       AND message_id IN ('u-1', 'u-2') AND handler = 'chaos'
                       AND (message_id <> 'u-1' OR headers = 'A: b' AND payload = '{\"n\": 1}')";
    assert_eq!(desk.number(recorded).await?, 2);
    let none = desk.run(&["undelivered", "retry", "--handler", "nobody"])?.ok()?;
    assert_eq!(none, "nothing undelivered matches\n");
    Ok(())
}

#[tokio::test]
async fn thousands_go_in_batches() -> Result<()> {
    let desk = Desk::new("undelivered_thousands").await?;
    let rows =
        "INSERT INTO tribox.undelivered (id, handler, subject, headers, payload, reason, error)
                SELECT 'u-' || n, 'chaos', 'nowhere.x', '', '', 'no-stream', ''
                  FROM generate_series(1, 3500) AS n";
    desk.execute(rows).await?;
    assert_eq!(desk.json(&["undelivered", "retry", "--all"])?["retried"], 3_500);
    let due = "SELECT count(*) FROM tribox.undelivered WHERE retry_at <= now()";
    assert_eq!(desk.number(due).await?, 3_500);
    assert_eq!(desk.json(&["undelivered", "discard", "--all", "--yes"])?["discarded"], 3_500);
    assert_eq!(desk.run(&["undelivered", "list"])?.ok()?, "nothing is undelivered\n");
    Ok(())
}

/// What is too large is sent again when it is asked for alone.
#[tokio::test]
async fn a_running_host_sends_what_is_retried() -> Result<()> {
    let mut stack = Stack::new("undelivered").await?;
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(ORDERS, &["chaos.*.do"]).await?;
    let mut small = stream::Config {
        name: EVENTS.to_owned(),
        subjects: vec!["chaos.events.*.*".to_owned()],
        max_message_size: 1_000,
        ..Default::default()
    };
    stack.broker.create_stream_with(small.clone()).await?;
    let host = stack.serve().await?;
    let huge = json!({"do": "huge-message", "bytes": 5_000});
    // One after the other: their order is that in which they were set aside.
    for (id, key, count) in [("m-1", "k", 1), ("m-2", "k", 2), ("m-3", "l", 3)] {
        chaos::order(&stack.broker, id, key, &huge).await?;
        stack.until("SELECT count(*) FROM tribox.undelivered", count).await?;
    }
    let counts = stack.tool_json(&["undelivered", "list"])?;
    assert_eq!(counts["counts"][0]["reason"], "too-large");
    small.max_message_size = 10_000;
    stack.broker.jetstream.update_stream(small).await?;
    let retried = stack.tool_json(&["undelivered", "retry", "--subject", "chaos.events.k.*"])?;
    assert_eq!(retried["retried"], 2);
    let events = stack.broker.read_when(EVENTS, 2).await?;
    let subjects: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    assert!(subjects.iter().all(|subject| subject.starts_with("chaos.events.k.")), "{subjects:?}");
    let ids = "SELECT translate(tribox.inbox_key('chaos', id)::text, '-', '') || '-0'
                 FROM (VALUES ('m-1'), ('m-2')) AS m (id)";
    let ids: Vec<String> = sqlx::query_scalar(ids).fetch_all(&stack.pool).await?;
    let sent: Vec<&str> = events.iter().filter_map(|event| event.id.as_deref()).collect();
    assert_eq!(sent, ids, "under their ids, in their order");
    stack.until("SELECT count(*) FROM tribox.undelivered", 1).await?;
    assert_eq!(stack.tool_json(&["undelivered", "discard", "--all", "--yes"])?["discarded"], 1);
    host.stop().await
}
