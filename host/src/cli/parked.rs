//! `tribox parked`: what was set aside, and what to do with it.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use super::operate::{Common, Sure, in_batches, say_json, who};
use super::text::{count, short, span, table, until};
use super::{Outcome, say, show};
use crate::store::{Operator, ParkedCount, ParkedFilter, ParkedLine};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Parked {
    /// How many there are by handler, state and reason, and the newest of them.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many of the newest are shown.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// All of one message, and the command that reproduces offline what became of it.
    Show {
        /// The number that `list` shows as its row.
        row: i64,
        /// Write the message, and the documents that the handler reads for it as they are now, into
        /// this directory.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Have messages handled again, within a second and in the order of their keys.
    Retry {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        sure: Sure,
        #[command(flatten)]
        common: Common,
    },
    /// Throw messages away; what is thrown away is kept in tribox.discarded.
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
    #[arg(long)]
    handler: Option<String>,
    #[arg(long)]
    state: Option<State>,
    /// As `list` shows it: reject, retry, trap, memory, and so on.
    #[arg(long)]
    reason: Option<String>,
    /// The key that the message is ordered by.
    #[arg(long)]
    key: Option<String>,
    /// The message id.
    #[arg(long)]
    id: Option<String>,
    /// The number that `list` shows.
    #[arg(long)]
    row: Option<i64>,
    /// Set aside longer ago than this: 90s, 15m, 2h, 3d.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Set aside since then: 90s, 15m, 2h, 3d.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Tried again by itself.
    Retrying,
    /// Behind an earlier message of its key.
    Waiting,
    /// Dead, and its key waits for it.
    Holding,
    /// Nothing more happens by itself; its key has gone on.
    Dead,
}

impl From<Filter> for ParkedFilter {
    fn from(filter: Filter) -> ParkedFilter {
        let state =
            filter.state.and_then(|state| Some(state.to_possible_value()?.get_name().into()));
        ParkedFilter {
            handler: filter.handler,
            state,
            reason: filter.reason,
            key: filter.key,
            message_id: filter.id,
            row: filter.row,
            older_than: filter.older_than,
            newer_than: filter.newer_than,
        }
    }
}

pub(super) fn run(command: Parked) -> Outcome {
    match command {
        Parked::List { filter, limit, common } => {
            let filter = filter.into();
            common.operate(async |operator| list(operator, &filter, limit, common.json).await)
        }
        Parked::Show { row, export, common } => show::run(row, export.as_deref(), &common),
        Parked::Retry { filter, sure, common } => {
            let filter = filter.into();
            common.operate(async |operator| retry(operator, &filter, &sure, common.json).await)
        }
        Parked::Discard { filter, sure, yes, common } => {
            let filter = filter.into();
            let sure = (sure, yes);
            common.operate(async |operator| discard(operator, &filter, &sure, common.json).await)
        }
    }
}

async fn list(operator: &Operator, filter: &ParkedFilter, limit: u32, json: bool) -> Outcome {
    let counts = operator.parked_counts(filter).await?;
    let rows = operator.parked_list(filter, limit.into()).await?;
    if json {
        return say_json(&json!({ "counts": counts, "messages": rows }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    let total = total(&counts);
    say(&format!("The newest {} of {}:\n", rows.len(), count(total, "message")));
    say(&lines(&rows));
    say(
        "`tribox parked show ROW` shows all of one; `retry` and `discard` take the filters of `list`.",
    );
    Ok(())
}

fn nothing(filter: &ParkedFilter) -> &'static str {
    if filter.is_empty() { "nothing is parked" } else { "nothing that is parked matches" }
}

fn total(counts: &[ParkedCount]) -> i64 {
    counts.iter().map(|c| c.count).sum()
}

fn newest(counts: &[ParkedCount]) -> i64 {
    counts.iter().map(|c| c.newest_row).max().unwrap_or(0)
}

fn counted(counts: &[ParkedCount]) -> String {
    let heading = ["handler", "state", "reason", "messages", "oldest", "newest"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(counts.iter().map(|c| {
        let (oldest, newest) = (span(c.oldest_ms), span(c.newest_ms));
        let number = c.count.to_string();
        vec![short(&c.handler, 63), c.state.clone(), c.reason.clone(), number, oldest, newest]
    }));
    table(&rows)
}

fn lines(lines: &[ParkedLine]) -> String {
    let heading =
        ["row", "handler", "key", "state", "reason", "tries", "age", "next", "id", "error"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        let next = line.next_attempt_ms.filter(|_| line.state == "retrying");
        vec![
            line.row.to_string(),
            short(&line.handler, 63),
            line.key.as_deref().map_or_else(|| "-".to_owned(), |key| short(key, 24)),
            line.state.clone(),
            line.reason.clone(),
            line.attempts.to_string(),
            span(line.age_ms),
            next.map_or_else(|| "-".to_owned(), until),
            short(&line.message_id, 36),
            short(&line.error, 60),
        ]
    }));
    table(&rows)
}

async fn retry(operator: &Operator, filter: &ParkedFilter, sure: &Sure, json: bool) -> Outcome {
    sure.check(!filter.is_empty())?;
    let counts = operator.parked_counts(filter).await?;
    let waiting: i64 = counts.iter().filter(|c| c.state == "waiting").map(|c| c.count).sum();
    let meant = total(&counts) - waiting;
    let mut retried = 0;
    if !sure.dry_run {
        let until = newest(&counts);
        let batch = async |after| operator.parked_retry(filter, after, until).await;
        retried = in_batches(meant, batch).await?.changed;
    }
    if json {
        let dry_run = sure.dry_run;
        return say_json(&json!({ "counts": counts, "retried": retried, "dry_run": dry_run }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    if waiting > 0 {
        let waiting = count(waiting, "waiting message");
        say(&format!("{waiting}: they follow the message of their key that comes first"));
    }
    if sure.dry_run {
        say(&format!("would retry {}", count(meant, "message")));
    } else {
        let retried = count(retried, "message");
        say(&format!("retrying {retried}: a running host takes them up within a second"));
    }
    Ok(())
}

async fn discard(
    operator: &Operator,
    filter: &ParkedFilter,
    (sure, yes): &(Sure, bool),
    json: bool,
) -> Outcome {
    sure.check(!filter.is_empty())?;
    let counts = operator.parked_counts(filter).await?;
    let meant = total(&counts);
    let mut done = super::operate::Done::default();
    if !counts.is_empty() && !sure.dry_run {
        if !yes {
            if !json {
                say(&counted(&counts));
            }
            let meant = count(meant, "message");
            return Err(format!("{meant} would be thrown away; nothing was done: say --yes").into());
        }
        let (until, by_whom) = (newest(&counts), who());
        let batch = async |after| operator.parked_discard(filter, after, until, &by_whom).await;
        done = in_batches(meant, batch).await?;
    }
    if json {
        return say_json(&json!({
            "counts": counts, "discarded": done.changed, "woken": done.woken,
            "dry_run": sure.dry_run,
        }));
    }
    if counts.is_empty() {
        say(nothing(filter));
        return Ok(());
    }
    say(&counted(&counts));
    if sure.dry_run {
        say(&format!("would discard {}", count(meant, "message")));
        return Ok(());
    }
    let discarded = count(done.changed, "message");
    say(&format!("discarded {discarded}; tribox.discarded has a copy of each"));
    if done.woken > 0 {
        let keys = count(done.woken, "key");
        say(&format!("what waited behind them goes on now: {keys}"));
    }
    Ok(())
}
