//! Documents as they are now, for commands that try a message without handling it.

use super::{Operator, answered};
use crate::lane::ports::StoreAway;
use crate::model::{Document, LIST_BYTES};
use crate::store::sql;

impl Operator {
    /// The documents under one key in these collections.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn documents_of_key(
        &self,
        collections: &[String],
        key: &str,
    ) -> Result<Vec<Document>, StoreAway> {
        let query = sqlx::query_as::<_, (String, String, String)>(sql!("documents_of_key"));
        let rows = answered(query.bind(collections).bind(key).fetch_all(&self.pool)).await?;
        let document = |(collection, key, body)| Document { collection, key, body };
        Ok(rows.into_iter().map(document).collect())
    }

    /// The body of one document; `None` where there is none.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn document(&self, collection: &str, key: &str) -> Result<Option<String>, StoreAway> {
        let query = sqlx::query_as::<_, (Option<String>, i64)>(sql!("read_document"));
        let row = answered(query.bind(collection).bind(key).fetch_optional(&self.pool)).await?;
        Ok(row.and_then(|(body, _)| body))
    }

    /// Documents whose key starts with `prefix`, after key `after`, in order, as a handler is given
    /// them.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn list_documents(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, StoreAway> {
        let query = sqlx::query_as::<_, (String, String, i64)>(sql!("list_documents"))
            .bind(collection)
            .bind(prefix)
            // Keys are in order: where those with the prefix end shows by itself.
            .bind(None::<&str>)
            .bind(after)
            .bind(i64::from(limit))
            .bind(i64::try_from(LIST_BYTES).unwrap_or(i64::MAX));
        let rows = answered(query.fetch_all(&self.pool)).await?;
        let within = rows.into_iter().take_while(|(key, _, _)| key.starts_with(prefix));
        let document = |(key, body, _)| Document { collection: collection.to_owned(), key, body };
        Ok(within.map(document).collect())
    }
}
