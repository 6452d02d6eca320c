//! A node from its start to its end: `host/src/node/mod.rs`, `lease.rs` and `handler.rs`.

use crate::Protocol;
use crate::rules::Rule;
use crate::world::{Lane, Node, Source, Stage, Turn, World};

impl World {
    pub(crate) fn node(&self, node: u8) -> &Node {
        &self.nodes[usize::from(node)]
    }

    pub(crate) fn node_mut(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    pub(crate) fn lane(&self, node: u8, lane: u8) -> &Lane {
        &self.node(node).lanes[usize::from(lane)]
    }

    pub(crate) fn lane_mut(&mut self, node: u8, lane: u8) -> &mut Lane {
        &mut self.node_mut(node).lanes[usize::from(lane)]
    }

    /// Nobody waits for these commits any more; they may take place all the same.
    pub(crate) fn forget_commits(&mut self, node: u8, lane: Option<u8>) {
        for commit in &mut self.postgres.on_their_way {
            if commit.node == node && lane.is_none_or(|lane| lane == commit.lane) {
                commit.awaited = false;
            }
        }
    }

    /// A node finds that it was fenced out: it gives up all it has, and registers again.
    pub(crate) fn oust(&mut self, node: u8) {
        self.forget_process(node);
    }
}

impl Protocol {
    /// `start` in `node/mod.rs`, and `publish_leftovers`.
    pub(crate) fn start(&self, world: &mut World, node: u8) {
        let epoch = world.postgres.register(node, self.rules);
        *world.node_mut(node) = Node { stage: Stage::Standby, epoch, ..Node::default() };
        for log in world.postgres.own_logs(node, false) {
            self.open_log(world, node, log);
        }
    }

    /// A sign of life after the lease was over. `keep` in `node/lease.rs`.
    pub(crate) fn beat(&self, world: &mut World, node: u8) {
        let epoch = world.node(node).epoch;
        if !world.postgres.beat(node, epoch) {
            world.oust(node);
        }
    }

    /// `take_over` in `node/lease.rs`.
    pub(crate) fn bury(&self, world: &mut World, node: u8) {
        world.postgres.bury(node, self.rules);
        for log in world.postgres.own_logs(node, true) {
            self.open_log(world, node, log);
        }
    }

    /// `own` in `node/lease.rs`.
    pub(crate) fn claim(&self, world: &mut World, node: u8) {
        let epoch = world.node(node).epoch;
        if !world.postgres.stands(node, epoch) {
            return world.oust(node);
        }
        world.postgres.claim(node, epoch, self.rules);
        world.node_mut(node).stage = Stage::Owner;
    }

    /// Whether the lanes can be opened: nothing is left of what others wrote.
    pub(crate) fn may_open(&self, world: &World, node: u8) -> bool {
        let own = world.node(node);
        let left = world.postgres.is_left(node) && self.rules.keep(Rule::FinishLeft);
        own.stage == Stage::Owner
            && !left
            && world.postgres.owner == Some((node, own.epoch))
            && world.postgres.stands(node, own.epoch)
    }

    /// `lanes` in `node/handler.rs`.
    pub(crate) fn open(&self, world: &mut World, node: u8) {
        for lane in 0..self.scene.lanes {
            let held = self.held_keys(&world.postgres, lane);
            let log = world.postgres.open_log(node, lane, self.rules);
            self.open_log(world, node, log);
            let row = &world.postgres.logs[usize::from(log)];
            let lane = Lane {
                log,
                fence: row.fence,
                last: row.last(),
                queue: Vec::new(),
                held,
                again: held,
                wary: false,
                unsure: true,
                turn: Turn::None,
            };
            world.node_mut(node).lanes.push(lane);
        }
        let floor = world.postgres.floor;
        let own = world.node_mut(node);
        own.source = Source { floor, in_hand: Vec::new() };
        own.stage = Stage::Working;
    }

    pub(crate) fn crash(&self, world: &mut World, node: u8) {
        world.forget_process(node);
        if !self.scene.restarts {
            world.node_mut(node).stage = Stage::Gone;
        }
    }

    /// Whether a node that is to stop has finished: no turn, nothing unpublished.
    pub(crate) fn may_stop(&self, world: &World, node: u8) -> bool {
        let own = world.node(node);
        let idle = |lane: &Lane| lane.turn == Turn::None && lane.queue.is_empty();
        own.stage == Stage::Working
            && own.lanes.iter().all(idle)
            && own.relay.iter().all(|relayed| relayed.published == relayed.last)
            && world.postgres.stands(node, own.epoch)
    }

    /// `hand_over` in `node/lease.rs`, and the end of the process.
    pub(crate) fn stop(&self, world: &mut World, node: u8) {
        self.write_cursors(world, node);
        world.postgres.owner = None;
        world.postgres.names[usize::from(node)].clean = true;
        world.forget_process(node);
    }
}
