//! Messages that fail: what each policy makes of them, that a key which is held stays in order, that
//! another build heals what died by the fault of one, and that a death is told.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tribox_tests::chaos::{self, ORDERS};
use tribox_tests::{FaultProxy, Host, Stack, programs, wait_until};

use crate::bad_servers;

const PARKED: &str = "SELECT count(*) FROM tribox.parked";
const OPEN: &str = "SELECT count(*) FROM tribox.parked WHERE state <> 'dead'";
const UNDELIVERED: &str = "SELECT count(*) FROM tribox.undelivered";
const UNPUBLISHED: &str = "SELECT count(*) FROM tribox.outbox o
    JOIN tribox.writers w ON w.id = o.writer WHERE o.seq > w.published";

async fn chaos(name: &str) -> Result<Stack> {
    let stack = Stack::new(name).await?;
    chaos::prepare(&stack).await?;
    Ok(stack)
}

async fn order(stack: &Stack, id: &str, key: &str, verb: &str) -> Result<()> {
    chaos::order(&stack.broker, id, key, &json!({"do": verb})).await.map(drop)
}

/// The counts that chaos told of a key, in the order of the stream.
async fn counts(stack: &Stack, key: &str) -> Result<Vec<u64>> {
    let told = chaos::told(&stack.broker).await?;
    let of_key = told.iter().filter(|told| told.key == key && told.verb == "count");
    Ok(of_key.filter_map(|told| told.body["count"].as_u64()).collect())
}

async fn execute(stack: &Stack, sql: &'static str) -> Result<u64> {
    Ok(sqlx::query(sql).execute(&stack.pool).await?.rows_affected())
}

#[tokio::test]
async fn a_dead_message_can_hold_its_key() -> Result<()> {
    let mut stack = chaos("hold").await?;
    stack.config.set("handlers.chaos.hold", true);
    let host = stack.serve().await?;
    order(&stack, "dead", "k", "reject").await?;
    order(&stack, "behind-1", "k", "count").await?;
    order(&stack, "other", "free", "count").await?;
    stack.until(PARKED, 2).await?;
    assert_eq!(chaos::told_when(&stack.broker, 1).await?[0].key, "free");
    host.stop().await?;

    // Over a restart, too.
    let host = stack.serve().await?;
    order(&stack, "behind-2", "k", "count").await?;
    stack.until(PARKED, 3).await?;
    let states: Vec<_> = stack.parked().await?.into_iter().map(|p| (p.state, p.attempts)).collect();
    let waiting = ("waiting".to_owned(), 0);
    assert_eq!(states, [("holding".to_owned(), 1), waiting.clone(), waiting]);

    // Whoever discards it frees the key.
    assert_eq!(execute(&stack, "DELETE FROM tribox.parked WHERE state = 'holding'").await?, 1);
    execute(&stack, "SELECT tribox.wake('chaos', 'k')").await?;
    stack.until(PARKED, 0).await?;
    order(&stack, "behind-3", "k", "count").await?;
    chaos::told_when(&stack.broker, 4).await?;
    assert_eq!(counts(&stack, "k").await?, [1, 2, 3]);
    host.stop().await
}

#[tokio::test]
async fn what_waits_behind_nothing_is_next() -> Result<()> {
    let mut stack = chaos("behind-nothing").await?;
    stack.config.set("handlers.chaos.hold", true);
    let host = stack.serve().await?;
    order(&stack, "dead", "k", "reject").await?;
    stack.until(PARKED, 1).await?;
    // By hand, and without a word to the host.
    execute(&stack, "DELETE FROM tribox.parked").await?;
    order(&stack, "behind-1", "k", "count").await?;
    order(&stack, "behind-2", "k", "count").await?;
    chaos::told_when(&stack.broker, 2).await?;
    stack.until(PARKED, 0).await?;
    assert_eq!(counts(&stack, "k").await?, [1, 2]);
    host.stop().await
}

#[tokio::test]
async fn a_trap_is_tried_again_where_that_is_wanted() -> Result<()> {
    let mut stack = chaos("retry-traps").await?;
    stack.config.set("handlers.chaos.on_trap", "retry");
    stack.config.set("handlers.chaos.retry.attempts", 3);
    stack.config.set("handlers.chaos.retry.backoff", "20ms");
    let host = stack.serve().await?;
    order(&stack, "panics", "k", "panic").await?;
    order(&stack, "behind", "k", "count").await?;
    stack.until("SELECT count(*) FROM tribox.parked WHERE state = 'dead'", 1).await?;
    let parked = stack.parked().await?;
    assert_eq!(
        (&*parked[0].message_id, &*parked[0].reason, parked[0].attempts),
        ("panics", "trap", 3)
    );
    chaos::told_when(&stack.broker, 1).await?;
    host.stop().await
}

/// Drops a later build of chaos, which does not panic, in the place of the one that runs.
fn mend(stack: &Stack) -> Result<()> {
    stack.drop_in_file(&programs::guest("chaos_mended")?, "chaos")
}

async fn die_by_traps(stack: &Stack) -> Result<()> {
    for n in 0..40 {
        order(stack, &format!("a-{n}"), "a", "panic").await?;
        order(stack, &format!("b-{n}"), &format!("b{n}"), "panic").await?;
    }
    order(stack, "rejected", "a", "reject").await?;
    stack.until("SELECT count(*) FROM tribox.parked WHERE state = 'dead'", 81).await
}

#[tokio::test]
async fn another_build_heals_what_died_by_a_trap_in_order() -> Result<()> {
    let mut stack = chaos("heal").await?;
    let host = stack.serve().await?;
    die_by_traps(&stack).await?;
    mend(&stack)?;
    chaos::told_when(&stack.broker, 80).await?;
    stack.until(PARKED, 1).await?;
    assert_eq!(stack.parked().await?[0].reason, "reject", "a decision of the handler stands");
    assert_eq!(counts(&stack, "a").await?, (1..=40).collect::<Vec<_>>());
    // The ids of what was sent are those of the messages' own order.
    let sql = "SELECT translate(tribox.inbox_key('chaos', 'a-' || n)::text, '-', '') || '-0'
                 FROM generate_series(0, 39) AS n ORDER BY n";
    let expected: Vec<String> = sqlx::query_scalar(sql).fetch_all(&stack.pool).await?;
    let told = chaos::told(&stack.broker).await?.into_iter().filter(|told| told.key == "a");
    assert_eq!(told.map(|told| told.id).collect::<Vec<_>>(), expected);
    let healed = host.metric("tribox_healed_total{handler=\"chaos\"}").await?;
    assert_eq!(healed as u64, 80);
    host.stop().await
}

#[tokio::test]
async fn a_build_that_comes_while_no_host_runs_heals_too() -> Result<()> {
    let mut stack = chaos("heal-start").await?;
    let host = stack.serve().await?;
    die_by_traps(&stack).await?;
    host.stop().await?;
    // The same build tries nothing again, and neither does one that is told not to.
    let host = stack.serve().await?;
    order(&stack, "c-1", "c", "count").await?;
    chaos::told_when(&stack.broker, 1).await?;
    assert_eq!(stack.number(OPEN).await?, 0);
    host.stop().await?;
    mend(&stack)?;
    stack.config.set("handlers.chaos.heal", false);
    let host = stack.serve().await?;
    order(&stack, "c-2", "c", "count").await?;
    chaos::told_when(&stack.broker, 2).await?;
    assert_eq!((stack.number(OPEN).await?, stack.number(PARKED).await?), (0, 81));
    host.stop().await?;
    stack.config.set("handlers.chaos.heal", true);
    let host = stack.serve().await?;
    chaos::told_when(&stack.broker, 82).await?;
    stack.until(PARKED, 1).await?;
    host.stop().await
}

#[tokio::test]
async fn a_death_is_told_once_and_kept_where_a_stream_takes_it() -> Result<()> {
    let mut stack = chaos("told").await?;
    stack.broker.create_stream("DEAD", &["deaths.>"]).await?;
    stack.config.set("dead.subject", "deaths.of.{handler}");
    let host = stack.serve().await?;
    order(&stack, "r-1", "k", "reject").await?;
    let told = stack.broker.read_when("DEAD", 1).await?;
    assert_eq!(told[0].subject, "deaths.of.chaos");
    let body = told[0].json();
    let expected = json!({"handler": "chaos", "id": "r-1", "subject": "chaos.k.do", "key": "k",
        "reason": "reject", "error": "k was told to reject", "attempts": 1,
        "stored_at": body["stored_at"]});
    assert_eq!(body, expected);
    host.stop().await
}

#[tokio::test]
async fn a_death_that_no_stream_takes_goes_to_whoever_listens() -> Result<()> {
    let mut stack = chaos("told-core").await?;
    let host = stack.serve().await?;
    let mut listening = stack.broker.client.subscribe("tribox.dead.*").await?;
    stack.broker.client.flush().await?;
    order(&stack, "p-1", "k", "panic").await?;
    let heard = tokio::time::timeout(Duration::from_secs(20), listening.next()).await?;
    let heard: Value = serde_json::from_slice(&heard.expect("a message").payload)?;
    assert_eq!((&heard["id"], &heard["reason"]), (&json!("p-1"), &json!("trap")));
    listening.unsubscribe().await?;
    // With nobody listening nothing stays behind, and the log goes on.
    order(&stack, "p-2", "k", "panic").await?;
    order(&stack, "c-1", "k", "count").await?;
    chaos::told_when(&stack.broker, 1).await?;
    stack.until(UNPUBLISHED, 0).await?;
    assert_eq!(stack.number(UNDELIVERED).await?, 0);
    host.stop().await
}

#[tokio::test]
async fn a_message_that_is_past_is_not_handled() -> Result<()> {
    let mut stack = chaos("past").await?;
    let publish = async |stack: &Stack, id: &str, past: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id);
        headers.insert("ce-expirytime", past);
        stack.broker.publish_with(headers, "chaos.k.do", r#"{"do": "count"}"#).await
    };
    publish(&stack, "past", "2020-01-01T00:00:00Z").await?;
    publish(&stack, "future", "2120-01-01T00:00:00Z").await?;
    let host = stack.serve().await?;
    stack.handled(2).await?;
    stack.broker.settled(ORDERS, "chaos").await?;
    chaos::told_when(&stack.broker, 1).await?;
    assert_eq!(counts(&stack, "k").await?, [1]);
    assert_eq!(stack.number(PARKED).await?, 0);
    let metric = "tribox_expired_unhandled_total{handler=\"chaos\"}";
    assert_eq!(host.metric(metric).await? as u64, 1);
    host.stop().await
}

/// A model of chaos: what it tells for the messages of one key, handled one after the other.
fn model(verbs: &[Verb]) -> Vec<(&'static str, u64)> {
    let (mut told, mut count) = (Vec::new(), 0);
    for verb in verbs {
        match verb {
            Verb::Count => {
                count += 1;
                told.push(("count", count));
            }
            Verb::RetryUntil => {
                // It writes the gate's document into its own: counting begins anew.
                count = 0;
                told.push(("done", 0));
            }
            Verb::Reject | Verb::Panic => {}
        }
    }
    told
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Count,
    RetryUntil,
    Reject,
    Panic,
}

fn published(verb: Verb, gate: u64) -> Value {
    match verb {
        Verb::Count => json!({"do": "count"}),
        Verb::RetryUntil => json!({"do": "retry-until", "of": format!("gate{gate}")}),
        Verb::Reject => json!({"do": "reject"}),
        Verb::Panic => json!({"do": "panic"}),
    }
}

/// Thousands of keys with random failures and retries, servers taken away and given back, a kill and
/// a restart among them: each key tells
/// what it would tell if its messages were handled one by one.
#[tokio::test]
async fn thousands_of_keys_stay_in_order_through_failures() -> Result<()> {
    const KEYS: usize = 2_000;
    const GATES: u64 = 7;
    let mut stack = chaos("model").await?;
    for (key, value) in [("backoff", "100ms"), ("cap", "400ms")] {
        stack.config.set(&format!("handlers.chaos.retry.{key}"), value);
    }
    stack.config.set("handlers.chaos.retry.attempts", 100_000);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut histories: Vec<Vec<Verb>> = vec![Vec::new(); KEYS];
    let mut messages = Vec::new();
    for n in 0..6_000 {
        let key = usize::try_from(next(u64::try_from(KEYS)?))?;
        let verb = match next(100) {
            0..=3 => Verb::Reject,
            4..=6 => Verb::Panic,
            7..=11 => Verb::RetryUntil,
            _ => Verb::Count,
        };
        histories[key].push(verb);
        let body = published(verb, next(GATES)).to_string();
        messages.push((format!("m-{n}"), format!("chaos.k{key}.do"), body));
    }
    let proxy = FaultProxy::start(bad_servers::port(stack.database_url())).await?;
    stack.config.set("postgres.url", proxy.instead_of(stack.database_url()));
    let mut host = stack.serve().await?;
    for (n, chunk) in messages.chunks(1_200).enumerate() {
        stack.broker.publish_all(chunk.iter().cloned()).await?;
        host = disturb(&mut stack, &proxy, host, n).await?;
    }
    for gate in 0..GATES {
        order(&stack, &format!("gate-{gate}"), &format!("gate{gate}"), "ready").await?;
    }
    stack.until(OPEN, 0).await?;
    let expected: usize = histories.iter().map(|verbs| model(verbs).len()).sum();
    let told = chaos::told_when(&stack.broker, expected + usize::try_from(GATES)?).await?;
    let mut by_key: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for told in &told {
        let count = told.body["count"].as_u64().unwrap_or(0);
        by_key.entry(&told.key).or_default().push((&told.verb, count));
    }
    for (n, verbs) in histories.iter().enumerate() {
        let key = format!("k{n}");
        let found = by_key.remove(key.as_str()).unwrap_or_default();
        assert_eq!(found, model(verbs), "key {key}: {verbs:?}");
    }
    assert_eq!(by_key.len(), usize::try_from(GATES)?);
    host.stop().await
}

async fn disturb(stack: &mut Stack, proxy: &FaultProxy, mut host: Host, n: usize) -> Result<Host> {
    match n {
        0 => {
            stack.nats.kill()?;
            stack.nats.start_again().await?;
            return Ok(host);
        }
        1 => {
            proxy.refuse();
            wait_until("the host misses Postgres", async || match host.get("/readyz").await {
                Ok(answer) if answer.body.contains("postgres: ") => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await?;
            proxy.restore();
            return Ok(host);
        }
        2 => host.kill()?,
        3 => host.stop().await?,
        _ => return Ok(host),
    }
    stack.serve().await
}
