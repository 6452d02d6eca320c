//! Disasters at random: three hosts, Postgres and nats-server are killed, stopped in order and frozen, in
//! random order and under load, and at the end there is a ledger that must be clean. `make disasters
//! RUNS=n SEED=s` runs as many as one likes; the suite runs one.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tribox_tests::{Broker, Host, Stack, StackOptions, wait_within};

use crate::books::{self, EVENTS};
use crate::ledger::Ledger;

/// Disasters of a run.
const DISASTERS: u32 = 8;
/// Commands that are published at once, and the pause behind them: the load is to last.
const CHUNK: u64 = 20;
const PAUSE: Duration = Duration::from_millis(20);
const HOSTS: [&str; 3] = ["a", "b", "c"];
/// How long all may take to recover after the last disaster.
const PATIENCE: Duration = Duration::from_secs(90);

/// Numbers that a seed repeats.
struct Dice(u64);

impl Dice {
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

#[tokio::test]
async fn the_ledger_is_clean_after_random_disasters() -> Result<()> {
    let number = |name: &str, usual: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (runs, seed) = (number("TRIBOX_DISASTERS", 1), number("TRIBOX_SEED", 1));
    for run in 0..runs {
        let seed = seed + run;
        let (ledger, done, recovery) =
            one_run(seed).await.with_context(|| format!("seed {seed}"))?;
        println!("seed {seed}: {ledger}; recovered in {:.1} s; {done}", recovery.as_secs_f64());
        ensure!(ledger == Ledger::default(), "seed {seed}: {ledger}; {done}");
    }
    Ok(())
}

/// One run: what the ledger says, what befell it, and how long all took to recover.
async fn one_run(seed: u64) -> Result<(Ledger, String, Duration)> {
    let options = StackOptions { own_postgres: true, ..StackOptions::default() };
    let mut stack = Stack::with("disasters", options).await?;
    stack.config.set("node.lease", "1s");
    books::prepare(&stack).await?;
    let mut hosts = Vec::new();
    for name in HOSTS {
        stack.config.set("node.name", name);
        hosts.push(stack.serve().await?.quiet());
    }
    // Seeds that differ by one are to differ in everything.
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (broker, over) = (stack.broker.clone(), Cell::new(false));
    let befalling = async {
        let mut done = Vec::new();
        for _ in 0..DISASTERS {
            tokio::time::sleep(dice.pause(100, 900)).await;
            done.push(disaster(&mut stack, &mut hosts, &mut dice).await?);
        }
        over.set(true);
        anyhow::Ok((done, Instant::now()))
    };
    let ((done, ended), commands) = tokio::try_join!(befalling, publish(&broker, &over))?;
    let what = "nothing is left to do";
    let stuck = wait_within(PATIENCE, what, async || left(&stack, commands).await).await;
    let recovery = ended.elapsed();
    let ledger = ledger(&stack, commands, stuck.is_err()).await?;
    if ledger != Ledger::default() {
        hosts.iter().for_each(|host| println!("{}", host.log()));
        println!("{stuck:?}");
    }
    for host in hosts {
        host.stop().await?;
    }
    Ok((ledger, format!("{commands} commands; {}", done.join(", ")), recovery))
}

/// Publishes commands one after the other, each until a stream has it, until the disasters are over;
/// returns how many.
async fn publish(broker: &Broker, over: &Cell<bool>) -> Result<u64> {
    let mut next = 0;
    while !over.get() {
        for (id, subject, body) in (next..next + CHUNK).map(books::credit) {
            wait_within(PATIENCE, "a command is stored", async || {
                broker.publish_as(&id, &subject, body.clone()).await.map_err(|e| format!("{e:#}"))
            })
            .await?;
        }
        next += CHUNK;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(next)
}

/// Something bad happens, and is over when this returns.
async fn disaster(stack: &mut Stack, hosts: &mut [Host], dice: &mut Dice) -> Result<String> {
    let which = usize::try_from(dice.throw(3))?;
    let name = HOSTS[which];
    let pause = dice.pause(50, 2_500);
    Ok(match dice.throw(9) {
        0 | 1 => {
            hosts[which].kill()?;
            tokio::time::sleep(pause).await;
            hosts[which] = start(stack, name)?;
            format!("{name} killed for {pause:?}")
        }
        2 => {
            hosts[which].terminate()?;
            hosts[which].exit().await?;
            tokio::time::sleep(pause).await;
            hosts[which] = start(stack, name)?;
            format!("{name} stopped for {pause:?}")
        }
        3 | 4 => {
            hosts[which].freeze()?;
            tokio::time::sleep(pause).await;
            hosts[which].thaw()?;
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
        _ => {
            let postgres = stack.postgres.as_mut().context("no Postgres")?;
            postgres.stop().await?;
            tokio::time::sleep(pause).await;
            postgres.start_again().await?;
            format!("Postgres stopped for {pause:?}")
        }
    })
}

fn start(stack: &mut Stack, name: &str) -> Result<Host> {
    stack.config.set("node.name", name);
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

/// What keeps the run from being over.
async fn left(stack: &Stack, commands: u64) -> Result<(), String> {
    let text = |e: anyhow::Error| format!("{e:#}");
    let handled = stack.number("SELECT count(*) FROM tribox.inbox").await.map_err(text)?;
    let unsent = "SELECT count(*) FROM tribox.outbox o JOIN tribox.writers w ON w.id = o.writer
                   WHERE o.seq > w.published";
    let unsent = stack.number(unsent).await.map_err(text)?;
    let parked = stack.number("SELECT count(*) FROM tribox.parked").await.map_err(text)?;
    if handled >= i64::try_from(commands).unwrap_or(i64::MAX) && unsent == 0 && parked == 0 {
        return Ok(());
    }
    Err(format!("{handled} handled, {unsent} unpublished, {parked} parked"))
}

/// Asks the database and the stream, and not the hosts.
async fn ledger(stack: &Stack, commands: u64, stuck: bool) -> Result<Ledger> {
    let mut ledger = Ledger { stuck: u64::from(stuck), ..Ledger::default() };
    let mut due: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for n in 0..commands {
        let (_, subject, _) = books::credit(n);
        let account = subject.split('.').nth(1).context("an account")?.to_owned();
        due.entry(account).or_default().push(n + 1);
    }
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut ids: HashMap<Option<String>, u64> = HashMap::new();
    for event in stack.broker.read(EVENTS).await? {
        let body = event.json();
        let account = body["account"].as_str().context("an account")?.to_owned();
        *ids.entry(event.id).or_default() += 1;
        told.entry(account).or_default().push(body["amount"].as_u64().unwrap_or(0));
    }
    ledger.published_twice = ids.values().map(|count| count - 1).sum();
    for (account, amounts) in due {
        let found = told.remove(&account).unwrap_or_default();
        let missing = amounts.iter().filter(|amount| !found.contains(amount)).count();
        ledger.lost += u64::try_from(missing)?;
        ledger.out_of_order += u64::try_from(found.windows(2).filter(|w| w[0] > w[1]).count())?;
        let document = stack.document("accounts", &account).await?.unwrap_or_default();
        let changes = document["changes"].as_u64().unwrap_or(0);
        let count = u64::try_from(amounts.len())?;
        ledger.applied_twice += changes.saturating_sub(count);
        ledger.lost += count.saturating_sub(changes);
        let expected = json!(amounts.iter().sum::<u64>());
        if changes == count && document["balance"] != expected {
            ledger.applied_twice += 1;
        }
    }
    Ok(ledger)
}
