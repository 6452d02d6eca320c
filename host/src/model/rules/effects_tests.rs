//! One case for each rule of effects.

use super::*;
use crate::model::{Document, KeySource, Subscription};

fn description() -> Description {
    Description {
        name: "accounts".into(),
        version: "1".into(),
        subscriptions: vec![Subscription {
            subject: "in".into(),
            key: KeySource::None,
            read_ahead: vec![],
        }],
        collections: vec!["accounts".into()],
        publishes: vec!["events.>".into(), ">".into()],
    }
}

fn valid() -> Effects {
    Effects {
        mutations: vec![
            Mutation::Put(Document {
                collection: "accounts".into(),
                key: "7".into(),
                body: "{\"balance\": 1}".into(),
            }),
            Mutation::Delete { collection: "accounts".into(), key: "8".into() },
        ],
        messages: vec![Outgoing {
            subject: "events.debited".into(),
            headers: vec![Header { name: "X-Kind".into(), value: "débit".into() }],
            payload: "{}".into(),
            delivery: Delivery::Durable,
            due: Some(Due::After(5)),
            expires_after: Some(7),
            schedule_name: Some("reminder".into()),
        }],
        cancellations: vec!["other".into()],
    }
}

/// Checks that a change of the valid effects is refused by an error that says `expected`.
fn refused(expected: &str, change: impl FnOnce(&mut Effects)) {
    let mut effects = valid();
    change(&mut effects);
    let limits = Limits::default();
    let error = check_effects(&description(), &limits, &mut effects).expect_err(expected);
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

fn put(collection: &str, key: &str, body: &str) -> impl FnOnce(&mut Effects) {
    let document = Document { collection: collection.into(), key: key.into(), body: body.into() };
    |effects| effects.mutations[0] = Mutation::Put(document)
}

#[test]
fn valid_effects_pass() {
    check_effects(&description(), &Limits::default(), &mut valid()).unwrap();
    check_effects(&description(), &Limits::default(), &mut Effects::default()).unwrap();
}

#[test]
fn mutations() {
    refused(
        "mutation 0 (document \"k\" of collection \"other\") is outside",
        put("other", "k", "1"),
    );
    refused("a key of 0 bytes", put("accounts", "", "1"));
    refused("a key of 1025 bytes", put("accounts", &"k".repeat(1025), "1"));
    refused("without NUL", put("accounts", "a\0b", "1"));
    refused("a body (\"{a}\") that is no JSON", put("accounts", "k", "{a}"));
    refused("\\u0000", put("accounts", "k", "\"\\u0000\""));
    refused("a body of 1048577 bytes", put("accounts", "k", &"1".repeat((1 << 20) + 1)));
    refused("mutation 1 (document \"\" of", |e| {
        e.mutations[1] = Mutation::Delete { collection: "accounts".into(), key: String::new() };
    });
}

#[test]
fn subjects() {
    refused("message 0 (to \"events.*\") is not valid", |e| {
        e.messages[0].subject = "events.*".into();
    });
    refused("empty token", |e| e.messages[0].subject = "events..x".into());
    refused("subject of 2000 bytes", |e| e.messages[0].subject = "x".repeat(2000));
    refused("of NATS itself", |e| e.messages[0].subject = "$JS.API.STREAM.DELETE.ORDERS".into());
    let mut narrow = description();
    narrow.publishes.pop();
    let mut effects = valid();
    effects.messages[0].subject = "orders.1".into();
    let error = check_effects(&narrow, &Limits::default(), &mut effects).unwrap_err();
    assert!(error.contains("declares to publish to, [\"events.>\"]"), "{error}");
}

#[test]
fn headers() {
    for name in ["", "a b", "a:b", "ä", "a\n"] {
        refused("has header 0 named", |e| e.messages[0].headers[0].name = name.into());
    }
    for name in ["Nats-Msg-Id", "nats-expected-stream", "NATS-", "Tribox-Hops", "tribox-"] {
        refused("are the host's", |e| e.messages[0].headers[0].name = name.into());
    }
    for value in ["a\nb", "a\r", "\0"] {
        refused("CR, LF and NUL", |e| e.messages[0].headers[0].value = value.into());
    }
}

#[test]
fn delivery() {
    let transient = |change: fn(&mut Outgoing)| {
        move |effects: &mut Effects| {
            let message = &mut effects.messages[0];
            message.delivery = Delivery::Transient;
            (message.due, message.expires_after, message.schedule_name) = (None, None, None);
            change(message);
        }
    };
    refused("transient and has due", transient(|m| m.due = Some(Due::At(1))));
    refused("transient and has expires-after", transient(|m| m.expires_after = Some(1)));
    refused("transient and has schedule-name", transient(|m| m.schedule_name = Some("a".into())));
    refused("is due after", |e| e.messages[0].due = Some(Due::After(u64::MAX)));
    refused("is due at", |e| e.messages[0].due = Some(Due::At(MAX_TIMESTAMP + 1)));
    refused("expires after", |e| e.messages[0].expires_after = Some(u64::MAX));
    for name in [String::new(), "a\0".into(), "n".repeat(256)] {
        refused("message 0 (to \"events.debited\") has schedule name", |e| {
            e.messages[0].schedule_name = Some(name.clone());
        });
        refused("cancellation 0 has schedule name", |e| e.cancellations[0] = name.clone());
    }
}

#[test]
fn a_schedule_name_without_a_due_is_ignored() {
    let mut effects = valid();
    effects.messages[0].due = None;
    effects.messages[0].schedule_name = Some(String::new());
    check_effects(&description(), &Limits::default(), &mut effects).unwrap();
}

#[test]
fn counts_and_sizes() {
    refused("10001 effects; at most 10000", |e| e.cancellations = vec!["a".into(); 9_998]);
    refused("payload of 1048577 bytes", |e| {
        e.messages[0].payload = vec![0; (1 << 20) + 1].into();
    });
    refused("bytes in all; at most 8388608", |e| {
        let message = Outgoing { payload: vec![0; 1 << 20].into(), ..e.messages[0].clone() };
        e.messages = vec![message; 8];
    });
}
