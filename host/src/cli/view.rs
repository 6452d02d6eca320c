//! The live view of `tribox dev`: each message as it is committed, with what it changed and sent.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::text::printable;

/// The target of the lane's events that are shown.
pub(super) const TARGET: &str = "tribox::view";

/// Writes what is shown to standard error, among the log lines.
pub(super) struct View {
    /// Whether a terminal is there that can be written to in colour.
    pub colour: bool,
}

#[derive(Debug, Default)]
struct Handled {
    handler: String,
    message_id: String,
    subject: String,
    key: Option<String>,
    effects: String,
}

impl<S: Subscriber> Layer<S> for View {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() == TARGET {
            let mut handled = Handled::default();
            event.record(&mut handled);
            // Nobody is left to show it to where standard error is gone.
            let _ = std::io::stderr().write_all(handled.to_text(self.colour).as_bytes());
        }
    }
}

impl Handled {
    fn to_text(&self, colour: bool) -> String {
        let (bold, dim, plain) =
            if colour { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let Handled { handler, message_id, subject, key, effects } = self;
        let key = key.as_ref().map_or_else(|| "no key".to_owned(), |key| format!("key {key}"));
        let head = printable(&format!("{handler}  {subject}"));
        let rest = printable(&format!("{key}, id {message_id}"));
        let mut text = format!("{bold}{head}{plain}  {dim}{rest}{plain}\n");
        // Writing into a String cannot fail.
        for line in printable(effects).lines() {
            let _ = writeln!(text, "    {line}");
        }
        if effects.is_empty() {
            text.push_str("    nothing changes\n");
        }
        text
    }
}

impl Visit for Handled {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = value.to_owned();
        match field.name() {
            "handler" => self.handler = value,
            "message_id" => self.message_id = value,
            "subject" => self.subject = value,
            "key" => self.key = Some(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "effects" {
            self.effects = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_message_is_shown_with_what_it_did() {
        let handled = Handled {
            handler: "accounts".into(),
            message_id: "m\x1b-1".into(),
            subject: "accounts.7.debit".into(),
            key: Some("7".into()),
            effects: "put accounts/7 {}\nsend a.b 1\n".into(),
        };
        assert_eq!(
            handled.to_text(false),
            "accounts  accounts.7.debit  key 7, id m\u{fffd}-1\n    put accounts/7 {}\n    send a.b 1\n"
        );
        assert!(handled.to_text(true).starts_with("\x1b[1maccounts"));
        assert!(Handled::default().to_text(false).ends_with("    nothing changes\n"));
    }

    #[test]
    fn fields_of_the_event_are_taken_up() {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        struct Keep(std::sync::Arc<std::sync::Mutex<String>>);
        impl<S: Subscriber> Layer<S> for Keep {
            fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
                let mut handled = Handled::default();
                event.record(&mut handled);
                *self.0.lock().unwrap() = format!("{handled:?}");
            }
        }
        let subscriber = tracing_subscriber::registry().with(Keep(seen.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let (key, effects) = (Some("7".to_owned()), "put a/b {}");
            tracing::info!(
                target: "tribox::view", handler = "h", message_id = "m", subject = "s", key,
                effects = %effects,
            );
        });
        let expected = "Handled { handler: \"h\", message_id: \"m\", subject: \"s\", \
                        key: Some(\"7\"), effects: \"put a/b {}\" }";
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
