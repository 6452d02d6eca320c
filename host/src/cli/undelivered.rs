//! `tribox undelivered`: outgoing messages that no stream took.

use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Payload, payload_json};
use super::operate::{Common, Done, Sure, in_batches, say_json, who};
use super::text::{count, payload, printable, set_in, short, span, table, until};
use super::{Outcome, say};
use crate::store::{
    Operator, UndeliveredCount, UndeliveredDetail, UndeliveredFilter, UndeliveredLine,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Undelivered {
    /// How many there are by handler and reason, and the newest of them.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many of the newest are shown.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// All of one message.
    Show {
        /// The number that `list` shows as its row.
        row: i64,
        #[command(flatten)]
        common: Common,
    },
    /// Send them again, under their ids and in their order.
    Retry {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        common: Common,
    },
    /// Throw them away; what is thrown away is kept in tribox.discarded.
    Discard {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        sure: Sure,
        /// They are not needed any more, yes.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Which messages; filters are taken together.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// The handler that sent them.
    #[arg(long)]
    handler: Option<String>,
    /// A subject, or a subject filter with * and >.
    #[arg(long)]
    subject: Option<String>,
    /// As `list` shows it: no-stream, denied, too-large.
    #[arg(long)]
    reason: Option<String>,
    /// The message id.
    #[arg(long)]
    id: Option<String>,
    /// The number that `list` shows.
    #[arg(long)]
    row: Option<i64>,
    /// Failed longer ago than this: 90s, 15m, 2h, 3d.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Failed since then: 90s, 15m, 2h, 3d.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

impl From<Filter> for UndeliveredFilter {
    fn from(filter: Filter) -> UndeliveredFilter {
        let Filter { handler, subject, reason, id, row, older_than, newer_than } = filter;
        UndeliveredFilter { handler, subject, reason, id, row, older_than, newer_than }
    }
}

/// What is to be done with those that are meant.
enum Change {
    Retry,
    Discard { yes: bool },
}

pub(super) fn run(command: Undelivered) -> Outcome {
    match command {
        Undelivered::List { filter, limit, common } => {
            let filter = filter.into();
            common.operate(async |operator| list(operator, &filter, limit, common.json).await)
        }
        Undelivered::Show { row, common } => {
            common.operate(async |operator| show(operator, row, common.json).await)
        }
        Undelivered::Retry { filter, sure, common } => {
            let (filter, what) = (filter.into(), Change::Retry);
            common.operate(async |o| change(o, &filter, &sure, &what, common.json).await)
        }
        Undelivered::Discard { filter, sure, yes, common } => {
            let (filter, what) = (filter.into(), Change::Discard { yes });
            common.operate(async |o| change(o, &filter, &sure, &what, common.json).await)
        }
    }
}

async fn list(operator: &Operator, filter: &UndeliveredFilter, limit: u32, json: bool) -> Outcome {
    let counts = operator.undelivered_counts(filter).await?;
    let rows = operator.undelivered_list(filter, limit.into()).await?;
    if json {
        return say_json(&json!({ "counts": counts, "messages": rows }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    say(&format!("The newest {} of {}:\n", rows.len(), count(total(&counts), "message")));
    say(&lines(&rows));
    say("`tribox undelivered show ROW` shows all of one; `tribox provision --dry-run` says which \
         streams are missing.");
    Ok(())
}

fn nothing(filter: &UndeliveredFilter) -> &'static str {
    if filter.is_empty() { "nothing is undelivered" } else { "nothing undelivered matches" }
}

fn total(counts: &[UndeliveredCount]) -> i64 {
    counts.iter().map(|c| c.count).sum()
}

fn counted(counts: &[UndeliveredCount]) -> String {
    let heading = ["handler", "reason", "messages", "subjects", "oldest", "newest"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(counts.iter().map(|c| {
        let (count, subjects) = (c.count.to_string(), c.subjects.to_string());
        let (oldest, newest) = (span(c.oldest_ms), span(c.newest_ms));
        vec![short(&c.handler, 63), c.reason.clone(), count, subjects, oldest, newest]
    }));
    table(&rows)
}

fn next(line: &UndeliveredLine, none: &str) -> String {
    match line.retry_ms {
        _ if line.on_its_way => "on its way".to_owned(),
        Some(milliseconds) => until(milliseconds),
        None => none.to_owned(),
    }
}

fn lines(lines: &[UndeliveredLine]) -> String {
    let heading = ["row", "handler", "subject", "reason", "tries", "age", "next", "id", "error"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![
            line.row.to_string(),
            short(&line.handler, 63),
            short(&line.subject, 48),
            line.reason.clone(),
            line.attempts.to_string(),
            span(line.age_ms),
            next(line, "-"),
            short(&line.id, 48),
            short(&line.error, 60),
        ]
    }));
    table(&rows)
}

async fn show(operator: &Operator, row: i64, json: bool) -> Outcome {
    let Some(detail) = operator.undelivered_one(row).await? else {
        return Err(format!(
            "no undelivered message has row {row}; `tribox undelivered list` shows those there are"
        )
        .into());
    };
    let UndeliveredDetail { line, failed_at, headers, payload: body } = &detail;
    if json {
        let headers: Vec<&str> = headers.lines().collect();
        let mut value = serde_json::to_value(line)?;
        if let Value::Object(fields) = &mut value {
            fields.insert("failed_at".into(), json!(failed_at));
            fields.insert("headers".into(), json!(headers));
        }
        return say_json(&Payload { fields: value, payload: payload_json(body) });
    }
    let rows = [
        ("row", line.row.to_string()),
        ("id", printable(&line.id)),
        ("handler", printable(&line.handler)),
        ("subject", printable(&line.subject)),
        ("reason", line.reason.clone()),
        ("error", printable(&line.error)),
        ("tries", line.attempts.to_string()),
        ("failed", format!("{failed_at}, {} ago", span(line.age_ms))),
        ("sent again", next(line, "when it is asked for, or after the first of its subject")),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(n, v)| vec![n.to_owned(), v]).collect();
    say(&table(&rows));
    say(&format!("headers\n{}", set_in(&printable(headers))));
    say(&format!("payload\n{}", set_in(&payload(body))));
    Ok(())
}

async fn change(
    operator: &Operator,
    filter: &UndeliveredFilter,
    sure: &Sure,
    what: &Change,
    json: bool,
) -> Outcome {
    sure.check(!filter.is_empty())?;
    let counts = operator.undelivered_counts(filter).await?;
    let meant = total(&counts);
    let until = counts.iter().map(|c| c.newest_row).max().unwrap_or(0);
    let (verb, past) = match what {
        Change::Retry => ("retry", "retried"),
        Change::Discard { .. } => ("discard", "discarded"),
    };
    let mut done = Done::default();
    if !counts.is_empty() && !sure.dry_run {
        done = match what {
            Change::Retry => {
                let batch = async |after| operator.undelivered_retry(filter, after, until).await;
                in_batches(meant, batch).await?
            }
            Change::Discard { yes: false } => {
                if !json {
                    say(&counted(&counts));
                }
                let meant = count(meant, "message");
                return Err(
                    format!("{meant} would be thrown away; nothing was done: say --yes").into()
                );
            }
            Change::Discard { yes: true } => {
                let by = who();
                let batch =
                    async |after| operator.undelivered_discard(filter, after, until, &by).await;
                in_batches(meant, batch).await?
            }
        };
    }
    if json {
        let dry_run = sure.dry_run;
        return say_json(&json!({ "counts": counts, past: done.changed, "dry_run": dry_run }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    say(&match (sure.dry_run, what) {
        (true, _) => format!("would {verb} {}", count(meant, "message")),
        (false, Change::Retry) => {
            let changed = count(done.changed, "message");
            format!("sending {changed} again: a running host takes them up within a second")
        }
        (false, Change::Discard { .. }) => {
            let changed = count(done.changed, "message");
            format!("discarded {changed}; tribox.discarded has a copy of each")
        }
    });
    if !sure.dry_run && done.changed < meant {
        let left = count(meant - done.changed, "message");
        say(&format!("{left}: on their way into a stream already, and left to it"));
    }
    Ok(())
}
