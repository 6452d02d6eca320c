//! The sweeps: how tribox does when one thing is varied. Each is bounded in time. What is measured is
//! kept in target/bench/sweeps.json, so that they can be run one by one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::picture::number;
use crate::run::{self, Throughput};
use crate::{Shape, USUAL, Variant, failing, nodes, page, report, special};

/// A sweep with what it came to.
pub struct Table {
    pub title: &'static str,
    pub note: String,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

const NAMES: [&str; 16] = [
    "lanes",
    "turn",
    "payload",
    "keys",
    "outgoing",
    "handlers",
    "startup",
    "xmin",
    "backlog",
    "inbox",
    "pruning",
    "waiting",
    "memory",
    "failures",
    "languages",
    "nodes",
];

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(1_800);

const SPEED: [&str; 6] =
    ["messages/s", "CPU µs: Postgres", "NATS", "program", "WAL bytes", "memory"];

/// Runs these sweeps, or all.
pub async fn all(names: &[&str]) -> Result<()> {
    let names = if names.is_empty() { &NAMES } else { names };
    let mut saved = report::saved("sweeps.json");
    if !saved.is_object() {
        saved = json!({});
    }
    let mut failed = Vec::new();
    for name in names {
        println!("== {name}");
        let outcome = match tokio::time::timeout(PATIENCE, one(name)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::anyhow!("not done in {PATIENCE:?}")),
        };
        match outcome {
            Ok(table) => {
                saved[*name] = json!({
                    "title": table.title,
                    "note": table.note,
                    "head": table.head,
                    "rows": table.rows,
                });
                report::save("sweeps.json", &saved)?;
            }
            Err(why) => {
                println!("{name} failed: {why:#}");
                failed.push(*name);
            }
        }
    }
    page::write_sweeps(&saved)?;
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

async fn one(name: &str) -> Result<Table> {
    match name {
        "lanes" => {
            let shapes = [1, 2, 4, 8].map(|lanes| (lanes.to_string(), Shape { lanes, ..MANY }));
            shaped("Lanes.", "The number of lanes of the handler.", "lanes", shapes.into()).await
        }
        "turn" => {
            let shapes = [16, 64, 256, 512, 1_024, 2_048];
            let shapes = shapes.map(|turn| (turn.to_string(), Shape { turn, ..MANY }));
            shaped("Turn.", "Messages in a turn at most.", "turn", shapes.into()).await
        }
        "payload" => {
            let shapes = [(150, 60_000), (1_000, 60_000), (10_000, 15_000)];
            let shapes = shapes.map(|(padding, messages)| {
                (number(padding as f64), Shape { padding, messages, ..MANY })
            });
            let note = "Bytes of the reference in each command, document and event.";
            shaped("Payload.", note, "bytes", shapes.into()).await
        }
        "keys" => {
            let shapes = [1, 100, 10_000, 1_000_000];
            let shapes = shapes.map(|keys| (number(keys as f64), Shape { keys, ..MANY }));
            let note = "How many keys the commands are spread over. Of a million keys each is met \
                        once at most: its document is looked for and made.";
            shaped("Keys.", note, "keys", shapes.into()).await
        }
        "outgoing" => special::outgoing(&[0, 1, 10]).await,
        "handlers" => special::handlers(&[1, 10, 50]).await,
        "startup" => special::startup(50).await,
        "xmin" => special::held_xmin().await,
        "backlog" => special::backlog(1_000_000).await,
        "nodes" => nodes::nodes(&[1, 2, 3]).await,
        "inbox" => special::inbox(&rows_from("INBOX_ROWS", &[0, 5_000_000])?).await,
        "pruning" => special::pruning(&rows_from("PRUNING_ROWS", &[0, 5_000_000])?).await,
        "waiting" => special::waiting(1_000_000).await,
        "failures" => failing::failures().await,
        "languages" => special::languages().await,
        "memory" => {
            let minutes = rows_from("MEMORY_MINUTES", &[10])?;
            special::memory(minutes.first().copied().unwrap_or(10)).await
        }
        other => bail!("there is no sweep '{other}'; there are: {}", NAMES.join(", ")),
    }
}

const MANY: Shape = Shape { messages: 80_000, ..USUAL };

/// A list of numbers from the environment.
fn rows_from(variable: &str, default: &[i64]) -> Result<Vec<i64>> {
    let Ok(text) = std::env::var(variable) else { return Ok(default.to_vec()) };
    let numbers = text.split(',').map(|number| number.trim().replace('_', "").parse());
    numbers.collect::<Result<_, _>>().with_context(|| format!("{variable}={text}"))
}

async fn shaped(
    title: &'static str,
    note: &str,
    what: &'static str,
    shapes: Vec<(String, Shape)>,
) -> Result<Table> {
    let mut rows = Vec::new();
    for (label, shape) in shapes {
        let measured = run::throughput(Variant::Tribox, &shape).await?;
        println!("{what} {label}: {measured}");
        rows.push(line(label, &measured));
    }
    Ok(Table { title, note: note.to_owned(), head: head(what), rows })
}

/// The heading of a table of throughputs.
pub fn head(what: &'static str) -> Vec<&'static str> {
    std::iter::once(what).chain(SPEED).collect()
}

/// A line of it.
pub fn line(label: String, measured: &Throughput) -> Vec<String> {
    vec![
        label,
        number(measured.messages_per_s),
        format!("{:.1}", measured.postgres_us),
        format!("{:.1}", measured.nats_us),
        format!("{:.1}", measured.program_us),
        number(measured.wal),
        format!("{:.0} MB", measured.memory / 1e6),
    ]
}
