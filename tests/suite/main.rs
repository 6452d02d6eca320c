//! The tests against real servers, a file for each thing that must hold.

mod bad_config;
mod bad_files;
mod bad_messages;
mod bad_servers;
mod cargo_component;
mod chaos;
mod commands;
mod interop;
mod sandbox;
mod servers;
mod stacks;
