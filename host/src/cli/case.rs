//! A case in files, for `tribox invoke`: one message, and the documents that a handler may read. What
//! `tribox parked show --export` writes is what `invoke` reads, byte for byte the same message.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::rules::MAX_KEY;
use crate::model::{Header, json, subject};
use crate::store::ParkedDetail;

/// How a message file looks, for whoever has one that cannot be read.
const EXAMPLE: &str = r#"a message file looks like {"id": "m-1", "subject": "items.create", "headers": [["Name", "value"]], "payload": {"id": "7"}, "stored_at": 1767225600000}, with "payload_base64" in place of "payload" where that is not JSON"#;
const DOCUMENTS_EXAMPLE: &str = r#"a documents file looks like [{"collection": "items", "key": "7", "body": {"name": "lamp"}}]"#;

/// Bytes of a document when written out.
pub(super) const LARGEST: usize = 1 << 30;

/// message.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageFile {
    pub id: String,
    pub subject: String,
    /// Without it, what the subscription picks out of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Its text as it stands here is the payload; `null` is one, too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// Milliseconds since the Unix epoch: what the handler's clock shows.
    pub stored_at: u64,
}

/// An entry of documents.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentFile {
    pub collection: String,
    pub key: String,
    pub body: Box<RawValue>,
}

/// The documents of a case, by collection and key, in the form that Postgres gives them.
pub(super) type DocumentMap = BTreeMap<(String, String), String>;

/// Fields of an object for scripts, with a payload among them.
#[derive(Serialize)]
pub(super) struct Payload {
    #[serde(flatten)]
    pub fields: Value,
    #[serde(flatten)]
    pub payload: PayloadJson,
}

/// A payload for scripts: JSON as it is, anything else in base64.
#[derive(Debug, Serialize)]
pub(super) struct PayloadJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

pub(super) fn given<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}

/// JSON whose every byte is kept; `None` for anything else.
fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let raw = RawValue::from_string(text.to_owned()).ok()?;
    (raw.get() == text).then_some(raw)
}

pub(super) fn payload_json(bytes: &[u8]) -> PayloadJson {
    let payload = raw(bytes);
    let payload_base64 = payload.is_none().then(|| STANDARD.encode(bytes));
    PayloadJson { payload, payload_base64 }
}

impl From<&ParkedDetail> for MessageFile {
    fn from(detail: &ParkedDetail) -> MessageFile {
        let PayloadJson { payload, payload_base64 } = payload_json(&detail.payload);
        MessageFile {
            id: detail.line.message_id.clone(),
            subject: detail.line.subject.clone(),
            key: detail.line.key.clone(),
            headers: detail.headers.clone(),
            payload,
            payload_base64,
            stored_at: detail.stored_at,
        }
    }
}

impl MessageFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or a field is wrong; the text names file and field.
    pub(super) fn read(path: &Path) -> Result<MessageFile, String> {
        let text = read(path)?;
        let wrong = |why: String| format!("message file {}: {why}", path.display());
        let file: MessageFile =
            serde_json::from_str(&text).map_err(|why| wrong(format!("{why}; {EXAMPLE}")))?;
        file.check().map_err(wrong)?;
        Ok(file)
    }

    /// # Errors
    /// A field is wrong; the text names it.
    pub(super) fn check(&self) -> Result<(), String> {
        subject::check_subject(&self.subject).map_err(|why| format!("subject: {why}"))?;
        if let Some(key) = &self.key
            && !(1..=MAX_KEY).contains(&key.len())
        {
            let length = key.len();
            return Err(format!("key: has {length} bytes; allowed are 1 to {MAX_KEY}"));
        }
        self.payload().map(drop)
    }

    /// The payload's bytes.
    ///
    /// # Errors
    /// There is none, or it is no base64.
    pub(super) fn payload(&self) -> Result<Vec<u8>, String> {
        match (&self.payload, &self.payload_base64) {
            (Some(json), None) => Ok(json.get().as_bytes().to_vec()),
            (None, Some(text)) => {
                STANDARD.decode(text).map_err(|why| format!("payload_base64: {why}"))
            }
            (None, None) => Err(format!("has neither payload nor payload_base64; {EXAMPLE}")),
            (Some(_), Some(_)) => Err("has both payload and payload_base64; one is enough".into()),
        }
    }

    /// The header lines as a host hands them over: sorted by name.
    pub(super) fn header_lines(&self) -> Vec<Header> {
        let header =
            |(name, value): &(String, String)| Header { name: name.clone(), value: value.clone() };
        let mut headers: Vec<Header> = self.headers.iter().map(header).collect();
        headers.sort_by(|a, b| a.name.cmp(&b.name));
        headers
    }
}

/// Reads and checks documents.json.
///
/// # Errors
/// It cannot be read, or an entry is wrong; the text names file and entry.
pub(super) fn read_documents(path: &Path) -> Result<DocumentMap, String> {
    let wrong = |why: String| format!("documents file {}: {why}", path.display());
    let entries: Vec<DocumentFile> = serde_json::from_str(&read(path)?)
        .map_err(|why| wrong(format!("{why}; {DOCUMENTS_EXAMPLE}")))?;
    document_map(&entries).map_err(wrong)
}

/// # Errors
/// An entry is wrong; the text names it.
pub(super) fn document_map(entries: &[DocumentFile]) -> Result<DocumentMap, String> {
    let mut documents = BTreeMap::new();
    for (n, DocumentFile { collection, key, body }) in entries.iter().enumerate() {
        let wrong = |field: &str, why: String| format!("document {n}, {field}: {why}");
        if !(1..=MAX_KEY).contains(&key.len()) {
            let length = key.len();
            return Err(wrong("key", format!("has {length} bytes; allowed are 1 to {MAX_KEY}")));
        }
        let body = json::canonical(body.get(), LARGEST).map_err(|why| wrong("body", why))?;
        if documents.insert((collection.clone(), key.clone()), body).is_some() {
            return Err(wrong("key", format!("{collection}/{key} is there twice")));
        }
    }
    Ok(documents)
}

#[expect(clippy::disallowed_methods, reason = "the operator names the file")]
pub(super) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|why| format!("{} cannot be read: {why}", path.display()))
}

/// Bytes as JSON where they are; for objects that scripts read.
pub(super) fn raw_or_null(text: Option<&str>) -> Option<Box<RawValue>> {
    raw(text?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<MessageFile, String> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("m.json");
        std::fs::write(&path, text).unwrap();
        MessageFile::read(&path)
    }

    #[test]
    fn a_payload_comes_through_byte_for_byte() {
        for payload in [
            &br#"{ "b":1.50,"a" : [ 1e3 ],"a":2}"#[..],
            b"null",
            b"\"text\"",
            b" {}",
            b"{}\n",
            b"",
            b"no JSON",
            b"\xff\x00",
        ] {
            let PayloadJson { payload: json, payload_base64 } = payload_json(payload);
            let file = MessageFile {
                id: "m".into(),
                subject: "s".into(),
                key: None,
                headers: vec![("b".into(), "2".into()), ("a".into(), "1".into())],
                payload: json,
                payload_base64,
                stored_at: 7,
            };
            let read = read_text(&serde_json::to_string_pretty(&file).unwrap()).unwrap();
            assert_eq!(read.payload().unwrap(), payload);
            assert_eq!(read.header_lines()[0].name, "a");
        }
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (text, words) in [
            ("{", "EOF while parsing"),
            (r#"{"subject": "s", "payload": 1, "stored_at": 1}"#, "missing field `id`"),
            (r#"{"id": "m", "payload": 1, "stored_at": 1}"#, "missing field `subject`"),
            (r#"{"id": "m", "subject": "s", "payload": 1}"#, "missing field `stored_at`"),
            (r#"{"id": "m", "subject": "s", "stored_at": 1}"#, "neither payload nor"),
            (
                r#"{"id": "m", "subject": "s", "payload": 1, "payload_base64": "", "stored_at": 1}"#,
                "has both",
            ),
            (
                r#"{"id": "m", "subject": "s", "payload_base64": "%", "stored_at": 1}"#,
                "payload_base64: Invalid",
            ),
            (r#"{"id": "m", "subject": "a.*", "payload": 1, "stored_at": 1}"#, "subject: "),
            (
                r#"{"id": "m", "subject": "s", "key": "", "payload": 1, "stored_at": 1}"#,
                "key: has 0",
            ),
            (r#"{"id": "m", "subjct": "s"}"#, "unknown field `subjct`"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains("m.json") && error.contains(words), "{text}: {error}");
        }
        let error = MessageFile::read(Path::new("/nowhere/m.json")).unwrap_err();
        assert!(error.contains("/nowhere/m.json cannot be read"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_documents_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("d.json");
        for (text, words) in [
            ("{}", "invalid type: map"),
            (r#"[{"collection": "c", "key": "k"}]"#, "missing field `body`"),
            (r#"[{"collection": "c", "key": "", "body": 1}]"#, "document 0, key: has 0 bytes"),
            (r#"[{"collection": "c", "key": "k", "body": "\u0000"}]"#, "document 0, body: "),
            (
                r#"[{"collection": "c", "key": "k", "body": 1},
                    {"collection": "c", "key": "k", "body": 2}]"#,
                "document 1, key: c/k is there twice",
            ),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_documents(&path).unwrap_err();
            assert!(error.contains("d.json") && error.contains(words), "{text}: {error}");
        }
        std::fs::write(&path, r#"[{"collection": "c", "key": "k", "body": {"bb":1,"a":2}}]"#)
            .unwrap();
        let read = read_documents(&path).unwrap();
        assert_eq!(read[&("c".to_owned(), "k".to_owned())], r#"{"a": 2, "bb": 1}"#);
    }
}
