//! The committed state, as the messages handled before left it.
//!
//! Every read counts as part of the decision: if what was read, or found not to be there, has
//! changed by the time of the commit, the message is handled anew. What is put during the call is
//! not seen by reads of the same call.

use serde::de::DeserializeOwned;

use crate::{Document, Failure, host};

/// The most documents that one [`page`] holds.
pub const PAGE: u32 = 1_000;

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
/// after key `after`; at most `limit`, and at most [`PAGE`]. It costs a query.
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
    host::list_by_prefix(collection, prefix, after, limit)
        .into_iter()
        .map(|Document { key, body, .. }| {
            let document = parse(collection, &key, &body)?;
            Ok((key, document))
        })
        .collect()
}

/// All keys and documents of a collection whose key starts with `prefix`, in byte order of their
/// keys. It costs a query for each [`PAGE`] of them.
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
        let next = page(collection, prefix, after, PAGE)?;
        if next.is_empty() {
            return Ok(all);
        }
        let last = next.len() < PAGE as usize;
        all.extend(next);
        if last {
            return Ok(all);
        }
    }
}

fn parse<T: DeserializeOwned>(collection: &str, key: &str, body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| {
        Failure::Reject(format!("document {collection}/{key} is not as expected: {error}"))
    })
}
