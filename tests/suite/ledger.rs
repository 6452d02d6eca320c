//! What became of commands under load, asked of the database and the stream and not of the hosts: a ledger
//! that is all zero, or a guarantee is broken.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tribox_tests::{Broker, Stack, wait_within};

use crate::books::{self, EVENTS};

/// Commands that are published at once, and the pause behind them: the load is to last.
const CHUNK: u64 = 20;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a stream may take to store a command.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is wrong at the end: all zero, or a guarantee is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    pub lost: u64,
    pub applied_twice: u64,
    pub published_twice: u64,
    pub out_of_order: u64,
    pub stuck: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { lost, applied_twice, published_twice, out_of_order, stuck } = self;
        write!(
            f,
            "lost {lost}, applied twice {applied_twice}, published twice {published_twice}, out of \
             order {out_of_order}, stuck {stuck}"
        )
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, more: Ledger) {
        self.lost += more.lost;
        self.applied_twice += more.applied_twice;
        self.published_twice += more.published_twice;
        self.out_of_order += more.out_of_order;
        self.stuck += more.stuck;
    }
}

/// Publishes commands one after the other, each until a stream has it, until it is over;
/// returns how many.
pub async fn load(broker: &Broker, over: &Cell<bool>) -> Result<u64> {
    let mut next = 0;
    while !over.get() {
        for (id, subject, body) in (next..next + CHUNK).map(books::credit) {
            wait_within(PATIENCE, "a command is stored", async || {
                broker.publish_as(&id, &subject, body.clone()).await.map_err(|e| format!("{e:#}"))
            })
            .await?;
        }
        next += CHUNK;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(next)
}

/// What keeps the run from being over.
pub async fn left(stack: &Stack, commands: u64) -> Result<(), String> {
    let text = |e: anyhow::Error| format!("{e:#}");
    let handled = stack.number("SELECT count(*) FROM tribox.inbox").await.map_err(text)?;
    let unsent = "SELECT count(*) FROM tribox.outbox o JOIN tribox.writers w ON w.id = o.writer
                   WHERE o.seq > w.published";
    let unsent = stack.number(unsent).await.map_err(text)?;
    let parked = stack.number("SELECT count(*) FROM tribox.parked").await.map_err(text)?;
    if handled >= i64::try_from(commands).unwrap_or(i64::MAX) && unsent == 0 && parked == 0 {
        return Ok(());
    }
    Err(format!("{handled} handled, {unsent} unpublished, {parked} parked"))
}

/// The ledger of the first so many credits; `stuck`: not all of them were handled in time.
pub async fn ledger(stack: &Stack, commands: u64, stuck: bool) -> Result<Ledger> {
    let mut ledger = Ledger { stuck: u64::from(stuck), ..Ledger::default() };
    let mut due: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for n in 0..commands {
        let (_, subject, _) = books::credit(n);
        let account = subject.split('.').nth(1).context("an account")?.to_owned();
        due.entry(account).or_default().push(n + 1);
    }
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut ids: HashMap<Option<String>, u64> = HashMap::new();
    for event in stack.broker.read(EVENTS).await? {
        let body = event.json();
        let account = body["account"].as_str().context("an account")?.to_owned();
        *ids.entry(event.id).or_default() += 1;
        told.entry(account).or_default().push(body["amount"].as_u64().unwrap_or(0));
    }
    ledger.published_twice = ids.values().map(|count| count - 1).sum();
    for (account, amounts) in due {
        let found = told.remove(&account).unwrap_or_default();
        let missing = amounts.iter().filter(|amount| !found.contains(amount)).count();
        ledger.lost += u64::try_from(missing)?;
        ledger.out_of_order += u64::try_from(found.windows(2).filter(|w| w[0] > w[1]).count())?;
        let document = stack.document("accounts", &account).await?.unwrap_or_default();
        let changes = document["changes"].as_u64().unwrap_or(0);
        let count = u64::try_from(amounts.len())?;
        ledger.applied_twice += changes.saturating_sub(count);
        ledger.lost += count.saturating_sub(changes);
        let expected = json!(amounts.iter().sum::<u64>());
        if changes == count && document["balance"] != expected {
            ledger.applied_twice += 1;
        }
    }
    Ok(ledger)
}
