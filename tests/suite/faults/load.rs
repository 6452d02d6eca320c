//! A small load whose every consequence is known: keys that count, one that is tried again and has
//! messages waiting behind it, one whose message dies, and one that sends something for later.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::{Stack, chaos};

use crate::ledger::Ledger;

/// Keys that count, and how often each does.
const COUNTING: u64 = 4;
const COUNTS: u64 = 6;
/// Where deaths are told, and what no stream takes until it is made.
const DEATHS: &str = "DEATHS";
const NOWHERE: &str = "NOWHERE";

/// Drops the handler in and makes its streams.
pub async fn prepare(stack: &Stack) -> Result<()> {
    chaos::prepare(stack).await?;
    stack.broker.create_stream(DEATHS, &["tribox.dead.>"]).await
}

/// What it is told: (key, what to do).
fn orders(nowhere: bool) -> Vec<(String, Value)> {
    let count = || json!({"do": "count"});
    let of = |key: &str, what: Value| (key.to_owned(), what);
    let mut orders = vec![of("waits", count())];
    for n in 0..COUNTING * COUNTS {
        orders.push((format!("counts-{}", n % COUNTING), count()));
        match n {
            // Behind the first turns, which are those that most things go wrong in.
            12 => orders.extend([
                of("waits", json!({"do": "retry-until", "of": "gate"})),
                of("dies", json!({"do": "reject"})),
                of("later", json!({"do": "delay", "ms": 200})),
                of("waits", count()),
            ]),
            14 if nowhere => orders.push(of("nowhere", json!({"do": "publish-nowhere"}))),
            _ => {}
        }
    }
    orders.extend([of("waits", count()), of("dies", count()), of("gate", json!({"do": "ready"}))]);
    orders
}

/// Tells it all.
pub async fn publish(stack: &Stack, nowhere: bool) -> Result<()> {
    let order = |(n, (key, what)): (usize, (String, Value))| {
        (format!("order-{n}"), format!("chaos.{key}.do"), what.to_string())
    };
    stack.broker.publish_all(orders(nowhere).into_iter().enumerate().map(order)).await
}

/// What it is to tell for it: the events of each key, in order.
fn due() -> BTreeMap<String, Vec<(String, Value)>> {
    let of = |verb: &str, body: Value| (verb.to_owned(), body);
    let count = |n: u64| of("count", json!({"count": n}));
    let ready = json!({"ready": true});
    let mut due: BTreeMap<_, _> =
        (0..COUNTING).map(|n| (format!("counts-{n}"), (1..=COUNTS).map(count).collect())).collect();
    // Being done puts another document in the place of the count.
    let waits = vec![count(1), of("done", ready.clone()), count(1), count(2)];
    due.insert("waits".to_owned(), waits);
    due.insert("gate".to_owned(), vec![of("ready", ready)]);
    due.insert("dies".to_owned(), vec![count(1)]);
    due.insert("later".to_owned(), vec![of("delay", json!({"ms": 200}))]);
    due
}

/// What keeps the run from being over. A stream for what no stream takes is made once that is said.
pub async fn left(stack: &Stack, nowhere: bool) -> Result<(), String> {
    let text = |e: anyhow::Error| format!("{e:#}");
    let mut left = Vec::new();
    let handled = "SELECT count(*) FROM tribox.inbox";
    let unsent = "SELECT count(*) FROM tribox.outbox o JOIN tribox.writers w ON w.id = o.writer
                   WHERE o.seq > w.published";
    let parked = "SELECT count(*) FROM tribox.parked WHERE state <> 'dead'";
    let delayed = "SELECT count(*) FROM tribox.scheduled";
    let set_aside = "SELECT count(*) FROM tribox.undelivered";
    let all = i64::try_from(orders(nowhere).len()).unwrap_or(i64::MAX);
    let mut not = async |what: &str, sql: &'static str, wanted: i64| {
        let found = stack.number(sql).await.map_err(text)?;
        if found != wanted {
            left.push(format!("{what}: {found}"));
        }
        Ok::<i64, String>(found)
    };
    not("handled", handled, all).await?;
    not("unpublished", unsent, 0).await?;
    not("parked", parked, 0).await?;
    not("delayed", delayed, 0).await?;
    let waiting = not("set aside", set_aside, 0).await?;
    match stack.broker.consumer(chaos::ORDERS, "tribox-chaos").await {
        Ok(info) if info.num_pending == 0 && info.num_ack_pending == 0 => {}
        Ok(info) => left.push(format!("not acknowledged: {}", info.num_ack_pending)),
        Err(why) => left.push(format!("{why:#}")),
    }
    if nowhere {
        let there = stack.broker.count(NOWHERE).await;
        if waiting > 0 && there.is_err() {
            stack.broker.create_stream(NOWHERE, &["nowhere.>"]).await.map_err(text)?;
        }
        if there.ok() != Some(1) {
            left.push("nothing has arrived of what no stream took".to_owned());
        }
    }
    if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
}

/// Asks the database and the streams, and not the hosts.
pub async fn ledger(stack: &Stack, nowhere: bool) -> Result<Ledger> {
    let mut ledger = Ledger::default();
    let mut told: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    let mut ids = HashSet::new();
    for event in chaos::told(&stack.broker).await? {
        if ids.insert(event.id) {
            told.entry(event.key).or_default().push((event.verb, event.body));
        } else {
            ledger.published_twice += 1;
        }
    }
    for (key, due) in due() {
        let found = told.remove(&key).unwrap_or_default();
        compare(&mut ledger, &due, &found);
        // Only what is told for later changes no document.
        let last = due.iter().rfind(|(verb, _)| verb != "delay").map(|(_, body)| body);
        let document = stack.document("chaos", &key).await?;
        if document.as_ref() != last {
            ledger.applied_twice += 1;
            println!("document {key}: {document:?} and not {last:?}");
        }
    }
    ledger.applied_twice += u64::try_from(told.len())?;
    let [dead] = &stack.parked().await?[..] else { anyhow::bail!("not one message has died") };
    anyhow::ensure!((&*dead.state, &*dead.reason) == ("dead", "reject"), "{dead:?}");
    let deaths = stack.broker.count(DEATHS).await.context("deaths")?;
    ledger.lost += 1_u64.saturating_sub(deaths);
    ledger.published_twice += deaths.saturating_sub(1);
    let inbox = stack.number("SELECT count(*) FROM tribox.inbox").await?;
    let all = i64::try_from(orders(nowhere).len())?;
    ledger.applied_twice += u64::try_from((inbox - all).max(0))?;
    Ok(ledger)
}

/// The events of a key as they are due and as they stand in the stream.
fn compare(ledger: &mut Ledger, due: &[(String, Value)], found: &[(String, Value)]) {
    let mut extra = found.to_vec();
    let mut missing = 0;
    for event in due {
        match extra.iter().position(|other| other == event) {
            Some(at) => drop(extra.remove(at)),
            None => missing += 1,
        }
    }
    ledger.lost += missing;
    ledger.applied_twice += extra.len() as u64;
    if missing == 0 && extra.is_empty() && due != found {
        ledger.out_of_order += 1;
    }
    if due != found {
        println!("due {due:?}, found {found:?}");
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let event = |n: u64| ("count".to_owned(), json!({ "count": n }));
    let of = |found: &[u64]| {
        let mut ledger = Ledger::default();
        let found: Vec<_> = found.iter().copied().map(event).collect();
        compare(&mut ledger, &[event(1), event(2), event(3)], &found);
        (ledger.lost, ledger.applied_twice, ledger.out_of_order)
    };
    assert_eq!(of(&[1, 2, 3]), (0, 0, 0));
    assert_eq!(of(&[1, 3]), (1, 0, 0));
    assert_eq!(of(&[1, 2, 2, 3]), (0, 1, 0));
    assert_eq!(of(&[2, 1, 3]), (0, 0, 1));
}
