//! Whether everything comes to its end once faults stop.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::Protocol;
use crate::promises::is_drained;
use crate::steps::Step;
use crate::world::World;

/// What looking at all states came to.
pub struct Live {
    /// How many states there are.
    pub states: usize,
    /// The shortest way to a state from which no way without another fault leads to the end.
    pub stuck: Option<Vec<Step>>,
}

/// Finds out whether, from every state that can be reached, the end can be reached without another
/// fault. There are finitely many states, so whoever takes each step that is possible again and
/// again (fairness) then gets there. `limit`: how many states are looked at at most.
///
/// # Panics
/// There are more states than `limit`.
pub fn everything_ends(protocol: &Protocol, limit: usize) -> Live {
    let hasher = RandomState::new();
    let first = protocol.first();
    let mut numbers = HashMap::from([(hasher.hash_one(&first), 0_u32)]);
    let mut queue = VecDeque::from([first]);
    // For each state: where it was first come from, and who leads to it without a fault.
    let mut from: Vec<(u32, Option<Step>)> = vec![(0, None)];
    let mut into: Vec<Vec<u32>> = vec![Vec::new()];
    let mut ends = Vec::new();
    let mut steps = Vec::new();
    let mut number = 0;
    while let Some(world) = queue.pop_front() {
        if is_drained(protocol, &world) {
            ends.push(number);
        }
        steps.clear();
        protocol.steps(&world, &mut steps);
        for step in &steps {
            let after = protocol.after(&world, *step);
            let next = u32::try_from(from.len()).expect("fewer states");
            let to = *numbers.entry(hasher.hash_one(&after)).or_insert_with(|| {
                from.push((number, Some(*step)));
                into.push(Vec::new());
                queue.push_back(after);
                next
            });
            if !protocol.is_fault(&world, *step) {
                into[to as usize].push(number);
            }
        }
        assert!(from.len() <= limit, "more than {limit} states");
        number += 1;
    }
    let mut ended = vec![false; from.len()];
    let mut open = ends;
    while let Some(state) = open.pop() {
        if !std::mem::replace(&mut ended[state as usize], true) {
            open.extend(&into[state as usize]);
        }
    }
    let stuck = ended.iter().position(|ended| !ended);
    let stuck = stuck.map(|at| way(&from, u32::try_from(at).expect("fewer states")));
    Live { states: from.len(), stuck }
}

fn way(from: &[(u32, Option<Step>)], mut at: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = from[at as usize] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}

/// The world that a way leads to.
pub fn replay(protocol: &Protocol, way: &[Step]) -> World {
    way.iter().fold(protocol.first(), |world, step| protocol.after(&world, *step))
}
