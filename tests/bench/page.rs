//! docs/BENCHMARKS.md: what a run of the benchmark writes into it, between two marks, and the
//! pictures beside it. What stands outside the marks is written by people.

use anyhow::{Context, Result};
use serde_json::Value;
use tribox_tests::programs;

use crate::picture::{self, number};

/// Writes the comparison.
pub fn write(report: &Value) -> Result<()> {
    let directory = programs::repository().join("docs/bench");
    std::fs::create_dir_all(&directory)?;
    let variants = report["variants"].as_object().context("a report without variants")?;
    let bars: Vec<(String, f64, String)> = ORDER
        .iter()
        .filter_map(|name| Some((*name, variants.get(*name)?)))
        .map(|(name, row)| {
            let speed = figure(row, "/messages_per_s");
            (name.to_owned(), speed, format!("{}/s", number(speed)))
        })
        .collect();
    let throughput = picture::bars("Messages per second", &bars);
    std::fs::write(directory.join("throughput.svg"), throughput)?;
    let mut lines = Vec::new();
    for name in ["naive", "tribox"] {
        for (field, percentile) in [("p50_ms", "p50"), ("p99_ms", "p99")] {
            let points = variants[name]["latency"].as_array().into_iter().flatten();
            let points = points.map(|l| (number_of(&l["rate"]), number_of(&l[field])));
            lines.push((format!("{name} {percentile}"), points.collect()));
        }
    }
    let title = "From publishing a command to reading its event";
    let latency = picture::lines(title, "messages per second", "ms", &lines);
    std::fs::write(directory.join("latency.svg"), latency)?;
    replace("comparison", &comparison(report))
}

const ORDER: [&str; 4] = ["naive", "tribox", "floor", "limit"];

fn number_of(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn figure(row: &Value, pointer: &str) -> f64 {
    row.pointer(pointer).map(number_of).unwrap_or_default()
}

fn comparison(report: &Value) -> String {
    let machine = &report["machine"];
    let word = |name: &str| match &machine[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut text = format!(
        "Measured on {} by one `make bench`: {} processors ({}), {} GB, Linux {}, Postgres {}, \
         nats-server {}; all three programs share them.\n\n\
         ![Messages per second](bench/throughput.svg)\n\n\
         | | messages/s | of each run | best setting | × naive | CPU µs a message: Postgres + NATS \
         + program | WAL bytes a message | memory |\n\
         |---|---|---|---|---|---|---|---|\n",
        word("day"),
        word("processors"),
        word("processor"),
        word("memory_gb"),
        word("linux"),
        word("postgres"),
        word("nats_server"),
    );
    let variants = &report["variants"];
    let naive = figure(&variants["naive"], "/messages_per_s");
    for name in ORDER {
        let row = &variants[name];
        let cpu = |of: &str| figure(row, &format!("/cpu_us_per_message_of/{of}"));
        let each = row["messages_per_s_of_each_run"].as_array().into_iter().flatten();
        let each: Vec<String> = each.map(|speed| number(number_of(speed))).collect();
        text.push_str(&format!(
            "| {name} | {} | {} | {} | {:.1} | {:.1} + {:.1} + {:.1} | {} | {:.0} MB |\n",
            number(figure(row, "/messages_per_s")),
            each.join(" / "),
            row["setting"].as_str().unwrap_or_default(),
            figure(row, "/messages_per_s") / naive,
            cpu("postgres"),
            cpu("nats"),
            cpu("program"),
            number(figure(row, "/wal_bytes_per_message")),
            figure(row, "/resident_bytes") / 1e6,
        ));
    }
    let ratio = |of: &str| figure(report, &format!("/ratios/tribox_to_{of}"));
    text.push_str(&format!(
        "\ntribox to naive: {:.2}; to floor: {:.2}; to limit: {:.2}.\n\n\
         ![Latency over load](bench/latency.svg)\n\n\
         Milliseconds from publishing a command to reading its event; the last rate is half of what \
         each can do.\n\n| | rate | p50 | p99 | p99.9 |\n|---|---|---|---|---|\n",
        ratio("naive"),
        ratio("floor"),
        ratio("limit"),
    ));
    for name in ORDER {
        for l in variants[name]["latency"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "| {name} | {}/s | {:.2} | {:.2} | {:.2} |\n",
                number(number_of(&l["rate"])),
                number_of(&l["p50_ms"]),
                number_of(&l["p99_ms"]),
                number_of(&l["p99_9_ms"]),
            ));
        }
    }
    text
}

/// Writes the results of all sweeps: name, title, heading of the points, and lines of cells.
pub fn write_sweeps(sweeps: &Value) -> Result<()> {
    let mut text = String::new();
    for (_, sweep) in sweeps.as_object().into_iter().flatten() {
        let word = |name: &str| sweep[name].as_str().unwrap_or_default();
        text.push_str(&format!("**{}** {}\n\n", word("title"), word("note")));
        let cells = |row: &Value| {
            let cells = row.as_array().into_iter().flatten();
            let cells: Vec<&str> = cells.map(|c| c.as_str().unwrap_or_default()).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        text.push_str(&cells(&sweep["head"]));
        let columns = sweep["head"].as_array().map_or(0, Vec::len);
        text.push_str(&format!("|{}\n", "---|".repeat(columns)));
        for row in sweep["rows"].as_array().into_iter().flatten() {
            text.push_str(&cells(row));
        }
        text.push('\n');
    }
    replace("sweeps", text.trim_end())
}

/// Puts a text between the marks of its section.
fn replace(section: &str, text: &str) -> Result<()> {
    let file = programs::repository().join("docs/BENCHMARKS.md");
    let page = std::fs::read_to_string(&file).context("docs/BENCHMARKS.md cannot be read")?;
    let (start, end) =
        (format!("<!-- {section}: written by make bench -->"), format!("<!-- end {section} -->"));
    let split = |at: &str, mark: &str| {
        let missing = || format!("docs/BENCHMARKS.md lacks the line {mark}");
        at.split_once(mark).map(|(a, b)| (a.to_owned(), b.to_owned())).with_context(missing)
    };
    let (before, rest) = split(&page, &start)?;
    let (_, after) = split(&rest, &end)?;
    let text = text.trim_end();
    std::fs::write(&file, format!("{before}{start}\n\n{text}\n\n{end}{after}"))?;
    println!("{}", file.display());
    Ok(())
}
