//! The rules that descriptions and effects must keep, as the host checks them. Each error is a
//! sentence that names the offending value.

use super::{names, subject};
use crate::{
    Delivery, Description, Document, Effects, KeySource, Mutation, Outgoing, Subscription,
};

const EFFECTS: usize = 10_000;
const EFFECTS_SIZE: usize = 8 << 20;
const DOCUMENT_SIZE: usize = 1 << 20;
const PAYLOAD_SIZE: usize = 1 << 20;

/// Checks what a handler says of itself.
pub fn check_description(description: &Description) -> Result<(), String> {
    names::check_name(&description.name, &['-', '_'])?;
    if description.version.is_empty() {
        return Err("it has no version; env!(\"CARGO_PKG_VERSION\") is a good one".to_owned());
    }
    if description.subscriptions.is_empty() {
        return Err("it has no subscription; add .subscribe(…) to its description".to_owned());
    }
    for collection in &description.collections {
        names::check_name(collection, &['_'])?;
    }
    for filter in &description.publishes {
        subject::check_filter(filter)?;
        check_not_reserved(filter)?;
    }
    for (n, subscription) in description.subscriptions.iter().enumerate() {
        let filter = &subscription.subject;
        subject::check_filter(filter)?;
        check_key_source(subscription)?;
        let earlier = &description.subscriptions[..n];
        if let Some(other) = earlier.iter().find(|s| subject::overlap(&s.subject, filter)) {
            return Err(format!("subscriptions '{}' and '{filter}' overlap", other.subject));
        }
        if let Some(c) =
            subscription.read_ahead.iter().find(|c| !description.collections.contains(c))
        {
            return Err(format!(
                "subscription '{filter}' reads ahead '{c}', an undeclared collection"
            ));
        }
        if subscription.key == KeySource::None && !subscription.read_ahead.is_empty() {
            return Err(format!("subscription '{filter}' reads ahead but has no key"));
        }
    }
    Ok(())
}

/// Subjects that begin with `$` are commands to the server, save those of key-value buckets.
fn check_not_reserved(subject: &str) -> Result<(), String> {
    if subject.starts_with('$') && !subject.starts_with("$KV.") {
        return Err(format!("subject '{subject}' belongs to NATS itself"));
    }
    Ok(())
}

fn check_key_source(
    Subscription { subject: filter, key, .. }: &Subscription,
) -> Result<(), String> {
    match key {
        KeySource::SubjectToken(n)
            if !filter.ends_with('>') && *n as usize >= filter.split('.').count() =>
        {
            Err(format!("the key of subscription '{filter}' is token {n}, which it does not have"))
        }
        KeySource::PayloadField(pointer) if !pointer.starts_with('/') => Err(format!(
            "the key of subscription '{filter}' is payload field '{pointer}'; a JSON Pointer \
             begins with '/', such as /account"
        )),
        _ => Ok(()),
    }
}

/// Checks what a handler returned.
pub fn check_effects(description: &Description, effects: &Effects) -> Result<(), String> {
    let Effects { mutations, messages, cancellations } = effects;
    let count = mutations.len() + messages.len() + cancellations.len();
    if count > EFFECTS {
        return Err(format!("it has {count} effects; {EFFECTS} are allowed"));
    }
    let mut size = 0;
    for mutation in mutations {
        size += check_mutation(description, mutation)?;
    }
    for message in messages {
        size += check_message(description, message)
            .map_err(|why| format!("the message to {}: {why}", message.subject))?;
    }
    for name in cancellations {
        check_schedule_name(name)?;
    }
    if size > EFFECTS_SIZE {
        return Err(format!("its effects have {size} bytes; {EFFECTS_SIZE} are allowed"));
    }
    Ok(())
}

fn check_mutation(description: &Description, mutation: &Mutation) -> Result<usize, String> {
    let (collection, key) = match mutation {
        Mutation::Put(document) => (&document.collection, &document.key),
        Mutation::Delete(id) => (&id.collection, &id.key),
    };
    if !description.collections.contains(collection) {
        return Err(format!(
            "it changes {collection}/{key}, but does not declare the collection; add \
             .collection(\"{collection}\") to its description"
        ));
    }
    names::check_key(key).map_err(|why| format!("the key of {collection}/{key:?} {why}"))?;
    match mutation {
        Mutation::Put(document) => check_body(document)
            .map_err(|why| format!("document {collection}/{key} {why}"))
            .map(|()| document.body.len()),
        Mutation::Delete(_) => Ok(0),
    }
}

fn check_body(document: &Document) -> Result<(), String> {
    let body = &document.body;
    if body.len() > DOCUMENT_SIZE {
        return Err(format!("has {} bytes; {DOCUMENT_SIZE} are allowed", body.len()));
    }
    let value: serde_json::Value =
        serde_json::from_str(body).map_err(|error| format!("is not JSON: {error}"))?;
    if has_nul(&value) {
        return Err("has a NUL (\\u0000) in a string, which Postgres cannot store".to_owned());
    }
    Ok(())
}

fn has_nul(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains('\0'),
        serde_json::Value::Array(items) => items.iter().any(has_nul),
        serde_json::Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value))
        }
        _ => false,
    }
}

fn check_message(description: &Description, message: &Outgoing) -> Result<usize, String> {
    subject::check(&message.subject)?;
    check_not_reserved(&message.subject)?;
    if !description.publishes.iter().any(|filter| subject::matches(filter, &message.subject)) {
        return Err(format!(
            "no declared subject covers it ({}); add .publish(\"{}\") to the description",
            description.publishes.join(", "),
            message.subject
        ));
    }
    for header in &message.headers {
        names::check_header(header)?;
        let name = header.name.to_ascii_lowercase();
        if name.starts_with("nats-") || name.starts_with("tribox-") {
            return Err(format!("header {} is the host's; use another name", header.name));
        }
    }
    if message.payload.len() > PAYLOAD_SIZE {
        let size = message.payload.len();
        return Err(format!("its payload has {size} bytes; {PAYLOAD_SIZE} are allowed"));
    }
    let waits = message.due.is_some() || message.expires_after.is_some();
    if message.delivery == Delivery::Transient && (waits || message.schedule_name.is_some()) {
        return Err("a transient message takes no due time, expiry or schedule name".to_owned());
    }
    // The host ignores the name of a message without a due time.
    let name = message.schedule_name.as_deref().filter(|_| message.due.is_some());
    name.map_or(Ok(()), check_schedule_name)?;
    Ok(message.payload.len())
}

fn check_schedule_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 255 || name.contains('\0') {
        return Err(format!("schedule name {name:?} must have 1 to 255 bytes, and no NUL"));
    }
    Ok(())
}
