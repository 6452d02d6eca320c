//! What the figures were measured on.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tribox_tests::programs;

/// The machine and the servers, as far as they can be told.
pub fn facts() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        let value = found.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim());
        value.unwrap_or("unknown").to_owned()
    };
    let memory = line(&read("/proc/meminfo"), "MemTotal");
    let kilobytes: f64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
    json!({
        "day": today(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": line(&read("/proc/cpuinfo"), "model name"),
        "memory_gb": (kilobytes / 1e6).round(),
        // Without what whoever built it appended.
        "linux": read("/proc/sys/kernel/osrelease").trim().split('-').next(),
        "postgres": version(&mut Command::new(postgres()), "--version"),
        "nats_server": version(&mut Command::new(programs::nats_server()), "--version"),
    })
}

fn postgres() -> std::path::PathBuf {
    programs::psql().unwrap_or_else(|_| "psql".into())
}

fn version(command: &mut Command, argument: &str) -> String {
    let output = command.arg(argument).output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    let number = text.split_whitespace().find(|word| word.chars().any(|c| c.is_ascii_digit()));
    number.map_or_else(|| "unknown".to_owned(), |word| word.trim_start_matches('v').to_owned())
}

/// The day, in UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Days to a date, after Howard Hinnant's `civil_from_days`.
    let days = i64::try_from(since.as_secs() / 86_400).unwrap_or_default() + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
