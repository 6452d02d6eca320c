//! Private Postgres and NATS servers, for `tribox dev` and for tests: real servers, as child
//! processes, in a data directory of their own, on loopback only.
//!
//! A server is found on this machine, started on a free port, waited for by connecting to it, and
//! stopped with its handle. Data stay in the directory between starts. If the process that owned a
//! server was killed, the next start in that directory stops what it left running first, after
//! making sure by pid file and command line that it is the server of this very directory. This room
//! must never touch a server that it, or an earlier owner of the same directory, did not start.
#![expect(
    clippy::disallowed_methods,
    reason = "data directories of child processes are ordinary paths: the servers open them too"
)]

mod account;
mod directory;
mod error;
mod nats;
mod postgres;
mod process;
mod programs;

pub use directory::any_free_port;
pub use error::ServerError;
pub use nats::{NatsOptions, PrivateNats};
pub use postgres::PrivatePostgres;
