//! The points of a program that is shipped: nothing goes wrong, and nothing is left of them.

use std::fmt;

use super::Point;

/// What no step of this program fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A step that can fail.
///
/// # Errors
/// None here.
#[inline(always)]
pub fn point(_: Point) -> Result<(), Fault> {
    Ok(())
}

/// A step that cannot fail.
#[inline(always)]
pub fn pass(_: Point) {}

/// Whether a step is to be done a second time: never here.
#[inline(always)]
pub fn twice(_: Point) -> bool {
    false
}
