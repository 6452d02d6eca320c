//! The second step of a turn: one query for what the turn has to know. Documents that the lane has
//! just written come from its cache, since the commit checks their versions.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::batch::{Batch, Member};
use super::cache::Cached;
use super::commit::away;
use super::ports::{Load, Loaded, LoadedState, Outlet, Row, Settle, Store};
use super::snapshot::Snapshot;
use super::{Again, Lane};
use crate::model::{InboxKey, KeySource};

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Everything that a turn has to know: which messages were handled before, and the documents.
    pub(super) async fn load(
        &mut self,
        loaded: &Loaded,
        batch: &Batch,
    ) -> Result<(HashSet<InboxKey>, Snapshot), Again> {
        if !self.memory.unsure {
            return self.read(loaded, batch).await;
        }
        // The outcome of a commit is unknown: the log tells, once it has taken place. It may do so at
        // any time, so that what the inbox has is only then looked for among what is set aside.
        let state = self.store.log_state(self.log.writer).await.map_err(away)?;
        if state.last > self.log.last {
            self.log.last = state.last;
            self.outlet.look_again(self.log.writer);
        }
        let read = self.read(loaded, batch).await?;
        let handler = &loaded.handler.description().name;
        let held = self.store.held_keys(handler).await.map_err(away)?;
        let keys: HashSet<&str> =
            batch.members.iter().filter_map(|m| m.message().key.as_deref()).collect();
        self.memory.held.extend(held.into_iter().filter(|key| keys.contains(key.as_str())));
        self.memory.unsure = false;
        Ok(read)
    }

    /// One query: which messages were handled before, and what is to be read ahead and not cached.
    async fn read(
        &mut self,
        loaded: &Loaded,
        batch: &Batch,
    ) -> Result<(HashSet<InboxKey>, Snapshot), Again> {
        let mut wanted = Load::default();
        let redelivered = |m: &Member| m.delivery().is_some_and(|d| d.redelivered);
        if self.memory.wary > 0 || batch.members.iter().any(redelivered) {
            self.memory.wary = self.memory.wary.saturating_sub(1);
            let arrived = batch.members.iter().filter(|m| m.delivery().is_some());
            wanted.inbox = arrived.map(|m| m.inbox_key).collect();
        }
        let now = Instant::now();
        let mut snapshot = Snapshot::new(self.store.reader());
        let mut missing = BTreeSet::new();
        for member in &batch.members {
            let message = member.message();
            let subscription = loaded.handler.description().subscription_for(&message.subject);
            let (Some(key), Some(subscription)) = (&message.key, subscription) else { continue };
            debug_assert_ne!(subscription.key, KeySource::None);
            for collection in &subscription.read_ahead {
                if snapshot.has(collection, key) {
                    continue;
                }
                match self.memory.cache.get(collection, key, now) {
                    Some(Cached { version, body }) => {
                        snapshot.preload(&row(collection, key, version, body));
                    }
                    None => {
                        missing.insert((collection.clone(), key.clone()));
                    }
                }
            }
        }
        wanted.documents = missing.iter().cloned().collect();
        let mut state = LoadedState::default();
        if !wanted.inbox.is_empty() || !wanted.documents.is_empty() {
            state = self.store.load(&wanted).await.map_err(away)?;
            self.health.back("postgres");
        }
        for (collection, key) in &wanted.documents {
            snapshot.preload(&row(collection, key, 0, None));
        }
        for row in &state.documents {
            snapshot.preload(row);
        }
        Ok((state.handled.into_iter().collect(), snapshot))
    }
}

fn row(collection: &str, key: &str, version: i64, body: Option<Arc<str>>) -> Row {
    Row { collection: collection.to_owned(), key: key.to_owned(), version, body }
}
