//! The results, as a table for people and as target/bench/report.json for scripts.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tribox_tests::programs;

use crate::measure::median;
use crate::run::{Latency, Throughput};
use crate::{Variant, machine};

/// What is tried out of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub tasks: usize,
    pub batch: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting { tasks: 0, .. } => f.write_str("as shipped"),
            Setting { tasks, batch: 0 } => write!(f, "{tasks} at a time"),
            Setting { tasks, batch } => write!(f, "{tasks} × {batch}"),
        }
    }
}

/// All that was measured of a variant.
pub struct Row {
    pub variant: Variant,
    pub throughput: Vec<(Setting, Throughput)>,
    /// With the rate.
    pub latency: Vec<(f64, Latency)>,
}

impl Row {
    pub fn new(variant: Variant) -> Self {
        Row { variant, throughput: Vec::new(), latency: Vec::new() }
    }

    fn of(&self, setting: Setting) -> Vec<&Throughput> {
        self.throughput.iter().filter(|(s, _)| *s == setting).map(|(_, t)| t).collect()
    }

    /// The setting with the highest median, of those that were run most often.
    pub fn best_setting(&self) -> Setting {
        let speed = |setting: Setting| {
            median(&self.of(setting).iter().map(|t| t.messages_per_s).collect::<Vec<f64>>())
        };
        let runs = |setting: Setting| self.of(setting).len();
        let most = self.throughput.iter().map(|(setting, _)| runs(*setting)).max();
        let settings = self.throughput.iter().map(|(setting, _)| *setting);
        let settings = settings.filter(|setting| Some(runs(*setting)) == most);
        let best = settings.max_by(|a, b| speed(*a).total_cmp(&speed(*b)));
        best.unwrap_or(Setting { tasks: 0, batch: 0 })
    }

    /// The runs in that setting.
    pub fn best(&self) -> Vec<&Throughput> {
        self.of(self.best_setting())
    }

    fn figure(&self, of: impl Fn(&Throughput) -> f64) -> f64 {
        median(&self.best().into_iter().map(of).collect::<Vec<f64>>())
    }

    fn messages_per_s(&self) -> f64 {
        self.figure(|t| t.messages_per_s)
    }
}

/// How much faster one variant is than another: the median of the rounds, in each of which both were run
/// within a minute or so.
fn ratio(rows: &[Row], of: Variant, to: Variant) -> f64 {
    let speeds = |variant| {
        let row = rows.iter().find(|row| row.variant == variant);
        row.map_or(Vec::new(), |row| row.best().iter().map(|t| t.messages_per_s).collect())
    };
    let (of, to): (Vec<f64>, Vec<f64>) = (speeds(of), speeds(to));
    median(&of.iter().zip(&to).map(|(of, to)| of / to).collect::<Vec<f64>>())
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    println!(
        "\n{:8} {:>11} {:>7}   {:>8} {:>6} {:>8}   {:>6} {:>7}   {:>24}",
        "variant",
        "messages/s",
        "×naive",
        "Postgres",
        "NATS",
        "program",
        "WAL",
        "memory",
        "ms at 100/s p50 p99 p99.9"
    );
    let naive = rows.first().map_or(1.0, Row::messages_per_s);
    for row in rows {
        let speed = row.messages_per_s();
        let at_100 = row.latency.first().map(|(_, l)| l);
        let at_100 =
            at_100.map_or(String::new(), |l| format!("{:.2} {:.2} {:.2}", l.p50, l.p99, l.p999));
        println!(
            "{:8} {speed:>11.0} {:>7.1}   {:>6.1}µs {:>4.1}µs {:>6.1}µs   {:>5.0}B {:>5.0}MB   {at_100:>24}",
            row.variant.name(),
            speed / naive,
            row.figure(|t| t.postgres_us),
            row.figure(|t| t.nats_us),
            row.figure(|t| t.program_us),
            row.figure(|t| t.wal),
            row.figure(|t| t.memory) / 1e6,
        );
    }
    println!("(CPU µs and bytes of WAL per message; medians of all runs)");
}

/// Writes target/bench/report.json, and returns what it says.
pub fn write(rows: &[Row]) -> Result<Value> {
    let variants: Map<String, Value> =
        rows.iter().map(|row| (row.variant.name().to_owned(), of_row(row))).collect();
    let report = json!({
        "machine": machine::facts(),
        "variants": variants,
        "ratios": {
            "tribox_to_naive": ratio(rows, Variant::Tribox, Variant::Naive),
            "tribox_to_floor": ratio(rows, Variant::Tribox, Variant::Floor),
            "tribox_to_limit": ratio(rows, Variant::Tribox, Variant::Limit),
        },
    });
    for (name, ratio) in report["ratios"].as_object().into_iter().flatten() {
        println!("{}: {:.2}", name.replace('_', " "), ratio.as_f64().unwrap_or(f64::NAN));
    }
    println!("{}", save("report.json", &report)?.display());
    Ok(report)
}

/// Writes a file below target/bench.
pub fn save(name: &str, value: &Value) -> Result<PathBuf> {
    let directory = programs::repository().join("target/bench");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join(name);
    std::fs::write(&file, format!("{value:#}\n")).context("the report cannot be written")?;
    Ok(file)
}

/// Reads a file below target/bench; null where there is none.
pub fn saved(name: &str) -> Value {
    let file = programs::repository().join("target/bench").join(name);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn of_row(row: &Row) -> Value {
    let speeds: Vec<f64> = row.best().iter().map(|t| t.messages_per_s).collect();
    let (slowest, fastest) = (
        speeds.iter().copied().fold(f64::INFINITY, f64::min),
        speeds.iter().copied().fold(0.0, f64::max),
    );
    let latency = row.latency.iter().map(
        |(rate, l)| json!({ "rate": rate, "p50_ms": l.p50, "p99_ms": l.p99, "p99_9_ms": l.p999 }),
    );
    let tried = row.throughput.iter().map(|(setting, t)| {
        json!({ "setting": setting.to_string(), "messages_per_s": t.messages_per_s })
    });
    let (postgres, nats, program) =
        (row.figure(|t| t.postgres_us), row.figure(|t| t.nats_us), row.figure(|t| t.program_us));
    json!({
        "setting": row.best_setting().to_string(),
        "messages_per_s": row.messages_per_s(),
        "messages_per_s_of_each_run": speeds,
        "spread": (fastest - slowest) / row.messages_per_s(),
        "tried": tried.collect::<Vec<Value>>(),
        "p50_ms_at_100": row.latency.first().map(|(_, l)| l.p50),
        "latency": latency.collect::<Vec<Value>>(),
        "cpu_us_per_message": postgres + nats + program,
        "cpu_us_per_message_of": { "postgres": postgres, "nats": nats, "program": program },
        "wal_bytes_per_message": row.figure(|t| t.wal),
        "resident_bytes": row.figure(|t| t.memory),
    })
}
