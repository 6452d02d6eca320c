//! The end of a host: in order, by force, and because another one has taken its name.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tribox_tests::{Stack, wait_within};

use crate::books::{self, COMMANDS, EVENTS};

const HANDLED: &str = "SELECT count(*) FROM tribox.inbox";

#[tokio::test]
async fn a_host_that_is_asked_to_stop_leaves_nothing_half_done() -> Result<()> {
    let mut stack = Stack::new("sigterm").await?;
    books::prepare(&stack).await?;
    books::publish(&stack, 0..20_000).await?;
    let host = stack.serve().await?;
    stack.until_at_least(HANDLED, 300).await?;
    // `stop` asks for exit code 0.
    host.stop().await?;
    let handled = stack.number(HANDLED).await?;
    assert!(handled < 20_000, "it was to be stopped on its way");
    let committed = "SELECT count(*) FROM tribox.outbox";
    assert_eq!(stack.number(committed).await?, handled);
    let unpublished = "SELECT count(*) FROM tribox.outbox o
        JOIN tribox.writers w ON w.id = o.writer WHERE o.seq > w.published";
    assert_eq!(stack.number(unpublished).await?, 0, "what was committed is published");
    assert_eq!(i64::try_from(stack.broker.count(EVENTS).await?)?, handled);

    let host = stack.serve().await?;
    books::audit(&stack, 20_000).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    let received = host.metric("tribox_received_total{handler=\"accounts\"}").await?;
    assert_eq!(received as i64, 20_000 - handled, "nothing that was handled comes again");
    let again = host.metric("tribox_duplicates_total{handler=\"accounts\"}").await?;
    assert_eq!(again as i64, 0);
    host.stop().await
}

/// Without keys nothing sets the consumer back: what was delivered and not handled must be given back
/// by the host that stops, or it would lie until JetStream delivers it again after 30 seconds.
#[tokio::test]
async fn messages_without_a_key_do_not_wait_for_a_host_that_stopped() -> Result<()> {
    let mut stack = Stack::new("keyless-stop").await?;
    stack.drop_in(&["items"])?;
    stack.broker.create_stream(COMMANDS, &["items.create"]).await?;
    stack.broker.create_stream(EVENTS, &["items.created"]).await?;
    let item = |n: u32| {
        let body = json!({"name": format!("item {n}")}).to_string();
        (format!("item-{n}"), "items.create".to_owned(), body)
    };
    stack.broker.publish_all((0..3_000).map(item)).await?;
    stack.config.set("handlers.items.turn", 64);
    let host = stack.serve().await?;
    stack.until_at_least(HANDLED, 100).await?;
    host.stop().await?;
    let handled = stack.number(HANDLED).await?;
    assert!(handled < 3_000, "it was to be stopped on its way");
    let host = stack.serve().await?;
    wait_within(Duration::from_secs(25), "all are handled", async || {
        match stack.number(HANDLED).await {
            Ok(3_000) => Ok(()),
            Ok(count) => Err(format!("{count} are")),
            Err(e) => Err(format!("{e:#}")),
        }
    })
    .await?;
    assert_eq!(stack.broker.read_when(EVENTS, 3_000).await?.len(), 3_000);
    let again = host.metric("tribox_duplicates_total{handler=\"items\"}").await?;
    assert_eq!(again as i64, 0, "nothing that was handled comes again");
    host.stop().await
}

#[tokio::test]
async fn a_host_that_is_killed_again_and_again_loses_nothing() -> Result<()> {
    let mut stack = Stack::new("sigkill").await?;
    books::prepare(&stack).await?;
    books::publish(&stack, 0..5_000).await?;
    for least in [200, 800, 1_600, 2_400] {
        let mut host = stack.serve().await?;
        stack.until_at_least(HANDLED, least).await?;
        host.kill()?;
    }
    let host = stack.serve().await?;
    books::audit(&stack, 5_000).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    host.stop().await
}

#[tokio::test]
async fn a_host_that_cannot_publish_stops_within_its_grace() -> Result<()> {
    let mut stack = Stack::new("grace").await?;
    stack.config.set("shutdown.grace", "500ms");
    books::prepare(&stack).await?;
    books::close_events(&stack).await?;
    let host = stack.serve().await?;
    books::publish(&stack, 0..100).await?;
    stack.handled(100).await?;
    host.stop().await?;
    assert_eq!(stack.broker.count(EVENTS).await?, 0);
    books::open_events(&stack).await?;
    let host = stack.serve().await?;
    books::audit(&stack, 100).await?;
    host.stop().await
}

#[tokio::test]
async fn the_first_of_two_hosts_of_one_name_is_fenced_out() -> Result<()> {
    let mut stack = Stack::new("two").await?;
    stack.config.set("node.name", "the-one");
    books::prepare(&stack).await?;
    let mut first = stack.serve().await?;
    books::publish(&stack, 0..2_000).await?;
    stack.until_at_least(HANDLED, 100).await?;
    // Frozen in the middle of its work: it finds out when it goes on.
    first.freeze()?;
    let second = stack.serve().await?;
    let epoch = "SELECT epoch FROM tribox.nodes WHERE name = 'the-one'";
    assert_eq!(stack.number(epoch).await?, 2);
    first.thaw()?;
    let status = first.exit().await?;
    assert_eq!(status.code(), Some(1));
    let log = first.log();
    let last = log.lines().last().unwrap_or_default();
    let holder = format!("process {}", second.pid());
    for part in ["tribox: ", "'the-one'", "taken over by", &holder, "[node] name"] {
        assert!(last.contains(part), "{part} is missing: {last}");
    }
    books::audit(&stack, 2_000).await?;
    // The one that is left has it all, and what the first had in hand did no harm.
    books::publish(&stack, 2_000..2_200).await?;
    books::audit(&stack, 2_200).await?;
    second.stop().await
}
