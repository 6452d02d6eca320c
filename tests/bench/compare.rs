//! The comparison: every variant at its best setting, in turn and many times, so that a machine whose
//! speed drifts is fair to all; then latencies.

use anyhow::Result;

use crate::measure::median;
use crate::report::{self, Row, Setting};
use crate::{Shape, USUAL, Variant, page, run};

/// How much is measured.
pub struct Extent {
    /// Rounds in which each variant is run in each of its settings.
    pub trials: usize,
    /// Rounds in all; behind the trials each variant is run in the best of them.
    pub rounds: usize,
    /// Messages of a run; `naive`, a tenth as fast, gets a quarter.
    pub messages: usize,
    /// Whether latencies are measured at other rates than 100/s, and docs are written.
    pub whole: bool,
}

pub const FULL: Extent = Extent { trials: 2, rounds: 7, messages: 150_000, whole: true };
pub const QUICK: Extent = Extent { trials: 1, rounds: 1, messages: 60_000, whole: false };

/// What is tried out of a variant: (tasks, batch).
fn settings(variant: Variant) -> &'static [Setting] {
    const fn setting(tasks: usize, batch: usize) -> Setting {
        Setting { tasks, batch }
    }
    match variant {
        Variant::Naive => &const { [setting(1, 0), setting(8, 0), setting(32, 0)] },
        Variant::Limit => &const { [setting(2, 512), setting(2, 1_024), setting(3, 1_024)] },
        Variant::Floor | Variant::Tribox => &const { [setting(0, 0)] },
    }
}

fn shape(setting: Setting, messages: usize) -> Shape {
    Shape { messages, tasks: setting.tasks, batch: setting.batch, ..USUAL }
}

/// Measures all variants, and writes the report.
pub async fn all(extent: &Extent) -> Result<()> {
    let mut rows: Vec<Row> = Variant::ALL.map(Row::new).into();
    for round in 1..=extent.rounds {
        for row in &mut rows {
            let (variant, name) = (row.variant, row.variant.name());
            let messages = match variant {
                Variant::Naive => extent.messages / 4,
                _ => extent.messages,
            };
            let best = [row.best_setting()];
            let tried = if round <= extent.trials { settings(variant) } else { &best };
            for setting in tried {
                let shape = shape(*setting, messages);
                let measured = run::throughput(variant, &shape).await?;
                println!("{round}/{} {name} {setting}: {measured}", extent.rounds);
                row.throughput.push((*setting, measured));
            }
        }
    }
    for row in &mut rows {
        latencies(row, extent.whole).await?;
    }
    report::print(&rows);
    let report = report::write(&rows)?;
    if extent.whole { page::write(&report) } else { Ok(()) }
}

async fn latencies(row: &mut Row, whole: bool) -> Result<()> {
    let speeds: Vec<f64> = row.best().iter().map(|t| t.messages_per_s).collect();
    let half = (median(&speeds) / 2.0).round();
    let rates: &[(f64, usize)] =
        if whole { &[(100.0, 1_500), (1_000.0, 10_000)] } else { &[(100.0, 1_000)] };
    let mut rates = rates.to_vec();
    if whole {
        rates.push((half, (half * 10.0) as usize));
    }
    let best = row.best_setting();
    for (rate, messages) in rates {
        // More than it can do tells nothing.
        if rate > half * 2.0 {
            continue;
        }
        let latency = run::latency(row.variant, &shape(best, messages), rate).await?;
        println!("{} at {rate}/s: {latency}", row.variant.name());
        row.latency.push((rate, latency));
    }
    Ok(())
}

/// One variant alone, for profiling.
pub async fn only(variant: Variant) -> Result<()> {
    for setting in settings(variant) {
        let measured = run::throughput(variant, &shape(*setting, FULL.messages)).await?;
        println!("{} {setting}: {measured}", variant.name());
    }
    let shape = shape(settings(variant)[settings(variant).len() - 1], 1_000);
    let latency = run::latency(variant, &shape, 100.0).await?;
    println!("{} at 100/s: {latency}", variant.name());
    Ok(())
}
