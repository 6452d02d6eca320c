//! Messages that wait for their time, or for a stream that takes them.

use std::collections::BTreeMap;

use tribox::lane::ports::Scheduled;
use tribox::store::{LoggedEntry, OpenedWriter};

use super::{Database, Undelivered, now};

impl Database {
    pub fn release_due(&mut self, log: &OpenedWriter, first: i64, limit: i64) -> Option<i64> {
        if self.writers.get(&log.id).is_none_or(|w| w.fence != log.fence) {
            return None;
        }
        let mut due: Vec<(i64, String)> = self
            .scheduled
            .iter()
            .filter(|(_, w)| w.due_at <= now())
            .map(|(id, w)| (w.due_at, id.clone()))
            .collect();
        due.sort_unstable();
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut moved = 0;
        for (due_at, id) in due {
            let Some(waiting) = self.scheduled.remove(&id) else { continue };
            let Scheduled { subject, headers, payload, expires_after, .. } = waiting.scheduled;
            let seq = first + moved;
            let expires_at = expires_after.map(|after| due_at + after);
            let entry =
                LoggedEntry { seq, id, subject, headers, payload, committed_at: now(), expires_at };
            self.outbox.insert((log.id, seq), entry);
            moved += 1;
        }
        Some(moved)
    }

    pub fn next_due(&self) -> Option<i64> {
        self.scheduled.values().map(|w| w.due_at - now()).min()
    }

    pub fn scheduled(&self) -> usize {
        self.scheduled.len()
    }

    pub fn undelivered(&self) -> usize {
        self.undelivered.len()
    }

    pub fn set_undelivered(&mut self, writer: i32, seq: i64, reason: &str) {
        let Some(entry) = self.outbox.get(&(writer, seq)).cloned() else { return };
        let pause = |attempts: i32| (5 * (1_i64 << attempts.clamp(0, 10))).min(300) * 1_000;
        if let Some(there) = self.undelivered.get_mut(&entry.id) {
            there.retry_at = Some(now() + pause(there.attempts));
            reason.clone_into(&mut there.reason);
            there.attempts += 1;
            there.resent = None;
            return;
        }
        let first = !self.undelivered.values().any(|u| u.entry.subject == entry.subject);
        self.next_undelivered += 1;
        let undelivered = Undelivered {
            position: self.next_undelivered,
            reason: reason.to_owned(),
            attempts: 1,
            retry_at: first.then(|| now() + 5_000),
            resent: None,
            entry: entry.clone(),
        };
        self.undelivered.insert(entry.id, undelivered);
    }

    pub fn resend(&mut self, log: &OpenedWriter, first: i64, limit: i64) -> i64 {
        if self.writers.get(&log.id).is_none_or(|w| w.fence != log.fence) {
            return 0;
        }
        let due =
            |u: &&mut Undelivered| u.resent.is_none() && u.retry_at.is_some_and(|at| at <= now());
        let mut due: Vec<&mut Undelivered> = self.undelivered.values_mut().filter(due).collect();
        due.sort_by_key(|u| u.position);
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut moved = 0;
        for undelivered in due {
            let seq = first + moved;
            undelivered.resent = Some((log.id, seq));
            undelivered.retry_at = None;
            let entry = LoggedEntry {
                seq,
                committed_at: now(),
                expires_at: None,
                ..undelivered.entry.clone()
            };
            self.outbox.insert((log.id, seq), entry);
            moved += 1;
        }
        moved
    }

    pub fn settle_resent(&mut self) -> i64 {
        let published = |writer: i32| self.writers.get(&writer).map_or(0, |w| w.published);
        let gone: Vec<(String, String)> = self
            .undelivered
            .iter()
            .filter(|(_, u)| u.resent.is_some_and(|(writer, seq)| published(writer) >= seq))
            .map(|(id, u)| (id.clone(), u.entry.subject.clone()))
            .collect();
        for (id, _) in &gone {
            self.undelivered.remove(id);
        }
        for undelivered in self.undelivered.values_mut() {
            let follows = gone.iter().any(|(_, subject)| *subject == undelivered.entry.subject);
            if follows && undelivered.resent.is_none() {
                undelivered.retry_at = Some(now());
            }
        }
        i64::try_from(gone.len()).unwrap_or(i64::MAX)
    }

    pub fn wake_undelivered(&mut self) {
        let mut first: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for (id, u) in &self.undelivered {
            let at = first.entry(u.entry.subject.clone()).or_insert((u.position, id.clone()));
            if u.position < at.0 {
                *at = (u.position, id.clone());
            }
        }
        for (_, id) in first.into_values() {
            if let Some(u) = self.undelivered.get_mut(&id)
                && u.retry_at.is_none()
                && u.resent.is_none()
            {
                u.retry_at = Some(now());
            }
        }
    }
}
