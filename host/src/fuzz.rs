//! What others send, taken apart from any bytes: a function for each, for fuzzing. None of them may
//! panic, and what comes out keeps what the rest of the program relies on.
//!
//! `tests/suite/fuzz.rs` gives each some thousand inputs in every run of the tests; `make fuzz`
//! gives more.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::config::Config;
use crate::model::identity::message_id;
use crate::model::rules::{check_description, check_effects};
use crate::model::{
    Delivery, Description, Document, Due, Effects, Header, InboxKey, KeySource, Limits, Message,
    Mutation, Outgoing, Subscription, json, key_of, outgoing_id,
};
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::stream::{Publish, denied_subject, header_map, pub_ack, trouble};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("message", message),
    ("unreadable", unreadable),
    ("answers", answers),
    ("json", json),
    ("effects", effects),
    ("description", description),
    ("config", config),
    ("component", component),
];

/// Bytes as a source of plain values: what is not there any more is nothing.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Some of the bytes: as many as the first one says, and a multiple of that for large ones.
    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.byte() {
            length @ 0..=250 => usize::from(length),
            length => (usize::from(length) - 250) * 500,
        };
        let (some, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        some.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn list<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.byte() % 8;
        (0..count).map(|_| one(self)).collect()
    }

    fn maybe<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Option<T> {
        (self.byte() % 2 == 1).then(|| one(self))
    }

    fn header(&mut self) -> Header {
        Header { name: self.text(), value: self.text() }
    }

    fn key_source(&mut self) -> KeySource {
        match self.byte() % 4 {
            0 => KeySource::None,
            1 => KeySource::SubjectToken(u32::from(self.byte())),
            2 => KeySource::Header(self.text()),
            _ => KeySource::PayloadField(self.text()),
        }
    }

    fn subscription(&mut self) -> Subscription {
        let (subject, key) = (self.text(), self.key_source());
        Subscription { subject, key, read_ahead: self.list(Source::text) }
    }

    fn mutation(&mut self) -> Mutation {
        let (collection, key) = (self.text(), self.text());
        match self.byte() % 2 {
            0 => Mutation::Put(Document { collection, key, body: self.text() }),
            _ => Mutation::Delete { collection, key },
        }
    }

    fn outgoing(&mut self) -> Outgoing {
        Outgoing {
            subject: self.text(),
            headers: self.list(Source::header),
            payload: self.bytes().into(),
            delivery: match self.byte() % 2 {
                0 => Delivery::Durable,
                _ => Delivery::Transient,
            },
            due: self.maybe(|source| match source.byte() % 2 {
                0 => Due::After(source.number()),
                _ => Due::At(source.number()),
            }),
            expires_after: self.maybe(Source::number),
            schedule_name: self.maybe(Source::text),
        }
    }
}

/// A message as JetStream delivers it: subject, header lines, an empty line, and the payload.
fn message(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let head = String::from_utf8_lossy(&data[..end]);
    let payload = data.get(end + 2..).unwrap_or_default();
    let mut lines = head.lines();
    let subject = lines.next().unwrap_or_default().to_owned();
    let headers: Vec<Header> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| Header { name: name.to_owned(), value: value.trim().to_owned() })
        .collect();
    for key in [
        KeySource::SubjectToken(1),
        KeySource::Header("Key".to_owned()),
        KeySource::PayloadField("/id".to_owned()),
        KeySource::PayloadField(String::new()),
    ] {
        let subscription = Subscription { subject: ">".to_owned(), key, read_ahead: Vec::new() };
        if let Ok(Some(key)) = key_of(&[subscription], &subject, &headers, payload) {
            assert!((1..=1_024).contains(&key.len()) && !key.contains('\0'), "{key:?}");
        }
    }
    let id = message_id(&headers, "S", 7, 1_700_000_000_000);
    assert!(!id.is_empty());
    let _ = InboxKey::of_outgoing(&id);
    let key = InboxKey::new("h", &id);
    assert_eq!(InboxKey::of_outgoing(&outgoing_id(key, 3)), Some(key));
    let payload = Bytes::copy_from_slice(payload);
    let message = Message { id, subject, key: None, headers, payload, stored_at: u64::MAX / 2 };
    let _ = message.expires_at();
}

/// Subject and headers of a message that the client may not be able to read.
fn unreadable(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let subject = String::from_utf8_lossy(&data[..end]);
    let headers = data.get(end + 1..).unwrap_or_default();
    if let Some(why) = trouble(&subject, headers) {
        assert!(!why.contains(|c: char| c.is_control()), "{why:?}");
        assert!(why.len() < 2_000, "{} bytes", why.len());
    }
}

/// What the server answers to a publish, and what it complains of.
fn answers(data: &[u8]) {
    let _ = pub_ack(data);
    let _ = denied_subject(&String::from_utf8_lossy(data));
}

/// A document as a handler returns it: what is stored stays as it is from then on.
fn json(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(canonical) = json::canonical(&text, 1 << 20) {
        assert_eq!(json::canonical(&canonical, 1 << 20).as_ref(), Ok(&canonical));
    }
}

/// Effects of a handler: those that keep the rules can be stored and sent.
fn effects(data: &[u8]) {
    let mut source = Source(data);
    let mut effects = Effects {
        mutations: source.list(Source::mutation),
        messages: source.list(Source::outgoing),
        cancellations: source.list(Source::text),
    };
    let names = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let description = Description {
        name: "h".to_owned(),
        version: "1".to_owned(),
        subscriptions: Vec::new(),
        collections: names(&["c", "d"]),
        publishes: names(&["a.>", "*.b"]),
    };
    if check_effects(&description, &Limits::default(), &mut effects).is_err() {
        return;
    }
    for outgoing in effects.messages {
        let line = |header: &Header| format!("{}: {}\n", header.name, header.value);
        let message = Publish {
            connection: 0,
            token: Some(1),
            id: "id".to_owned(),
            subject: outgoing.subject,
            headers: outgoing.headers.iter().map(line).collect(),
            payload: outgoing.payload,
        };
        let sent = header_map(&message).map(|map| map.iter().map(|(_, v)| v.len()).sum::<usize>());
        assert_eq!(sent, Ok(outgoing.headers.len() + 1));
    }
}

/// What a component says of itself.
fn description(data: &[u8]) {
    let mut source = Source(data);
    let description = Description {
        name: source.text(),
        version: source.text(),
        subscriptions: source.list(Source::subscription),
        collections: source.list(Source::text),
        publishes: source.list(Source::text),
    };
    if let Err(why) = check_description(&description) {
        assert!(why.len() < 4 << 10, "{} bytes", why.len());
    }
}

/// A config file.
fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(why) = Config::parse(text, "fuzz.toml")
    {
        assert!(why.to_string().contains("fuzz.toml"), "{why}");
    }
}

/// A file in the plugin directory.
fn component(data: &[u8]) {
    static SANDBOX: OnceLock<Option<Sandbox>> = OnceLock::new();
    let config = SandboxConfig { concurrency: 1, cache: None };
    let sandbox = SANDBOX.get_or_init(|| Sandbox::new(config).ok());
    if let Some(sandbox) = sandbox
        && let Err(why) = sandbox.load("fuzz.wasm", data)
    {
        let said = why.to_string();
        assert!(said.len() < 6 << 10, "{} bytes", said.len());
    }
}
