//! A message that brings the process down, again and again, is found out and set aside; what was in
//! hand beside it is handled, and whoever kills the process by chance does no harm to others.

use anyhow::{Context, Result};
use serde_json::json;
use tribox_tests::chaos;
use tribox_tests::{Stack, wait_until};

/// Whether the poison is in hand, among others or alone.
const IN_HAND: &str = "SELECT count(*) FROM tribox.in_hand
    WHERE tribox.inbox_key('chaos', 'poison') = ANY (inbox_keys)";
const ALONE: &str = "SELECT count(*) FROM tribox.in_hand
    WHERE inbox_keys = ARRAY[tribox.inbox_key('chaos', 'poison')]";

/// The guest spins, as a host would hang that is about to crash, and the process is killed.
#[tokio::test]
async fn what_brings_the_process_down_is_parked_in_the_end() -> Result<()> {
    let mut stack = Stack::new("crash").await?;
    chaos::prepare(&stack).await?;
    stack.config.set("handlers.chaos.limits.fuel", 1_000_000_000_000_000_i64);
    stack.config.set("handlers.chaos.limits.deadline", "10m");
    for n in 0..5 {
        let body = json!({"do": "count"});
        chaos::order(&stack.broker, &format!("before-{n}"), "k", &body).await?;
    }
    chaos::order(&stack.broker, "poison", "k", &json!({"do": "spin"})).await?;
    for n in 0..5 {
        let body = json!({"do": "count"});
        chaos::order(&stack.broker, &format!("after-{n}"), "k", &body).await?;
    }
    // The first crash leaves nothing to go by.
    let mut host = stack.serve().await?;
    wait_until("it is in hand", async || {
        match host.metric("tribox_received_total{handler=\"chaos\"}").await {
            Ok(received) if received >= 11.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    host.kill()?;
    // The second one tells what was in hand.
    let mut host = stack.serve().await?;
    stack.until(IN_HAND, 1).await?;
    host.kill()?;
    // Three more, while it is handled alone.
    for _ in 0..3 {
        let mut host = stack.serve().await?;
        stack.until(ALONE, 1).await?;
        host.kill()?;
    }
    let host = stack.serve().await?;
    stack.handled(11).await?;
    let parked = stack.parked().await?;
    let [parked] = &parked[..] else { anyhow::bail!("{parked:?}") };
    assert_eq!((&*parked.message_id, &*parked.state, &*parked.reason), ("poison", "dead", "crash"));
    let told = chaos::told_when(&stack.broker, 10).await?;
    let counts: Vec<_> = told.iter().filter_map(|told| told.body["count"].as_u64()).collect();
    assert_eq!(counts, (1..=10).collect::<Vec<_>>());
    let suspects = "SELECT count(*) FROM tribox.suspects";
    stack.until(suspects, 0).await?;
    host.stop().await
}

#[tokio::test]
async fn an_end_in_order_is_no_crash() -> Result<()> {
    let mut stack = Stack::new("no-crash").await?;
    chaos::prepare(&stack).await?;
    for n in 0..3 {
        let host = stack.serve().await?;
        let id = format!("c-{n}");
        chaos::order(&stack.broker, &id, "k", &json!({"do": "count"})).await?;
        stack.handled(n + 1).await?;
        host.stop().await?;
    }
    let crashes = "SELECT cardinality(crashes)::bigint FROM tribox.nodes";
    assert_eq!(stack.number(crashes).await.context("crashes")?, 0);
    assert_eq!(stack.number("SELECT count(*) FROM tribox.in_hand").await?, 0);
    Ok(())
}
