//! Nodes, their leases, and what each owns.

use std::collections::HashMap;
use std::time::Duration;

use tribox::model::InboxKey;
use tribox::store::{Buried, Claim, Fate};

use super::{Database, NodeRow, now};

impl Database {
    pub fn register(&mut self, name: &str, holder: &str, lease: Duration) -> (i64, i32) {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let was_clean = self.nodes.get(name).is_none_or(|n| n.clean);
        if !was_clean {
            self.note_crash(name);
        }
        self.in_hand.remove(name);
        for writer in self.writers.values_mut().filter(|w| w.node == name) {
            writer.fence = Self::new_fence(writer.fence);
        }
        let before = self.nodes.get(name).map(|n| (n.epoch, n.crashes.clone(), n.beats));
        let (epoch, crashes, beats) = before.unwrap_or_default();
        let crashed = crashes.iter().filter(|at| **at > now() - 3_600_000).count();
        let row = NodeRow {
            epoch: epoch + 1,
            seen: now(),
            lease_until: now() + lease_ms,
            lease_ms,
            steady_since: now(),
            beats,
            fenced_by: None,
            holder: holder.to_owned(),
            clean: false,
            crashes,
        };
        self.nodes.insert(name.to_owned(), row);
        (epoch + 1, i32::try_from(crashed).unwrap_or(i32::MAX))
    }

    fn note_crash(&mut self, name: &str) {
        let hand = self.in_hand.get(name).cloned().unwrap_or_default();
        let alone = i32::from(hand.len() == 1);
        for key in hand {
            let parked = self.parked.values().any(|p| p.inbox_key == key);
            if !self.inbox.contains_key(&key) || parked {
                self.suspects.entry(key).and_modify(|n| *n += alone).or_insert(0);
            }
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.crashes.insert(0, now());
        }
    }

    pub fn heartbeat(&mut self, name: &str, epoch: i64, lease: Duration) -> Option<i64> {
        let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let node = self.nodes.get_mut(name).filter(|n| n.epoch == epoch)?;
        if node.lease_until < now() {
            node.steady_since = now();
        }
        node.seen = now();
        node.lease_until = now() + lease_ms;
        node.beats += 1;
        Some(node.beats)
    }

    pub fn bury(&mut self, name: &str, epoch: i64) -> Vec<Buried> {
        let Some(me) = self.nodes.get(name) else { return Vec::new() };
        if me.epoch != epoch || me.lease_until < now() {
            return Vec::new();
        }
        let steady = me.steady_since;
        let dead = |(other, n): &(&String, &NodeRow)| {
            *other != name && !n.clean && n.lease_until < now() && steady <= now() - n.lease_ms
        };
        let dead: Vec<String> =
            self.nodes.iter().filter(dead).map(|(name, _)| name.clone()).collect();
        let mut buried = Vec::new();
        for other in dead {
            self.note_crash(&other);
            self.in_hand.remove(&other);
            for writer in self.writers.values_mut().filter(|w| w.node == other) {
                writer.fence = Self::new_fence(writer.fence);
            }
            let Some(node) = self.nodes.get_mut(&other) else { continue };
            node.epoch += 1;
            node.clean = true;
            node.fenced_by = Some(name.to_owned());
            let silent = u64::try_from(now() - node.seen).unwrap_or_default();
            let silent = Duration::from_millis(silent);
            buried.push(Buried { name: other, holder: node.holder.clone(), silent });
        }
        let left: Vec<i32> = self
            .writers
            .iter()
            .filter(|(_, w)| w.node != name && self.nodes.get(&w.node).is_some_and(|n| n.clean))
            .map(|(id, _)| *id)
            .filter(|id| self.open_end(*id))
            .collect();
        for id in left {
            if let Some(writer) = self.writers.get_mut(&id) {
                name.clone_into(&mut writer.node);
                writer.lane = -id;
                writer.fence = Self::new_fence(writer.fence);
            }
        }
        buried
    }

    pub fn fate(&self, name: &str, epoch: i64) -> Fate {
        match self.nodes.get(name) {
            Some(NodeRow { fenced_by: Some(by), .. }) => Fate::Buried { by: by.clone() },
            Some(node) if node.epoch == epoch => Fate::Standing,
            Some(node) if node.epoch > epoch => Fate::NameTaken { holder: node.holder.clone() },
            _ => Fate::Unknown,
        }
    }

    pub fn end_node(&mut self, name: &str, epoch: i64) {
        if let Some(node) = self.nodes.get_mut(name).filter(|n| n.epoch == epoch) {
            node.clean = true;
        }
    }

    fn in_force(&self, node: &str, epoch: i64) -> bool {
        self.nodes.get(node).is_some_and(|n| n.epoch == epoch && !n.clean)
    }

    pub fn claim(&mut self, name: &str, epoch: i64, unit: &str) -> Result<Claim, String> {
        let held = self.owners.get(unit).cloned();
        if let Some((node, at)) = &held
            && self.in_force(node, *at)
        {
            if node == name && *at == epoch {
                return Ok(Claim::Owned { crashes: 0 });
            }
            return Ok(Claim::Held { by: node.clone() });
        }
        if !self.in_force(name, epoch) {
            return Err(format!("node {name} is no longer at epoch {epoch}"));
        }
        let crashes = held.map_or(0, |(node, _)| {
            let node = self.nodes.get(&node).filter(|n| n.fenced_by.is_some());
            node.map_or(0, |n| n.crashes.iter().filter(|at| **at > now() - 3_600_000).count())
        });
        self.owners.insert(unit.to_owned(), (name.to_owned(), epoch));
        for writer in self.writers.values_mut().filter(|w| w.handler == unit) {
            writer.fence = Self::new_fence(writer.fence);
        }
        Ok(Claim::Owned { crashes: i32::try_from(crashes).unwrap_or(i32::MAX) })
    }

    pub fn release(&mut self, unit: &str, name: &str, epoch: i64) {
        if self.owners.get(unit).is_some_and(|(node, at)| node == name && *at == epoch) {
            self.owners.remove(unit);
        }
    }

    pub fn suspects(&self) -> HashMap<InboxKey, i32> {
        self.suspects.iter().map(|(key, alone)| (*key, *alone)).collect()
    }

    pub fn note_in_hand(&mut self, node: &str, keys: Vec<InboxKey>) {
        self.in_hand.insert(node.to_owned(), keys);
    }

    pub fn forget_suspects(&mut self, keys: &[InboxKey]) {
        self.suspects.retain(|key, _| !keys.contains(key));
    }
}
