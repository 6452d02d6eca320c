//! Insertions into a text that enclose parts of it, one in the other.

use std::ops::Range;

/// What is to be inserted. What encloses more is to be told first.
#[derive(Debug, Default)]
pub struct Edits {
    /// Where, whether it opens, and its rank among those that do the same there.
    all: Vec<(usize, bool, isize, String)>,
}

impl Edits {
    pub fn enclose(&mut self, part: &Range<usize>, before: String, after: String) {
        let rank = isize::try_from(self.all.len()).unwrap_or(isize::MAX);
        self.all.push((part.start, true, rank, before));
        self.all.push((part.end, false, -rank, after));
    }

    pub fn insert(&mut self, at: usize, text: String) {
        let rank = isize::try_from(self.all.len()).unwrap_or(isize::MAX);
        self.all.push((at, true, rank, text));
    }

    /// The text with all of it. What ends somewhere does before something else begins there.
    pub fn apply(mut self, text: &str) -> String {
        self.all.sort();
        let mut made = String::with_capacity(text.len() * 2);
        let mut done = 0;
        for (at, _, _, inserted) in &self.all {
            made.push_str(&text[done..*at]);
            made.push_str(inserted);
            done = *at;
        }
        made.push_str(&text[done..]);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_stays_inside() {
        let mut edits = Edits::default();
        edits.enclose(&(0..6), "(".into(), ")".into());
        edits.enclose(&(0..2), "[".into(), "]".into());
        edits.enclose(&(4..6), "<".into(), ">".into());
        edits.insert(6, "!".into());
        assert_eq!(edits.apply("a + bc d"), "([a ]+ <bc>)! d");
    }
}
