//! A simulated JetStream: streams with a dedup window, durable pull consumers with explicit
//! acknowledgements, and what goes wrong with them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::sync::mpsc;
use tribox::model::subject::matches;

use crate::world::{EPOCH, Inner, Rule, elapsed};

/// When a delivery that was not acknowledged comes again: milliseconds.
const ACK_WAIT: i64 = 30_000;

#[derive(Debug, Clone)]
pub struct Stored {
    pub sequence: u64,
    /// How many messages the broker had stored before: this number is not given twice.
    pub arrival: u64,
    pub id: Option<String>,
    pub subject: String,
    pub headers: String,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
}

#[derive(Debug)]
pub struct Stream {
    pub name: String,
    pub subjects: Vec<String>,
    /// Unix seconds.
    pub created: i64,
    /// How long ids are remembered, in milliseconds.
    pub window: i64,
    /// It takes nothing now (it is full, say).
    pub full: bool,
    pub messages: Vec<Stored>,
    /// What it had confirmed and lost.
    pub lost: Vec<Stored>,
    seen: BTreeMap<String, i64>,
    pub consumers: BTreeMap<String, Consumer>,
}

/// A message on its way to a reader.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub message: Stored,
    pub consumer_sequence: u64,
    pub count: u64,
    pub reply: String,
}

/// A pull request that waits.
#[derive(Debug)]
pub struct Pull {
    pub left: usize,
    pub until: i64,
    pub node: String,
    pub connection: u64,
    pub to: mpsc::UnboundedSender<Delivered>,
}

#[derive(Debug)]
struct Pending {
    at: i64,
    count: u64,
}

#[derive(Debug, Default)]
pub struct Consumer {
    filters: Vec<String>,
    /// The last message of the stream that was delivered, and how many deliveries there were.
    delivered: u64,
    deliveries: u64,
    pending: BTreeMap<u64, Pending>,
    again: VecDeque<u64>,
    most: usize,
    pulls: VecDeque<Pull>,
}

/// What a consumer says of itself.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerInfo {
    pub delivered_stream: u64,
    pub delivered_consumer: u64,
    pub ack_floor: u64,
    pub ack_pending: usize,
    pub waiting: usize,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    Stored { duplicate: bool },
    NoStream,
    Full,
}

#[derive(Debug, Default)]
pub struct Broker {
    pub streams: Vec<Stream>,
    arrivals: u64,
}

/// The time by the clock of the broker.
fn now() -> i64 {
    EPOCH + elapsed()
}

impl Stream {
    pub fn last(&self) -> u64 {
        self.messages.last().map_or(0, |m| m.sequence)
    }

    /// All that was ever stored, in the order of its arrival.
    pub fn ever(&self) -> Vec<&Stored> {
        let mut all: Vec<&Stored> = self.messages.iter().chain(&self.lost).collect();
        all.sort_by_key(|m| m.arrival);
        all
    }

    /// Loses up to so many of the last messages, as a server without power does that had not synced
    /// them; their sequences and ids are free again, and consumers are back where the stream ends.
    pub fn lose_end(&mut self, count: usize) {
        let kept = self.messages.len().saturating_sub(count);
        for lost in self.messages.split_off(kept) {
            if let Some(id) = &lost.id {
                self.seen.remove(id);
            }
            self.lost.push(lost);
        }
        let last = self.last();
        for consumer in self.consumers.values_mut() {
            consumer.delivered = consumer.delivered.min(last);
            consumer.pending.retain(|sequence, _| *sequence <= last);
            consumer.again.retain(|sequence| *sequence <= last);
            consumer.pulls.clear();
        }
    }
}

impl Consumer {
    fn wants(&self, message: &Stored) -> bool {
        self.filters.iter().any(|filter| matches(filter, &message.subject))
    }

    pub fn info(&self) -> ConsumerInfo {
        ConsumerInfo {
            delivered_stream: self.delivered,
            delivered_consumer: self.deliveries,
            ack_floor: self.pending.keys().next().map_or(self.delivered, |first| first - 1),
            ack_pending: self.pending.len(),
            waiting: self.pulls.iter().filter(|pull| pull.until > now()).count(),
        }
    }

    /// Whether all of a stream was delivered and acknowledged.
    pub fn drained(&self, stream: &[Stored]) -> bool {
        let rest = stream.iter().filter(|m| m.sequence > self.delivered);
        self.pending.is_empty() && !rest.into_iter().any(|m| self.wants(m))
    }
}

impl Broker {
    pub fn create(&mut self, name: &str, subjects: &[&str], window: i64) {
        self.streams.push(Stream {
            name: name.to_owned(),
            subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
            created: now() / 1_000,
            window,
            full: false,
            messages: Vec::new(),
            lost: Vec::new(),
            seen: BTreeMap::new(),
            consumers: BTreeMap::new(),
        });
    }

    pub fn stream(&mut self, name: &str) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.name == name)
    }

    pub fn consumer(&mut self, stream: &str, name: &str) -> Option<&mut Consumer> {
        self.stream(stream)?.consumers.get_mut(name)
    }

    /// Makes a consumer that begins behind `after`, in the place of one of the same name.
    pub fn make_consumer(
        &mut self,
        stream: &str,
        name: &str,
        filters: &[String],
        after: u64,
        most: usize,
    ) {
        let Some(stream) = self.stream(stream) else { return };
        let consumer =
            Consumer { filters: filters.to_vec(), delivered: after, most, ..Consumer::default() };
        stream.consumers.insert(name.to_owned(), consumer);
    }
}

impl Inner {
    pub fn publish(
        &mut self,
        id: Option<&str>,
        subject: &str,
        headers: &str,
        payload: &Bytes,
    ) -> Published {
        let takes = |s: &&mut Stream| s.subjects.iter().any(|filter| matches(filter, subject));
        let Some(stream) = self.broker.streams.iter_mut().find(takes) else {
            return Published::NoStream;
        };
        if let Some(id) = id
            && stream.seen.get(id).is_some_and(|at| now() - at < stream.window)
            && self.without != Some(Rule::Dedup)
        {
            return Published::Stored { duplicate: true };
        }
        if stream.full {
            return Published::Full;
        }
        let sequence = stream.last() + 1;
        let arrival = self.broker.arrivals;
        self.broker.arrivals += 1;
        if let Some(id) = id {
            stream.seen.insert(id.to_owned(), now());
        }
        stream.messages.push(Stored {
            sequence,
            arrival,
            id: id.map(str::to_owned),
            subject: subject.to_owned(),
            headers: headers.to_owned(),
            payload: payload.clone(),
            at: now(),
        });
        let name = stream.name.clone();
        self.trace.note(&format!("stored {name} {sequence} {subject} {}", id.unwrap_or("-")));
        self.deliver(&name);
        Published::Stored { duplicate: false }
    }

    /// Hands what there is to the pull requests that wait.
    pub fn deliver(&mut self, stream: &str) {
        let names: Vec<String> = match self.broker.stream(stream) {
            Some(stream) => stream.consumers.keys().cloned().collect(),
            None => return,
        };
        for name in names {
            while self.deliver_one(stream, &name) {}
        }
    }

    fn deliver_one(&mut self, stream_name: &str, name: &str) -> bool {
        let down = self.nats_down;
        let Some(stream) = self.broker.stream(stream_name) else { return false };
        let Some(consumer) = stream.consumers.get_mut(name) else { return false };
        consumer.pulls.retain(|pull| pull.left > 0 && pull.until > now());
        if down || consumer.pulls.is_empty() {
            return false;
        }
        let again = loop {
            match consumer.again.pop_front() {
                Some(sequence) if consumer.pending.contains_key(&sequence) => break Some(sequence),
                Some(_) => {}
                None => break None,
            }
        };
        let fresh = || {
            let rest = stream.messages.iter().filter(|m| m.sequence > consumer.delivered);
            rest.into_iter().find(|m| consumer.wants(m))
        };
        let message = match again {
            Some(sequence) => stream.messages.iter().find(|m| m.sequence == sequence),
            None if consumer.pending.len() < consumer.most => fresh(),
            None => None,
        };
        let Some(message) = message.cloned() else { return false };
        consumer.deliveries += 1;
        consumer.delivered = consumer.delivered.max(message.sequence);
        let pending =
            consumer.pending.entry(message.sequence).or_insert(Pending { at: 0, count: 0 });
        pending.at = now();
        pending.count += 1;
        let delivered = Delivered {
            consumer_sequence: consumer.deliveries,
            count: pending.count,
            reply: format!("{stream_name} {name} {}", message.sequence),
            message,
        };
        let Some(pull) = consumer.pulls.front_mut() else { return false };
        pull.left -= 1;
        let (node, connection, to) = (pull.node.clone(), pull.connection, pull.to.clone());
        let line = *self.line(&node);
        let reaches = line.connection == connection && !line.no_nats;
        if reaches && !self.strikes("nats: delivery lost", 0.3) {
            // An error means that the reader is gone, and the delivery with it.
            let _ = to.send(delivered);
        }
        true
    }

    /// A word on a delivery: `+ACK` or `+WPI`.
    pub fn acknowledge(&mut self, reply: &str, done: bool) {
        let mut parts = reply.split(' ');
        let (Some(stream), Some(name), Some(sequence)) = (parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let Ok(sequence) = sequence.parse::<u64>() else { return };
        let Some(consumer) = self.broker.consumer(stream, name) else { return };
        if done {
            consumer.pending.remove(&sequence);
        } else if let Some(pending) = consumer.pending.get_mut(&sequence) {
            pending.at = now();
        }
        self.deliver(stream);
    }

    /// A pull request.
    pub fn pull(&mut self, stream: &str, name: &str, pull: Pull) -> bool {
        let Some(consumer) = self.broker.consumer(stream, name) else { return false };
        consumer.pulls.push_back(pull);
        self.deliver(stream);
        true
    }

    /// Looks after deliveries that were not acknowledged in time.
    pub fn tick(&mut self) {
        let mut again = 0;
        for consumer in self.broker.streams.iter_mut().flat_map(|s| s.consumers.values_mut()) {
            for (sequence, pending) in &mut consumer.pending {
                if now() - pending.at >= ACK_WAIT && !consumer.again.contains(sequence) {
                    pending.at = now();
                    consumer.again.push_back(*sequence);
                    again += 1;
                }
            }
        }
        for _ in 0..again {
            self.tally.count("nats: redelivery");
        }
        let names: Vec<String> = self.broker.streams.iter().map(|s| s.name.clone()).collect();
        names.iter().for_each(|name| self.deliver(name));
    }
}
