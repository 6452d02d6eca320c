//! A handler tried on one message against documents from files: the same sandbox and rules as in
//! production, and no server. `invoke` and `test` show what came of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::case::{DocumentMap, MessageFile};
use super::outcome::{Outcome, Spent};
use super::output::capture;
use crate::model::{
    Call, Description, Document, Documents, Failure, LIST_BYTES, Message, Unreadable, Verdict,
    chain, key_of,
};
use crate::sandbox::Guest;

/// Documents from a file, which also notes what was asked for and is not there.
struct Offline {
    documents: DocumentMap,
    missing: Vec<String>,
}

impl Documents for Offline {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        let found = self.documents.get(&(collection.to_owned(), key.to_owned())).cloned();
        let place = format!("{collection}/{key}");
        if found.is_none() && !self.missing.contains(&place) {
            self.missing.push(place);
        }
        Ok(found)
    }

    fn list(
        &mut self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        let within = |(place, _): &(&(String, String), &String)| {
            let (c, key) = place;
            c == collection && key.starts_with(prefix) && after.is_none_or(|a| key.as_str() > a)
        };
        let mut bytes = 0;
        let fits = |(_, body): &(&(String, String), &String)| {
            let room = bytes < LIST_BYTES;
            bytes += body.len();
            room
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.documents.iter().filter(within).take_while(fits).take(limit);
        let document = |((collection, key), body): (&(String, String), &String)| Document {
            collection: collection.clone(),
            key: key.clone(),
            body: body.clone(),
        };
        Ok(found.map(document).collect())
    }
}

/// Hands the message to `guest`, which has its settings and limits already.
///
/// # Errors
/// It could not be tried: the message file is wrong, or the sandbox fails.
pub(super) fn attempt(
    guest: Guest,
    file: &MessageFile,
    documents: DocumentMap,
) -> Result<Outcome, String> {
    let description = Arc::clone(guest.description());
    let mut notes = Vec::new();
    for (collection, key) in documents.keys() {
        if !description.collections.contains(collection) {
            let name = &description.name;
            notes.push(format!("{name} does not declare the collection of {collection}/{key}"));
        }
    }
    let (message, no_key) = message(file, &description, &mut notes)?;
    if let Some(why) = chain::too_long(&message, guest.limits().hops, &description.name) {
        notes.push(format!("a host would set it aside ({}): {why}", why.reason()));
    }
    let started = Instant::now();
    let offline = Arc::new(Mutex::new(Offline { documents, missing: Vec::new() }));
    let (call, output) = match no_key {
        Some(why) => (failed(Failure::NoKey(why)), Vec::new()),
        None => capture(|| guest.call(&message, Arc::clone(&offline) as _)),
    };
    let time = started.elapsed();
    let mut offline = offline.lock().unwrap_or_else(PoisonError::into_inner);
    for place in std::mem::take(&mut offline.missing) {
        notes.push(format!("{place} was read and is not there"));
    }
    let documents = std::mem::take(&mut offline.documents);
    let verdict = call.verdict.map_err(|unreadable| unreadable.to_string())?;
    let spent = Spent { fuel: call.fuel, memory: call.memory, time };
    Ok(Outcome { guest, message, documents, verdict, spent, output, notes })
}

/// The message as a host would hand it over; with why it would not, where it has no key.
fn message(
    file: &MessageFile,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<(Message, Option<String>), String> {
    let (headers, payload) = (file.header_lines(), file.payload()?);
    let derived = key_of(&description.subscriptions, &file.subject, &headers, &payload);
    let (key, no_key) = match (&file.key, derived) {
        (None, Ok(key)) => (key, None),
        (None, Err(why)) => (None, Some(why)),
        (Some(given), derived) => {
            match derived {
                Ok(Some(key)) if key == *given => {}
                Ok(Some(key)) => notes.push(format!("its subscription would give it key '{key}'")),
                Ok(None) => notes.push("its subscription would give it no key".to_owned()),
                Err(why) => notes.push(why),
            }
            (Some(given.clone()), None)
        }
    };
    let message = Message {
        id: file.id.clone(),
        subject: file.subject.clone(),
        key,
        headers,
        payload: payload.into(),
        stored_at: file.stored_at,
    };
    Ok((message, no_key))
}

/// What comes of a message that is never handed to the guest.
fn failed(failure: Failure) -> Call {
    Call { verdict: Ok(Verdict::Failed(failure)), fuel: 0, memory: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_listed_as_the_store_lists_them() {
        let entry = |key: &str| (("c".to_owned(), key.to_owned()), "{}".to_owned());
        let documents = ["a", "b1", "b2", "b3", "c"].iter().map(|key| entry(key)).collect();
        let mut offline = Offline { documents, missing: Vec::new() };
        let mut keys = |prefix: &str, after: Option<&str>, limit| {
            let found = offline.list("c", prefix, after, limit).unwrap();
            found.into_iter().map(|document| document.key).collect::<Vec<_>>()
        };
        assert_eq!(keys("b", None, 9), ["b1", "b2", "b3"]);
        assert_eq!(keys("b", Some("b1"), 1), ["b2"]);
        assert_eq!(keys("x", None, 9), [""; 0]);
        assert_eq!(offline.get("c", "a").unwrap().as_deref(), Some("{}"));
        assert_eq!(offline.get("c", "z").unwrap(), None);
        assert_eq!(offline.missing, ["c/z"]);
    }
}
