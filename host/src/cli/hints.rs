//! What `tribox dev` tells a newcomer: where everything is, how to send a message, and where to see
//! what came of it, with this program and psql, which is there wherever Postgres is.

use std::fmt::Write as _;
use std::path::Path;

use super::places::Places;
use super::text::set_in;
use crate::config::Config;
use crate::model::Description;

/// Where everything is, as lines for a shell.
pub(super) fn places(config: &Config, places: &Places, data: &Path) -> String {
    format!(
        "\nPut these into the terminal that you look around from:\n\n{}\n\
         plugins  {}/ (a .wasm file that is dropped in, replaced or removed is taken up at once)\n\
         messages {}/publish/SUBJECT (POST; the body is the payload)\n\
         metrics  http://{}/metrics\n\
         data     {}/ (kept for the next start; `--fresh` begins anew)\n",
        set_in(&places.lines()),
        config.plugins.directory.display(),
        places.desk_url,
        config.admin.listen,
        data.display(),
    )
}

/// How to send the first message to one of these handlers, and to see its effects.
pub(super) fn first_steps(handlers: &[Description]) -> String {
    let Some((handler, subscription)) =
        handlers.first().and_then(|h| Some((h, h.subscriptions.first()?)))
    else {
        return "No handler is there yet: drop a .wasm file into the plugin directory.\n"
            .to_owned();
    };
    let subject = example(&subscription.subject);
    let mut text = format!(
        "Send {} a message with a payload that it understands, from another terminal:\n\n  \
         tribox publish {subject} '{{}}'\n\n\
         See its state, what was published, and what failed:\n\n",
        handler.name,
    );
    // Writing into a String cannot fail.
    for collection in &handler.collections {
        let _ = writeln!(text, "  psql \"$DATABASE_URL\" -c 'TABLE tribox_state.{collection}'");
    }
    text.push_str(
        "  psql \"$DATABASE_URL\" -c \"SELECT subject, convert_from(payload, 'UTF8')\n    \
         FROM tribox.outbox ORDER BY committed_at DESC LIMIT 9\"\n  \
         tribox parked list\n\n\
         Ctrl-C stops all of it.\n",
    );
    text
}

/// A subject that a filter covers.
fn example(filter: &str) -> String {
    let token = |token| if matches!(token, "*" | ">") { "7" } else { token };
    filter.split('.').map(token).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{KeySource, Subscription};

    #[test]
    fn the_first_steps_name_a_subject_that_the_handler_takes() {
        let subject = "accounts.*.debit".to_owned();
        let subscription = Subscription { subject, key: KeySource::None, read_ahead: Vec::new() };
        let accounts = Description {
            name: "accounts".into(),
            version: String::new(),
            subscriptions: vec![subscription],
            collections: vec!["accounts".into()],
            publishes: Vec::new(),
        };
        let text = first_steps(&[accounts]);
        assert!(text.contains("tribox publish accounts.7.debit '{}'"), "{text}");
        assert!(text.contains("TABLE tribox_state.accounts"), "{text}");
        assert!(first_steps(&[]).contains("drop a .wasm file"));
    }
}
