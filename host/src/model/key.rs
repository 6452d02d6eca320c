//! The key of a message: what its subscription picks out of it. The same in a host and offline.

use super::description::{KeySource, Subscription};
use super::message::Header;
use super::rules::MAX_KEY;
use super::subject;

/// The key of a message of `subject`, by the subscription that it belongs to; `None` where that one
/// asks for none.
///
/// # Errors
/// There is no such subscription, or the message lacks the key that it asks for.
pub fn key_of(
    subscriptions: &[Subscription],
    subject: &str,
    headers: &[Header],
    payload: &[u8],
) -> Result<Option<String>, String> {
    match subscriptions.iter().find(|s| subject::matches(&s.subject, subject)) {
        Some(subscription) => pick(&subscription.key, subject, headers, payload),
        None => Err("no subscription of the handler matches its subject any more".to_owned()),
    }
}

/// Picks the key out of a message.
fn pick(
    source: &KeySource,
    subject: &str,
    headers: &[Header],
    payload: &[u8],
) -> Result<Option<String>, String> {
    let key = match source {
        KeySource::None => return Ok(None),
        KeySource::SubjectToken(n) => {
            let token = usize::try_from(*n).ok().and_then(|n| subject.split('.').nth(n));
            token.map(str::to_owned).ok_or_else(|| format!("its subject has no token {n}"))?
        }
        KeySource::Header(name) => {
            let header = headers.iter().find(|h| h.name == *name);
            header.map(|h| h.value.clone()).ok_or_else(|| format!("it has no header '{name}'"))?
        }
        KeySource::PayloadField(pointer) => payload_key(pointer, payload)?,
    };
    if key.is_empty() {
        return Err(format!("its key ({source}) is empty"));
    }
    if key.len() > MAX_KEY {
        return Err(format!("its key ({source}) has {} bytes; {MAX_KEY} are allowed", key.len()));
    }
    if key.contains('\0') {
        return Err(format!("its key ({source}) contains NUL, which Postgres cannot store"));
    }
    Ok(Some(key))
}

fn payload_key(pointer: &str, payload: &[u8]) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_slice(payload)
        .map_err(|why| format!("its payload is not JSON ({why}), and the key is in {pointer}"))?;
    match value.pointer(pointer) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(number.to_string())
        }
        Some(other) => {
            let kind = match other {
                serde_json::Value::Null => "null",
                serde_json::Value::Bool(_) => "a boolean",
                serde_json::Value::Number(_) => "a fraction",
                serde_json::Value::Array(_) => "an array",
                serde_json::Value::Object(_) => "an object",
                serde_json::Value::String(_) => "a string",
            };
            Err(format!("its payload has {kind} at {pointer}; a key is a string or an integer"))
        }
        None => Err(format!("its payload has nothing at {pointer}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(source: KeySource, payload: &str) -> Result<Option<String>, String> {
        let headers = [Header { name: "Order".into(), value: "o1".into() }];
        pick(&source, "a.7.c", &headers, payload.as_bytes())
    }

    #[test]
    fn keys_are_picked_from_subject_header_and_payload() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        let field = |pointer: &str| KeySource::PayloadField(pointer.into());
        assert_eq!(picked(KeySource::None, ""), Ok(None));
        assert_eq!(picked(KeySource::SubjectToken(1), ""), some("7"));
        assert_eq!(picked(KeySource::Header("Order".into()), ""), some("o1"));
        assert_eq!(picked(field("/a/b"), r#"{"a":{"b":"x"}}"#), some("x"));
        assert_eq!(picked(field("/a"), r#"{"a":42}"#), some("42"));
    }

    #[test]
    fn a_missing_or_bad_key_is_named() {
        let field = |payload: &str| picked(KeySource::PayloadField("/id".into()), payload);
        for (outcome, part) in [
            (picked(KeySource::SubjectToken(9), ""), "no token 9"),
            (picked(KeySource::Header("x".into()), ""), "no header 'x'"),
            (field(""), "not JSON"),
            (field("{\"id\":"), "not JSON"),
            (field("{}"), "nothing at /id"),
            (field(r#"{"id":1.5}"#), "a fraction"),
            (field(r#"{"id":""}"#), "is empty"),
            (field(r#"{"id":"a\u0000"}"#), "NUL"),
            (field(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1_025))), "1025 bytes"),
        ] {
            let error = outcome.expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }
}
