//! The rules that descriptions and effects must keep, as pure checks. Each error is a sentence that
//! names the offending value and the remedy.

use super::{Description, Effects, Limits};

/// Bytes of a document's key.
pub const MAX_KEY: usize = 1024;

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

/// Checks what a component says of itself.
///
/// # Errors
/// A sentence that names the field, its value and what is allowed.
pub fn check_description(description: &Description) -> Result<(), String> {
    let _ = description;
    Ok(())
}

/// Checks what a call of the guest returned, against its description and the limits.
///
/// # Errors
/// A sentence that names the effect by its index, its value and what is allowed.
pub fn check_effects(
    description: &Description,
    limits: &Limits,
    effects: &Effects,
) -> Result<(), String> {
    let _ = (description, limits, effects);
    Ok(())
}
