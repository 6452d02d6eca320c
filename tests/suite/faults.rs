//! Each fault point of the program and each thing that can go wrong there, by itself: the real host
//! runs against real servers under a small load, one thing goes wrong in it, and whoever was killed
//! is started again. At the end there is a ledger that must be clean, and what recovery did must be
//! what stands in faults/recovery.txt. A point that is not reached fails: so does a new one without
//! a way to get there. What goes wrong between the program and its servers is in faults/cut.rs.
//!
//! `TRIBOX_POINTS=after-commit` tries the cases with that in their name alone;
//! `TRIBOX_RECOVERY=write` writes down what recovery did. What differs from the last time is noted
//! as what may be (`~`) or not.

mod cut;
mod load;
mod recovery;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use tokio::sync::Semaphore;
use tribox::fault::{Action, Point};
use tribox_tests::{Host, Stack, wait_until};

use crate::ledger::Ledger;

/// Cases at a time, whichever test they belong to.
const AT_ONCE: usize = 4;
static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
/// The fault by which a host dies that leaves much behind: a part of it published, the rest not.
const LEAVES_MUCH: &str = "before-publish:kill:9";

/// What a case begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Nothing was there before.
    Fresh,
    /// A host of the same name was killed in the middle of its work.
    AfterAKill,
    /// A host of another name was.
    Beside,
}

/// Where a case begins, and at which pass of its point something goes wrong.
fn way(point: Point) -> (Start, u32) {
    match point {
        Point::LogRead | Point::LookingBack | Point::InHandNoted | Point::ConsumerDeleted => {
            (Start::AfterAKill, 1)
        }
        Point::TookOver | Point::LeftFinished => (Start::Beside, 1),
        Point::LeaseProlonged => (Start::Fresh, 2),
        Point::Received
        | Point::Loaded
        | Point::Handled
        | Point::BeforeCommit
        | Point::AfterCommit
        | Point::BeforeAck
        | Point::AfterAck
        | Point::HandedToRelay
        | Point::BeforePublish
        | Point::AfterPublish
        | Point::PubAckSeen => (Start::Fresh, 3),
        _ => (Start::Fresh, 1),
    }
}

/// What goes wrong at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The step itself does.
    In(Action),
    /// The connections to servers break while the program stands there.
    Cut(cut::Cut),
}

/// One thing that goes wrong at one point.
#[derive(Clone, Copy)]
struct Case {
    point: Point,
    wrong: Wrong,
}

impl Case {
    fn name(self) -> String {
        let point = self.point.name();
        match self.wrong {
            Wrong::In(action) => format!("{point} {}", action.name()),
            Wrong::Cut(cut) => format!("{point} {}", cut.name()),
        }
    }

    /// What the program itself does wrong.
    fn action(self) -> Action {
        match self.wrong {
            Wrong::In(action) => action,
            Wrong::Cut(..) => Action::Delay,
        }
    }

    /// What it is told of that; `stands`: the file that is there while it stands at the point.
    fn fault(self, stands: &Path) -> String {
        let (point, action) = (self.point.name(), self.action().name());
        let fault = format!("{point}:{action}:{}", way(self.point).1);
        match self.wrong {
            Wrong::In(_) => fault,
            Wrong::Cut(..) => format!("{fault}:{}", stands.display()),
        }
    }
}

/// Tries those that were asked for; returns what became of each, by its name.
async fn try_all(cases: impl Iterator<Item = Case>) -> Vec<(String, Result<recovery::Facts>)> {
    let only = std::env::var("TRIBOX_POINTS").unwrap_or_default();
    let cases: Vec<Case> = cases.filter(|case| case.name().contains(&only)).collect();
    let run = async |case: Case| (case.name(), run(case).await);
    let mut done: Vec<_> =
        futures_util::stream::iter(cases).map(run).buffer_unordered(AT_ONCE).collect().await;
    done.sort_by(|one: &(String, _), other| one.0.cmp(&other.0));
    done
}

#[tokio::test]
async fn whatever_goes_wrong_at_a_point_the_ledger_is_clean() -> Result<()> {
    let of = |point: Point| {
        point.actions().iter().map(move |&action| Case { point, wrong: Wrong::In(action) })
    };
    let done = try_all(Point::ALL.iter().copied().flat_map(of)).await;
    let count = done.len();
    let mut wrong: Vec<String> = Vec::new();
    let mut found = recovery::Book::new();
    for (name, outcome) in done {
        match outcome {
            Ok(facts) => drop(found.insert(name, facts)),
            Err(why) => wrong.push(format!("{name}: {why:#}")),
        }
    }
    let all = std::env::var("TRIBOX_POINTS").unwrap_or_default().is_empty() && wrong.is_empty();
    wrong.extend(recovery::compare(&found, all)?);
    println!("{count} cases at {} points", Point::ALL.len());
    ensure!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Runs a case; returns what recovery did.
async fn run(case: Case) -> Result<recovery::Facts> {
    let _place = PLACES.acquire().await?;
    let mut stack = Stack::new("fault").await?;
    let stands = stack.directory().join("stands");
    let mut run = Run { facts: recovery::Facts::new(), logs: Vec::new(), ended: 0 };
    let outcome = match case.wrong {
        Wrong::In(_) => run.through(case, &mut stack, &stands).await,
        Wrong::Cut(cut) => {
            let ways = cut::Ways::of(&mut stack).await?;
            tokio::select! {
                outcome = run.through(case, &mut stack, &stands) => outcome,
                Err(why) = ways.befall(cut, &stands) => Err(why),
            }
        }
    };
    if outcome.is_err() {
        run.logs.iter().for_each(|log| println!("--- {}\n{log}", case.name()));
    }
    outcome.map(|()| run.facts)
}

struct Run {
    facts: recovery::Facts,
    /// Of the hosts that have ended.
    logs: Vec<String>,
    /// How many of them ended by themselves.
    ended: u32,
}

impl Run {
    async fn through(&mut self, case: Case, stack: &mut Stack, stands: &Path) -> Result<()> {
        let (start, _) = way(case.point);
        let nowhere = case.point == Point::SetAside;
        stack.config.set("handlers.chaos.lanes", 1).set("handlers.chaos.turn", 4);
        stack.config.set("handlers.chaos.retry.backoff", "100ms");
        stack.config.set("handlers.chaos.retry.cap", "100ms");
        stack.config.set("node.name", "a").set("node.lease", "1s");
        load::prepare(stack).await?;
        load::publish(stack, nowhere).await?;
        if start != Start::Fresh {
            let mut before = stack.spawn_with(Some(LEAVES_MUCH))?.quiet();
            let status = before.exit().await?;
            ensure!(killed(status), "the host before ended with {status}:\n{}", before.log());
        }
        if start == Start::Beside {
            stack.config.set("node.name", "b");
        }
        let mut host = stack.spawn_with(Some(&case.fault(stands)))?.quiet();
        self.work(case, stack, &mut host, nowhere).await?;
        host.terminate()?;
        let status = host.exit().await?;
        self.logs.push(host.log());
        if !status.success() {
            self.ended(case, status);
            host = stack.spawn()?.quiet();
            self.work(case, stack, &mut host, nowhere).await?;
            host.stop().await?;
        }
        let told = format!("fault point {}: {}", case.point.name(), case.action().name());
        let struck = self.logs.iter().any(|log| log.contains(&told));
        ensure!(struck, "nothing went wrong: the point was not reached");
        let fell = matches!(case.wrong, Wrong::Cut(..)) && self.ended > 0;
        ensure!(!fell, "the program ended, and should have waited for its servers");
        let ledger = load::ledger(stack, nowhere).await?;
        ensure!(ledger == Ledger::default(), "{ledger}");
        self.facts.extend(recovery::of_logs(&self.logs));
        Ok(())
    }

    /// Waits until all is done, and has whoever ends started again.
    async fn work(
        &mut self,
        case: Case,
        stack: &mut Stack,
        host: &mut Host,
        nowhere: bool,
    ) -> Result<()> {
        let text = |e: anyhow::Error| format!("{e:#}");
        loop {
            let done = wait_until("all is done", async || {
                if let Some(status) = host.ended().map_err(text)? {
                    self.ended(case, status);
                    self.logs.push(host.log());
                    *host = stack.spawn().map_err(text)?.quiet();
                }
                load::left(stack, nowhere).await?;
                let ready = host.get("/readyz").await.map_err(text)?;
                let why = || format!("done, and not ready: {} {}", ready.status, ready.body);
                if ready.status == 200 { Ok(()) } else { Err(why()) }
            });
            if let Err(why) = done.await {
                self.logs.push(host.log());
                // Its log has the first thing that went wrong; this is what is wrong now.
                let trouble = match host.get("/readyz").await {
                    Ok(ready) => format!("{} {}", ready.status, ready.body),
                    Err(why) => text(why),
                };
                return Err(why.context(format!("the host says: {trouble}")));
            }
            match recovery::of_counters(host, &case.name()).await {
                Ok(counters) => {
                    self.facts.extend(counters);
                    return Ok(());
                }
                // A point behind its last step has ended it: once more.
                Err(_) if host.ended()?.is_some() => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// The host in which something went wrong has ended.
    fn ended(&mut self, case: Case, status: ExitStatus) {
        let how = match (killed(status), case.action()) {
            (true, Action::Kill) => "it was killed".to_owned(),
            _ => format!("it ended with {status}"),
        };
        self.facts.insert(how);
        self.ended += 1;
    }
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
