//! Delayed messages: not before they are due, once, by name replaced and taken back, and also when no
//! host ran at the time.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::Stack;

use crate::books::{COMMANDS, EVENTS};

const WAITING: &str = "SELECT count(*) FROM tribox.scheduled";
const HOUR: u64 = 3_600_000;

async fn chaos(name: &str) -> Result<Stack> {
    let stack = Stack::new(name).await?;
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(COMMANDS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await?;
    Ok(stack)
}

async fn order(stack: &Stack, id: &str, key: &str, body: Value) -> Result<()> {
    let subject = format!("chaos.{key}.do");
    stack.broker.publish_as(id, &subject, body.to_string()).await?;
    Ok(())
}

#[tokio::test]
async fn a_delayed_message_waits_until_it_is_due() -> Result<()> {
    let mut stack = chaos("delay").await?;
    let host = stack.serve().await?;
    order(&stack, "d-1", "k", json!({"do": "delay", "ms": 700})).await?;
    let events = stack.broker.read_when(EVENTS, 1).await?;
    assert_eq!(events[0].subject, "chaos.events.k.delay");
    // Never early: by the clocks of Postgres and NATS, which are one here.
    let stream = stack.broker.jetstream.get_stream(EVENTS).await?;
    let stored = stream.get_raw_message(1).await?.time.unix_timestamp_nanos() / 1_000_000;
    let handled = "SELECT (extract(epoch FROM handled_at) * 1000)::bigint FROM tribox.inbox";
    let handled = i128::from(stack.number(handled).await?);
    assert!(stored >= handled + 700, "stored at {stored}, committed at {handled}");
    assert_eq!(stack.number(WAITING).await?, 0);
    host.stop().await
}

#[tokio::test]
async fn a_message_due_in_the_past_goes_at_once_and_once() -> Result<()> {
    let mut stack = chaos("past").await?;
    let host = stack.serve().await?;
    order(&stack, "p-1", "k", json!({"do": "schedule", "name": "n", "at": 1_000})).await?;
    stack.broker.read_when(EVENTS, 1).await?;
    stack.until(WAITING, 0).await?;
    // Behind it in the same log, so that a second one would stand between them.
    order(&stack, "p-2", "k", json!({"do": "schedule", "name": "n", "at": 2_000})).await?;
    let events = stack.broker.read_when(EVENTS, 2).await?;
    assert_eq!(events.len(), 2);
    assert_ne!(events[0].id, events[1].id);
    host.stop().await
}

#[tokio::test]
async fn a_name_is_replaced_and_taken_back() -> Result<()> {
    let mut stack = chaos("names").await?;
    let later = |name: &str, after: u64| json!({"do": "schedule", "name": name, "after": after});
    let mut host = stack.serve().await?;
    order(&stack, "1", "first", later("replaced", HOUR)).await?;
    order(&stack, "2", "first", later("cancelled", HOUR)).await?;
    order(&stack, "3", "first", later("kept", HOUR)).await?;
    stack.until(WAITING, 3).await?;
    let id = "SELECT id FROM tribox.scheduled WHERE name = 'replaced'";
    let before: String = sqlx::query_scalar(id).fetch_one(&stack.pool).await?;
    order(&stack, "4", "other", later("replaced", HOUR)).await?;
    order(&stack, "5", "other", json!({"do": "cancel", "name": "cancelled"})).await?;
    order(&stack, "6", "other", json!({"do": "cancel", "name": "unknown"})).await?;
    stack.handled(6).await?;
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM tribox.scheduled ORDER BY name")
        .fetch_all(&stack.pool)
        .await?;
    assert_eq!(names, ["kept", "replaced"]);
    let after: String = sqlx::query_scalar(id).fetch_one(&stack.pool).await?;
    assert_ne!(before, after, "another message holds the name");
    host.kill()?;

    // All in one turn: there when the host starts.
    for (id, body) in [
        ("7", later("replaced", 2 * HOUR)),
        ("8", later("replaced", 0)),
        ("9", later("gone", 0)),
        ("10", json!({"do": "cancel", "name": "gone"})),
    ] {
        order(&stack, id, "turn", body).await?;
    }
    let host = stack.serve().await?;
    stack.handled(10).await?;
    stack.until(WAITING, 1).await?;
    let events = stack.broker.read_when(EVENTS, 1).await?;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].subject, "chaos.events.turn.schedule");
    assert_eq!(events[0].json()["name"], "replaced");
    host.stop().await
}

#[tokio::test]
async fn what_was_due_while_no_host_ran_goes_out_at_start() -> Result<()> {
    let mut stack = chaos("asleep").await?;
    let host = stack.serve().await?;
    for n in 0..5 {
        let body = json!({"do": "schedule", "name": format!("n-{n}"), "after": HOUR});
        order(&stack, &format!("s-{n}"), &format!("k{n}"), body).await?;
    }
    stack.until(WAITING, 5).await?;
    host.stop().await?;
    // The hour passes; the last one scheduled is due first.
    sqlx::query(
        "UPDATE tribox.scheduled
            SET due_at = now() - interval '1 s' - right(name, 1)::integer * interval '1 s'",
    )
    .execute(&stack.pool)
    .await?;
    let host = stack.serve().await?;
    let events = stack.broker.read_when(EVENTS, 5).await?;
    let names: Vec<Value> = events.iter().map(|event| event.json()["name"].clone()).collect();
    assert_eq!(names, ["n-4", "n-3", "n-2", "n-1", "n-0"], "in the order of their due times");
    assert_eq!(stack.number(WAITING).await?, 0);
    host.stop().await
}

/// The example of the contract: the deadline of an overdrawn account comes back as a command, unless
/// a credit takes it back.
#[tokio::test]
async fn a_deadline_comes_back_as_a_command() -> Result<()> {
    let mut stack = Stack::new("deadline").await?;
    crate::books::prepare(&stack).await?;
    let host = stack.serve().await?;
    for (id, subject) in
        [("1", "accounts.1.debit"), ("2", "accounts.2.debit"), ("3", "accounts.2.credit")]
    {
        stack.broker.publish_as(id, subject, r#"{"amount": 5}"#).await?;
    }
    stack.handled(3).await?;
    stack.until(WAITING, 1).await?;
    let due: i64 = stack
        .number("SELECT (extract(epoch FROM due_at - now()) / 86400)::bigint FROM tribox.scheduled")
        .await?;
    assert_eq!(due, 10, "days");
    sqlx::query("UPDATE tribox.scheduled SET due_at = now()").execute(&stack.pool).await?;
    stack.handled(4).await?;
    let account = stack.document("accounts", "1").await?.context("account 1")?;
    assert_eq!(account["blocked"], true);
    host.stop().await
}

#[tokio::test]
async fn a_scheduler_whose_log_was_opened_by_another_hand_opens_it_again() -> Result<()> {
    let mut stack = chaos("reopened").await?;
    let host = stack.serve().await?;
    order(&stack, "r-1", "k", json!({"do": "delay", "ms": 10})).await?;
    stack.broker.read_when(EVENTS, 1).await?;
    // As a statement does that the host has given up and that Postgres carries out late.
    let raise = "UPDATE tribox.writers SET fence = fence + 1 WHERE handler = '(scheduled)'";
    assert_eq!(sqlx::query(raise).execute(&stack.pool).await?.rows_affected(), 1);
    order(&stack, "r-2", "k", json!({"do": "delay", "ms": 10})).await?;
    stack.broker.read_when(EVENTS, 2).await?;
    host.stop().await
}
