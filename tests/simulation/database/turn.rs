//! What a turn reads, and its commit: whole, or nothing of it.

use std::collections::BTreeMap;

use tribox::lane::ports::{Commit, CommitError, Load, LoadedState, ParkedState, Parking, Row};
use tribox::model::{Due, InboxKey};
use tribox::store::LoggedEntry;

use super::{Database, Done, Parked, Stored, Waiting, now};
use crate::world::{Rule, elapsed};

impl Database {
    pub fn load(&self, wanted: &Load) -> LoadedState {
        let handled = wanted.inbox.iter().filter(|key| self.inbox.contains_key(key)).copied();
        let documents = wanted.documents.iter().filter_map(|(c, k)| self.document(c, k));
        LoadedState { handled: handled.collect(), documents: documents.collect() }
    }

    pub fn document(&self, collection: &str, key: &str) -> Option<Row> {
        let stored = self.documents.get(&(collection.to_owned(), key.to_owned()))?;
        Some(Row {
            collection: collection.to_owned(),
            key: key.to_owned(),
            version: stored.version,
            body: stored.body.clone(),
        })
    }

    pub fn list(
        &self,
        collection: &str,
        from: &str,
        until: Option<&str>,
        after: Option<&str>,
    ) -> impl Iterator<Item = Row> {
        let from = (collection.to_owned(), from.to_owned());
        let rows = self.documents.range(from..).take_while(move |((c, _), _)| c == collection);
        rows.filter(move |((_, key), stored)| {
            stored.body.is_some()
                && until.is_none_or(|until| key.as_str() < until)
                && after.is_none_or(|after| key.as_str() > after)
        })
        .map(|((c, k), stored)| Row {
            collection: c.clone(),
            key: k.clone(),
            version: stored.version,
            body: stored.body.clone(),
        })
    }

    /// The live documents: (collection, key, body).
    pub fn live(&self) -> BTreeMap<(String, String), String> {
        let live = self.documents.iter().filter_map(|(at, stored)| {
            let body = stored.body.as_ref()?;
            Some((at.clone(), body.to_string()))
        });
        live.collect()
    }

    /// A turn whole, or nothing of it. Where it fails is in the order of the statement.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        self.check(commit)?;
        self.apply(commit);
        Ok(())
    }

    fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let conflict = |why: &str| Err(CommitError::Conflict(why.to_owned()));
        for guard in &commit.lists {
            let range = &guard.range;
            let (until, after) = (range.until.as_deref(), range.after.as_deref());
            let seen = self.list(&range.collection, &range.from, until, after);
            let seen = seen.filter(|row| guard.last.as_ref().is_none_or(|last| row.key <= *last));
            let same = i64::try_from(seen.count()).unwrap_or(i64::MAX) == guard.count;
            if !same && self.keeps(Rule::Lists) {
                return conflict("a list changed");
            }
        }
        let writer = self.writers.get(&commit.writer);
        let stands = writer.is_some_and(|writer| writer.fence == commit.fence);
        if !stands && self.keeps(Rule::Fence) {
            return Err(CommitError::Fenced(format!("log {} was taken over", commit.writer)));
        }
        let known = commit.inbox.iter().any(|(key, _)| self.inbox.contains_key(key));
        if known && self.keeps(Rule::Inbox) {
            return Err(CommitError::Duplicate);
        }
        let refused = |row: &Row| {
            let bad = |body: &str| body.contains("poison") || body.contains("\\u0000");
            row.body.as_deref().is_some_and(bad)
        };
        let data = || Err(CommitError::Data("a constraint refuses it".to_owned()));
        let version = |row: &Row| self.document(&row.collection, &row.key).map(|r| r.version);
        let stands = |row: &Row| version(row) == Some(row.version);
        let kept = |rows: &[Row], rule| rows.iter().all(stands) || !self.keeps(rule);
        if commit.updates.iter().any(|row| stands(row) && refused(row)) {
            return data();
        }
        if !kept(&commit.updates, Rule::Writes) {
            return conflict("a document to be written has changed");
        }
        if commit.creates.iter().any(refused) {
            return data();
        }
        if commit.creates.iter().any(|row| version(row).is_some()) && self.keeps(Rule::Creates) {
            return conflict("a document that was not there has come");
        }
        if commit.blind.iter().any(refused) {
            return data();
        }
        if !kept(&commit.reads, Rule::Reads) {
            return conflict("a document that was read has changed");
        }
        if commit.entries.iter().any(|e| self.outbox.contains_key(&(commit.writer, e.seq))) {
            return Err(CommitError::Unavailable("the log has that entry".to_owned()));
        }
        let dropped = |name: &Option<String>| {
            name.as_ref().is_some_and(|name| commit.dropped_names.contains(name))
        };
        let stays = |w: &&Waiting| w.handler != commit.handler || !dropped(&w.scheduled.name);
        for new in &commit.scheduled {
            if self.scheduled.get(&new.id).filter(stays).is_some() {
                return Err(CommitError::Duplicate);
            }
            let of_name = |w: &Waiting| w.handler == commit.handler && w.scheduled.name == new.name;
            if new.name.is_some() && self.scheduled.values().filter(stays).any(of_name) {
                return conflict("a schedule name is taken");
            }
        }
        let reparked = commit.reparked.iter().map(|(id, _)| id);
        for id in commit.unparked.iter().chain(reparked) {
            if self.parked.get(id).is_none_or(|p| p.state == ParkedState::Dead) {
                return conflict("a parked row is gone");
            }
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit) {
        let parked_now = |key: &InboxKey| commit.parked.iter().any(|(parked, ..)| parked == key);
        let mut handled: Vec<InboxKey> =
            commit.unparked.iter().filter_map(|id| Some(self.parked.get(id)?.inbox_key)).collect();
        handled.extend(commit.inbox.iter().map(|(key, _)| *key).filter(|key| !parked_now(key)));
        let last = commit.entries.last().map(|entry| entry.seq);
        let (at, writer) = (elapsed(), commit.writer);
        self.history.push(Done { at, writer, last, handler: commit.handler.clone(), handled });
        if self.keeps(Rule::Whole) || !commit.inbox.len().is_multiple_of(3) {
            self.inbox.extend(commit.inbox.iter().copied());
        }
        let versioned = commit.updates.iter().map(|row| (row, row.version + 1));
        let created = commit.creates.iter().map(|row| (row, 1));
        let mut rows: Vec<(&Row, i64)> = versioned.chain(created).collect();
        for row in &commit.blind {
            let version = self.document(&row.collection, &row.key).map_or(0, |r| r.version);
            rows.push((row, version + 1));
        }
        for (row, version) in rows {
            let at = (row.collection.clone(), row.key.clone());
            self.documents.insert(at, Stored { version, body: row.body.clone() });
        }
        for entry in &commit.entries {
            let logged = LoggedEntry {
                seq: entry.seq,
                id: entry.id.clone(),
                subject: entry.subject.clone(),
                headers: entry.headers.clone(),
                payload: entry.payload.clone(),
                committed_at: now(),
                expires_at: entry.expires_after.map(|after| now() + after),
            };
            if self.keeps(Rule::Outbox) || entry.seq % 9 > 0 {
                self.outbox.insert((commit.writer, entry.seq), logged);
            }
        }
        if let Some(published) = commit.published {
            self.advance_cursors(&[(commit.writer, published)]);
        }
        for position in &commit.positions {
            let at = (commit.handler.clone(), position.stream.clone(), position.created);
            let floor = self.floors.entry(at).or_default();
            *floor = position.floor.max(*floor);
        }
        self.scheduled.retain(|_, waiting| {
            let name = waiting.scheduled.name.as_ref();
            waiting.handler != commit.handler
                || !name.is_some_and(|name| commit.dropped_names.contains(name))
        });
        for scheduled in &commit.scheduled {
            let due_at = match scheduled.due {
                Due::After(ms) => now() + i64::try_from(ms).unwrap_or(i64::MAX / 4),
                Due::At(ms) => i64::try_from(ms).unwrap_or(i64::MAX),
            };
            let handler = commit.handler.clone();
            let waiting = Waiting { due_at, handler, scheduled: scheduled.clone() };
            self.scheduled.insert(scheduled.id.clone(), waiting);
        }
        self.park(commit);
    }

    fn park(&mut self, commit: &Commit) {
        for (inbox_key, message, parking) in &commit.parked {
            self.next_parked += 1;
            let Parking { state, attempts, retry_after, reason, error } = parking.clone();
            let parked = Parked {
                handler: commit.handler.clone(),
                state,
                attempts,
                next_attempt_at: retry_after.map(|ms| now() + ms),
                reason,
                error,
                component: commit.component,
                inbox_key: *inbox_key,
                message: message.clone(),
            };
            self.parked.insert(self.next_parked, parked);
        }
        for (_, message, parking) in &commit.parked {
            if parking.state == ParkedState::Waiting
                && let Some(key) = &message.key
            {
                self.wake(&commit.handler, key);
            }
        }
        for id in &commit.unparked {
            self.parked.remove(id);
        }
        for (id, parking) in &commit.reparked {
            if let Some(parked) = self.parked.get_mut(id) {
                parked.state = parking.state;
                parked.attempts = parking.attempts;
                parked.next_attempt_at = parking.retry_after.map(|ms| now() + ms);
                parked.reason = parking.reason;
                parking.error.clone_into(&mut parked.error);
                parked.component = commit.component;
            }
        }
    }
}
