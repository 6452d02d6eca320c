//! Writers' logs, and how far streams were handled.

use tribox::lane::ports::LogState;
use tribox::store::{LeftLog, LoggedEntry, OpenLog, OpenedWriter};

use super::{Database, Writer};
use crate::world::Rule;

impl Database {
    pub fn open_writer(
        &mut self,
        (name, epoch): (&str, i64),
        handler: &str,
        lane: i32,
        lanes: i32,
        owned: bool,
    ) -> Result<OpenedWriter, String> {
        let standing = self.nodes.get(name).is_some_and(|n| n.epoch == epoch);
        let owns = || self.owners.get(handler).is_some_and(|(n, at)| n == name && *at == epoch);
        if !standing || (owned && !owns()) {
            return Err(format!("node {name} at epoch {epoch} may not write for {handler}"));
        }
        let there = self
            .writers
            .iter()
            .find(|(_, w)| w.node == name && w.handler == handler && w.lane == lane)
            .map(|(id, _)| *id);
        let id = there.unwrap_or_else(|| {
            let id = self.writers.keys().next_back().copied().unwrap_or_default() + 1;
            let (node, handler) = (name.to_owned(), handler.to_owned());
            let writer = Writer { node, handler, lane, fence: 0, lanes, published: 0 };
            self.writers.insert(id, writer);
            id
        });
        let last = self.last_of(id);
        let writer = self.writers.get_mut(&id).ok_or("no such log")?;
        writer.lanes = lanes;
        writer.fence = Self::new_fence(writer.fence);
        Ok(OpenedWriter { id, fence: writer.fence, published: writer.published, last })
    }

    pub fn writer_state(&self, writer: i32) -> LogState {
        let published = self.writers.get(&writer).map_or(0, |w| w.published);
        LogState { last: self.last_of(writer), published }
    }

    pub fn own_logs(&self, name: &str, inherited: bool) -> Vec<OpenLog> {
        let mine = |(id, w): &(&i32, &Writer)| {
            w.node == name && (w.lane < 0 || !inherited) && self.open_end(**id)
        };
        let log = |(id, w): (&i32, &Writer)| OpenLog {
            writer: *id,
            published: w.published,
            last: self.last_of(*id),
        };
        self.writers.iter().filter(mine).map(log).collect()
    }

    pub fn left_logs(&self, handler: &str, name: &str) -> Vec<LeftLog> {
        let left = |(id, w): &(&i32, &Writer)| {
            w.handler == handler && !(w.node == name && w.lane >= 0) && self.open_end(**id)
        };
        let log = |(id, w): (&i32, &Writer)| LeftLog { writer: *id, node: w.node.clone() };
        if !self.keeps(Rule::LeftLogs) {
            return Vec::new();
        }
        self.writers.iter().filter(left).map(log).collect()
    }

    pub fn moved_logs(&self, name: &str, handler: &str, lanes: i32) -> Vec<i32> {
        let moved = |(id, w): &(&i32, &Writer)| {
            w.node == name && w.handler == handler && w.lanes != lanes && self.open_end(**id)
        };
        self.writers.iter().filter(moved).map(|(id, _)| *id).collect()
    }

    pub fn read_log(&self, writer: i32, after: i64, limit: i64) -> Vec<LoggedEntry> {
        let range = (writer, after + 1)..=(writer, i64::MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.outbox.range(range).take(limit).map(|(_, entry)| entry.clone()).collect()
    }

    pub fn advance_cursors(&mut self, cursors: &[(i32, i64)]) {
        for (writer, seq) in cursors {
            if let Some(writer) = self.writers.get_mut(writer) {
                writer.published = writer.published.max(*seq);
            }
        }
    }

    pub fn floor(&self, handler: &str, stream: &str, created: i64) -> i64 {
        let at = (handler.to_owned(), stream.to_owned(), created);
        self.floors.get(&at).copied().unwrap_or_default()
    }
}
