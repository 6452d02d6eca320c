//! Log lines: for people in a terminal, JSON elsewhere. They go to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

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
    let filter = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = filter.as_deref().unwrap_or(&config.filter);
    let filter = EnvFilter::try_new(text)
        .map_err(|why| format!("the log filter '{text}' cannot be read: {why}"))?;
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
