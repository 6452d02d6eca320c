//! Accounts under load, as several tests use them: commands whose every consequence is known, and
//! the audit of what became of them.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::{self, DiscardPolicy};
use serde_json::json;
use tribox_tests::{Stack, Stored};

pub const COMMANDS: &str = "COMMANDS";
pub const EVENTS: &str = "EVENTS";
const ACCOUNTS: u64 = 12;

/// Drops the handler in and makes its streams.
pub async fn prepare(stack: &Stack) -> Result<()> {
    prepare_replicated(stack, 1).await
}

/// [`prepare`], with streams that are kept so many times. Can be repeated.
pub async fn prepare_replicated(stack: &Stack, replicas: usize) -> Result<()> {
    stack.drop_in(&["accounts"])?;
    let commands = ["accounts.*.credit", "accounts.*.debit", "accounts.*.enforce-overdrawn"];
    for (name, subjects) in [(COMMANDS, &commands[..]), (EVENTS, &["accounts.events.*.*"])] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            num_replicas: replicas,
            ..stream::Config::default()
        };
        stack.broker.create_stream_with(config).await?;
    }
    Ok(())
}

fn account(n: u64) -> String {
    format!("A{}", n % ACCOUNTS)
}

/// Credit `n`: of `n` + 1 cents, to the accounts in turn. Each causes one event.
pub fn credit(n: u64) -> (String, String, String) {
    let body = json!({"amount": n + 1}).to_string();
    (format!("credit-{n}"), format!("accounts.{}.credit", account(n)), body)
}

/// Publishes credits.
pub async fn publish(stack: &Stack, credits: Range<u64>) -> Result<()> {
    stack.broker.publish_all(credits.map(credit)).await
}

/// Lets the stream of events take nothing more: what is committed from now on stays unpublished.
pub async fn close_events(stack: &Stack) -> Result<()> {
    limit_events(stack, 1).await
}

/// Lets the stream of events take everything again.
pub async fn open_events(stack: &Stack) -> Result<()> {
    limit_events(stack, -1).await
}

async fn limit_events(stack: &Stack, max_bytes: i64) -> Result<()> {
    let stream = stack.broker.jetstream.get_stream(EVENTS).await?;
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = max_bytes;
    config.discard = DiscardPolicy::New;
    stack.broker.jetstream.update_stream(config).await?;
    Ok(())
}

/// Waits until the first `count` credits are handled and told, and holds that every account adds up,
/// that each event stands in its stream once, and that those of an account are in the order of its
/// credits.
pub async fn audit(stack: &Stack, count: u64) -> Result<Vec<Stored>> {
    stack.handled(i64::try_from(count)?).await?;
    let events = stack.broker.read_when(EVENTS, count).await?;
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in &events {
        let body = event.json();
        let account = body["account"].as_str().context("an event without an account")?;
        told.entry(account.to_owned()).or_default().push(body["amount"].as_u64().unwrap_or(0));
    }
    let ids: HashSet<_> = events.iter().map(|event| &event.id).collect();
    ensure!(ids.len() == events.len(), "{} ids of {} events", ids.len(), events.len());
    let mut due: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for n in 0..count {
        due.entry(account(n)).or_default().push(n + 1);
    }
    for (account, amounts) in &due {
        let found = told.remove(account).unwrap_or_default();
        ensure!(found == *amounts, "{account} was told {found:?}, and {amounts:?} were due");
        let document = stack.document("accounts", account).await?;
        let expected = json!({"balance": amounts.iter().sum::<u64>(), "changes": amounts.len()});
        ensure!(document == Some(expected.clone()), "{account}: {document:?} for {expected}");
    }
    ensure!(told.is_empty(), "events of others: {told:?}");
    Ok(events)
}
