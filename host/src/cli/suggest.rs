//! `tribox check`: what is allowed and yet is likely to be a mistake. Each says what follows from it and
//! what to do; `--strict` makes a failure of it.

use serde::Serialize;

use crate::model::{Description, KeySource, Subscription, subject};

/// One thing that is likely to be a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Suggestion {
    /// A short, stable word: unstable-name, no-effect, no-key, one-key, no-read-ahead, takes-everything,
    /// or own-messages.
    pub what: &'static str,
    /// The name, subject or filter that it is about.
    pub which: String,
    pub why: &'static str,
    /// Worth knowing and often meant: no reason to fail.
    pub note: bool,
}

mod why {
    pub const UNSTABLE_NAME: &str = "the name stands for what was handled: with the next version in it, \
        every message would be handled again; leave the version to `version`";
    pub const ANY_NAME: &str = "the name stands for what was handled, in every log line and table: \
        name it after what it handles, before it runs anywhere";
    pub const NO_EFFECT: &str = "it declares no collection and publishes nothing, so that no message \
        can have an effect; declare what it changes or sends";
    pub const NO_KEY: &str = "its messages are handled in any order; where they change the same \
        documents, take as the key what must not be handled at the same time (a token of the subject, a \
        header, a field of the payload)";
    pub const ONE_KEY: &str = "this token is the same in every message: all of them have one key and are \
        handled one after another; take a token that the filter has a wildcard for";
    pub const NO_READ_AHEAD: &str = "every read of a document costs a query; reading ahead the collection \
        whose documents have the message's key costs none";
    pub const TAKES_EVERYTHING: &str = "it takes what every other program publishes, its own events \
        and deaths included; name the subjects that it is about";
    pub const OWN_MESSAGES: &str = "what it sends there comes back to it; see to it that this ends";
}

/// Looks at what a handler says of itself.
pub(super) fn suggestions(description: &Description) -> Vec<Suggestion> {
    let Description { name, subscriptions, collections, publishes, .. } = description;
    let mut found = Vec::new();
    let mut suggest = |what, which: &str, why, note| {
        found.push(Suggestion { what, which: which.to_owned(), why, note });
    };
    if has_version(name) {
        suggest("unstable-name", name, why::UNSTABLE_NAME, false);
    }
    if ["handler", "plugin", "guest", "app", "test", "example", "main"].contains(&name.as_str()) {
        suggest("unstable-name", name, why::ANY_NAME, false);
    }
    if collections.is_empty() && publishes.is_empty() {
        suggest("no-effect", name, why::NO_EFFECT, false);
    }
    for Subscription { subject, key, read_ahead } in subscriptions {
        let tokens: Vec<&str> = subject.split('.').collect();
        let wild = |token: &&str| matches!(*token, "*" | ">");
        match key {
            _ if tokens.first().is_some_and(wild) => {
                suggest("takes-everything", subject, why::TAKES_EVERYTHING, false);
            }
            KeySource::None if !collections.is_empty() && tokens.iter().any(wild) => {
                suggest("no-key", subject, why::NO_KEY, false);
            }
            KeySource::SubjectToken(n) if is_fixed(&tokens, *n) => {
                suggest("one-key", subject, why::ONE_KEY, false);
            }
            _ => {}
        }
        if *key != KeySource::None && read_ahead.is_empty() && !collections.is_empty() {
            suggest("no-read-ahead", subject, why::NO_READ_AHEAD, true);
        }
    }
    for filter in publishes {
        if subscriptions.iter().any(|one| subject::overlap(&one.subject, filter)) {
            suggest("own-messages", filter, why::OWN_MESSAGES, true);
        }
    }
    found
}

/// Whether a token of a filter is the same in all that it matches.
fn is_fixed(tokens: &[&str], n: u32) -> bool {
    let token = usize::try_from(n).ok().and_then(|n| tokens.get(n));
    token.is_some_and(|token| !matches!(*token, "*" | ">"))
}

/// `orders-v2`, `orders_2`, `orders-1-4-0`: a name that ends in a version.
fn has_version(name: &str) -> bool {
    let Some((_, last)) = name.rsplit_once(['-', '_']) else { return false };
    let digits = last.strip_prefix('v').unwrap_or(last);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(name: &str, subject: &str, key: KeySource) -> Description {
        let subscription =
            Subscription { subject: subject.into(), key, read_ahead: vec!["orders".into()] };
        Description {
            name: name.into(),
            version: "1.0.0".into(),
            subscriptions: vec![subscription],
            collections: vec!["orders".into()],
            publishes: vec!["events.*".into()],
        }
    }

    fn found(description: &Description) -> Vec<&'static str> {
        suggestions(description).iter().map(|suggestion| suggestion.what).collect()
    }

    #[test]
    fn what_is_likely_to_be_a_mistake_is_said() {
        let token = KeySource::SubjectToken;
        for (name, subject, key, expected) in [
            ("orders", "orders.*.add", token(1), &[][..]),
            ("orders", "orders.create", KeySource::None, &[]),
            ("orders-v2", "orders.*.add", token(1), &["unstable-name"]),
            ("orders_2", "orders.*.add", token(1), &["unstable-name"]),
            ("orders2", "orders.*.add", token(1), &[]),
            ("handler", "orders.*.add", token(1), &["unstable-name"]),
            ("orders", "orders.*.add", KeySource::None, &["no-key"]),
            ("orders", "orders.*.add", token(0), &["one-key"]),
            ("orders", "orders.*.add", token(2), &["one-key"]),
            ("orders", "orders.>", token(1), &[]),
            ("orders", ">", KeySource::Header("K".into()), &["takes-everything", "own-messages"]),
            ("orders", "events.7", KeySource::Header("K".into()), &["own-messages"]),
        ] {
            assert_eq!(found(&description(name, subject, key)), expected, "{name} {subject}");
        }
        let mut without = description("orders", "orders.*.add", token(1));
        without.subscriptions[0].read_ahead.clear();
        assert_eq!(found(&without), ["no-read-ahead"]);
        without.collections.clear();
        without.publishes.clear();
        assert_eq!(found(&without), ["no-effect"]);
    }
}
