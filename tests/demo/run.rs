//! The run itself: publish, kill the host half-way, start it again, and wait until all is done.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sqlx::PgPool;
use tribox_tests::{Broker, Stack};

use crate::deliveries::{self, Deliveries};
use crate::plan::{Command, DUPLICATES, Plan};
use crate::progress::Progress;
use crate::publish::{self, EVENTS};

/// How long nothing may happen before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(25);

/// What was seen on the way.
#[derive(Debug)]
pub struct Course {
    /// How many commands were handled when the host was killed.
    pub killed_at: u64,
    /// From SIGKILL until the new process was ready.
    pub restart: Duration,
    /// Handled per second until the host was killed.
    pub rate: f64,
    /// From the first command to the last event, kill and restart included.
    pub elapsed: Duration,
    /// Deliveries beyond the first of each message in the stream.
    pub redelivered: u64,
}

/// Runs the host over the plan's commands. The host is stopped when this returns.
pub async fn run(stack: &mut Stack, plan: &Plan) -> Result<Course> {
    let total = u64::try_from(plan.commands.len())?;
    let (early, late) = duplicates(plan);
    let mut progress = Progress::new(total);
    let mut deliveries = Deliveries::default();
    let mut host = stack.serve().await?.quiet();
    let started = Instant::now();

    let broker = stack.broker.clone();
    let publishing = async {
        publish::once(&broker, &plan.commands).await?;
        publish::again(&broker, &early).await
    };
    // While the other goes on: messages keep coming when a host dies.
    let killing = async {
        let killed_at = until_handled(&stack.pool, total / 2, &mut progress).await;
        let killed_at = killed_at.with_context(|| host.log())?;
        let rate = killed_at as f64 / started.elapsed().as_secs_f64();
        host.kill()?;
        progress.say(&format!("kill -9 after {killed_at} commands, and start again"));
        let killed = Instant::now();
        deliveries.look(&stack.broker).await?;
        let host = stack.serve().await?.quiet();
        Ok::<_, anyhow::Error>((host, killed_at, rate, killed.elapsed()))
    };
    let (published, killed) = tokio::join!(publishing, killing);
    let (host, killed_at, rate, restart) = killed?;
    published?;

    publish::again(&stack.broker, &late).await?;
    until_handled(&stack.pool, total, &mut progress).await.with_context(|| host.log())?;
    progress.finish();
    let events = u64::try_from(plan.events())?;
    until_settled(&stack.broker, events).await.with_context(|| host.log())?;
    let elapsed = started.elapsed();
    deliveries.look(&stack.broker).await?;
    let redelivered = deliveries.again(&stack.broker).await?;
    host.stop().await?;
    Ok(Course { killed_at, restart, rate, elapsed, redelivered })
}

/// What is published twice: one half as soon as JetStream lets it, one half after the restart.
fn duplicates(plan: &Plan) -> (Vec<&Command>, Vec<&Command>) {
    let step = plan.commands.len() / DUPLICATES;
    let chosen = plan.commands.iter().step_by(step).take(DUPLICATES).enumerate();
    let (early, late): (Vec<_>, Vec<_>) = chosen.partition(|(number, _)| number % 2 == 0);
    let commands = |chosen: Vec<(usize, _)>| chosen.into_iter().map(|(_, command)| command);
    (commands(early).collect(), commands(late).collect())
}

/// Waits until so many commands are in the inbox: what is committed, not what the host says.
async fn until_handled(pool: &PgPool, count: u64, progress: &mut Progress) -> Result<u64> {
    let mut last = (0, Instant::now());
    loop {
        let handled: i64 =
            sqlx::query_scalar("SELECT count(*) FROM tribox.inbox").fetch_one(pool).await?;
        let handled = u64::try_from(handled)?;
        progress.set(handled);
        if handled >= count {
            return Ok(handled);
        }
        if handled > last.0 {
            last = (handled, Instant::now());
        }
        if last.1.elapsed() > PATIENCE {
            bail!("only {handled} of {count} commands were handled; nothing in {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until JetStream has nothing left to deliver, duplicates included
/// and the events are there.
async fn until_settled(broker: &Broker, events: u64) -> Result<()> {
    tribox_tests::wait_within(PATIENCE, "all is acknowledged and published", async || {
        let open = deliveries::open(broker).await.map_err(|e| format!("{e:#}"))?;
        let there = broker.count(EVENTS).await.map_err(|e| format!("{e:#}"))?;
        if open == 0 && there >= events {
            return Ok(());
        }
        Err(format!("{open} deliveries are open, {there} of {events} events are published"))
    })
    .await
}
