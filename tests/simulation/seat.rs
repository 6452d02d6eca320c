//! The place of a node in a run, whichever process is at it.

use crate::node::Process;
use crate::world::World;

/// A node that may run, be frozen, or be down.
pub struct Seat {
    pub name: &'static str,
    pub process: Option<Process>,
    pub frozen_until: Option<i64>,
    pub starts_at: Option<i64>,
    /// The process before has surely ended by then.
    pub stopped_by: i64,
    incarnation: u32,
}

impl Seat {
    /// One at which nothing was started yet.
    pub fn of(name: &'static str) -> Seat {
        Seat {
            name,
            process: None,
            frozen_until: None,
            starts_at: None,
            stopped_by: 0,
            incarnation: 0,
        }
    }

    pub fn start(&mut self, world: &World) {
        self.incarnation += 1;
        let lanes = world.look().chance.usize(1..=3);
        let holder = format!("{}-{}", self.name, self.incarnation);
        world.note(&format!("start {holder} with {lanes} lanes"));
        self.process = Some(Process::start(world, self.name, holder, lanes));
        self.starts_at = None;
        self.frozen_until = None;
    }
}
