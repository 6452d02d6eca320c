//! The items handler without the SDK: what the contract in wit/handler.wit asks of a component, and
//! nothing more. Any language with a component toolchain can do the same.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plugin", generate_all });
}

use bindings::exports::tribox::handler::handler::Guest;
use bindings::tribox::handler::types::{
    Delivery, Description, Document, Effects, Failure, KeySource, Message, Mutation, Outgoing,
    Subscription,
};

struct Bare;

impl Guest for Bare {
    fn describe() -> Description {
        Description {
            name: "bare".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            subscriptions: vec![Subscription {
                subject: "bare.create".into(),
                key: KeySource::None,
                read_ahead: vec![],
            }],
            collections: vec!["bare".into()],
            publishes: vec!["bare.created".into()],
        }
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let mut item: serde_json::Value = serde_json::from_slice(&message.payload)
            .map_err(|error| Failure::Reject(format!("the payload is not JSON: {error}")))?;
        let Some(fields) = item.as_object_mut().filter(|fields| fields.contains_key("name")) else {
            return Err(Failure::Reject("the payload is not an object with a name".into()));
        };
        fields.insert("id".into(), message.id.clone().into());

        let body = item.to_string();
        let document = Document { collection: "bare".into(), key: message.id, body: body.clone() };
        let created = Outgoing {
            subject: "bare.created".into(),
            headers: vec![],
            payload: body.into_bytes(),
            delivery: Delivery::Durable,
            due: None,
            expires_after: None,
            schedule_name: None,
        };
        Ok(Effects {
            mutations: vec![Mutation::Put(document)],
            messages: vec![created],
            cancellations: vec![],
        })
    }
}

// Natively there is no component to export, only the unit tests.
#[cfg(target_family = "wasm")]
bindings::export!(Bare with_types_in bindings);

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(payload: &str) -> Result<Effects, Failure> {
        Bare::handle(Message {
            id: "m-1".into(),
            subject: "bare.create".into(),
            key: None,
            headers: vec![],
            payload: payload.into(),
            stored_at: 0,
        })
    }

    #[test]
    fn an_item_is_stored_and_told() {
        let effects = handle(r#"{"name": "lamp"}"#).expect("the item is handled");
        let expected = r#"{"id":"m-1","name":"lamp"}"#;
        let [Mutation::Put(document)] = &effects.mutations[..] else {
            panic!("expected one put: {effects:?}");
        };
        assert_eq!((document.key.as_str(), document.body.as_str()), ("m-1", expected));
        assert_eq!(effects.messages[0].subject, "bare.created");
        assert_eq!(effects.messages[0].payload, expected.as_bytes());
    }

    #[test]
    fn what_is_no_item_is_rejected() {
        for payload in ["", "7", r#"{"label": "lamp"}"#] {
            assert!(matches!(handle(payload), Err(Failure::Reject(_))), "{payload}");
        }
    }

    #[test]
    fn it_describes_itself_as_bare() {
        assert_eq!(Bare::describe().name, "bare");
    }
}
