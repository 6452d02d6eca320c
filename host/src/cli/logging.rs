//! Log lines: for people in a terminal, JSON elsewhere. They go to standard error.

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::view::{self, View};
use crate::config::{Log, LogFormat};

/// The time of day, UTC, as people read it: log lines in a terminal are of today.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    #[expect(clippy::disallowed_methods, reason = "for display")]
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        writer.write_str(now.get(11..).unwrap_or(&now))
    }
}

/// Starts logging.
///
/// # Errors
/// The filter cannot be read.
pub fn start(config: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let filter = filter(config)?;
    let terminal = std::io::stderr().is_terminal();
    let human = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if human {
        lines.with_ansi(terminal).with_target(false).with_timer(TimeOfDay).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|why| format!("logging cannot be started: {why}").into())
}

/// Starts logging for people, with a view of each message as it is handled.
///
/// # Errors
/// The filter cannot be read.
pub fn start_with_view(config: &Log) -> Result<(), Box<dyn std::error::Error>> {
    let all = with_view(filter(config)?, std::io::stderr().is_terminal());
    all.try_init().map_err(|why| format!("logging cannot be started: {why}").into())
}

/// Lines and view. The view asks for no finer level than the lines do by default: at the finest that
/// anybody asks for, the compiler of components logs, and is half as fast.
fn with_view(filter: EnvFilter, terminal: bool) -> impl Subscriber + Send + Sync {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(terminal).with_target(false).with_timer(TimeOfDay);
    let shown = Targets::new().with_target(view::TARGET, Level::INFO);
    let view = View { colour: terminal }.with_filter(shown);
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(view)
}

/// What the config asks for, or RUST_LOG. What the view shows is no log line, however much is logged.
fn filter(config: &Log) -> Result<EnvFilter, String> {
    let filter = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = filter.as_deref().unwrap_or(&config.filter);
    EnvFilter::try_new(format!("{text},{}=off", view::TARGET))
        .map_err(|why| format!("the log filter '{text}' cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn the_view_asks_for_nothing_finer_than_the_lines() {
        let all = with_view(EnvFilter::try_new("info").unwrap(), false);
        assert_eq!(all.max_level_hint(), Some(LevelFilter::INFO));
    }
}
