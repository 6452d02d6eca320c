//! JSON as Postgres' `jsonb` gives it back. Documents are kept in this one form from the moment a
//! handler returns them, so that a handler cannot tell whether what it reads comes from the database,
//! from a cache or from an earlier message of its own batch.

use std::cmp::Ordering;
use std::fmt::Write;
use std::ops::Range;

/// Deeper nesting is refused; Postgres would stop at a depth of its own stack.
const MAX_DEPTH: usize = 128;
/// Longer numbers are refused; written out, a short `1e9999` would be a long one.
const MAX_DIGITS: i64 = 1_000;

/// Rewrites JSON text the way `jsonb` prints it: white space normalised, object keys by length and
/// then bytes, the last of duplicate keys, numbers written out as `numeric` does.
///
/// # Errors
/// What is wrong and at which byte: not JSON, JSON that `jsonb` cannot store (NUL, a lone surrogate,
/// absurd numbers or nesting), or more than `limit` bytes when written out.
pub fn canonical(text: &str, limit: usize) -> Result<String, String> {
    let out = String::with_capacity(text.len() + 16);
    let mut reader = Reader { text: text.as_bytes(), at: 0, out, limit };
    reader.space();
    reader.value(0)?;
    reader.space();
    if reader.at < reader.text.len() {
        return Err(reader.error("unexpected text after the value"));
    }
    Ok(reader.out)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    out: String,
    limit: usize,
}

/// A member of an object as it stands in the output.
struct Member {
    /// The key without escapes, where it has any.
    decoded: Option<String>,
    key: Range<usize>,
    whole: Range<usize>,
}

impl Member {
    fn key<'a>(&'a self, out: &'a str) -> &'a [u8] {
        match &self.decoded {
            Some(key) => key.as_bytes(),
            None => &out.as_bytes()[self.key.clone()],
        }
    }

    fn order(&self, other: &Member, out: &str) -> Ordering {
        let (a, b) = (self.key(out), other.key(out));
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl<'a> Reader<'a> {
    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &str) -> Result<(), String> {
        if self.peek() != Some(byte) {
            return Err(self.error(&format!("expected {what}")));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.error(&format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.out.len() > self.limit {
            return Err(self.error(&format!("more than {} bytes when written out,", self.limit)));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => Err(self.error("unexpected character")),
            None => Err(self.error("the text ends early")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("unexpected word"));
        }
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.out.push('[');
        self.space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.out.push_str(", ");
                self.space();
            }
        }
        self.expect(b']', "',' or ']'")?;
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.out.push('{');
        let start = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        let mut sorted = true;
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                let member = self.member(depth)?;
                if let Some(before) = members.last() {
                    sorted &= before.order(&member, &self.out) == Ordering::Less;
                }
                members.push(member);
                self.space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.out.push_str(", ");
                self.space();
            }
        }
        self.expect(b'}', "',' or '}'")?;
        if !sorted {
            self.rearrange(start, members);
        }
        self.out.push('}');
        Ok(())
    }

    fn member(&mut self, depth: usize) -> Result<Member, String> {
        let from = self.out.len();
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a key in quotes"));
        }
        let decoded = self.string()?;
        let key = from + 1..self.out.len() - 1;
        self.space();
        self.expect(b':', "':'")?;
        self.out.push_str(": ");
        self.space();
        self.value(depth + 1)?;
        Ok(Member { decoded, key, whole: from..self.out.len() })
    }

    /// Brings the members of the object that starts at `start` into order; the last of a key stays.
    fn rearrange(&mut self, start: usize, mut members: Vec<Member>) {
        members.reverse();
        members.sort_by(|a, b| a.order(b, &self.out));
        members.dedup_by(|a, b| a.order(b, &self.out) == Ordering::Equal);
        let mut ordered = String::with_capacity(self.out.len() - start);
        for (n, member) in members.iter().enumerate() {
            if n > 0 {
                ordered.push_str(", ");
            }
            ordered.push_str(&self.out[member.whole.clone()]);
        }
        self.out.truncate(start);
        self.out.push_str(&ordered);
    }

    /// Copies a string; returns it decoded where it has escapes.
    fn string(&mut self) -> Result<Option<String>, String> {
        self.at += 1;
        self.out.push('"');
        let start = self.at;
        while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
            self.at += 1;
        }
        let plain = self.slice(start);
        if self.peek() == Some(b'"') {
            self.out.push_str(plain);
            self.out.push('"');
            self.at += 1;
            return Ok(None);
        }
        let mut decoded = plain.to_owned();
        loop {
            let start = self.at;
            match self.peek() {
                None => return Err(self.error("the text ends inside a string")),
                Some(b'"') => break,
                Some(b'\\') => decoded.push(self.escape()?),
                Some(0..0x20) => return Err(self.error("a control character in a string")),
                Some(_) => {
                    while self.peek().is_some_and(|b| b != b'"' && b != b'\\' && b >= 0x20) {
                        self.at += 1;
                    }
                    decoded.push_str(self.slice(start));
                }
            }
        }
        self.at += 1;
        for c in decoded.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(Some(decoded))
    }

    /// The input from `start` to here. Both stand at ASCII characters, so it is valid UTF-8.
    fn slice(&self, start: usize) -> &'a str {
        let text: &'a [u8] = self.text;
        std::str::from_utf8(&text[start..self.at]).unwrap_or_default()
    }

    fn escape(&mut self) -> Result<char, String> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.error("unknown escape in a string")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, String> {
        let first = self.hex()?;
        let code = match first {
            0 => return Err(self.error("NUL (\\u0000) in a string, which Postgres cannot store,")),
            0xD800..0xDC00 => {
                if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(self.error("a lone surrogate in a string"));
                }
                self.at += 1;
                let second = self.hex()?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(self.error("a lone surrogate in a string"));
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.error("a lone surrogate in a string"))
    }

    /// Four hex digits after the `u` this stands at.
    fn hex(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at + 1..self.at + 5);
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let code = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u32::from_str_radix(d, 16).ok())
            .ok_or_else(|| self.error("an incomplete \\u escape"))?;
        self.at += 5;
        Ok(code)
    }

    fn digits(&mut self) -> Range<usize> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        start..self.at
    }

    fn number(&mut self) -> Result<(), String> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let whole = self.digits();
        if whole.is_empty() || (whole.len() > 1 && self.text[whole.start] == b'0') {
            return Err(self.error("not a number"));
        }
        let mut fraction = self.at..self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            fraction = self.digits();
            if fraction.is_empty() {
                return Err(self.error("not a number"));
            }
        }
        let mut exponent = 0;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let minus = self.peek() == Some(b'-');
            self.at += usize::from(minus || self.peek() == Some(b'+'));
            let digits = self.digits();
            if digits.is_empty() {
                return Err(self.error("not a number"));
            }
            let text = std::str::from_utf8(&self.text[digits]).unwrap_or_default();
            let size = text.parse::<i64>().unwrap_or(i64::MAX).min(MAX_DIGITS * 2);
            exponent = if minus { -size } else { size };
        }
        self.write_number(negative, whole, fraction, exponent)
    }

    /// Writes a number as `numeric` does: no exponent, as many decimals as were given.
    fn write_number(
        &mut self,
        negative: bool,
        whole: Range<usize>,
        fraction: Range<usize>,
        exponent: i64,
    ) -> Result<(), String> {
        let count = |range: &Range<usize>| i64::try_from(range.len()).unwrap_or(i64::MAX);
        let point = count(&whole).saturating_add(exponent);
        let decimals = count(&fraction).saturating_sub(exponent).max(0);
        if point.max(0).saturating_add(decimals) > MAX_DIGITS {
            return Err(self.error(&format!("a number of more than {MAX_DIGITS} digits")));
        }
        let digits: Vec<u8> =
            self.text[whole].iter().chain(&self.text[fraction]).copied().collect();
        let zero = digits.iter().all(|d| *d == b'0');
        if negative && !zero {
            self.out.push('-');
        }
        let digit = |at: i64| match usize::try_from(at).ok().and_then(|at| digits.get(at)) {
            Some(digit) => char::from(*digit),
            None => '0',
        };
        let before = self.out.len();
        for at in 0..point {
            let digit = digit(at);
            if digit != '0' || self.out.len() > before {
                self.out.push(digit);
            }
        }
        if self.out.len() == before {
            self.out.push('0');
        }
        if decimals > 0 {
            self.out.push('.');
            (point..point + decimals).for_each(|at| self.out.push(digit(at)));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
