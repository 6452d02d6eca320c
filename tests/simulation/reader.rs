//! Reading a simulated stream for a handler, by the rules of host/src/stream/consume.rs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tribox::lane::ports::{Admission, Delivery, Source};
use tribox::model::{Description, Failure, Header, Message, identity, key_of};
use tribox::stream::{Fence, lane_of_key};

use crate::broker::{Delivered, Pull};
use crate::nats::SimNats;
use crate::world::{EPOCH, Rule, elapsed};

/// Messages in hand at most.
pub const MOST: usize = 64;
const ACK_WAIT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(500);

pub struct SimReader {
    pub nats: SimNats,
    pub description: Arc<Description>,
    pub filters: Vec<String>,
    pub source: Arc<Source>,
    pub lanes: Vec<mpsc::Sender<Delivery>>,
    pub fence: Fence,
    pub stop: CancellationToken,
}

enum Leave {
    Stopped,
    Reopen,
}

impl SimReader {
    fn durable(&self) -> String {
        format!("tribox-{}", self.description.name)
    }

    pub async fn run(self) {
        let mut expected = None;
        loop {
            let opened = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                opened = self.open(expected) => opened,
            };
            match opened {
                Ok(next) => {
                    expected = Some(next);
                    if matches!(self.read(&mut expected).await, Leave::Stopped) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }

    async fn open(&self, expected: Option<u64>) -> Result<u64, String> {
        self.fence.held().await;
        let (stream, durable) = (&self.source.stream, self.durable());
        let ordered = self.description.keyed();
        let (last, info) = self
            .nats
            .ask(|world| {
                let last = world.broker.stream(stream).map_or(0, |s| s.last());
                (last, world.broker.consumer(stream, &durable).map(|c| c.info()))
            })
            .await?;
        if ordered {
            self.source.went_back(last);
        }
        let Some(info) = info else {
            return self.make(self.source.floor()).await;
        };
        if ordered {
            self.source.went_back(info.delivered_stream);
        }
        let without = self.nats.world.look().without;
        let lost = match expected {
            _ if without == Some(Rule::SetBack) => false,
            Some(expected) => info.delivered_consumer + 1 != expected,
            None => info.ack_pending > 0 || info.waiting > 0,
        };
        if expected.is_none() {
            self.source.advance(info.ack_floor);
        }
        if ordered && lost {
            self.nats.world.look().tally.count("reader: consumer set back");
            return self.make(info.ack_floor).await;
        }
        Ok(info.delivered_consumer + 1)
    }

    async fn make(&self, after: u64) -> Result<u64, String> {
        let (stream, durable) = (&self.source.stream, self.durable());
        self.nats
            .ask(|world| world.broker.make_consumer(stream, &durable, &self.filters, after, MOST))
            .await?;
        Ok(1)
    }

    async fn read(&self, expected: &mut Option<u64>) -> Leave {
        let connection = || self.nats.world.look().line(&self.nats.node).connection;
        let line = connection();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let (to, mut arriving) = mpsc::unbounded_channel();
            let (stream, durable) = (&self.source.stream, self.durable());
            let pull = Pull {
                left: MOST / 2,
                until: EPOCH + elapsed() + 30_000,
                node: self.nats.node.clone(),
                connection: line,
                to,
            };
            let pulled = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Leave::Stopped,
                pulled = self.nats.ask(|world| world.pull(stream, &durable, pull)) => pulled,
            };
            if !pulled.unwrap_or(false) {
                return Leave::Reopen;
            }
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Leave::Stopped,
                    delivered = arriving.recv() => {
                        let Some(delivered) = delivered else { break };
                        if let Some(leave) = self.deliver(delivered, expected).await {
                            return leave;
                        }
                    }
                    _ = tick.tick() => {
                        if connection() != line {
                            return Leave::Reopen;
                        }
                        self.keep_in_hand();
                    }
                }
            }
        }
    }

    fn keep_in_hand(&self) {
        let now = Instant::now().into_std();
        if let Some(since) = now.checked_sub(ACK_WAIT / 3) {
            for reply in self.source.overdue(since, now) {
                self.nats.say(reply, false);
            }
        }
    }

    async fn deliver(&self, delivered: Delivered, expected: &mut Option<u64>) -> Option<Leave> {
        let Delivered { message, consumer_sequence, count, reply } = delivered;
        let without = self.nats.world.look().without;
        if without == Some(Rule::AckLast) {
            self.nats.say(reply.clone(), true);
        }
        let counts = self.description.keyed() && without != Some(Rule::SetBack);
        if counts && expected.is_some_and(|e| e != consumer_sequence) {
            return Some(Leave::Reopen);
        }
        *expected = Some(consumer_sequence + 1);
        let sequence = message.sequence;
        let redelivered = count > 1 || sequence <= self.source.floor();
        let stored_at = u64::try_from(message.at).unwrap_or_default();
        match self.source.admit(sequence, stored_at, &reply, Instant::now().into_std()) {
            Admission::InHand => None,
            Admission::Done => {
                self.nats.say(reply, true);
                None
            }
            Admission::New => {
                let delivery = self.delivery(message, redelivered);
                let key = delivery.message.key.as_ref().unwrap_or(&delivery.message.id);
                let lane = &self.lanes[lane_of_key(key, self.lanes.len())];
                loop {
                    tokio::select! {
                        biased;
                        place = lane.reserve() => {
                            let Ok(place) = place else { return Some(Leave::Stopped) };
                            place.send(delivery);
                            return None;
                        }
                        () = self.stop.cancelled() => return Some(Leave::Stopped),
                        () = tokio::time::sleep(TICK) => self.keep_in_hand(),
                    }
                }
            }
        }
    }

    fn delivery(&self, stored: crate::broker::Stored, redelivered: bool) -> Delivery {
        let (message, unroutable) = message_of(&self.description, &self.source.stream, &stored);
        Delivery {
            message,
            unroutable,
            source: Arc::clone(&self.source),
            sequence: stored.sequence,
            redelivered,
        }
    }
}

/// A stored message as a handler gets it, and why no handler gets it.
pub fn message_of(
    description: &Description,
    stream: &str,
    stored: &crate::broker::Stored,
) -> (Message, Option<Failure>) {
    let mut headers: Vec<Header> = stored
        .headers
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| Header { name: name.to_owned(), value: value.to_owned() })
        .collect();
    if let Some(id) = &stored.id {
        headers.push(Header { name: "Nats-Msg-Id".to_owned(), value: id.clone() });
    }
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let stored_at = u64::try_from(stored.at).unwrap_or_default();
    let key = key_of(&description.subscriptions, &stored.subject, &headers, &stored.payload);
    let message = |key| Message {
        id: identity::message_id(&headers, stream, stored.sequence, stored_at),
        subject: stored.subject.clone(),
        key,
        headers: headers.clone(),
        payload: stored.payload.clone(),
        stored_at,
    };
    match key {
        Ok(key) => (message(key), None),
        Err(why) => (message(None), Some(Failure::NoKey(why))),
    }
}
