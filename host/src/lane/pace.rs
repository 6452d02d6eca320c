//! How long handling a message takes of late: whether a turn is so short that it may run where the
//! runtime's own tasks run. Handing them to another thread meanwhile costs more than a short turn.

use std::time::Duration;

/// For so long a turn may hold up other tasks of its thread.
const BRIEF: Duration = Duration::from_micros(500);

/// A guest that was slow once is taken for slow; each turn without it that becomes less so.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of a message. `None`: nothing was handled yet.
    each: Option<Duration>,
}

impl Pace {
    /// Whether a turn of so many messages can be expected to be brief.
    pub(super) fn is_brief(&self, messages: usize) -> bool {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.each.is_some_and(|each| each.saturating_mul(messages) <= BRIEF)
    }

    /// A turn of so many messages took so long.
    pub(super) fn took(&mut self, messages: usize, time: Duration) {
        let each = time / u32::try_from(messages.max(1)).unwrap_or(u32::MAX);
        self.each = Some(each.max(self.each.unwrap_or_default() * 7 / 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_micros(20);

    #[test]
    fn what_is_unknown_is_not_brief() {
        assert!(!Pace::default().is_brief(1));
    }

    #[test]
    fn few_fast_messages_are_brief_and_many_are_not() {
        let mut pace = Pace::default();
        pace.took(10, FAST * 10);
        assert!(pace.is_brief(25));
        assert!(!pace.is_brief(26));
    }

    #[test]
    fn a_slow_one_is_remembered_for_some_turns() {
        let mut pace = Pace::default();
        pace.took(1, Duration::from_secs(1));
        pace.took(1, FAST);
        assert!(!pace.is_brief(1));
        for _ in 0..100 {
            pace.took(1, FAST);
        }
        assert!(pace.is_brief(1));
    }
}
