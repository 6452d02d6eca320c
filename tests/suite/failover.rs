//! Postgres fails over to its standby under load. One that has all commits goes on as after a restart;
//! one that lacks the last of them is noticed, named, and set right by `tribox rewind`.

use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream;
use tribox_tests::{FaultProxy, Stack, StackOptions, Standby};

use crate::bad_servers::port;
use crate::books::{self, COMMANDS, EVENTS};

const NOTICED: &str = "`tribox rewind accounts` sets the consumer back";

/// A stack with a standby, whose hosts reach Postgres by way of a proxy.
async fn with_standby(name: &str) -> Result<(Stack, Standby, FaultProxy)> {
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with(name, options).await?;
    books::prepare(&stack).await?;
    // The stream's memory of ids is of no help.
    let events = stack.broker.jetstream.get_stream(EVENTS).await?;
    let config = events.cached_info().config.clone();
    let duplicate_window = Duration::from_millis(100);
    stack.broker.jetstream.update_stream(stream::Config { duplicate_window, ..config }).await?;
    let front = FaultProxy::start(port(stack.database_url())).await?;
    stack.config.set("postgres.url", front.instead_of(stack.database_url()));
    stack.config.set("node.lease", "1s");
    let standby = Standby::of(&stack).await?;
    Ok((stack, standby, front))
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_standby_with_all_commits_costs_nothing() -> Result<()> {
    let (mut stack, standby, front) = with_standby("failover").await?;
    standby.synchronous(&stack).await?;
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..3_000).await?;
    stack.until_at_least("SELECT count(*) FROM tribox.inbox", 300).await?;
    standby.take_over(&mut stack, &front).await?;
    books::audit(&stack, 3_000).await?;
    books::publish(&stack, 3_000..3_100).await?;
    books::audit(&stack, 3_100).await?;
    host.ready().await?;
    assert!(!host.log().contains("tribox rewind"), "{}", host.log());
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 0);
    host.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_standby_without_the_last_commits_is_noticed_and_set_right() -> Result<()> {
    let (mut stack, standby, front) = with_standby("failover-loss").await?;
    let mut host = stack.serve().await?;
    books::publish(&stack, 0..200).await?;
    books::audit(&stack, 200).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    standby.has_all(&stack).await?;
    standby.way.refuse();
    books::publish(&stack, 200..400).await?;
    books::audit(&stack, 400).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    standby.take_over(&mut stack, &front).await?;
    host.logs(NOTICED).await?;
    assert_eq!(stack.number("SELECT count(*) FROM tribox.inbox").await?, 200);
    let done = stack.tool_json(&["rewind", "accounts"])?;
    assert_eq!(done["already_sent"], 200, "{done:#}");
    assert_eq!(done["consumers"][0]["messages"], 200, "{done:#}");
    host.ready().await?;
    books::audit(&stack, 400).await?;
    books::publish(&stack, 400..450).await?;
    books::audit(&stack, 450).await?;
    host.stop().await
}
