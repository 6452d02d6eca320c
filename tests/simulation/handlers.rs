//! The handlers of the simulated world: pure functions, as guests are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tribox::lane::ports::Handler;
use tribox::model::{
    Call, Delivery, Description, Document, Documents, Due, Effects, Failure, KeySource, Message,
    Mutation, Outgoing, Subscription, Unreadable, Verdict,
};
use tribox::sandbox::Guest;

use crate::world::World;

/// Keeps lists, accounts and items; what it is told stands in `in.<key>`.
pub const BOOK: &str = "book";
/// Follows what `book` passes on, in `next.<key>`.
pub const TAIL: &str = "tail";
/// Counts what arrives, on every node, without keys.
pub const COUNT: &str = "count";

pub fn description(name: &str) -> Description {
    let (subject, key, collections, publishes) = match name {
        BOOK => (
            "in.*",
            KeySource::SubjectToken(1),
            vec!["lists", "accounts", "items", "marks"],
            vec!["out.>", "next.>", "later.>", "late.>"],
        ),
        TAIL => ("next.*", KeySource::SubjectToken(1), vec!["tails"], vec![]),
        _ => ("in.*", KeySource::None, vec!["counts"], vec![]),
    };
    let read_ahead = match name {
        BOOK => vec!["lists".to_owned(), "accounts".to_owned()],
        TAIL => vec!["tails".to_owned()],
        _ => Vec::new(),
    };
    Description {
        name: name.to_owned(),
        version: "1".to_owned(),
        subscriptions: vec![Subscription { subject: subject.to_owned(), key, read_ahead }],
        collections: collections.into_iter().map(str::to_owned).collect(),
        publishes: publishes.into_iter().map(str::to_owned).collect(),
    }
}

/// A handler as lanes call it. `retry` fails for as long as the world is broken.
pub struct Simulated {
    description: Description,
    world: World,
    component: Option<Guest>,
}

impl Simulated {
    pub fn new(name: &str, world: World) -> Simulated {
        let component = world.look().component.clone().filter(|_| name == BOOK);
        Simulated { description: description(name), world, component }
    }
}

impl Handler for Simulated {
    fn description(&self) -> &Description {
        &self.description
    }

    fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call {
        let broken = self.world.look().broken;
        let fails = broken && is_retry(message);
        if let Some(guest) = self.component.as_ref().filter(|_| !fails) {
            return guest.call(message, documents);
        }
        let mut documents = documents.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = handle(&self.description.name, message, &mut *documents, broken);
        Call { verdict, fuel: 0, memory: 0 }
    }
}

/// Whether a message fails for as long as the world is broken.
fn is_retry(message: &Message) -> bool {
    let told = serde_json::from_slice::<Value>(&message.payload);
    told.is_ok_and(|told| told["op"] == "retry")
}

/// Handles a message against any documents: the lane's, or the reference's.
pub fn handle(
    handler: &str,
    message: &Message,
    documents: &mut dyn Documents,
    broken: bool,
) -> Result<Verdict, Unreadable> {
    let Ok(told) = serde_json::from_slice::<Value>(&message.payload) else {
        return Ok(Verdict::Failed(Failure::Reject("not JSON".to_owned())));
    };
    let key = message.key.clone().unwrap_or_default();
    let mut turn = Turn { documents, effects: Effects::default(), n: told["n"].clone() };
    match handler {
        BOOK => {
            let fails = match told["op"].as_str() {
                Some("reject") => Some(Failure::Reject("as it was told".to_owned())),
                Some("retry") if broken => Some(Failure::Retry("not yet".to_owned())),
                _ => None,
            };
            if let Some(failure) = fails {
                return Ok(Verdict::Failed(failure));
            }
            turn.book(&key, &told)?;
        }
        TAIL => turn.append("tails", &key).map(drop)?,
        _ => {
            let bucket = format!("{}", told["n"].as_u64().unwrap_or_default() % 3);
            let count = turn.get("counts", &bucket)?.as_u64().unwrap_or_default();
            turn.put("counts", &bucket, &json!(count + 1));
        }
    }
    Ok(Verdict::Effects(turn.effects))
}

struct Turn<'a> {
    documents: &'a mut dyn Documents,
    effects: Effects,
    n: Value,
}

impl Turn<'_> {
    fn get(&mut self, collection: &str, key: &str) -> Result<Value, Unreadable> {
        let body = self.documents.get(collection, key)?;
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or(Value::Null))
    }

    fn put(&mut self, collection: &str, key: &str, body: &Value) {
        self.effects.mutations.push(Mutation::Put(Document {
            collection: collection.to_owned(),
            key: key.to_owned(),
            body: body.to_string(),
        }));
    }

    fn send(&mut self, subject: String, payload: &Value) {
        self.effects.messages.push(Outgoing {
            subject,
            headers: Vec::new(),
            payload: payload.to_string().into(),
            delivery: Delivery::Durable,
            due: None,
            expires_after: None,
            schedule_name: None,
        });
    }

    /// Appends this message's number to a list; what stood there before.
    fn append(&mut self, collection: &str, key: &str) -> Result<Value, Unreadable> {
        let before = self.get(collection, key)?;
        let mut list = before.as_array().cloned().unwrap_or_default();
        list.push(self.n.clone());
        self.put(collection, key, &Value::Array(list));
        Ok(before)
    }

    fn book(&mut self, key: &str, told: &Value) -> Result<(), Unreadable> {
        let other = told["other"].as_str().unwrap_or_default().to_owned();
        let mut event = json!({ "n": self.n });
        match told["op"].as_str().unwrap_or_default() {
            "transfer" => {
                let of = |value: Value| value.as_i64().unwrap_or(100);
                let from = of(self.get("accounts", key)?);
                let to = of(self.get("accounts", &other)?);
                let amount = told["amount"].as_i64().unwrap_or_default();
                let moves = other != key && from >= amount;
                if moves {
                    self.put("accounts", key, &json!(from - amount));
                    self.put("accounts", &other, &json!(to + amount));
                }
                event["moved"] = json!(moves);
            }
            "first" => {
                let there = self.documents.list("items", "", None, 1)?;
                event["first"] = json!(there.is_empty());
                let name = format!("{key}-{}", self.n);
                self.put("items", &name, &json!(1));
            }
            "remove" => {
                let there = self.documents.list("items", "", None, 2)?;
                event["saw"] = json!(there.len());
                if let Some(document) = there.first() {
                    self.effects.mutations.push(Mutation::Delete {
                        collection: "items".to_owned(),
                        key: document.key.clone(),
                    });
                }
            }
            "mark" => self.put("marks", &other, &json!(self.n)),
            "poison" => self.put("marks", key, &json!("poison")),
            "delay" => {
                self.effects.messages.push(Outgoing {
                    subject: format!("later.{key}"),
                    headers: Vec::new(),
                    payload: json!({ "n": self.n }).to_string().into(),
                    delivery: Delivery::Durable,
                    due: Some(Due::After(told["after"].as_u64().unwrap_or_default())),
                    expires_after: None,
                    schedule_name: told["name"].as_str().map(str::to_owned),
                });
            }
            "cancel" => {
                self.effects.cancellations.extend(told["name"].as_str().map(str::to_owned));
            }
            "late" => self.send(format!("late.{key}"), &json!({ "n": self.n })),
            // `append`, and `retry` once it goes through.
            _ => {
                let seen = self.get("lists", &other)?;
                let before = self.append("lists", key)?;
                event["saw"] = json!([[key, before], [other, seen]]);
                self.send(format!("next.{key}"), &json!({ "n": self.n }));
            }
        }
        self.send(format!("out.{key}"), &event);
        Ok(())
    }
}

/// Documents in a map: what the reference handles messages against.
#[derive(Debug, Default)]
pub struct Plain(pub BTreeMap<(String, String), String>);

impl Plain {
    pub fn apply(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            let (collection, key) = mutation.target();
            let at = (collection.to_owned(), key.to_owned());
            match mutation {
                Mutation::Put(document) => drop(self.0.insert(at, document.body.clone())),
                Mutation::Delete { .. } => drop(self.0.remove(&at)),
            }
        }
    }
}

impl Documents for Plain {
    fn get(&mut self, collection: &str, key: &str) -> Result<Option<String>, Unreadable> {
        Ok(self.0.get(&(collection.to_owned(), key.to_owned())).cloned())
    }

    fn list(
        &mut self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Unreadable> {
        let found = self.0.iter().filter(|((c, key), _)| {
            c == collection
                && key.starts_with(prefix)
                && after.is_none_or(|after| key.as_str() > after)
        });
        let found = found.take(usize::try_from(limit).unwrap_or(usize::MAX));
        let document = |((c, key), body): (&(String, String), &String)| Document {
            collection: c.clone(),
            key: key.clone(),
            body: body.clone(),
        };
        Ok(found.map(document).collect())
    }
}
