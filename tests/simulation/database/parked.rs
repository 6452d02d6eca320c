//! Messages that are set aside, in the order of their keys.

use tribox::lane::ports::{DueParked, ParkedMessage, ParkedState};
use tribox::model::MENDED_BY_A_BUILD;
use tribox::store::Standing;

use super::{Database, Parked, now};
use crate::world::Rule;

impl Database {
    fn of_key<'a>(
        &'a self,
        handler: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = (i64, &'a Parked)> {
        self.parked.iter().map(|(id, p)| (*id, p)).filter(move |(_, p)| {
            p.handler == handler
                && p.message.key.as_deref() == Some(key)
                && p.state != ParkedState::Dead
        })
    }

    pub(super) fn wake(&mut self, handler: &str, key: &str) {
        let first = self.of_key(handler, key).next().map(|(id, p)| (id, p.state));
        if let Some((id, ParkedState::Waiting)) = first
            && let Some(parked) = self.parked.get_mut(&id)
        {
            parked.state = ParkedState::Retrying;
            parked.next_attempt_at = Some(now());
        }
    }

    pub fn held_keys(&self, handler: &str) -> Vec<String> {
        let open = |p: &&Parked| p.handler == handler && p.state != ParkedState::Dead;
        let mut keys: Vec<String> =
            self.parked.values().filter(open).filter_map(|p| p.message.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub fn take_up(&self, handler: &str, due: &[DueParked], limit: i64) -> Vec<ParkedMessage> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for (asked, due) in due.iter().enumerate() {
            let message = |id: i64, p: &Parked| ParkedMessage {
                id,
                asked,
                attempts: p.attempts,
                due: p.state == ParkedState::Waiting
                    || (p.state == ParkedState::Retrying
                        && p.next_attempt_at.is_some_and(|at| at <= now())),
                inbox_key: p.inbox_key,
                message: p.message.clone(),
            };
            match &due.key {
                Some(key) => {
                    let room = limit - found.len();
                    let messages = self.of_key(handler, key).take(room);
                    let from = found.len();
                    found.extend(messages.map(|(id, p)| message(id, p)));
                    if !self.keeps(Rule::ParkedOrder) {
                        found[from..].reverse();
                    }
                }
                None => {
                    let parked = self.parked.get(&due.id);
                    let parked =
                        parked.filter(|p| p.handler == handler && p.state == ParkedState::Retrying);
                    found.extend(parked.map(|p| message(due.id, p)));
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        found
    }

    pub fn standing(&self, handler: &str, limit: i64) -> Standing {
        let due = |p: &Parked| {
            p.handler == handler
                && p.state == ParkedState::Retrying
                && p.next_attempt_at.is_some_and(|at| at <= now())
        };
        let due = self.parked.iter().filter(|(_, p)| due(p));
        let due = due.map(|(id, p)| DueParked { id: *id, key: p.message.key.clone() });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Standing { due: due.take(limit).collect(), ..Standing::default() }
    }

    /// Has a new build try again what failed by a fault of another one.
    pub fn heal(&mut self, handler: &str, component: i32) {
        let mut seen: Vec<String> = Vec::new();
        for parked in self.parked.values_mut() {
            let dead = matches!(parked.state, ParkedState::Dead | ParkedState::Holding);
            let mended = MENDED_BY_A_BUILD.contains(&parked.reason);
            if parked.handler != handler || !dead || !mended || parked.component == component {
                continue;
            }
            let key = parked.message.key.clone();
            let first = key.as_ref().is_none_or(|key| !seen.contains(key));
            parked.state = if first { ParkedState::Retrying } else { ParkedState::Waiting };
            parked.attempts = 0;
            parked.next_attempt_at = Some(now());
            seen.extend(key);
        }
    }

    pub fn count_open_parked(&self, handler: &str) -> usize {
        let open = |p: &&Parked| {
            p.handler == handler && matches!(p.state, ParkedState::Retrying | ParkedState::Waiting)
        };
        self.parked.values().filter(open).count()
    }
}
