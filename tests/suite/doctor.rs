//! `tribox doctor`: each thing that is wrong is found and named, with the command that mends it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::Stack;
use tribox_tests::chaos::{self, ORDERS};

fn findings(stack: &Stack) -> Result<Vec<Value>> {
    let ran = stack.tool(&["doctor", "--json"])?;
    let findings = ran.json()?["findings"].as_array().context("findings")?.clone();
    assert_eq!(ran.code, Some(i32::from(!findings.is_empty())), "{ran:?}");
    Ok(findings)
}

/// Holds that one of them says `what` and wants `then`.
fn has(findings: &[Value], what: &str, then: &str) {
    let found = findings
        .iter()
        .find(|finding| finding["what"].as_str().is_some_and(|text| text.contains(what)));
    let found = found.unwrap_or_else(|| panic!("nothing says {what}: {findings:#?}"));
    assert!(found["then"].as_str().is_some_and(|text| text.contains(then)), "{found:#}");
}

#[tokio::test]
async fn what_is_wrong_is_found_and_named() -> Result<()> {
    let mut stack = Stack::new("doctor").await?;
    stack.drop_in(&["chaos"])?;
    let first = findings(&stack)?;
    has(&first, "no host runs", "tribox serve");
    has(&first, "no stream takes chaos.*.do", "tribox provision");
    chaos::prepare(&stack).await?;
    stack.broker.create_stream("NOWHERE", &["nowhere.>"]).await?;
    let host = stack.serve().await?;
    chaos::order(&stack.broker, "m-1", "a", &json!({"do": "count"})).await?;
    stack.handled(1).await?;
    stack.broker.settled(ORDERS, "chaos").await?;
    assert_eq!(findings(&stack)?, Vec::<Value>::new());
    assert_eq!(stack.tool(&["doctor"])?.ok()?, "nothing is wrong\n");

    chaos::order(&stack.broker, "m-2", "b", &json!({"do": "reject"})).await?;
    stack.handled(2).await?;
    stack.broker.settled(ORDERS, "chaos").await?;
    stack.tool(&["pause", "chaos"])?.ok()?;
    // As if the database had been restored to before the last two.
    sqlx::query("DELETE FROM tribox.inbox").execute(&stack.pool).await?;
    sqlx::query("UPDATE tribox.consumers SET handled = 0, floor = 0").execute(&stack.pool).await?;
    let worse = findings(&stack)?;
    has(&worse, "1 message could not be handled", "tribox parked list --handler chaos");
    has(&worse, "it is paused, by somebody@", "tribox resume chaos");
    has(&worse, "told that 2 messages of CHAOS were handled", "tribox rewind chaos");
    let text = stack.tool(&["doctor"])?;
    assert!(text.err.contains("3 things to look at"), "{text:?}");
    assert!(text.out.contains("handler chaos: it is paused"), "{text:?}");
    host.stop().await?;

    let stream = stack.broker.jetstream.get_stream(ORDERS).await?;
    stream.delete_consumer("tribox-chaos").await?;
    has(&findings(&stack)?, "its consumer of CHAOS is gone", "tribox serve");
    stack.broker.jetstream.delete_stream(ORDERS).await?;
    has(&findings(&stack)?, "stream CHAOS, which it has read, is gone", "tribox provision");
    stack.nats.kill()?;
    let away = findings(&stack)?;
    let about = |finding: &Value| finding["about"] == "NATS";
    assert!(away.iter().any(about), "{away:#?}");
    Ok(())
}
