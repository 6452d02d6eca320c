//! What a guest prints during a call, collected instead of logged.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The target of the sandbox's events.
const TARGET: &str = "guest";

/// A line that a guest has printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// stdout or stderr; empty: the sandbox says something of the output.
    pub stream: String,
    pub line: String,
}

/// Runs `call` on this thread and collects what guests print there meanwhile.
pub(super) fn capture<T>(call: impl FnOnce() -> T) -> (T, Vec<Line>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Collector(Arc::clone(&lines)));
    let result = tracing::subscriber::with_default(subscriber, call);
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    (result, lines)
}

struct Collector(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == TARGET {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "stream" => value.clone_into(&mut self.stream),
            "message" => value.clone_into(&mut self.line),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.line = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_print_is_collected() {
        let ((), lines) = capture(|| {
            tracing::info!(target: "guest", stream = "stderr", "no {}", "room");
            tracing::info!("not a guest");
        });
        assert_eq!(lines, [Line { stream: "stderr".into(), line: "no room".into() }]);
    }
}
