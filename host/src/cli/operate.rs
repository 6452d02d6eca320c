//! What the operators' commands have in common: reaching the database, saying who acts, and changing
//! thousands of rows in batches, sure that they are meant.

use std::error::Error;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{ConfigFile, Outcome, runtime, say};
use crate::store::{Batch, Operator, Statements};

/// The arguments that each of them takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub config: ConfigFile,
    /// For scripts.
    #[arg(long)]
    pub json: bool,
}

/// Which rows are changed, and whether that is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Sure {
    /// All of them, where no filter is given.
    #[arg(long)]
    pub all: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// What came of a change of many.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub changed: i64,
    pub woken: i64,
}

impl Common {
    /// Connects and works; the database is all that is needed.
    pub(super) fn operate(&self, work: impl AsyncFnOnce(&Operator) -> Outcome) -> Outcome {
        let config = self.config.load()?;
        let statements = Statements::from_config(config.postgres.prepared_statements);
        let connect = Operator::connect(&config.postgres.url, statements);
        runtime()?.block_on(async { work(&connect.await?).await })
    }
}

impl Sure {
    /// Refuses a change of everything that was not asked for.
    pub(super) fn check(&self, filtered: bool) -> Outcome {
        if filtered || self.all {
            return Ok(());
        }
        Err("this would be for all messages: say which by a filter (see --help), or say --all"
            .into())
    }
}

/// Prints an object for scripts.
pub(super) fn say_json(value: &impl Serialize) -> Outcome {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Who acts, for the record: user and machine.
pub(super) fn who() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = set("USER").or_else(|| set("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// Changes rows batch after batch, with a progress bar in a terminal. `batch` is told the row that
/// the one before it ended at.
pub(super) async fn in_batches<E: Error + 'static>(
    total: i64,
    mut batch: impl AsyncFnMut(i64) -> Result<Batch, E>,
) -> Result<Done, Box<dyn Error>> {
    let bar = progress(total);
    let mut done = Done::default();
    let mut after = 0;
    loop {
        let Batch { last, changed, woken } = batch(after).await?;
        done.changed += changed;
        done.woken += woken;
        bar.inc(u64::try_from(changed).unwrap_or_default());
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    bar.finish_and_clear();
    Ok(done)
}

/// On standard error, and there only if it is a terminal.
pub(super) fn progress(total: i64) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(total).unwrap_or_default());
    match ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_changed_only_when_asked_for() {
        let sure = |all| Sure { all, dry_run: false };
        assert!(sure(false).check(false).is_err());
        assert!(sure(false).check(true).is_ok());
        assert!(sure(true).check(false).is_ok());
    }
}
