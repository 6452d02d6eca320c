//! The guest `chaos` in a running host: each thing that a handler must not do is stopped and named,
//! and nothing else is harmed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::chaos::{self, ORDERS, Told};
use tribox_tests::tables::{self, Parked};
use tribox_tests::{Host, Stack, wait_until};

/// What it is told, the reason under which that is parked, and words of the text.
type Case = (Value, &'static str, &'static str);

fn cases() -> Vec<Case> {
    let header = |name: &str, value: &str| json!({"do": "header", "name": name, "value": value});
    let poison = |what: &str| json!({"do": "poison", "what": what});
    vec![
        (json!({"do": "panic"}), "trap", "was told to panic"),
        (json!({"do": "spin"}), "fuel", "all of its 4000000000 units of fuel"),
        (json!({"do": "allocate"}), "memory", "the limit is 134217728 bytes"),
        (json!({"do": "stack"}), "trap", "deeper"),
        (json!({"do": "read-outside"}), "contract", "\"accounts\", which its description does not"),
        (json!({"do": "reject"}), "reject", "was told to reject"),
        (json!({"do": "flood", "n": 10_001}), "invalid-effects", "at most 10000 are allowed"),
        (json!({"do": "flood", "n": 200_000}), "invalid-effects", "more than fits at once"),
        (json!({"do": "many", "n": 10_001}), "invalid-effects", "at most 10000 are allowed"),
        (json!({"do": "write-outside"}), "invalid-effects", "outside the handler's declared"),
        (json!({"do": "publish-outside"}), "invalid-effects", "outside the subjects that the"),
        (json!({"do": "invalid-json"}), "invalid-effects", "the text ends early"),
        (json!({"do": "nul"}), "invalid-effects", "\\u0000"),
        (json!({"do": "nul-key"}), "invalid-effects", "1 to 1024 bytes without NUL"),
        (
            json!({"do": "huge-document", "bytes": (1 << 20) + 1}),
            "invalid-effects",
            "a body of 1048577 bytes; at most 1048576 are allowed",
        ),
        (
            json!({"do": "huge-document", "bytes": 20 << 20}),
            "invalid-effects",
            "effects may have 8388608 bytes",
        ),
        (
            json!({"do": "huge-message", "bytes": (1 << 20) + 1}),
            "invalid-effects",
            "a payload of 1048577 bytes; at most 1048576 are allowed",
        ),
        (header("Nats-Msg-Id", "x"), "invalid-effects", "are the host's"),
        (header("X", "a\r\nNats-Msg-Id: y"), "invalid-effects", "CR, LF and NUL"),
        (poison("number"), "invalid-effects", "digits"),
        (poison("surrogate"), "invalid-effects", "surrogate"),
        (poison("depth"), "invalid-effects", "nested deeper than 128"),
        (poison("bomb"), "invalid-effects", "digits"),
        (json!({"do": "no-such-verb"}), "reject", "unknown variant"),
    ]
}

/// Tells `chaos` each case under a key of its own, between messages that are fine: of the same key,
/// and of keys that nobody else has. Returns how many are fine.
async fn tell_all(stack: &Stack, cases: &[Case]) -> Result<usize> {
    let fine = json!({"do": "ok"});
    for (n, (payload, ..)) in cases.iter().enumerate() {
        let (bad, other) = (format!("bad-{n}"), format!("other-{n}"));
        chaos::order(&stack.broker, &format!("{n}-other"), &other, &fine).await?;
        chaos::order(&stack.broker, &format!("{n}-before"), &bad, &fine).await?;
        chaos::order(&stack.broker, &format!("{n}"), &bad, payload).await?;
        chaos::order(&stack.broker, &format!("{n}-after"), &bad, &fine).await?;
    }
    Ok(cases.len() * 3)
}

#[tokio::test]
async fn what_a_handler_must_not_do_is_stopped_and_named_and_harms_nothing_else() -> Result<()> {
    let mut stack = Stack::new("chaos").await?;
    chaos::prepare(&stack).await?;
    // Fuel is what ends the one that spins, also where tests share few processors.
    stack.config.set("limits.deadline", "60s");
    let host = stack.serve().await?;
    let cases = cases();
    let fine = tell_all(&stack, &cases).await?;

    let told = chaos::told_when(&stack.broker, fine).await?;
    let parked = tables::parked_when(&stack.pool, cases.len()).await?;
    let by_id: BTreeMap<&str, &Parked> =
        parked.iter().map(|row| (row.message_id.as_str(), row)).collect();
    let mut reasons = BTreeMap::<&str, u32>::new();
    for (n, (payload, reason, words)) in cases.iter().enumerate() {
        let row = by_id.get(n.to_string().as_str()).with_context(|| format!("{payload}"))?;
        assert_eq!((row.state.as_str(), row.attempts), ("dead", 1), "{payload}: {row:?}");
        assert_eq!(row.reason, *reason, "{payload}: {row:?}");
        assert!(row.error.contains(words), "{payload}: {row:?}");
        assert!(row.error.len() <= 4 << 10, "{payload}: {} bytes", row.error.len());
        assert_eq!(row.key.as_deref(), Some(format!("bad-{n}").as_str()));
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, count) in reasons {
        let name = format!("tribox_parked_total{{handler=\"chaos\",reason=\"{reason}\"}}");
        assert_eq!(host.metric(&name).await?, f64::from(count), "{name}");
    }

    // Each fine message was handled once and told once, and there is nothing else.
    let ids: BTreeSet<&str> = told.iter().filter_map(|event| event.body["id"].as_str()).collect();
    assert_eq!((told.len(), ids.len()), (fine, fine));
    assert!(told.iter().all(|event| event.verb == "ok"), "{told:?}");
    let sql = "SELECT collection || '/' || key FROM tribox.documents ORDER BY 1";
    let documents: Vec<String> = sqlx::query_scalar(sql).fetch_all(&stack.pool).await?;
    let keys =
        (0..cases.len()).flat_map(|n| [format!("chaos/bad-{n}"), format!("chaos/other-{n}")]);
    assert_eq!(documents.into_iter().collect::<BTreeSet<_>>(), keys.collect());
    assert_eq!(tables::handled(&stack.pool).await?, (fine + cases.len()) as i64);
    host.stop().await
}

#[tokio::test]
async fn a_message_that_is_not_ready_holds_back_its_key_alone() -> Result<()> {
    let mut stack = Stack::new("retry").await?;
    chaos::prepare(&stack).await?;
    stack
        .config
        .set("handlers.chaos.retry.backoff", "10ms")
        .set("handlers.chaos.retry.attempts", 3);
    let host = stack.serve().await?;
    chaos::order(&stack.broker, "held", "a", &json!({"do": "retry-until", "of": "b"})).await?;
    chaos::order(&stack.broker, "never", "c", &json!({"do": "retry"})).await?;
    chaos::order(&stack.broker, "behind", "c", &json!({"do": "ok"})).await?;
    chaos::order(&stack.broker, "ready", "b", &json!({"do": "ready"})).await?;

    // What is never ready dies after its attempts, and what waits behind it goes on.
    let dead = wait_until("the one that is never ready is dead", async || {
        let rows = tables::parked(&stack.pool).await.map_err(|e| format!("{e:#}"))?;
        match &rows[..] {
            [row] if row.state == "dead" => Ok(row.clone()),
            rows => Err(format!("{rows:?}")),
        }
    });
    let dead = dead.await?;
    assert_eq!((dead.message_id.as_str(), dead.reason.as_str()), ("never", "retry"));
    assert_eq!((dead.attempts, dead.error.as_str()), (3, "c was told to retry"));
    let told = chaos::told_when(&stack.broker, 3).await?;
    let verbs: BTreeSet<(&str, &str)> =
        told.iter().map(|event| (event.key.as_str(), event.verb.as_str())).collect();
    assert_eq!(verbs, BTreeSet::from([("a", "done"), ("b", "ready"), ("c", "ok")]));
    host.stop().await
}

/// The most memory that the host has had, in MiB.
fn peak(host: &Host) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes >> 10)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_memory_of_the_host_stays_bounded() -> Result<()> {
    let mut stack = Stack::new("memory").await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    chaos::order(&stack.broker, "first", "x", &json!({"do": "ok"})).await?;
    chaos::told_when(&stack.broker, 1).await?;
    let before = peak(&host)?;
    let greedy = [
        json!({"do": "allocate"}),
        json!({"do": "flood", "n": 400_000}),
        json!({"do": "many", "n": 400_000}),
        json!({"do": "huge-document", "bytes": 100 << 20}),
        json!({"do": "huge-message", "bytes": 100 << 20}),
        json!({"do": "poison", "what": "bomb"}),
        json!({"do": "poison", "what": "depth"}),
    ];
    let rounds = 8;
    for n in 0..rounds {
        for (m, payload) in greedy.iter().enumerate() {
            chaos::order(&stack.broker, &format!("{n}-{m}"), &format!("{n}-{m}"), payload).await?;
        }
    }
    tables::parked_when(&stack.pool, rounds * greedy.len()).await?;
    // Each of the lanes has one guest of at most 128 MiB at a time, and what it hands over twice
    // at most; without bounds these messages take gigabytes.
    let grown = peak(&host)? - before;
    assert!(grown < 600, "the host grew by {grown} MiB from {before} MiB");
    host.stop().await
}

#[tokio::test]
async fn a_handler_sees_the_time_of_its_message_and_sleeps_no_time() -> Result<()> {
    let mut stack = Stack::new("clock").await?;
    chaos::prepare(&stack).await?;
    // It asks for five seconds: if they passed, the deadline would end it.
    stack.config.set("limits.deadline", "4s");
    let host = stack.serve().await?;
    let sequence = chaos::order(&stack.broker, "m", "a", &json!({"do": "clock"})).await?;
    let told = chaos::told_when(&stack.broker, 1).await?;
    let stream = stack.broker.jetstream.get_stream(ORDERS).await?;
    let stored = stream.get_raw_message(sequence).await?.time.unix_timestamp_nanos() / 1_000_000;
    let seen = &told[0].body;
    let expected = json!({
        "stored_at": stored as u64, "now": stored as u64, "later": stored as u64,
        "at_once_ns": 0, "slept_ns": 5_000_000_000_u64,
    });
    assert_eq!(*seen, expected);
    assert_eq!(tables::parked(&stack.pool).await?, []);
    host.stop().await
}

/// What a fresh host on a fresh database makes of some messages.
async fn told_by_a_fresh_host(name: &str, orders: &[(&str, &str, Value)]) -> Result<Vec<Told>> {
    let mut stack = Stack::new(name).await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    for (id, key, payload) in orders {
        chaos::order(&stack.broker, id, key, payload).await?;
    }
    let mut told = chaos::told_when(&stack.broker, orders.len()).await?;
    told.sort_by(|a, b| a.id.cmp(&b.id));
    host.stop().await?;
    Ok(told)
}

#[tokio::test]
async fn chance_and_surroundings_are_the_same_on_every_host() -> Result<()> {
    let orders = [
        ("one", "a", json!({"do": "random"})),
        ("two", "b", json!({"do": "random"})),
        ("three", "c", json!({"do": "file"})),
    ];
    let (first, second) = tokio::try_join!(
        told_by_a_fresh_host("chance-1", &orders),
        told_by_a_fresh_host("chance-2", &orders),
    )?;
    assert_eq!(first, second, "the same message ids, the same events under the same ids");
    let random: Vec<&Value> =
        first.iter().filter(|event| event.verb == "random").map(|event| &event.body).collect();
    assert_ne!(random[0]["hash"], random[1]["hash"], "another message id, other numbers");
    let file = &first.iter().find(|event| event.verb == "file").context("file")?.body;
    for what in ["read", "write", "list", "connect", "bind", "resolve"] {
        assert!(file[what]["failed"].is_string(), "{what}: {file}");
    }
    assert_eq!((&file["environment"], &file["arguments"]), (&json!(0), &json!(0)), "{file}");
    Ok(())
}

#[tokio::test]
async fn what_a_handler_prints_becomes_log_lines_with_its_name_and_message() -> Result<()> {
    let mut stack = Stack::new("print").await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    let text = "hello \u{1b}[31mred";
    chaos::order(&stack.broker, "m-7", "a", &json!({"do": "print", "text": text})).await?;
    chaos::told_when(&stack.broker, 1).await?;
    let log = host.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["target"] == "guest")
        .collect();
    // A guest cannot write to the terminal of whoever reads the log.
    let seen: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["stream"].as_str().unwrap(), line["message"].as_str().unwrap()))
        .collect();
    let expected = [
        ("stdout", "stdout: hello \u{fffd}[31mred"),
        ("stderr", "stderr: hello \u{fffd}[31mred"),
        ("stdout", "unfinished: hello \u{fffd}[31mred"),
    ];
    assert_eq!(seen, expected, "{log}");
    for line in &lines {
        assert_eq!((&line["handler"], &line["message_id"]), (&json!("chaos"), &json!("m-7")));
    }
    host.stop().await
}

#[tokio::test]
async fn lists_and_reads_see_what_earlier_messages_committed() -> Result<()> {
    let mut stack = Stack::new("reads").await?;
    chaos::prepare(&stack).await?;
    let host = stack.serve().await?;
    chaos::order(&stack.broker, "m1", "a", &json!({"do": "many", "n": 3})).await?;
    chaos::order(&stack.broker, "m2", "a", &json!({"do": "list", "prefix": "a/"})).await?;
    let keys = json!(["a/0", "a/9"]);
    chaos::order(&stack.broker, "m3", "a", &json!({"do": "read", "keys": keys})).await?;
    let told = chaos::told_when(&stack.broker, 2).await?;
    assert_eq!(told[0].body, json!({"keys": ["a/0", "a/1", "a/2"]}));
    assert_eq!(told[1].body, json!({"found": [{"n": 0}, null]}));
    host.stop().await
}

#[tokio::test]
async fn a_list_of_large_documents_comes_in_parts_and_whole() -> Result<()> {
    let mut stack = Stack::new("large-lists").await?;
    chaos::prepare(&stack).await?;
    let sql = "INSERT INTO tribox.documents (collection, key, body, version) \
               SELECT 'chaos', 'big/' || to_char(n, 'FM00'), to_jsonb(repeat('x', 1000000)), 1 \
                 FROM generate_series(1, 40) AS n";
    sqlx::query(sql).execute(&stack.pool).await?;
    let sql = "SELECT count(*) FROM tribox.list_documents('chaos', 'big/', 'big0', NULL, 1000, $1)";
    let count = sqlx::query_scalar::<_, i64>(sql).bind(8_i64 << 20).fetch_one(&stack.pool).await?;
    assert_eq!(count, 9, "until they have 8 MiB");

    let host = stack.serve().await?;
    let list = json!({"do": "list", "prefix": "big/"});
    chaos::order(&stack.broker, "m1", "a", &list).await?;
    let told = chaos::told_when(&stack.broker, 1).await?;
    let keys: Vec<String> = (1..=40).map(|n| format!("big/{n:02}")).collect();
    assert_eq!(told[0].body, json!({ "keys": keys }));
    host.stop().await
}
