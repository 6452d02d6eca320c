//! Chains of messages: what handlers send says through how many of them it came, and which, so that
//! handlers that send one another messages for ever are found. The host alone writes these headers.

use super::message::{Header, Message};
use super::rules::MAX_NAME;
use super::verdict::Failure;

/// Through how many handlers a message came.
const HOPS: &str = "Tribox-Hops";
/// Their names, each once, in the order in which the chain first came to them.
const VIA: &str = "Tribox-Via";
/// Names in [`VIA`] at most.
const NAMES: usize = 8;

/// Through how many handlers a message of these headers came; 0: no handler sent it. What is no
/// number counts for nothing.
pub fn hops(headers: &[Header]) -> u32 {
    values(headers, HOPS).filter_map(|value| value.trim().parse().ok()).max().unwrap_or(0)
}

/// The header lines, as on the wire, of all that `handler` sends for a message of these headers.
pub fn lines(headers: &[Header], handler: &str) -> String {
    let mut names = via(headers);
    if !names.contains(&handler) && names.len() < NAMES {
        names.push(handler);
    }
    let hops = hops(headers).saturating_add(1);
    format!("{HOPS}: {hops}\n{VIA}: {}\n", names.join(", "))
}

/// Why `handler` does not get a message: it came through more handlers than `limit`.
pub fn too_long(message: &Message, limit: u32, handler: &str) -> Option<Failure> {
    let hops = hops(&message.headers);
    if hops <= limit {
        return None;
    }
    let who = match via(&message.headers).as_slice() {
        [] => "they may send one another messages".to_owned(),
        [one] => format!("{one} may send itself messages"),
        several => format!("{} may send one another messages", several.join(", ")),
    };
    Some(Failure::Loop(format!(
        "it came through {hops} handlers, and limits.hops allows {limit}: {who} without end. Mend \
         the one that should stop. `tribox parked retry --handler {handler} --reason loop` has it \
         handled all the same; what that sends is set aside again, unless \
         handlers.<name>.limits.hops allows more"
    )))
}

fn via(headers: &[Header]) -> Vec<&str> {
    let name = |name: &&str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let names = values(headers, VIA).flat_map(|value| value.split(',')).map(str::trim);
    names.filter(name).take(NAMES).collect()
}

fn values<'a>(headers: &'a [Header], name: &str) -> impl Iterator<Item = &'a str> {
    let named = move |header: &&Header| header.name.eq_ignore_ascii_case(name);
    headers.iter().filter(named).map(|header| header.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    fn parsed(lines: &str) -> Vec<Header> {
        let line = |line: &str| line.split_once(": ").map(|(name, value)| header(name, value));
        lines.lines().filter_map(line).collect()
    }

    #[test]
    fn each_handler_counts_itself_and_is_named_once() {
        assert_eq!(hops(&[header("Hops", "3")]), 0);
        let mut sent = lines(&[], "a");
        assert_eq!(sent, "Tribox-Hops: 1\nTribox-Via: a\n");
        for handler in ["b", "a", "b", "c"] {
            sent = lines(&parsed(&sent), handler);
        }
        assert_eq!(sent, "Tribox-Hops: 5\nTribox-Via: a, b, c\n");
        for n in 0..20 {
            sent = lines(&parsed(&sent), &format!("h{n}"));
        }
        assert_eq!(sent, "Tribox-Hops: 25\nTribox-Via: a, b, c, h0, h1, h2, h3, h4\n");
    }

    #[test]
    fn what_somebody_else_wrote_does_no_harm() {
        for value in ["", "many", "-1", "99999999999"] {
            assert_eq!(hops(&[header("Tribox-Hops", value)]), 0, "{value}");
        }
        let twice = [header("tribox-hops", "7"), header("TRIBOX-HOPS", " 4294967295 ")];
        assert_eq!(hops(&twice), u32::MAX);
        let strange = [header("Tribox-Via", &format!("a b, ,é,ok,{}", "x".repeat(64)))];
        assert_eq!(
            lines(&[&twice[..], &strange].concat(), "me"),
            "Tribox-Hops: 4294967295\nTribox-Via: ok, me\n"
        );
    }

    #[test]
    fn a_chain_that_is_too_long_is_told_with_its_handlers() {
        let message = |headers: &str| Message {
            id: String::new(),
            subject: String::new(),
            key: None,
            headers: parsed(headers),
            payload: bytes::Bytes::new(),
            stored_at: 0,
        };
        let told = |headers: &str, limit| {
            too_long(&message(headers), limit, "b").map(|failure| failure.to_string())
        };
        assert_eq!(told("", 1), None);
        assert_eq!(told("Tribox-Hops: 3\nTribox-Via: a, b\n", 3), None);
        for (headers, words) in [
            ("Tribox-Hops: 3\nTribox-Via: a, b\n", "a, b may send one another messages without"),
            ("Tribox-Hops: 3\nTribox-Via: b\n", "b may send itself messages without end"),
            ("Tribox-Hops: 3\n", "they may send one another"),
        ] {
            let told = told(headers, 2).expect(headers);
            assert!(told.starts_with("it came through 3 handlers, and limits.hops allows 2: "));
            assert!(told.contains(words) && told.contains("--handler b --reason loop"), "{told}");
        }
    }
}
