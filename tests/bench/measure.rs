//! What a run costs: CPU time of processes from /proc, and percentiles.

use std::collections::HashSet;

use anyhow::{Context, Result};

/// CPU seconds and resident bytes of a process, with or without its children.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu: f64,
    pub resident: f64,
}

/// What `root` and all processes below it have used so far. Children that have ended count by what
/// their parents have reaped.
///
/// # Errors
/// The process is gone, or there is no /proc.
pub fn usage(root: u32) -> Result<Usage> {
    let mut total = Usage::default();
    let mut family = HashSet::from([root]);
    let mut processes: Vec<(u32, u32, Usage)> = Vec::new();
    for entry in std::fs::read_dir("/proc").context("no /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while its line is read.
        if let Some((parent, used)) = read(pid) {
            processes.push((pid, parent, used));
        }
    }
    loop {
        let before = family.len();
        let children = processes.iter().filter(|(_, parent, _)| family.contains(parent));
        let children: Vec<u32> = children.map(|(pid, ..)| *pid).collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    for (_, _, used) in processes.iter().filter(|(pid, ..)| family.contains(pid)) {
        total.cpu += used.cpu;
        total.resident += used.resident;
    }
    Ok(total)
}

fn read(pid: u32) -> Option<(u32, Usage)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may have spaces and parentheses; the numbers follow the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // Ticks are hundredths of a second on every Linux that matters.
    let cpu = (number(11)? + number(12)? + number(13)? + number(14)?) / 100.0;
    let resident = number(21)? * 4_096.0;
    Some((fields.get(1)?.parse().ok()?, Usage { cpu, resident }))
}

/// The most resident bytes that a process ever had.
///
/// # Errors
/// The process is gone, or there is no /proc.
pub fn peak(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    Ok(kilobytes.context("no peak of memory")? * 1_024.0)
}

/// The value below which `share` of the sorted values lie; 0 where there are none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.max(1) - 1).or(sorted.last()).copied().unwrap_or_default()
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 0.5), 50.0);
        assert_eq!(percentile(&sorted, 0.999), 100.0);
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(usage(std::process::id()).unwrap().resident > 0.0);
    }
}
