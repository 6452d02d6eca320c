//! Reading documents: ahead of a turn, and by guests in its middle.

use std::future::Future;
use std::sync::Arc;

use sqlx::Row as _;
use uuid::Uuid;

use super::error::is_away;
use super::{PATIENCE, Pool, Postgres, sql};
use crate::lane::ports::{
    Commit, CommitError, DueParked, ListRange, Load, LoadedState, LogState, ParkedMessage, Reader,
    Row, Store, StoreAway,
};
use crate::model::{InboxKey, LIST_BYTES, Unreadable};

impl Store for Postgres {
    async fn load(&self, wanted: &Load) -> Result<LoadedState, StoreAway> {
        let ids: Vec<Uuid> = wanted.inbox.iter().map(|key| Uuid::from_bytes(key.0)).collect();
        let collections: Vec<&str> = wanted.documents.iter().map(|(c, _)| c.as_str()).collect();
        let keys: Vec<&str> = wanted.documents.iter().map(|(_, k)| k.as_str()).collect();
        let query = sqlx::query(sql!("load")).bind(ids).bind(collections).bind(keys);
        let rows = patiently(query.fetch_all(&self.pool)).await?;
        let mut state = LoadedState::default();
        for row in rows {
            let inbox: Option<Uuid> = row.try_get(0).map_err(is_away)?;
            match inbox {
                Some(key) => state.handled.push(InboxKey(key.into_bytes())),
                None => state.documents.push(Row {
                    collection: row.try_get(1).map_err(is_away)?,
                    key: row.try_get(2).map_err(is_away)?,
                    body: row.try_get::<Option<&str>, _>(3).map_err(is_away)?.map(Arc::from),
                    version: row.try_get(4).map_err(is_away)?,
                }),
            }
        }
        Ok(state)
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        self.commit_turn(commit).await
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(BlockingReader { pool: self.pool.clone() })
    }

    async fn log_state(&self, writer: i32) -> Result<LogState, StoreAway> {
        self.writer_state(writer).await
    }

    async fn held_keys(&self, handler: &str) -> Result<Vec<String>, StoreAway> {
        let query = sqlx::query_scalar(sql!("held_keys")).bind(handler);
        patiently(query.fetch_all(&self.pool)).await
    }

    async fn parked_messages(
        &self,
        handler: &str,
        due: &[DueParked],
        limit: i64,
    ) -> Result<Vec<ParkedMessage>, StoreAway> {
        self.read_parked(handler, due, limit).await
    }

    async fn note_in_hand(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        self.write_in_hand(keys).await
    }

    async fn forget_suspects(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        self.remove_suspects(keys).await
    }
}

/// Waits for a statement as long as the host is patient.
pub(super) async fn patiently<T>(
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreAway> {
    match tokio::time::timeout(PATIENCE, query).await {
        Ok(result) => result.map_err(is_away),
        Err(_) => Err(StoreAway(format!("no answer for {} s", PATIENCE.as_secs()))),
    }
}

/// Reads for a guest, which waits for them on its own thread.
struct BlockingReader {
    pool: Pool,
}

impl BlockingReader {
    fn wait<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Unreadable> {
        let waited = tokio::runtime::Handle::current().block_on(patiently(query));
        waited.map_err(|why| Unreadable(why.to_string()))
    }
}

fn unreadable(error: sqlx::Error) -> Unreadable {
    Unreadable(error.to_string())
}

impl Reader for BlockingReader {
    fn document(&self, collection: &str, key: &str) -> Result<Option<Row>, Unreadable> {
        let query = sqlx::query(sql!("read_document")).bind(collection).bind(key);
        let Some(row) = self.wait(query.fetch_optional(&self.pool))? else { return Ok(None) };
        Ok(Some(Row {
            collection: collection.to_owned(),
            key: key.to_owned(),
            body: row.try_get::<Option<&str>, _>(0).map_err(unreadable)?.map(Arc::from),
            version: row.try_get(1).map_err(unreadable)?,
        }))
    }

    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable> {
        let query = sqlx::query(sql!("list_documents"))
            .bind(&range.collection)
            .bind(&range.from)
            .bind(&range.until)
            .bind(&range.after)
            .bind(limit)
            .bind(i64::try_from(LIST_BYTES).unwrap_or(i64::MAX));
        let rows = self.wait(query.fetch_all(&self.pool))?;
        let row = |row: &sqlx::postgres::PgRow| {
            Ok(Row {
                collection: range.collection.clone(),
                key: row.try_get(0)?,
                body: row.try_get::<Option<&str>, _>(1)?.map(Arc::from),
                version: row.try_get(2)?,
            })
        };
        rows.iter().map(row).collect::<Result<_, _>>().map_err(unreadable)
    }
}
