//! What handling a message may do.

use super::{
    MAX_DELAY, MAX_KEY, MAX_SCHEDULE_NAME, MAX_SUBJECT, MAX_TIMESTAMP, is_header_name,
    is_host_header, is_reserved, shorten, shorten_list,
};
use crate::model::{
    Delivery, Description, Due, Effects, Header, Limits, Mutation, Outgoing, json, subject,
};

/// Checks what a call of the guest returned, against its description and the limits, and rewrites
/// the bodies of documents in the one form that they are kept in (see [`json::canonical`]).
///
/// # Errors
/// A sentence that names the effect by its index, its value and what is allowed.
pub fn check_effects(
    description: &Description,
    limits: &Limits,
    effects: &mut Effects,
) -> Result<(), String> {
    let size = size(effects);
    let Effects { mutations, messages, cancellations } = effects;
    let count = mutations.len() + messages.len() + cancellations.len();
    if count > limits.effects {
        return Err(format!("{count} effects; at most {} are allowed", limits.effects));
    }
    if size > limits.effects_size {
        let limit = limits.effects_size;
        return Err(format!("the effects have {size} bytes in all; at most {limit} are allowed"));
    }
    for (n, mutation) in mutations.iter_mut().enumerate() {
        check_mutation(description, limits, mutation).map_err(|why| {
            let (collection, key) = mutation.target();
            let (collection, key) = (shorten(collection), shorten(key));
            format!("mutation {n} (document {key:?} of collection {collection:?}) {why}")
        })?;
    }
    for (n, message) in messages.iter().enumerate() {
        check_message(description, limits, message).map_err(|why| {
            let subject = shorten(&message.subject);
            format!("message {n} (to {subject:?}) {why}")
        })?;
    }
    for (n, name) in cancellations.iter().enumerate() {
        check_schedule_name(name).map_err(|why| format!("cancellation {n} {why}"))?;
    }
    Ok(())
}

/// Bytes of all that a guest wrote.
fn size(effects: &Effects) -> usize {
    let mutations = effects.mutations.iter().map(|mutation| {
        let (collection, key) = mutation.target();
        let body = match mutation {
            Mutation::Put(document) => document.body.len(),
            Mutation::Delete { .. } => 0,
        };
        collection.len() + key.len() + body
    });
    let messages = effects.messages.iter().map(|message| {
        let headers = message.headers.iter().map(|h| h.name.len() + h.value.len());
        let name = message.schedule_name.as_ref().map_or(0, String::len);
        message.subject.len() + message.payload.len() + name + headers.sum::<usize>()
    });
    let cancellations = effects.cancellations.iter().map(String::len);
    mutations.chain(messages).chain(cancellations).sum()
}

fn check_mutation(
    description: &Description,
    limits: &Limits,
    mutation: &mut Mutation,
) -> Result<(), String> {
    let (collection, key) = mutation.target();
    if !description.collections.iter().any(|declared| declared == collection) {
        return Err(format!(
            "is outside the handler's declared collections {}",
            shorten_list(&description.collections)
        ));
    }
    if !(1..=MAX_KEY).contains(&key.len()) || key.contains('\0') {
        return Err(format!(
            "has a key of {} bytes; allowed are 1 to {MAX_KEY} bytes without NUL",
            key.len()
        ));
    }
    let Mutation::Put(document) = mutation else { return Ok(()) };
    let (length, limit) = (document.body.len(), limits.document_size);
    if length > limit {
        return Err(format!("has a body of {length} bytes; at most {limit} are allowed"));
    }
    document.body = json::canonical(&document.body, limit).map_err(|why| {
        format!("has a body ({:?}) that is no JSON to be stored: {why}", shorten(&document.body))
    })?;
    Ok(())
}

fn check_message(
    description: &Description,
    limits: &Limits,
    message: &Outgoing,
) -> Result<(), String> {
    let subject = &message.subject;
    if subject.len() > MAX_SUBJECT {
        let length = subject.len();
        return Err(format!("has a subject of {length} bytes; at most {MAX_SUBJECT} are allowed"));
    }
    subject::check_subject(subject).map_err(|why| format!("is not valid: {why}"))?;
    if is_reserved(subject) {
        return Err("goes to a subject of NATS itself, which no handler may publish to".into());
    }
    if !description.publishes.iter().any(|filter| subject::matches(filter, subject)) {
        return Err(format!(
            "is outside the subjects that the handler declares to publish to, {}",
            shorten_list(&description.publishes)
        ));
    }
    for (n, header) in message.headers.iter().enumerate() {
        check_header(header).map_err(|why| format!("has header {n} {why}"))?;
    }
    let (length, limit) = (message.payload.len(), limits.payload_size);
    if length > limit {
        return Err(format!("has a payload of {length} bytes; at most {limit} are allowed"));
    }
    check_delivery(message)
}

fn check_header(header: &Header) -> Result<(), String> {
    let name = &header.name;
    if !is_header_name(name) {
        let name = shorten(name);
        return Err(format!("named {name:?}; allowed is printable ASCII without space and colon"));
    }
    if is_host_header(name) {
        let name = shorten(name);
        return Err(format!("named {name:?}; names starting with Nats- or Tribox- are the host's"));
    }
    if header.value.contains(['\r', '\n', '\0']) {
        let (name, value) = (shorten(name), shorten(&header.value));
        return Err(format!("({name}) with value {value:?}; CR, LF and NUL are not allowed"));
    }
    Ok(())
}

fn check_delivery(message: &Outgoing) -> Result<(), String> {
    let Outgoing { delivery, due, expires_after, schedule_name, .. } = message;
    if *delivery == Delivery::Transient {
        let given = [
            (due.is_some(), "due"),
            (expires_after.is_some(), "expires-after"),
            (schedule_name.is_some(), "schedule-name"),
        ];
        if let Some((_, what)) = given.iter().find(|(given, _)| *given) {
            return Err(format!("is transient and has {what}; only durable messages may have one"));
        }
    }
    match due {
        Some(Due::After(delay)) if *delay > MAX_DELAY => {
            return Err(format!("is due after {delay} ms; at most {MAX_DELAY} are allowed"));
        }
        Some(Due::At(time)) if *time > MAX_TIMESTAMP => {
            return Err(format!(
                "is due at {time} ms; the last time allowed is {MAX_TIMESTAMP}, the end of 9999"
            ));
        }
        _ => {}
    }
    if let Some(after) = expires_after.filter(|after| *after > MAX_DELAY) {
        return Err(format!("expires after {after} ms; at most {MAX_DELAY} are allowed"));
    }
    match (due, schedule_name) {
        (Some(_), Some(name)) => check_schedule_name(name),
        _ => Ok(()),
    }
}

fn check_schedule_name(name: &str) -> Result<(), String> {
    if (1..=MAX_SCHEDULE_NAME).contains(&name.len()) && !name.contains('\0') {
        return Ok(());
    }
    Err(format!(
        "has schedule name {:?} of {} bytes; allowed are 1 to {MAX_SCHEDULE_NAME} without NUL",
        shorten(name),
        name.len()
    ))
}

#[cfg(test)]
#[path = "effects_tests.rs"]
mod tests;
