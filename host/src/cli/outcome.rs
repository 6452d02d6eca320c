//! What came of a call, to be read: by people, with the changes of each document line by line, or by
//! scripts.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::case::{DocumentMap, PayloadJson, payload_json, raw_or_null};
use super::diff::diff;
use super::output::Line;
use super::text::{count, indented, payload, printable, set_in, table};
use crate::model::{
    Delivery, Due, Effects, Failure, InboxKey, Message, Mutation, Outgoing, Verdict, outgoing_id,
    rules,
};
use crate::sandbox::Guest;

/// A call that has ended.
pub(super) struct Outcome {
    pub guest: Guest,
    pub message: Message,
    /// What could be read.
    pub documents: DocumentMap,
    pub verdict: Verdict,
    pub spent: Spent,
    pub output: Vec<Line>,
    /// What the reader has to know of it.
    pub notes: Vec<String>,
}

/// What the call has cost.
pub(super) struct Spent {
    pub fuel: u64,
    pub memory: usize,
    pub time: Duration,
}

/// A document that is changed; a body is missing where there is none.
#[derive(Clone, Copy)]
pub(super) struct Changed<'a> {
    pub collection: &'a str,
    pub key: &'a str,
    pub before: Option<&'a str>,
    pub after: Option<&'a str>,
}

/// The same for scripts.
#[derive(Serialize)]
struct Change<'a> {
    collection: &'a str,
    key: &'a str,
    before: Option<Box<RawValue>>,
    after: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Sent<'a> {
    /// Its `Nats-Msg-Id`.
    id: String,
    subject: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    #[serde(flatten)]
    payload: PayloadJson,
    delivery: &'static str,
    due_after_ms: Option<u64>,
    due_at_ms: Option<u64>,
    expires_after_ms: Option<u64>,
    schedule_name: Option<&'a str>,
}

/// What scripts get.
#[derive(Serialize)]
struct Report<'a> {
    handler: &'a str,
    version: &'a str,
    digest: &'a str,
    message_id: &'a str,
    key: Option<&'a str>,
    verdict: &'static str,
    error: Option<String>,
    documents: Vec<Change<'a>>,
    messages: Vec<Sent<'a>>,
    cancellations: &'a [String],
    fuel: u64,
    memory_bytes: usize,
    milliseconds: f64,
    output: &'a [Line],
    notes: &'a [String],
}

impl<'a> Change<'a> {
    fn for_scripts(changed: Changed<'a>) -> Change<'a> {
        let Changed { collection, key, before, after } = changed;
        Change { collection, key, before: raw_or_null(before), after: raw_or_null(after) }
    }
}

impl Outcome {
    /// 0 effects, 2 retry, 3 reject, 4 stopped.
    pub(super) fn exit_code(&self) -> u8 {
        match &self.verdict {
            Verdict::Effects(_) => 0,
            Verdict::Failed(Failure::Retry(_)) => 2,
            Verdict::Failed(Failure::Reject(_)) => 3,
            Verdict::Failed(_) => 4,
        }
    }

    /// Why it failed, where it did.
    pub(super) fn failure_text(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Effects(_) => None,
            Verdict::Failed(failure) => Some(failure.to_string()),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let (verdict, error) = match &self.verdict {
            Verdict::Effects(_) => ("effects", None),
            Verdict::Failed(failure) => (failure.reason(), Some(failure.to_string())),
        };
        let none = Effects::default();
        let effects = if let Verdict::Effects(effects) = &self.verdict { effects } else { &none };
        let description = self.guest.description();
        serde_json::to_string_pretty(&Report {
            handler: &description.name,
            version: &description.version,
            digest: self.guest.digest(),
            message_id: &self.message.id,
            key: self.message.key.as_deref(),
            verdict,
            error,
            documents: self.changes(effects).into_iter().map(Change::for_scripts).collect(),
            messages: self.sent(effects),
            cancellations: &effects.cancellations,
            fuel: self.spent.fuel,
            memory_bytes: self.spent.memory,
            milliseconds: self.spent.time.as_secs_f64() * 1_000.0,
            output: &self.output,
            notes: &self.notes,
        })
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = self.facts();
        if let Verdict::Effects(effects) = &self.verdict {
            self.changes(effects).into_iter().for_each(|changed| text.push_str(&document(changed)));
            for (n, sent) in self.sent(effects).iter().enumerate() {
                text.push_str(&message(n, sent, &effects.messages[n]));
            }
            for name in &effects.cancellations {
                // Writing into a String cannot fail.
                let _ = writeln!(text, "\ncancels schedule {}", printable(name));
            }
        }
        if !self.output.is_empty() {
            let lines = self.output.iter().map(|l| format!("{:<6}  {}", l.stream, l.line));
            let lines: Vec<String> = lines.collect();
            let _ = write!(text, "\nit printed\n{}", set_in(&printable(&lines.join("\n"))));
        }
        for note in &self.notes {
            let _ = write!(text, "\nnote: {}", printable(note));
        }
        text
    }

    fn facts(&self) -> String {
        let description = self.guest.description();
        let digest = rules::shorten_to(self.guest.digest(), 12);
        let key =
            self.message.key.as_deref().map_or("no key".to_owned(), |key| format!("key {key}"));
        let verdict = match &self.verdict {
            Verdict::Effects(effects) => {
                let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
                let documents = count(signed(self.changes(effects).len()), "document");
                let messages = count(signed(effects.messages.len()), "message");
                let names = effects.cancellations.len();
                let names = if names == 0 { String::new() } else { format!(", {names} cancelled") };
                format!("effects: {documents}, {messages}{names}")
            }
            Verdict::Failed(failure) => format!("{}: {failure}", failure.reason()),
        };
        let Spent { fuel, memory, time } = &self.spent;
        let rows = [
            ("handler", format!("{} {} ({digest})", description.name, description.version)),
            ("message", format!("{} on {}, {key}", self.message.id, self.message.subject)),
            ("verdict", verdict),
            ("fuel", format!("{fuel} of {} units", self.guest.limits().fuel)),
            ("memory", format!("{memory} of {} bytes", self.guest.limits().memory)),
            ("time", format!("{:.1} ms", time.as_secs_f64() * 1_000.0)),
        ];
        let rows = rows.map(|(name, value)| vec![name.to_owned(), printable(&value)]);
        table(&rows)
    }

    /// The documents that are changed, each once: what they were and what they become.
    pub(super) fn changes<'a>(&'a self, effects: &'a Effects) -> Vec<Changed<'a>> {
        let mut changes: Vec<Changed<'a>> = Vec::new();
        for mutation in &effects.mutations {
            let (collection, key) = mutation.target();
            let after = match mutation {
                Mutation::Put(document) => Some(document.body.as_str()),
                Mutation::Delete { .. } => None,
            };
            let same = |change: &&mut Changed| (change.collection, change.key) == (collection, key);
            match changes.iter_mut().find(same) {
                Some(change) => change.after = after,
                None => {
                    let before = self.documents.get(&(collection.to_owned(), key.to_owned()));
                    let before = before.map(String::as_str);
                    changes.push(Changed { collection, key, before, after });
                }
            }
        }
        changes
    }

    fn sent<'a>(&self, effects: &'a Effects) -> Vec<Sent<'a>> {
        let inbox_key = InboxKey::new(&self.guest.description().name, &self.message.id);
        let sent = |(n, outgoing): (usize, &'a Outgoing)| Sent {
            id: outgoing_id(inbox_key, n),
            subject: &outgoing.subject,
            headers: outgoing.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
            payload: payload_json(&outgoing.payload),
            delivery: match outgoing.delivery {
                Delivery::Durable => "durable",
                Delivery::Transient => "transient",
            },
            due_after_ms: outgoing.due.and_then(|due| match due {
                Due::After(ms) => Some(ms),
                Due::At(_) => None,
            }),
            due_at_ms: outgoing.due.and_then(|due| match due {
                Due::At(ms) => Some(ms),
                Due::After(_) => None,
            }),
            expires_after_ms: outgoing.expires_after,
            schedule_name: outgoing.schedule_name.as_deref(),
        };
        effects.messages.iter().enumerate().map(sent).collect()
    }
}

/// A document for people: its name, and what changes in it line by line.
fn document(changed: Changed<'_>) -> String {
    let Changed { collection, key, before, after } = changed;
    let what = match (before, after) {
        (None, Some(_)) => " (new)",
        (Some(_), None) => " (deleted)",
        (None, None) => " (deleted, and was not there)",
        (Some(before), Some(after)) if before == after => " (written as it was)",
        _ => "",
    };
    let lines = |body: Option<&str>| body.and_then(indented).unwrap_or_default();
    let lines = set_in(&printable(&diff(&lines(before), &lines(after))));
    format!("\ndocument {}{what}\n{lines}", printable(&format!("{collection}/{key}")))
}

/// A message for people: where to and when, its header lines, its payload.
fn message(n: usize, sent: &Sent<'_>, outgoing: &Outgoing) -> String {
    let mut how = Vec::new();
    if sent.delivery == "transient" {
        how.push("transient, without an id".to_owned());
    } else {
        how.push(format!("id {}", sent.id));
    }
    how.extend(sent.due_after_ms.map(|ms| format!("after {ms} ms")));
    how.extend(sent.due_at_ms.map(|ms| format!("at {ms} ms since 1970")));
    how.extend(sent.expires_after_ms.map(|ms| format!("expires after {ms} ms")));
    how.extend(sent.schedule_name.map(|name| format!("as schedule {name}")));
    let mut text = format!("\nmessage {n} to {} ({})\n", sent.subject, how.join(", "));
    text = printable(&text);
    for (name, value) in &sent.headers {
        text.push_str(&set_in(&printable(&format!("{name}: {value}"))));
    }
    text + &set_in(&payload(&outgoing.payload))
}
