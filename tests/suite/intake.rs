//! What closes a handler's intake: an operator's pause of the handler or of a key, and too much that
//! has piled up. It closes that handler's alone, says so, and opens again by itself.

use anyhow::Result;
use serde_json::json;
use tribox_tests::chaos::{self, ORDERS};
use tribox_tests::{Host, Stack, wait_until};

use crate::books;

const PARKED: &str = "SELECT count(*) FROM tribox.parked";
const CHAOS_HANDLED: &str = "SELECT count(*) FROM tribox.inbox i
    JOIN tribox.components c ON c.id = i.component WHERE c.handler = 'chaos'";

async fn waits(host: &Host, reason: &str, expected: f64) -> Result<()> {
    let name = format!("tribox_waiting{{handler=\"chaos\",reason=\"{reason}\"}}");
    wait_until(&format!("{name} is {expected}"), async || match host.metric(&name).await {
        Ok(value) if value == expected => Ok(()),
        Ok(value) => Err(value.to_string()),
        Err(e) => Err(format!("{e:#}")),
    })
    .await
}

/// Chaos beside accounts, which is to go on whatever becomes of chaos.
async fn both(name: &str) -> Result<Stack> {
    let stack = Stack::new(name).await?;
    stack.drop_in(&["chaos", "accounts"])?;
    stack.broker.create_stream(ORDERS, &["chaos.*.do"]).await?;
    let events = ["chaos.events.*.*", "accounts.events.*.*"];
    stack.broker.create_stream(chaos::EVENTS, &events).await?;
    let commands = ["accounts.*.credit", "accounts.*.debit", "accounts.*.enforce-overdrawn"];
    stack.broker.create_stream(books::COMMANDS, &commands).await?;
    Ok(stack)
}

async fn credit(stack: &Stack, id: &str, account: &str) -> Result<()> {
    let subject = format!("accounts.{account}.credit");
    stack.broker.publish_as(id, &subject, r#"{"amount": 5}"#).await.map(drop)
}

async fn accounts_go_on(stack: &Stack, account: &str) -> Result<()> {
    credit(stack, account, account).await?;
    wait_until("the other handler goes on", async || {
        match stack.document("accounts", account).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("no document".to_owned()),
            Err(e) => Err(format!("{e:#}")),
        }
    })
    .await
}

async fn order(stack: &Stack, id: &str, key: &str, verb: &str) -> Result<()> {
    chaos::order(&stack.broker, id, key, &json!({"do": verb})).await.map(drop)
}

#[tokio::test]
async fn a_paused_handler_takes_nothing_in_until_it_is_resumed() -> Result<()> {
    let mut stack = both("paused").await?;
    let host = stack.serve().await?;
    order(&stack, "c-0", "k", "count").await?;
    stack.until(CHAOS_HANDLED, 1).await?;
    let pause = "INSERT INTO tribox.paused (handler, paused_by) VALUES ('chaos', 'a test')";
    sqlx::query(pause).execute(&stack.pool).await?;
    waits(&host, "paused", 1.0).await?;
    for n in 1..=20 {
        order(&stack, &format!("c-{n}"), "k", "count").await?;
    }
    accounts_go_on(&stack, "a").await?;
    assert_eq!(stack.number(CHAOS_HANDLED).await?, 1);
    host.stop().await?;
    // A pause outlasts a restart.
    let host = stack.serve().await?;
    waits(&host, "paused", 1.0).await?;
    accounts_go_on(&stack, "b").await?;
    sqlx::query("DELETE FROM tribox.paused").execute(&stack.pool).await?;
    stack.until(CHAOS_HANDLED, 21).await?;
    waits(&host, "paused", 0.0).await?;
    let told = chaos::told_when(&stack.broker, 23).await?;
    let counts: Vec<_> = told.iter().filter_map(|told| told.body["count"].as_u64()).collect();
    assert_eq!(counts, (1..=21).collect::<Vec<_>>());
    host.stop().await
}

#[tokio::test]
async fn a_paused_key_waits_and_goes_on_in_order() -> Result<()> {
    let mut stack = both("paused-key").await?;
    let host = stack.serve().await?;
    order(&stack, "c-0", "k", "count").await?;
    stack.until(CHAOS_HANDLED, 1).await?;
    let pause = "INSERT INTO tribox.parked (id, handler, key, state, attempts, reason, error,
                        component, inbox_key, message_id, subject, headers, payload, stored_at)
                 OVERRIDING SYSTEM VALUE
                 VALUES (-1, 'chaos', 'k', 'holding', 0, 'paused', '', 0,
                         tribox.inbox_key('chaos', '(pause) k'), '(pause)', '', '[]', '', 0)";
    sqlx::query(pause).execute(&stack.pool).await?;
    // It takes up to a second for the host to notice: until one waits, they are handled.
    let mut sent = 0;
    while stack.number(PARKED).await? < 2 {
        sent += 1;
        order(&stack, &format!("k-{sent}"), "k", "count").await?;
        stack.until(CHAOS_HANDLED, sent + 1).await?;
    }
    for n in 0..10 {
        order(&stack, &format!("later-{n}"), "k", "count").await?;
        order(&stack, &format!("free-{n}"), "free", "count").await?;
    }
    stack.until(CHAOS_HANDLED, sent + 21).await?;
    stack.until(PARKED, 12).await?;
    sqlx::query("DELETE FROM tribox.parked WHERE id < 0").execute(&stack.pool).await?;
    stack.until(PARKED, 0).await?;
    order(&stack, "last", "k", "count").await?;
    let expected = u64::try_from(sent)? + 12;
    let told = chaos::told_when(&stack.broker, usize::try_from(expected)? + 10).await?;
    let of_key = told.iter().filter(|told| told.key == "k");
    let counts: Vec<_> = of_key.filter_map(|told| told.body["count"].as_u64()).collect();
    assert_eq!(counts, (1..=expected).collect::<Vec<_>>());
    host.stop().await
}

#[tokio::test]
async fn too_many_parked_messages_close_the_intake_of_their_handler() -> Result<()> {
    let mut stack = both("parked-limit").await?;
    stack.config.set("handlers.chaos.backlog.parked", 50);
    stack.config.set("handlers.chaos.retry.backoff", "200ms");
    stack.config.set("handlers.chaos.retry.cap", "200ms");
    stack.config.set("handlers.chaos.retry.attempts", 100_000);
    let host = stack.serve().await?;
    let retry = |n: u32| {
        let body = json!({"do": "retry-until", "of": "gate"}).to_string();
        (format!("r-{n}"), format!("chaos.k{n}.do"), body)
    };
    stack.broker.publish_all((0..60).map(retry)).await?;
    waits(&host, "parked", 1.0).await?;
    stack.broker.publish_all((60..200).map(retry)).await?;
    accounts_go_on(&stack, "a").await?;
    assert_eq!(stack.number(CHAOS_HANDLED).await?, 60);
    assert!(host.log().contains("60 messages are parked"), "it says so");
    // What is parked is tried again all the while, so that it ends by itself.
    let ready = "INSERT INTO tribox.documents (collection, key, body)
                 VALUES ('chaos', 'gate', '{\"ready\": true}')";
    sqlx::query(ready).execute(&stack.pool).await?;
    stack.until(CHAOS_HANDLED, 200).await?;
    stack.until(PARKED, 0).await?;
    waits(&host, "parked", 0.0).await?;
    chaos::told_when(&stack.broker, 201).await?;
    host.stop().await
}

#[tokio::test]
async fn too_many_unpublished_messages_close_the_intake_of_their_handler() -> Result<()> {
    let mut stack = both("outbox-limit").await?;
    stack.broker.create_stream("NOTHING", &["nothing"]).await?;
    stack.config.set("handlers.chaos.backlog.outbox", 20);
    stack.config.set("handlers.chaos.lanes", 1);
    stack.config.set("handlers.chaos.turn", 10);
    // Chaos tells into a stream that is full; accounts go elsewhere.
    let events = stack.broker.jetstream.get_stream(chaos::EVENTS).await?;
    let mut config = events.cached_info().config.clone();
    config.subjects = vec!["chaos.events.*.*".to_owned()];
    config.max_bytes = 1;
    config.discard = async_nats::jetstream::stream::DiscardPolicy::New;
    stack.broker.jetstream.update_stream(&config).await?;
    stack.broker.create_stream("BOOKS", &["accounts.events.*.*"]).await?;
    let host = stack.serve().await?;
    let count =
        |n: u32| (format!("c-{n}"), "chaos.k.do".to_owned(), json!({"do": "count"}).to_string());
    stack.broker.publish_all((0..200).map(count)).await?;
    waits(&host, "outbox", 1.0).await?;
    accounts_go_on(&stack, "a").await?;
    let handled = stack.number(CHAOS_HANDLED).await?;
    assert!((21..=40).contains(&handled), "{handled} were handled");
    config.max_bytes = -1;
    stack.broker.jetstream.update_stream(&config).await?;
    let told = chaos::told_when(&stack.broker, 200).await?;
    let counts: Vec<_> = told.iter().filter_map(|told| told.body["count"].as_u64()).collect();
    assert_eq!(counts, (1..=200).collect::<Vec<_>>());
    waits(&host, "outbox", 0.0).await?;
    host.stop().await
}

#[tokio::test]
async fn too_many_delayed_messages_close_the_intake_of_their_handler() -> Result<()> {
    let mut stack = both("scheduled-limit").await?;
    stack.config.set("handlers.chaos.backlog.scheduled", 5);
    let host = stack.serve().await?;
    for n in 0..10 {
        let body = json!({"do": "delay", "ms": 3_600_000});
        chaos::order(&stack.broker, &format!("d-{n}"), "k", &body).await?;
    }
    waits(&host, "scheduled", 1.0).await?;
    let handled = stack.number(CHAOS_HANDLED).await?;
    order(&stack, "late", "k", "count").await?;
    accounts_go_on(&stack, "a").await?;
    assert_eq!(stack.number(CHAOS_HANDLED).await?, handled);
    sqlx::query("DELETE FROM tribox.scheduled").execute(&stack.pool).await?;
    stack.until(CHAOS_HANDLED, 11).await?;
    waits(&host, "scheduled", 0.0).await?;
    host.stop().await
}
