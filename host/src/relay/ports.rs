//! What the relay needs of the world: the outbox, the streams, and a way to them. Traits, so that the
//! same relay runs against Postgres and JetStream and in a simulation.

use std::collections::HashSet;
use std::future::Future;

use crate::lane::ports::{LogState, StoreAway};
use crate::store::{LoggedEntry, OpenedWriter, Postgres};
use crate::stream::{self, Nats, Publish, Publisher, StreamInfo};

/// The logs of writers, as the relay reads them.
pub trait Outbox: Clone + Send + Sync + 'static {
    /// Where a log stands.
    fn writer_state(&self, writer: i32)
    -> impl Future<Output = Result<LogState, StoreAway>> + Send;

    /// Entries of a log after `after`, in order, at most `limit`.
    fn read_log(
        &self,
        writer: i32,
        after: i64,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<LoggedEntry>, StoreAway>> + Send;

    /// Writes down how far logs were published: (writer, sequence).
    fn advance_cursors(
        &self,
        cursors: &[(i32, i64)],
    ) -> impl Future<Output = Result<(), StoreAway>> + Send;

    /// Sets an entry aside that no stream takes.
    fn set_undelivered(
        &self,
        writer: i32,
        seq: i64,
        reason: &str,
        error: &str,
    ) -> impl Future<Output = Result<(), StoreAway>> + Send;

    /// Which of these messages stood in their streams when a consumer was set back.
    fn already_sent(
        &self,
        ids: &[String],
    ) -> impl Future<Output = Result<HashSet<String>, StoreAway>> + Send;
}

/// Messages that wait for their time, and for a stream that takes them.
pub trait Delayed: Clone + Send + Sync + 'static {
    /// Opens the scheduler's log, which this node must own.
    fn open_log(&self) -> impl Future<Output = Result<OpenedWriter, StoreAway>> + Send;

    /// Moves delayed messages that are due into the log, from sequence `first` on; returns how many.
    /// `None`: the log was taken over.
    fn release_due(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> impl Future<Output = Result<Option<i64>, StoreAway>> + Send;

    /// The same with undelivered messages that are to be sent again.
    fn resend(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> impl Future<Output = Result<i64, StoreAway>> + Send;

    /// Milliseconds until the next delayed message is due.
    fn next_due(&self) -> impl Future<Output = Result<Option<i64>, StoreAway>> + Send;

    /// How many messages no stream took, up to `limit`.
    fn count_undelivered(&self, limit: i64) -> impl Future<Output = Result<i64, StoreAway>> + Send;

    /// Takes away undelivered messages that have arrived meanwhile; returns how many.
    fn settle_resent(&self) -> impl Future<Output = Result<i64, StoreAway>> + Send;

    /// Has subjects go on of which the first undelivered message was discarded.
    fn wake_undelivered(&self) -> impl Future<Output = Result<(), StoreAway>> + Send;
}

/// JetStream, as it is asked. Errors are for people.
pub trait Streams: Clone + Send + Sync + 'static {
    /// The streams that overlap with one of these subjects.
    fn find(
        &self,
        subjects: &[String],
    ) -> impl Future<Output = Result<Vec<StreamInfo>, String>> + Send;

    /// Whether some stream takes a subject.
    fn has_stream(&self, subject: &str) -> impl Future<Output = Result<bool, String>> + Send;

    /// Which of `ids` stand in a stream since `since` (milliseconds since the Unix epoch).
    fn ids_since(
        &self,
        stream: &str,
        since: i64,
        ids: &HashSet<String>,
    ) -> impl Future<Output = Result<HashSet<String>, String>> + Send;
}

/// The way of messages to the server.
pub trait Outgoing: Send + 'static {
    /// Hands a message over; what becomes of it is told by an event.
    fn send(&self, message: Publish);
}

impl Outbox for Postgres {
    async fn writer_state(&self, writer: i32) -> Result<LogState, StoreAway> {
        self.writer_state(writer).await
    }

    async fn read_log(
        &self,
        writer: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<LoggedEntry>, StoreAway> {
        self.read_log(writer, after, limit).await
    }

    async fn advance_cursors(&self, cursors: &[(i32, i64)]) -> Result<(), StoreAway> {
        self.advance_cursors(cursors).await
    }

    async fn set_undelivered(
        &self,
        writer: i32,
        seq: i64,
        reason: &str,
        error: &str,
    ) -> Result<(), StoreAway> {
        self.set_undelivered(writer, seq, reason, error).await
    }

    async fn already_sent(&self, ids: &[String]) -> Result<HashSet<String>, StoreAway> {
        self.already_sent(ids).await
    }
}

impl Delayed for Postgres {
    async fn open_log(&self) -> Result<OpenedWriter, StoreAway> {
        self.open_writer(super::SCHEDULED, 0, 1, true).await
    }

    async fn release_due(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> Result<Option<i64>, StoreAway> {
        self.release_due(log, first, limit).await
    }

    async fn resend(&self, log: &OpenedWriter, first: i64, limit: i64) -> Result<i64, StoreAway> {
        self.resend(log, first, limit).await
    }

    async fn next_due(&self) -> Result<Option<i64>, StoreAway> {
        self.next_due().await
    }

    async fn count_undelivered(&self, limit: i64) -> Result<i64, StoreAway> {
        self.count_undelivered(limit).await
    }

    async fn settle_resent(&self) -> Result<i64, StoreAway> {
        self.settle_resent().await
    }

    async fn wake_undelivered(&self) -> Result<(), StoreAway> {
        self.wake_undelivered().await
    }
}

impl Streams for Nats {
    async fn find(&self, subjects: &[String]) -> Result<Vec<StreamInfo>, String> {
        stream::find_streams(self, subjects).await.map_err(|why| why.to_string())
    }

    async fn has_stream(&self, subject: &str) -> Result<bool, String> {
        stream::has_stream(self, subject).await.map_err(|why| why.to_string())
    }

    async fn ids_since(
        &self,
        stream: &str,
        since: i64,
        ids: &HashSet<String>,
    ) -> Result<HashSet<String>, String> {
        let found = stream::ids_in_stream(self, stream, since, ids).await;
        found.map_err(|why| why.to_string())
    }
}

impl Outgoing for Publisher {
    fn send(&self, message: Publish) {
        self.send(message);
    }
}
