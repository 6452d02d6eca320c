//! A message that comes more than once changes the state once and is told once, however and whenever
//! its copies come.

use std::path::Path;

use anyhow::Result;
use async_nats::HeaderMap;
use async_nats::jetstream::stream;
use serde_json::json;
use tribox_tests::{Stack, wait_within};

use crate::books::{self, COMMANDS, EVENTS};

on_each_nats_server!(
    copies_before_one_turn_are_one_message,
    a_copy_that_comes_later_does_nothing,
    ids_come_from_each_source,
    what_was_in_hand_at_a_kill_is_handled_once_and_in_order,
    a_stream_that_lost_its_end_gives_sequences_anew,
);

const CREDIT: &str = r#"{"amount": 5}"#;

/// A stack whose commands may be stored more than once: JetStream forgets ids as fast as it can.
async fn forgetful(nats: &Path, name: &str) -> Result<Stack> {
    let stack = Stack::on(nats, name).await?;
    stack.drop_in(&["accounts"])?;
    let commands = stream::Config {
        name: COMMANDS.to_owned(),
        subjects: vec!["accounts.*.*".to_owned()],
        duplicate_window: std::time::Duration::from_millis(100),
        ..Default::default()
    };
    stack.broker.create_stream_with(commands).await?;
    stack.broker.create_stream(EVENTS, &["accounts.events.*.*"]).await?;
    Ok(stack)
}

async fn copies_before_one_turn_are_one_message(nats: &Path) -> Result<()> {
    let mut stack = forgetful(nats, "at-once").await?;
    for n in 0..3 {
        stack.broker.publish_copy("copied", "accounts.7.credit", CREDIT).await?;
        stack.broker.publish_as(&format!("single-{n}"), "accounts.7.credit", CREDIT).await?;
    }
    // All of them are there when the first turn begins.
    let host = stack.serve().await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.inbox").await?, 4);
    let document = stack.document("accounts", "7").await?;
    assert_eq!(document, Some(json!({"balance": 20, "changes": 4})));
    let events = stack.broker.read_when(EVENTS, 4).await?;
    let told: Vec<_> = events.iter().map(|event| event.json()["sequence"].clone()).collect();
    assert_eq!(told, [1, 2, 3, 4]);
    let duplicates = host.metric("tribox_duplicates_total{handler=\"accounts\"}").await?;
    assert_eq!(duplicates as u64, 2);
    host.stop().await
}

async fn a_copy_that_comes_later_does_nothing(nats: &Path) -> Result<()> {
    let mut stack = forgetful(nats, "later").await?;
    let host = stack.serve().await?;
    stack.broker.publish_as("copied", "accounts.7.credit", CREDIT).await?;
    stack.handled(1).await?;
    stack.broker.publish_copy("copied", "accounts.7.credit", CREDIT).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    host.stop().await?;

    stack.broker.publish_copy("copied", "accounts.7.credit", CREDIT).await?;
    // Another payload and another account under the same id: still the same message.
    stack.broker.publish_copy("copied", "accounts.8.credit", r#"{"amount": 9}"#).await?;
    let host = stack.serve().await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    stack.broker.publish_as("another", "accounts.7.credit", CREDIT).await?;
    stack.handled(2).await?;
    let document = stack.document("accounts", "7").await?;
    assert_eq!(document, Some(json!({"balance": 10, "changes": 2})));
    assert_eq!(stack.document("accounts", "8").await?, None);
    assert_eq!(stack.broker.read_when(EVENTS, 2).await?.len(), 2);
    host.stop().await
}

async fn ids_come_from_each_source(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "sources").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    let cloud_event = |source: &str, id: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("ce-source", source);
        headers.insert("ce-id", id);
        headers
    };
    let credit = "accounts.7.credit";
    // JetStream stores both: it knows nothing of CloudEvents.
    for _ in 0..2 {
        stack.broker.publish_with(cloud_event("/shop", "7"), credit, CREDIT).await?;
    }
    stack.broker.publish_with(cloud_event("/office", "7"), credit, CREDIT).await?;
    // JetStream's own id goes before.
    let mut both = cloud_event("/shop", "7");
    both.insert("Nats-Msg-Id", "m-1");
    stack.broker.publish_with(both, credit, CREDIT).await?;
    // Without any id each message in the stream is one of its own.
    for _ in 0..2 {
        stack.broker.publish(credit, CREDIT).await?;
    }
    stack.broker.settled(COMMANDS, "accounts").await?;
    let document = stack.document("accounts", "7").await?;
    assert_eq!(document, Some(json!({"balance": 25, "changes": 5})));
    assert_eq!(stack.broker.read_when(EVENTS, 5).await?.len(), 5);
    let mut ids = ["/shop#7", "/office#7", "m-1"].map(str::to_owned).to_vec();
    let commands = stack.broker.jetstream.get_stream(COMMANDS).await?;
    for sequence in [5, 6] {
        let stored_at = commands.get_raw_message(sequence).await?.time;
        let stored_at = stored_at.unix_timestamp_nanos() / 1_000_000;
        ids.push(format!("{COMMANDS}:{sequence}:{stored_at}"));
    }
    let sql = "SELECT count(*) FROM tribox.inbox
                WHERE key IN (SELECT tribox.inbox_key('accounts', id) FROM unnest($1) AS id)";
    let known: i64 = sqlx::query_scalar(sql).bind(ids).fetch_one(&stack.pool).await?;
    assert_eq!(known, 5);
    host.stop().await
}

/// Well before JetStream would deliver again by itself, after 30 seconds, and without later messages
/// of an account going ahead.
async fn what_was_in_hand_at_a_kill_is_handled_once_and_in_order(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "killed").await?;
    books::prepare(&stack).await?;
    books::publish(&stack, 0..3_000).await?;
    let mut host = stack.serve().await?;
    stack.until_at_least("SELECT count(*) FROM tribox.inbox", 200).await?;
    host.kill()?;
    let host = stack.serve().await?;
    let patience = std::time::Duration::from_secs(25);
    wait_within(patience, "all are handled", async || {
        match stack.number("SELECT count(*) FROM tribox.inbox").await {
            Ok(3_000) => Ok(()),
            Ok(count) => Err(format!("{count} are")),
            Err(e) => Err(format!("{e:#}")),
        }
    })
    .await?;
    books::audit(&stack, 3_000).await?;
    host.stop().await
}

/// As after a power failure, or when a stream is restored from a backup: what is published then comes
/// under sequences that were handled before. It is new all the same.
async fn a_stream_that_lost_its_end_gives_sequences_anew(nats: &Path) -> Result<()> {
    let mut stack = Stack::on(nats, "lost-end").await?;
    books::prepare(&stack).await?;
    for meanwhile_published in [0, 40] {
        let host = stack.serve().await?;
        let handled = stack.number("SELECT count(*) FROM tribox.inbox").await?;
        let base = stack.number("SELECT count(*) * 10 FROM tribox.inbox").await?;
        stack.broker.publish(CREDITED, CREDIT).await?;
        stack.handled(handled + 1).await?;
        stack.broker.settled(COMMANDS, "accounts").await?;
        stack.save_streams().await?;
        for n in 0..30 {
            stack.broker.publish_as(&format!("old-{base}-{n}"), CREDITED, CREDIT).await?;
        }
        stack.handled(handled + 31).await?;
        stack.broker.settled(COMMANDS, "accounts").await?;

        // The host meets it while it runs, or the next one does, with more in the stream than before.
        if meanwhile_published > 0 {
            host.terminate()?;
        }
        stack.restore_streams().await?;
        for n in 0..meanwhile_published {
            stack.broker.publish_as(&format!("new-{base}-{n}"), CREDITED, CREDIT).await?;
        }
        stack.broker.publish(CREDITED, CREDIT).await?;
        let host = if meanwhile_published > 0 { stack.serve().await? } else { host };
        stack.handled(handled + 32 + meanwhile_published).await?;
        stack.broker.settled(COMMANDS, "accounts").await?;
        let credited = stack.document("accounts", "lost").await?;
        let changes = handled + 32 + meanwhile_published;
        assert_eq!(credited, Some(json!({"balance": changes * 5, "changes": changes})));
        host.stop().await?;
    }
    Ok(())
}

const CREDITED: &str = "accounts.lost.credit";
