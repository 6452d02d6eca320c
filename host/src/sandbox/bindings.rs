//! The contract as wasmtime sees it, generated from `wit/`, and the conversions between its types
//! and the model's. Generated types never leave this room.

use bytes::Bytes;

use crate::model::{self, KeySource};

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: { default: trappable },
    // A message is lowered from where it lies; only what the guest returns is owned.
    ownership: Borrowing { duplicate_if_necessary: true },
    require_store_data_send: true,
});

use tribox::handler::types;

/// The header lines of a message, borrowed: [`message`] needs them beside the message.
pub(super) fn headers(message: &model::Message) -> Vec<types::HeaderParam<'_>> {
    let lines = message.headers.iter();
    lines.map(|h| types::HeaderParam { name: &h.name, value: &h.value }).collect()
}

pub(super) fn message<'a>(
    message: &'a model::Message,
    headers: &'a [types::HeaderParam<'a>],
) -> types::Message<'a> {
    types::Message {
        id: &message.id,
        subject: &message.subject,
        key: message.key.as_deref(),
        headers,
        payload: &message.payload,
        stored_at: message.stored_at,
    }
}

impl From<types::Effects> for model::Effects {
    fn from(effects: types::Effects) -> Self {
        model::Effects {
            mutations: effects.mutations.into_iter().map(Into::into).collect(),
            messages: effects.messages.into_iter().map(Into::into).collect(),
            cancellations: effects.cancellations,
        }
    }
}

impl From<types::Mutation> for model::Mutation {
    fn from(mutation: types::Mutation) -> Self {
        match mutation {
            types::Mutation::Put(types::Document { collection, key, body }) => {
                model::Mutation::Put(model::Document { collection, key, body })
            }
            types::Mutation::Delete(types::DocumentId { collection, key }) => {
                model::Mutation::Delete { collection, key }
            }
        }
    }
}

impl From<types::Outgoing> for model::Outgoing {
    fn from(outgoing: types::Outgoing) -> Self {
        let header = |h: types::HeaderResult| model::Header { name: h.name, value: h.value };
        model::Outgoing {
            subject: outgoing.subject,
            headers: outgoing.headers.into_iter().map(header).collect(),
            payload: Bytes::from(outgoing.payload),
            delivery: match outgoing.delivery {
                types::Delivery::Durable => model::Delivery::Durable,
                types::Delivery::Transient => model::Delivery::Transient,
            },
            due: outgoing.due.map(|due| match due {
                types::Due::After(milliseconds) => model::Due::After(milliseconds),
                types::Due::At(timestamp) => model::Due::At(timestamp),
            }),
            expires_after: outgoing.expires_after,
            schedule_name: outgoing.schedule_name,
        }
    }
}

impl From<types::Description> for model::Description {
    fn from(description: types::Description) -> Self {
        model::Description {
            name: description.name,
            version: description.version,
            subscriptions: description.subscriptions.into_iter().map(Into::into).collect(),
            collections: description.collections,
            publishes: description.publishes,
        }
    }
}

impl From<types::Subscription> for model::Subscription {
    fn from(subscription: types::Subscription) -> Self {
        model::Subscription {
            subject: subscription.subject,
            key: match subscription.key {
                types::KeySource::None => KeySource::None,
                types::KeySource::SubjectToken(n) => KeySource::SubjectToken(n),
                types::KeySource::Header(name) => KeySource::Header(name),
                types::KeySource::PayloadField(pointer) => KeySource::PayloadField(pointer),
            },
            read_ahead: subscription.read_ahead,
        }
    }
}

impl From<model::Document> for types::Document {
    fn from(document: model::Document) -> Self {
        types::Document { collection: document.collection, key: document.key, body: document.body }
    }
}
