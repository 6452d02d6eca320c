//! The committed state, as the messages handled before left it.
//!
//! Every read counts as part of the decision: if what was read, or found not to be there, has
//! changed by the time of the commit, the message is handled anew. What is put during the call is
//! not seen by reads of the same call.

use serde::de::DeserializeOwned;

use crate::{Document, Failure, host};

/// The most documents that one [`page`] holds.
pub const PAGE: u32 = 1_000;
/// Bytes of documents after which a [`page`] ends.
pub const PAGE_BYTES: usize = 8 << 20;

/// A document, or nothing where there is none. It costs a query, unless it was read ahead.
///
/// # Errors
/// A reject, naming the document, where it is not JSON of this type.
///
/// # Panics
/// Traps where the description does not declare `collection`.
pub fn get<T: DeserializeOwned>(collection: &str, key: &str) -> Result<Option<T>, Failure> {
    match host::get(collection, key) {
        Some(body) => parse(collection, key, &body).map(Some),
        None => Ok(None),
    }
}

/// Keys and documents of a collection whose key starts with `prefix`, in byte order of their keys,
/// after key `after`; at most `limit`, and at most [`PAGE`]. It costs a query. There are fewer only
/// where there are no more, or where they have [`PAGE_BYTES`]: go on after the last key.
///
/// # Errors
/// A reject, naming the document, where one is not JSON of this type.
///
/// # Panics
/// Traps where the description does not declare `collection`.
pub fn page<T: DeserializeOwned>(
    collection: &str,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<(String, T)>, Failure> {
    parse_all(collection, host::list_by_prefix(collection, prefix, after, limit))
}

/// All keys and documents of a collection whose key starts with `prefix`, in byte order of their
/// keys. It costs a query for each [`PAGE`], or [`PAGE_BYTES`], of them.
///
/// ```
/// # use tribox_guest::{Failure, documents};
/// fn total(order: &str) -> Result<u64, Failure> {
///     let lines = documents::list::<u64>("lines", &format!("{order}/"))?;
///     Ok(lines.iter().map(|(_, cents)| cents).sum())
/// }
/// ```
///
/// # Errors
/// A reject, naming the document, where one is not JSON of this type.
///
/// # Panics
/// Traps where the description does not declare `collection`.
pub fn list<T: DeserializeOwned>(
    collection: &str,
    prefix: &str,
) -> Result<Vec<(String, T)>, Failure> {
    let mut all: Vec<(String, T)> = Vec::new();
    loop {
        let after = all.last().map(|(key, _)| key.as_str());
        let next = host::list_by_prefix(collection, prefix, after, PAGE);
        let bytes: usize = next.iter().map(|document| document.body.len()).sum();
        let last = next.is_empty() || (next.len() < PAGE as usize && bytes < PAGE_BYTES);
        all.extend(parse_all(collection, next)?);
        if last {
            return Ok(all);
        }
    }
}

fn parse_all<T: DeserializeOwned>(
    collection: &str,
    documents: Vec<Document>,
) -> Result<Vec<(String, T)>, Failure> {
    let pair = |Document { key, body, .. }| {
        let document = parse(collection, &key, &body)?;
        Ok((key, document))
    };
    documents.into_iter().map(pair).collect()
}

fn parse<T: DeserializeOwned>(collection: &str, key: &str, body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| {
        Failure::Reject(format!("document {collection}/{key} is not as expected: {error}"))
    })
}
