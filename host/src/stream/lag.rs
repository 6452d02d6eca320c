//! How many messages wait in a stream for a handler, as its metric has it: the sum over all streams and
//! partitions that this node reads for it.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// One reader's share of the gauge; it goes with the reader.
#[derive(Debug)]
pub struct Lag {
    sum: Gauge,
    share: AtomicI64,
}

impl Lag {
    /// A share of nothing yet.
    pub fn new(sum: Gauge) -> Lag {
        Lag { sum, share: AtomicI64::new(0) }
    }

    /// Messages that wait behind the one just delivered.
    pub(super) fn set(&self, pending: u64) {
        let share = i64::try_from(pending).unwrap_or(i64::MAX);
        self.sum.inc_by(share - self.share.swap(share, Ordering::Relaxed));
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_go_with_their_readers() {
        let sum = Gauge::default();
        let (one, two) = (Lag::new(sum.clone()), Lag::new(sum.clone()));
        one.set(5);
        two.set(7);
        one.set(2);
        assert_eq!(sum.get(), 9);
        drop(two);
        assert_eq!(sum.get(), 2);
        drop(one);
        assert_eq!(sum.get(), 0);
    }
}
