//! `tribox pause` and `tribox resume`: a handler, or one key of it, until an operator says otherwise.

use serde_json::json;

use super::operate::{Common, say_json, who};
use super::text::printable;
use super::{Outcome, say};
use crate::model::rules::MAX_KEY;
use crate::store::Operator;

/// What is paused or resumed.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// The handler's name.
    handler: String,
    /// Only this key of it.
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn pause(what: &What) -> Outcome {
    what.common.operate(async |operator| {
        check(operator, what).await?;
        let by_whom = who();
        let (handler, place) = (&what.handler, place(what));
        let changed = match &what.key {
            Some(key) => operator.pause_key(handler, key, &by_whom).await?,
            None => operator.pause_handler(handler, &by_whom).await?,
        };
        let waits = match &what.key {
            Some(_) => "its messages are set aside in Postgres, in order; other keys go on",
            None => "its messages stay in their streams, and nothing parked of it is retried",
        };
        told(
            what,
            "paused",
            changed,
            &match changed {
                true => format!("paused {place}: {waits}; `tribox resume` lets it go on"),
                false => format!("{place} is paused already; `tribox status` says since when"),
            },
        )
    })
}

pub(super) fn resume(what: &What) -> Outcome {
    what.common.operate(async |operator| {
        check(operator, what).await?;
        let (handler, place) = (&what.handler, place(what));
        let changed = match &what.key {
            Some(key) => operator.resume_key(handler, key).await?,
            None => operator.resume_handler(handler).await?,
        };
        told(
            what,
            "resumed",
            changed,
            &match changed {
                true => format!("resumed {place}: a running host goes on with it within a second"),
                false => format!("{place} is not paused; `tribox status` shows what is"),
            },
        )
    })
}

/// A handler that nobody has run is a slip of the pen, and so is a key that no message can have.
async fn check(operator: &Operator, what: &What) -> Outcome {
    let known = operator.known_handlers().await?;
    if !known.contains(&what.handler) {
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        let handler = &what.handler;
        return Err(format!("no handler '{handler}' has run here; known handlers: {known}").into());
    }
    if what.key.as_ref().is_some_and(|key| !(1..=MAX_KEY).contains(&key.len())) {
        return Err(format!("a key has 1 to {MAX_KEY} bytes").into());
    }
    Ok(())
}

fn place(what: &What) -> String {
    let handler = &what.handler;
    match &what.key {
        Some(key) => format!("key '{}' of handler {handler}", printable(key)),
        None => format!("handler {handler}"),
    }
}

fn told(what: &What, word: &str, changed: bool, text: &str) -> Outcome {
    if what.common.json {
        let What { handler, key, .. } = what;
        return say_json(&json!({ "handler": handler, "key": key, word: changed }));
    }
    say(text);
    Ok(())
}
