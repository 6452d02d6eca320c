//! Everything that takes apart what others send, given some thousand inputs: those of
//! `tests/corpus`, changed at random from a seed. `make fuzz` gives more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tribox::fuzz::TARGETS;
use tribox_tests::programs;

/// Inputs for each target; a component may have to be compiled.
const INPUTS: u64 = 20_000;
const COMPONENTS: u64 = 300;
/// Bytes of an input at most.
const LONGEST: usize = 64 << 10;

/// Words that the formats are made of.
const WORDS: &[&str] = &[
    "\0asm\x0d\0\x01\0",
    "\0",
    "\n\n",
    "\r\n",
    ": ",
    "NATS/1.0",
    "Nats-Msg-Id",
    "Nats-TTL: ",
    "never",
    "ce-expirytime: 9999-12-31T23:59:59Z",
    "1h30m",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\u0000",
    "\\ud800",
    "1e999",
    "-0",
    "[lanes]\n",
    "= ",
    "\u{fffd}",
    "\u{10ffff}",
    "*",
    ">",
    ".",
    "tribox:handler/handler@0.1.0",
    "wasi:io/poll@0.2.0",
    "dead-",
    "Permissions Violation for Publish to \"",
    "\"err_code\":",
];

/// splitmix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A stretch of so many bytes.
    fn stretch(&mut self, length: usize) -> std::ops::Range<usize> {
        let from = self.below(length + 1);
        from..from + self.below(length - from + 1)
    }

    /// One input: one of the corpus, changed a few times.
    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut data = corpus[self.below(corpus.len())].clone();
        for _ in 0..self.below(6) {
            let at = self.below(data.len() + 1);
            match self.below(8) {
                0 if at < data.len() => data[at] ^= 1 << self.below(8),
                1 if at < data.len() => data[at] = self.next() as u8,
                2 => data.insert(at, self.next() as u8),
                3 => drop(data.drain(self.stretch(data.len()))),
                4 => {
                    let again = data[self.stretch(data.len())].to_vec();
                    data.splice(at..at, again);
                }
                5 => {
                    let word = WORDS[self.below(WORDS.len())].bytes();
                    data.splice(at..at, word);
                }
                6 => {
                    let other = &corpus[self.below(corpus.len())];
                    data.splice(at.., other[self.stretch(other.len())].iter().copied());
                }
                _ => data.truncate(at),
            }
            data.truncate(LONGEST);
        }
        data
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let place = programs::repository().join("tests/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&place)
        .unwrap_or_else(|why| panic!("{}: {why}", place.display()))
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Gives a target inputs; what is wrong is said with the input.
fn give(name: &str, target: fn(&[u8]), inputs: u64, seed: u64) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    corpus.iter().for_each(|input| target(input));
    let mut chance = Chance(seed);
    for n in 0..inputs {
        let input = chance.input(&corpus);
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&file, &input).unwrap();
            panic!("{name} breaks at input {n} of seed {seed}, which is in {}", file.display());
        }
    }
}

#[test]
fn whatever_others_send_is_taken_apart_without_a_panic() {
    let times = std::env::var("TRIBOX_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let seed = std::env::var("TRIBOX_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for (name, target) in TARGETS {
        let inputs = if *name == "component" { COMPONENTS } else { INPUTS } * times;
        give(name, *target, inputs, seed);
        println!("{inputs:>10} inputs: {name}");
    }
}

/// That a panic is noticed, and said with its input.
#[test]
fn what_breaks_is_found_and_told() {
    let breaks = |data: &[u8]| assert!(!data.contains(&b'\\'), "a backslash");
    let told = catch_unwind(|| give("message", breaks, 20_000, 1)).unwrap_err();
    let told = told.downcast_ref::<String>().expect("words");
    assert!(told.contains("breaks at input") && told.contains("fuzz-message"), "{told}");
}
