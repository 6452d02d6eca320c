//! `tribox invoke`: one message against documents from files, in the same sandbox as in production
//! and without any server. Nothing is changed anywhere; what it would do is printed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::case::{DocumentMap, MessageFile, read_documents};
use super::outcome::Outcome;
use super::output::capture;
use super::{ConfigFile, component, outcome, say};
use crate::model::{
    Call, Document, Documents, Failure, LIST_BYTES, Limits, Message, Unreadable, Verdict, key_of,
};

/// Exit codes: 0 effects, 2 the handler says retry, 3 it rejects, 4 it trapped or the host stops it
/// (a limit, effects that are not allowed, no key); 1: it could not be tried.
#[derive(Debug, clap::Args)]
pub(super) struct Invoke {
    /// The component.
    file: PathBuf,
    /// The message: {"id", "subject", "key", "headers": [[name, value]], "payload" or
    /// "payload_base64", "stored_at"}; key and headers may be left out.
    #[arg(long, value_name = "FILE")]
    message: PathBuf,
    /// The documents it may read: [{"collection", "key", "body"}]; none, if not given.
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,
    /// A setting of the handler, in place of the config's.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has no =; write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

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

/// Tries it and prints what came of it.
///
/// # Errors
/// It could not be tried: a file is wrong, and the text says which and where.
pub(super) fn run(invoke: &Invoke) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let outcome = attempt(invoke)?;
    say(&if invoke.json { outcome.to_json()? } else { outcome.to_text() });
    Ok(ExitCode::from(outcome.exit_code()))
}

fn attempt(invoke: &Invoke) -> Result<Outcome, Box<dyn std::error::Error>> {
    let config = invoke.config.load()?;
    let file = MessageFile::read(&invoke.message)?;
    let documents = match &invoke.documents {
        Some(path) => read_documents(path)?,
        None => DocumentMap::new(),
    };
    let guest = component::load(&invoke.file, config.plugins.cache())?;
    let description = Arc::clone(guest.description());
    let handler = config.handler(&description.name);
    let limits = Limits::from(handler.limits.unwrap_or(config.limits));
    let mut settings = handler.settings;
    settings.extend(invoke.settings.iter().cloned());
    let mut notes = Vec::new();
    for (collection, key) in documents.keys() {
        if !description.collections.contains(collection) {
            let name = &description.name;
            notes.push(format!("{name} does not declare the collection of {collection}/{key}"));
        }
    }
    let (message, no_key) = message(&file, &description, &mut notes)?;
    let guest = guest.configured(settings, limits);
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
    let verdict = call.verdict?;
    let (fuel, memory) = (call.fuel, call.memory);
    let spent = outcome::Spent { fuel, memory, time };
    Ok(Outcome { guest, message, documents, verdict, spent, output, notes })
}

/// The message as a host would hand it over; with why it would not, where it has no key.
fn message(
    file: &MessageFile,
    description: &crate::model::Description,
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

    #[test]
    fn settings_have_a_key_and_a_value() {
        assert_eq!(setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(setting("a").is_err());
    }
}
