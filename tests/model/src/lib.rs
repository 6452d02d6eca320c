//! A model of the protocol: every order in which nodes, Postgres, JetStream and faults can take
//! their steps, within bounds. It follows the code, step by step; what it must never do is to be
//! kinder than the code: where it leaves something out, that must be harmless.
//!
//! Each rule that the protocol rests on is a switch ([`Rule`]). `tests/model.rs` shows that with
//! all of them every promise holds in every state, and that without any one some promise breaks.

mod lane;
mod live;
mod node;
mod postgres;
mod promises;
mod reader;
mod relay;
mod rules;
mod scene;
mod scenes;
mod steps;
mod world;

use stateright::{Model, Property};

pub use live::{Live, everything_ends, replay};
pub use promises::{PROMISES, is_drained};
pub use rules::{Rule, Rules};
pub use scene::{Faults, Message, Scene, message};
pub use scenes::{large, small};
pub use steps::Step;
pub use world::World;

use world::{Broker, Node, Postgres, Set};

/// The protocol in one scene.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub scene: Scene,
    pub rules: Rules,
    /// For each key the ids of its messages, as they first stand in the stream.
    firsts: Vec<Vec<u8>>,
}

impl Protocol {
    pub fn new(scene: Scene, rules: Rules) -> Protocol {
        let firsts = (0..scene.keys()).map(|key| scene.firsts(key)).collect();
        Protocol { scene, rules, firsts }
    }

    /// The state in which everything begins: the first node works, the others stand by.
    pub fn first(&self) -> World {
        let broker = Broker {
            consumer: None,
            out: Vec::new(),
            remembered: Set::default(),
            old: Set::default(),
            ghosts: Vec::new(),
        };
        let mut world = World {
            postgres: Postgres::new(&self.scene),
            broker,
            nodes: vec![Node::default(); usize::from(self.scene.nodes)],
            left: self.scene.faults,
        };
        (0..self.scene.nodes).for_each(|node| self.start(&mut world, node));
        self.claim(&mut world, 0);
        self.open(&mut world, 0);
        world
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.first()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        self.steps(world, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(self.after(world, step))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        PROMISES.iter().map(|(name, holds)| Property::always(name, *holds)).collect()
    }
}
