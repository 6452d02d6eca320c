//! What a host and its commands ask where the database may have been restored to an earlier time.

use std::collections::HashSet;

use uuid::Uuid;

use super::read::patiently;
use super::{Operator, Pool, Postgres, sql};
use crate::lane::ports::StoreAway;
use crate::model::InboxKey;

/// Whoever can say what was handled: a node, or a command.
pub trait Inbox: Sync {
    /// Which of these messages were handled.
    ///
    /// # Errors
    /// The database cannot be used.
    fn known(
        &self,
        keys: &[InboxKey],
    ) -> impl Future<Output = Result<HashSet<InboxKey>, StoreAway>> + Send;
}

impl Inbox for Postgres {
    async fn known(&self, keys: &[InboxKey]) -> Result<HashSet<InboxKey>, StoreAway> {
        known(&self.pool, keys).await
    }
}

impl Inbox for Operator {
    async fn known(&self, keys: &[InboxKey]) -> Result<HashSet<InboxKey>, StoreAway> {
        known(self.pool(), keys).await
    }
}

impl Postgres {
    /// Which of these outgoing messages stood in their streams when a consumer was set back.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn already_sent(&self, ids: &[String]) -> Result<HashSet<String>, StoreAway> {
        let query = sqlx::query_scalar(sql!("already_sent")).bind(ids);
        let ids: Vec<String> = patiently(query.fetch_all(&self.pool)).await?;
        Ok(ids.into_iter().collect())
    }

    /// Whether there are any of these.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn any_already_sent(&self) -> Result<bool, StoreAway> {
        patiently(sqlx::query_scalar(sql!("any_already_sent")).fetch_one(&self.pool)).await
    }

    /// Forgets those that were asked for; returns how many.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn prune_already_sent(&self) -> Result<u64, StoreAway> {
        let query = sqlx::query(sql!("prune_already_sent"));
        Ok(patiently(query.execute(&self.pool)).await?.rows_affected())
    }
}

impl Operator {
    /// When a node last showed that it lives: milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn last_sign_of_life(&self) -> Result<Option<i64>, StoreAway> {
        patiently(sqlx::query_scalar(sql!("last_seen")).fetch_one(self.pool())).await
    }

    /// Which of these outgoing messages the database has still before it: sent by a message that was not
    /// handled or is parked, delayed, or undelivered.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn still_to_send(
        &self,
        sent: &[(String, InboxKey)],
    ) -> Result<HashSet<String>, StoreAway> {
        let (ids, keys) = columns(sent);
        let query = sqlx::query_scalar(sql!("still_to_send")).bind(ids).bind(keys);
        let ids: Vec<String> = patiently(query.fetch_all(self.pool())).await?;
        Ok(ids.into_iter().collect())
    }

    /// Notes outgoing messages that stand in their streams, and which message sends each.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn note_sent(&self, sent: &[(String, InboxKey)]) -> Result<(), StoreAway> {
        let (ids, keys) = columns(sent);
        let query = sqlx::query(sql!("note_sent")).bind(ids).bind(keys);
        patiently(query.execute(self.pool())).await.map(drop)
    }
}

/// Outgoing messages as the columns of a statement.
fn columns(sent: &[(String, InboxKey)]) -> (Vec<&str>, Vec<Uuid>) {
    sent.iter().map(|(id, key)| (id.as_str(), Uuid::from_bytes(key.0))).unzip()
}

async fn known(pool: &Pool, keys: &[InboxKey]) -> Result<HashSet<InboxKey>, StoreAway> {
    let keys: Vec<Uuid> = keys.iter().map(|key| Uuid::from_bytes(key.0)).collect();
    let query = sqlx::query_scalar(sql!("known")).bind(keys);
    let known: Vec<Uuid> = patiently(query.fetch_all(pool)).await?;
    Ok(known.into_iter().map(|key| InboxKey(key.into_bytes())).collect())
}
