//! Messages of one key are handled in the order of their stream, and what they send is published in
//! that order: through retries, restarts, and another number of lanes. Other keys go on.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tribox_tests::{Host, Stack, wait_until};

use crate::books::{self, COMMANDS, EVENTS};

/// Between two steps of a test.
#[derive(Clone, Copy)]
enum Meanwhile {
    Nothing,
    /// The host is stopped in order and started again.
    Restart,
    /// The host is killed and started again.
    Kill,
}

impl Meanwhile {
    async fn befall(self, stack: &mut Stack, mut host: Host) -> Result<Host> {
        match self {
            Meanwhile::Nothing => return Ok(host),
            Meanwhile::Restart => host.stop().await?,
            Meanwhile::Kill => host.kill()?,
        }
        stack.serve().await
    }
}

#[tokio::test]
async fn a_retried_message_holds_back_its_key_alone() -> Result<()> {
    retried(Meanwhile::Nothing).await
}

#[tokio::test]
async fn a_key_stays_held_over_a_restart() -> Result<()> {
    retried(Meanwhile::Restart).await
}

#[tokio::test]
async fn a_key_stays_held_over_a_kill() -> Result<()> {
    retried(Meanwhile::Kill).await
}

async fn order(stack: &Stack, id: &str, key: &str, body: Value) -> Result<()> {
    let subject = format!("chaos.{key}.do");
    stack.broker.publish_as(id, &subject, body.to_string()).await?;
    Ok(())
}

async fn chaos(name: &str) -> Result<Stack> {
    let mut stack = Stack::new(name).await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.retry.backoff", "50ms");
    stack.config.set("handlers.chaos.retry.cap", "100ms");
    stack.config.set("handlers.chaos.retry.attempts", 10_000);
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    Ok(stack)
}

/// The ids that those of a key's messages (`held-0`, …) lead to, in the order in which they were published.
async fn ids_of_events(stack: &Stack, key: &str, count: i64) -> Result<Vec<Option<String>>> {
    let sql = "SELECT translate(tribox.inbox_key('chaos', $1 || '-' || n)::text, '-', '') || '-0'
                 FROM generate_series(0, $2 - 1) AS n ORDER BY n";
    Ok(sqlx::query_scalar(sql).bind(key).bind(count).fetch_all(&stack.pool).await?)
}

async fn retried(meanwhile: Meanwhile) -> Result<()> {
    let mut stack = chaos("retried").await?;
    let host = stack.serve().await?;
    order(&stack, "held-1", "held", json!({"do": "retry-until", "of": "gate"})).await?;
    order(&stack, "held-2", "held", json!({"do": "count"})).await?;
    order(&stack, "free-1", "free", json!({"do": "count"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 2).await?;
    let free = stack.broker.read_when(EVENTS, 1).await?;
    assert_eq!(free[0].subject, "chaos.events.free.count", "other keys go on");

    let host = meanwhile.befall(&mut stack, host).await?;
    order(&stack, "held-3", "held", json!({"do": "count"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 3).await?;
    let parked = stack.parked().await?;
    let states: Vec<_> = parked.iter().map(|p| (&*p.message_id, &*p.state)).collect();
    let expected = [("held-1", "retrying"), ("held-2", "waiting"), ("held-3", "waiting")];
    assert_eq!(states, expected);
    assert_eq!((&*parked[0].reason, &*parked[0].error), ("retry", "gate is not ready yet"));
    stack.until_at_least("SELECT max(attempts)::bigint FROM tribox.parked", 3).await?;
    assert_eq!(stack.document("chaos", "held").await?, None, "failed attempts leave nothing");

    let host = meanwhile.befall(&mut stack, host).await?;
    order(&stack, "gate-1", "gate", json!({"do": "ready"})).await?;
    order(&stack, "held-4", "held", json!({"do": "count"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    let events = stack.broker.read_when(EVENTS, 6).await?;
    let held = events.iter().filter(|event| event.subject.starts_with("chaos.events.held."));
    let held: Vec<_> = held
        .map(|event| (event.subject.rsplit('.').next(), event.json()["count"].clone()))
        .collect();
    let count = |n: u64| (Some("count"), json!(n));
    assert_eq!(held, [(Some("done"), Value::Null), count(1), count(2), count(3)]);
    stack.handled(6).await?;
    stack.broker.settled(COMMANDS, "chaos").await?;
    host.stop().await
}

#[tokio::test]
async fn many_that_wait_are_handled_in_order() -> Result<()> {
    let mut stack = chaos("many").await?;
    let host = stack.serve().await?;
    order(&stack, "head", "held", json!({"do": "retry-until", "of": "gate"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 1).await?;
    // More than are taken up in one turn.
    let count = |n: u32| {
        (format!("held-{n}"), "chaos.held.do".to_owned(), json!({"do": "count"}).to_string())
    };
    stack.broker.publish_all((0..700).map(count)).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 701).await?;
    order(&stack, "gate-1", "gate", json!({"do": "ready"})).await?;
    stack.broker.publish_all((700..800).map(count)).await?;
    let events = stack.broker.read_when(EVENTS, 802).await?;
    let held = events.iter().filter(|event| event.subject == "chaos.events.held.count");
    let ids: Vec<_> = held.map(|event| event.id.clone()).collect();
    assert_eq!(ids, ids_of_events(&stack, "held", 800).await?);
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    host.stop().await
}

/// Somebody takes a message from the handler's own consumer (`nats consumer next`, say) and keeps it: it is
/// handled in its place, and not when the server gives it up.
#[tokio::test]
async fn a_message_that_another_client_took_keeps_its_place() -> Result<()> {
    let mut stack = chaos("taken").await?;
    let host = stack.serve().await?;
    order(&stack, "k-0", "k", json!({"do": "count"})).await?;
    stack.handled(1).await?;
    let consumer: PullConsumer =
        stack.broker.jetstream.get_consumer_from_stream("tribox-chaos", COMMANDS).await?;
    let mut taken =
        consumer.fetch().max_messages(1).expires(Duration::from_secs(60)).messages().await?;
    // The host asks for messages, too, and some come to it.
    let mut count = 1;
    let taken = loop {
        order(&stack, &format!("k-{count}"), "k", json!({"do": "count"})).await?;
        count += 1;
        if let Some(answer) = taken.next().now_or_never() {
            break answer.context("nothing came to the other client")?;
        }
    };
    let taken = taken.map_err(anyhow::Error::from_boxed)?;
    for n in count..count + 20 {
        order(&stack, &format!("k-{n}"), "k", json!({"do": "count"})).await?;
    }
    count += 20;
    let events = stack.broker.read_when(EVENTS, count).await?;
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    let expected = ids_of_events(&stack, "k", i64::try_from(count)?).await?;
    assert_eq!(ids, expected, "{} was taken", String::from_utf8_lossy(&taken.payload));
    stack.broker.settled(COMMANDS, "chaos").await?;
    host.stop().await
}

#[tokio::test]
async fn a_message_that_is_dead_lets_its_key_go_on() -> Result<()> {
    let mut stack = chaos("dead").await?;
    stack.config.set("handlers.chaos.retry.attempts", 3);
    let host = stack.serve().await?;
    order(&stack, "k-1", "k", json!({"do": "retry"})).await?;
    order(&stack, "k-2", "k", json!({"do": "count"})).await?;
    order(&stack, "k-3", "k", json!({"do": "reject"})).await?;
    order(&stack, "k-4", "k", json!({"do": "count"})).await?;
    let events = stack.broker.read_when(EVENTS, 2).await?;
    assert_eq!([&events[0].json()["count"], &events[1].json()["count"]], [1, 2]);
    stack.until("SELECT count(*) FROM tribox.parked WHERE state = 'dead'", 2).await?;
    let parked = stack.parked().await?;
    let dead: Vec<_> = parked.iter().map(|p| (&*p.message_id, &*p.reason, p.attempts)).collect();
    assert_eq!(dead, [("k-1", "retry", 3), ("k-3", "reject", 1)]);
    assert_eq!(stack.number("SELECT count(*) FROM tribox.parked").await?, 2);
    host.stop().await
}

/// A turn that Postgres refuses is halved, between the parked messages of a key as well.
#[tokio::test]
async fn what_waits_stays_behind_when_its_turn_is_halved() -> Result<()> {
    let mut stack = chaos("halved").await?;
    stack.config.set("handlers.chaos.lanes", 1).set("handlers.chaos.turn", 8);
    let index = "CREATE INDEX ON tribox.documents (((body->>'id')::bigint))";
    sqlx::raw_sql(index).execute(&stack.pool).await?;
    let host = stack.serve().await?;
    order(&stack, "held-1", "held", json!({"do": "retry-until", "of": "gate"})).await?;
    order(&stack, "held-2", "held", json!({"do": "count"})).await?;
    order(&stack, "held-3", "held", json!({"do": "count"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 3).await?;
    // Each leaves a document with its id, which is no number. There are enough of them to be in the
    // turns that try the first one again.
    let mut bad = 0_u32;
    let attempts = "SELECT max(attempts)::bigint FROM tribox.parked WHERE state = 'retrying'";
    while stack.number(attempts).await? < 5 {
        let refused =
            |n: u32| (format!("bad-{n}"), format!("chaos.b{n}.do"), r#"{"do": "ok"}"#.to_owned());
        stack.broker.publish_all((bad..bad + 40).map(refused)).await?;
        bad += 40;
        stack.handled(i64::from(bad) + 3).await?;
    }
    assert_eq!(stack.document("chaos", "held").await?, None);
    let states: Vec<_> = stack.parked().await?.into_iter().take(3).map(|p| p.state).collect();
    assert_eq!(states, ["retrying", "waiting", "waiting"]);
    order(&stack, "gate-1", "gate", json!({"do": "ready"})).await?;
    let events = stack.broker.read_when(EVENTS, 4).await?;
    let told: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    let [ready, done, count] =
        ["gate.ready", "held.done", "held.count"].map(|event| format!("chaos.events.{event}"));
    assert_eq!(told, [&ready, &done, &count, &count]);
    host.stop().await
}

/// Keys move between logs when the number of lanes changes; what the old logs still hold goes first.
#[tokio::test]
async fn another_number_of_lanes_keeps_the_order_of_what_is_unpublished() -> Result<()> {
    let mut stack = Stack::new("lanes").await?;
    books::prepare(&stack).await?;
    let mut published = 0;
    // Back to a number that was there before, too.
    for lanes in [4, 2, 4, 3] {
        stack.config.set("handlers.accounts.lanes", lanes);
        books::close_events(&stack).await?;
        let mut host = stack.serve().await?;
        books::publish(&stack, published..published + 60).await?;
        published += 60;
        stack.handled(i64::try_from(published)?).await?;
        host.kill()?;

        // The next number of lanes meets a log that is not published, and messages to handle.
        stack.config.set("handlers.accounts.lanes", lanes % 4 + 1);
        let mut host = stack.spawn()?;
        books::publish(&stack, published..published + 60).await?;
        wait_until("it waits until the old logs are published", async || {
            let log = host.log();
            if log.contains("the number of lanes has changed") { Ok(()) } else { Err(log) }
        })
        .await?;
        let handled = stack.number("SELECT count(*) FROM tribox.inbox").await?;
        assert_eq!(handled, i64::try_from(published)?, "nothing new goes before what is left");
        published += 60;
        books::open_events(&stack).await?;
        books::audit(&stack, published).await?;
        host.kill()?;
    }
    Ok(())
}
