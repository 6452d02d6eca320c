//! Properties of subjects, ids and JSON, against the plainest way to say the same.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne, proptest};
use serde_json::Value;

use super::identity::{announces_death, death_id, message_id};
use super::subject::{check_filter, check_subject, covers, matches, overlap};
use super::{Header, InboxKey, json, outgoing_id};

fn token() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("*")]
}

fn filter() -> impl Strategy<Value = String> {
    (vec(token(), 1..4), any::<bool>()).prop_map(|(tokens, rest)| {
        let filter = tokens.join(".");
        if rest { format!("{filter}.>") } else { filter }
    })
}

/// All subjects that can tell these filters apart: of their tokens and one that none has, and one
/// longer than any of them.
fn subjects() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = all.len();
        for at in from..to {
            for token in ["a", "b", "c"] {
                let dot = if all[at].is_empty() { "" } else { "." };
                all.push(format!("{}{dot}{token}", all[at]));
            }
        }
        from = to;
    }
    all.remove(0);
    all
}

/// As the documentation of NATS has it.
fn plainly(filter: &[&str], subject: &[&str]) -> bool {
    match (filter, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        ([f, filter @ ..], [s, subject @ ..]) => (*f == "*" || f == s) && plainly(filter, subject),
        _ => false,
    }
}

fn split(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^\\x00]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[^\\x00]{0,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn filters_match_overlap_and_cover_as_their_subjects_say(a in filter(), b in filter()) {
        let (fa, fb) = (split(&a), split(&b));
        let (mut both, mut all) = (false, true);
        for subject in subjects() {
            let s = split(&subject);
            let (in_a, in_b) = (plainly(&fa, &s), plainly(&fb, &s));
            prop_assert_eq!(matches(&a, &subject), in_a, "{} {}", &a, &subject);
            both |= in_a && in_b;
            all &= in_a || !in_b;
        }
        prop_assert_eq!(overlap(&a, &b), both, "{} {}", &a, &b);
        prop_assert_eq!(overlap(&b, &a), both, "{} {}", &b, &a);
        prop_assert_eq!(covers(&a, &b), all, "{} {}", &a, &b);
        prop_assert!(check_filter(&a).is_ok());
    }

    #[test]
    fn what_is_taken_for_a_subject_can_be_sent(text in "\\PC{0,20}|[a-z.*> ]{0,12}") {
        if check_subject(&text).is_ok() {
            prop_assert!(!text.is_empty() && !text.contains(char::is_whitespace));
            prop_assert!(split(&text).iter().all(|t| !t.is_empty() && *t != "*" && *t != ">"));
            prop_assert!(matches(">", &text));
        }
    }

    #[test]
    fn ids_name_what_they_come_from(
        handler in "[a-z-]{1,10}", id in "\\PC{0,30}", index in any::<u32>(), build in any::<i32>(),
    ) {
        let key = InboxKey::new(&handler, &id);
        let index = usize::try_from(index).expect("a number");
        let outgoing = outgoing_id(key, index);
        prop_assert_eq!(InboxKey::of_outgoing(&outgoing), Some(key));
        prop_assert!(!announces_death(&outgoing));
        let death = death_id(key, build, 3);
        prop_assert_eq!(InboxKey::of_outgoing(&death), Some(key));
        prop_assert!(announces_death(&death));
        let other = InboxKey::new(&handler, &format!("{id}x"));
        prop_assert_ne!(&outgoing, &outgoing_id(other, index));
        prop_assert_ne!(outgoing, outgoing_id(key, index + 1));
    }

    #[test]
    fn whatever_an_id_is_it_harms_nothing(id in "\\PC{0,80}|(dead-)?[0-9a-f]{31,33}-?[0-9]*") {
        if let Some(key) = InboxKey::of_outgoing(&id) {
            prop_assert!(id.to_lowercase().contains(&key.to_string()));
        }
    }

    #[test]
    fn the_first_source_of_an_id_counts(
        names in vec(prop_oneof![
            Just("Nats-Msg-Id"), Just("nats-msg-id"), Just("ce-id"), Just("CE-Source"), Just("X")
        ], 0..5),
        values in vec("[a-z]{0,3}", 5),
        sequence in any::<u64>(),
    ) {
        let headers: Vec<Header> = names.iter().zip(&values)
            .map(|(name, value)| Header { name: (*name).to_owned(), value: value.clone() })
            .collect();
        let first = |wanted: &str| {
            let found = names.iter().zip(&values);
            let mut found = found.filter(|(n, v)| n.to_lowercase() == wanted && !v.is_empty());
            found.next().map(|(_, value)| value.clone())
        };
        let expected = match (first("nats-msg-id"), first("ce-source"), first("ce-id")) {
            (Some(id), _, _) => id,
            (None, Some(source), Some(id)) => format!("{source}#{id}"),
            _ => format!("S:{sequence}:7"),
        };
        prop_assert_eq!(message_id(&headers, "S", sequence, 7), expected);
    }

    #[test]
    fn canonical_json_says_the_same_and_stays(value in json_value(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        let text = text.expect("JSON");
        let canonical = json::canonical(&text, 1 << 20).expect("can be stored");
        let parsed: Value = serde_json::from_str(&canonical).expect("JSON");
        prop_assert_eq!(&parsed, &value);
        prop_assert_eq!(json::canonical(&canonical, 1 << 20), Ok(canonical));
    }
}
