//! `tribox scheduled`: delayed messages, looked at and taken back.

use anyhow::Result;
use serde_json::{Value, json};
use tribox_tests::Stack;
use tribox_tests::tool::Desk;

async fn desk(name: &str) -> Result<Desk> {
    let desk = Desk::new(name).await?;
    let rows = "INSERT INTO tribox.scheduled
                       (id, due_at, expires_after, handler, name, subject, headers, payload)
                VALUES ('s-1', now() + interval '1 h', 500, 'chaos', 'tea', 'a.x', 'A: b', '{\"n\": 1}'),
                       ('s-2', now() + interval '2 h', NULL, 'chaos', NULL, 'a.y', '', '\\xff'),
                       ('s-3', now() + interval '9 years', NULL, 'items', 'tea', 'a.x.deep', '', '')";
    desk.execute(rows).await?;
    Ok(desk)
}

fn ids(list: &Value) -> Vec<&str> {
    let messages = list["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn filters_pick_messages() -> Result<()> {
    let desk = desk("scheduled_list").await?;
    for (filter, expected) in [
        (&[][..], &["s-1", "s-2", "s-3"][..]),
        (&["--handler", "chaos"], &["s-1", "s-2"]),
        (&["--name", "tea"], &["s-1", "s-3"]),
        (&["--name", "tea", "--handler", "items"], &["s-3"]),
        (&["--subject", "a.*"], &["s-1", "s-2"]),
        (&["--subject", "a.>"], &["s-1", "s-2", "s-3"]),
        (&["--id", "s-2"], &["s-2"]),
        (&["--due-before", "90m"], &["s-1"]),
        (&["--due-before", "2020-01-01T00:00:00Z"], &[]),
        (&["--due-before", "2999-01-01 00:00:00"], &["s-1", "s-2", "s-3"]),
        (&["--limit", "1"], &["s-1"]),
    ] {
        let list = desk.json(&[&["scheduled", "list"], filter].concat())?;
        assert_eq!(ids(&list), expected, "{filter:?}");
    }
    let list = desk.json(&["scheduled", "list"])?;
    let (first, second) = (&list["messages"][0], &list["messages"][1]);
    assert_eq!((&first["payload"], &first["headers"]), (&json!({"n": 1}), &json!(["A: b"])));
    assert_eq!(
        (&first["expires_after_ms"], &second["payload_base64"]),
        (&json!(500), &json!("/w=="))
    );
    let text = desk.run(&["scheduled", "list"])?.ok()?;
    assert!(text.contains("in 59 min") && text.contains("tea"), "{text}");
    assert_eq!(desk.run(&["scheduled", "list", "--due-before", "soon"])?.code, Some(2));
    Ok(())
}

#[tokio::test]
async fn what_is_cancelled_is_recorded() -> Result<()> {
    let desk = desk("scheduled_cancel").await?;
    assert!(desk.run(&["scheduled", "cancel"])?.refused()?.contains("--all"));
    let why = desk.run(&["scheduled", "cancel", "--name", "tea"])?.refused()?;
    assert!(why.contains("2 messages would not be sent") && why.contains("--yes"), "{why}");
    let said = desk.run(&["scheduled", "cancel", "--name", "tea", "--dry-run"])?.ok()?;
    assert!(said.contains("would cancel 2 messages"), "{said}");
    assert_eq!(desk.number("SELECT count(*) FROM tribox.scheduled").await?, 3);
    assert_eq!(desk.json(&["scheduled", "cancel", "--name", "tea", "--yes"])?["cancelled"], 2);
    assert_eq!(ids(&desk.json(&["scheduled", "list"])?), ["s-2"]);
    let recorded = "SELECT count(*) FROM tribox.discarded
                     WHERE origin = 'scheduled' AND discarded_by LIKE 'somebody@_%'
                       AND message_id IN ('s-1', 's-3') AND reason = 'cancelled'
                       AND error LIKE 'it was due at 2%Z, as tea'";
    assert_eq!(desk.number(recorded).await?, 2);
    let none = desk.run(&["scheduled", "cancel", "--name", "tea", "--yes"])?.ok()?;
    assert_eq!(none, "nothing that is scheduled matches\n");
    let more = "INSERT INTO tribox.scheduled (id, due_at, handler, subject, headers, payload)
                SELECT 'm-' || n, now() + interval '1 h', 'chaos', 'a.x', '', ''
                  FROM generate_series(1, 3500) AS n";
    desk.execute(more).await?;
    assert_eq!(desk.json(&["scheduled", "cancel", "--all", "--yes"])?["cancelled"], 3_501);
    assert_eq!(desk.run(&["scheduled", "list"])?.ok()?, "nothing is scheduled\n");
    Ok(())
}

#[tokio::test]
async fn a_running_host_does_not_send_what_was_cancelled() -> Result<()> {
    let mut stack = Stack::new("cancel").await?;
    stack.broker.create_stream("A", &["a.>"]).await?;
    let host = stack.serve().await?;
    let rows = "INSERT INTO tribox.scheduled (id, due_at, handler, subject, headers, payload)
                VALUES ('s-1', now() + interval '4 s', 'by-hand', 'a.x', '', ''),
                       ('s-2', now() + interval '5 s', 'by-hand', 'a.y', '', '')";
    sqlx::query(rows).execute(&stack.pool).await?;
    let cancelled = stack.tool_json(&["scheduled", "cancel", "--subject", "a.x", "--yes"])?;
    assert_eq!(cancelled["cancelled"], 1);
    let sent = stack.broker.read_when("A", 1).await?;
    assert_eq!(sent[0].subject, "a.y", "the one that is due later");
    assert_eq!(stack.broker.count("A").await?, 1);
    host.stop().await
}
