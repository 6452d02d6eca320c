//! A node's way to the simulated broker: asking it, acknowledging, and publishing.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tribox::lane::ports::{Delivery, Settle};
use tribox::node::ports::Flush;
use tribox::relay::ports::{Outgoing, Streams};
use tribox::stream::{Event, Fence, Publish, Refusal, StreamInfo};

use crate::broker::Published;
use crate::world::{Inner, Rule, World, elapsed};

/// How long an acknowledgement may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct SimNats {
    pub world: World,
    pub node: String,
}

impl SimNats {
    /// Asks the broker something.
    pub async fn ask<R>(&self, question: impl FnOnce(&mut Inner) -> R) -> Result<R, String> {
        let latency = self.world.look().latency();
        tokio::time::sleep(latency).await;
        let mut world = self.world.look();
        if world.nats_down || world.line(&self.node).no_nats {
            return Err("JetStream does not answer".to_owned());
        }
        if world.strikes("nats: no answer", 0.5) {
            return Err("timed out".to_owned());
        }
        Ok(question(&mut world))
    }

    /// Says something on a delivery; it may get lost.
    pub fn say(&self, reply: String, done: bool) {
        let mut look = self.world.look();
        let lost = look.nats_down || look.line(&self.node).no_nats;
        if lost || look.strikes("nats: acknowledgement lost", 1.0) {
            return;
        }
        let (latency, starts) = (look.latency(), look.nats_starts);
        drop(look);
        let world = self.world.clone();
        tokio::spawn(async move {
            tokio::time::sleep(latency).await;
            let mut world = world.look();
            if !world.nats_down && world.nats_starts == starts {
                world.acknowledge(&reply, done);
            }
        });
    }
}

impl Streams for SimNats {
    async fn find(&self, subjects: &[String]) -> Result<Vec<StreamInfo>, String> {
        let overlap = tribox::model::subject::overlap;
        self.ask(|world| {
            let all = world.broker.streams.iter();
            let found =
                all.filter(|s| s.subjects.iter().any(|a| subjects.iter().any(|b| overlap(a, b))));
            let info = |s: &crate::broker::Stream| StreamInfo {
                name: s.name.clone(),
                created: s.created,
                subjects: s.subjects.clone(),
                dedup_window: Duration::from_millis(u64::try_from(s.window).unwrap_or_default()),
            };
            found.map(info).collect()
        })
        .await
    }

    async fn has_stream(&self, subject: &str) -> Result<bool, String> {
        Ok(!self.find(&[subject.to_owned()]).await?.is_empty())
    }

    async fn ids_since(
        &self,
        stream: &str,
        since: i64,
        ids: &HashSet<String>,
    ) -> Result<HashSet<String>, String> {
        self.ask(|world| {
            world.tally.count("relay: stream read back");
            if world.without == Some(Rule::ReadBack) {
                return HashSet::new();
            }
            let messages = world.broker.stream(stream).map(|s| s.messages.as_slice());
            let messages = messages.unwrap_or_default().iter().filter(|m| m.at >= since);
            let found = messages.filter_map(|m| m.id.clone()).filter(|id| ids.contains(id));
            found.collect()
        })
        .await
    }
}

impl Flush for SimNats {
    async fn flush(&self) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Settle for SimNats {
    async fn settle(&self, deliveries: &[&Delivery]) {
        for delivery in deliveries {
            if let Some(reply) = delivery.done() {
                self.say(reply, true);
            }
        }
    }
}

/// The relay's end of the publisher.
pub struct SimPublisher(mpsc::UnboundedSender<Publish>);

impl Outgoing for SimPublisher {
    fn send(&self, message: Publish) {
        let _ = self.0.send(message);
    }
}

/// What the publisher's thread does, and the connection under it.
pub struct Publishing {
    nats: SimNats,
    fence: Fence,
    incoming: mpsc::UnboundedReceiver<Publish>,
    events: mpsc::UnboundedSender<Event>,
}

impl Publishing {
    pub fn new(
        nats: SimNats,
        fence: Fence,
    ) -> (SimPublisher, mpsc::UnboundedReceiver<Event>, Publishing) {
        let (sender, incoming) = mpsc::unbounded_channel();
        let (events, heard) = mpsc::unbounded_channel();
        (SimPublisher(sender), heard, Publishing { nats, fence, incoming, events })
    }

    pub async fn run(mut self) {
        let mut connection = 0;
        while !self.events.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let line = self.nats.ask(|_| ()).await;
            if line.is_err() || !self.fence.holds() {
                continue;
            }
            connection += 1;
            let _ = self.events.send(Event::Up { connection, max_payload: 1 << 20 });
            let Some(why) = self.session(connection).await else { return };
            let _ = self.events.send(Event::Down { connection, why });
        }
    }

    /// One connection. `None`: the relay is gone.
    async fn session(&mut self, connection: u64) -> Option<String> {
        let broken = |nats: &SimNats| nats.world.look().line(&nats.node).connection;
        let line = broken(&self.nats);
        let (wire, sent) = mpsc::unbounded_channel();
        let (answers, mut acks) = mpsc::unbounded_channel();
        tokio::spawn(carry(self.nats.clone(), line, sent, answers));
        let mut in_flight: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                biased;
                message = self.incoming.recv() => {
                    let message = message?;
                    if message.connection != connection {
                        continue;
                    }
                    if !self.fence.holds() {
                        return Some("the lease was not confirmed in time".to_owned());
                    }
                    if broken(&self.nats) != line {
                        return Some("the connection was lost".to_owned());
                    }
                    if let Some(token) = message.token {
                        in_flight.push_back((token, Instant::now()));
                    }
                    let _ = wire.send((elapsed(), message));
                }
                Some((token, event)) = acks.recv() => {
                    in_flight.retain(|(waiting, _)| *waiting != token);
                    let _ = self.events.send(event);
                }
                _ = tick.tick() => {
                    let oldest = in_flight.front();
                    if !self.fence.holds() {
                        return Some("the lease was not confirmed in time".to_owned());
                    }
                    if broken(&self.nats) != line || oldest.is_some_and(|m| m.1.elapsed() > PATIENCE)
                    {
                        return Some("the connection was lost".to_owned());
                    }
                }
            }
        }
    }
}

/// Carries messages to the broker in their order. What is under way when the connection breaks may
/// arrive nevertheless, up to some point.
async fn carry(
    nats: SimNats,
    line: u64,
    mut sent: mpsc::UnboundedReceiver<(i64, Publish)>,
    answers: mpsc::UnboundedSender<(u64, Event)>,
) {
    let starts = nats.world.look().nats_starts;
    while let Some((at, message)) = sent.recv().await {
        let latency = nats.world.look().latency();
        tokio::time::sleep(latency).await;
        let mut world = nats.world.look();
        let state = *world.line(&nats.node);
        let cut = state.connection != line;
        // Guarantee 4 rests on this: what is on its way takes no longer than a dedup window.
        let shortest = world.broker.streams.iter().map(|stream| stream.window).min();
        let too_late = shortest.is_some_and(|window| elapsed() - at > window * 9 / 10);
        let gone = world.nats_down || world.nats_starts != starts || too_late;
        if gone || state.no_nats || (cut && world.chance.bool()) {
            return;
        }
        let id = message.token.is_some().then_some(message.id.as_str());
        let published = world.publish(id, &message.subject, &message.headers, &message.payload);
        let lost = cut || world.strikes("nats: PubAck lost", 1.0);
        let back = world.latency();
        drop(world);
        let Some(token) = message.token else { continue };
        let event = match published {
            Published::Stored { duplicate } => Event::Stored { token, duplicate },
            Published::NoStream => Event::Refused { token, refusal: Refusal::NoStream },
            Published::Full => {
                let description = "maximum messages exceeded".to_owned();
                let refusal = Refusal::Server { code: 10_077, description };
                Event::Refused { token, refusal }
            }
        };
        if lost {
            continue;
        }
        let answers = answers.clone();
        tokio::spawn(async move {
            tokio::time::sleep(back).await;
            let _ = answers.send((token, event));
        });
    }
}
