//! Whether a text is JSON that Postgres can store as `jsonb`: valid by RFC 8259, and without what
//! `jsonb` has no room for.

use serde::de::IgnoredAny;

/// Levels of arrays and objects. Postgres parses recursively and has a limited stack.
pub(super) const MAX_DEPTH: usize = 512;
/// Digits of a number, its exponent counted as the digits it stands for. `numeric` has room for
/// 131,072 before and 16,383 after the point.
pub(super) const MAX_DIGITS: u64 = 10_000;

/// Checks a document's body.
///
/// # Errors
/// What is wrong, and at which byte.
pub(super) fn check(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("is not JSON: {error}"))?;
    // From here on the text is well-formed, so one look at each byte is enough.
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = check_string(bytes, at + 1)?;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("is nested deeper than {MAX_DEPTH} levels at byte {at}"));
                }
            }
            b']' | b'}' => depth -= 1,
            b'-' | b'0'..=b'9' => {
                at = check_number(bytes, at)?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Checks the string that begins at `at`, after its quote; returns where the text goes on.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        match bytes[at] {
            b'"' => return Ok(at + 1),
            b'\\' if bytes[at + 1] == b'u' => at = check_escape(bytes, at)?,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Checks the `\uXXXX` at `at`, together with the second half of a surrogate pair.
fn check_escape(bytes: &[u8], at: usize) -> Result<usize, String> {
    match code_unit(bytes, at) {
        Some(0) => Err(format!("has \\u0000 at byte {at}, which jsonb cannot store")),
        Some(0xd800..=0xdbff) => match code_unit(bytes, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(at + 12),
            _ => Err(lone(at)),
        },
        Some(0xdc00..=0xdfff) => Err(lone(at)),
        _ => Ok(at + 6),
    }
}

fn lone(at: usize) -> String {
    format!("has half of a surrogate pair at byte {at}, which is no character")
}

fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn check_number(bytes: &[u8], start: usize) -> Result<usize, String> {
    let rest = &bytes[start..];
    let number = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let length = rest.iter().position(|b| !number(b)).unwrap_or(rest.len());
    let exponent = rest[..length].iter().position(|b| matches!(b, b'e' | b'E')).map(|e| {
        // What has no room in 64 bits is far too large as well.
        let digits = rest[e + 1..length].iter().filter(|b| b.is_ascii_digit());
        digits.fold(0_u64, |value, b| value.saturating_mul(10).saturating_add(u64::from(b - b'0')))
    });
    let digits = exponent.unwrap_or(0).saturating_add(length as u64);
    if digits > MAX_DIGITS {
        return Err(format!(
            "has a number of more than {MAX_DIGITS} digits at byte {start}, which numeric has no \
             room for"
        ));
    }
    Ok(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_passes() {
        for text in [
            "{}",
            "null",
            " [1, -2.5e3, true, \"a\\\"b\\\\\", {\"k\": \"\\u00e9\\ud83d\\ude00\"}] ",
            "\"\\\\u0000\"",
            "1e9000",
            &format!("{}{}", "[".repeat(512), "]".repeat(512)),
            "\"[[[[\"",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_jsonb_cannot_store_is_refused() {
        let deep = format!("{}{}", "[".repeat(513), "]".repeat(513));
        let long = "1".repeat(10_001);
        for (text, expected) in [
            ("", "is not JSON"),
            ("{", "is not JSON"),
            ("{} x", "is not JSON"),
            ("{'a': 1}", "is not JSON"),
            ("NaN", "is not JSON"),
            ("01", "is not JSON"),
            ("\"\u{0}\"", "is not JSON"),
            ("{\"a\": \"x\\u0000\"}", "has \\u0000 at byte 8"),
            ("{\"a\\u0000\": 1}", "has \\u0000 at byte 3"),
            ("\"\\ud800\"", "half of a surrogate pair at byte 1"),
            ("\"\\ud800\\u0041\"", "half of a surrogate pair"),
            ("\"\\udc00\"", "half of a surrogate pair"),
            ("[1e10001]", "more than 10000 digits at byte 1"),
            ("1E-99999999999999999999999999", "more than 10000 digits"),
            (&long, "more than 10000 digits"),
            (&deep, "deeper than 512 levels at byte 512"),
        ] {
            let error = check(text).expect_err(text);
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }
}
