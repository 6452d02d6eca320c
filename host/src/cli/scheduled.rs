//! `tribox scheduled`: delayed messages that wait, and taking them back.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::case::{PayloadJson, payload_json};
use super::operate::{Common, Sure, progress, say_json, who};
use super::text::{count, payload, short, table, until};
use super::{Outcome, say};
use crate::store::{Operator, ScheduledCount, ScheduledFilter, ScheduledLine};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Scheduled {
    /// How many there are by handler, and those that are due first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many are shown.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Take messages back: they are not sent. A copy of each is kept in tribox.discarded.
    Cancel {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        sure: Sure,
        /// They are not to be sent, yes.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Which messages; filters are taken together.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// The handler that scheduled them.
    #[arg(long)]
    handler: Option<String>,
    /// The name that the handler gave.
    #[arg(long)]
    name: Option<String>,
    /// A subject, or a subject filter with * and >.
    #[arg(long)]
    subject: Option<String>,
    /// The message id.
    #[arg(long)]
    id: Option<String>,
    /// Due before a time (2026-12-31T12:00:00Z), or within a time from now: 90s, 15m, 2h, 3d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    due_before: Option<i64>,
}

impl From<Filter> for ScheduledFilter {
    fn from(filter: Filter) -> ScheduledFilter {
        let Filter { handler, name, subject, id, due_before } = filter;
        ScheduledFilter { handler, name, subject, id, due_before }
    }
}

/// A point in time, in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "what an operator means by 'from now'")]
fn time(text: &str) -> Result<i64, String> {
    let time = match humantime::parse_duration(text) {
        Ok(from_now) => std::time::SystemTime::now() + from_now,
        Err(_) => humantime::parse_rfc3339_weak(text).map_err(|why| {
            format!("{why}; it is a time like 2026-12-31T12:00:00Z, or one from now like 2h")
        })?,
    };
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).map_err(|why| why.to_string())
}

pub(super) fn run(command: Scheduled) -> Outcome {
    match command {
        Scheduled::List { filter, limit, common } => {
            let filter = filter.into();
            common.operate(async |operator| list(operator, &filter, limit, common.json).await)
        }
        Scheduled::Cancel { filter, sure, yes, common } => {
            let filter = filter.into();
            let json = common.json;
            common.operate(async |operator| cancel(operator, &filter, &sure, yes, json).await)
        }
    }
}

/// What scripts get of a message.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    handler: &'a str,
    name: Option<&'a str>,
    subject: &'a str,
    due_at: &'a str,
    due_ms: i64,
    expires_after_ms: Option<i64>,
    headers: Vec<&'a str>,
    #[serde(flatten)]
    payload: PayloadJson,
}

impl<'a> From<&'a ScheduledLine> for Line<'a> {
    fn from(line: &'a ScheduledLine) -> Line<'a> {
        Line {
            id: &line.id,
            handler: &line.handler,
            name: line.name.as_deref(),
            subject: &line.subject,
            due_at: &line.due_at,
            due_ms: line.due_ms,
            expires_after_ms: line.expires_after,
            headers: line.headers.lines().collect(),
            payload: payload_json(&line.payload),
        }
    }
}

async fn list(operator: &Operator, filter: &ScheduledFilter, limit: u32, json: bool) -> Outcome {
    #[derive(Serialize)]
    struct List<'a> {
        counts: &'a [ScheduledCount],
        messages: Vec<Line<'a>>,
    }
    let counts = operator.scheduled_counts(filter).await?;
    let lines = operator.scheduled_list(filter, limit.into()).await?;
    if json {
        let messages = lines.iter().map(Line::from).collect();
        return say_json(&List { counts: &counts, messages });
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    say(&format!("The first {} of {}:\n", lines.len(), count(total(&counts), "message")));
    let heading = ["due", "at", "handler", "name", "subject", "id", "payload"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![
            until(line.due_ms),
            line.due_at.clone(),
            short(&line.handler, 63),
            line.name.as_deref().map_or_else(|| "-".to_owned(), |name| short(name, 32)),
            short(&line.subject, 48),
            short(&line.id, 48),
            short(&payload(&line.payload).replace("\n  ", " "), 60),
        ]
    }));
    say(&table(&rows));
    Ok(())
}

fn nothing(filter: &ScheduledFilter) -> &'static str {
    if filter.is_empty() { "nothing is scheduled" } else { "nothing that is scheduled matches" }
}

fn total(counts: &[ScheduledCount]) -> i64 {
    counts.iter().map(|c| c.count).sum()
}

fn counted(counts: &[ScheduledCount]) -> String {
    let heading = ["handler", "messages", "named", "first due", "last due"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(counts.iter().map(|c| {
        let (count, named) = (c.count.to_string(), c.named.to_string());
        vec![short(&c.handler, 63), count, named, until(c.first_ms), until(c.last_ms)]
    }));
    table(&rows)
}

async fn cancel(
    operator: &Operator,
    filter: &ScheduledFilter,
    sure: &Sure,
    yes: bool,
    json: bool,
) -> Outcome {
    sure.check(!filter.is_empty())?;
    let counts = operator.scheduled_counts(filter).await?;
    let meant = total(&counts);
    let mut cancelled = 0;
    if !counts.is_empty() && !sure.dry_run {
        if !yes {
            if !json {
                say(&counted(&counts));
            }
            let meant = count(meant, "message");
            return Err(format!("{meant} would not be sent; nothing was done: say --yes").into());
        }
        cancelled = in_batches(operator, filter, meant).await?;
    }
    if json {
        let dry_run = sure.dry_run;
        return say_json(&json!({ "counts": counts, "cancelled": cancelled, "dry_run": dry_run }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    if sure.dry_run {
        say(&format!("would cancel {}", count(meant, "message")));
    } else {
        let cancelled = count(cancelled, "message");
        say(&format!("cancelled {cancelled}; tribox.discarded has a copy of each"));
    }
    Ok(())
}

/// Takes back as many as were counted: what is scheduled meanwhile is not meant.
async fn in_batches(
    operator: &Operator,
    filter: &ScheduledFilter,
    meant: i64,
) -> Result<i64, Box<dyn std::error::Error>> {
    let (bar, by_whom) = (progress(meant), who());
    let mut cancelled = 0;
    while cancelled < meant {
        let batch = operator.scheduled_cancel(filter, &by_whom).await?;
        if batch == 0 {
            break;
        }
        cancelled += batch;
        bar.inc(u64::try_from(batch).unwrap_or_default());
    }
    bar.finish_and_clear();
    Ok(cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(time("1970-01-01 00:00:02"), Ok(2_000));
        let (hour, now) = (time("1h").unwrap(), time("0s").unwrap());
        assert!((3_590_000..3_610_000).contains(&(hour - now)), "{}", hour - now);
        assert!(time("soon").unwrap_err().contains("2026-12-31T12:00:00Z"));
    }
}
