//! The audit: reads the state from Postgres and the events from their stream, and compares both
//! with the plan. The host has no part in it.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::PgPool;
use tribox_tests::{Broker, Stored};

use crate::plan::{Event, Plan};
use crate::publish::{COMMANDS, EVENTS};

/// One thing that must hold.
#[derive(Debug)]
pub struct Finding {
    pub what: String,
    /// Empty if it holds.
    pub wrong: Vec<String>,
}

/// What was found.
#[derive(Debug)]
pub struct Audit {
    pub findings: Vec<Finding>,
    /// Messages in the stream of commands beyond the first of each id: the duplicates that the host
    /// really met.
    pub duplicates: usize,
    pub events: usize,
}

/// A live document: collection, key, body.
pub type Row = (String, String, Value);

/// Reads everything and compares it with the plan.
pub async fn check(plan: &Plan, pool: &PgPool, broker: &Broker) -> Result<Audit> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT collection, key, body::text FROM tribox.documents WHERE body IS NOT NULL",
    )
    .fetch_all(pool)
    .await
    .context("failed to read tribox.documents")?;
    let parse = |(collection, key, body): (String, String, String)| {
        Ok((collection, key, serde_json::from_str(&body)?))
    };
    let rows: Vec<Row> = rows.into_iter().map(parse).collect::<Result<_>>()?;
    Ok(compare(plan, &rows, &broker.read(COMMANDS).await?, &broker.read(EVENTS).await?))
}

/// Compares what was found with the plan.
pub fn compare(plan: &Plan, rows: &[Row], commands: &[Stored], events: &[Stored]) -> Audit {
    let ids: HashSet<_> = commands.iter().filter_map(|m| m.id.as_deref()).collect();
    let findings = vec![
        published(plan, &ids),
        state(plan, rows),
        once(plan, events),
        first_items(plan, events),
        order(plan, events),
    ];
    Audit { findings, duplicates: commands.len() - ids.len(), events: events.len() }
}

fn published(plan: &Plan, ids: &HashSet<&str>) -> Finding {
    let missing = plan.commands.iter().filter(|command| !ids.contains(command.id.as_str()));
    Finding {
        what: format!("{} commands stand in their stream", plan.commands.len()),
        wrong: missing.map(|command| format!("{} is missing", command.id)).collect(),
    }
}

/// Every document is what the commands, each taken once, come to.
fn state(plan: &Plan, rows: &[Row]) -> Finding {
    let mut found = BTreeMap::new();
    for (collection, key, body) in rows {
        let essence = match collection.as_str() {
            "accounts" => json!([body["balance"], body["changes"]]),
            _ => body["lines"].clone(),
        };
        found.insert((collection.clone(), key.clone()), essence);
    }
    let mut expected = BTreeMap::new();
    for (key, account) in &plan.accounts {
        let essence = json!([account.balance, account.changes]);
        expected.insert(("accounts".to_owned(), key.clone()), essence);
    }
    for (key, order) in &plan.orders {
        expected.insert(("orders".to_owned(), key.clone()), json!(order.lines));
    }
    let keys: HashSet<_> = expected.keys().chain(found.keys()).collect();
    let differ = keys.into_iter().filter(|key| expected.get(*key) != found.get(*key));
    let wrong = differ
        .map(|key| {
            let (expected, found) = (show(expected.get(key)), show(found.get(key)));
            format!("{}/{} should be {expected} and is {found}", key.0, key.1)
        })
        .collect();
    let (accounts, orders) = (plan.accounts.len(), plan.orders.len());
    Finding { what: format!("{accounts} balances and {orders} orders add up"), wrong }
}

/// No message id and no content stands in the stream twice, and none is missing.
fn once(plan: &Plan, events: &[Stored]) -> Finding {
    let mut wrong = Vec::new();
    let (mut ids, mut contents) = (HashSet::new(), HashSet::new());
    for event in events {
        match &event.id {
            Some(id) if !ids.insert(id) => wrong.push(format!("id {id} stands there twice")),
            Some(_) => {}
            None => wrong.push(format!("event {} has no id", event.sequence)),
        }
        // Each event tells what it counts, so that no two of one subject are alike.
        let counted = event.json();
        let counted = (counted["sequence"].as_u64(), counted["line"].as_u64());
        if counted != (None, None) && !contents.insert((&event.subject, counted)) {
            wrong.push(format!("{} {counted:?} stands there twice", event.subject));
        }
    }
    let expected = plan.events();
    if events.len() != expected {
        wrong.push(format!("{} events, and {expected} were due", events.len()));
    }
    Finding { what: format!("{expected} events stand in their stream, each once"), wrong }
}

fn first_items(plan: &Plan, events: &[Stored]) -> Finding {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for event in events.iter().filter(|e| e.subject.ends_with(".first-item-added")) {
        *counts.entry(place(event).1.to_owned()).or_default() += 1;
    }
    let orders = plan.orders.keys();
    let wrong = orders
        .filter_map(|order| match counts.get(order).copied().unwrap_or(0) {
            1 => None,
            count => Some(format!("order {order}: {count} times")),
        })
        .collect();
    Finding { what: format!("FirstItemAdded once for each of {} orders", plan.orders.len()), wrong }
}

/// The events of each account and order, in stream order, are those of its commands in theirs.
fn order(plan: &Plan, events: &[Stored]) -> Finding {
    let mut found: BTreeMap<(&str, &str), Vec<Event>> = BTreeMap::new();
    for event in events {
        let (family, key, kind) = place(event);
        found.entry((family, key)).or_default().push((kind.to_owned(), event.json()));
    }
    let accounts = plan.accounts.iter().map(|(key, account)| (("accounts", key), &account.events));
    let orders = plan.orders.iter().map(|(key, order)| (("orders", key), &order.events));
    let mut wrong = Vec::new();
    for ((family, key), expected) in accounts.chain(orders) {
        let found = found.remove(&(family, key.as_str())).unwrap_or_default();
        let length = expected.len().max(found.len());
        if let Some(at) = (0..length).find(|&at| expected.get(at) != found.get(at)) {
            let (expected, found) = (expected.get(at), found.get(at));
            wrong.push(format!(
                "{family} {key}, event {}: {expected:?} was due and {found:?} came",
                at + 1
            ));
        }
    }
    wrong.extend(found.keys().map(|(family, key)| format!("{family} {key} is unknown")));
    Finding {
        what: "the events of each account and order in the order of its commands".into(),
        wrong,
    }
}

/// Family, key and kind of an event: `accounts.events.A001.overdrawn`.
fn place(event: &Stored) -> (&str, &str, &str) {
    let mut tokens = event.subject.split('.');
    let family = tokens.next().unwrap_or_default();
    let key = tokens.nth(1).unwrap_or_default();
    (family, key, tokens.next().unwrap_or_default())
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "missing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests;
