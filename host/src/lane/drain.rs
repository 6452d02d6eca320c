//! The start of a turn: takes what has arrived, up to the limits, and parked messages that are due.
//! No timer makes anyone wait; batches form by themselves while a turn is under way.

use std::time::Duration;

use super::Lane;
use super::batch::{Batch, Member, Whole};
use super::ports::{Delivery, DueParked, Outlet, Settle, Store};

/// Parked messages that are taken up in one turn at most, of one key and of all keys.
const TAKEN_UP: usize = 256;

impl<S: Store, T: Settle, O: Outlet> Lane<S, T, O> {
    /// Waits for something to do. `None`: the deliveries have ended.
    pub(super) async fn drain(&mut self) -> Option<Batch> {
        loop {
            self.outlet.room().await;
            let mut batch = Batch::default();
            let mut due: Vec<DueParked> = Vec::new();
            if self.deliveries.is_closed() && self.deliveries.is_empty() {
                return None;
            }
            if self.memory.again.is_empty() {
                tokio::select! {
                    delivery = self.deliveries.recv() => self.arrived(&mut batch, delivery?),
                    Some(parked) = self.due.recv() => due.push(parked),
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
            while batch.members.len() < self.options.turn && bytes < self.options.turn_bytes {
                let Ok(delivery) = self.deliveries.try_recv() else { break };
                bytes += delivery.message.payload.len();
                self.arrived(&mut batch, delivery);
            }
            if !batch.members.is_empty() {
                return Some(batch);
            }
        }
    }

    fn arrived(&self, batch: &mut Batch, delivery: Delivery) {
        let handler = self.handler.load();
        batch.members.push(Member::arrived(&handler.handler.description().name, delivery));
    }

    /// Reads parked messages and puts them before what arrived.
    async fn take_up(&mut self, due: Vec<DueParked>, batch: &mut Batch) {
        let handler = self.handler.load_full();
        let name = &handler.handler.description().name;
        let limit = i64::try_from(TAKEN_UP).unwrap_or(i64::MAX);
        let mut members = Vec::new();
        for (n, parked) in due.iter().enumerate() {
            let known = parked.key.as_ref().is_some_and(|key| batch.taken_up.contains_key(key));
            if known {
                continue;
            }
            if members.len() >= TAKEN_UP {
                self.memory.again.extend(due[n..].iter().cloned());
                break;
            }
            let messages = match self.store.parked_messages(name, parked, limit).await {
                Ok(messages) => messages,
                Err(why) => {
                    self.health.away("postgres", &why.to_string());
                    self.memory.again.extend(due[n..].iter().cloned());
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    break;
                }
            };
            if let Some(key) = &parked.key {
                match messages.first() {
                    // Not due yet: the key stays held.
                    Some(first) if !first.due => continue,
                    _ => {}
                }
                let whole = match messages.last() {
                    Some(last) if messages.len() == TAKEN_UP => Whole::MoreFrom(last.id + 1),
                    _ => Whole::All,
                };
                self.memory.held.insert(key.clone());
                batch.taken_up.insert(key.clone(), whole);
            }
            members.extend(messages.into_iter().filter(|m| m.due).map(Member::taken_up));
        }
        if members.is_empty() {
            // Nothing is left of these keys (somebody discarded it): they are free again.
            for (key, whole) in batch.taken_up.drain() {
                if whole == Whole::All {
                    self.memory.held.remove(&key);
                }
            }
        }
        batch.members.splice(0..0, members);
    }
}
