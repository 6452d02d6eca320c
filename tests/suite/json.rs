//! JSON texts of every kind, the same in every run: for comparing what the host makes of them with what
//! Postgres does.

/// SplitMix64: enough for tests.
pub struct Dice(pub u64);

impl Dice {
    /// 0 to `sides` - 1.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap_or(0) % sides.max(1)
    }

    pub fn one_of<'a, T: ?Sized + 'a>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// Up to `most` digits, at least one.
    fn digits(&mut self, most: usize) -> String {
        let count = 1 + self.below(most);
        (0..count).map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap_or(0))).collect()
    }
}

/// Characters and escapes of strings, valid wherever they stand.
const PIECES: &[&str] = &[
    "a",
    "b",
    "ab",
    "Z",
    "0",
    " ",
    "/",
    "'",
    "$",
    "\u{7f}",
    "é",
    "ß",
    "日本",
    "😀",
    "\u{2028}",
    "\u{ffff}",
    "\u{10ffff}",
    "e\u{301}",
    r#"\""#,
    r"\\",
    r"\/",
    r"\b",
    r"\f",
    r"\n",
    r"\r",
    r"\t",
    r"\u0001",
    r"\u001F",
    r"\u0061",
    r"\u007f",
    r"\u00E9",
    r"\u2028",
    r"\uFFFF",
    r"\ud83d\ude00",
    r"\uDBFF\uDFFF",
];

/// What may stand between two tokens.
const SPACES: &[&str] = &["", "", "", " ", "\n", "\t", "\r\n", "  "];

/// Texts that neither the host nor Postgres takes.
pub const BAD: &[&str] = &[
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "nul",
    "nulll",
    "True",
    "NaN",
    "Infinity",
    "-",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1.e3",
    "1e",
    "1e+",
    "0x1",
    "1_000",
    "1 2",
    "\"",
    "\"a",
    "a\"",
    "'a'",
    "\"\u{1}\"",
    "\"\t\"",
    "\"\n\"",
    r#""\x""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\u0000""#,
    r#"{"\u0000":1}"#,
    r#""\ud800""#,
    r#""\udc00""#,
    r#""\ud800\ud800""#,
    r#""\ud800\u0041""#,
    r#""\ud83dx\ude00""#,
    "1e400000",
    "-1e400000",
    "1e-400000",
    "[1]]",
    "{}{}",
    "[] []",
    "// x\n1",
    "/**/1",
    "\u{feff}1",
    "\u{a0}1",
];

/// A document: mostly an object, nested, with keys that repeat.
pub fn document(dice: &mut Dice) -> String {
    let mut text = dice.one_of(SPACES).to_owned();
    let depth = 1 + dice.below(5);
    value(dice, depth, &mut text);
    text + dice.one_of(SPACES)
}

fn value(dice: &mut Dice, depth: usize, text: &mut String) {
    let kinds = if depth == 0 { 5 } else { 11 };
    match dice.below(kinds) {
        0 => text.push_str(dice.one_of(&["null", "true", "false"])),
        1 | 2 => number(dice, text),
        3 | 4 => string(dice, 6, text),
        5 | 6 => array(dice, depth, text),
        _ => object(dice, depth, text),
    }
}

fn array(dice: &mut Dice, depth: usize, text: &mut String) {
    text.push('[');
    for n in 0..dice.below(5) {
        if n > 0 {
            text.push(',');
        }
        text.push_str(dice.one_of(SPACES));
        value(dice, depth - 1, text);
        text.push_str(dice.one_of(SPACES));
    }
    text.push(']');
}

fn object(dice: &mut Dice, depth: usize, text: &mut String) {
    text.push('{');
    for n in 0..dice.below(8) {
        if n > 0 {
            text.push(',');
        }
        text.push_str(dice.one_of(SPACES));
        // Few pieces, so that keys repeat, in other spellings too.
        string(dice, 2, text);
        text.push_str(dice.one_of(SPACES));
        text.push(':');
        text.push_str(dice.one_of(SPACES));
        value(dice, depth - 1, text);
        text.push_str(dice.one_of(SPACES));
    }
    text.push('}');
}

fn string(dice: &mut Dice, most: usize, text: &mut String) {
    text.push('"');
    for _ in 0..dice.below(most + 1) {
        text.push_str(dice.one_of(PIECES));
    }
    text.push('"');
}

fn number(dice: &mut Dice, text: &mut String) {
    text.push_str(dice.one_of(&["", "", "-"]));
    match dice.below(3) {
        0 => text.push('0'),
        _ => {
            let digits = dice.digits(25);
            let digits = digits.trim_start_matches('0');
            text.push_str(if digits.is_empty() { "0" } else { digits });
        }
    }
    if dice.below(3) == 0 {
        text.push('.');
        text.push_str(&dice.digits(20));
    }
    if dice.below(3) == 0 {
        text.push_str(dice.one_of(&["e", "E", "e+", "E-", "e-"]));
        text.push_str(dice.one_of(&["", "0"]));
        text.push_str(&dice.digits(2));
    }
}
