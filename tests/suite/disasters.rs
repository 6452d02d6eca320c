//! Disasters at random: three hosts, Postgres and nats-server are killed, stopped in order and frozen, and
//! the network between each host and each server delays, cuts, half-closes and swallows; in random
//! order and under load, and at the end there is a ledger that must be clean. `make disasters
//! RUNS=n SEED=s` runs as many as one likes; the suite runs one.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tribox_tests::{FaultProxy, Host, Stack, StackOptions, wait_within};

use crate::books;
use crate::ledger::{Ledger, ledger, left, load};

/// Disasters of a run.
const DISASTERS: u32 = 8;
const PARTITIONS: i64 = 6;
pub const HOSTS: [&str; 3] = ["a", "b", "c"];
/// How long all may take to recover after the last disaster.
const PATIENCE: Duration = Duration::from_secs(90);

/// Numbers that a seed repeats.
pub struct Dice(u64);

impl Dice {
    /// Seeds that differ by one are to differ in everything.
    pub fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below `sides`.
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pause(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.throw(most - least))
    }
}

/// A host, and its ways to the servers.
pub struct Node {
    pub name: &'static str,
    pub host: Host,
    pub to_postgres: FaultProxy,
    pub to_nats: FaultProxy,
}

/// What came of a run.
struct Outcome {
    ledger: Ledger,
    befell: String,
    recovery: Duration,
}

/// The last lines are the verdict: the ledger of all runs, and how long they took to recover.
#[tokio::test]
async fn the_ledger_is_clean_after_random_disasters() -> Result<()> {
    let number = |name: &str, usual: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (runs, first) = (number("TRIBOX_DISASTERS", 1), number("TRIBOX_SEED", 1));
    let (mut total, mut recoveries, mut dirty) = (Ledger::default(), Vec::new(), Vec::new());
    for seed in first..first + runs {
        let Outcome { ledger, befell, recovery } =
            one_run(seed).await.with_context(|| format!("seed {seed}"))?;
        let seconds = recovery.as_secs_f64();
        println!("seed {seed}: {ledger}; recovered in {seconds:.1} s; {befell}");
        total += ledger;
        recoveries.push(seconds);
        if ledger != Ledger::default() {
            dirty.push(seed);
        }
    }
    recoveries.sort_by(f64::total_cmp);
    let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
    let most = recoveries.last().copied().unwrap_or_default();
    println!(
        "{runs} runs from seed {first}: {total}; recovered in {median:.1} s (median), {most:.1} s \
         (most)"
    );
    ensure!(dirty.is_empty(), "the ledger is not clean with seeds {dirty:?}: {total}");
    Ok(())
}

/// One run, and what it came to.
async fn one_run(seed: u64) -> Result<Outcome> {
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("disasters", options).await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    // Every other seed has the handler in partitions, so that all three hosts work at once.
    if seed.is_multiple_of(2) {
        stack.config.set("handlers.accounts.partitions", PARTITIONS);
        stack.tool(&["provision"])?.ok()?;
    }
    let mut nodes = Vec::new();
    for name in HOSTS {
        let to_postgres = FaultProxy::start(stack.postgres()?.port()).await?;
        let to_nats = FaultProxy::start(stack.nats.port()).await?;
        let mut host = start(&mut stack, name, &to_postgres, &to_nats)?;
        host.ready().await?;
        nodes.push(Node { name, host, to_postgres, to_nats });
    }
    let mut dice = Dice::of(seed);
    let (broker, over) = (stack.broker.clone(), Cell::new(false));
    let befalling = async {
        let mut done = Vec::new();
        for _ in 0..DISASTERS {
            tokio::time::sleep(dice.pause(100, 900)).await;
            done.push(disaster(&mut stack, &mut nodes, &mut dice).await?);
        }
        for node in &nodes {
            node.to_postgres.restore();
            node.to_nats.restore();
        }
        over.set(true);
        anyhow::Ok((done, Instant::now()))
    };
    let ((done, ended), commands) = tokio::try_join!(befalling, load(&broker, &over))?;
    let what = "nothing is left to do";
    let stuck = wait_within(PATIENCE, what, async || left(&stack, commands).await).await;
    let recovery = ended.elapsed();
    let ledger = ledger(&stack, commands, stuck.is_err()).await?;
    if ledger != Ledger::default() {
        nodes.iter().for_each(|node| println!("--- {}\n{}", node.name, node.host.log()));
        println!("{stuck:?}");
    }
    let befell = format!("{commands} commands; {}", done.join(", "));
    for Node { name, mut host, .. } in nodes {
        host.terminate()?;
        let status = host.exit().await?;
        ensure!(status.success(), "{name} ended with {status}: {befell}\n{}", host.log());
    }
    Ok(Outcome { ledger, befell, recovery })
}

/// Something bad happens to one of the nodes or to a server, and is over when this returns; slow networks
/// alone stay slow.
pub async fn disaster(stack: &mut Stack, nodes: &mut [Node], dice: &mut Dice) -> Result<String> {
    let sides = u64::try_from(nodes.len())?;
    let node = &mut nodes[usize::try_from(dice.throw(sides))?];
    let name = node.name;
    let pause = dice.pause(50, 2_500);
    Ok(match dice.throw(14) {
        0 | 1 => {
            node.host.kill()?;
            tokio::time::sleep(pause).await;
            node.host = start(stack, name, &node.to_postgres, &node.to_nats)?;
            format!("{name} killed for {pause:?}")
        }
        2 => {
            node.host.terminate()?;
            node.host.exit().await?;
            tokio::time::sleep(pause).await;
            node.host = start(stack, name, &node.to_postgres, &node.to_nats)?;
            format!("{name} stopped for {pause:?}")
        }
        3 | 4 => {
            node.host.freeze()?;
            tokio::time::sleep(pause).await;
            node.host.thaw()?;
            format!("{name} frozen for {pause:?}")
        }
        5 => {
            stack.nats.kill()?;
            tokio::time::sleep(pause / 4).await;
            stack.nats.start_again().await?;
            format!("nats-server killed for {:?}", pause / 4)
        }
        6 => {
            frozen(stack.nats.pid(), pause).await?;
            format!("nats-server frozen for {pause:?}")
        }
        7 => {
            let postgres = stack.postgres.as_mut().context("no Postgres")?;
            postgres.kill()?;
            tokio::time::sleep(pause / 4).await;
            postgres.start_again().await?;
            format!("Postgres killed for {:?}", pause / 4)
        }
        8 => {
            let postgres = stack.postgres.as_mut().context("no Postgres")?;
            postgres.stop().await?;
            tokio::time::sleep(pause).await;
            postgres.start_again().await?;
            format!("Postgres stopped for {pause:?}")
        }
        9..=11 => {
            let what = weather(&node.to_postgres, dice, pause).await;
            format!("{name} to Postgres {what}")
        }
        _ => {
            let what = weather(&node.to_nats, dice, pause).await;
            format!("{name} to nats-server {what}")
        }
    })
}

/// Something befalls a network.
async fn weather(way: &FaultProxy, dice: &mut Dice, pause: Duration) -> String {
    match dice.throw(7) {
        0 => {
            way.cut();
            "cut".to_owned()
        }
        1 => {
            way.refuse();
            tokio::time::sleep(pause).await;
            way.restore();
            format!("refused for {pause:?}")
        }
        2 => {
            way.stall();
            tokio::time::sleep(pause).await;
            way.restore();
            format!("swallowed for {pause:?}")
        }
        3 => {
            // What was asked is done, and nobody is told: commits of which the outcome is unknown.
            way.mute_server();
            tokio::time::sleep(pause).await;
            way.cut();
            way.restore();
            format!("answers lost for {pause:?}")
        }
        4 => {
            way.end_asking();
            "half-closed".to_owned()
        }
        5 => {
            way.end_answering();
            "half-closed by the server".to_owned()
        }
        _ => {
            let delay = dice.pause(5, 60);
            way.delay(delay);
            format!("slow by {delay:?}")
        }
    }
}

/// Starts a host that reaches the servers by these ways alone.
pub fn start(
    stack: &mut Stack,
    name: &str,
    to_postgres: &FaultProxy,
    to_nats: &FaultProxy,
) -> Result<Host> {
    let postgres = to_postgres.instead_of(stack.database_url());
    let nats = to_nats.instead_of(&stack.nats_url());
    stack.config.set("node.name", name).set("postgres.url", postgres).set("nats.url", nats);
    Ok(stack.spawn()?.quiet())
}

async fn frozen(pid: Option<u32>, pause: Duration) -> Result<()> {
    let raw = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = raw.context("it does not run")?;
    kill_process(pid, Signal::STOP)?;
    tokio::time::sleep(pause).await;
    kill_process(pid, Signal::CONT)?;
    Ok(())
}
