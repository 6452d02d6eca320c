//! What names, keys and headers may be, by the contract.

use crate::Header;

/// Says what is wrong with a name of a handler or collection, if anything; `other` are the
/// characters that it may have besides `a-z` and `0-9`.
pub fn check_name(name: &str, other: &[char]) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || other.contains(&c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(format!("name '{name}' must be 1 to 64 of a-z, 0-9 and {other:?}"));
    }
    Ok(())
}

/// Says what is wrong with a key, if anything.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > 1_024 {
        return Err(format!("has {} bytes; 1 to 1,024 are allowed", key.len()));
    }
    if key.contains('\0') {
        return Err("has a NUL".to_owned());
    }
    Ok(())
}

/// Says what is wrong with a header line, if anything.
pub fn check_header(header: &Header) -> Result<(), String> {
    let Header { name, value } = header;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic() && c != ':') {
        return Err(format!("header name {name:?} must be printable ASCII without a colon"));
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err(format!("the value of header {name} has CR, LF or NUL: {value:?}"));
    }
    Ok(())
}
