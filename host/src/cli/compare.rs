//! `tribox check --against`: what has changed between two builds of a handler, and what each change
//! means for whoever runs it.

use std::fmt::Write as _;

use serde::Serialize;

use super::text::printable;
use crate::model::{Description, Subscription};
use crate::sandbox::Guest;

/// One thing that is different.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// name, version, subscription, key, read-ahead, collection, publishes, contract, import.
    pub what: &'static str,
    /// added, removed, or changed.
    pub change: &'static str,
    /// Which one.
    pub which: String,
    pub means: &'static str,
}

/// What each change means.
mod means {
    pub const NAME: &str = "it is another handler: all that the streams still have is handled again, \
        under an inbox of its own, and what is parked or paused under the old name stays there";
    pub const VERSION: &str = "what operators see; nothing depends on it";
    pub const CONTRACT: &str = "a host of every later 0.1 version runs both";
    pub const SUBSCRIPTION_ADDED: &str = "it needs a stream with that subject (`tribox provision \
        --dry-run` says whether there is one); what the stream has of it already is handled, too; \
        lanes are stopped and started";
    pub const SUBSCRIPTION_REMOVED: &str = "its messages are not handled any more; a consumer that \
        is left on a stream that nothing else of it reads is yours to remove (`nats consumer rm`)";
    pub const KEY: &str = "messages are ordered by something else from now on; what is parked keeps \
        the key that it was parked with, so let it run empty first if that matters; documents under \
        the old keys stay where they are";
    pub const READ_AHEAD: &str = "speed alone: a read that is not read ahead costs a query";
    pub const COLLECTIONS: [&str; 2] = [
        "nothing to do; another handler that has it as well meets it by version",
        "reading it traps as `contract` and writing it is `invalid-effects`: messages that do so \
         are parked; its documents stay",
    ];
    pub const PUBLISHES: [&str; 2] = [
        "it needs a stream with that subject, or what is sent there is set aside as undelivered",
        "sending there is `invalid-effects`: messages that do so are parked, unless another \
         subject that is declared covers it",
    ];
    pub const IMPORTS: [&str; 2] = ["the host links it; nothing to do", "nothing to do"];
}

/// What is different in `new`, which is to take the place of `old`.
pub(super) fn compare(new: &Guest, old: &Guest) -> Vec<Difference> {
    let mut found = descriptions(new.description(), old.description());
    changed(&mut found, "contract", "", old.contract(), new.contract(), means::CONTRACT);
    let names = |guest: &Guest| -> Vec<String> {
        guest.imports().iter().map(|import| import.name.clone()).collect()
    };
    lists(&mut found, "import", &names(new), &names(old), means::IMPORTS);
    found
}

fn descriptions(new: &Description, old: &Description) -> Vec<Difference> {
    let mut found = Vec::new();
    changed(&mut found, "name", "", &old.name, &new.name, means::NAME);
    changed(&mut found, "version", "", &old.version, &new.version, means::VERSION);
    subscriptions(&mut found, &new.subscriptions, &old.subscriptions);
    lists(&mut found, "collection", &new.collections, &old.collections, means::COLLECTIONS);
    lists(&mut found, "publishes", &new.publishes, &old.publishes, means::PUBLISHES);
    found
}

fn subscriptions(found: &mut Vec<Difference>, new: &[Subscription], old: &[Subscription]) {
    let of = |all: &'_ [Subscription], subject: &str| {
        all.iter().position(|subscription| subscription.subject == subject)
    };
    for subscription in new {
        let Some(before) = of(old, &subscription.subject).map(|n| &old[n]) else {
            let which = shown(subscription);
            found.push(difference("subscription", "added", which, means::SUBSCRIPTION_ADDED));
            continue;
        };
        let place = format!("{}: ", subscription.subject);
        let (a, b) = (before.key.to_string(), subscription.key.to_string());
        changed(found, "key", &place, &a, &b, means::KEY);
        let (a, b) = (before.read_ahead.join(", "), subscription.read_ahead.join(", "));
        changed(found, "read-ahead", &place, or_none(&a), or_none(&b), means::READ_AHEAD);
    }
    for subscription in old.iter().filter(|s| of(new, &s.subject).is_none()) {
        let which = shown(subscription);
        found.push(difference("subscription", "removed", which, means::SUBSCRIPTION_REMOVED));
    }
}

fn difference(
    what: &'static str,
    change: &'static str,
    which: String,
    means: &'static str,
) -> Difference {
    Difference { what, change, which, means }
}

fn changed(
    found: &mut Vec<Difference>,
    what: &'static str,
    place: &str,
    old: &str,
    new: &str,
    means: &'static str,
) {
    if old != new {
        found.push(difference(what, "changed", format!("{place}{old} → {new}"), means));
    }
}

fn shown(subscription: &Subscription) -> String {
    format!("{} (key: {})", subscription.subject, subscription.key)
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn lists(
    found: &mut Vec<Difference>,
    what: &'static str,
    new: &[String],
    old: &[String],
    [added, removed]: [&'static str; 2],
) {
    let gained = new.iter().filter(|name| !old.contains(name));
    found.extend(gained.map(|name| difference(what, "added", name.clone(), added)));
    let lost = old.iter().filter(|name| !new.contains(name));
    found.extend(lost.map(|name| difference(what, "removed", name.clone(), removed)));
}

/// For people.
pub(super) fn to_text(against: &str, new: &Guest, old: &Guest, found: &[Difference]) -> String {
    let mut text = format!("\ncompared with {against}\n");
    if new.digest() == old.digest() {
        text.push_str("  the same build\n");
    } else if found.is_empty() {
        text.push_str("  another build that says the same of itself\n");
    }
    for Difference { what, change, which, means } in found {
        // Writing into a String cannot fail.
        let _ = write!(text, "  {what} {change}: {}\n      {means}\n", printable(which));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeySource;

    fn description() -> Description {
        let subscription = |subject: &str, key| Subscription {
            subject: subject.into(),
            key,
            read_ahead: vec!["items".into()],
        };
        Description {
            name: "items".into(),
            version: "1".into(),
            subscriptions: vec![
                subscription("items.create", KeySource::None),
                subscription("items.*.drop", KeySource::SubjectToken(1)),
            ],
            collections: vec!["items".into()],
            publishes: vec!["items.created".into()],
        }
    }

    #[test]
    fn each_change_is_found_and_explained() {
        let old = description();
        assert_eq!(descriptions(&old, &old), []);
        let mut new = description();
        new.version = "2".into();
        new.subscriptions[0].subject = "items.make".into();
        new.subscriptions[1].key = KeySource::Header("Item".into());
        new.subscriptions[1].read_ahead.clear();
        new.collections = vec!["things".into()];
        new.publishes.clear();
        let found = descriptions(&new, &old);
        let found: Vec<_> = found.iter().map(|d| (d.what, d.change, d.which.as_str())).collect();
        assert_eq!(
            found,
            [
                ("version", "changed", "1 → 2"),
                ("subscription", "added", "items.make (key: none)"),
                ("key", "changed", "items.*.drop: token 1 of the subject → header Item"),
                ("read-ahead", "changed", "items.*.drop: items → none"),
                ("subscription", "removed", "items.create (key: none)"),
                ("collection", "added", "things"),
                ("collection", "removed", "items"),
                ("publishes", "removed", "items.created"),
            ]
        );
        new.name = "other".into();
        assert_eq!(descriptions(&new, &old)[0].which, "items → other");
    }
}
