//! What is wrong at the end of a run in which things went wrong.

use std::fmt;

/// All zero, or a guarantee is broken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub lost: u64,
    pub applied_twice: u64,
    pub published_twice: u64,
    pub out_of_order: u64,
    pub stuck: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ledger { lost, applied_twice, published_twice, out_of_order, stuck } = self;
        write!(
            f,
            "lost {lost}, applied twice {applied_twice}, published twice {published_twice}, out of \
             order {out_of_order}, stuck {stuck}"
        )
    }
}
