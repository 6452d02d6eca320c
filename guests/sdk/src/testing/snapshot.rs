//! Comparing effects with the text that a test expects.

use crate::Effects;

/// Compares effects, as they print, with `expected`, line by line. Indentation and empty lines do
/// not count, so that the expected lines can stand indented in the test.
///
/// ```
/// # use tribox_guest::{Effects, Failure, testing::assert_effects};
/// # fn main() -> Result<(), Failure> {
/// let mut effects = Effects::new();
/// effects.delete("carts", "7").cancel("remind-7");
/// effects.send("carts.events.7.emptied", &7)?.header("Lang", "de");
/// assert_effects(&effects, "
///     delete carts/7
///     cancel remind-7
///     send carts.events.7.emptied 7 [Lang: de]
/// ");
/// assert_effects(&Effects::new(), "");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Where they differ, with both texts and the first line that differs.
#[track_caller]
pub fn assert_effects(effects: &Effects, expected: &str) {
    let actual = effects.to_string();
    let (actual, expected) = (lines(&actual), lines(expected));
    if actual == expected {
        return;
    }
    let first = (0..).find(|&n| actual.get(n) != expected.get(n)).unwrap_or_default();
    panic!(
        "effects differ in line {line}:\n  expected: {wanted}\n  actual:   {got}\n\
         all expected:\n  {all_wanted}\nall actual:\n  {all_got}\n",
        line = first + 1,
        wanted = expected.get(first).unwrap_or(&"(no more lines)"),
        got = actual.get(first).unwrap_or(&"(no more lines)"),
        all_wanted = expected.join("\n  "),
        all_got = actual.join("\n  "),
    );
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}
