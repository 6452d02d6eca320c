//! What a component may say of itself.

use super::{MAX_NAME, MAX_SUBJECT, is_header_name, is_reserved, shorten, shorten_list};
use crate::model::subject;
use crate::model::{Description, KeySource, Subscription};

/// Entries of each list.
const MAX_ENTRIES: usize = 256;

/// Checks what a component says of itself.
///
/// # Errors
/// A sentence that names the field, its value and what is allowed.
pub fn check_description(description: &Description) -> Result<(), String> {
    check_name(&description.name)?;
    check_version(&description.version)?;
    check_collections(&description.collections)?;
    check_publishes(&description.publishes)?;
    if description.subscriptions.is_empty() {
        return Err("it has no subscription; a handler needs at least one".into());
    }
    check_length("subscriptions", description.subscriptions.len())?;
    for (n, subscription) in description.subscriptions.iter().enumerate() {
        check_subscription(subscription, &description.collections)
            .map_err(|why| format!("subscription {n}: {why}"))?;
        for (m, earlier) in description.subscriptions[..n].iter().enumerate() {
            let (a, b) = (&earlier.subject, &subscription.subject);
            if subject::overlap(a, b) {
                let (a, b) = (shorten(a), shorten(b));
                return Err(format!(
                    "subscriptions {m} ('{a}') and {n} ('{b}') match the same subjects; each \
                     subject may match one subscription only"
                ));
            }
        }
    }
    Ok(())
}

fn check_length(what: &str, length: usize) -> Result<(), String> {
    if length > MAX_ENTRIES {
        return Err(format!("{length} {what}; at most {MAX_ENTRIES} are allowed"));
    }
    Ok(())
}

fn is_word(text: &str, others: &[u8]) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

fn check_name(name: &str) -> Result<(), String> {
    if is_word(name, b"-_") {
        return Ok(());
    }
    let name = shorten(name);
    Err(format!("name {name:?} is not 1 to {MAX_NAME} of a-z, 0-9, '-' and '_'"))
}

fn check_version(version: &str) -> Result<(), String> {
    if (1..=MAX_NAME).contains(&version.len()) && !version.chars().any(char::is_control) {
        return Ok(());
    }
    let version = shorten(version);
    Err(format!(
        "version {version:?} is not 1 to {MAX_NAME} bytes without control characters, such as 1.4.2"
    ))
}

fn check_collections(collections: &[String]) -> Result<(), String> {
    check_length("collections", collections.len())?;
    for (n, collection) in collections.iter().enumerate() {
        if !is_word(collection, b"_") {
            let collection = shorten(collection);
            return Err(format!(
                "collection {n} ({collection:?}) is not 1 to {MAX_NAME} of a-z, 0-9 and '_'"
            ));
        }
        if collections[..n].contains(collection) {
            return Err(format!("collection '{collection}' is listed twice"));
        }
    }
    Ok(())
}

fn check_publishes(publishes: &[String]) -> Result<(), String> {
    check_length("publishes", publishes.len())?;
    for (n, filter) in publishes.iter().enumerate() {
        check_filter(filter).map_err(|why| format!("publishes {n}: {why}"))?;
        let shown = shorten(filter);
        if is_reserved(filter) {
            return Err(format!(
                "publishes {n}: '{shown}' belongs to NATS itself; only $KV. subjects are allowed \
                 of those that begin with '$'"
            ));
        }
        if publishes[..n].contains(filter) {
            return Err(format!("publishes '{shown}' is listed twice"));
        }
    }
    Ok(())
}

fn check_filter(filter: &str) -> Result<(), String> {
    if filter.len() > MAX_SUBJECT {
        let (shown, length) = (shorten(filter), filter.len());
        return Err(format!(
            "subject filter '{shown}' has {length} bytes; at most {MAX_SUBJECT} are allowed"
        ));
    }
    subject::check_filter(filter)
}

fn check_subscription(subscription: &Subscription, collections: &[String]) -> Result<(), String> {
    let filter = &subscription.subject;
    check_filter(filter)?;
    let shown = shorten(filter);
    check_key(filter, &subscription.key).map_err(|why| format!("key of '{shown}': {why}"))?;
    let ahead = &subscription.read_ahead;
    if subscription.key == KeySource::None && !ahead.is_empty() {
        return Err(format!(
            "'{shown}' reads ahead {} but has no key; documents are read ahead under the message's \
             key",
            shorten_list(ahead)
        ));
    }
    for (n, collection) in ahead.iter().enumerate() {
        if !collections.contains(collection) {
            return Err(format!(
                "'{shown}' reads ahead collection '{}', which is not among the declared \
                 collections {}",
                shorten(collection),
                shorten_list(collections)
            ));
        }
        if ahead[..n].contains(collection) {
            return Err(format!("'{shown}' reads ahead collection '{collection}' twice"));
        }
    }
    Ok(())
}

fn check_key(filter: &str, key: &KeySource) -> Result<(), String> {
    match key {
        KeySource::None => Ok(()),
        KeySource::SubjectToken(n) => {
            let tokens = filter.split('.').count();
            let open = filter.ends_with('>');
            if open || usize::try_from(*n).is_ok_and(|n| n < tokens) {
                return Ok(());
            }
            Err(format!("token {n} is not there; tokens are counted from 0 and there are {tokens}"))
        }
        KeySource::Header(name) if is_header_name(name) => Ok(()),
        KeySource::Header(name) => {
            let name = shorten(name);
            Err(format!("header name {name:?} is not printable ASCII without space and colon"))
        }
        KeySource::PayloadField(pointer) => check_pointer(pointer),
    }
}

fn check_pointer(pointer: &str) -> Result<(), String> {
    let shown = shorten(pointer);
    if !pointer.starts_with('/') {
        return Err(format!(
            "{shown:?} is not a JSON Pointer to a field: it begins with '/', such as /account"
        ));
    }
    let mut rest = pointer;
    while let Some((_, escape)) = rest.split_once('~') {
        if !escape.starts_with(['0', '1']) {
            return Err(format!(
                "{shown:?} is not a JSON Pointer: '~' is written ~0 and '/' in a name ~1"
            ));
        }
        rest = escape;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Description {
        let subscription = |subject: &str, key, ahead: &[&str]| Subscription {
            subject: subject.into(),
            key,
            read_ahead: ahead.iter().map(ToString::to_string).collect(),
        };
        Description {
            name: "accounts-2_b".into(),
            version: "1.4.2".into(),
            subscriptions: vec![
                subscription("accounts.*.debit", KeySource::SubjectToken(1), &["accounts"]),
                subscription("prices.>", KeySource::PayloadField("/a~1b/~0".into()), &[]),
                subscription("news", KeySource::Header("X-Key".into()), &["accounts"]),
                subscription("other", KeySource::None, &[]),
            ],
            collections: vec!["accounts".into(), "a_1".into()],
            publishes: vec!["events.>".into(), "$KV.prices.*".into()],
        }
    }

    /// Checks that a change of the valid description is refused by an error that says `expected`.
    fn refused(expected: &str, change: impl FnOnce(&mut Description)) {
        let mut description = valid();
        change(&mut description);
        let error = check_description(&description).expect_err(expected);
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }

    #[test]
    fn a_valid_description_passes() {
        check_description(&valid()).unwrap();
    }

    #[test]
    fn names_and_versions() {
        for name in ["", "Accounts", "a.b", &"a".repeat(65), "a b", "ä"] {
            refused("name ", |d| d.name = name.to_owned());
        }
        refused("version ", |d| d.version.clear());
        refused("version ", |d| d.version = "1\n".into());
    }

    #[test]
    fn collections_and_publishes() {
        refused("collection 1 (\"a-b\")", |d| d.collections[1] = "a-b".into());
        refused("collection 'accounts' is listed twice", |d| d.collections[1] = "accounts".into());
        refused("257 collections", |d| d.collections = vec!["a".into(); 257]);
        refused("publishes 0: subject filter 'a..b'", |d| d.publishes[0] = "a..b".into());
        refused("publishes 0: '$JS.API.>' belongs", |d| d.publishes[0] = "$JS.API.>".into());
        refused("listed twice", |d| d.publishes[1] = "events.>".into());
        refused("has 2000 bytes", |d| d.publishes[1] = "x".repeat(2000));
    }

    #[test]
    fn subscriptions() {
        refused("no subscription", |d| d.subscriptions.clear());
        refused("subscription 3: subject filter 'a b'", |d| {
            d.subscriptions[3].subject = "a b".into()
        });
        refused("subscriptions 0 ('accounts.*.debit') and 3 ('accounts.7.>')", |d| {
            d.subscriptions[3].subject = "accounts.7.>".into();
        });
        refused("but has no key", |d| d.subscriptions[3].read_ahead.push("a_1".into()));
        refused("not among the declared", |d| d.subscriptions[0].read_ahead.push("b".into()));
        refused("'a_1' twice", |d| {
            d.subscriptions[0].read_ahead = vec!["a_1".into(), "a_1".into()];
        });
    }

    /// Entries of a list, each as long as one may be.
    fn many(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:_<60}")).collect()
    }

    #[test]
    fn what_is_long_is_shortened() {
        let long = |what: &str, change: fn(&mut Description)| {
            let mut description = valid();
            change(&mut description);
            let why = check_description(&description).expect_err(what);
            assert!(why.contains(what) && why.len() < 1_200, "{} bytes: {why}", why.len());
        };
        fn subject() -> String {
            "x.".repeat(500) + ">"
        }
        long("and 4992 more but has no key", |d| d.subscriptions[3].read_ahead = many(5_000));
        long("and 248 more", |d| {
            d.collections = many(256);
            d.subscriptions[0].read_ahead = vec!["b".into()];
        });
        long("match the same subjects", |d| {
            d.subscriptions[2].subject = subject();
            d.subscriptions[3].subject = subject();
        });
        long("twice", |d| d.publishes = vec![subject(), subject()]);
        long("belongs to NATS itself", |d| d.publishes[0] = "$".to_owned() + &subject());
        long("token 900 is not there", |d| {
            d.subscriptions[0].subject = "x.".repeat(500) + "x";
            d.subscriptions[0].key = KeySource::SubjectToken(900);
        });
        long("which is not among", |d| {
            d.subscriptions[0].subject = subject();
            d.subscriptions[0].read_ahead = vec!["b".repeat(5_000)];
        });
    }

    #[test]
    fn keys() {
        refused("token 3 is not there", |d| d.subscriptions[0].key = KeySource::SubjectToken(3));
        for pointer in ["", "account", "/a~2", "/a~"] {
            let key = KeySource::PayloadField(pointer.into());
            refused("JSON Pointer", |d| d.subscriptions[0].key = key);
        }
        for name in ["", "a b", "a:", "ä"] {
            let key = KeySource::Header(name.into());
            refused("header name", |d| d.subscriptions[0].key = key);
        }
        let mut open = valid();
        open.subscriptions[1].key = KeySource::SubjectToken(5);
        check_description(&open).unwrap();
    }
}
