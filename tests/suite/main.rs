//! The tests against real servers, a file for each thing that must hold.

mod sandbox;
mod servers;
mod stacks;
