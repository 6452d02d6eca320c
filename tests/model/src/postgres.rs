//! Postgres: each function is one transaction. `host/migrations/0002_functions.sql` and
//! `0004_nodes.sql`, and the statements of `host/sql` that they are called by.

use crate::rules::{Rule, Rules};
use crate::scene::Scene;
use crate::world::{Commit, Document, Log, Name, Parked, Postgres, Set};

/// What a commit came to. `store/error.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// TB001.
    Fenced,
    /// 23505 of the inbox.
    Duplicate,
    /// TB002, TB004.
    Conflict,
    /// 23505 of the outbox.
    Unknown,
}

impl Postgres {
    pub fn new(scene: &Scene) -> Postgres {
        let documents = scene.keys() + u8::from(scene.shared);
        let name = Name { epoch: 0, clean: true, lease: false };
        Postgres {
            documents: vec![Document::default(); usize::from(documents)],
            inbox: Set::default(),
            parked: Vec::new(),
            logs: Vec::new(),
            names: vec![name; usize::from(scene.nodes)],
            owner: None,
            floor: 0,
            on_their_way: Vec::new(),
        }
    }

    fn name(&mut self, node: u8) -> &mut Name {
        &mut self.names[usize::from(node)]
    }

    /// `tribox.register_node`. Returns the epoch.
    pub fn register(&mut self, node: u8, rules: Rules) -> u8 {
        self.raise_fences(rules, |log| log.node == node);
        let name = self.name(node);
        *name = Name { epoch: name.epoch + 1, clean: false, lease: true };
        name.epoch
    }

    fn raise_fences(&mut self, rules: Rules, of: impl Fn(&Log) -> bool) {
        if rules.keep(Rule::RaiseFences) {
            self.logs.iter_mut().filter(|log| of(log)).for_each(|log| log.fence += 1);
        }
    }

    /// `sql/heartbeat.sql`. False: the node was fenced out.
    pub fn beat(&mut self, node: u8, epoch: u8) -> bool {
        let name = self.name(node);
        name.lease |= name.epoch == epoch;
        name.epoch == epoch
    }

    /// Whether a node is what it was registered as.
    pub fn stands(&self, node: u8, epoch: u8) -> bool {
        let name = &self.names[usize::from(node)];
        name.epoch == epoch && !name.clean
    }

    /// Whether a node is what it was registered as, and within its lease. Its own clock never says
    /// so for longer than that: `stream/fence.rs`.
    pub fn holds(&self, node: u8, epoch: u8) -> bool {
        self.stands(node, epoch) && self.names[usize::from(node)].lease
    }

    /// Whether there is something to do for [`bury`](Self::bury).
    pub fn has_dead(&self, node: u8) -> bool {
        let dead = |name: &Name| !name.clean && !name.lease;
        self.names.iter().zip(0..).any(|(name, n)| n != node && dead(name))
            || self.logs.iter().any(|log| self.is_orphan(node, log))
    }

    /// A log that nobody publishes any more.
    fn is_orphan(&self, node: u8, log: &Log) -> bool {
        log.node != node && self.names[usize::from(log.node)].clean && log.is_left()
    }

    /// `tribox.bury`.
    pub fn bury(&mut self, node: u8, rules: Rules) {
        for dead in (0..).take(self.names.len()).filter(|n| *n != node) {
            let name = self.name(dead);
            if name.clean || name.lease {
                continue;
            }
            name.epoch += 1;
            name.clean = true;
            self.raise_fences(rules, |log| log.node == dead);
        }
        if !rules.keep(Rule::TakeOverLogs) {
            return;
        }
        for at in 0..self.logs.len() {
            if self.is_orphan(node, &self.logs[at]) {
                let log = &mut self.logs[at];
                log.node = node;
                log.lane = None;
                log.fence += u8::from(rules.keep(Rule::RaiseFences));
            }
        }
    }

    /// Whether somebody alive owns the handler.
    pub fn is_owned(&self) -> bool {
        self.owner.is_some_and(|(node, epoch)| self.stands(node, epoch))
    }

    /// `tribox.claim`, where nobody alive owns it.
    pub fn claim(&mut self, node: u8, epoch: u8, rules: Rules) {
        self.owner = Some((node, epoch));
        self.raise_fences(rules, |_| true);
    }

    /// `sql/left_logs.sql`: whether anything is left of what others wrote.
    pub fn is_left(&self, node: u8) -> bool {
        let own = |log: &Log| log.node == node && log.lane.is_some();
        self.logs.iter().any(|log| log.is_left() && !own(log))
    }

    /// `sql/own_logs.sql`: logs of a node that are not published to their end.
    pub fn own_logs(&self, node: u8, inherited: bool) -> Vec<u8> {
        let mine = |log: &Log| log.node == node && (log.lane.is_none() || !inherited);
        let logs = self.logs.iter().zip(0..);
        logs.filter(|(log, _)| mine(log) && log.is_left()).map(|(_, n)| n).collect()
    }

    /// `tribox.open_writer`: the log of a lane, with a new fence.
    pub fn open_log(&mut self, node: u8, lane: u8, rules: Rules) -> u8 {
        let own = |log: &Log| log.node == node && log.lane == Some(lane);
        let at = self.logs.iter().position(own).unwrap_or(self.logs.len());
        if at == self.logs.len() {
            let lane = Some(lane);
            self.logs.push(Log { node, lane, fence: 0, published: 0, entries: Vec::new() });
        }
        self.logs[at].fence += u8::from(rules.keep(Rule::RaiseFences));
        u8::try_from(at).expect("few logs")
    }

    /// `tribox.commit` with `advance`, `park` and `repark`.
    pub fn commit(&mut self, commit: &Commit, scene: &Scene, rules: Rules) -> Outcome {
        let log = &self.logs[usize::from(commit.log)];
        if rules.keep(Rule::FenceInCommit) && log.fence != commit.fence {
            return Outcome::Fenced;
        }
        let mut inbox = self.inbox;
        for id in &commit.inbox {
            if rules.keep(Rule::InboxKey) && inbox.has(*id) {
                return Outcome::Duplicate;
            }
            inbox.add(*id);
        }
        let changed = |(at, document): &(u8, Document)| {
            self.documents[usize::from(*at)].version != document.version
        };
        if rules.keep(Rule::Versions) && commit.writes.iter().any(changed) {
            return Outcome::Conflict;
        }
        if !commit.entries.is_empty() && log.last() != commit.after {
            return Outcome::Unknown;
        }
        let there = |seq: u8| self.parked.iter().any(|row| row.seq == seq);
        let mut touched = commit.unpark.iter().chain(commit.repark.iter().map(|(seq, _)| seq));
        if !touched.all(|seq| there(*seq)) {
            return Outcome::Conflict;
        }

        self.inbox = inbox;
        for (at, document) in &commit.writes {
            let place = &mut self.documents[usize::from(*at)];
            place.version += 1;
            place.applied.clone_from(&document.applied);
        }
        let log = &mut self.logs[usize::from(commit.log)];
        if rules.keep(Rule::OneTransaction) {
            log.entries.extend(&commit.entries);
        }
        log.published = log.published.max(commit.published);
        self.floor = self.floor.max(commit.floor);
        self.parked.retain(|row| !commit.unpark.contains(&row.seq));
        for row in &mut self.parked {
            if let Some((_, attempts)) = commit.repark.iter().find(|(seq, _)| *seq == row.seq) {
                *row = Parked { seq: row.seq, attempts: *attempts, waiting: false };
            }
        }
        self.parked.extend(commit.park.iter().cloned());
        self.wake(scene);
        Outcome::Committed
    }

    /// `tribox.wake`: what waits behind nothing is next.
    fn wake(&mut self, scene: &Scene) {
        for key in 0..scene.keys() {
            let of_key = |row: &&mut Parked| scene.message(row.seq).key == key;
            if let Some(first) = self.parked.iter_mut().find(of_key) {
                first.waiting = false;
            }
        }
    }
}
