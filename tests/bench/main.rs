//! The benchmark: the same work done by a hand-written service, by tribox, by tribox's pipeline
//! without wasm, and by the servers alone, side by side in one run. A figure counts only if the run
//! was verified.

mod compare;
mod failing;
mod floor;
mod limit;
mod machine;
mod measure;
mod naive;
mod nodes;
mod page;
mod picture;
mod report;
mod run;
mod servers;
mod special;
mod sweeps;
mod work;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// As in tribox: no variant is to have the better one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shape {
    pub messages: usize,
    pub keys: usize,
    pub lanes: usize,
    pub turn: usize,
    /// Messages that `naive` handles at a time; connections of `limit`.
    pub tasks: usize,
    /// Messages of a commit of `limit`.
    pub batch: usize,
    /// Bytes of a command's padding; documents and events follow from it.
    pub padding: usize,
}

const USUAL: Shape = Shape {
    messages: 100_000,
    keys: 10_000,
    lanes: 2,
    turn: 1_024,
    tasks: 1,
    batch: 1_024,
    padding: 150,
};

const USAGE: &str = "usage: bench [--quick] | bench --sweeps [NAME...] | bench --only VARIANT";

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
        ["variant", name, database, nats, shape] => {
            let shape: Shape = serde_json::from_str(shape)?;
            match *name {
                "naive" => naive::run(database, nats, shape.tasks).await,
                "floor" => floor::run(database, nats, shape.lanes, shape.turn).await,
                "limit" => limit::run(database, nats, shape.tasks, shape.batch).await,
                other => bail!("no variant '{other}'"),
            }
        }
        [] => compare::all(&compare::FULL).await,
        ["--quick"] => compare::all(&compare::QUICK).await,
        ["--only", name] => {
            let found = Variant::ALL.into_iter().find(|variant| variant.name() == *name);
            compare::only(found.with_context(|| format!("no variant '{name}'"))?).await
        }
        ["--sweeps", names @ ..] => sweeps::all(names).await,
        _ => bail!(USAGE),
    }
}
