//! Handling a parked message for show: against the documents as they are now, to find out which of
//! them the handler reads and what it would come to. Nothing is written.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::case::DocumentMap;
use crate::config::Config;
use crate::model::{Document, Documents, Header, KeySource, Limits, Message, Unreadable, Verdict};
use crate::sandbox::Guest;
use crate::store::{Operator, ParkedDetail};

/// Documents of the database, and a note of those that were read.
struct Recorder {
    operator: Operator,
    runtime: Handle,
    seen: DocumentMap,
}

impl Recorder {
    fn note(&mut self, document: &Document) {
        let Document { collection, key, body } = document.clone();
        self.seen.insert((collection, key), body);
    }
}

impl Documents for Recorder {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        let found = self.runtime.block_on(self.operator.document(collection, key));
        let found = found.map_err(|why| Unreadable(why.to_string()))?;
        if let Some(body) = &found {
            let (collection, key) = (collection.to_owned(), key.to_owned());
            self.note(&Document { collection, key, body: body.clone() });
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
        let listed = self.operator.list_documents(collection, prefix, after, limit);
        let listed = self.runtime.block_on(listed).map_err(|why| Unreadable(why.to_string()))?;
        listed.iter().for_each(|document| self.note(document));
        Ok(listed)
    }
}

/// The documents of the message's key and all others that the handler reads for it, and what the
/// handler says; `None` where it is not asked, because the message lacks its key.
///
/// # Errors
/// The documents cannot be read.
pub(super) async fn trial(
    operator: &Operator,
    config: &Config,
    guest: Guest,
    detail: &ParkedDetail,
) -> Result<(DocumentMap, Option<String>), Box<dyn std::error::Error>> {
    let description = Arc::clone(guest.description());
    let mut seen = DocumentMap::new();
    if let Some(key) = &detail.line.key {
        for document in operator.documents_of_key(&description.collections, key).await? {
            seen.insert((document.collection, document.key), document.body);
        }
    }
    let subscription = description.subscription_for(&detail.line.subject);
    let needs_key = subscription.is_none_or(|s| s.key != KeySource::None);
    if detail.line.reason == "unreadable" || (needs_key && detail.line.key.is_none()) {
        return Ok((seen, None));
    }
    let settings = config.handler(&description.name);
    let limits = settings.limits.unwrap_or_else(|| config.limits.clone());
    let guest = guest.configured(settings.settings, Limits::from(limits));
    let message = message(detail);
    let (operator, runtime) = (operator.clone(), Handle::current());
    let called = tokio::task::spawn_blocking(move || {
        let recorder = Arc::new(Mutex::new(Recorder { operator, runtime, seen }));
        let call = guest.call(&message, Arc::clone(&recorder) as _);
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut recorder.seen), call.verdict)
    });
    let (seen, verdict) = called.await?;
    let verdict = match verdict? {
        Verdict::Effects(_) => "effects, without an error".to_owned(),
        Verdict::Failed(failure) => format!("{}: {failure}", failure.reason()),
    };
    Ok((seen, Some(verdict)))
}

fn message(detail: &ParkedDetail) -> Message {
    let header =
        |(name, value): &(String, String)| Header { name: name.clone(), value: value.clone() };
    Message {
        id: detail.line.message_id.clone(),
        subject: detail.line.subject.clone(),
        key: detail.line.key.clone(),
        headers: detail.headers.iter().map(header).collect(),
        payload: detail.payload.clone().into(),
        stored_at: detail.stored_at,
    }
}
