//! The rules that descriptions and effects must keep, as pure checks. Each error is a sentence that
//! names the offending value and what is allowed. Effects are checked for every message; but
//! for rewriting documents, the good path allocates nothing.

mod description;
mod effects;

pub use description::check_description;
pub use effects::check_effects;

/// Bytes of a document's key.
pub const MAX_KEY: usize = 1024;
/// Bytes of a subject or a subject filter.
pub const MAX_SUBJECT: usize = 1024;
/// Bytes of the names of handlers, collections and versions: as long as names in Postgres.
pub const MAX_NAME: usize = 63;
/// Bytes of a schedule name.
pub const MAX_SCHEDULE_NAME: usize = 255;
/// Milliseconds of the longest delay and expiry: a hundred years.
pub const MAX_DELAY: u64 = 100 * 365 * 24 * 3_600_000;
/// The last time that a message can be due at: the end of the year 9999.
pub const MAX_TIMESTAMP: u64 = 253_402_300_799_999;

/// A value as errors show it.
pub fn shorten(text: &str) -> String {
    shorten_to(text, 80)
}

/// The text, cut after `limit` bytes at the most.
pub fn shorten_to(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit)])
}

/// A list as errors show it, in the manner of `{:?}`: of a long one the first entries, and how many more
/// there are.
pub fn shorten_list(list: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = list.iter().take(SHOWN).map(|text| shorten(text)).collect();
    match list.len().saturating_sub(SHOWN) {
        0 => format!("{shown:?}"),
        more => format!("{shown:?} and {more} more"),
    }
}

/// Whether subjects starting like this belong to NATS itself. A message to `$JS.API…` would be a
/// command to the server; the subjects of key-value buckets are ordinary streams.
fn is_reserved(subject: &str) -> bool {
    subject.starts_with('$') && !subject.starts_with("$KV.")
}

/// Whether headers of this name are the host's, which no handler may set.
fn is_host_header(name: &str) -> bool {
    let begins = |start: &str| {
        name.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    begins("Nats-") || begins("Tribox-")
}

/// Whether NATS takes this as the name of a header.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_shortened() {
        let list = |count: usize| -> Vec<String> { (0..count).map(|n| n.to_string()).collect() };
        assert_eq!(shorten_list(&list(0)), "[]");
        assert_eq!(shorten_list(&list(2)), r#"["0", "1"]"#);
        assert_eq!(shorten_list(&list(8)), format!("{:?}", list(8)));
        assert_eq!(shorten_list(&list(256)), format!("{:?} and 248 more", list(8)));
        assert_eq!(shorten_list(&["x".repeat(2_000)]), format!("[\"{}…\"]", "x".repeat(80)));
    }
}
