//! The start of a turn: takes what has arrived, up to the limits, and parked messages that are due.
//! No timer makes anyone wait; batches form by themselves while a turn is under way.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batch::{Batch, Member, Whole};
use super::ports::{Delivery, DueParked, Outlet, Settle, Store};
use super::{Intake, Lane};

/// How often a lane that takes nothing in looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// Parked messages that are taken up in one turn at most.
const TAKEN_UP: usize = 256;

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Waits for something to do. `None`: the deliveries have ended.
    pub(super) async fn drain(&mut self) -> Option<Batch> {
        loop {
            self.room().await?;
            let intake = self.gate.intake();
            // What has arrived and is not taken in comes again.
            let taken_in = self.deliveries.is_empty() || intake != Intake::Open;
            if self.deliveries.is_closed() && taken_in {
                return None;
            }
            let mut batch = Batch::default();
            let mut due: Vec<DueParked> = Vec::new();
            if self.memory.again.is_empty() || intake == Intake::Closed {
                tokio::select! {
                    biased;
                    delivery = self.deliveries.recv(), if intake == Intake::Open => {
                        self.arrived(&mut batch, delivery?);
                    }
                    Some(parked) = self.due.recv(), if intake != Intake::Closed => due.push(parked),
                    () = self.gate.changed_from(intake) => continue,
                    () = tokio::time::sleep(LOOK), if intake != Intake::Open => continue,
                }
            }
            let waiting = self.memory.again.len().min(TAKEN_UP);
            due.extend(self.memory.again.drain(..waiting));
            while let Ok(parked) = self.due.try_recv() {
                due.push(parked);
            }
            self.take_up(due, &mut batch).await;
            let payload = |m: &Member| m.message().payload.len();
            let mut bytes: usize = batch.members.iter().map(payload).sum();
            while intake == Intake::Open
                && batch.members.len() < self.options.turn
                && bytes < self.options.turn_bytes
            {
                let Ok(delivery) = self.deliveries.try_recv() else { break };
                bytes += delivery.message.payload.len();
                self.arrived(&mut batch, delivery);
            }
            if !batch.members.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Waits while too much of this lane is unpublished. `None`: the deliveries have ended meanwhile.
    async fn room(&self) -> Option<()> {
        let unpublished = || self.log.last - self.log.published.load(Ordering::Acquire);
        if unpublished() <= self.options.backlog {
            return Some(());
        }
        let handler = self.handler.load().handler.description().name.clone();
        let (lane, limit) = (self.index, self.options.backlog);
        let waits = self.metrics.waits("outbox");
        waits.set(1);
        tracing::warn!(handler, lane, limit, "waiting: {} messages are unpublished", unpublished());
        while unpublished() > limit {
            if self.deliveries.is_closed() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        waits.set(0);
        tracing::info!(handler, lane, "going on: the unpublished messages are fewer again");
        Some(())
    }

    fn arrived(&self, batch: &mut Batch, delivery: Delivery) {
        let handler = self.handler.load();
        batch.members.push(Member::arrived(&handler.handler.description().name, delivery));
    }

    /// Reads parked messages and puts them before what arrived.
    async fn take_up(&mut self, mut due: Vec<DueParked>, batch: &mut Batch) {
        let mut seen = HashSet::new();
        due.retain(|parked| parked.key.as_ref().is_none_or(|key| seen.insert(key.clone())));
        if due.is_empty() {
            return;
        }
        let handler = self.handler.load_full();
        let name = &handler.handler.description().name;
        let limit = i64::try_from(TAKEN_UP).unwrap_or(i64::MAX);
        let messages = match self.store.parked_messages(name, &due, limit).await {
            Ok(messages) => messages,
            Err(why) => {
                self.health.away("postgres", &why.to_string());
                self.memory.again.extend(due);
                return tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        // The last key that was read may have more, and those behind it were not read.
        let cut = (messages.len() >= TAKEN_UP).then(|| messages.last().map_or(0, |m| m.asked));
        if let Some(cut) = cut {
            self.memory.again.extend(due.drain((cut + 1).min(due.len())..));
        }
        let mut messages = messages.into_iter().peekable();
        let mut members = Vec::new();
        for (n, parked) in due.into_iter().enumerate() {
            let mut of_key = Vec::new();
            let mut whole = if cut == Some(n) { Whole::More } else { Whole::All };
            while let Some(message) = messages.next_if(|message| message.asked == n) {
                // What stands behind one that is not due waits for it.
                if message.due && whole != Whole::Blocked {
                    of_key.push(Member::taken_up(message));
                } else {
                    whole = Whole::Blocked;
                }
            }
            if let Some(key) = parked.key {
                self.memory.held.insert(key.clone());
                if !of_key.is_empty() || whole == Whole::All {
                    batch.taken_up.insert(key, whole);
                }
            }
            members.extend(of_key);
        }
        if members.is_empty() {
            // Nothing is left of these keys (somebody discarded it): they are free again.
            for key in std::mem::take(&mut batch.taken_up).into_keys() {
                self.memory.held.remove(&key);
            }
        }
        batch.members.splice(0..0, members);
    }
}
