//! `tribox status`: what it says is what stands in the tables, of a host that runs and of one that
//! does not.

use anyhow::Result;
use serde_json::json;
use tribox_tests::Stack;
use tribox_tests::chaos::{self, ORDERS};

#[tokio::test]
async fn a_host_and_what_waits_are_shown() -> Result<()> {
    let mut stack = Stack::new("status").await?;
    let text = stack.tool(&["status"])?.ok()?;
    assert!(text.contains("no host has run") && text.contains("no handler has run"), "{text}");
    chaos::prepare(&stack).await?;
    stack.config.set("node.name", "node-7");
    let host = stack.serve().await?;
    for (id, key, what) in [
        ("m-1", "a", json!({"do": "retry"})),
        ("m-2", "a", json!({"do": "count"})),
        ("m-3", "b", json!({"do": "reject"})),
        ("m-4", "c", json!({"do": "delay", "ms": 3_600_000})),
    ] {
        chaos::order(&stack.broker, id, key, &what).await?;
    }
    stack.handled(4).await?;
    stack.broker.settled(ORDERS, "chaos").await?;
    let status = stack.tool_json(&["status"])?;
    let node = &status["nodes"][0];
    assert_eq!(
        (&node["name"], &node["state"]),
        (&json!("node-7"), &json!("running")),
        "{status:#}"
    );
    assert!(node["holder"].as_str().is_some_and(|holder| holder.starts_with("process ")));
    let handler = &status["handlers"][0];
    for (field, expected) in [
        ("handler", json!("chaos")),
        ("version", json!("0.1.0")),
        ("retrying", json!(1)),
        ("waiting", json!(1)),
        ("holding", json!(0)),
        ("dead", json!(1)),
        ("scheduled", json!(1)),
        ("undelivered", json!(0)),
        ("paused_by", json!(null)),
    ] {
        assert_eq!(handler[field], expected, "{field}: {handler:#}");
    }
    let position = &status["positions"][0];
    assert_eq!((&position["stream"], &position["handled"]), (&json!(ORDERS), &json!(4)));
    host.stop().await?;
    // What a host has committed and not published shows, too.
    let unsent =
        "INSERT INTO tribox.outbox (writer, seq, committed_at, id, subject, headers, payload)
                  SELECT id, 1000000, now() - interval '9 min', 'x', 'y', '', '' FROM tribox.writers
                   WHERE handler = 'chaos' AND lane = 0";
    sqlx::query(unsent).execute(&stack.pool).await?;
    let status = stack.tool_json(&["status"])?;
    let handler = &status["handlers"][0];
    assert_eq!(handler["unpublished"], 1, "{handler:#}");
    assert!(handler["oldest_unsent_ms"].as_i64().is_some_and(|ms| ms >= 540_000), "{handler:#}");
    let text = stack.tool(&["status"])?.ok()?;
    assert!(text.contains("node-7") && text.contains("9 min") && text.contains(ORDERS), "{text}");
    Ok(())
}
