//! The guest `chaos` as tests use it: its streams, what it is told to do, and what it tells.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Broker, Stack, wait_until};

/// The stream of what it is told to do.
pub const ORDERS: &str = "CHAOS";
/// The stream of what it tells.
pub const EVENTS: &str = "EVENTS";

/// Drops it in and makes its streams.
///
/// # Errors
/// The guest was not built, or the server refuses.
pub async fn prepare(stack: &Stack) -> Result<()> {
    stack.drop_in(&["chaos"])?;
    stack.broker.create_stream(ORDERS, &["chaos.*.do"]).await?;
    stack.broker.create_stream(EVENTS, &["chaos.events.*.*"]).await
}

/// Tells it to do something, as message `id` of `key`; returns the stream's sequence.
///
/// # Errors
/// The stream does not take it.
pub async fn order(broker: &Broker, id: &str, key: &str, payload: &Value) -> Result<u64> {
    let subject = format!("chaos.{key}.do");
    Ok(broker.publish_as(id, &subject, payload.to_string()).await?.sequence)
}

/// What it told: an event of [`EVENTS`].
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub key: String,
    pub verb: String,
    pub body: Value,
    /// The `Nats-Msg-Id`.
    pub id: String,
}

/// All that it told so far, in order.
///
/// # Errors
/// The stream cannot be read, or has what `chaos` does not tell.
pub async fn told(broker: &Broker) -> Result<Vec<Told>> {
    let stored = broker.read(EVENTS).await?.into_iter().map(|event| {
        let mut tokens = event.subject.rsplit('.');
        let verb = tokens.next().context("no verb")?.to_owned();
        let key = tokens.next().context("no key")?.to_owned();
        Ok(Told { key, verb, body: event.json(), id: event.id.context("no id")? })
    });
    stored.collect()
}

/// Waits until it has told `count` things, and returns them.
///
/// # Errors
/// It takes too long.
pub async fn told_when(broker: &Broker, count: usize) -> Result<Vec<Told>> {
    wait_until(&format!("chaos has told {count} things"), async || {
        match broker.count(EVENTS).await {
            Ok(found) if found >= count as u64 => Ok(()),
            Ok(found) => Err(format!("{found} events")),
            Err(e) => Err(format!("{e:#}")),
        }
    })
    .await?;
    told(broker).await
}
