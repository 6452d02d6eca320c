//! The tests against real servers, a file for each thing that must hold.

mod servers;
mod stacks;
