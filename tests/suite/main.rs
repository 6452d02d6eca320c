//! The tests against real servers, a file for each thing that must hold.

mod bad_config;
mod bad_files;
mod bad_messages;
mod bad_servers;
mod chaos;
mod leftovers;
mod parked_by_hand;
mod sandbox;
mod servers;
mod stacks;
