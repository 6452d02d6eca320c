//! The pure part of a turn: every message in order against the documents as the earlier ones left
//! them. No I/O but the reads of the snapshot.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::batch::{Batch, Member, Origin, Whole};
use super::policy::Policy;
use super::ports::{Handler, ParkedState, Parking};
use super::snapshot::Snapshot;
use crate::model::{
    Documents, Effects, Failure, InboxKey, KeySource, Message, Unreadable, Verdict, chain,
};

/// What becomes of a message of a turn.
#[derive(Debug)]
pub enum Fate {
    /// It was handled before.
    Duplicate,
    /// These are its effects; the mutations are in the snapshot.
    Handled(Effects),
    /// It is set aside.
    Parked(Parking),
    /// It was past before it was handled, and is not.
    Expired,
    /// It stays as it is, behind an earlier one of its key that failed.
    Untouched,
}

/// A turn that was handled and not yet committed.
pub struct Handled {
    /// One for each member, in order.
    pub fates: Vec<Fate>,
    pub snapshot: Arc<Mutex<Snapshot>>,
    /// Keys whose message failed and is tried again later, or holds them.
    pub failed: HashSet<String>,
    /// Keys that are free after this turn.
    pub released: HashSet<String>,
}

/// What handling goes by.
pub struct Rules<'a> {
    pub handler: &'a dyn Handler,
    pub policy: &'a Policy,
    /// Keys that have messages waiting in order.
    pub held: &'a HashSet<String>,
    /// Messages that the inbox has.
    pub known: &'a HashSet<InboxKey>,
    /// Milliseconds since the Unix epoch: for messages that say when they are past.
    pub now: u64,
}

/// Handles the messages of a turn.
///
/// # Errors
/// The state could not be read; nothing happened.
pub fn handle(rules: &Rules, batch: &Batch, snapshot: Snapshot) -> Result<Handled, Unreadable> {
    let snapshot = Arc::new(Mutex::new(snapshot));
    let mut turn = Pass {
        rules,
        taken_up: &batch.taken_up,
        seen: HashSet::with_capacity(batch.members.len()),
        failed: HashSet::new(),
        snapshot: Arc::clone(&snapshot),
    };
    let mut fates = Vec::with_capacity(batch.members.len());
    for member in &batch.members {
        fates.push(turn.fate(member)?);
    }
    let released = batch
        .taken_up
        .iter()
        .filter(|(key, whole)| **whole == Whole::All && !turn.failed.contains(key.as_str()));
    let released = released.map(|(key, _)| key.clone()).collect();
    let failed = turn.failed;
    Ok(Handled { fates, snapshot, failed, released })
}

/// One pass over the messages of a turn.
struct Pass<'a> {
    rules: &'a Rules<'a>,
    taken_up: &'a BTreeMap<String, Whole>,
    seen: HashSet<InboxKey>,
    /// Keys whose message failed in this turn and is tried again later, or holds them.
    failed: HashSet<String>,
    snapshot: Arc<Mutex<Snapshot>>,
}

impl Pass<'_> {
    fn fate(&mut self, member: &Member) -> Result<Fate, Unreadable> {
        let message = member.message();
        let key = message.key.as_deref();
        match &member.origin {
            Origin::Stream(delivery) => {
                if self.rules.known.contains(&member.inbox_key)
                    || !self.seen.insert(member.inbox_key)
                {
                    return Ok(Fate::Duplicate);
                }
                if let Some(why) = &delivery.unroutable {
                    return Ok(self.failed(member, why));
                }
                if self.is_past(message) {
                    return Ok(Fate::Expired);
                }
                // Asked on arrival alone: what was set aside and is taken up again goes on.
                if let Some(why) = self.too_long(message) {
                    return Ok(self.failed(member, &why));
                }
                if key.is_some_and(|key| self.must_wait(key)) {
                    return Ok(Fate::Parked(waiting()));
                }
            }
            Origin::Parked(_) => {
                if key.is_some_and(|key| self.failed.contains(key)) {
                    return Ok(Fate::Untouched);
                }
                if self.is_past(message) {
                    return Ok(Fate::Expired);
                }
                if key.is_none() && self.needs_key(&message.subject) {
                    let why = "it was set aside without the key its subscription asks for";
                    return Ok(self.failed(member, &Failure::NoKey(why.to_owned())));
                }
            }
        }
        if let Some(why) = &member.fault {
            return Ok(self.failed(member, why));
        }
        let documents: Arc<Mutex<dyn Documents>> = Arc::clone(&self.snapshot) as _;
        match self.rules.handler.call(message, documents).verdict? {
            Verdict::Failed(failure) => Ok(self.failed(member, &failure)),
            Verdict::Effects(effects) => {
                let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
                snapshot.apply(&effects.mutations);
                Ok(Fate::Handled(effects))
            }
        }
    }

    fn is_past(&self, message: &Message) -> bool {
        message.expires_at().is_some_and(|at| at <= self.rules.now)
    }

    fn too_long(&self, message: &Message) -> Option<Failure> {
        let handler = &self.rules.handler.description().name;
        chain::too_long(message, self.rules.policy.hops, handler)
    }

    fn needs_key(&self, subject: &str) -> bool {
        let subscription = self.rules.handler.description().subscription_for(subject);
        subscription.is_some_and(|s| s.key != KeySource::None)
    }

    /// Whether a message that arrived waits behind an earlier one of its key.
    fn must_wait(&self, key: &str) -> bool {
        if self.failed.contains(key) {
            return true;
        }
        self.rules.held.contains(key) && self.taken_up.get(key) != Some(&Whole::All)
    }

    fn failed(&mut self, member: &Member, failure: &Failure) -> Fate {
        let attempt = member.attempts() + 1;
        let parking = self.rules.policy.decide(failure, attempt, member.inbox_key);
        let message = member.message();
        if matches!(parking.state, ParkedState::Retrying | ParkedState::Holding)
            && let Some(key) = &message.key
        {
            self.failed.insert(key.clone());
        }
        Fate::Parked(parking)
    }
}

/// How a message is parked behind an earlier one of its key.
fn waiting() -> Parking {
    Parking {
        state: ParkedState::Waiting,
        attempts: 0,
        retry_after: None,
        reason: "waiting",
        error: String::new(),
    }
}
