//! What a turn is made of: messages that arrived and parked ones whose time has come.

use std::collections::HashMap;

use super::ports::{Delivery, ParkedMessage};
use crate::model::{InboxKey, Message};

/// One message of a turn.
#[derive(Debug, Clone)]
pub struct Member {
    pub inbox_key: InboxKey,
    pub origin: Origin,
    /// Postgres refused what this message wrote, found by bisecting its turn.
    pub refused: Option<String>,
}

/// Where a message of a turn comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    Stream(Delivery),
    Parked(ParkedMessage),
}

impl Member {
    pub fn arrived(handler: &str, delivery: Delivery) -> Self {
        let inbox_key = InboxKey::new(handler, &delivery.message.id);
        Member { inbox_key, origin: Origin::Stream(delivery), refused: None }
    }

    pub fn taken_up(parked: ParkedMessage) -> Self {
        Member { inbox_key: parked.inbox_key, origin: Origin::Parked(parked), refused: None }
    }

    pub fn message(&self) -> &Message {
        match &self.origin {
            Origin::Stream(delivery) => &delivery.message,
            Origin::Parked(parked) => &parked.message,
        }
    }

    pub fn delivery(&self) -> Option<&Delivery> {
        match &self.origin {
            Origin::Stream(delivery) => Some(delivery),
            Origin::Parked(_) => None,
        }
    }

    /// Failed attempts so far.
    pub fn attempts(&self) -> i32 {
        match &self.origin {
            Origin::Stream(_) => 0,
            Origin::Parked(parked) => parked.attempts,
        }
    }
}

/// The messages of a turn, parked ones first, and for each key that is being taken up again whether
/// all that waits behind it is in this turn.
#[derive(Debug, Default)]
pub struct Batch {
    pub members: Vec<Member>,
    pub taken_up: HashMap<String, Whole>,
}

/// Whether all parked messages of a key are in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// All: later messages of the key can be handled behind them.
    All,
    /// There are more, from this id on.
    MoreFrom(i64),
}
