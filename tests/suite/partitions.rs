//! A handler in partitions: three hosts share them evenly, also when hosts come and go, and the order of each
//! key stays; into another number of partitions, too.

use anyhow::Result;
use serde_json::{Value, json};
use tribox_tests::{Host, Stack, chaos, wait_until};

use crate::books::{self, COMMANDS};

const HANDLED: &str = "SELECT count(*) FROM tribox.inbox";

async fn serve(stack: &mut Stack, name: &str) -> Result<Host> {
    stack.config.set("node.name", name);
    stack.serve().await
}

/// A stack whose handler is in partitions.
async fn split(name: &str, partitions: i64) -> Result<Stack> {
    let mut stack = Stack::new(name).await?;
    stack.config.set("node.lease", "1s").set("handlers.accounts.partitions", partitions);
    books::prepare(&stack).await?;
    let made = stack.tool(&["provision"])?.ok()?;
    let stream = format!("made stream tribox-accounts-{partitions}");
    assert!(made.contains(&stream), "{made}");
    Ok(stack)
}

/// Waits until so many units are owned by these nodes, in these shares.
async fn shares(stack: &Stack, expected: &[(&str, usize)]) -> Result<()> {
    wait_until("the partitions are shared out", async || {
        let status = stack.tool_json(&["status"]).map_err(|why| format!("{why:#}"))?;
        let units = status["units"].as_array().cloned().unwrap_or_default();
        let of = |node: &str| units.iter().filter(|unit| unit["node"] == node).count();
        let all: usize = expected.iter().map(|(_, count)| count).sum();
        if units.len() == all && expected.iter().all(|(node, count)| of(node) == *count) {
            return Ok(());
        }
        Err(format!("{units:?}"))
    })
    .await
}

#[tokio::test]
async fn three_hosts_share_them_and_keep_the_order() -> Result<()> {
    let mut stack = split("partitions", 6).await?;
    let mut a = serve(&mut stack, "a").await?;
    shares(&stack, &[("a", 6)]).await?;
    books::publish(&stack, 0..2_000).await?;
    let b = serve(&mut stack, "b").await?;
    shares(&stack, &[("a", 3), ("b", 3)]).await?;
    let c = serve(&mut stack, "c").await?;
    shares(&stack, &[("a", 2), ("b", 2), ("c", 2)]).await?;
    books::publish(&stack, 2_000..5_000).await?;
    stack.until_at_least(HANDLED, 2_500).await?;
    // One is killed, one stops in order, and one comes back.
    a.kill()?;
    shares(&stack, &[("b", 3), ("c", 3)]).await?;
    books::publish(&stack, 5_000..7_000).await?;
    c.stop().await?;
    shares(&stack, &[("b", 6)]).await?;
    let a = serve(&mut stack, "a").await?;
    shares(&stack, &[("a", 3), ("b", 3)]).await?;
    books::audit(&stack, 7_000).await?;

    let status = stack.tool_json(&["status"])?;
    let positions = status["positions"].as_array().cloned().unwrap_or_default();
    let of_partitions =
        |p: &&Value| p["stream"] == "tribox-accounts-6" && p["waiting"] == 0 && p["in_hand"] == 0;
    assert_eq!(positions.iter().filter(of_partitions).count(), 6, "{status:#}");
    let handler = &status["handlers"][0];
    assert_eq!(handler["nodes"], json!(["a", "b"]), "{status:#}");
    let text = stack.tool(&["status"])?.ok()?;
    assert!(text.contains("accounts/5of6"), "{text}");
    stack.tool(&["doctor"])?.ok()?;
    a.stop().await?;
    b.stop().await
}

/// Handlers with keys are shared out as well, each as a whole.
#[tokio::test]
async fn handlers_are_shared_out_as_wholes() -> Result<()> {
    let mut stack = Stack::new("shares").await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    stack.drop_in(&["orders", "stock"])?;
    stack.tool(&["provision"])?.ok()?;
    let a = serve(&mut stack, "a").await?;
    shares(&stack, &[("a", 3)]).await?;
    let b = serve(&mut stack, "b").await?;
    shares(&stack, &[("a", 2), ("b", 1)]).await?;
    books::publish(&stack, 0..500).await?;
    books::audit(&stack, 500).await?;
    a.stop().await?;
    shares(&stack, &[("b", 3)]).await?;
    b.stop().await
}

#[tokio::test]
async fn another_number_begins_where_the_one_before_ends() -> Result<()> {
    let mut stack = split("partitions-more", 2).await?;
    let old = serve(&mut stack, "old").await?;
    books::publish(&stack, 0..1_000).await?;
    stack.until_at_least(HANDLED, 200).await?;
    // A host with the new number waits until there is a stream for it, and until the old ones are read.
    stack.config.set("handlers.accounts.partitions", 3);
    stack.config.set("node.name", "new");
    let mut new = stack.spawn()?;
    new.logs("there is no stream tribox-accounts-3").await?;
    let doctor = stack.tool(&["doctor"])?.out;
    assert!(doctor.contains("there is no stream tribox-accounts-3"), "{doctor}");
    let made = stack.tool(&["provision"])?.ok()?;
    assert!(made.contains("made stream tribox-accounts-3"), "{made}");
    books::publish(&stack, 1_000..3_000).await?;
    new.ready().await?;
    books::audit(&stack, 3_000).await?;
    shares(&stack, &[("new", 3)]).await?;
    let in_new = stack.broker.jetstream.get_stream("tribox-accounts-3").await?;
    let in_new = in_new.cached_info().state.messages;
    assert!((2_000..3_000).contains(&in_new), "{in_new} messages came by the new partitions");
    // Back again is refused, while the old stream is there.
    stack.config.set("handlers.accounts.partitions", 2);
    let refused = stack.tool(&["provision"])?.refused()?;
    assert!(refused.contains("nats stream rm tribox-accounts-2"), "{refused}");
    old.stop().await?;
    new.stop().await
}

#[tokio::test]
async fn a_handler_in_use_is_put_into_partitions() -> Result<()> {
    let mut stack = Stack::new("partitions-first").await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    let whole = serve(&mut stack, "whole").await?;
    books::publish(&stack, 0..500).await?;
    stack.handled(500).await?;
    stack.config.set("handlers.accounts.partitions", 2);
    let refused = stack.tool(&["provision"])?.refused()?;
    assert!(refused.contains("stop all hosts in order"), "{refused}");
    books::publish(&stack, 500..3_000).await?;
    // In the middle of its work, with messages in hand.
    whole.stop().await?;
    stack.tool(&["provision"])?.ok()?;
    let host = serve(&mut stack, "split").await?;
    books::publish(&stack, 3_000..3_500).await?;
    books::audit(&stack, 3_500).await?;
    shares(&stack, &[("split", 2)]).await?;
    let duplicates = host.metric("tribox_duplicates_total{handler=\"accounts\"}").await?;
    assert_eq!(duplicates as i64, 0, "nothing that was handled comes again");
    host.stop().await?;
    // Who forgets the setting is told.
    stack.config.unset("handlers.accounts.partitions");
    stack.config.set("node.name", "forgetful");
    let forgetful = stack.spawn()?;
    forgetful.logs("set [handlers.accounts] partitions = 2").await?;
    let commands = stack.broker.jetstream.get_stream(COMMANDS).await?;
    assert_eq!(commands.cached_info().state.consumer_count, 0, "it reads nothing");
    forgetful.stop().await
}

/// What a message of a key waits for is in Postgres, and so is its key's partition.
#[tokio::test]
async fn what_is_parked_is_taken_up_by_its_partition() -> Result<()> {
    let mut stack = Stack::new("partitions-parked").await?;
    stack.config.set("node.lease", "1s").set("handlers.chaos.partitions", 4);
    let retry = "handlers.chaos.retry";
    stack.config.set(&format!("{retry}.backoff"), "100ms").set(&format!("{retry}.cap"), "500ms");
    stack.config.set(&format!("{retry}.attempts"), 10_000);
    chaos::prepare(&stack).await?;
    stack.tool(&["provision"])?.ok()?;
    let a = serve(&mut stack, "a").await?;
    let b = serve(&mut stack, "b").await?;
    shares(&stack, &[("a", 2), ("b", 2)]).await?;
    for n in 0..40 {
        let (first, second, key) =
            (format!("first-{n}"), format!("second-{n}"), format!("key-{n}"));
        let waits = json!({"do": "retry-until", "of": "go"});
        chaos::order(&stack.broker, &first, &key, &waits).await?;
        chaos::order(&stack.broker, &second, &key, &json!({"do": "count"})).await?;
    }
    let waiting = "SELECT count(*) FROM tribox.parked WHERE state = 'waiting'";
    stack.until(waiting, 40).await?;
    chaos::order(&stack.broker, "go", "go", &json!({"do": "ready"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    stack.handled(81).await?;
    let by_node = "SELECT count(DISTINCT w.node) FROM tribox.outbox o
                     JOIN tribox.writers w ON w.id = o.writer";
    assert_eq!(stack.number(by_node).await?, 2, "both nodes have handled some");
    a.stop().await?;
    b.stop().await
}
