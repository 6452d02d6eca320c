//! Chains of handlers: each says how long it is, and what goes round for ever is parked.

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use tribox_tests::{Host, Stack, Stored, chaos, tool};

const DEAD: &str = "SELECT count(*) FROM tribox.parked WHERE state = 'dead'";

/// A host with three handlers that pass messages on, to each other and through at most `hops`.
async fn hopping(name: &str, hops: i64) -> Result<(Stack, Host)> {
    let mut stack = Stack::new(name).await?;
    stack.broker.create_stream("HOPS", &["hop-a.*", "hop-b.*", "hop-c.*", "hops.ended.*"]).await?;
    stack.drop_in(&["hop_a", "hop_b", "hop_c"])?;
    stack.config.set("limits.hops", hops);
    let host = stack.serve().await?;
    Ok((stack, host))
}

async fn send(stack: &Stack, subject: &str, errand: Value) -> Result<()> {
    stack.broker.publish(subject, errand.to_string()).await.map(drop)
}

fn header<'a>(message: &'a Stored, name: &str) -> &'a str {
    message.headers.get(name).map_or("", |value| value.as_str())
}

#[tokio::test]
async fn a_chain_of_three_handlers_says_how_long_it_is() -> Result<()> {
    let (stack, host) = hopping("chain", 3).await?;
    send(&stack, "hop-a.7", json!({"route": ["hop-b", "hop-c"]})).await?;
    let all = stack.broker.read_when("HOPS", 4).await?;
    let told: Vec<_> = all
        .iter()
        .map(|m| (m.subject.as_str(), header(m, "Tribox-Hops"), header(m, "Tribox-Via")))
        .collect();
    assert_eq!(
        told,
        [
            ("hop-a.7", "", ""),
            ("hop-b.7", "1", "hop-a"),
            ("hop-c.7", "2", "hop-a, hop-b"),
            ("hops.ended.7", "3", "hop-a, hop-b, hop-c"),
        ]
    );
    assert!(stack.parked().await?.is_empty());
    host.stop().await
}

#[tokio::test]
async fn handlers_that_feed_each_other_are_parked_at_the_limit() -> Result<()> {
    let (mut stack, host) = hopping("loop", 6).await?;
    send(&stack, "hop-a.7", json!({"route": ["hop-b", "hop-a"], "round": true})).await?;
    stack.until(DEAD, 1).await?;
    // The one that began it, six that came through up to six handlers, and the one that is parked.
    let all = stack.broker.read_when("HOPS", 8).await?;
    let last = all.last().context("none")?;
    let parked = stack.parked().await?;
    assert_eq!(Some(&parked[0].message_id), last.id.as_ref());
    assert_eq!((header(last, "Tribox-Hops"), last.subject.as_str()), ("7", "hop-b.7"));
    assert_eq!((parked[0].reason.as_str(), parked[0].attempts), ("loop", 1));
    let error = &parked[0].error;
    assert!(error.contains("came through 7 handlers, and limits.hops allows 6"), "{error}");
    assert!(error.contains("hop-a, hop-b may send one another messages"), "{error}");
    assert!(host.metric("tribox_parked_total{handler=\"hop-b\",reason=\"loop\"}").await? > 0.5);

    // Another key is not touched by it, and neither is a message of its key that began elsewhere.
    send(&stack, "hop-b.7", json!({"route": []})).await?;
    assert_eq!(stack.broker.read_when("HOPS", 10).await?[9].subject, "hops.ended.7");

    // What the error says lets it go on, by one handler; what that sends is parked again.
    let config = stack.write_config()?.display().to_string();
    let retry = ["parked", "retry", "--handler", "hop-b", "--reason", "loop", "--config", &config];
    tool::tribox(stack.directory(), None, &retry)?.ok()?;
    let all = stack.broker.read_when("HOPS", 11).await?;
    assert_eq!((header(&all[10], "Tribox-Hops"), &*all[10].subject), ("8", "hop-a.7"));
    stack.until("SELECT count(*) FROM tribox.parked WHERE handler = 'hop-a'", 1).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 1).await?;
    host.stop().await?;

    // One handler may be allowed more than the others.
    stack.config.set("handlers.hop-a.limits.hops", 8);
    let host = stack.serve().await?;
    let retry = ["parked", "retry", "--reason", "loop", "--config", &config];
    tool::tribox(stack.directory(), None, &retry)?.ok()?;
    stack.until("SELECT count(*) FROM tribox.parked WHERE handler = 'hop-b'", 1).await?;
    send(&stack, "hop-a.8", json!({"route": ["hop-a"], "round": true})).await?;
    stack.until("SELECT count(*) FROM tribox.parked WHERE handler = 'hop-a'", 1).await?;
    let error = stack.parked().await?.pop().context("none")?.error;
    assert!(error.contains("limits.hops allows 8: hop-a may send itself messages"), "{error}");
    host.stop().await
}

#[tokio::test]
async fn delayed_messages_count_as_well() -> Result<()> {
    let (stack, host) = hopping("delayed-loop", 4).await?;
    send(&stack, "hop-a.7", json!({"route": ["hop-a"], "round": true, "after": 1})).await?;
    stack.until(DEAD, 1).await?;
    let all = stack.broker.read_when("HOPS", 6).await?;
    let hops: Vec<&str> = all.iter().map(|m| header(m, "Tribox-Hops")).collect();
    assert_eq!(hops, ["", "1", "2", "3", "4", "5"]);
    assert_eq!(stack.parked().await?[0].reason, "loop");
    stack.until("SELECT count(*) FROM tribox.scheduled", 0).await?;
    host.stop().await
}

#[tokio::test]
async fn no_handler_writes_the_count_itself() -> Result<()> {
    let mut stack = Stack::new("forged-hops").await?;
    chaos::prepare(&stack).await?;
    stack.config.set("limits.hops", 10);
    let host = stack.serve().await?;
    let forged = json!({"do": "header", "name": "tribox-hops", "value": "0"});
    chaos::order(&stack.broker, "forged", "k", &forged).await?;
    stack.until(DEAD, 1).await?;
    let parked = stack.parked().await?;
    assert_eq!(parked[0].reason, "invalid-effects");
    assert!(parked[0].error.contains("starting with Nats- or Tribox- are the host's"));

    // Whoever else passes messages on may carry the count along.
    let mut headers = HeaderMap::new();
    headers.insert("Tribox-Hops", "11");
    stack.broker.publish_with(headers, "chaos.k.do", r#"{"do": "count"}"#).await?;
    stack.until(DEAD, 2).await?;
    assert_eq!(stack.parked().await?[1].reason, "loop");
    host.stop().await
}
