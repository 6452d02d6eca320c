//! tribox: inbox, sandbox, outbox, one transaction.
//!
//! The way of a message, room by room: `stream` reads it from JetStream and routes it by its key,
//! [`lane`] drains, loads, handles, commits and settles it, [`sandbox`] runs the guest, [`store`]
//! commits in one Postgres transaction, `relay` publishes what was committed. [`model`] has the
//! words all of them share and does no I/O. docs/ARCHITECTURE.md says who may import whom; a test
//! holds it.

pub mod admin;
pub mod cli;
pub mod config;
pub mod desk;
pub mod fault;
#[doc(hidden)]
pub mod fuzz;
pub mod lane;
pub mod model;
pub mod node;
pub mod plugins;
pub mod relay;
pub mod sandbox;
pub mod servers;
pub mod store;
pub mod stream;
pub mod telemetry;
