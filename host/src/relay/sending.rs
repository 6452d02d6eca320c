//! Feeding the publisher from the logs, and the logs from the table.

use tokio::time::Instant;

use super::jobs::{Done, Undeliverable, look_for};
use super::ports::{Outbox, Outgoing, Streams};
use super::task::RelayTask;
use crate::stream::Publish;

impl<S: Outbox, N: Streams, P: Outgoing> RelayTask<S, N, P> {
    /// Sends as much as the window allows, and has more read where the logs run out.
    pub(super) fn pump(&mut self) {
        let now = Instant::now();
        let wall = self.unix_millis();
        let writers: Vec<i32> = self.logs.keys().copied().collect();
        for writer in writers {
            self.read_more(writer, now);
            if self.connection.is_some() && self.doubts_resolved(writer, now, wall) {
                self.send(writer, now, wall);
            }
        }
    }

    fn read_more(&mut self, writer: i32, now: Instant) {
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        if relayed.reading || relayed.rest_until > now {
            return;
        }
        if let Some((after, limit)) = relayed.log.wants_bodies(now) {
            relayed.reading = true;
            let store = self.store.clone();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.jobs.push(Box::pin(async move {
                Done::Filled { writer, entries: store.read_log(writer, after, limit).await }
            }));
            return;
        }
        if let Some((after, limit)) = relayed.log.wants() {
            relayed.reading = true;
            let store = self.store.clone();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.jobs.push(Box::pin(async move {
                let entries = store.read_log(writer, after, limit).await;
                Done::Read { writer, after, entries }
            }));
        }
    }

    /// Looks at the logs that a commit may still come to.
    pub(super) fn look_out(&mut self) {
        let unsure = self.logs.iter().filter(|(_, relayed)| relayed.unsure);
        let writers: Vec<i32> = unsure.map(|(writer, _)| *writer).collect();
        writers.into_iter().for_each(|writer| self.look(writer));
    }

    /// Finds out how far a log goes.
    pub(super) fn look(&mut self, writer: i32) {
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        if std::mem::replace(&mut relayed.looking, true) {
            return;
        }
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let last = store.writer_state(writer).await.map(|state| state.last);
            Done::Looked { writer, last }
        }));
    }

    /// Whether everything that may have been sent before was looked for in its stream.
    fn doubts_resolved(&mut self, writer: i32, now: Instant, wall: i64) -> bool {
        let Some(relayed) = self.logs.get_mut(&writer) else { return true };
        if relayed.resolving || relayed.rest_until > now {
            return false;
        }
        let asked = relayed.log.doubtful(now);
        if asked.is_empty() {
            return true;
        }
        relayed.resolving = true;
        let nats = self.nats.clone();
        let store = self.wary.then(|| self.store.clone());
        self.jobs.push(Box::pin(async move {
            let found = look_for(&nats, store.as_ref(), &asked, wall).await;
            let asked = asked.into_iter().map(|entry| (entry.seq, entry.id)).collect();
            Done::Resolved { writer, asked, found }
        }));
        false
    }

    fn send(&mut self, writer: i32, now: Instant, wall: i64) {
        let Some((connection, max_payload)) = self.connection else { return };
        let mut too_large = Vec::new();
        let Some(relayed) = self.logs.get_mut(&writer) else { return };
        while self.tokens.len() < self.options.window {
            let Some(entry) = relayed.log.send(now) else { break };
            let seq = entry.seq;
            if entry.expires_at.is_some_and(|at| at < wall) {
                tracing::warn!(subject = entry.subject, message_id = entry.id, "message expired");
                self.metrics.expired.inc();
                relayed.log.set_aside(seq, now);
                relayed.note();
                continue;
            }
            let size = entry.payload.len() + entry.headers.len() + entry.id.len() + 64;
            if size > max_payload {
                relayed.log.refused(seq, now);
                too_large.push((seq, size));
                continue;
            }
            self.next_token += 1;
            self.tokens.insert(self.next_token, (writer, seq));
            self.publisher.send(Publish {
                connection,
                token: Some(self.next_token),
                id: entry.id.clone(),
                subject: entry.subject.clone(),
                headers: entry.headers.clone(),
                payload: entry.payload.clone(),
            });
        }
        for (seq, size) in too_large {
            let error = format!("{size} bytes with headers; the server takes {max_payload}");
            self.set_aside(writer, seq, Undeliverable::too_large(error));
        }
    }
}
