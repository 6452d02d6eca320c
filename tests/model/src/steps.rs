//! What can happen in a state, and what comes of it.

use crate::Protocol;
use crate::reader::Admission;
use crate::rules::Rule;
use crate::scene::Faults;
use crate::world::{Stage, State, Turn, World};

/// One step of a node, a server or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    // A node begins, lives and ends.
    Start {
        node: u8,
    },
    Beat {
        node: u8,
    },
    Bury {
        node: u8,
    },
    Claim {
        node: u8,
    },
    Open {
        node: u8,
    },
    Crash {
        node: u8,
    },
    /// Of a node that is frozen, cut off or dead.
    LeaseEnds {
        node: u8,
    },
    Stop {
        node: u8,
    },
    // It reads the stream.
    OpenReader {
        node: u8,
    },
    Deliver {
        node: u8,
    },
    LoseDelivery {
        node: u8,
    },
    Redeliver {
        node: u8,
        seq: u8,
    },
    DeleteConsumer,
    // Its lanes take turns.
    Drain {
        node: u8,
        lane: u8,
        due: bool,
    },
    MakeSure {
        node: u8,
        lane: u8,
    },
    Load {
        node: u8,
        lane: u8,
    },
    AskHeld {
        node: u8,
        lane: u8,
    },
    Handle {
        node: u8,
        lane: u8,
    },
    GiveUp {
        node: u8,
        lane: u8,
    },
    Settle {
        node: u8,
        lane: u8,
    },
    SettleUnheard {
        node: u8,
        lane: u8,
    },
    // A commit reaches Postgres, or never does.
    Commit {
        at: usize,
    },
    LoseCommit {
        at: usize,
    },
    // Its relay publishes.
    ReadLog {
        node: u8,
        log: u8,
    },
    Ask {
        node: u8,
        log: u8,
    },
    Send {
        node: u8,
        log: u8,
    },
    Arrive {
        node: u8,
    },
    ArriveUnheard {
        node: u8,
    },
    Break {
        node: u8,
    },
    WriteCursors {
        node: u8,
    },
    LookOut {
        node: u8,
        log: u8,
    },
    // What an old connection had taken arrives late, or never.
    ArriveLate {
        ghost: usize,
    },
    Vanish {
        ghost: usize,
    },
    /// The dedup window of an entry ends.
    Forget {
        id: u8,
    },
}

impl Protocol {
    /// Takes a fault out of what is left, if this step is one.
    fn spend(&self, world: &World, step: Step) -> Option<Faults> {
        let mut left = world.left;
        let running = |node: u8| !matches!(world.node(node).stage, Stage::Down | Stage::Gone);
        let budget = match step {
            Step::Crash { .. } => &mut left.crashes,
            Step::LeaseEnds { node } if running(node) => &mut left.lapses,
            Step::Stop { .. } => &mut left.stops,
            Step::LoseDelivery { .. } => &mut left.lost_deliveries,
            Step::DeleteConsumer => &mut left.deletions,
            Step::GiveUp { .. } => &mut left.give_ups,
            Step::SettleUnheard { .. } => &mut left.lost_acks,
            Step::ArriveUnheard { .. } => &mut left.lost_pub_acks,
            Step::Break { node } if !self.must_break(world, node) => &mut left.breaks,
            Step::Forget { .. } => &mut left.forgets,
            _ => return Some(left),
        };
        *budget = budget.checked_sub(1)?;
        Some(left)
    }

    /// Whether a step is a fault: what goes on without it has to go on by itself.
    pub fn is_fault(&self, world: &World, step: Step) -> bool {
        self.spend(world, step).is_none_or(|left| left != world.left)
    }

    /// Whether a connection is dropped by itself: an acknowledgement does not come, or the node may
    /// have been replaced.
    fn must_break(&self, world: &World, node: u8) -> bool {
        let own = world.node(node);
        let mut slots = own.relay.iter().flat_map(|relayed| &relayed.slots);
        let mut in_flight = slots.by_ref().filter(|slot| slot.state == State::InFlight);
        in_flight.any(|slot| !own.wire.contains(&slot.id))
            || (!own.wire.is_empty()
                && !world.postgres.holds(node, own.epoch)
                && self.rules.keep(Rule::PublisherFence))
    }

    /// Every step that can be taken in a state.
    pub fn steps(&self, world: &World, steps: &mut Vec<Step>) {
        let from = steps.len();
        if let Some(step) = self.urgent(world) {
            return steps.push(step);
        }
        for (own, node) in world.nodes.iter().zip(0..) {
            if matches!(own.stage, Stage::Down | Stage::Gone) {
                if own.stage == Stage::Down {
                    steps.push(Step::Start { node });
                }
            } else {
                self.life(world, node, steps);
                self.relaying(world, node, steps);
            }
            let name = &world.postgres.names[usize::from(node)];
            if name.lease && !name.clean {
                steps.push(Step::LeaseEnds { node });
            }
            if own.stage == Stage::Working {
                self.reading(world, node, steps);
                (0..self.scene.lanes).for_each(|lane| self.turns(world, node, lane, steps));
            }
        }
        for (commit, at) in world.postgres.on_their_way.iter().zip(0..) {
            steps.push(Step::Commit { at });
            if !commit.awaited {
                steps.push(Step::LoseCommit { at });
            }
        }
        for ghost in 0..world.broker.ghosts.len() {
            steps.extend([Step::ArriveLate { ghost }, Step::Vanish { ghost }]);
        }
        if world.broker.consumer.is_some() {
            steps.push(Step::DeleteConsumer);
        }
        let ids = world.broker.out.iter().copied().filter(|id| self.may_forget(world, *id));
        steps.extend(ids.map(|id| Step::Forget { id }));
        let mut at = 0;
        steps.retain(|step| {
            at += 1;
            at <= from || self.spend(world, *step).is_some()
        });
    }

    /// A step that nobody else can see or disturb: it is taken at once, so that there are fewer
    /// orders to look at.
    fn urgent(&self, world: &World) -> Option<Step> {
        // Nothing changes what a turn reads: only commits do, and there are none but its own.
        let quiet = world.postgres.on_their_way.is_empty() && self.scene.lanes == 1;
        for (own, node) in world.nodes.iter().zip(0..) {
            for (of_lane, lane) in own.lanes.iter().zip(0..) {
                match of_lane.turn {
                    Turn::Drained(_) if quiet && of_lane.unsure => {
                        return Some(Step::MakeSure { node, lane });
                    }
                    Turn::Drained(_) | Turn::Sure(_) if quiet => {
                        return Some(Step::Load { node, lane });
                    }
                    Turn::Loaded(..) if quiet && of_lane.unsure => {
                        return Some(Step::AskHeld { node, lane });
                    }
                    Turn::Loaded(..) if !of_lane.unsure => {
                        return Some(Step::Handle { node, lane });
                    }
                    _ => {}
                }
            }
            let mut relay = own.relay.iter();
            if let Some(relayed) = relay.find(|relayed| relayed.read_to() < relayed.last) {
                return Some(Step::ReadLog { node, log: relayed.log });
            }
        }
        None
    }

    fn life(&self, world: &World, node: u8, steps: &mut Vec<Step>) {
        let own = world.node(node);
        let postgres = &world.postgres;
        if !postgres.holds(node, own.epoch) {
            steps.push(Step::Beat { node });
        } else if postgres.has_dead(node) {
            steps.push(Step::Bury { node });
        }
        if own.stage == Stage::Standby && !postgres.is_owned() {
            steps.push(Step::Claim { node });
        }
        if self.may_open(world, node) {
            steps.push(Step::Open { node });
        }
        if self.may_stop(world, node) {
            steps.push(Step::Stop { node });
        }
        steps.push(Step::Crash { node });
    }

    fn reading(&self, world: &World, node: u8, steps: &mut Vec<Step>) {
        if self.may_open_reader(world, node) {
            steps.push(Step::OpenReader { node });
        }
        let own = world.node(node);
        let (true, Some(consumer)) = (own.reader.open, &world.broker.consumer) else { return };
        if consumer.next <= self.scene.last() {
            steps.extend([Step::Deliver { node }, Step::LoseDelivery { node }]);
        }
        let missed = own.reader.complete == Some(false);
        let again = consumer.pending.all();
        let again = again.filter(|seq| missed || own.source.admission(*seq) != Admission::InHand);
        steps.extend(again.map(|seq| Step::Redeliver { node, seq }));
    }

    fn turns(&self, world: &World, node: u8, lane: u8, steps: &mut Vec<Step>) {
        let own = world.lane(node, lane);
        match &own.turn {
            Turn::None => {
                if !own.queue.is_empty() || !own.again.is_empty() {
                    steps.push(Step::Drain { node, lane, due: false });
                }
                if !self.held_keys(&world.postgres, lane).is_empty() {
                    steps.push(Step::Drain { node, lane, due: true });
                }
            }
            Turn::Drained(_) if own.unsure => steps.push(Step::MakeSure { node, lane }),
            Turn::Drained(_) | Turn::Sure(_) => steps.push(Step::Load { node, lane }),
            Turn::Loaded(..) if own.unsure => steps.push(Step::AskHeld { node, lane }),
            Turn::Loaded(..) => {}
            Turn::Committing(..) => steps.push(Step::GiveUp { node, lane }),
            Turn::Committed(..) => {
                steps.extend([Step::Settle { node, lane }, Step::SettleUnheard { node, lane }]);
            }
        }
    }

    fn relaying(&self, world: &World, node: u8, steps: &mut Vec<Step>) {
        let own = world.node(node);
        let fence = world.postgres.holds(node, own.epoch);
        let may_send = fence || !self.rules.keep(Rule::PublisherFence);
        let mut behind = false;
        for relayed in &own.relay {
            let log = relayed.log;
            if self.may_look_out(world, relayed) {
                steps.push(Step::LookOut { node, log });
            }
            if relayed.in_doubt() {
                steps.push(Step::Ask { node, log });
            } else if may_send && self.next_entry(relayed).is_some() {
                steps.push(Step::Send { node, log });
            }
            behind |= world.postgres.logs[usize::from(log)].published < relayed.published;
        }
        if behind {
            steps.push(Step::WriteCursors { node });
        }
        if !own.wire.is_empty() {
            steps.extend([Step::Arrive { node }, Step::ArriveUnheard { node }]);
        }
        if !own.wire.is_empty() || self.must_break(world, node) {
            steps.push(Step::Break { node });
        }
    }

    /// The state after a step.
    pub fn after(&self, before: &World, step: Step) -> World {
        let mut after = before.clone();
        after.left = self.spend(before, step).expect("a step that can be taken");
        let world = &mut after;
        match step {
            Step::Start { node } => self.start(world, node),
            Step::Beat { node } => self.beat(world, node),
            Step::Bury { node } => self.bury(world, node),
            Step::Claim { node } => self.claim(world, node),
            Step::Open { node } => self.open(world, node),
            Step::Crash { node } => self.crash(world, node),
            Step::LeaseEnds { node } => {
                world.postgres.names[usize::from(node)].lease = false;
            }
            Step::Stop { node } => self.stop(world, node),
            Step::OpenReader { node } => self.open_reader(world, node),
            Step::Deliver { node } => self.deliver(world, node, true),
            Step::LoseDelivery { node } => self.deliver(world, node, false),
            Step::Redeliver { node, seq } => self.redeliver(world, node, seq),
            Step::DeleteConsumer => self.delete_consumer(world),
            Step::Drain { node, lane, due } => self.drain(world, node, lane, due),
            Step::MakeSure { node, lane } => self.make_sure(world, node, lane),
            Step::Load { node, lane } => self.load(world, node, lane),
            Step::AskHeld { node, lane } => self.ask_held(world, node, lane),
            Step::Handle { node, lane } => self.handle(world, node, lane),
            Step::GiveUp { node, lane } => self.give_up(world, node, lane),
            Step::Settle { node, lane } => self.settle(world, node, lane, true),
            Step::SettleUnheard { node, lane } => self.settle(world, node, lane, false),
            Step::Commit { at } => self.execute(world, at),
            Step::LoseCommit { at } => drop(world.postgres.on_their_way.remove(at)),
            Step::ReadLog { node, log } => self.read_log(world, node, log),
            Step::Ask { node, log } => self.ask(world, node, log),
            Step::Send { node, log } => self.send(world, node, log),
            Step::Arrive { node } => self.arrive(world, node, true),
            Step::ArriveUnheard { node } => self.arrive(world, node, false),
            Step::Break { node } => self.break_connection(world, node),
            Step::WriteCursors { node } => self.write_cursors(world, node),
            Step::LookOut { node, log } => self.look_out(world, node, log),
            Step::ArriveLate { ghost } => self.arrive_late(world, ghost),
            Step::Vanish { ghost } => drop(world.broker.ghosts.remove(ghost)),
            Step::Forget { id } => self.forget(world, id),
        }
        after
    }
}
