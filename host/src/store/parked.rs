//! Parked messages, as lanes take them up again.

use sqlx::Row as _;
use uuid::Uuid;

use super::error::is_away;
use super::read::patiently;
use super::{Postgres, sql};
use crate::lane::ports::{DueParked, ParkedMessage, StoreAway};
use crate::model::{Header, InboxKey, Message};

impl Postgres {
    /// Parked messages of a handler whose next attempt has come, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn parked_due(&self, handler: &str, limit: i64) -> Result<Vec<DueParked>, StoreAway> {
        let query = sqlx::query(sql!("parked_due")).bind(handler).bind(limit);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        let due = |row: &sqlx::postgres::PgRow| {
            Ok(DueParked { id: row.try_get(0)?, key: row.try_get(1)? })
        };
        rows.iter().map(due).collect::<Result<_, sqlx::Error>>().map_err(is_away)
    }

    pub(super) async fn read_parked(
        &self,
        handler: &str,
        due: &DueParked,
        limit: i64,
    ) -> Result<Vec<ParkedMessage>, StoreAway> {
        let first = if due.key.is_some() { 0 } else { due.id };
        let query = sqlx::query(sql!("parked_messages"))
            .bind(handler)
            .bind(&due.key)
            .bind(first)
            .bind(limit);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        rows.iter().map(message).collect::<Result<_, sqlx::Error>>().map_err(is_away)
    }
}

fn message(row: &sqlx::postgres::PgRow) -> Result<ParkedMessage, sqlx::Error> {
    let headers: String = row.try_get("headers")?;
    let headers: Vec<(String, String)> =
        serde_json::from_str(&headers).map_err(|why| sqlx::Error::Decode(why.into()))?;
    let header = |(name, value)| Header { name, value };
    let inbox_key: Uuid = row.try_get("inbox_key")?;
    let stored_at: i64 = row.try_get("stored_at")?;
    Ok(ParkedMessage {
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
