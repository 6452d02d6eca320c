//! The results, as a table for people and as target/bench/report.json for scripts.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tribox_tests::programs;

use crate::Variant;
use crate::measure::median;
use crate::run::{Latency, Throughput};

/// All that was measured of a variant.
pub struct Row {
    pub variant: Variant,
    /// With the number of tasks, where that was tried out.
    pub throughput: Vec<(usize, Throughput)>,
    /// With the rate.
    pub latency: Vec<(f64, Latency)>,
}

impl Row {
    pub fn new(variant: Variant) -> Self {
        Row { variant, throughput: Vec::new(), latency: Vec::new() }
    }

    /// The runs with the number of tasks that was best.
    fn best(&self) -> Vec<&Throughput> {
        let of =
            |tasks: usize| self.throughput.iter().filter(move |(n, _)| *n == tasks).map(|(_, t)| t);
        let speed =
            |tasks: usize| median(&of(tasks).map(|t| t.messages_per_s).collect::<Vec<f64>>());
        let best = self.throughput.iter().map(|(tasks, _)| *tasks);
        let best = best.max_by(|a, b| speed(*a).total_cmp(&speed(*b))).unwrap_or_default();
        of(best).collect()
    }

    fn figure(&self, of: impl Fn(&Throughput) -> f64) -> f64 {
        median(&self.best().into_iter().map(of).collect::<Vec<f64>>())
    }

    fn messages_per_s(&self) -> f64 {
        self.figure(|t| t.messages_per_s)
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    println!(
        "\n{:8} {:>11} {:>7}   {:>8} {:>6} {:>8}   {:>7}   {:>24}",
        "variant",
        "messages/s",
        "×naive",
        "Postgres",
        "NATS",
        "program",
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
            "{:8} {speed:>11.0} {:>7.1}   {:>6.1}µs {:>4.1}µs {:>6.1}µs   {:>5.0}MB   {at_100:>24}",
            row.variant.name(),
            speed / naive,
            row.figure(|t| t.postgres_us),
            row.figure(|t| t.nats_us),
            row.figure(|t| t.program_us),
            row.figure(|t| t.memory) / 1e6,
        );
    }
    println!("(CPU µs per message; medians of all runs)");
}

/// Writes target/bench/report.json.
pub fn write(rows: &[Row]) -> Result<()> {
    let variants: serde_json::Map<String, Value> =
        rows.iter().map(|row| (row.variant.name().to_owned(), of_row(row))).collect();
    let speed = |variant| {
        rows.iter().find(|row| row.variant == variant).map_or(f64::NAN, Row::messages_per_s)
    };
    let tribox = speed(Variant::Tribox);
    let report = json!({
        "variants": variants,
        "ratios": {
            "tribox_to_naive": tribox / speed(Variant::Naive),
            "tribox_to_floor": tribox / speed(Variant::Floor),
            "tribox_to_limit": tribox / speed(Variant::Limit),
        },
    });
    let directory = programs::repository().join("target/bench");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("report.json");
    std::fs::write(&file, format!("{report:#}\n")).context("the report cannot be written")?;
    println!("{}", file.display());
    Ok(())
}

fn of_row(row: &Row) -> Value {
    let speeds: Vec<f64> = row.best().iter().map(|t| t.messages_per_s).collect();
    let latency = row.latency.iter().map(
        |(rate, l)| json!({ "rate": rate, "p50_ms": l.p50, "p99_ms": l.p99, "p99_9_ms": l.p999 }),
    );
    let (postgres, nats, program) =
        (row.figure(|t| t.postgres_us), row.figure(|t| t.nats_us), row.figure(|t| t.program_us));
    json!({
        "messages_per_s": row.messages_per_s(),
        "messages_per_s_of_each_run": speeds,
        "p50_ms_at_100": row.latency.first().map(|(_, l)| l.p50),
        "latency": latency.collect::<Vec<Value>>(),
        "cpu_us_per_message": postgres + nats + program,
        "cpu_us_per_message_of": { "postgres": postgres, "nats": nats, "program": program },
        "resident_bytes": row.figure(|t| t.memory),
    })
}
