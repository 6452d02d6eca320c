//! Sweeps that need more than another size: many handlers, full tables, a held snapshot, memory over
//! time, start-up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tribox_tests::{Stack, programs};

use crate::measure::{peak, usage};
use crate::picture::number;
use crate::run::{self, Latency, Throughput};
use crate::servers::{self, Program, reached, wal_bytes, with_streams};
use crate::sweeps::{Table, head, line};
use crate::work::{COMMANDS, EVENTS, command};
use crate::{Shape, USUAL, Variant};

/// What a copy of the guest `load` is called; the same length as its own name.
fn copy(n: usize) -> String {
    format!("load-copy-number-{n:02}")
}

/// Drops copies of the guest `load` into the plugin directory, each under a name of its own.
fn drop_in_copies(stack: &Stack, count: usize) -> Result<()> {
    let component = std::fs::read(programs::guest("load")?)?;
    let name = copy(0).into_bytes();
    let places: Vec<usize> = component
        .windows(name.len())
        .enumerate()
        .filter_map(|(at, window)| (window == name).then_some(at))
        .collect();
    ensure!(!places.is_empty(), "the guest `load` does not hold its name");
    for n in 0..count {
        let mut copied = component.clone();
        for at in &places {
            copied[*at..*at + name.len()].copy_from_slice(copy(n).as_bytes());
        }
        let file = stack.directory().join(format!("{}.wasm", copy(n)));
        std::fs::write(&file, copied)?;
        stack.drop_in_file(&file, &copy(n))?;
    }
    Ok(())
}

/// Copies of `load` work off a full stream, each with an equal share.
async fn load(handlers: usize, outgoing: usize, messages: usize) -> Result<Throughput> {
    let mut stack = with_streams("load", &["load.*.*.do"], &["loaded.*.*"]).await?;
    drop_in_copies(&stack, handlers)?;
    let pad = "x".repeat(USUAL.padding);
    let keys = (USUAL.keys / handlers).max(1);
    let commands = (0..messages).map(|n| {
        let (handler, key) = (n % handlers, n / handlers % keys);
        let subject = format!("load.{}.{handler}-{key}.do", copy(handler));
        (format!("command-{n}"), subject, format!("{{\"pad\":\"{pad}\"}}").into_bytes())
    });
    servers::publish(&stack.broker, commands).await?;
    for n in 0..handlers {
        let setting = format!("handlers.{}.settings.outgoing", copy(n));
        stack.config.set(&setting, outgoing.to_string());
    }
    let program = servers::serve(&mut stack, &USUAL)?;
    let all = u64::try_from(messages)?;
    let sends = u64::try_from(outgoing)?;
    let broker = stack.broker.clone();
    let handled = async || {
        if let Some(handled) = broker.count(EVENTS).await?.checked_div(sends) {
            return Ok(handled);
        }
        // Nothing is sent: what is acknowledged was handled. Until the consumer is there, nothing is.
        let info = broker.consumer(COMMANDS, &format!("tribox-{}", copy(0))).await;
        Ok(info.map_or(0, |info| info.ack_floor.stream_sequence))
    };
    let (first, from) = reached("messages handled", all / 20, handled).await?;
    let before = used(&stack, &program).await?;
    let (last, until) = reached("messages handled", all, handled).await?;
    let after = used(&stack, &program).await?;
    let sum = "SELECT coalesce(sum((body->>'count')::bigint), 0)::bigint FROM tribox.documents";
    let counted: i64 = sqlx::query_scalar(sum).fetch_one(&stack.pool).await?;
    ensure!(counted == i64::try_from(messages)?, "{counted} of {messages} are counted");
    let events = stack.broker.count(EVENTS).await?;
    ensure!(events == all * sends, "{events} events of {messages} messages");
    let done = (last - first) as f64;
    let each = |n: usize| (after[n] - before[n]) / done;
    Ok(Throughput {
        messages_per_s: done / (until - from).as_secs_f64(),
        postgres_us: each(0) * 1e6,
        nats_us: each(1) * 1e6,
        program_us: each(2) * 1e6,
        wal: each(3),
        memory: usage(program.id())?.resident,
    })
}

/// CPU seconds of Postgres, NATS and program, and bytes of WAL.
pub async fn used(stack: &Stack, program: &Program) -> Result<[f64; 4]> {
    let postgres = stack.postgres.as_ref().and_then(|p| p.pid()).context("no Postgres")?;
    let nats = stack.nats.pid().context("no nats-server")?;
    Ok([usage(postgres)?.cpu, usage(nats)?.cpu, usage(program.id())?.cpu, wal_bytes(stack).await?])
}

pub async fn outgoing(counts: &[usize]) -> Result<Table> {
    let mut rows = Vec::new();
    for count in counts {
        let messages = if *count > 1 { 30_000 } else { 80_000 };
        let measured = load(1, *count, messages).await?;
        println!("outgoing {count}: {measured}");
        rows.push(line(count.to_string(), &measured));
    }
    let note = "Messages that handling one message sends (guest `load`).".to_owned();
    Ok(Table { title: "Outgoing.", note, head: head("outgoing"), rows })
}

pub async fn handlers(counts: &[usize]) -> Result<Table> {
    let mut rows = Vec::new();
    for count in counts {
        let measured = load(*count, 1, 100_000).await?;
        println!("handlers {count}: {measured}");
        rows.push(line(count.to_string(), &measured));
    }
    let note = "Copies of the guest `load` under names of their own, each with two lanes and an \
                equal share of the commands, all in one stream."
        .to_owned();
    Ok(Table { title: "Handlers.", note, head: head("handlers"), rows })
}

/// Seconds until ready, with an empty cache of compiled components and with a full one.
pub async fn startup(handlers: usize) -> Result<Table> {
    let mut stack = with_streams("startup", &["load.*.*.do"], &["loaded.*.*"]).await?;
    drop_in_copies(&stack, handlers)?;
    stack.config.set("plugins.watch", false);
    stack.config.set("log.filter", "warn");
    let cache = stack.directory().join("cache").display().to_string();
    stack.config.set("plugins.cache", cache);
    let mut rows = Vec::new();
    for label in ["empty cache", "cached", "cached, consumers there"] {
        let started = Instant::now();
        let host = stack.spawn()?.quiet();
        let ready = async || {
            let status = host.get("/readyz").await.map_or(0, |answer| answer.status);
            Ok(u64::from(status == 200))
        };
        let (_, at) = reached("the host is ready", 1, ready).await?;
        let seconds = (at - started).as_secs_f64();
        println!("{label}: {seconds:.2} s");
        rows.push(vec![label.to_owned(), format!("{seconds:.2}")]);
        host.terminate()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let note = format!(
        "Seconds from the start of the program until it is ready, with {handlers} plugins."
    );
    Ok(Table { title: "Start-up.", note, head: vec!["", "seconds"], rows })
}

/// A transaction elsewhere that holds back what vacuum and pruning may remove.
pub async fn held_xmin() -> Result<Table> {
    let shape = Shape { messages: 150_000, ..USUAL };
    let mut rows = Vec::new();
    for held in [false, true] {
        let mut stack = servers::usual("xmin").await?;
        let mut elsewhere = stack.pool.acquire().await?;
        if held {
            let text = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
            sqlx::raw_sql(text).execute(&mut *elsewhere).await?;
        }
        let measured = run::throughput_on(&mut stack, Variant::Tribox, &shape).await?;
        let label = if held { "held" } else { "not held" };
        println!("xmin {label}: {measured}");
        rows.push(line(label.to_owned(), &measured));
    }
    let note = "A transaction elsewhere keeps a snapshot open for the whole run: dead versions of \
                documents, 15 of each, cannot be removed."
        .to_owned();
    Ok(Table { title: "A held snapshot.", note, head: head("snapshot"), rows })
}

/// A log with many unpublished messages from an earlier process.
pub async fn backlog(rows: i64) -> Result<Table> {
    let mut stack = servers::usual("backlog").await?;
    stack.config.set("node.name", "bench");
    let writer = "INSERT INTO tribox.writers (node, handler, unit, lane, lanes)
                  VALUES ('bench', 'earlier', 'earlier', 0, 1) RETURNING id";
    let writer: i32 = sqlx::query_scalar(writer).fetch_one(&stack.pool).await?;
    let fill = "INSERT INTO tribox.outbox (writer, seq, id, subject, headers, payload)
                SELECT $1, n, 'backlog-' || n, 'accounts.events.backlog.x', '',
                       convert_to(repeat('x', 200), 'UTF8') FROM generate_series(1, $2) AS n";
    sqlx::query(fill).bind(writer).bind(rows).execute(&stack.pool).await?;
    let program = servers::start(&mut stack, Variant::Tribox, &USUAL).await?;
    let all = u64::try_from(rows)?;
    let broker = stack.broker.clone();
    let events = async || broker.count(EVENTS).await;
    let (first, from) = reached("the backlog is published", all / 20, events).await?;
    let before = used(&stack, &program).await?;
    let (last, until) = reached("the backlog is published", all, events).await?;
    let after = used(&stack, &program).await?;
    let done = (last - first) as f64;
    let each = |n: usize| format!("{:.1}", (after[n] - before[n]) * 1e6 / done);
    let speed = done / (until - from).as_secs_f64();
    println!("backlog: {speed:.0}/s");
    let memory = format!("{:.0} MB", peak(program.id())? / 1e6);
    let row = vec![number(rows as f64), number(speed), each(0), each(1), each(2), memory];
    let note = "Unpublished messages in the outbox when the host starts; how fast they leave.";
    Ok(Table {
        title: "Backlog of the outbox.",
        note: note.to_owned(),
        head: vec!["rows", "published/s", "CPU µs: Postgres", "NATS", "program", "memory at most"],
        rows: vec![row],
    })
}

/// Puts so many rows with random keys into the inbox, the last of which was handled `age` ago.
async fn fill_inbox(stack: &Stack, size: i64, age: &str) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    let started = Instant::now();
    let fill = format!(
        "SET maintenance_work_mem = '1GB'; SET synchronous_commit = off;
         ALTER TABLE tribox.inbox DROP CONSTRAINT inbox_pkey;
         DROP INDEX tribox.inbox_handled_at;
         INSERT INTO tribox.inbox (key, handled_at, sequence, component)
         SELECT gen_random_uuid(), now() - interval '{age}' - ({size} - n) * interval '1 ms', n, 1
           FROM generate_series(1, {size}) AS n;
         ALTER TABLE tribox.inbox ADD PRIMARY KEY (key);
         CREATE INDEX inbox_handled_at ON tribox.inbox (handled_at);
         RESET maintenance_work_mem; RESET synchronous_commit; CHECKPOINT"
    );
    // One by one: together they would be one transaction.
    let mut connection = stack.pool.acquire().await?;
    for statement in fill.split(';') {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
    }
    println!("{size} rows made in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// An inbox that is large already.
pub async fn inbox(sizes: &[i64]) -> Result<Table> {
    let mut rows = Vec::new();
    for size in sizes {
        let mut stack = servers::usual("inbox").await?;
        fill_inbox(&stack, *size, "0").await?;
        let shape = Shape { messages: 150_000, ..USUAL };
        let measured = run::throughput_on(&mut stack, Variant::Tribox, &shape).await?;
        println!("inbox {size}: {measured}");
        rows.push(line(number(*size as f64), &measured));
    }
    let note = "Rows with random keys that the inbox has before the run.".to_owned();
    Ok(Table { title: "Inbox.", note, head: head("rows"), rows })
}

/// Latency while the inbox is pruned of many rows that are past their time.
pub async fn pruning(sizes: &[i64]) -> Result<Table> {
    const RATE: f64 = 1_000.0;
    let mut rows = Vec::new();
    for size in sizes {
        let mut stack = servers::usual("pruning").await?;
        fill_inbox(&stack, *size, "30 days").await?;
        let shape = Shape { messages: 40_000, ..USUAL };
        let Latency { p50, p99, p999, most } =
            run::latency_on(&mut stack, Variant::Tribox, &shape, RATE).await?;
        let past = "SELECT count(*) FROM tribox.inbox WHERE handled_at < now() - interval '7 days'";
        let left: i64 = sqlx::query_scalar(past).fetch_one(&stack.pool).await?;
        println!("pruning {size}: p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, most {most:.2} ms");
        let mut row = vec![number(*size as f64), number((size - left) as f64)];
        row.extend([p50, p99, p999, most].map(|milliseconds| format!("{milliseconds:.2}")));
        rows.push(row);
    }
    let note = "Milliseconds from publishing a command to reading its event at 1,000/s for 40 \
                seconds, while the inbox has so many rows that are past their retention. They are \
                removed meanwhile, from ten seconds after the start of the host on."
        .to_owned();
    let head = vec!["rows past", "removed meanwhile", "p50", "p99", "p99.9", "most"];
    Ok(Table { title: "Pruning.", note, head, rows })
}

/// `accounts` as it is written in each language, as far as their toolchains were there to build it.
pub async fn languages() -> Result<Table> {
    let built = programs::repository().join("target/guests");
    let mut rows = Vec::new();
    for (language, file, messages) in [
        ("Rust", programs::guest("accounts")?, 100_000),
        ("JavaScript", built.join("javascript-accounts.wasm"), 20_000),
        ("Python", built.join("python-accounts.wasm"), 10_000),
    ] {
        if !file.is_file() {
            println!("{language}: skipped: {} is not there; run `make languages`", file.display());
            continue;
        }
        let mut stack = servers::usual("languages").await?;
        stack.drop_in_file(&file, "accounts")?;
        let shape = Shape { messages, keys: 1_000, ..USUAL };
        let measured = run::throughput_on(&mut stack, Variant::Tribox, &shape).await?;
        println!("{language}: {measured}");
        rows.push(line(language.to_owned(), &measured));
    }
    let note = "The handler `accounts`, written in each language; 1,000 keys.".to_owned();
    Ok(Table { title: "Languages.", note, head: head("language"), rows })
}

/// Memory while very many messages wait.
pub async fn waiting(messages: usize) -> Result<Table> {
    let mut stack = servers::usual("waiting").await?;
    let shape = Shape { messages, ..USUAL };
    servers::fill(&stack.broker, &shape).await?;
    let program = servers::start(&mut stack, Variant::Tribox, &shape).await?;
    let broker = stack.broker.clone();
    let wanted = u64::try_from(messages)?;
    reached("events", wanted, async || broker.count(EVENTS).await).await?;
    let memory = format!("{:.0} MB", peak(program.id())? / 1e6);
    println!("waiting: {memory} at most");
    let note = "Resident memory of the program at most, from its start until all is handled.";
    let (head, rows) = (
        vec!["messages waiting at the start", "memory at most"],
        vec![vec![number(messages as f64), memory]],
    );
    Ok(Table { title: "Many messages waiting.", note: note.to_owned(), head, rows })
}

/// Memory over time at half load.
pub async fn memory(minutes: i64) -> Result<Table> {
    let fast = run::throughput(Variant::Tribox, &Shape { messages: 80_000, ..USUAL }).await?;
    let rate = (fast.messages_per_s / 2.0).round();
    let mut stack = servers::usual("memory").await?;
    let program = servers::start(&mut stack, Variant::Tribox, &USUAL).await?;
    let end = Instant::now() + Duration::from_secs(u64::try_from(minutes * 60)?);
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let started = Instant::now();
    let mut sent = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while Instant::now() < end {
        tick.tick().await;
        let due = (started.elapsed().as_secs_f64() * rate) as usize;
        servers::publish(&stack.broker, (sent..due).map(|n| command(n, &USUAL))).await?;
        sent = due;
        let seconds = started.elapsed().as_secs_f64();
        if samples.last().is_none_or(|(at, _)| seconds - at >= 1.0) {
            samples.push((seconds, usage(program.id())?.resident));
        }
    }
    // The first fifth fills caches.
    let settled = &samples[samples.len() / 5..];
    let slope = slope(settled) * 3_600.0 / 1e6;
    let at = |sample: Option<&(f64, f64)>| sample.map_or(0.0, |(_, bytes)| bytes / 1e6);
    let (first, last) = (at(settled.first()), at(settled.last()));
    println!("memory: {first:.1} MB to {last:.1} MB, {slope:.1} MB an hour");
    let rows = vec![vec![
        format!("{}/s", number(rate)),
        minutes.to_string(),
        format!("{first:.1} MB"),
        format!("{last:.1} MB"),
        format!("{slope:.1} MB"),
    ]];
    Ok(Table {
        title: "Memory at half load.",
        note: "The slope is a line fitted to a sample a second, without the first fifth."
            .to_owned(),
        head: vec!["rate", "minutes", "after a fifth", "at the end", "slope, an hour"],
        rows,
    })
}

/// The slope of the line that fits best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let over = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let under = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    if under == 0.0 { 0.0 } else { over / under }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
