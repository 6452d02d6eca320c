//! What the tests, the demo and the benchmark stand on: private servers, the real program as a
//! child process, clients that look from outside, and a proxy that breaks connections.
//!
//! Start with [`Stack`]: a database, a nats-server, a plugin directory and a config file of one
//! test's own. What it starts ends with it; a watchdog ends what is left when a test process is
//! killed. Nothing here waits for time to pass: see [`wait_until`].

pub mod backup;
mod broker;
pub mod chaos;
mod cluster;
mod config;
pub mod database;
mod disk;
pub mod fakes;
mod host;
mod http;
mod look;
mod pgbouncer;
pub mod programs;
mod proxy;
pub mod raw;
mod run;
mod stack;
mod standby;
pub mod tables;
pub mod tool;
mod wait;

pub use broker::{Broker, Stored};
pub use cluster::Cluster;
pub use config::Config;
pub use disk::SmallDisk;
pub use host::Host;
pub use http::{Response, get, post};
pub use look::Parked;
pub use pgbouncer::PgBouncer;
pub use proxy::FaultProxy;
pub use stack::{Server, Stack, StackOptions, free_address};
pub use standby::Standby;
pub use wait::{wait_until, wait_within};
