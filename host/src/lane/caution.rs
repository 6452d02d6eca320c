//! Care after a crash. A message that brings the whole process down (a bug of the host, a guest that
//! exhausts what no limit covers) comes again after the restart. So for a while after a process has
//! ended by force, each turn notes what it has in hand, one turn at a time in the whole process; what
//! was in hand at a crash is a suspect and handled alone; and what was in hand alone at several is parked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::batch::Batch;
use crate::model::{Failure, InboxKey};

/// At how many crashes a message is in hand alone before it is taken for the cause: somebody may kill
/// the process, too, and that hits whatever is in hand.
const GUILTY: i32 = 3;

/// The care that all lanes of a process take together.
#[derive(Debug, Default)]
pub struct Caution {
    /// Turns note what they have in hand until then.
    until: Mutex<Option<Instant>>,
    /// Messages that were in hand at a crash, and at how many they were alone.
    suspects: Mutex<HashMap<InboxKey, i32>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Caution {
    /// More care: until `until` at least, and with these suspects, too.
    pub fn renew(&self, until: Option<Instant>, suspects: HashMap<InboxKey, i32>) {
        let mut now = self.until();
        *now = (*now).max(until);
        self.suspects().extend(suspects);
    }

    /// Whether a turn has to be taken with care.
    pub fn applies_to(&self, batch: &Batch) -> bool {
        if self.until().is_some_and(|until| Instant::now() < until) {
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

    fn until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, HashMap<InboxKey, i32>> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::batch::{Member, Whole};
    use crate::lane::ports::ParkedMessage;
    use crate::model::Message;

    fn member(n: u8, key: &str) -> Member {
        Member::taken_up(ParkedMessage {
            id: i64::from(n),
            asked: 0,
            attempts: 0,
            due: true,
            inbox_key: InboxKey([n; 16]),
            message: Message {
                id: n.to_string(),
                subject: String::new(),
                key: Some(key.to_owned()),
                headers: Vec::new(),
                payload: bytes::Bytes::new(),
                stored_at: 0,
            },
        })
    }

    fn batch(members: &[(u8, &str)]) -> Batch {
        let members: Vec<Member> = members.iter().map(|(n, key)| member(*n, key)).collect();
        let key = |member: &Member| (member.message().key.clone().unwrap_or_default(), Whole::All);
        let taken_up = members.iter().map(key).collect();
        Batch { members, taken_up }
    }

    fn ids(parts: &[Batch]) -> Vec<Vec<&str>> {
        fn of(part: &Batch) -> Vec<&str> {
            part.members.iter().map(|member| &*member.message().id).collect()
        }
        parts.iter().map(of).collect()
    }

    #[test]
    fn suspects_are_handled_alone_and_the_guilty_not_at_all() {
        let suspects = HashMap::from([(InboxKey([2; 16]), 0), (InboxKey([4; 16]), GUILTY)]);
        let caution = Caution::default();
        caution.renew(None, suspects);
        let all = batch(&[(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]);
        assert!(caution.applies_to(&all));
        let parts = caution.parts(all);
        assert_eq!(ids(&parts), [vec!["1"], vec!["2"], vec!["3"], vec!["4"], vec!["5"]]);
        let faults = parts.iter().map(|part| part.members[0].fault.is_some());
        assert_eq!(faults.collect::<Vec<_>>(), [false, false, false, true, false]);
        let survived = caution.survived(&[InboxKey([1; 16]), InboxKey([2; 16])]);
        assert_eq!(survived, [InboxKey([2; 16])]);
        assert!(!caution.applies_to(&batch(&[(1, "a"), (2, "b")])));
    }

    #[test]
    fn what_stands_behind_a_suspect_of_its_key_is_left_for_later() {
        let caution = Caution::default();
        caution.renew(None, HashMap::from([(InboxKey([2; 16]), 0)]));
        let parts = caution.parts(batch(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]));
        // The second part of a key waits until it is known what became of the first.
        assert_eq!(ids(&parts), [vec!["1"], vec!["4"]]);
        assert!(parts.iter().all(|part| part.taken_up.values().all(|whole| *whole == Whole::More)));
    }
}
