//! Postgres restored to an earlier time: noticed at start and while a host runs, named, and mended by
//! `tribox rewind`. Afterwards the state and the streams agree, and nothing stands twice in a stream, though
//! the stream has forgotten the ids.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::{consumer, stream};
use futures_util::StreamExt;
use serde_json::json;
use tribox_tests::{Stack, StackOptions, backup};

use crate::books::{self, COMMANDS, EVENTS};

async fn own_postgres(name: &str) -> Result<Stack> {
    own_postgres_with(name, Vec::new()).await
}

async fn own_postgres_with(name: &str, settings: Vec<(String, String)>) -> Result<Stack> {
    let options =
        StackOptions { own_postgres: true, postgres: settings, ..StackOptions::default() };
    let stack = Stack::with(name, options).await?;
    books::prepare(&stack).await?;
    let events = stack.broker.jetstream.get_stream(EVENTS).await?;
    let config = events.cached_info().config.clone();
    let duplicate_window = Duration::from_millis(100);
    stack.broker.jetstream.update_stream(stream::Config { duplicate_window, ..config }).await?;
    Ok(stack)
}

/// Sets it back, and holds what the command says.
fn rewind(stack: &Stack) -> Result<()> {
    let expected = json!({
        "handler": "accounts", "dry_run": false, "already_sent": 200,
        "consumers": [{"stream": COMMANDS, "to": 201, "was_at": 400, "messages": 200}],
    });
    assert_eq!(stack.tool_json(&["rewind", "accounts"])?, expected);
    Ok(())
}

#[tokio::test]
async fn it_is_noticed_at_start_and_set_right() -> Result<()> {
    let mut stack = own_postgres("restored-start").await?;
    let host = stack.serve().await?;
    books::publish(&stack, 0..200).await?;
    books::audit(&stack, 200).await?;
    host.stop().await?;
    stack.save_database().await?;
    let host = stack.serve().await?;
    books::publish(&stack, 200..400).await?;
    books::audit(&stack, 400).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    host.stop().await?;
    stack.restore_database().await?;

    let mut host = stack.spawn()?;
    host.logs("`tribox rewind accounts` sets the consumer back").await?;
    let text = stack.tool(&["rewind", "accounts", "--dry-run"])?.ok()?;
    assert!(text.contains("would be set back from 400 to before 201: 200 messages"), "{text}");
    assert_eq!(stack.number("SELECT count(*) FROM tribox.inbox").await?, 200);
    rewind(&stack)?;
    host.ready().await?;
    books::audit(&stack, 400).await?;
    books::publish(&stack, 400..450).await?;
    books::audit(&stack, 450).await?;
    let text = stack.tool(&["rewind", "accounts"])?.ok()?;
    assert!(text.contains("nothing is to be set back"), "{text}");
    host.stop().await
}

#[tokio::test]
async fn it_is_noticed_while_a_host_runs() -> Result<()> {
    let mut stack = own_postgres("restored-running").await?;
    stack.config.set("node.lease", "1s");
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..200).await?;
    books::audit(&stack, 200).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    stack.save_database().await?;
    books::publish(&stack, 200..400).await?;
    books::audit(&stack, 400).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    stack.restore_database().await?;
    host.logs("begins anew").await?;
    host.logs("`tribox rewind accounts` sets the consumer back").await?;
    rewind(&stack)?;
    host.ready().await?;
    books::audit(&stack, 400).await?;
    books::publish(&stack, 400..450).await?;
    books::audit(&stack, 450).await?;
    host.stop().await
}

/// With a base backup and archived WAL, to a point in time, as it is done after a disaster.
#[tokio::test]
async fn a_point_in_time_is_gone_back_to() -> Result<()> {
    let mut stack = own_postgres_with("restored-point", backup::archiving()).await?;
    stack.config.set("node.lease", "1s");
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..100).await?;
    books::audit(&stack, 100).await?;
    stack.base_backup()?;
    books::publish(&stack, 100..200).await?;
    books::audit(&stack, 200).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    stack.restore_point("before").await?;
    books::publish(&stack, 200..400).await?;
    books::audit(&stack, 400).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    stack.restore_to("before").await?;
    host.logs("`tribox rewind accounts` sets the consumer back").await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.inbox").await?, 200);
    rewind(&stack)?;
    host.ready().await?;
    books::audit(&stack, 400).await?;
    books::publish(&stack, 400..450).await?;
    books::audit(&stack, 450).await?;
    host.stop().await
}

#[tokio::test]
async fn a_postgres_that_was_merely_started_again_is_no_alarm() -> Result<()> {
    let mut stack = own_postgres("restored-not").await?;
    stack.config.set("node.lease", "1s");
    let host = stack.serve().await?;
    books::publish(&stack, 0..300).await?;
    books::audit(&stack, 300).await?;
    if let Some(postgres) = &mut stack.postgres {
        postgres.stop().await?;
        postgres.start_again().await?;
    }
    host.logs("looking whether it was restored").await?;
    books::publish(&stack, 300..600).await?;
    books::audit(&stack, 600).await?;
    assert!(!host.log().contains("begins anew"));
    host.stop().await
}

/// A work queue removes what was acknowledged and lets nobody else read it: there is nothing to compare.
#[tokio::test]
async fn a_work_queue_is_left_unread() -> Result<()> {
    let mut stack = Stack::new("restored-queue").await?;
    books::prepare(&stack).await?;
    stack.broker.jetstream.delete_stream(COMMANDS).await?;
    let queue = stream::Config {
        name: COMMANDS.to_owned(),
        subjects: ["credit", "debit", "enforce-overdrawn"]
            .map(|v| format!("accounts.*.{v}"))
            .to_vec(),
        retention: stream::RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    stack.broker.create_stream_with(queue).await?;
    for first in [0, 50] {
        let host = stack.serve().await?;
        books::publish(&stack, first..first + 50).await?;
        books::audit(&stack, first + 50).await?;
        stack.broker.settled(COMMANDS, "accounts").await?;
        assert!(!host.log().contains("is not known"), "{}", host.log());
        host.stop().await?;
    }
    let text = stack.tool(&["rewind", "accounts"])?.ok()?;
    assert!(text.contains("nothing is to be set back"), "{text}");
    let counts = stack.tool_json(&["relay", "--missing"])?;
    assert_eq!(counts["streams"][EVENTS]["missing"], 0, "{counts:#}");
    Ok(())
}

/// Delayed and parked messages of the restored database were sent after it was saved.
#[tokio::test]
async fn what_the_database_has_still_before_it_is_not_sent_again() -> Result<()> {
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("restored-before", options).await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.retry.backoff", "200ms");
    stack.config.set("handlers.chaos.retry.cap", "200ms");
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    let events = stream::Config {
        name: EVENTS.to_owned(),
        subjects: vec!["chaos.events.*.*".to_owned()],
        duplicate_window: Duration::from_millis(100),
        ..stream::Config::default()
    };
    stack.broker.create_stream_with(events).await?;
    let order = |n: u32, key: &str, body: serde_json::Value| {
        (format!("order-{n}"), format!("chaos.{key}.do"), body.to_string())
    };
    let host = stack.serve().await?;
    let delayed = order(1, "d", json!({"do": "delay", "ms": 4_000}));
    let parked = order(2, "p", json!({"do": "retry-until", "of": "r"}));
    stack.broker.publish_all([delayed, parked]).await?;
    stack.until("SELECT count(*) FROM tribox.scheduled", 1).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 1).await?;
    host.stop().await?;
    stack.save_database().await?;
    let host = stack.serve().await?;
    stack.broker.publish_all([order(3, "r", json!({"do": "ready"}))]).await?;
    stack.broker.read_when(EVENTS, 3).await?;
    stack.broker.settled(COMMANDS, "chaos").await?;
    host.stop().await?;
    stack.restore_database().await?;

    assert_eq!(stack.number("SELECT count(*) FROM tribox.scheduled").await?, 1);
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 1);
    let done = stack.tool_json(&["rewind", "chaos"])?;
    assert_eq!(done["already_sent"], 3, "{done:#}");
    let host = stack.serve().await?;
    stack.until("SELECT count(*) FROM tribox.scheduled", 0).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    stack.broker.publish_all([order(4, "r", json!({"do": "ok"}))]).await?;
    let mut sent: Vec<String> =
        stack.broker.read_when(EVENTS, 4).await?.into_iter().map(|event| event.subject).collect();
    sent.sort();
    let of = |event: &str| format!("chaos.events.{event}");
    assert_eq!(sent, ["d.delay", "p.done", "r.ok", "r.ready"].map(of));
    host.stop().await
}

/// Without keys messages are acknowledged in no order: behind one that somebody still has in hand.
#[tokio::test]
async fn what_was_acknowledged_behind_one_in_hand_comes_again() -> Result<()> {
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("restored-hand", options).await?;
    stack.drop_in(&["bare"])?;
    stack.broker.create_stream("CREATE", &["bare.create"]).await?;
    stack.broker.create_stream("CREATED", &["bare.created"]).await?;
    let create = |n: u32| {
        let body = json!({"name": n.to_string()}).to_string();
        (format!("create-{n}"), "bare.create".to_owned(), body)
    };
    let host = stack.serve().await?;
    stack.broker.publish_all((1..=10).map(create)).await?;
    stack.handled(10).await?;
    stack.broker.settled("CREATE", "bare").await?;
    host.stop().await?;
    stack.save_database().await?;
    stack.broker.publish_all([create(11)]).await?;
    let stream = stack.broker.jetstream.get_stream("CREATE").await?;
    let consumer: consumer::PullConsumer =
        stream.get_consumer("tribox-bare").await.map_err(anyhow::Error::msg)?;
    let mut some = consumer.fetch().max_messages(1).messages().await?;
    let in_hand = some.next().await.context("a message")?.map_err(anyhow::Error::msg)?;
    let host = stack.serve().await?;
    stack.broker.publish_all((12..=20).map(create)).await?;
    stack.handled(19).await?;
    host.stop().await?;
    drop(in_hand);
    stack.restore_database().await?;

    let done = stack.tool_json(&["rewind", "bare"])?;
    assert_eq!(done["consumers"][0]["to"], 11, "{done:#}");
    let host = stack.serve().await?;
    stack.handled(20).await?;
    let created = stack.broker.read_when("CREATED", 20).await?;
    let ids: HashSet<_> = created.iter().map(|event| &event.id).collect();
    assert_eq!((created.len(), ids.len()), (20, 20));
    host.stop().await
}
