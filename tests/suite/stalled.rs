//! A consumer that delivers nothing though messages wait: a host makes it anew, and counts that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tribox_tests::Stack;

use crate::books::{self, COMMANDS};

#[tokio::test]
async fn a_consumer_that_stands_still_is_made_anew() -> Result<()> {
    let mut stack = Stack::new("stalled").await?;
    stack.config.set("nats.stalled", "1s");
    books::prepare(&stack).await?;
    let host = stack.serve().await?;
    books::publish(&stack, 0..50).await?;
    books::audit(&stack, 50).await?;
    let pause = format!("$JS.API.CONSUMER.PAUSE.{COMMANDS}.tribox-accounts");
    let until = json!({"pause_until": "2100-01-01T00:00:00Z"}).to_string();
    let answer = stack.broker.client.request(pause, until.into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer["paused"] == true, "it was not paused: {answer}");
    books::publish(&stack, 50..150).await?;
    books::audit(&stack, 150).await?;
    let stalls = host.metric("tribox_stalled_consumers_total{handler=\"accounts\"}").await?;
    assert_eq!(stalls as u64, 1);
    host.stop().await
}
