//! Writers' logs: the outbox as the relay reads it, and the delayed messages that move into it.

use bytes::Bytes;
use sqlx::Row as _;

use super::error::is_away;
use super::read::patiently;
use super::{Postgres, sql};
use crate::fault::{self, Point};
use crate::lane::ports::{LogState, StoreAway};

/// A log opened for appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedWriter {
    pub id: i32,
    /// Whoever appends must have it.
    pub fence: i64,
    pub published: i64,
    pub last: i64,
}

/// An entry as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEntry {
    pub seq: i64,
    pub id: String,
    pub subject: String,
    pub headers: String,
    pub payload: Bytes,
    /// Milliseconds since the Unix epoch, by the clock of Postgres.
    pub committed_at: i64,
    pub expires_at: Option<i64>,
}

impl Postgres {
    /// Opens the log of a lane, one of `lanes` of a unit on this node, making it where it is new;
    /// `owned`: this node must own the unit.
    ///
    /// # Errors
    /// The database cannot be used, or this node may not write for the unit.
    pub async fn open_writer(
        &self,
        unit: &str,
        lane: i32,
        lanes: i32,
        owned: bool,
    ) -> Result<OpenedWriter, StoreAway> {
        if fault::twice(Point::LogOpened) {
            Box::pin(self.open_writer(unit, lane, lanes, owned)).await?;
        }
        let query = sqlx::query(sql!("open_writer"))
            .bind(&self.node.name)
            .bind(self.node.epoch)
            .bind(unit)
            .bind(lane)
            .bind(lanes)
            .bind(owned);
        let row = patiently(query.fetch_one(&self.pool)).await?;
        fault::point(Point::LogOpened)?;
        let opened = || {
            Ok(OpenedWriter {
                id: row.try_get(0)?,
                fence: row.try_get(1)?,
                published: row.try_get(2)?,
                last: row.try_get(3)?,
            })
        };
        opened().map_err(is_away)
    }

    /// Where a log stands.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn writer_state(&self, writer: i32) -> Result<LogState, StoreAway> {
        let query = sqlx::query(sql!("writer_state")).bind(writer);
        let row = patiently(query.fetch_one(&self.pool)).await?;
        let state = || Ok(LogState { published: row.try_get(0)?, last: row.try_get(1)? });
        state().map_err(is_away)
    }

    /// Logs of a unit on this node that another number of lanes has written and that are not
    /// published to their end.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn moved_logs(&self, unit: &str, lanes: i32) -> Result<Vec<i32>, StoreAway> {
        let query =
            sqlx::query_scalar(sql!("moved_logs")).bind(&self.node.name).bind(unit).bind(lanes);
        patiently(query.fetch_all(&self.pool)).await
    }

    /// Entries of a log after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn read_log(
        &self,
        writer: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<LoggedEntry>, StoreAway> {
        let query = sqlx::query(sql!("read_log")).bind(writer).bind(after).bind(limit);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        fault::point(Point::LogRead)?;
        let entry = |row: &sqlx::postgres::PgRow| {
            Ok(LoggedEntry {
                seq: row.try_get(0)?,
                id: row.try_get(1)?,
                subject: row.try_get(2)?,
                headers: row.try_get(3)?,
                payload: row.try_get::<Vec<u8>, _>(4)?.into(),
                committed_at: row.try_get(5)?,
                expires_at: row.try_get(6)?,
            })
        };
        rows.iter().map(entry).collect::<Result<_, sqlx::Error>>().map_err(is_away)
    }

    /// Writes down how far logs were published: (writer, sequence).
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn advance_cursors(&self, cursors: &[(i32, i64)]) -> Result<(), StoreAway> {
        if fault::twice(Point::CursorWritten) {
            Box::pin(self.advance_cursors(cursors)).await?;
        }
        let (writers, sequences): (Vec<i32>, Vec<i64>) = cursors.iter().copied().unzip();
        let query = sqlx::query(sql!("advance_cursors")).bind(writers).bind(sequences);
        fault::point(Point::BeforeCursor)?;
        patiently(query.execute(&self.pool)).await?;
        Ok(fault::point(Point::CursorWritten)?)
    }

    /// Sets an entry aside that no stream takes.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn set_undelivered(
        &self,
        writer: i32,
        seq: i64,
        reason: &str,
        error: &str,
    ) -> Result<(), StoreAway> {
        let query =
            sqlx::query(sql!("set_undelivered")).bind(writer).bind(seq).bind(reason).bind(error);
        patiently(query.execute(&self.pool)).await?;
        Ok(fault::point(Point::SetAside)?)
    }

    /// Moves delayed messages that are due into an opened log, from sequence `first` on; returns how
    /// many. `None`: the log was taken over, and nothing moves.
    ///
    /// # Errors
    /// The database cannot be used, or the outcome is unknown.
    pub async fn release_due(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> Result<Option<i64>, StoreAway> {
        let query = sqlx::query_scalar(sql!("release_due"))
            .bind(log.id)
            .bind(log.fence)
            .bind(first)
            .bind(limit);
        let moved: Option<i64> = patiently(query.fetch_one(&self.pool)).await?;
        if moved > Some(0) {
            fault::point(Point::ScheduledMoved)?;
        }
        Ok(moved)
    }

    /// Puts undelivered messages that are due into an opened log again, from sequence `first` on;
    /// returns how many. Nothing moves where the log was taken over.
    ///
    /// # Errors
    /// The database cannot be used, or the outcome is unknown.
    pub async fn resend(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> Result<i64, StoreAway> {
        let query =
            sqlx::query_scalar(sql!("resend")).bind(log.id).bind(log.fence).bind(first).bind(limit);
        patiently(query.fetch_one(&self.pool)).await
    }

    /// Takes away undelivered messages that have arrived meanwhile, and has those behind them follow;
    /// returns how many are gone.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn settle_resent(&self) -> Result<i64, StoreAway> {
        patiently(sqlx::query_scalar(sql!("settle_resent")).fetch_one(&self.pool)).await
    }

    /// Has subjects go on of which the first undelivered message was discarded.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn wake_undelivered(&self) -> Result<(), StoreAway> {
        patiently(sqlx::query(sql!("wake_undelivered")).execute(&self.pool)).await.map(drop)
    }

    /// How many messages no stream took, up to `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn count_undelivered(&self, limit: i64) -> Result<i64, StoreAway> {
        let query = sqlx::query_scalar(sql!("count_undelivered")).bind(limit);
        patiently(query.fetch_one(&self.pool)).await
    }

    /// Milliseconds until the next delayed message is due; `None` where there is none.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn next_due(&self) -> Result<Option<i64>, StoreAway> {
        patiently(sqlx::query_scalar(sql!("next_due")).fetch_one(&self.pool)).await
    }

    /// How many delayed messages wait, up to `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn count_scheduled(&self, limit: i64) -> Result<i64, StoreAway> {
        let query = sqlx::query_scalar(sql!("count_scheduled")).bind(limit);
        patiently(query.fetch_one(&self.pool)).await
    }
}
