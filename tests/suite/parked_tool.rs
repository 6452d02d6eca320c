//! `tribox parked list` and `retry`: which messages are meant, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::chaos::{self, EVENTS, ORDERS};
use tribox_tests::tool::{self, Desk, Row};
use tribox_tests::{Stack, database};

/// Of two handlers, in all states; the second has a key that is paused.
async fn mixed(name: &str) -> Result<Desk> {
    let desk = Desk::new(name).await?;
    let build = "INSERT INTO tribox.components (handler, version, digest)
                 VALUES ('chaos', '1.0', 'd1'), ('items', '2.0', 'd2')";
    desk.execute(build).await?;
    for (handler, key, state, reason, id) in [
        ("chaos", Some("a"), "retrying", "retry", "m-1"),
        ("chaos", Some("a"), "waiting", "waiting", "m-2"),
        ("chaos", Some("b"), "dead", "trap", "m-3"),
        ("chaos", Some("c"), "holding", "reject", "m-4"),
        ("items", None, "dead", "trap", "m-3"),
        ("items", None, "dead", "reject", "m-6"),
    ] {
        desk.park(&Row { handler, key, state, reason, id }).await?;
    }
    desk.execute("UPDATE tribox.parked SET parked_at = now() - interval '3 h' WHERE id <= 3")
        .await?;
    desk.run(&["pause", "items", "--key", "a"])?.ok()?;
    Ok(desk)
}

fn ids(list: &Value) -> Vec<&str> {
    let messages = list["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["message_id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn filters_pick_messages() -> Result<()> {
    let desk = mixed("parked_filters").await?;
    for (filter, expected) in [
        (&[][..], &["m-6", "m-3", "m-4", "m-3", "m-2", "m-1"][..]),
        (&["--handler", "items"], &["m-6", "m-3"]),
        (&["--state", "dead"], &["m-6", "m-3", "m-3"]),
        (&["--state", "holding"], &["m-4"]),
        (&["--reason", "trap"], &["m-3", "m-3"]),
        (&["--key", "a"], &["m-2", "m-1"]),
        (&["--id", "m-3"], &["m-3", "m-3"]),
        (&["--id", "m-3", "--handler", "chaos"], &["m-3"]),
        (&["--row", "4"], &["m-4"]),
        (&["--older-than", "2h"], &["m-3", "m-2", "m-1"]),
        (&["--newer-than", "2h"], &["m-6", "m-3", "m-4"]),
        (&["--older-than", "4h"], &[]),
        (&["--limit", "2"], &["m-6", "m-3"]),
        // A key that is paused has a row of its own, which is no message.
        (&["--reason", "paused"], &[]),
        (&["--row", "-1"], &[]),
    ] {
        let list = desk.json(&[&["parked", "list"], filter].concat());
        let list = if filter == ["--row", "-1"] {
            desk.json(&["parked", "list", "--row=-1"])?
        } else {
            list?
        };
        assert_eq!(ids(&list), expected, "{filter:?}");
        let counted = list["counts"].as_array().context("counts")?;
        let counted: i64 = counted.iter().filter_map(|count| count["count"].as_i64()).sum();
        let limited = filter.first() == Some(&"--limit");
        assert_eq!(counted, if limited { 6 } else { expected.len() as i64 }, "{filter:?}");
    }
    let text = desk.run(&["parked", "list"])?.ok()?;
    let line = |words: &[&str]| {
        text.lines().any(|line| line.split_whitespace().take(words.len()).eq(words.iter().copied()))
    };
    assert!(
        line(&["chaos", "dead", "trap", "1"]) && line(&["items", "dead", "reject", "1"]),
        "{text}"
    );
    assert!(line(&["4", "chaos", "c", "holding", "reject", "3"]), "{text}");
    assert!(!text.contains("paused"), "{text}");
    let none = desk.run(&["parked", "list", "--handler", "nobody"])?.ok()?;
    assert_eq!(none, "nothing that is parked matches\n");
    Ok(())
}

#[tokio::test]
async fn a_change_of_everything_has_to_be_asked_for() -> Result<()> {
    let desk = mixed("parked_sure").await?;
    let before = desk.states().await?;
    for command in ["retry", "discard"] {
        let why = desk.run(&["parked", command])?.refused()?;
        assert!(why.contains("--all"), "{why}");
        let said = desk.run(&["parked", command, "--all", "--dry-run"])?.ok()?;
        let number = if command == "retry" { 5 } else { 6 };
        assert!(said.contains(&format!("would {command} {number} messages")), "{said}");
        let counted = desk.json(&["parked", command, "--all", "--dry-run"])?;
        assert_eq!(counted["dry_run"], true);
        let none = desk.run(&["parked", command, "--handler", "nobody", "--dry-run"])?.ok()?;
        assert_eq!(none, "nothing that is parked matches\n");
    }
    let why = desk.run(&["parked", "discard", "--state", "dead"])?.refused()?;
    assert!(why.contains("3 messages would be thrown away") && why.contains("--yes"), "{why}");
    let none = desk.run(&["parked", "discard", "--handler", "nobody"])?.ok()?;
    assert_eq!(none, "nothing that is parked matches\n");
    assert_eq!(desk.states().await?, before, "nothing was done");
    assert_eq!(desk.run(&["parked", "list", "--state", "lost"])?.code, Some(2));
    assert_eq!(desk.run(&["parked", "list", "--older-than", "soon"])?.code, Some(2));
    Ok(())
}

#[tokio::test]
async fn what_is_retried_is_due_and_its_attempts_count_anew() -> Result<()> {
    let desk = mixed("parked_retry").await?;
    let said = desk.run(&["parked", "retry", "--handler", "chaos"])?.ok()?;
    assert!(said.contains("retrying 3 messages"), "{said}");
    assert!(said.contains("1 waiting message: they follow"), "{said}");
    let states = desk.states().await?;
    let states: Vec<_> = states.iter().map(|(id, s, n, due)| (&**id, &**s, *n, *due)).collect();
    assert_eq!(
        states,
        [
            // It has not given up: its attempts go on.
            ("m-1", "retrying", 3, true),
            ("m-2", "waiting", 3, false),
            ("m-3", "retrying", 0, true),
            ("m-4", "retrying", 0, true),
            ("m-3", "dead", 3, false),
            ("m-6", "dead", 3, false),
        ]
    );
    let paused = "SELECT count(*) FROM tribox.parked WHERE id < 0 AND state = 'holding'";
    desk.run(&["parked", "retry", "--all"])?.ok()?;
    desk.run(&["parked", "discard", "--all", "--yes"])?.ok()?;
    assert_eq!(desk.number(paused).await?, 1, "a pause is no message");
    assert_eq!(desk.run(&["parked", "list"])?.ok()?, "nothing is parked\n");
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_not_ours_is_named() -> Result<()> {
    let url = database::empty("parked_empty").await?;
    let place = std::path::Path::new("/");
    let why = tool::tribox(place, Some(&url), &["parked", "list"])?.refused()?;
    assert!(why.contains("lacks migrations") && why.contains("tribox migrate"), "{why}");
    let nowhere = "postgres://nobody@127.0.0.1:1/none";
    let why = tool::tribox(place, Some(nowhere), &["status"])?.refused()?;
    assert!(why.contains("check that the server runs"), "{why}");
    Ok(())
}

/// Three thousand on three hundred keys: each is handled once, and each key in its order.
#[tokio::test]
async fn thousands_are_retried_in_order_and_handled_once_each() -> Result<()> {
    let mut stack = Stack::new("thousands").await?;
    chaos::prepare(&stack).await?;
    stack.config.set("handlers.chaos.retry.attempts", 1);
    let host = stack.serve().await?;
    let message = |n: u32| {
        let what = json!({"do": "retry-until", "of": "gate"}).to_string();
        (format!("m-{n}"), format!("chaos.k{}.do", n % 300), what)
    };
    stack.broker.publish_all((0..3_000).map(message)).await?;
    let dead = "SELECT count(*) FROM tribox.parked WHERE state = 'dead'";
    stack.until(dead, 3_000).await?;
    chaos::order(&stack.broker, "gate", "gate", &json!({"do": "ready"})).await?;
    stack.broker.read_when(EVENTS, 1).await?;

    let filter = ["parked", "retry", "--handler", "chaos", "--reason", "retry"];
    let counted = stack.tool_json(&[&filter[..], &["--dry-run"]].concat())?;
    assert_eq!(counted["counts"][0]["count"], 3_000);
    assert_eq!(stack.number(dead).await?, 3_000);
    assert_eq!(stack.tool_json(&filter)?["retried"], 3_000);
    stack.until("SELECT count(*) FROM tribox.parked", 0).await?;

    let told = chaos::told_when(&stack.broker, 3_001).await?;
    assert_eq!(told.len(), 3_001);
    let all: BTreeSet<&str> = told.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(all.len(), 3_001, "each once");
    // The ids that the messages' own ids lead to, by key, in the order in which they came.
    let sql =
        "SELECT 'k' || n % 300, translate(tribox.inbox_key('chaos', 'm-' || n)::text, '-', '')
                      || '-0' FROM generate_series(0, 2999) AS n ORDER BY n";
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, id) in sqlx::query_as::<_, (String, String)>(sql).fetch_all(&stack.pool).await? {
        expected.entry(key).or_default().push(id);
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in told.into_iter().filter(|event| event.key != "gate") {
        found.entry(event.key).or_default().push(event.id);
    }
    assert_eq!(found, expected);
    stack.broker.settled(ORDERS, "chaos").await?;
    host.stop().await
}
