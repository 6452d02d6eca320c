//! What failing messages and held keys cost those that do not fail: the guest `chaos` counts on many
//! keys, some of its messages fail, and the rate is that of all messages.

use anyhow::{Result, ensure};
use tribox_tests::Stack;

use crate::USUAL;
use crate::measure::usage;
use crate::run::Throughput;
use crate::servers::{self, reached, with_streams};
use crate::special::used;
use crate::sweeps::{Table, head, line};
use crate::work::COMMANDS;

const MESSAGES: usize = 80_000;
const HELD: usize = 10_000;
/// One message of so many fails.
const ONE_OF: usize = 100;

/// The rates with these kinds of failure, against none.
pub async fn failures() -> Result<Table> {
    let mut rows = Vec::new();
    let failing = [("none", None), ("1 % rejected", Some("reject"))];
    let failing = failing.into_iter().chain([
        ("1 % trapping", Some("panic")),
        ("1 % tried three times, then dead", Some("retry")),
    ]);
    for (label, verb) in failing {
        let mut stack = chaos().await?;
        let measured = rate(&mut stack, 0, verb).await?;
        println!("{label}: {measured}");
        rows.push(line(label.to_owned(), &measured));
    }
    for (label, verb) in [("10,000 held by dead messages", "reject"), ("retrying", "retry")] {
        let mut stack = chaos().await?;
        stack.config.set("handlers.chaos.hold", true);
        stack.config.set("handlers.chaos.retry.attempts", 1_000);
        stack.config.set("handlers.chaos.retry.backoff", "5m");
        let held = (0..HELD).map(|n| order(n, format!("held{n}"), verb));
        servers::publish(&stack.broker, held).await?;
        let measured = rate(&mut stack, HELD, None).await?;
        let parked = stack.number("SELECT count(*) FROM tribox.parked").await?;
        ensure!(parked == i64::try_from(HELD)?, "{parked} are parked");
        let label = if verb == "retry" { "10,000 held by retrying ones" } else { label };
        println!("{label}: {measured}");
        rows.push(line(label.to_owned(), &measured));
    }
    let mut stack = chaos().await?;
    let delayed = "INSERT INTO tribox.scheduled (id, due_at, handler, subject, headers, payload)
                   SELECT 'delayed-' || n, now() + interval '1 year', 'chaos', 'later', '', ''
                     FROM generate_series(1, 1000000) AS n";
    sqlx::query(delayed).execute(&stack.pool).await?;
    sqlx::query("ANALYZE tribox.scheduled").execute(&stack.pool).await?;
    let measured = rate(&mut stack, 0, None).await?;
    println!("1,000,000 delayed messages: {measured}");
    rows.push(line("1,000,000 delayed messages wait".to_owned(), &measured));
    let note =
        "Guest `chaos` counting on 10,000 keys; later messages of a key that is retried wait \
                behind it. Held keys: as many others, each with a message that is parked."
            .to_owned();
    Ok(Table { title: "Failing, held and delayed messages.", note, head: head("failing"), rows })
}

async fn chaos() -> Result<Stack> {
    let mut stack = with_streams("failing", &["chaos.*.do"], &["chaos.events.*.*"]).await?;
    stack.drop_in(&["chaos"])?;
    stack.config.set("handlers.chaos.retry.attempts", 3);
    stack.config.set("handlers.chaos.retry.backoff", "100ms");
    Ok(stack)
}

fn order(n: usize, key: String, verb: &str) -> (String, String, Vec<u8>) {
    let body = format!("{{\"do\":\"{verb}\"}}").into_bytes();
    (format!("order-{n}"), format!("chaos.{key}.do"), body)
}

/// The rate at which messages behind the first `before` of the stream are handled.
async fn rate(stack: &mut Stack, before: usize, failing: Option<&str>) -> Result<Throughput> {
    let orders = (0..MESSAGES).map(|n| {
        let verb = failing.filter(|_| n % ONE_OF == ONE_OF / 2).unwrap_or("count");
        order(before + n, format!("k{}", n % USUAL.keys), verb)
    });
    servers::publish(&stack.broker, orders).await?;
    let program = servers::serve(stack, &USUAL)?;
    let broker = stack.broker.clone();
    let handled = async || {
        let info = broker.consumer(COMMANDS, "tribox-chaos").await;
        Ok(info.map_or(0, |info| info.ack_floor.stream_sequence))
    };
    let all = u64::try_from(before + MESSAGES)?;
    let start = u64::try_from(before + MESSAGES / 20)?;
    let (first, from) = reached("messages handled", start, handled).await?;
    let at_first = used(stack, &program).await?;
    let (last, until) = reached("messages handled", all, handled).await?;
    let at_last = used(stack, &program).await?;
    let done = (last - first) as f64;
    let each = |n: usize| (at_last[n] - at_first[n]) / done;
    // What is retried is handled before the check.
    let open = "SELECT count(*) FROM tribox.parked WHERE state IN ('retrying', 'waiting')";
    if before == 0 {
        stack.until(open, 0).await?;
    }
    let counted = "SELECT coalesce(sum((body->>'count')::bigint), 0)::bigint FROM tribox.documents
                    WHERE body IS NOT NULL";
    let failed = if failing.is_some() { MESSAGES / ONE_OF } else { 0 };
    let (counted, expected) = (stack.number(counted).await?, i64::try_from(MESSAGES - failed)?);
    ensure!(counted == expected, "{counted} of {expected} are counted");
    Ok(Throughput {
        messages_per_s: done / (until - from).as_secs_f64(),
        postgres_us: each(0) * 1e6,
        nats_us: each(1) * 1e6,
        program_us: each(2) * 1e6,
        wal: each(3),
        memory: usage(program.id())?.resident,
    })
}
