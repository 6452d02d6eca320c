//! Several nodes on one database: one of them has a handler with keys, others stand by and take over:
//! at once after an end in order, within the lease after a crash. What a dead node left is published by
//! one other, and one that was frozen finds itself fenced out and begins anew.

use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::jetstream::stream;
use serde_json::json;
use tribox_tests::{FaultProxy, Host, Stack, wait_until, wait_within};

use crate::books::{self, COMMANDS, EVENTS};

const HANDLED: &str = "SELECT count(*) FROM tribox.inbox";
/// Whether node b has accounts.
const B_HAS_IT: &str = "SELECT count(*) FROM tribox.owners o
    JOIN tribox.nodes n ON n.name = o.node AND n.epoch = o.epoch AND NOT n.clean
    WHERE o.unit = 'accounts' AND o.node = 'b'";

async fn serve(stack: &mut Stack, name: &str) -> Result<Host> {
    stack.config.set("node.name", name);
    stack.serve().await
}

/// A host that handles accounts, and one that stands by.
async fn two(name: &str, lease: &str) -> Result<(Stack, Host, Host)> {
    let mut stack = Stack::new(name).await?;
    stack.config.set("node.lease", lease);
    books::prepare(&stack).await?;
    let a = serve(&mut stack, "a").await?;
    has_lanes(&stack, "a").await?;
    let b = serve(&mut stack, "b").await?;
    Ok((stack, a, b))
}

/// Waits until a node works on a handler.
async fn has_lanes(stack: &Stack, node: &str) -> Result<()> {
    wait_until(&format!("{node} works"), async || {
        let sql = "SELECT count(*) FROM tribox.writers
                    WHERE node = $1 AND opened_at IS NOT NULL AND handler <> '(scheduled)'";
        match sqlx::query_scalar::<_, i64>(sql).bind(node).fetch_one(&stack.pool).await {
            Ok(0) => Err("it has no lanes".to_owned()),
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn a_standby_takes_over_after_a_kill() -> Result<()> {
    let (mut stack, mut a, b) = two("node-kill", "1s").await?;
    b.logs("standing by: node 'a' has it").await?;
    books::publish(&stack, 0..4_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    a.kill()?;
    let (killed, handled) = (Instant::now(), stack.number(HANDLED).await?);
    stack.until(B_HAS_IT, 1).await?;
    let owned = killed.elapsed();
    stack.until_at_least(HANDLED, handled + 1).await?;
    // For people who want to know; nothing is held by it.
    println!("owned after {owned:?}, goes on after {:?}, with a lease of 1 s", killed.elapsed());
    books::audit(&stack, 4_000).await?;
    assert_eq!(b.metric("tribox_takeovers_total").await? as u64, 1);
    // The delayed messages are another one's to move now, too.
    let delayed = "INSERT INTO tribox.scheduled (id, due_at, handler, subject, headers, payload)
        VALUES ('late', now(), 'x', 'accounts.A0.credit', '', '{\"amount\": 4001}')";
    sqlx::query(delayed).execute(&stack.pool).await?;
    stack.handled(4_001).await?;
    let status = stack.tool_json(&["status"])?;
    let state = |name: &str| {
        let nodes = status["nodes"].as_array();
        let node = nodes.and_then(|all| all.iter().find(|node| node["name"] == name));
        node.map(|node| (node["state"].clone(), node["fenced_by"].clone()))
    };
    assert_eq!(state("a"), Some((json!("fenced out"), json!("b"))), "{status:#}");
    assert_eq!(state("b"), Some((json!("running"), json!(null))), "{status:#}");
    let handler = &status["handlers"][0];
    assert_eq!((&handler["owner"], &handler["nodes"]), (&json!("b"), &json!(["b"])), "{status:#}");
    // It comes back as one that stands by, and takes over in turn.
    let a = serve(&mut stack, "a").await?;
    a.logs("standing by: node 'b' has it").await?;
    b.stop().await?;
    stack.until(B_HAS_IT, 0).await?;
    stack.broker.publish_as("last", "accounts.A0.credit", r#"{"amount": 4002}"#).await?;
    stack.handled(4_002).await?;
    a.stop().await
}

/// With a lease that does not end while the test runs.
#[tokio::test]
async fn an_end_in_order_hands_over_at_once() -> Result<()> {
    let (stack, a, b) = two("node-stop", "1h").await?;
    books::publish(&stack, 0..5_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    a.stop().await?;
    let (stopped, handled) = (Instant::now(), stack.number(HANDLED).await?);
    stack.until_at_least(HANDLED, handled + 1).await?;
    println!("goes on {:?} after the other has ended", stopped.elapsed());
    books::audit(&stack, 5_000).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    let by_a = "SELECT count(*) FROM tribox.outbox o JOIN tribox.writers w ON w.id = o.writer
                 WHERE w.node = 'a'";
    let by_a = stack.number(by_a).await?;
    assert!((300..5_000).contains(&by_a), "it was to be stopped on its way: {by_a}");
    let received = b.metric("tribox_received_total{handler=\"accounts\"}").await?;
    assert_eq!(received as i64, 5_000 - by_a, "nothing that was handled comes again");
    let again = b.metric("tribox_duplicates_total{handler=\"accounts\"}").await?;
    assert_eq!(again as i64, 0);
    b.stop().await
}

/// Some of what the dead node committed is in the stream, the rest is not; the stream itself forgets
/// ids at once.
#[tokio::test]
async fn what_a_dead_node_left_is_published_first_and_once() -> Result<()> {
    let (stack, mut a, b) = two("node-left", "1s").await?;
    forgetful_events(&stack).await?;
    books::publish(&stack, 0..100).await?;
    books::audit(&stack, 100).await?;
    books::close_events(&stack).await?;
    books::publish(&stack, 100..300).await?;
    stack.handled(300).await?;
    a.kill()?;
    books::publish(&stack, 300..400).await?;
    stack.until(B_HAS_IT, 1).await?;
    // Taken over are the logs, and not only the handler.
    let taken = "SELECT count(*) FROM tribox.writers w WHERE w.node = 'b' AND w.lane < 0";
    stack.until_at_least(taken, 1).await?;
    b.logs("has published what is left").await?;
    assert_eq!(stack.number(HANDLED).await?, 300, "nothing new goes before what is left");
    books::open_events(&stack).await?;
    books::audit(&stack, 400).await?;
    b.stop().await
}

async fn forgetful_events(stack: &Stack) -> Result<()> {
    let events = stack.broker.jetstream.get_stream(EVENTS).await?;
    let config = events.cached_info().config.clone();
    let duplicate_window = Duration::from_millis(100);
    let config = stream::Config { duplicate_window, ..config };
    stack.broker.jetstream.update_stream(config).await?;
    Ok(())
}

#[tokio::test]
async fn a_frozen_node_is_fenced_out_and_comes_back() -> Result<()> {
    let (stack, a, mut b) = two("node-frozen", "1s").await?;
    books::publish(&stack, 0..4_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    // In the middle of whatever it does.
    a.freeze()?;
    stack.until(B_HAS_IT, 1).await?;
    stack.until_at_least(HANDLED, 2_000).await?;
    a.thaw()?;
    a.logs("fenced out").await?;
    let again = "SELECT count(*) FROM tribox.nodes WHERE name = 'a' AND epoch = 3 AND NOT clean";
    stack.until(again, 1).await?;
    books::audit(&stack, 4_000).await?;
    // It is as good as new.
    b.kill()?;
    books::publish(&stack, 4_000..4_500).await?;
    books::audit(&stack, 4_500).await?;
    a.stop().await
}

/// It is frozen with messages that it could not send yet. When it wakes up another node has sent them, and
/// the stream has forgotten their ids.
#[tokio::test]
async fn what_a_frozen_node_had_to_send_is_not_sent_twice() -> Result<()> {
    let (stack, a, b) = two("node-thaw", "1s").await?;
    forgetful_events(&stack).await?;
    books::close_events(&stack).await?;
    books::publish(&stack, 0..200).await?;
    stack.handled(200).await?;
    a.freeze()?;
    stack.until(B_HAS_IT, 1).await?;
    books::open_events(&stack).await?;
    books::publish(&stack, 200..300).await?;
    books::audit(&stack, 300).await?;
    a.thaw()?;
    a.logs("fenced out").await?;
    a.logs("standing by: node 'b' has it").await?;
    books::publish(&stack, 300..400).await?;
    books::audit(&stack, 400).await?;
    a.stop().await?;
    b.stop().await
}

/// Without anybody to take over it goes on when it wakes up.
#[tokio::test]
async fn a_frozen_node_that_nobody_replaced_goes_on() -> Result<()> {
    let mut stack = Stack::new("node-alone").await?;
    stack.config.set("node.lease", "500ms");
    books::prepare(&stack).await?;
    let a = serve(&mut stack, "a").await?;
    books::publish(&stack, 0..3_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    a.freeze()?;
    let over = "SELECT count(*) FROM tribox.nodes WHERE lease_until < now() - interval '200 ms'";
    stack.until(over, 1).await?;
    a.thaw()?;
    books::audit(&stack, 3_000).await?;
    assert_eq!(stack.number("SELECT epoch FROM tribox.nodes").await?, 1);
    a.stop().await
}

#[tokio::test]
async fn handlers_without_keys_run_on_every_node() -> Result<()> {
    let mut stack = Stack::new("node-keyless").await?;
    stack.drop_in(&["items"])?;
    stack.broker.create_stream(COMMANDS, &["items.create"]).await?;
    stack.broker.create_stream(EVENTS, &["items.created"]).await?;
    stack.config.set("node.lease", "1s").set("handlers.items.turn", 16);
    let mut a = serve(&mut stack, "a").await?;
    let b = serve(&mut stack, "b").await?;
    has_lanes(&stack, "a").await?;
    has_lanes(&stack, "b").await?;
    let item = |n: u32| {
        let body = json!({"name": format!("item {n}")}).to_string();
        (format!("item-{n}"), "items.create".to_owned(), body)
    };
    stack.broker.publish_all((0..3_000).map(item)).await?;
    stack.until_at_least(HANDLED, 1_000).await?;
    let status = stack.tool_json(&["status"])?;
    let handler = &status["handlers"][0];
    assert_eq!((&handler["owner"], &handler["nodes"]), (&json!(null), &json!(["a", "b"])));
    a.kill()?;
    // What it had in hand comes again after 30 seconds.
    wait_within(Duration::from_secs(60), "all are handled", async || {
        match stack.number(HANDLED).await {
            Ok(3_000) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let events = stack.broker.read_when(EVENTS, 3_000).await?;
    assert_eq!(events.len(), 3_000);
    b.stop().await
}

#[tokio::test]
async fn postgres_away_for_longer_than_a_lease_fences_nobody_out() -> Result<()> {
    let mut stack = Stack::new("node-outage").await?;
    stack.config.set("node.lease", "3s");
    books::prepare(&stack).await?;
    let (mut ways, mut hosts) = (Vec::new(), Vec::new());
    for name in ["a", "b"] {
        let way = postgres_proxy(&stack).await?;
        stack.config.set("postgres.url", way.instead_of(stack.database_url()));
        hosts.push(serve(&mut stack, name).await?);
        ways.push(way);
    }
    books::publish(&stack, 0..2_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    ways.iter().for_each(FaultProxy::refuse);
    let over = "SELECT count(*) FROM tribox.nodes WHERE lease_until < now()";
    stack.until(over, 2).await?;
    // The first one to be back finds that the lease of the other one is over, and its own was as well.
    ways[0].restore();
    stack.until(over, 1).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ways[1].restore();
    books::audit(&stack, 2_000).await?;
    let alive = "SELECT count(*) FROM tribox.nodes WHERE lease_until > now() AND epoch = 1";
    stack.until(alive, 2).await?;
    for host in hosts {
        host.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_cut_off_from_postgres_is_replaced_and_comes_back() -> Result<()> {
    let mut stack = Stack::new("node-cut").await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    let proxy = postgres_proxy(&stack).await?;
    let url = stack.database_url().to_owned();
    stack.config.set("postgres.url", proxy.instead_of(&url));
    let a = serve(&mut stack, "a").await?;
    has_lanes(&stack, "a").await?;
    stack.config.set("postgres.url", url);
    let b = serve(&mut stack, "b").await?;
    books::publish(&stack, 0..3_000).await?;
    stack.until_at_least(HANDLED, 300).await?;
    proxy.stall();
    stack.until(B_HAS_IT, 1).await?;
    books::audit(&stack, 3_000).await?;
    proxy.restore();
    a.logs("fenced out").await?;
    a.logs("standing by: node 'b' has it").await?;
    books::publish(&stack, 3_000..3_200).await?;
    books::audit(&stack, 3_200).await?;
    a.stop().await?;
    b.stop().await
}

async fn postgres_proxy(stack: &Stack) -> Result<FaultProxy> {
    let options: sqlx::postgres::PgConnectOptions = stack.database_url().parse()?;
    FaultProxy::start(options.get_port()).await
}

/// Three nodes, of which the one that works is killed again and again, and comes back.
#[tokio::test]
async fn whoever_works_is_killed_again_and_again() -> Result<()> {
    let mut stack = Stack::new("node-three").await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    let mut hosts = Vec::new();
    for name in ["a", "b", "c"] {
        hosts.push((name, serve(&mut stack, name).await?));
    }
    let owner = "SELECT o.node FROM tribox.owners o
        JOIN tribox.nodes n ON n.name = o.node AND n.epoch = o.epoch AND NOT n.clean
        WHERE o.unit = 'accounts'";
    for round in 0..4 {
        books::publish(&stack, round * 1_000..(round + 1) * 1_000).await?;
        stack.until_at_least(HANDLED, i64::try_from(round)? * 1_000 + 200).await?;
        let working: String = sqlx::query_scalar(owner).fetch_one(&stack.pool).await?;
        for (name, host) in &mut hosts {
            if *name == working {
                host.kill()?;
                // Sometimes it is back within its lease, under its name, and sometimes not.
                if round % 2 == 0 {
                    let moved = "SELECT count(*) FROM tribox.nodes WHERE fenced_by IS NOT NULL";
                    stack.until_at_least(moved, 1).await?;
                }
                *host = serve(&mut stack, name).await?;
            }
        }
    }
    books::audit(&stack, 4_000).await?;
    stack.broker.settled(COMMANDS, "accounts").await?;
    for (_, host) in hosts {
        host.stop().await?;
    }
    Ok(())
}

/// Postgres goes away in the middle of a start, when the connection stands already.
#[tokio::test]
async fn a_start_that_postgres_interrupts_goes_on() -> Result<()> {
    let mut stack = Stack::new("node-start").await?;
    books::prepare(&stack).await?;
    let proxy = postgres_proxy(&stack).await?;
    stack.config.set("postgres.url", proxy.instead_of(stack.database_url()));
    let mut lock = stack.pool.begin().await?;
    sqlx::query("LOCK TABLE tribox.nodes IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await?;
    let mut a = stack.spawn()?;
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'
                    AND query LIKE '%register_node%'";
    stack.until_at_least(waits, 1).await?;
    proxy.cut();
    lock.rollback().await?;
    a.ready().await?;
    books::publish(&stack, 0..100).await?;
    books::audit(&stack, 100).await?;
    a.stop().await
}
