//! Recorded cases, for `tribox test`: a message, what it is handled with, and what it comes to, in one
//! file that people read, change and review. A case says nothing of the language, the build or the
//! machine: any component of the same handler can be held to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::case::{
    DocumentFile, DocumentMap, LARGEST, MessageFile, PayloadJson, document_map, given,
    payload_json, read,
};
use super::outcome::Outcome;
use super::text::{indented, set_in};
use crate::model::{Delivery, Due, Effects, Failure, Outgoing, Verdict, json};

/// A case as it stands in its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    /// The name that the handler describes itself with.
    pub handler: String,
    pub message: MessageFile,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentFile>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    pub expect: Expected,
}

/// What a message comes to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// `effects`, or the reason of a failure: `reject`, `retry`, `trap` and so on.
    verdict: String,
    /// A part of the failure's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    documents: Vec<ExpectedDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<ExpectedMessage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cancellations: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedDocument {
    collection: String,
    key: String,
    /// Missing where the document is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    body: Option<Box<RawValue>>,
}

/// As `tribox invoke --json` prints it, without what is usual.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedMessage {
    subject: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    transient: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule_name: Option<String>,
}

impl CaseFile {
    /// Writes down what has come of a message.
    ///
    /// # Errors
    /// A document is no JSON, which nothing that was read can be.
    pub(super) fn record(
        outcome: &Outcome,
        message: MessageFile,
        documents: DocumentMap,
        settings: BTreeMap<String, String>,
    ) -> serde_json::Result<CaseFile> {
        let document = |((collection, key), body): ((String, String), String)| {
            Ok(DocumentFile { collection, key, body: RawValue::from_string(body)? })
        };
        Ok(CaseFile {
            handler: outcome.guest.description().name.clone(),
            message,
            documents: documents.into_iter().map(document).collect::<serde_json::Result<_>>()?,
            settings,
            expect: Expected::of(outcome)?,
        })
    }

    /// Reads and checks a file; gives its documents as well.
    ///
    /// # Errors
    /// It cannot be read, or a field is wrong; the text names the field.
    pub(super) fn read(path: &Path) -> Result<(CaseFile, DocumentMap), String> {
        let case: CaseFile = serde_json::from_str(&read(path)?).map_err(|why| {
            format!("it is no case: {why}; `tribox invoke … --record FILE` writes one")
        })?;
        case.message.check().map_err(|why| format!("message: {why}"))?;
        let documents = document_map(&case.documents)?;
        Ok((case, documents))
    }

    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |why: &dyn std::fmt::Display| {
            format!("case {} cannot be written: {why}", path.display())
        };
        let text = serde_json::to_string_pretty(self).map_err(|why| failed(&why))?;
        if let Some(place) = path.parent() {
            std::fs::create_dir_all(place).map_err(|why| failed(&why))?;
        }
        std::fs::write(path, text + "\n").map_err(|why| failed(&why))
    }
}

/// Where a case is recorded: a file that is named, or one named by the message in a directory.
pub(super) fn place(named: &Path, message_id: &str) -> PathBuf {
    if named.extension().is_some_and(|extension| extension == "json") {
        return named.to_owned();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = message_id.chars().map(plain).take(100).collect();
    named.join(format!("{name}.json"))
}

impl Expected {
    pub(super) fn of(outcome: &Outcome) -> serde_json::Result<Expected> {
        let none = Effects::default();
        let (verdict, error, effects) = match &outcome.verdict {
            Verdict::Effects(effects) => ("effects", None, effects),
            // What these say is the handler's decision; the texts of others differ from build to build.
            Verdict::Failed(failure @ (Failure::Reject(text) | Failure::Retry(text))) => {
                (failure.reason(), Some(text.clone()), &none)
            }
            Verdict::Failed(failure) => (failure.reason(), None, &none),
        };
        let mut changes = outcome.changes(effects);
        // The order in which documents are put does not matter once each is there once.
        changes.sort_by_key(|change| (change.collection, change.key));
        let mut documents = Vec::new();
        for change in changes {
            documents.push(ExpectedDocument {
                collection: change.collection.to_owned(),
                key: change.key.to_owned(),
                body: change
                    .after
                    .map(|body| RawValue::from_string(body.to_owned()))
                    .transpose()?,
            });
        }
        let messages = effects.messages.iter().map(ExpectedMessage::of).collect();
        let cancellations = effects.cancellations.clone();
        Ok(Expected { verdict: verdict.to_owned(), error, documents, messages, cancellations })
    }

    /// Whether `actual` is what is expected; otherwise both as texts, whose lines differ.
    pub(super) fn compare(&self, actual: &Expected, exact: bool) -> Option<(String, String)> {
        let mut actual = actual.clone();
        // A part of the text is enough, and none is asked for where none is given.
        let error = actual.error.as_deref().unwrap_or_default();
        if self.error.as_deref().is_none_or(|part| error.contains(part)) {
            actual.error.clone_from(&self.error);
        }
        let (expected, found) = (self.to_text(exact), actual.to_text(exact));
        (expected != found).then_some((expected, found))
    }

    /// All of it in lines; what means the same has the same text, unless bytes are asked for.
    fn to_text(&self, exact: bool) -> String {
        let mut text = format!("verdict {}\n", self.verdict);
        // Writing into a String cannot fail.
        if let Some(error) = &self.error {
            let _ = writeln!(text, "error   {error}");
        }
        let mut documents: Vec<&ExpectedDocument> = self.documents.iter().collect();
        documents.sort_by_key(|document| (&document.collection, &document.key));
        for ExpectedDocument { collection, key, body } in documents {
            let _ = match body {
                Some(body) => write!(text, "put {collection}/{key}\n{}", json_lines(body.get())),
                None => writeln!(text, "delete {collection}/{key}"),
            };
        }
        for name in &self.cancellations {
            let _ = writeln!(text, "cancel {name}");
        }
        for message in &self.messages {
            text.push_str(&message.to_text(exact));
        }
        text
    }
}

impl ExpectedMessage {
    fn of(outgoing: &Outgoing) -> ExpectedMessage {
        let PayloadJson { payload, payload_base64 } = payload_json(&outgoing.payload);
        let headers = outgoing.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
        let (due_after_ms, due_at_ms) = match outgoing.due {
            Some(Due::After(ms)) => (Some(ms), None),
            Some(Due::At(ms)) => (None, Some(ms)),
            None => (None, None),
        };
        ExpectedMessage {
            subject: outgoing.subject.clone(),
            headers,
            payload,
            payload_base64,
            transient: outgoing.delivery == Delivery::Transient,
            due_after_ms,
            due_at_ms,
            expires_after_ms: outgoing.expires_after,
            schedule_name: outgoing.schedule_name.clone(),
        }
    }

    fn to_text(&self, exact: bool) -> String {
        let mut how = Vec::new();
        how.extend(self.transient.then(|| "transient".to_owned()));
        how.extend(self.due_after_ms.map(|ms| format!("after {ms} ms")));
        how.extend(self.due_at_ms.map(|ms| format!("at {ms} ms since 1970")));
        how.extend(self.expires_after_ms.map(|ms| format!("expires after {ms} ms")));
        how.extend(self.schedule_name.as_ref().map(|name| format!("as schedule {name}")));
        let how = if how.is_empty() { String::new() } else { format!(" ({})", how.join(", ")) };
        let mut text = format!("send {}{how}\n", self.subject);
        for (name, value) in &self.headers {
            text.push_str(&set_in(&format!("{name}: {value}")));
        }
        match (&self.payload, &self.payload_base64) {
            (Some(payload), _) if exact => text.push_str(&set_in(payload.get())),
            (Some(payload), _) => text.push_str(&json_lines(payload.get())),
            (None, Some(bytes)) => text.push_str(&set_in(&format!("base64 {bytes}"))),
            (None, None) => {}
        }
        text
    }
}

/// JSON over several lines, set in, in the form that Postgres gives it.
fn json_lines(text: &str) -> String {
    let canonical = json::canonical(text, LARGEST);
    // What Postgres would not take can be a payload nevertheless.
    let shown = canonical.as_deref().unwrap_or(text);
    set_in(&indented(shown).unwrap_or_else(|| shown.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(text: &str) -> Expected {
        serde_json::from_str(text).unwrap()
    }

    fn same(one: &str, other: &str, exact: bool) -> bool {
        expected(one).compare(&expected(other), exact).is_none()
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        let one = r#"{"verdict": "effects",
            "documents": [{"collection": "b", "key": "1", "body": {"x": 1.0, "aa": 2}},
                          {"collection": "a", "key": "1"}],
            "messages": [{"subject": "s", "payload": {"n": 1, "m": 2}}]}"#;
        let other = r#"{"verdict": "effects",
            "documents": [{"collection": "a", "key": "1"},
                          {"collection": "b", "key": "1", "body": {"aa":2,"x":1.0}}],
            "messages": [{"subject": "s", "payload": {"m": 2,"n":1}}]}"#;
        assert!(same(one, other, false));
        assert!(!same(one, other, true), "the bytes of the payload differ");
        assert!(!same(one, &one.replace("1.0", "1"), false), "jsonb keeps 1.0 apart from 1");
    }

    #[test]
    fn every_difference_is_seen() {
        let message = r#"{"verdict":"effects","messages":[{"subject":"s","payload":1}]}"#;
        for (part, instead) in [
            (r#""payload":1"#, r#""payload":2"#),
            (r#""payload":1"#, r#""payload":null"#),
            (r#""payload":1"#, r#""payload_base64":"""#),
            (r#""payload":1"#, r#""payload":1,"transient":true"#),
            (r#""payload":1"#, r#""payload":1,"due_after_ms":5"#),
            (r#""payload":1"#, r#""payload":1,"due_at_ms":5"#),
            (r#""payload":1"#, r#""payload":1,"expires_after_ms":5"#),
            (r#""payload":1"#, r##""payload":1,"schedule_name":"n""##),
            (r#""payload":1"#, r#""payload":1,"headers":[["A","b"]]"#),
            (r#""s""#, r#""t""#),
            ("effects", "reject"),
            (r#""messages""#, r#""cancellations":["n"],"messages""#),
        ] {
            let other = message.replace(part, instead);
            assert!(!same(message, &other, false), "{other}");
        }
    }

    #[test]
    fn a_part_of_the_error_is_enough() {
        let actual = r#"{"verdict": "reject", "error": "amount 0 must be above zero"}"#;
        assert!(same(r#"{"verdict": "reject"}"#, actual, false));
        assert!(same(r#"{"verdict": "reject", "error": "above zero"}"#, actual, false));
        assert!(!same(r#"{"verdict": "reject", "error": "below"}"#, actual, false));
        assert!(!same(r#"{"verdict": "retry", "error": "above zero"}"#, actual, false));
    }

    #[test]
    fn cases_are_named_by_their_message() {
        assert_eq!(place(Path::new("a/b.json"), "m"), Path::new("a/b.json"));
        assert_eq!(place(Path::new("cases"), "S:1/2"), Path::new("cases/S-1-2.json"));
    }
}
