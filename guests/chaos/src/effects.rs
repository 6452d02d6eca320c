//! Effects that the host or Postgres refuses, and some that are fine.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tribox_guest::{Effects, Failure, Timestamp};

use crate::COLLECTION;

/// JSON that is well-formed and that Postgres does not take for `jsonb`, or does not give back.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Poison {
    /// A number beyond `numeric`.
    Number,
    /// Half of a surrogate pair.
    Surrogate,
    /// Arrays in arrays, deeper than the server's stack.
    Depth,
    /// Numbers that are short as written and ten thousand digits as read: 700 KB become 1 GB.
    Bomb,
}

pub fn poison(key: &str, what: Poison) -> Result<Effects, Failure> {
    match what {
        Poison::Number => put_text(key, "1e400000"),
        Poison::Surrogate => put_text(key, r#""\ud800""#),
        Poison::Depth => put_text(key, &("[".repeat(100_000) + &"]".repeat(100_000))),
        Poison::Bomb => put_text(key, &format!("[{}0]", "1e9990,".repeat(100_000))),
    }
}

pub fn put_text(key: &str, body: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.put_json(COLLECTION, key, body.to_owned());
    Ok(effects)
}

pub fn write_outside(key: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.put("accounts", key, &json!({"balance": 1_000_000}))?;
    Ok(effects)
}

pub fn publish(subject: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.send(subject, &json!({"amount": 1_000_000}))?;
    Ok(effects)
}

pub fn flood(key: &str, n: u32) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    for n in 0..n {
        effects.send(format!("chaos.events.{key}.flood"), &json!({ "n": n }))?;
    }
    Ok(effects)
}

/// Documents `<key>/0`, `<key>/1` and so on.
pub fn many(key: &str, n: u32) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    for n in 0..n {
        effects.put(COLLECTION, &format!("{key}/{n}"), &json!({ "n": n }))?;
    }
    Ok(effects)
}

/// A document of exactly this many bytes, of which there are at least two.
pub fn huge_document(key: &str, bytes: usize) -> Result<Effects, Failure> {
    put_text(key, &format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))))
}

pub fn huge_message(key: &str, bytes: usize) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.send_bytes(format!("chaos.events.{key}.huge"), vec![b'x'; bytes]);
    Ok(effects)
}

pub fn header(key: &str, name: String, value: String) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.send(format!("chaos.events.{key}.header"), &json!({}))?.header(name, value);
    Ok(effects)
}

pub fn delete(key: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.delete(COLLECTION, key);
    Ok(effects)
}

pub fn transient(key: &str) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.send(format!("chaos.events.{key}.transient"), &json!({}))?.transient();
    Ok(effects)
}

pub fn delay(key: &str, ms: u64) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects
        .send(format!("chaos.events.{key}.delay"), &json!({ "ms": ms }))?
        .after(Duration::from_millis(ms));
    Ok(effects)
}

/// Due `at` milliseconds since the epoch or `after` milliseconds, or at once.
pub fn schedule(
    key: &str,
    name: String,
    at: Option<u64>,
    after: Option<u64>,
) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    let event = effects.send(format!("chaos.events.{key}.schedule"), &json!({ "name": name }))?;
    event.named(name);
    if let Some(time) = at {
        event.at(time);
    } else if let Some(ms) = after {
        event.after(Duration::from_millis(ms));
    }
    Ok(effects)
}

pub fn cancel(name: String) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.cancel(name);
    Ok(effects)
}

/// Due an hour before the message was stored and expired a second later: it is never published.
pub fn expire(key: &str, stored_at: Timestamp) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects
        .send(format!("chaos.events.{key}.expire"), &json!({}))?
        .at(stored_at.saturating_sub(3_600_000))
        .expires_after(Duration::from_secs(1));
    Ok(effects)
}
