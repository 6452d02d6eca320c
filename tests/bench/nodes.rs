//! The sweep of nodes: one, two and three hosts on one handler in partitions, on one machine.

use std::time::Instant;

use anyhow::{Context, Result};
use tribox_tests::{Host, Stack, wait_until};

use crate::USUAL;
use crate::measure::usage;
use crate::picture::number;
use crate::servers::{self, reached};
use crate::sweeps::Table;
use crate::work::EVENTS;

const PARTITIONS: i64 = 6;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// How many messages a second so many hosts handle, with what is on the machine.
pub async fn nodes(counts: &[usize]) -> Result<Table> {
    let mut rows = Vec::new();
    for count in counts {
        let (speed, shares) = run(*count).await?;
        println!("{count} nodes: {speed:.0}/s");
        let [postgres, nats, hosts, cores] = shares;
        let each = |micros: f64| format!("{micros:.1}");
        rows.push(vec![
            count.to_string(),
            number(speed),
            each(postgres),
            each(nats),
            each(hosts),
            format!("{cores:.2}"),
        ]);
    }
    let note = format!(
        "A handler in {PARTITIONS} partitions of a lane each, which the hosts share evenly; a full \
         stream is worked off. NATS stores each message twice: in its stream and in that of the \
         partitions, before the clock starts."
    );
    Ok(Table {
        title: "Nodes.",
        note,
        head: vec!["nodes", "messages/s", "CPU µs: Postgres", "NATS", "hosts", "cores busy"],
        rows,
    })
}

async fn run(count: usize) -> Result<(f64, [f64; 4])> {
    let mut stack = servers::usual("nodes").await?;
    stack.drop_in(&["accounts"])?;
    stack.config.set("handlers.accounts.partitions", PARTITIONS);
    stack.config.set("lanes.turn", i64::try_from(USUAL.turn)?).set("log.filter", "warn");
    stack.tool(&["provision"])?.ok()?;
    let mut hosts = Vec::new();
    for name in &NAMES[..count] {
        stack.config.set("node.name", *name);
        hosts.push(stack.serve().await?.quiet());
    }
    shared(&stack, count).await?;
    stack.tool(&["pause", "accounts"])?.ok()?;
    servers::fill(&stack.broker, &USUAL).await?;
    let all = u64::try_from(USUAL.messages)?;
    let broker = stack.broker.clone();
    let split = async || broker.count(&format!("tribox-accounts-{PARTITIONS}")).await;
    reached("the messages are in partitions", all, split).await?;
    let before = used(&stack, &hosts)?;
    stack.tool(&["resume", "accounts"])?.ok()?;
    let events = async || broker.count(EVENTS).await;
    let (first, from) = reached("some are handled", all / 20, events).await?;
    let (last, until) = reached("all are handled", all, events).await?;
    let after = used(&stack, &hosts)?;
    for host in hosts {
        host.stop().await?;
    }
    let seconds = (until - from).as_secs_f64();
    let each = |n: usize| (after.0[n] - before.0[n]) * 1e6 / last as f64;
    let busy: f64 = (0..3).map(|n| after.0[n] - before.0[n]).sum();
    let cores = busy / (after.1 - before.1).as_secs_f64();
    Ok(((last - first) as f64 / seconds, [each(0), each(1), each(2), cores]))
}

/// Waits until the partitions are shared evenly.
async fn shared(stack: &Stack, count: usize) -> Result<()> {
    let nodes = "SELECT count(*) FROM (SELECT node FROM tribox.held WHERE unit LIKE 'accounts/%'
                  GROUP BY node HAVING count(*) = $1) AS even";
    let each = PARTITIONS / i64::try_from(count)?;
    wait_until("the partitions are shared evenly", async || {
        let even = sqlx::query_scalar::<_, i64>(nodes).bind(each).fetch_one(&stack.pool).await;
        match even {
            Ok(even) if usize::try_from(even) == Ok(count) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Seconds of CPU of Postgres, NATS and the hosts so far, and when that was.
fn used(stack: &Stack, hosts: &[Host]) -> Result<([f64; 3], Instant)> {
    let postgres = stack.postgres()?.pid().context("no Postgres")?;
    let nats = stack.nats.pid().context("no nats-server")?;
    let mut all = 0.0;
    for host in hosts {
        all += usage(host.pid())?.cpu;
    }
    Ok(([usage(postgres)?.cpu, usage(nats)?.cpu, all], Instant::now()))
}
