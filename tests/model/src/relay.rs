//! A node's relay: `host/src/relay/log.rs`, and the connection it publishes over,
//! `host/src/stream/publish.rs`.

use crate::Protocol;
use crate::rules::Rule;
use crate::world::{Relayed, Slot, State, World};

impl Relayed {
    pub(crate) fn read_to(&self) -> u8 {
        self.published + u8::try_from(self.slots.len()).expect("few entries")
    }

    fn goes_to(&mut self, last: u8) {
        self.last = self.last.max(last);
    }

    /// Whether anything unsent may have been sent before; nothing is sent until that is known.
    pub(crate) fn in_doubt(&self) -> bool {
        self.slots.iter().any(|slot| slot.doubtful && slot.state == State::Unsent)
    }

    fn push(&mut self, id: u8, doubtful: bool) {
        let sent_before = doubtful;
        self.slots.push(Slot { id, state: State::Unsent, doubtful, sent_before });
    }

    /// Entries at the front that are done are passed by the cursor.
    fn advance(&mut self) {
        while self.slots.first().is_some_and(|slot| slot.state == State::Done) {
            self.slots.remove(0);
            self.published += 1;
        }
    }
}

impl World {
    pub(crate) fn relayed(&self, node: u8, log: u8) -> &Relayed {
        let relay = &self.node(node).relay;
        relay.iter().find(|relayed| relayed.log == log).expect("an opened log")
    }

    pub(crate) fn relayed_mut(&mut self, node: u8, log: u8) -> Option<&mut Relayed> {
        self.node_mut(node).relay.iter_mut().find(|relayed| relayed.log == log)
    }

    pub(crate) fn relay_goes_to(&mut self, node: u8, log: u8, last: u8) {
        if let Some(relayed) = self.relayed_mut(node, log) {
            relayed.goes_to(last);
        }
    }

    /// `Ask::LookAgain` in `relay/task.rs`.
    pub(crate) fn look_out_for(&mut self, node: u8, log: u8) {
        if let Some(relayed) = self.relayed_mut(node, log) {
            relayed.unsure = true;
        }
    }

    /// What a lane has committed, up to `last`: taken in where it follows what is there.
    pub(crate) fn announce(&mut self, node: u8, log: u8, last: u8, ids: &[u8]) {
        let Some(relayed) = self.relayed_mut(node, log) else { return };
        let first = last - u8::try_from(ids.len()).expect("few entries") + 1;
        for (seq, id) in (first..).zip(ids) {
            let follows = seq == relayed.read_to() + 1;
            relayed.goes_to(seq);
            if follows {
                relayed.push(*id, false);
            }
        }
    }

    /// The connection is gone; what it had taken may still arrive.
    fn drop_connection(&mut self, node: u8) {
        let wire = std::mem::take(&mut self.node_mut(node).wire);
        if !wire.is_empty() {
            self.broker.ghosts.push(wire);
            self.broker.ghosts.sort();
        }
    }

    /// The process is gone, and all that it remembered.
    pub(crate) fn forget_process(&mut self, node: u8) {
        self.forget_commits(node, None);
        self.drop_connection(node);
        *self.node_mut(node) = Default::default();
    }
}

impl Protocol {
    /// `Ask::Open` in `relay/task.rs`.
    pub(crate) fn open_log(&self, world: &mut World, node: u8, log: u8) {
        let row = &world.postgres.logs[usize::from(log)];
        let (last, mut published) = (row.last(), row.published);
        if world.relayed_mut(node, log).is_some() {
            return world.relay_goes_to(node, log, last);
        }
        if !self.rules.keep(Rule::ReadFromCursor) {
            published = last;
        }
        let doubtful_to = if self.rules.keep(Rule::DoubtAtStart) { last } else { 0 };
        let slots = Vec::new();
        let relayed = Relayed { log, published, last, doubtful_to, unsure: false, slots };
        world.node_mut(node).relay.push(relayed);
    }

    /// `look_out` in `relay/task.rs`: how far a log goes that a commit may still come to.
    pub(crate) fn look_out(&self, world: &mut World, node: u8, log: u8) {
        let last = world.postgres.logs[usize::from(log)].last();
        world.relay_goes_to(node, log, last);
    }

    /// Whether a log has entries that the relay does not know, and that it looks for.
    pub(crate) fn may_look_out(&self, world: &World, relayed: &Relayed) -> bool {
        let last = world.postgres.logs[usize::from(relayed.log)].last();
        relayed.unsure && self.rules.keep(Rule::LookOut) && last > relayed.last
    }

    /// Reads a log on: `read_more` in `relay/sending.rs`.
    pub(crate) fn read_log(&self, world: &mut World, node: u8, log: u8) {
        let entries = world.postgres.logs[usize::from(log)].entries.clone();
        let Some(relayed) = world.relayed_mut(node, log) else { return };
        let after = relayed.read_to();
        for (seq, id) in (1..).zip(entries).skip(usize::from(after)) {
            let doubtful = seq <= relayed.doubtful_to;
            relayed.push(id, doubtful);
        }
        if relayed.read_to() == after {
            relayed.last = after;
        }
    }

    /// Looks for what is in doubt in its stream, unless that surely remembers it. `relay/jobs.rs`.
    pub(crate) fn ask(&self, world: &mut World, node: u8, log: u8) {
        let (out, old) = (world.broker.out.clone(), world.broker.old);
        let ask = self.rules.keep(Rule::AskTheStream);
        let Some(relayed) = world.relayed_mut(node, log) else { return };
        for slot in &mut relayed.slots {
            if slot.doubtful && slot.state == State::Unsent {
                slot.doubtful = false;
                if ask && old.has(slot.id) && out.contains(&slot.id) {
                    slot.state = State::Done;
                }
            }
        }
        relayed.advance();
    }

    /// Which entry is sent next: the first that is unsent.
    pub(crate) fn next_entry(&self, relayed: &Relayed) -> Option<usize> {
        let unsent = |slot: &Slot| slot.state == State::Unsent;
        if self.rules.keep(Rule::LogInOrder) {
            relayed.slots.iter().position(unsent)
        } else {
            relayed.slots.iter().rposition(unsent)
        }
    }

    pub(crate) fn send(&self, world: &mut World, node: u8, log: u8) {
        let after_stored = self.rules.keep(Rule::CursorAfterStored);
        let Some(at) = self.next_entry(world.relayed(node, log)) else { return };
        let Some(relayed) = world.relayed_mut(node, log) else { return };
        let id = relayed.slots[at].id;
        relayed.slots[at].state = if after_stored { State::InFlight } else { State::Done };
        relayed.advance();
        world.node_mut(node).wire.push(id);
    }

    /// The first message of a connection arrives; none: of one that nobody holds any more.
    pub(crate) fn arrive(&self, world: &mut World, node: u8, acknowledged: bool) {
        let id = world.node_mut(node).wire.remove(0);
        self.store(world, id);
        if !acknowledged {
            return;
        }
        for relayed in &mut world.node_mut(node).relay {
            for slot in relayed.slots.iter_mut().filter(|slot| slot.id == id) {
                slot.state = State::Done;
                slot.doubtful = false;
            }
            relayed.advance();
        }
    }

    pub(crate) fn arrive_late(&self, world: &mut World, ghost: usize) {
        let id = world.broker.ghosts[ghost].remove(0);
        self.store(world, id);
        world.broker.ghosts.retain(|ghost| !ghost.is_empty());
        world.broker.ghosts.sort();
    }

    fn store(&self, world: &mut World, id: u8) {
        if world.broker.remembered.has(id) && self.rules.keep(Rule::PublishUnderId) {
            return;
        }
        world.broker.remembered.add(id);
        world.broker.out.push(id);
    }

    /// `start_again` in `relay/log.rs`.
    pub(crate) fn break_connection(&self, world: &mut World, node: u8) {
        world.drop_connection(node);
        let doubt = self.rules.keep(Rule::DoubtAfterBreak);
        for relayed in &mut world.node_mut(node).relay {
            for slot in relayed.slots.iter_mut().filter(|slot| slot.state == State::InFlight) {
                slot.state = State::Unsent;
                slot.doubtful |= doubt;
                slot.sent_before = true;
            }
        }
    }

    /// `sql/advance_cursors.sql`.
    pub(crate) fn write_cursors(&self, world: &mut World, node: u8) {
        for relayed in &world.nodes[usize::from(node)].relay {
            let log = &mut world.postgres.logs[usize::from(relayed.log)];
            log.published = log.published.max(relayed.published);
        }
    }

    /// Whether the dedup window of an id may end now: not while a copy is on its way. That is where
    /// guarantee 4 says that it ends.
    pub(crate) fn may_forget(&self, world: &World, id: u8) -> bool {
        let ghosts = world.broker.ghosts.iter();
        let mut wires = ghosts.chain(world.nodes.iter().map(|node| &node.wire));
        world.broker.out.contains(&id)
            && !world.broker.old.has(id)
            && !wires.any(|wire| wire.contains(&id))
    }

    /// The dedup window of an id ends. What was found out before, and not used, counts no more.
    pub(crate) fn forget(&self, world: &mut World, id: u8) {
        world.broker.old.add(id);
        world.broker.remembered.remove(id);
        if !self.rules.keep(Rule::DoubtAgain) {
            return;
        }
        for relayed in world.nodes.iter_mut().flat_map(|node| &mut node.relay) {
            for slot in relayed.slots.iter_mut().filter(|slot| slot.id == id) {
                slot.doubtful |= slot.sent_before;
            }
        }
    }
}
