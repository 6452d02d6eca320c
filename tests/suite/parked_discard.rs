//! `tribox parked discard`: what is thrown away is recorded, and what waited behind it goes on.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::json;
use tribox_tests::Stack;
use tribox_tests::chaos;
use tribox_tests::tool::{self, Desk, Row};

async fn park(desk: &Desk, key: &str, state: &str, id: &str) -> Result<i64> {
    let reason = if state == "waiting" { "waiting" } else { "retry" };
    desk.park(&Row { handler: "chaos", key: Some(key), state, reason, id }).await
}

#[tokio::test]
async fn the_next_of_a_key_is_due_and_the_rest_waits() -> Result<()> {
    let desk = Desk::new("discard_wakes").await?;
    desk.execute(
        "INSERT INTO tribox.components (handler, version, digest) VALUES ('chaos', '1', 'd')",
    )
    .await?;
    for (key, state, id) in [
        // The first goes, the second is due, the third waits for it.
        ("a", "retrying", "a-1"),
        ("a", "waiting", "a-2"),
        ("a", "waiting", "a-3"),
        // Its key has gone on without it: nothing waits for it.
        ("b", "dead", "b-1"),
        ("b", "retrying", "b-2"),
        ("b", "waiting", "b-3"),
        // Its key is paused.
        ("c", "holding", "c-1"),
        ("c", "waiting", "c-2"),
        // One from the middle goes.
        ("d", "retrying", "d-1"),
        ("d", "waiting", "d-2"),
        ("d", "waiting", "d-3"),
        // The same key of another handler.
        ("e", "holding", "e-1"),
    ] {
        park(&desk, key, state, id).await?;
    }
    let other =
        Row { handler: "other", key: Some("e"), state: "waiting", reason: "waiting", id: "o" };
    desk.park(&other).await?;
    desk.run(&["pause", "chaos", "--key", "c"])?.ok()?;
    for (id, woken) in [("a-1", 1), ("b-1", 0), ("c-1", 0), ("d-2", 0), ("e-1", 0)] {
        let done = desk.json(&["parked", "discard", "--id", id, "--yes"])?;
        assert_eq!((&done["discarded"], &done["woken"]), (&json!(1), &json!(woken)), "{id}");
    }
    let states = desk.states().await?;
    let states: Vec<_> = states.iter().map(|(id, state, _, due)| (&**id, &**state, *due)).collect();
    assert_eq!(
        states,
        [
            ("a-2", "retrying", true),
            ("a-3", "waiting", false),
            ("b-2", "retrying", false),
            ("b-3", "waiting", false),
            ("c-2", "waiting", false),
            ("d-1", "retrying", false),
            ("d-3", "waiting", false),
            ("o", "waiting", false),
        ]
    );
    desk.run(&["resume", "chaos", "--key", "c"])?.ok()?;
    let woken = "SELECT count(*) FROM tribox.parked WHERE message_id = 'c-2' AND state = 'retrying'
                    AND next_attempt_at <= now()";
    assert_eq!(desk.number(woken).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_thrown_away_is_recorded() -> Result<()> {
    let desk = Desk::new("discard_records").await?;
    park(&desk, "a", "dead", "a-1").await?;
    desk.execute("UPDATE tribox.parked SET payload = '\\xff00', headers = '[[\"A\", \"b\"]]'")
        .await?;
    desk.run(&["parked", "discard", "--state", "dead", "--yes"])?.ok()?;
    let whole = "SELECT count(*) FROM tribox.discarded
                  WHERE origin = 'parked' AND discarded_by LIKE 'somebody@_%' AND handler = 'chaos'
                    AND key = 'a' AND message_id = 'a-1' AND subject = 'chaos.7.do'
                    AND headers::jsonb = '[[\"A\", \"b\"]]' AND payload = '\\xff00'
                    AND reason = 'retry' AND error = 'it went wrong' AND attempts = 3";
    assert_eq!(desk.number(whole).await?, 1);
    assert_eq!(desk.number("SELECT count(*) FROM tribox.parked").await?, 0);
    Ok(())
}

/// Batches meet the end of one and the beginning of the next within a key.
#[tokio::test]
async fn thousands_are_thrown_away() -> Result<()> {
    let desk = Desk::new("discard_thousands").await?;
    let rows = "INSERT INTO tribox.parked (handler, key, state, attempts, reason, error, component,
                       inbox_key, message_id, subject, headers, payload, stored_at)
                SELECT 'chaos', 'k' || n / 7, CASE WHEN n % 7 = 6 THEN 'waiting' ELSE 'holding' END, 1,
                       CASE WHEN n % 7 = 6 THEN 'waiting' ELSE 'trap' END, '', 1, gen_random_uuid(),
                       'm-' || n, 'chaos.x.do', '[]', '', 0
                  FROM generate_series(0, 3499) AS n";
    desk.execute(rows).await?;
    let done = desk.json(&["parked", "discard", "--reason", "trap", "--yes"])?;
    assert_eq!((&done["discarded"], &done["woken"]), (&json!(3_000), &json!(500)));
    let due =
        "SELECT count(*) FROM tribox.parked WHERE state = 'retrying' AND next_attempt_at <= now()";
    assert_eq!(desk.number(due).await?, 500);
    assert_eq!(desk.number("SELECT count(*) FROM tribox.parked").await?, 500);
    assert_eq!(desk.number("SELECT count(*) FROM tribox.discarded").await?, 3_000);
    Ok(())
}

/// What is to be thrown away next is not handed to a host in between.
#[tokio::test]
async fn a_long_key_is_woken_once_and_at_its_end() -> Result<()> {
    let desk = Desk::new("discard_long").await?;
    let rows = "INSERT INTO tribox.parked (handler, key, state, attempts, reason, error, component,
                       inbox_key, message_id, subject, headers, payload, stored_at)
                SELECT 'chaos', 'k', CASE WHEN n = 1 THEN 'holding' ELSE 'waiting' END, 1,
                       CASE WHEN n IN (1700, 2900) THEN 'other' ELSE 'waiting' END, '', 1,
                       gen_random_uuid(), 'm-' || n, 'chaos.x.do', '[]', '', 0
                  FROM generate_series(1, 3500) AS n";
    desk.execute(rows).await?;
    let done = desk.json(&["parked", "discard", "--reason", "waiting", "--yes"])?;
    assert_eq!((&done["discarded"], &done["woken"]), (&json!(3_498), &json!(1)));
    let states = desk.states().await?;
    let states: Vec<_> = states.iter().map(|(id, state, _, due)| (&**id, &**state, *due)).collect();
    assert_eq!(states, [("m-1700", "retrying", true), ("m-2900", "waiting", false)]);
    Ok(())
}

/// A host takes up by itself what waited behind a message that was thrown away.
#[tokio::test]
async fn a_running_host_goes_on_with_the_key() -> Result<()> {
    let mut stack = Stack::new("discard").await?;
    chaos::prepare(&stack).await?;
    stack.config.set("handlers.chaos.retry.backoff", "1h").set("handlers.chaos.retry.cap", "1h");
    let host = stack.serve().await?;
    let order = async |id: &str, what: &str| {
        chaos::order(&stack.broker, id, "k", &json!({"do": what})).await
    };
    order("k-1", "retry").await?;
    order("k-2", "count").await?;
    order("k-3", "count").await?;
    stack.until("SELECT count(*) FROM tribox.parked", 3).await?;
    let done = stack.tool_json(&["parked", "discard", "--id", "k-1", "--yes"])?;
    assert_eq!((&done["discarded"], &done["woken"]), (&json!(1), &json!(1)));
    let told = chaos::told_when(&stack.broker, 2).await?;
    assert_eq!([&told[0].body["count"], &told[1].body["count"]], [1, 2]);
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    host.stop().await
}

/// Commands and a host on the same rows, all the time: no command fails, and in the end each message
/// was either handled once or thrown away.
#[tokio::test]
async fn commands_and_a_host_do_not_hinder_each_other() -> Result<()> {
    let mut stack = Stack::new("hinder").await?;
    chaos::prepare(&stack).await?;
    stack.config.set("handlers.chaos.retry.attempts", 100_000);
    stack
        .config
        .set("handlers.chaos.retry.backoff", "20ms")
        .set("handlers.chaos.retry.cap", "40ms");
    let host = stack.serve().await?;
    let message = |n: u32| {
        let what = json!({"do": "retry-until", "of": "gate"}).to_string();
        (format!("m-{n}"), format!("chaos.k{}.do", n % 40), what)
    };
    stack.broker.publish_all((0..800).map(message)).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 800).await?;
    let file = stack.write_config()?.display().to_string();
    let directory = stack.directory().to_owned();
    let run = |arguments: &[&str]| {
        let arguments: Vec<String> =
            [arguments, &["--config", &file]].concat().iter().map(|a| (*a).to_owned()).collect();
        let directory = directory.clone();
        tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            tool::tribox(&directory, None, &arguments)
        })
    };
    for round in 0..12 {
        let (key, id) = (format!("k{round}"), format!("m-{}", 100 + round));
        let (retry, again, by_key, by_id, list) = tokio::join!(
            run(&["parked", "retry", "--all"]),
            run(&["parked", "retry", "--handler", "chaos", "--state", "retrying"]),
            run(&["parked", "discard", "--key", &key, "--newer-than", "1h", "--yes"]),
            run(&["parked", "discard", "--id", &id, "--yes"]),
            run(&["parked", "list", "--json"]),
        );
        for ran in [retry, again, by_key, by_id, list] {
            ran??.ok()?;
        }
    }
    chaos::order(&stack.broker, "gate", "gate", &json!({"do": "ready"})).await?;
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;
    let discarded = "SELECT translate(tribox.inbox_key('chaos', message_id)::text, '-', '') || '-0'
                       FROM tribox.discarded";
    let discarded: Vec<String> = sqlx::query_scalar(discarded).fetch_all(&stack.pool).await?;
    assert!(discarded.len() >= 240, "twelve keys of twenty: {}", discarded.len());
    let told = chaos::told_when(&stack.broker, 801 - discarded.len()).await?;
    let told: Vec<String> = told.into_iter().map(|event| event.id).collect();
    let all: BTreeSet<&String> = discarded.iter().chain(&told).collect();
    assert_eq!((all.len(), discarded.len() + told.len()), (801, 801), "each once");
    host.stop().await
}
