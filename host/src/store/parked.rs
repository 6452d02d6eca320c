//! Parked messages, as lanes take them up again, and what of a handler is paused or has piled up.

use std::collections::HashSet;

use sqlx::Row as _;
use uuid::Uuid;

use super::error::is_away;
use super::read::patiently;
use super::{Postgres, sql};
use crate::fault::{self, Point};
use crate::lane::ports::{DueParked, ParkedMessage, StoreAway};
use crate::model::{Header, InboxKey, MENDED_BY_A_BUILD, Message};

/// What bears on the intake of a handler.
#[derive(Debug, Default)]
pub struct Standing {
    /// Who has paused it, if somebody has.
    pub paused_by: Option<String>,
    /// Keys that operators have paused.
    pub paused_keys: HashSet<String>,
    /// Parked messages whose next attempt has come.
    pub due: Vec<DueParked>,
}

impl Postgres {
    /// What bears on the intake of a handler now, with at most `limit` parked messages that are due.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn standing(&self, handler: &str, limit: i64) -> Result<Standing, StoreAway> {
        let query = sqlx::query_as(sql!("intake")).bind(handler).bind(limit);
        let rows: Vec<(String, i64, Option<String>)> =
            patiently(query.fetch_all(&self.pool)).await?;
        let mut standing = Standing::default();
        for (what, id, who) in rows {
            match (what.as_str(), who) {
                ("paused", by) => standing.paused_by = by,
                ("paused-key", Some(key)) => drop(standing.paused_keys.insert(key)),
                (_, key) => standing.due.push(DueParked { id, key }),
            }
        }
        Ok(standing)
    }

    pub(super) async fn read_parked(
        &self,
        handler: &str,
        due: &[DueParked],
        limit: i64,
    ) -> Result<Vec<ParkedMessage>, StoreAway> {
        let keys: Vec<Option<&str>> = due.iter().map(|due| due.key.as_deref()).collect();
        let ids: Vec<i64> = due.iter().map(|due| due.id).collect();
        let query = sqlx::query(sql!("parked_messages"));
        let query = query.bind(handler).bind(keys).bind(ids).bind(limit);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        fault::point(Point::TakenUp)?;
        rows.iter().map(message).collect::<Result<_, sqlx::Error>>().map_err(is_away)
    }

    /// Has `component` try again what failed by a fault of another build, at most `limit` messages;
    /// returns how many.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn heal(&self, handler: &str, component: i32, limit: i64) -> Result<i64, StoreAway> {
        let query = sqlx::query_scalar(sql!("heal"))
            .bind(handler)
            .bind(component)
            .bind(MENDED_BY_A_BUILD.as_slice())
            .bind(limit);
        patiently(query.fetch_one(&self.pool)).await
    }

    /// How many messages of a handler are parked, by state, each counted up to `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn count_parked(
        &self,
        handler: &str,
        limit: i64,
    ) -> Result<Vec<(String, i64)>, StoreAway> {
        let query = sqlx::query_as(sql!("count_parked")).bind(handler).bind(limit);
        patiently(query.fetch_all(&self.pool)).await
    }

    /// How many delayed messages of a handler wait, counted up to `limit`; 0 where all that wait are
    /// far fewer than that.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn count_scheduled_by(&self, handler: &str, limit: i64) -> Result<i64, StoreAway> {
        let query = sqlx::query_scalar(sql!("count_scheduled_by")).bind(handler).bind(limit);
        patiently(query.fetch_one(&self.pool)).await
    }
}

fn message(row: &sqlx::postgres::PgRow) -> Result<ParkedMessage, sqlx::Error> {
    let headers: String = row.try_get("headers")?;
    let headers: Vec<(String, String)> =
        serde_json::from_str(&headers).map_err(|why| sqlx::Error::Decode(why.into()))?;
    let header = |(name, value)| Header { name, value };
    let inbox_key: Uuid = row.try_get("inbox_key")?;
    let stored_at: i64 = row.try_get("stored_at")?;
    let asked: i64 = row.try_get("asked")?;
    Ok(ParkedMessage {
        asked: usize::try_from(asked).unwrap_or_default(),
        id: row.try_get("id")?,
        attempts: row.try_get("attempts")?,
        due: row.try_get::<Option<bool>, _>("due")?.unwrap_or(false),
        inbox_key: InboxKey(inbox_key.into_bytes()),
        message: Message {
            id: row.try_get("message_id")?,
            subject: row.try_get("subject")?,
            key: row.try_get("key")?,
            headers: headers.into_iter().map(header).collect(),
            payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
            stored_at: u64::try_from(stored_at).unwrap_or_default(),
        },
    })
}
