//! A long run under load with a random disaster each half minute: nothing is lost or done twice, and what a
//! host and its servers take does not grow. `make soak MINUTES=60 RATE=5000 SEED=s` runs it with the program
//! as it is shipped; the suite runs a short one.
//!
//! Three hosts share the partitions of one handler. Disasters befall the servers and two of the hosts; the
//! third is left alive, and is what is measured: it has to bear the others' disasters and all that befalls the
//! servers.

mod flow;
mod sample;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_nats::jetstream::stream;
use futures_util::TryStreamExt;
use tribox_tests::{FaultProxy, Stack, StackOptions, wait_within};

use self::flow::Over;
use crate::books;
use crate::disasters::{self, Dice, HOSTS, Node};

const PARTITIONS: i64 = 6;
/// How often something goes wrong.
const EVERY: Duration = Duration::from_secs(30);
/// How long a network stays bad behind a disaster.
const WEATHER: Duration = Duration::from_secs(5);
/// How often it is measured.
const SAMPLES: Duration = Duration::from_secs(10);
/// How long streams keep what was handled, so that their files do not grow for ever.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// How long all may take to be handled at the end.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long, how much, and which disasters.
struct Plan {
    length: Duration,
    /// Commands a second.
    rate: u64,
    seed: u64,
}

impl Plan {
    fn from_environment() -> Plan {
        let number = |name: &str, usual: u64| {
            std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
        };
        let minutes = number("TRIBOX_SOAK_MINUTES", 0);
        let length = if minutes == 0 { 20 } else { minutes * 60 };
        Plan {
            length: Duration::from_secs(length),
            rate: number("TRIBOX_SOAK_RATE", 200),
            seed: number("TRIBOX_SEED", 1),
        }
    }

    fn pause(&self) -> Duration {
        EVERY.min(self.length / 6)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_and_nothing_is_lost() -> Result<()> {
    let plan = Plan::from_environment();
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("soak", options).await?;
    let mut nodes = begin(&mut stack).await?;
    let (steady, pool) = (nodes[0].host.pid(), stack.pool.clone());
    let over = Over::default();
    let started = Instant::now();
    let publishing = flow::publish(stack.broker.clone(), plan.rate, over.clone());
    let checking = flow::check(stack.broker.clone(), over.clone());
    let sampling = sample::take(steady, pool, SAMPLES.min(plan.length / 12), over.clone());
    let befalling = async {
        let mut befell = Vec::new();
        let mut dice = Dice::of(plan.seed);
        while started.elapsed() + plan.pause() < plan.length {
            tokio::time::sleep(plan.pause()).await;
            let what = disasters::disaster(&mut stack, &mut nodes[1..], &mut dice).await?;
            println!("{:>5} s: {what}", started.elapsed().as_secs());
            befell.push(what);
            tokio::time::sleep(WEATHER.min(plan.pause() / 3)).await;
            nodes.iter().for_each(|node| node.to_postgres.restore());
            nodes.iter().for_each(|node| node.to_nats.restore());
        }
        tokio::time::sleep(plan.length.saturating_sub(started.elapsed())).await;
        over.stop_publishing();
        let all = over.published();
        let done = wait_within(PATIENCE, "all is handled and told", async || match over.told() {
            told if told >= all => Ok(()),
            told => Err(format!("{told} of {all} events")),
        })
        .await;
        over.end();
        anyhow::Ok((befell, done))
    };
    let ((), checked, samples, (befell, done)) =
        tokio::try_join!(publishing, checking, sampling, befalling)?;
    for sample in samples.iter().step_by(samples.len().div_ceil(30)) {
        println!("{sample}");
    }
    let (count, wrong) = (over.published(), checked.wrong());
    let verdict = format!("{count} commands, {} disasters; {checked}", befell.len());
    println!("{verdict}");
    if done.is_err() || wrong {
        nodes.iter().for_each(|node| println!("--- {}\n{}", node.name, node.host.log()));
    }
    done?;
    ensure!(!wrong, "{verdict}: {befell:?}");
    balances(&stack, count).await?;
    let grown = sample::grown(&samples);
    println!("{}", sample::summary(&samples));
    // In a short run caches are being filled all the time.
    ensure!(plan.length < Duration::from_secs(600) || grown.is_empty(), "{}", grown.join("; "));
    end(nodes).await
}

/// Three hosts that reach the servers by ways of their own.
async fn begin(stack: &mut Stack) -> Result<Vec<Node>> {
    stack.config.set("node.lease", "1s").set("retention.inbox", "5m").set("retention.outbox", "2m");
    stack.config.set("handlers.accounts.partitions", PARTITIONS);
    books::prepare(stack).await?;
    stack.tool(&["provision"])?.ok()?;
    let names: Vec<String> = stack.broker.jetstream.stream_names().try_collect().await?;
    for name in names {
        let found = stack.broker.jetstream.get_stream(&name).await?;
        let config = found.cached_info().config.clone();
        let config = stream::Config { max_age: KEPT, ..config };
        stack.broker.jetstream.update_stream(config).await?;
    }
    let mut nodes = Vec::new();
    for name in HOSTS {
        let to_postgres = FaultProxy::start(stack.postgres()?.port()).await?;
        let to_nats = FaultProxy::start(stack.nats.port()).await?;
        let mut host = disasters::start(stack, name, &to_postgres, &to_nats)?;
        host.ready().await?;
        nodes.push(Node { name, host, to_postgres, to_nats });
    }
    Ok(nodes)
}

/// Every command changed its account once.
async fn balances(stack: &Stack, count: u64) -> Result<()> {
    let sums = "SELECT coalesce(sum((body->>'changes')::bigint), 0)::bigint FROM tribox.documents";
    let changes = stack.number(sums).await?;
    ensure!(changes == i64::try_from(count)?, "{changes} changes of {count} commands");
    Ok(())
}

async fn end(nodes: Vec<Node>) -> Result<()> {
    for Node { name, mut host, .. } in nodes {
        host.terminate()?;
        let status = host.exit().await?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", host.log());
    }
    Ok(())
}
