//! A lane's turn: `host/src/lane`. What it does between two questions to a server is one step.

use crate::Protocol;
use crate::postgres::Outcome;
use crate::rules::Rule;
use crate::scene::Message;
use crate::world::{
    Batch, Commit, Document, Handled, Lane, Loaded, Member, Origin, Parked, Postgres, Set, Turn,
    World,
};

/// `refreshed` in `lane/mod.rs`: what is read from `parked` is read again.
fn refresh(lane: &mut Lane, mut batch: Batch) -> Batch {
    for (key, _) in batch.taken_up.drain(..) {
        lane.held.add(key);
        lane.again.add(key);
    }
    batch.members.retain(|member| matches!(member.origin, Origin::Stream { .. }));
    batch
}

impl Protocol {
    pub(crate) fn lane_of(&self, key: u8) -> u8 {
        key % self.scene.lanes
    }

    /// Keys of a lane that have waiting messages: `sql/held_keys.sql`.
    pub(crate) fn held_keys(&self, postgres: &Postgres, lane: u8) -> Set {
        let keys = postgres.parked.iter().map(|row| self.scene.message(row.seq).key);
        keys.filter(|key| self.lane_of(*key) == lane).collect()
    }

    /// `lane/drain.rs`: takes what arrived, and what is parked and due. `due`: the time of all that
    /// is tried again has come.
    pub(crate) fn drain(&self, world: &mut World, node: u8, lane: u8, due: bool) {
        let mut keys = world.lane(node, lane).again;
        if due {
            for key in self.held_keys(&world.postgres, lane).all() {
                keys.add(key);
            }
        }
        let parked = world.postgres.parked.clone();
        let lane = world.lane_mut(node, lane);
        lane.again = Set::default();
        let mut batch = Batch::default();
        for key in keys.all() {
            lane.held.add(key);
            let mut all = true;
            let mut any = false;
            for row in parked.iter().filter(|row| self.scene.message(row.seq).key == key) {
                all &= due || row.waiting;
                if all {
                    any = true;
                    let origin = Origin::Parked { attempts: row.attempts };
                    batch.members.push(Member { seq: row.seq, origin });
                }
            }
            if any || all {
                batch.taken_up.push((key, all));
            }
        }
        if batch.members.is_empty() {
            // Nothing is left of these keys: they are free again.
            for (key, _) in batch.taken_up.drain(..) {
                lane.held.remove(key);
            }
        }
        for (seq, redelivered) in lane.queue.drain(..) {
            batch.members.push(Member { seq, origin: Origin::Stream { redelivered } });
        }
        if batch.members.is_empty() {
            return;
        }
        let arrived = arrived(&batch);
        lane.turn = Turn::Drained(batch);
        if !self.rules.keep(Rule::AckAfterCommit) {
            acknowledge(world, &arrived);
        }
    }

    /// The first part of `load` in `lane/load.rs`: how far the log goes, where that is not known.
    pub(crate) fn make_sure(&self, world: &mut World, node: u8, lane: u8) {
        let log = world.lane(node, lane).log;
        let last = world.postgres.logs[usize::from(log)].last();
        let lane = world.lane_mut(node, lane);
        if let Turn::Drained(batch) = std::mem::take(&mut lane.turn) {
            lane.turn = Turn::Sure(batch);
        }
        if self.rules.keep(Rule::MakeSure) && last > lane.last {
            lane.last = last;
            world.relay_goes_to(node, log, last);
        }
    }

    /// The third part: which keys are held, where that is not known.
    pub(crate) fn ask_held(&self, world: &mut World, node: u8, lane: u8) {
        let held = self.held_keys(&world.postgres, lane);
        let lane = world.lane_mut(node, lane);
        lane.unsure = false;
        let Turn::Loaded(batch, _) = &lane.turn else { return };
        if self.rules.keep(Rule::AskHeldKeys) {
            for key in batch.members.iter().map(|member| self.scene.message(member.seq).key) {
                if held.has(key) {
                    lane.held.add(key);
                }
            }
        }
    }

    /// `read` in `lane/load.rs`.
    pub(crate) fn load(&self, world: &mut World, node: u8, lane: u8) {
        let inbox = world.postgres.inbox;
        let documents = world.postgres.documents.clone();
        let lane = world.lane_mut(node, lane);
        let (Turn::Drained(batch) | Turn::Sure(batch)) = std::mem::take(&mut lane.turn) else {
            return;
        };
        let again = |m: &Member| m.origin == Origin::Stream { redelivered: true };
        let look =
            (lane.wary && self.rules.keep(Rule::LookAtInbox)) || batch.members.iter().any(again);
        let known = if look { inbox } else { Set::default() };
        lane.turn = Turn::Loaded(batch, Loaded { known, documents });
    }

    /// `lane/handle.rs` and `lane/write.rs`, and the commit sent on its way.
    pub(crate) fn handle(&self, world: &mut World, node: u8, lane: u8) {
        let published = world.relayed(node, world.lane(node, lane).log).published;
        let floor = world.node(node).source.floor;
        let lane_number = lane;
        let lane = world.lane_mut(node, lane);
        let Turn::Loaded(batch, loaded) = std::mem::take(&mut lane.turn) else { return };
        let mut commit = Commit {
            node,
            lane: lane_number,
            awaited: true,
            log: lane.log,
            fence: lane.fence,
            inbox: Vec::new(),
            writes: Vec::new(),
            after: lane.last,
            entries: Vec::new(),
            published,
            park: Vec::new(),
            unpark: Vec::new(),
            repark: Vec::new(),
            floor: 0,
        };
        let mut pass = Pass {
            protocol: self,
            held: lane.held,
            known: loaded.known,
            batch: &batch,
            seen: Set::default(),
            documents: loaded.documents.clone(),
            handled: Handled::default(),
            commit: &mut commit,
        };
        for member in &batch.members {
            pass.member(member);
        }
        let (documents, mut handled) = (pass.documents, pass.handled);
        let released = batch.taken_up.iter().filter(|(_, all)| *all).map(|(key, _)| *key);
        handled.released = released.filter(|key| !handled.failed.has(*key)).collect();
        handled.entries.clone_from(&commit.entries);
        let both = (0..).zip(loaded.documents.iter().zip(documents));
        let written = both.filter(|(_, (before, after))| before.applied != after.applied);
        commit.writes = written.map(|(at, (_, after))| (at, after)).collect();
        let arrived = arrived(&batch);
        if !arrived.is_empty() {
            let highest = arrived.iter().copied().max().unwrap_or(0);
            commit.floor = if self.rules.keep(Rule::FloorWithoutGaps) { floor } else { highest };
        }
        let empty = commit.inbox.is_empty() && commit.unpark.is_empty() && commit.repark.is_empty();
        if empty {
            lane.turn = Turn::Committed(batch, handled);
        } else {
            lane.turn = Turn::Committing(batch, handled);
            world.postgres.on_their_way.push(commit);
        }
    }

    /// A commit reaches Postgres, which answers if anybody still waits for that. `lane/commit.rs`.
    pub(crate) fn execute(&self, world: &mut World, at: usize) {
        let commit = world.postgres.on_their_way.remove(at);
        let outcome = world.postgres.commit(&commit, &self.scene, self.rules);
        if !commit.awaited {
            return;
        }
        if outcome == Outcome::Fenced {
            return world.oust(commit.node);
        }
        let lane = world.lane_mut(commit.node, commit.lane);
        let Turn::Committing(batch, handled) = std::mem::take(&mut lane.turn) else { return };
        if outcome == Outcome::Committed {
            lane.turn = Turn::Committed(batch, handled);
            return;
        }
        if matches!(outcome, Outcome::Duplicate | Outcome::Unknown) {
            lane.unsure = true;
            lane.wary = true;
        }
        lane.turn = Turn::Drained(refresh(lane, batch));
        let log = lane.log;
        if outcome == Outcome::Unknown {
            world.look_out_for(commit.node, log);
        }
    }

    /// The answer does not come: `CommitError::Unavailable`.
    pub(crate) fn give_up(&self, world: &mut World, node: u8, lane: u8) {
        world.forget_commits(node, Some(lane));
        let lane = world.lane_mut(node, lane);
        let Turn::Committing(batch, _) = std::mem::take(&mut lane.turn) else { return };
        lane.unsure = true;
        lane.wary = true;
        lane.turn = Turn::Drained(refresh(lane, batch));
        let log = lane.log;
        world.look_out_for(node, log);
    }

    /// `lane/settle.rs`.
    pub(crate) fn settle(&self, world: &mut World, node: u8, lane: u8, acks_arrive: bool) {
        let lane = world.lane_mut(node, lane);
        let Turn::Committed(batch, handled) = std::mem::take(&mut lane.turn) else { return };
        for key in handled.failed.all() {
            lane.held.add(key);
        }
        handled.released.all().for_each(|key| lane.held.remove(key));
        lane.wary |= handled.duplicates;
        lane.last += u8::try_from(handled.entries.len()).expect("few entries");
        let (log, last) = (lane.log, lane.last);
        if !self.rules.keep(Rule::OneTransaction) {
            let log = &mut world.postgres.logs[usize::from(log)];
            log.entries.extend(&handled.entries);
        }
        world.announce(node, log, last, &handled.entries);
        let arrived = arrived(&batch);
        for seq in &arrived {
            world.node_mut(node).source.done(*seq);
        }
        if acks_arrive && self.rules.keep(Rule::AckAfterCommit) {
            acknowledge(world, &arrived);
        }
    }
}

fn acknowledge(world: &mut World, arrived: &[u8]) {
    if let Some(consumer) = &mut world.broker.consumer {
        arrived.iter().for_each(|seq| consumer.pending.remove(*seq));
    }
}

fn arrived(batch: &Batch) -> Vec<u8> {
    let arrived = |m: &&Member| matches!(m.origin, Origin::Stream { .. });
    batch.members.iter().filter(arrived).map(|member| member.seq).collect()
}

/// One pass over the messages of a turn. `Pass` in `lane/handle.rs`, and `Writer` in `write.rs`.
struct Pass<'a> {
    protocol: &'a Protocol,
    held: Set,
    known: Set,
    batch: &'a Batch,
    seen: Set,
    documents: Vec<Document>,
    handled: Handled,
    commit: &'a mut Commit,
}

impl Pass<'_> {
    fn member(&mut self, member: &Member) {
        let message = self.protocol.scene.message(member.seq);
        match member.origin {
            Origin::Stream { .. } => {
                let copy = !self.seen.add(message.id) && self.protocol.rules.keep(Rule::SeenInTurn);
                if copy || self.known.has(message.id) {
                    self.handled.duplicates = true;
                    return;
                }
                self.commit.inbox.push(message.id);
                if self.must_wait(message.key) {
                    self.commit.park.push(Parked { seq: member.seq, attempts: 0, waiting: true });
                } else if message.fails > 0 {
                    self.handled.failed.add(message.key);
                    self.commit.park.push(Parked { seq: member.seq, attempts: 1, waiting: false });
                } else {
                    self.apply(message);
                }
            }
            Origin::Parked { attempts } => {
                if self.handled.failed.has(message.key)
                    && self.protocol.rules.keep(Rule::StayBehindFailed)
                {
                    return;
                }
                if message.fails > attempts {
                    self.handled.failed.add(message.key);
                    self.commit.repark.push((member.seq, attempts + 1));
                } else {
                    self.commit.unpark.push(member.seq);
                    self.apply(message);
                }
            }
        }
    }

    fn must_wait(&self, key: u8) -> bool {
        let all = self.batch.taken_up.contains(&(key, true));
        self.protocol.rules.keep(Rule::WaitBehindHeld)
            && (self.handled.failed.has(key) || self.held.has(key) && !all)
    }

    /// What the handler does: it writes the message's id into its documents, and sends one message.
    fn apply(&mut self, message: Message) {
        for at in self.protocol.scene.documents(message) {
            self.documents[usize::from(at)].applied.push(message.id);
        }
        self.commit.entries.push(message.id);
    }
}
