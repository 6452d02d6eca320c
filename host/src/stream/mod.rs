//! JetStream: the only room that speaks NATS. It reads streams in order and without gaps, routes
//! messages to lanes by their key, acknowledges what was committed, and publishes what the relay
//! hands it.
//!
//! What it must never do: acknowledge by itself, or hand on a message whose predecessor it missed.

mod connect;
mod consume;
mod consumption;
mod discover;
mod fence;
mod filters;
mod lag;
mod load;
mod lookup;
mod lost;
mod open;
mod partitions;
mod provision;
mod publish;
mod put;
mod retrace;
mod route;
mod settle;
mod split;
mod stalled;
mod unreadable;

pub use self::connect::{Nats, NatsError, NatsOptions};
pub use self::consume::{End, Reader};
pub use self::consumption::Consumption;
pub use self::discover::{StreamInfo, find_streams};
pub use self::fence::{Fence, Moment};
pub use self::filters::Filters;
pub use self::lag::Lag;
pub use self::load::{Output, outputs, stream_of, waiting};
pub use self::lookup::{has_stream, ids_in_stream};
pub use self::lost::{Again, Keeper, ids_since, keepers, send_again};
pub use self::partitions::{has_ended, obstacle};
pub use self::provision::{Change, plan, provision};
pub use self::publish::{Event, Publish, Publisher, Refusal};
pub(crate) use self::publish::{denied_subject, header_map, pub_ack};
pub use self::put::{Stored, put};
pub use self::retrace::{Consumed, Passed, Passing, consumed, rewind};
pub use self::route::{Router, lane_of_key};
pub use self::settle::Acknowledge;
pub use self::split::{Split, make_split, plan_split};
pub(crate) use self::unreadable::trouble;
