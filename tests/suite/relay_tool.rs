//! `tribox relay`: what JetStream acknowledged and then lost stands in its stream again, in order and
//! once, while a host goes on.

use anyhow::Result;
use serde_json::{Value, json};
use tribox_tests::Stack;

use crate::books::{self, COMMANDS, EVENTS};

#[tokio::test]
async fn what_a_broker_lost_is_sent_again_in_order() -> Result<()> {
    let mut stack = Stack::new("relay-tool").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    books::publish(&stack, 0..300).await?;
    books::audit(&stack, 300).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    // As after a power failure: the end of both streams is gone, and the host goes on.
    stack.save_streams().await?;
    books::publish(&stack, 300..500).await?;
    books::audit(&stack, 500).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    let cursors = "SELECT count(*) FROM tribox.outbox o JOIN tribox.writers w ON w.id = o.writer
                    WHERE o.seq > w.published";
    stack.until(cursors, 0).await?;
    stack.restore_streams().await?;
    assert_eq!(stack.broker.read_when(EVENTS, 300).await?.len(), 300);

    let dry = stack.tool_json(&["relay", "--missing", "--dry-run"])?;
    let lost = json!({"compared": 500, "missing": 200, "left": 0, "why_left": null});
    assert_eq!(dry["streams"][EVENTS], lost, "{dry:#}");
    assert_eq!(stack.broker.count(EVENTS).await?, 300, "it was a dry run");
    let of_another = stack.tool_json(&["relay", "--missing", "--handler", "orders"])?;
    assert_eq!(of_another["streams"], json!({}));
    let text = stack.tool(&["relay", "--since", "1h"])?.ok()?;
    assert!(text.contains("200 messages sent again"), "{text}");
    // The audit wants each event once, and those of an account in the order of its commands.
    books::audit(&stack, 500).await?;
    let again = stack.tool_json(&["relay", "--missing"])?;
    assert_eq!(again["streams"][EVENTS]["missing"], Value::from(0), "{again:#}");
    host.stop().await
}

#[tokio::test]
async fn what_was_removed_in_order_is_left_alone() -> Result<()> {
    let mut stack = Stack::new("relay-tool-left").await?;
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    books::publish(&stack, 0..100).await?;
    books::audit(&stack, 100).await?;
    host.stop().await?;
    // A purge keeps the last ten.
    let events = stack.broker.jetstream.get_stream(EVENTS).await?;
    events.purge().keep(10).await?;
    let counts = stack.tool_json(&["relay", "--missing"])?;
    let counts = &counts["streams"][EVENTS];
    assert_eq!(counts["missing"].as_i64().zip(counts["left"].as_i64()), Some((0, 90)), "{counts}");
    assert_eq!(stack.broker.count(EVENTS).await?, 10);
    Ok(())
}
