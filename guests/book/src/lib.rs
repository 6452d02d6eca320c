//! The handler `book` of the simulation (`tests/simulation/handlers.rs`) as a component. The simulation
//! runs it in the real sandbox, and compares all that comes of it with the native one.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

#[derive(Deserialize)]
struct Told {
    n: u64,
    op: String,
    #[serde(default)]
    other: String,
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    after: u64,
    name: Option<String>,
}

struct Book;

impl Handler for Book {
    fn describe() -> Description {
        Description::new("book", "1")
            .subscribe(
                Subscription::to("in.*")
                    .key_from_subject(1)
                    .read_ahead("lists")
                    .read_ahead("accounts"),
            )
            .collection("lists")
            .collection("accounts")
            .collection("items")
            .collection("marks")
            .publish("out.>")
            .publish("next.>")
            .publish("later.>")
            .publish("late.>")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let key = message.key()?;
        let told: Told = message.json()?;
        let mut effects = Effects::new();
        let mut event = json!({ "n": told.n });
        match told.op.as_str() {
            "reject" => return Err(Failure::Reject("as it was told".to_owned())),
            "transfer" => event["moved"] = json!(transfer(&mut effects, key, &told)?),
            "first" => {
                let there = documents::page::<Value>("items", "", None, 1)?;
                event["first"] = json!(there.is_empty());
                effects.put("items", &format!("{key}-{}", told.n), &1)?;
            }
            "remove" => {
                let there = documents::page::<Value>("items", "", None, 2)?;
                event["saw"] = json!(there.len());
                if let Some((first, _)) = there.first() {
                    effects.delete("items", first);
                }
            }
            "mark" => drop(effects.put("marks", &told.other, &told.n)?),
            "poison" => drop(effects.put("marks", key, "poison")?),
            "delay" => {
                let outgoing = effects.send(format!("later.{key}"), &json!({ "n": told.n }))?;
                outgoing.after(Duration::from_millis(told.after));
                if let Some(name) = &told.name {
                    outgoing.named(name);
                }
            }
            "cancel" => {
                if let Some(name) = &told.name {
                    effects.cancel(name);
                }
            }
            "late" => drop(effects.send(format!("late.{key}"), &json!({ "n": told.n }))?),
            _ => {
                let seen: Option<Vec<u64>> = documents::get("lists", &told.other)?;
                let before: Option<Vec<u64>> = documents::get("lists", key)?;
                let mut list = before.clone().unwrap_or_default();
                list.push(told.n);
                effects.put("lists", key, &list)?;
                event["saw"] = json!([[key, before], [told.other, seen]]);
                effects.send(format!("next.{key}"), &json!({ "n": told.n }))?;
            }
        }
        effects.send(format!("out.{key}"), &event)?;
        Ok(effects)
    }
}

/// Moves an amount from one account to another, if it is there; whether it did.
fn transfer(effects: &mut Effects, key: &str, told: &Told) -> Result<bool, Failure> {
    let from: i64 = documents::get("accounts", key)?.unwrap_or(100);
    let to: i64 = documents::get("accounts", &told.other)?.unwrap_or(100);
    let moves = told.other != key && from >= told.amount;
    if moves {
        effects.put("accounts", key, &(from - told.amount))?;
        effects.put("accounts", &told.other, &(to + told.amount))?;
    }
    Ok(moves)
}

tribox_guest::export!(Book);
