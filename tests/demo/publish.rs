//! Publishes the commands, and some of them twice: under the same id, and so that the second one
//! gets past JetStream's own deduplication and reaches the host.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream;
use tribox_tests::Broker;

use crate::plan::Command;

pub const COMMANDS: &str = "COMMANDS";
pub const EVENTS: &str = "EVENTS";
/// The shortest that JetStream knows: its own deduplication must not do the work shown here.
const WINDOW: Duration = Duration::from_millis(100);
const IN_FLIGHT: usize = 512;

/// Makes the stream of commands and the stream of events.
pub async fn make_streams(broker: &Broker) -> Result<()> {
    let commands = ["accounts.*.debit", "accounts.*.credit", "accounts.*.enforce-overdrawn"];
    broker
        .create_stream_with(stream::Config {
            name: COMMANDS.to_owned(),
            subjects: commands.into_iter().chain(["orders.*.add-item"]).map(Into::into).collect(),
            duplicate_window: WINDOW,
            ..Default::default()
        })
        .await?;
    broker.create_stream(EVENTS, &["accounts.events.*.*", "orders.events.*.*"]).await
}

/// Publishes each command once, in order.
pub async fn once(broker: &Broker, commands: &[Command]) -> Result<()> {
    let refused = publish(broker, commands.iter()).await?;
    match refused.first() {
        Some(command) => bail!("JetStream took {} for a duplicate", command.id),
        None => Ok(()),
    }
}

/// Publishes commands again that were published before, until each stands in the stream once more.
pub async fn again(broker: &Broker, commands: &[&Command]) -> Result<()> {
    let mut left = commands.to_vec();
    // An id is refused only as long as the window from its last acceptance on.
    for _ in 0..100 {
        left = publish(broker, left.into_iter()).await?;
        if left.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(WINDOW / 2).await;
    }
    bail!("JetStream still refuses {} duplicates after its window has passed", left.len())
}

/// Publishes in order, many at a time, and returns those that the stream had already.
async fn publish<'a>(
    broker: &Broker,
    commands: impl Iterator<Item = &'a Command>,
) -> Result<Vec<&'a Command>> {
    let mut in_flight: VecDeque<(&Command, PublishAckFuture)> = VecDeque::new();
    let mut refused = Vec::new();
    for command in commands {
        if in_flight.len() >= IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            settle(oldest, &mut refused).await?;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", command.id.as_str());
        let payload = command.payload.to_string().into();
        let (subject, jetstream) = (command.subject.clone(), &broker.jetstream);
        let sent = jetstream.publish_with_headers(subject, headers, payload).await;
        in_flight.push_back((command, sent.context("failed to publish")?));
    }
    for oldest in in_flight {
        settle(oldest, &mut refused).await?;
    }
    Ok(refused)
}

async fn settle<'a>(
    (command, sent): (&'a Command, PublishAckFuture),
    refused: &mut Vec<&'a Command>,
) -> Result<()> {
    let ack = sent.await.with_context(|| format!("failed to publish {}", command.id))?;
    if ack.duplicate {
        refused.push(command);
    }
    Ok(())
}
