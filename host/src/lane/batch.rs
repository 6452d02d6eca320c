//! What a turn is made of: messages that arrived and parked ones whose time has come.

use std::collections::{BTreeMap, HashSet};

use super::ports::{Delivery, ParkedMessage};
use crate::model::{Failure, InboxKey, Message};

/// One message of a turn.
#[derive(Debug, Clone)]
pub struct Member {
    pub inbox_key: InboxKey,
    pub origin: Origin,
    /// Known to fail without being handled: Postgres refused what it wrote, found by bisecting its
    /// turn, or it brought the process down.
    pub fault: Option<Failure>,
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
        Member { inbox_key, origin: Origin::Stream(delivery), fault: None }
    }

    pub fn taken_up(parked: ParkedMessage) -> Self {
        Member { inbox_key: parked.inbox_key, origin: Origin::Parked(parked), fault: None }
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
    pub taken_up: BTreeMap<String, Whole>,
}

impl Batch {
    /// The first `at` messages and the rest. Parked messages of one key are handled in order, so those
    /// behind the first part are left for later; and neither part alone knows when a key is free.
    pub fn split(mut self, at: usize) -> (Batch, Batch) {
        let mut rest = self.members.split_off(at.min(self.members.len()));
        if self.members.is_empty() || rest.is_empty() {
            let taken_up = self.taken_up.clone();
            return (self, Batch { members: rest, taken_up });
        }
        let key = |member: &Member| match member.delivery() {
            Some(_) => None,
            None => member.message().key.clone(),
        };
        let before: HashSet<String> = self.members.iter().filter_map(key).collect();
        rest.retain(|member| key(member).is_none_or(|key| !before.contains(&key)));
        self.taken_up.values_mut().for_each(|whole| *whole = Whole::More);
        let taken_up = self.taken_up.clone();
        (self, Batch { members: rest, taken_up })
    }
}

/// Whether all parked messages of a key are in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// All: later messages of the key can be handled behind them.
    All,
    /// There are more: the key is gone on with at once.
    More,
    /// There are more, behind one that is not due: the key stays held.
    Blocked,
}
