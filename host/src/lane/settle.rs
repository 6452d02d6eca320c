//! The last step of a turn, after its commit: keep what helps the next turns, count, hand what is to be
//! published to the relay, acknowledge.

use std::sync::PoisonError;

use tokio::time::Instant;

use super::batch::{Batch, Member, Whole};
use super::cache::Cached;
use super::handle::{Fate, Handled};
use super::ports::{Delivery, DueParked, Entry, Outlet, Settle, Store};
use super::snapshot::Kept;
use super::write::Written;
use super::{Lane, WARY_TURNS};

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Ends a turn that was committed.
    pub(super) async fn settle(&mut self, batch: &Batch, handled: &Handled, written: Written) {
        self.remember(batch, handled);
        self.report(&written.commit.handler, batch, handled);
        let delayed = !written.commit.scheduled.is_empty();
        self.hand_over(written.commit.entries, written.transient, delayed);
        let deliveries: Vec<&Delivery> =
            batch.members.iter().filter_map(Member::delivery).collect();
        self.settle.settle(&deliveries).await;
    }

    /// Keeps what the next turns can use.
    fn remember(&mut self, batch: &Batch, handled: &Handled) {
        let snapshot = handled.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for Kept { collection, key, version, body, checked } in snapshot.after_commit() {
            let cache = &mut self.memory.cache;
            match version {
                // What came from the cache and was not looked at is no younger than before.
                Some(_) if !checked && cache.has(collection, key) => {}
                Some(version) => {
                    cache.put(collection, key, Cached { version, body: body.clone() }, now);
                }
                None => cache.remove(collection, key),
            }
        }
        drop(snapshot);
        self.memory.held.extend(handled.failed.iter().cloned());
        for (key, whole) in &batch.taken_up {
            if handled.released.contains(key) {
                self.memory.held.remove(key);
            } else if *whole == Whole::More && !handled.failed.contains(key) {
                self.memory.again.push_back(DueParked { id: 0, key: Some(key.clone()) });
            }
        }
        if handled.fates.iter().any(|fate| matches!(fate, Fate::Duplicate)) {
            self.memory.wary = WARY_TURNS;
        }
    }

    /// Counts what happened, and says what was set aside.
    fn report(&self, handler: &str, batch: &Batch, handled: &Handled) {
        self.metrics.turn_messages.observe(batch.members.len() as f64);
        let mut done = 0;
        let mut duplicates = 0;
        for (member, fate) in batch.members.iter().zip(&handled.fates) {
            match fate {
                Fate::Handled(effects) => {
                    done += 1;
                    let message = member.message();
                    tracing::debug!(
                        handler,
                        message_id = message.id,
                        subject = message.subject,
                        documents = effects.mutations.len(),
                        messages = effects.messages.len(),
                        "message handled"
                    );
                    // What `tribox dev` shows, and no log line anywhere (`cli/logging.rs`): its fields
                    // are made only where somebody looks.
                    tracing::info!(
                        target: "tribox::view",
                        handler,
                        message_id = message.id,
                        subject = message.subject,
                        key = message.key,
                        effects = %effects,
                    );
                }
                Fate::Duplicate => duplicates += 1,
                Fate::Untouched => {}
                Fate::Expired => {
                    let message = member.message();
                    self.metrics.expired.inc();
                    tracing::info!(
                        handler,
                        message_id = message.id,
                        subject = message.subject,
                        "message was past before it was handled, and is not"
                    );
                }
                Fate::Parked(parking) => {
                    self.metrics.parked(parking.reason).inc();
                    let message = member.message();
                    if parking.reason != "waiting" {
                        tracing::warn!(
                            handler,
                            message_id = message.id,
                            subject = message.subject,
                            key = message.key,
                            reason = parking.reason,
                            attempts = parking.attempts,
                            retry_after_ms = parking.retry_after,
                            "message parked: {}",
                            parking.error
                        );
                    }
                }
            }
        }
        self.metrics.handled.inc_by(done);
        self.metrics.duplicates.inc_by(duplicates);
    }

    /// Hands what was committed to the relay.
    fn hand_over(&mut self, entries: Vec<Entry>, transient: Vec<Entry>, delayed: bool) {
        self.metrics.sent.inc_by(entries.len() as u64);
        if let Some(last) = entries.last() {
            self.log.last = last.seq;
            self.outlet.committed(self.log.writer, entries);
        }
        if !transient.is_empty() {
            self.outlet.transient(transient);
        }
        if delayed {
            self.outlet.scheduled();
        }
    }
}
