//! The benchmark: the same work done by a hand-written service, by tribox, by tribox's pipeline
//! without wasm, and by the servers alone, side by side in one run. A figure counts only if the run
//! was verified.

mod floor;
mod limit;
mod measure;
mod naive;
mod report;
mod run;
mod work;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::measure::median;
use crate::report::Row;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    Naive,
    Floor,
    Limit,
    Tribox,
}

impl Variant {
    const ALL: [Variant; 4] = [Variant::Naive, Variant::Floor, Variant::Limit, Variant::Tribox];

    fn name(self) -> &'static str {
        match self {
            Variant::Naive => "naive",
            Variant::Floor => "floor",
            Variant::Limit => "limit",
            Variant::Tribox => "tribox",
        }
    }

    /// The balances that it left, for the check.
    fn accounts(self) -> &'static str {
        match self {
            Variant::Naive => "SELECT (body->>'balance')::bigint AS balance FROM naive_accounts",
            Variant::Limit => "SELECT (body->>'balance')::bigint AS balance FROM limit_accounts",
            Variant::Floor | Variant::Tribox => {
                "SELECT (body->>'balance')::bigint AS balance FROM tribox.documents
                  WHERE collection = 'accounts' AND body IS NOT NULL"
            }
        }
    }
}

/// The size of a run.
#[derive(Debug, Clone)]
pub struct Shape {
    pub messages: usize,
    pub keys: usize,
    pub lanes: usize,
    pub turn: usize,
    pub tasks: usize,
}

const USUAL: Shape = Shape { messages: 100_000, keys: 10_000, lanes: 2, turn: 512, tasks: 32 };

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.context("no runtime").and_then(|runtime| runtime.block_on(bench()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["variant", name, database, nats, lanes, turn, tasks] => {
            let (lanes, turn) = (lanes.parse()?, turn.parse()?);
            match *name {
                "naive" => naive::run(database, nats, tasks.parse()?).await,
                "floor" => floor::run(database, nats, lanes, turn).await,
                "limit" => limit::run(database, nats, lanes, 1_024).await,
                other => bail!("no variant '{other}'"),
            }
        }
        [] => compare(3, 100_000).await,
        ["--quick"] => compare(1, 40_000).await,
        _ => bail!("usage: bench [--quick]"),
    }
}

/// Measures all variants in turn, several times, so that a machine whose speed drifts is fair.
async fn compare(runs: usize, messages: usize) -> Result<()> {
    let mut rows: Vec<Row> = Variant::ALL.map(Row::new).into();
    for round in 1..=runs {
        for row in &mut rows {
            for tasks in tasks(row.variant) {
                // One at a time is a quarter as fast: a quarter of the work tells as much.
                let messages = if row.variant == Variant::Naive { messages / 4 } else { messages };
                let shape = Shape { messages, tasks: *tasks, ..USUAL };
                let measured = run::throughput(row.variant, &shape).await?;
                let name = row.variant.name();
                println!("{round}/{runs} {name} ({tasks}): {:.0}/s", measured.messages_per_s);
                row.throughput.push((*tasks, measured));
            }
        }
    }
    for row in &mut rows {
        let shape = Shape { messages: 1_000, ..USUAL };
        row.latency.push((100.0, run::latency(row.variant, &shape, 100.0).await?));
        println!("{} at 100/s: p50 {:.2} ms", row.variant.name(), row.latency[0].1.p50);
        if runs > 1 {
            let shape = Shape { messages: 10_000, ..USUAL };
            row.latency.push((1_000.0, run::latency(row.variant, &shape, 1_000.0).await?));
            let speeds: Vec<f64> = row.throughput.iter().map(|(_, t)| t.messages_per_s).collect();
            let half = median(&speeds) / 2.0;
            let shape = Shape { messages: (half * 10.0) as usize, ..USUAL };
            row.latency.push((half, run::latency(row.variant, &shape, half).await?));
        }
    }
    report::print(&rows);
    report::write(&rows)
}

/// How many messages a hand-written service handles at a time is tried out; the others know.
fn tasks(variant: Variant) -> &'static [usize] {
    match variant {
        Variant::Naive => &[1, 8, 32],
        _ => &[0],
    }
}
