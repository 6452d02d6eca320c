//! Care after a crash. A message that brings the whole process down (a bug of the host, a guest that
//! exhausts what no limit covers) comes again after the restart. So for a while after a process has
//! ended by force, each turn notes what it has in hand, one turn at a time in the whole process; what
//! was in hand at a crash is a suspect and handled alone; and what was in hand alone at several is parked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::batch::Batch;
use crate::model::{Failure, InboxKey};

/// At how many crashes a message is in hand alone before it is taken for the cause: somebody may kill
/// the process, too, and that hits whatever is in hand.
const GUILTY: i32 = 3;

/// The care that all lanes of a process take together.
#[derive(Debug, Default)]
pub struct Caution {
    /// Turns note what they have in hand until then.
    until: Option<Instant>,
    /// Messages that were in hand at a crash, and at how many they were alone.
    suspects: Mutex<HashMap<InboxKey, i32>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Caution {
    pub fn new(until: Option<Instant>, suspects: HashMap<InboxKey, i32>) -> Self {
        Caution {
            until,
            suspects: Mutex::new(suspects),
            one_at_a_time: tokio::sync::Mutex::default(),
        }
    }

    /// Whether a turn has to be taken with care.
    pub fn applies_to(&self, batch: &Batch) -> bool {
        if self.until.is_some_and(|until| Instant::now() < until) {
            return true;
        }
        let suspects = self.suspects();
        !suspects.is_empty() && batch.members.iter().any(|m| suspects.contains_key(&m.inbox_key))
    }

    /// Waits for every other careful turn to end.
    pub async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.one_at_a_time.lock().await
    }

    /// The parts in which a batch is to be handled: suspects alone, and the guilty not at all.
    pub fn parts(&self, mut batch: Batch) -> Vec<Batch> {
        let suspects = self.suspects();
        for member in &mut batch.members {
            if let Some(alone) = suspects.get(&member.inbox_key).filter(|alone| **alone >= GUILTY) {
                member.fault = Some(Failure::Crash(format!(
                    "the host ended by force each time it handled this message, {alone} times with \
                     nothing else in hand; look into its log before it is tried again"
                )));
            }
        }
        let mut parts = Vec::new();
        while let Some(at) = batch.members.iter().position(|m| suspects.contains_key(&m.inbox_key))
        {
            let (before, rest) = batch.split(at);
            let (suspect, rest) = rest.split(1);
            parts.push(before);
            parts.push(suspect);
            batch = rest;
        }
        parts.push(batch);
        parts.retain(|part| !part.members.is_empty());
        parts
    }

    /// Takes the suspects among messages that were handled, or parked, from the list.
    pub fn survived(&self, keys: &[InboxKey]) -> Vec<InboxKey> {
        let mut suspects = self.suspects();
        keys.iter().filter(|key| suspects.remove(key).is_some()).copied().collect()
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, HashMap<InboxKey, i32>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
