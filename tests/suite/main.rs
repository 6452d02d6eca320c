//! The tests against real servers, a file for each thing that must hold.

mod leftovers;
mod parked_by_hand;
mod sandbox;
mod servers;
mod stacks;
