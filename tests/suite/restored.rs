//! Postgres restored to an earlier time: noticed at start and while a host runs, named, and mended by
//! `tribox rewind`. Afterwards the state and the streams agree, and nothing stands twice in a stream, though
//! the stream has forgotten the ids.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream;
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
