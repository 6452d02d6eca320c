//! Uses everything that the contract had in 0.1.0, by the frozen copy of it in tests/contract: each
//! kind of key, of mutation and of due time, every field of a message, reads, lists and settings. It must
//! never be changed to follow the contract; tests/suite/contract.rs runs it.

mod bindings {
    wit_bindgen::generate!({ path: "../../tests/contract/0.1.0", world: "plugin", generate_all });
}

use bindings::exports::tribox::handler::handler::Guest;
use bindings::tribox::handler::documents;
use bindings::tribox::handler::types::{
    Delivery, Description, Document, DocumentId, Due, Effects, Failure, Header, KeySource, Message,
    Mutation, Outgoing, Subscription,
};
use bindings::wasi::config::store;

struct Frozen;

impl Guest for Frozen {
    fn describe() -> Description {
        let subscription = |subject: &str, key, read_ahead: &[&str]| Subscription {
            subject: subject.to_owned(),
            key,
            read_ahead: read_ahead.iter().map(|name| (*name).to_owned()).collect(),
        };
        Description {
            name: "frozen".to_owned(),
            version: "0.1.0".to_owned(),
            subscriptions: vec![
                subscription("frozen.none", KeySource::None, &[]),
                subscription("frozen.*.token", KeySource::SubjectToken(1), &["frozen"]),
                subscription("frozen.header", KeySource::Header("Key".to_owned()), &["frozen"]),
                subscription("frozen.field", KeySource::PayloadField("/key".to_owned()), &[]),
            ],
            collections: vec!["frozen".to_owned()],
            publishes: vec!["frozen.events.>".to_owned()],
        }
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        match message.payload.as_slice() {
            b"reject" => return Err(Failure::Reject("told to reject".to_owned())),
            b"retry" => return Err(Failure::Retry("told to retry".to_owned())),
            b"panic" => panic!("told to panic"),
            _ => {}
        }
        let headers: Vec<String> = message
            .headers
            .iter()
            .map(|Header { name, value }| format!("{name}={value}"))
            .collect();
        let key = message.key.unwrap_or_else(|| "none".to_owned());
        let setting = store::get("setting").ok().flatten().unwrap_or_default();
        let settings = store::get_all().map(|all| all.len()).unwrap_or_default();
        let before = documents::get("frozen", &key).unwrap_or_else(|| "null".to_owned());
        let listed = documents::list_by_prefix("frozen", "l", Some("l0"), 2);
        let listed: Vec<String> = listed.into_iter().map(|document| document.key).collect();
        let saw = format!(
            "id {} subject {} key {key} headers {} stored {} setting {setting} of {settings} \
             before {before} listed {}",
            message.id,
            message.subject,
            headers.join(","),
            message.stored_at,
            listed.join(","),
        );
        let document = |key: String, body: &str| {
            Mutation::Put(Document { collection: "frozen".to_owned(), key, body: body.to_owned() })
        };
        Ok(Effects {
            mutations: vec![
                document(key, "{\"frozen\": true}"),
                Mutation::Delete(DocumentId {
                    collection: "frozen".to_owned(),
                    key: "gone".to_owned(),
                }),
            ],
            messages: vec![
                outgoing("saw", saw, None),
                outgoing("after", String::new(), Some(Due::After(1_000))),
                outgoing("at", String::new(), Some(Due::At(2_000))),
                Outgoing { delivery: Delivery::Transient, ..outgoing("now", String::new(), None) },
            ],
            cancellations: vec!["some-name".to_owned()],
        })
    }
}

fn outgoing(what: &str, payload: String, due: Option<Due>) -> Outgoing {
    let later = due.is_some();
    Outgoing {
        subject: format!("frozen.events.{what}"),
        headers: vec![Header { name: "What".to_owned(), value: what.to_owned() }],
        payload: payload.into_bytes(),
        delivery: Delivery::Durable,
        due,
        expires_after: later.then_some(5_000),
        schedule_name: later.then(|| format!("name-{what}")),
    }
}

// Natively there is no component to export.
#[cfg(target_family = "wasm")]
bindings::export!(Frozen with_types_in bindings);
