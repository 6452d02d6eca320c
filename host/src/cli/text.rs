//! What commands print for people: tables, ages, and payloads that may be anything. What comes from
//! messages is never printed as it is: it could write to the terminal.

use std::fmt::Write as _;

/// Bytes of a payload that are shown as text, and as hexadecimal.
const SHOWN: usize = 64 << 10;
const DUMPED: usize = 256;

/// Rows in columns, the first one being the heading; a column of numbers stands to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, n: usize| row.get(n).cloned().unwrap_or_default();
    let width = |n| rows.iter().map(|row| cell(row, n).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let to_the_right = |n| {
        let mut cells = rows.iter().skip(1).map(|row| cell(row, n)).filter(|c| !c.is_empty());
        rows.len() > 1 && cells.all(|c| number(&c) || c == "-")
    };
    let right: Vec<bool> = (0..columns).map(to_the_right).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for n in 0..columns {
            let (value, width) = (cell(row, n), widths[n]);
            // Writing into a String cannot fail.
            let _ = match right[n] {
                true => write!(line, "{value:>width$}  "),
                false => write!(line, "{value:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text without what a terminal takes for commands.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_command(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The same on one line, cut to so many characters.
pub(super) fn short(text: &str, limit: usize) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    let mut shown: String = printable(&line).chars().take(limit).collect();
    if line.chars().count() > limit {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// Control characters, and those that turn the direction of writing.
fn is_command(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A span of time, roughly: `40 s`, `3 min`, `5 h`, `2 d`.
pub(super) fn span(milliseconds: i64) -> String {
    let seconds = milliseconds.unsigned_abs() / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// When something is to happen: `in 5 min`, or `now`.
pub(super) fn until(milliseconds: i64) -> String {
    if milliseconds <= 0 { "now".to_owned() } else { format!("in {}", span(milliseconds)) }
}

/// `1 message`, `2 messages`.
pub(super) fn count(number: i64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A payload to be read: JSON over several lines, text as it is, anything else in hexadecimal.
pub(super) fn payload(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()) => {
            let shown = indented(text).unwrap_or_else(|| text.to_owned());
            cut(&printable(&shown), bytes.len())
        }
        _ => dump(bytes),
    }
}

fn cut(text: &str, size: usize) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let shown = &text[..text.floor_char_boundary(SHOWN)];
    format!("{shown}\n… ({size} bytes in all; `show --export DIR` writes all of it)")
}

fn dump(bytes: &[u8]) -> String {
    let mut text = format!("({} bytes that are no text)", bytes.len());
    for (n, line) in bytes[..bytes.len().min(DUMPED)].chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
        let plain: String = line.iter().map(plain).collect();
        // Writing into a String cannot fail.
        let _ = write!(text, "\n{:08x}  {:<47}  {plain}", n * 16, hex.join(" "));
    }
    if bytes.len() > DUMPED {
        text.push_str("\n…");
    }
    text
}

/// JSON over several lines, its numbers, strings and order untouched; `None` where it is none.
pub(super) fn indented(json: &str) -> Option<String> {
    serde_json::from_str::<serde::de::IgnoredAny>(json).ok()?;
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut chars = json.trim().chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                text.push(c);
                while let Some(c) = chars.next() {
                    text.push(c);
                    match c {
                        '\\' => text.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                text.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => text.push(c),
        }
    }
    Some(text)
}

/// Each line of a text, set in.
pub(super) fn set_in(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_else_untouched() {
        let json = r#"{"b":[1.50,{}, [] ],"a":"x,\"{:","n":12345678901234567890123}"#;
        let expected = "{\n  \"b\": [\n    1.50,\n    {},\n    []\n  ],\n  \"a\": \"x,\\\"{:\",\n  \
                        \"n\": 12345678901234567890123\n}";
        assert_eq!(indented(json).as_deref(), Some(expected));
        assert_eq!(indented("{\"a\":"), None);
        assert_eq!(payload(br#""x""#), "\"x\"");
    }

    #[test]
    fn payloads_are_shown_whatever_they_are() {
        assert_eq!(payload(b""), "(empty)");
        assert_eq!(payload(b"plain text"), "plain text");
        assert!(payload(b"\x1b[31mred").contains("1b 5b 33 31"), "{}", payload(b"\x1b[31mred"));
        let bytes = payload(&[0xff; 300]);
        assert!(bytes.starts_with("(300 bytes that are no text)\n00000000  ff ff"), "{bytes}");
        assert_eq!(bytes.lines().count(), 1 + 16 + 1);
    }

    #[test]
    fn nothing_writes_to_the_terminal() {
        assert_eq!(short("a\x1b]0;b\u{202e}\nc", 9), "a\u{fffd}]0;b\u{fffd} c");
        assert_eq!(short("abcdef", 4), "abc…");
    }

    #[test]
    fn tables_have_columns() {
        let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let rows = [row(&["handler", "count"]), row(&["é", "12"]), row(&["accounts", "3"])];
        assert_eq!(table(&rows), "handler   count\né            12\naccounts      3\n");
    }
}
