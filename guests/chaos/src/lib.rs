//! Does what its payload says, mostly what a handler must not do: tribox's own example, to see that
//! the host stops each of it, names it, and harms nothing else.
//!
//! `chaos.<key>.do` with `{"do": "<verb>", …}`; the verbs are the variants of [`Verb`]. What it
//! finds out stands in document `chaos/<key>` and in an event `chaos.events.<key>.<verb>`.

mod effects;
mod surroundings;
mod traps;

use serde::Deserialize;
use serde_json::{Value, json};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

const COLLECTION: &str = "chaos";

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Verb {
    // Traps.
    Panic,
    Spin,
    Allocate,
    Stack,
    ReadOutside,
    // Failures. `retry-until` fails until `ready` was done for the same key, or for key `of`.
    Reject,
    Retry,
    RetryUntil { of: Option<String> },
    Ready,
    // Effects that the host or Postgres refuses.
    Flood { n: u32 },
    Many { n: u32 },
    WriteOutside,
    PublishOutside,
    PublishNowhere,
    InvalidJson,
    Nul,
    NulKey,
    HugeDocument { bytes: usize },
    HugeMessage { bytes: usize },
    Header { name: String, value: String },
    Poison { what: effects::Poison },
    // Effects that are fine.
    Ok,
    Count,
    Delete,
    Transient,
    Delay { ms: u64 },
    Schedule { name: String, at: Option<u64>, after: Option<u64> },
    Cancel { name: String },
    Expire,
    // What a handler sees around it.
    Clock,
    Random,
    File,
    Print { text: String },
    List { prefix: String },
    Read { keys: Vec<String> },
}

struct Chaos;

impl Handler for Chaos {
    fn describe() -> Description {
        Description::new("chaos", env!("CARGO_PKG_VERSION"))
            .subscribe(Subscription::to("chaos.*.do").key_from_subject(1).read_ahead(COLLECTION))
            .collection(COLLECTION)
            .publish("chaos.events.*.*")
            .publish("nowhere.>")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let key = message.key()?;
        match message.json()? {
            Verb::Panic if cfg!(feature = "mended") => count(key),
            Verb::Panic => traps::panic(key),
            Verb::Spin => traps::spin(),
            Verb::Allocate => traps::allocate(),
            Verb::Stack => traps::stack(),
            Verb::ReadOutside => traps::read_outside(key),
            Verb::Reject => Err(Failure::reject(format!("{key} was told to reject"))),
            Verb::Retry => Err(Failure::retry(format!("{key} was told to retry"))),
            Verb::RetryUntil { of } => retry_until(key, of.as_deref().unwrap_or(key)),
            Verb::Ready => told(key, "ready", &json!({"ready": true})),
            Verb::Flood { n } => effects::flood(key, n),
            Verb::Many { n } => effects::many(key, n),
            Verb::WriteOutside => effects::write_outside(key),
            Verb::PublishOutside => effects::publish("accounts.7.credit"),
            Verb::PublishNowhere => effects::publish("nowhere.x"),
            Verb::InvalidJson => effects::put_text(key, "{\"unfinished\": "),
            Verb::Nul => effects::put_text(key, r#"{"text":"a\u0000b"}"#),
            Verb::NulKey => effects::put_text(&format!("{key}\0"), "{}"),
            Verb::HugeDocument { bytes } => effects::huge_document(key, bytes),
            Verb::HugeMessage { bytes } => effects::huge_message(key, bytes),
            Verb::Header { name, value } => effects::header(key, name, value),
            Verb::Poison { what } => effects::poison(key, what),
            Verb::Ok => told(key, "ok", &json!({"id": message.id})),
            Verb::Count => count(key),
            Verb::Delete => effects::delete(key),
            Verb::Transient => effects::transient(key),
            Verb::Delay { ms } => effects::delay(key, ms),
            Verb::Schedule { name, at, after } => effects::schedule(key, name, at, after),
            Verb::Cancel { name } => effects::cancel(name),
            Verb::Expire => effects::expire(key, message.stored_at),
            Verb::Clock => told(key, "clock", &surroundings::clock(message.stored_at)),
            Verb::Random => told(key, "random", &surroundings::random()),
            Verb::File => told(key, "file", &surroundings::file()),
            Verb::Print { text } => told(key, "print", &surroundings::print(&text)),
            Verb::List { prefix } => list(key, &prefix),
            Verb::Read { keys } => read(key, &keys),
        }
    }
}

tribox_guest::export!(Chaos);

/// Writes `body` into the key's document and sends it as an event.
fn told(key: &str, event: &str, body: &Value) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.put(COLLECTION, key, body)?;
    effects.send(format!("chaos.events.{key}.{event}"), body)?;
    Ok(effects)
}

fn retry_until(key: &str, of: &str) -> Result<Effects, Failure> {
    match documents::get::<Value>(COLLECTION, of)? {
        Some(document) if document["ready"] == true => told(key, "done", &document),
        _ => Err(Failure::retry(format!("{of} is not ready yet"))),
    }
}

fn count(key: &str) -> Result<Effects, Failure> {
    let before: Option<Value> = documents::get(COLLECTION, key)?;
    let count = before.and_then(|document| document["count"].as_u64()).unwrap_or(0) + 1;
    told(key, "count", &json!({"count": count}))
}

fn list(key: &str, prefix: &str) -> Result<Effects, Failure> {
    let keys: Vec<String> =
        documents::list::<Value>(COLLECTION, prefix)?.into_iter().map(|(key, _)| key).collect();
    told(key, "list", &json!({"keys": keys}))
}

fn read(key: &str, keys: &[String]) -> Result<Effects, Failure> {
    let found: Vec<Option<Value>> =
        keys.iter().map(|key| documents::get(COLLECTION, key)).collect::<Result<_, _>>()?;
    told(key, "read", &json!({"found": found}))
}

#[cfg(test)]
mod tests;
