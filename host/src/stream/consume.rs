//! Reading one stream for one handler through a durable pull consumer.
//!
//! Where messages have keys, order is all: the reader counts the consumer's own sequence, and where
//! a delivery is missing (lost with a connection, or in hand of a process that died) it sets the
//! consumer back to the last message that was handled without a gap. What comes again is told by the
//! source and the inbox. Without keys, JetStream's redelivery after `ack_wait` is enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumption::{ACK_WAIT, Consumption};
use super::route::{Router, lane_of};
use super::{Acknowledge, Fence, Lag, Nats};
use crate::fault::{self, Point};
use crate::lane::ports::{Admission, Delivery, Source};
use crate::telemetry::{HandlerMetrics, Health};

/// A pull request that stays without a sign of life for twice this long is made anew.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often what is in hand for long is looked after.
const TICK: Duration = Duration::from_millis(500);
/// After this time without a message, nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(100);

/// Messages that are taken in at once where so many have arrived.
const BURST: usize = 64;

/// Reads a stream and hands its messages to lanes.
pub struct Reader {
    pub nats: Nats,
    pub consumption: Consumption,
    pub source: Arc<Source>,
    pub router: Arc<Router>,
    pub lanes: Vec<mpsc::Sender<Delivery>>,
    pub acknowledge: Acknowledge,
    /// The consumer is left alone while it does not hold: it may be another node's by now.
    pub fence: Fence,
    pub health: Arc<Health>,
    pub metrics: HandlerMetrics,
    pub lag: Lag,
    pub stop: CancellationToken,
}

/// Why reading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop, or the lanes are gone.
    Stopped,
    /// The stream is gone, or another one has its name.
    StreamGone,
}

/// What made the reader leave the consumer it had.
enum Leave {
    End(End),
    /// Look at the consumer again; where order matters, deliveries may have been lost.
    Reopen,
    /// It delivers nothing, though messages wait: make it anew.
    Stalled,
}

impl Reader {
    /// Reads until it is stopped or the stream is gone. Anything else is waited for.
    pub async fn run(self) -> End {
        let part = format!("stream {} of {}", self.consumption.stream, self.consumption.unit);
        let mut expected = None;
        let mut failures = 0_u32;
        let end = loop {
            let opened = tokio::select! {
                () = self.stop.cancelled() => break End::Stopped,
                opened = self.open_if_held(expected) => opened,
            };
            match opened {
                Ok(Some((consumer, next))) => {
                    failures = 0;
                    expected = Some(next);
                    self.health.back(&part);
                    let opened = Instant::now();
                    let leave = self.read(&consumer, &mut expected).await;
                    if matches!(leave, Leave::Stalled) {
                        match self.rebuild().await {
                            Ok(next) => expected = next,
                            // It is looked at again, and so is this.
                            Err(why) => self.health.away(&part, &why.to_string()),
                        }
                        continue;
                    }
                    if matches!(leave, Leave::Reopen)
                        && let Err(why) = self.set_unreadable_aside().await
                    {
                        // What made the reader leave is met again, and so is this.
                        tracing::debug!(stream = self.consumption.stream, "{why}");
                    }
                    match leave {
                        Leave::End(end) => break end,
                        // Whatever ends so soon may do so again: no busy loop.
                        Leave::Reopen if opened.elapsed() < Duration::from_secs(1) => {
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                        Leave::Reopen | Leave::Stalled => {}
                    }
                }
                Ok(None) => break End::StreamGone,
                Err(why) => {
                    failures += 1;
                    self.health.away(&part, &why.to_string());
                    let pause = Duration::from_millis(100).saturating_mul(1 << failures.min(5));
                    tokio::select! {
                        () = self.stop.cancelled() => break End::Stopped,
                        () = tokio::time::sleep(pause.min(Duration::from_secs(2))) => {}
                    }
                }
            }
        };
        self.health.forget(&part);
        end
    }

    /// Hands messages to lanes until something is off.
    async fn read(&self, consumer: &PullConsumer, expected: &mut Option<u64>) -> Leave {
        let connects = self.nats.connects();
        let messages = consumer
            .stream()
            .max_messages_per_batch(usize::try_from(self.consumption.max_in_hand / 2).unwrap_or(1))
            .expires(Duration::from_secs(30))
            .heartbeat(HEARTBEAT)
            .messages()
            .await;
        let mut messages = match messages {
            Ok(messages) => messages,
            Err(why) => {
                tracing::debug!(stream = self.consumption.stream, "cannot pull: {why}");
                return Leave::Reopen;
            }
        };
        let mut tick = tokio::time::interval(TICK);
        let mut heard = Instant::now();
        loop {
            let mut next = tokio::select! {
                () = self.stop.cancelled() => {
                    self.give_back(&mut messages).await;
                    return Leave::End(End::Stopped);
                }
                next = messages.next() => next,
                _ = tick.tick() => {
                    if self.nats.connects() != connects && self.nats.connected() {
                        return Leave::Reopen;
                    }
                    self.keep_in_hand().await;
                    if heard.elapsed() >= self.consumption.stalled {
                        heard = Instant::now();
                        if self.is_stalled().await {
                            return Leave::Stalled;
                        }
                    }
                    continue;
                }
            };
            heard = Instant::now();
            // What is there already needs no look at the clock.
            for left in (0..BURST).rev() {
                match next {
                    Some(Ok(message)) => {
                        if let Some(leave) = self.deliver(message, expected).await {
                            return leave;
                        }
                    }
                    Some(Err(why)) => {
                        tracing::debug!(stream = self.consumption.stream, "pull: {why}");
                        return Leave::Reopen;
                    }
                    None => return Leave::Reopen,
                }
                // None is taken that this round would not hand on.
                let ready = if left > 0 { messages.next().now_or_never() } else { None };
                match ready {
                    Some(ready) => next = ready,
                    None => break,
                }
            }
        }
    }

    /// Gives back what was delivered and is not handled any more, so that another host, or the next
    /// one, gets it at once. Where messages have keys, the next reader sets the consumer back anyway.
    async fn give_back(&self, messages: &mut pull::Stream) {
        if self.consumption.ordered {
            return;
        }
        // What is given back counts as in hand for a second, so that what comes in here ends soon.
        let rest = async {
            while let Ok(Some(Ok(message))) = tokio::time::timeout(QUIET, messages.next()).await {
                self.acknowledge.give_back(message.reply.as_deref().unwrap_or_default()).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(900), rest).await;
    }

    /// Asks for more time for what has been in hand for long (the database is away, say).
    async fn keep_in_hand(&self) {
        let now = Instant::now();
        if let Some(since) = now.checked_sub(ACK_WAIT / 3) {
            for reply in self.source.overdue(since, now) {
                self.acknowledge.in_progress(&reply).await;
            }
        }
    }

    async fn deliver(
        &self,
        message: jetstream::Message,
        expected: &mut Option<u64>,
    ) -> Option<Leave> {
        let info = match message.info() {
            Ok(info) => info,
            Err(why) => {
                tracing::error!(
                    stream = self.consumption.stream,
                    subject = %message.subject,
                    "a delivery without JetStream's reply subject is left alone: {why}"
                );
                return None;
            }
        };
        if fault::point(Point::Received).is_err() {
            return Some(Leave::Reopen);
        }
        if !self.router.subscribes(&message.subject) {
            // Where there is order, the consumer is made anew, and does not deliver it again.
            if !self.consumption.ordered {
                self.acknowledge.ack(message.reply.as_deref().unwrap_or_default()).await;
            }
            self.consumption.filters.met_others();
            return Some(Leave::Reopen);
        }
        let sequence = info.stream_sequence;
        if self.consumption.ordered && expected.is_some_and(|e| e != info.consumer_sequence) {
            return Some(Leave::Reopen);
        }
        *expected = Some(info.consumer_sequence + 1);
        let redelivered = info.delivered > 1 || sequence <= self.source.floor();
        let stored_at = info.published.unix_timestamp_nanos() / 1_000_000;
        let stored_at = u64::try_from(stored_at).unwrap_or_default();
        self.lag.set(info.pending);
        let reply = message.reply.as_deref().unwrap_or_default().to_owned();
        match self.source.admit(sequence, stored_at, &reply, Instant::now()) {
            Admission::InHand => None,
            Admission::Done => {
                self.acknowledge.ack(&reply).await;
                None
            }
            Admission::New => {
                self.metrics.received.inc();
                let delivery =
                    self.router.delivery(&self.source, sequence, redelivered, stored_at, message);
                let lane = lane_of(&delivery.message, self.lanes.len());
                self.hand_over(&self.lanes[lane], delivery, &reply).await
            }
        }
    }

    /// Hands a message to its lane, which may take its time (the handler is paused, say).
    async fn hand_over(
        &self,
        lane: &mpsc::Sender<Delivery>,
        delivery: Delivery,
        reply: &str,
    ) -> Option<Leave> {
        loop {
            tokio::select! {
                place = lane.reserve() => {
                    let Ok(place) = place else { return Some(Leave::End(End::Stopped)) };
                    place.send(delivery);
                    return None;
                }
                () = self.stop.cancelled() => {
                    if self.consumption.ordered {
                        // Nothing behind it may be handed over.
                        return Some(Leave::End(End::Stopped));
                    }
                    self.acknowledge.give_back(reply).await;
                    // Reading ends with the next look, which gives back what else has arrived.
                    return None;
                }
                () = tokio::time::sleep(TICK) => self.keep_in_hand().await,
            }
        }
    }
}
