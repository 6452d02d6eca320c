//! Settings of this handler, from `[handlers.<name>.settings]` of the host's config. They are
//! strings by name, and not there yet when the handler describes itself.
//!
//! A setting that cannot be used is a mistake of the operator and not of the message: it is a
//! retry, so that the message goes through once the config is right.

use std::fmt::Display;
use std::str::FromStr;

use crate::{Failure, host};

/// A setting, or nothing where it is not set.
///
/// # Errors
/// A retry where the host cannot read its settings.
pub fn get(name: &str) -> Result<Option<String>, Failure> {
    host::setting(name)
        .map_err(|error| Failure::Retry(format!("setting '{name}' cannot be read: {error}")))
}

/// A setting, or `default` where it is not set.
///
/// ```
/// # use tribox_guest::{Failure, settings};
/// fn threshold() -> Result<i64, Failure> {
///     settings::get_or("threshold", 100)
/// }
/// ```
///
/// # Errors
/// A retry, naming the setting and its value, where it does not parse.
pub fn get_or<T>(name: &str, default: T) -> Result<T, Failure>
where
    T: FromStr<Err: Display>,
{
    match get(name)? {
        None => Ok(default),
        Some(value) => value.trim().parse().map_err(|error| {
            Failure::Retry(format!("setting '{name}' is '{value}', which is not valid: {error}"))
        }),
    }
}
