//! The words every room shares: messages, effects, verdicts. Pure data and pure functions; this
//! room imports no other and never does I/O.

pub mod chain;
pub mod description;
pub mod documents;
pub mod effects;
pub mod identity;
pub mod json;
pub mod key;
pub mod limits;
pub mod message;
mod print;
#[cfg(test)]
mod properties;
pub mod rules;
pub mod subject;
mod unit;
pub mod verdict;

pub use description::{Description, KeySource, Subscription};
pub use documents::{Call, Documents, LIST_BYTES, Unreadable};
pub use effects::{Delivery, Due, Effects, Mutation, Outgoing};
pub use identity::{InboxKey, outgoing_id};
pub use key::key_of;
pub use limits::Limits;
pub use message::{Document, Header, Message};
pub use unit::{Partition, Unit, is_of_partitions, partition_root, partition_stream};
pub use verdict::{Failure, MENDED_BY_A_BUILD, Trap, Verdict};
