//! How messages are told apart: the id of an incoming one, the inbox key derived from it, and the
//! ids of what is sent. Deduplication rests on these; they never change for a given input.

use std::fmt;

use sha2::{Digest, Sha256};

use super::message::Header;

/// The key of an inbox row: the first 16 bytes of SHA-256 of handler name, a zero byte and the
/// message id. `tribox.inbox_key(handler, id)` computes the same in SQL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InboxKey(pub [u8; 16]);

impl InboxKey {
    pub fn new(handler: &str, message_id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(handler.as_bytes());
        hash.update([0]);
        hash.update(message_id.as_bytes());
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        InboxKey(key)
    }
}

impl InboxKey {
    /// The message that sends another one, by the id of that one; `None`: no host gave it.
    pub fn of_outgoing(id: &str) -> Option<InboxKey> {
        let (hex, index) = id.strip_prefix(DEATH).unwrap_or(id).split_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if hex.len() != 32 || !digits(hex) || index.is_empty() {
            return None;
        }
        let number = u128::from_str_radix(hex, 16).ok()?;
        Some(InboxKey(number.to_be_bytes()))
    }
}

impl fmt::Display for InboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboxKey({self})")
    }
}

/// The `Nats-Msg-Id` of the `index`th message that handling `key` sends: 32 hex digits of the inbox
/// key, a dash and the index.
pub fn outgoing_id(key: InboxKey, index: usize) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut id = String::with_capacity(36);
    for byte in key.0 {
        id.push(HEX[usize::from(byte >> 4)] as char);
        id.push(HEX[usize::from(byte & 15)] as char);
    }
    id.push('-');
    id.push_str(&index.to_string());
    id
}

/// The `Nats-Msg-Id` under which the death of a message is announced: `dead-`, the inbox key, the build
/// that failed it, and the attempt.
pub fn death_id(key: InboxKey, component: i32, attempts: i32) -> String {
    format!("{DEATH}{key}-{component}-{attempts}")
}

/// Whether an id is one of [`death_id`].
pub fn announces_death(id: &str) -> bool {
    id.starts_with(DEATH)
}

const DEATH: &str = "dead-";

/// What a message is known by: its `Nats-Msg-Id` header; without one, CloudEvents `ce-source` and
/// `ce-id`; without these, stream, sequence and when it was stored (milliseconds since the Unix
/// epoch), so that a stream that was made anew, or has lost its end, does not repeat ids.
pub fn message_id(headers: &[Header], stream: &str, sequence: u64, stored_at: u64) -> String {
    let find = |name: &str| {
        headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name) && !h.value.is_empty())
            .map(|h| h.value.as_str())
    };
    if let Some(id) = find("Nats-Msg-Id") {
        return id.to_owned();
    }
    if let (Some(source), Some(id)) = (find("ce-source"), find("ce-id")) {
        return format!("{source}#{id}");
    }
    format!("{stream}:{sequence}:{stored_at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    #[test]
    fn what_is_sent_names_what_sent_it() {
        let key = InboxKey::new("accounts", "m-1");
        assert_eq!(InboxKey::of_outgoing(&outgoing_id(key, 12)), Some(key));
        assert_eq!(InboxKey::of_outgoing(&death_id(key, 3, 1)), Some(key));
        for other in ["", "m-1", "0af", "dead-1-1-1", &"+".repeat(32), &format!("{key}")] {
            assert_eq!(InboxKey::of_outgoing(other), None, "{other}");
        }
    }

    #[test]
    fn an_outgoing_id_is_the_inbox_key_and_the_index() {
        let key = InboxKey::new("accounts", "m-1");
        assert_eq!(outgoing_id(key, 12), format!("{key}-12"));
        assert_ne!(key, InboxKey::new("orders", "m-1"));
        assert_ne!(death_id(key, 3, 1), death_id(key, 3, 2));
        assert_ne!(InboxKey::new("a", "bc"), InboxKey::new("ab", "c"));
    }

    #[test]
    fn ids_come_from_the_first_source_that_is_there() {
        let ce = [header("ce-id", "7"), header("ce-source", "/shop")];
        assert_eq!(message_id(&ce, "S", 5, 1_900), "/shop#7");
        let both = [ce[0].clone(), ce[1].clone(), header("nats-msg-id", "x")];
        assert_eq!(message_id(&both, "S", 5, 1_900), "x");
        assert_eq!(message_id(&[header("ce-id", "7")], "S", 5, 1_900), "S:5:1900");
        assert_eq!(message_id(&[header("Nats-Msg-Id", "")], "S", 5, 1_900), "S:5:1900");
    }
}
