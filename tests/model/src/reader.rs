//! A node's reader of the stream, and its consumer: `host/src/stream/consume.rs`.

use crate::Protocol;
use crate::rules::Rule;
use crate::world::{Consumer, Source, Stage, World};

/// What to do with a message that was delivered. `Admission` in `lane/source.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    New,
    InHand,
    Done,
}

impl Source {
    pub(crate) fn admission(&self, seq: u8) -> Admission {
        match self.in_hand.iter().find(|(s, _)| *s == seq) {
            Some((_, true)) => Admission::Done,
            Some((_, false)) => Admission::InHand,
            None => Admission::New,
        }
    }

    fn admit(&mut self, seq: u8) {
        self.in_hand.push((seq, false));
        self.in_hand.sort_unstable();
    }

    /// Notes that a message is handled, and moves the floor past what is without a gap.
    pub(crate) fn done(&mut self, seq: u8) {
        for (_, done) in self.in_hand.iter_mut().filter(|(s, _)| *s == seq) {
            *done = true;
        }
        while let Some((seq, true)) = self.in_hand.first() {
            self.floor = self.floor.max(*seq);
            self.in_hand.remove(0);
        }
    }
}

impl Protocol {
    /// Finds the consumer, makes it, or sets it back.
    pub(crate) fn open_reader(&self, world: &mut World, node: u8) {
        let complete = world.node(node).reader.complete;
        let others = |n: usize| n != usize::from(node);
        let waiting =
            world.nodes.iter().enumerate().any(|(n, other)| others(n) && other.reader.open);
        let Some(consumer) = world.broker.consumer.clone() else {
            let floor = world.node(node).source.floor;
            return self.make_consumer(world, node, floor);
        };
        let lost = match complete {
            Some(complete) => !complete && self.rules.keep(Rule::CountDeliveries),
            None => {
                let elsewhere = !consumer.pending.is_empty() || waiting;
                elsewhere && self.rules.keep(Rule::SetBack)
            }
        };
        let floor = consumer.floor();
        let own = world.node_mut(node);
        if complete.is_none() {
            own.source.floor = own.source.floor.max(floor);
        }
        if lost {
            return self.make_consumer(world, node, floor);
        }
        own.reader.open = true;
        own.reader.complete = Some(true);
    }

    /// Makes the consumer anew behind `floor`; whoever had it has it no more.
    fn make_consumer(&self, world: &mut World, node: u8, floor: u8) {
        self.delete_consumer(world);
        world.broker.consumer = Some(Consumer::after(floor));
        let reader = &mut world.node_mut(node).reader;
        reader.open = true;
        reader.complete = Some(true);
    }

    pub(crate) fn delete_consumer(&self, world: &mut World) {
        world.broker.consumer = None;
        for reader in world.nodes.iter_mut().map(|node| &mut node.reader) {
            reader.open = false;
            reader.complete = reader.complete.map(|_| false);
        }
    }

    /// The next message of the stream goes to a reader, or is lost on its way there.
    pub(crate) fn deliver(&self, world: &mut World, node: u8, arrives: bool) {
        let Some(consumer) = &mut world.broker.consumer else { return };
        let seq = consumer.next;
        consumer.next += 1;
        consumer.pending.add(seq);
        self.delivered(world, node, seq, false, arrives);
    }

    /// A message that was not acknowledged is delivered again.
    pub(crate) fn redeliver(&self, world: &mut World, node: u8, seq: u8) {
        self.delivered(world, node, seq, true, true);
    }

    fn delivered(&self, world: &mut World, node: u8, seq: u8, redelivered: bool, arrives: bool) {
        for (n, other) in world.nodes.iter_mut().enumerate() {
            if n != usize::from(node) || !arrives {
                other.reader.complete = other.reader.complete.map(|_| false);
            }
        }
        if !arrives {
            return;
        }
        let own = world.node_mut(node);
        if own.reader.complete == Some(false) && self.rules.keep(Rule::CountDeliveries) {
            // `Leave::Reopen`: what was just delivered is dropped with what else is in the client.
            own.reader.open = false;
            return;
        }
        own.reader.complete = Some(true);
        match own.source.admission(seq) {
            Admission::InHand => {}
            Admission::Done => {
                if let Some(consumer) = &mut world.broker.consumer {
                    consumer.pending.remove(seq);
                }
            }
            Admission::New => {
                let redelivered = redelivered || seq <= own.source.floor;
                own.source.admit(seq);
                let lane = self.lane_of(self.scene.message(seq).key);
                own.lanes[usize::from(lane)].queue.push((seq, redelivered));
            }
        }
    }

    /// Whether a reader may look after its consumer: while its node is what it was.
    pub(crate) fn may_open_reader(&self, world: &World, node: u8) -> bool {
        let own = world.node(node);
        own.stage == Stage::Working && !own.reader.open && world.postgres.holds(node, own.epoch)
    }
}
