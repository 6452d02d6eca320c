//! What a host and its database take, over time.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sqlx::PgPool;

use super::flow::Over;

/// The tables' size with their indexes, and connections to the server.
const DATABASE: &str = "SELECT
    (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
      WHERE c.relnamespace = 'tribox'::regnamespace AND c.relkind = 'r'),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";

/// How it stands at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    seconds: u64,
    /// Bytes of memory, open files and threads of the host.
    resident: u64,
    files: u64,
    threads: u64,
    /// Of the database: bytes of its tables, and clients.
    tables: u64,
    clients: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { seconds, resident, files, threads, tables, clients } = self;
        write!(
            f,
            "{seconds:>5} s: {} MB, {files} files, {threads} threads; tables {} MB, {clients} clients",
            resident >> 20,
            tables >> 20
        )
    }
}

/// Measures until all is over. While Postgres is away nothing is noted.
pub async fn take(pid: u32, pool: PgPool, every: Duration, over: Over) -> Result<Vec<Sample>> {
    let started = Instant::now();
    let mut samples = Vec::new();
    let mut tick = tokio::time::interval(every);
    while !over.ended() {
        tick.tick().await;
        let asked = sqlx::query_as(DATABASE).fetch_one(&pool);
        let answer: Result<(i64, i64), _> = asked.await;
        let Ok((tables, clients)) = answer else { continue };
        samples.push(Sample {
            seconds: started.elapsed().as_secs(),
            tables: u64::try_from(tables)?,
            clients: u64::try_from(clients)?,
            ..of_process(pid)?
        });
    }
    Ok(samples)
}

fn of_process(pid: u32) -> Result<Sample> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no host")?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        value.with_context(|| format!("no {name} in its status"))
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok(Sample {
        resident: number("VmRSS:")? * 1_024,
        threads: number("Threads:")?,
        files: u64::try_from(files)?,
        ..Sample::default()
    })
}

/// What is measured, and how much more of it in the last third than in the second one is growth: a
/// tenth, and so much that one disaster makes a difference of it.
type Measure = (&'static str, fn(&Sample) -> u64, u64);

const MEASURES: &[Measure] = &[
    ("bytes of memory", |s| s.resident, 16 << 20),
    ("open files", |s| s.files, 8),
    ("threads", |s| s.threads, 4),
    ("bytes of tables", |s| s.tables, 32 << 20),
    ("clients of Postgres", |s| s.clients, 8),
];

/// The middle value of each third of the run.
fn thirds(samples: &[Sample], of: fn(&Sample) -> u64) -> [u64; 3] {
    let middle = |part: usize| {
        let (from, to) = (samples.len() * part / 3, samples.len() * (part + 1) / 3);
        let mut values: Vec<u64> = samples[from..to].iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    [middle(0), middle(1), middle(2)]
}

/// What grows.
pub fn grown(samples: &[Sample]) -> Vec<String> {
    let grows = |(what, of, slack): &Measure| {
        let [_, before, after] = thirds(samples, *of);
        let more = after > before + before / 10 + slack;
        more.then(|| format!("{what} grow: {before} in the second third, {after} in the last one"))
    };
    MEASURES.iter().filter_map(grows).collect()
}

/// All of them, in a line each.
pub fn summary(samples: &[Sample]) -> String {
    let line = |(what, of, _): &Measure| {
        let [first, second, third] = thirds(samples, *of);
        let most = samples.iter().map(of).max().unwrap_or_default();
        format!("{what}: {first}, {second}, {third} (middle of each third), {most} at most")
    };
    MEASURES.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_grows_is_named() {
    let with = |resident: u64| Sample { resident, ..Sample::default() };
    let flat: Vec<Sample> = (0..90).map(|n| with((100 + n % 7) << 20)).collect();
    assert!(grown(&flat).is_empty());
    let rising: Vec<Sample> = (0..90).map(|n| with((100 + n * 2) << 20)).collect();
    assert!(grown(&rising)[0].starts_with("bytes of memory"), "{:?}", grown(&rising));
}
