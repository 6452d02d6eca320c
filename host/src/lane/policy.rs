//! What becomes of a message that failed: tried again, and when, or dead.

use std::time::Duration;

use super::ports::{ParkedState, Parking};
use crate::model::{Failure, InboxKey, Limits, Trap};

/// How a handler's failures are met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Attempts of a message whose handler says `retry`, the first included.
    pub attempts: i32,
    /// The pause after the first attempt; it doubles with each one.
    pub backoff: Duration,
    /// The longest pause.
    pub cap: Duration,
    /// Whether a message that traps is tried again like one whose handler says `retry`.
    pub retry_traps: bool,
    /// Whether later messages of a key wait behind one that is dead.
    pub hold: bool,
    /// Handlers that a message may have come through.
    pub hops: u32,
}

/// Attempts of a message that ran into the wall-clock deadline: that can be the machine's fault.
const DEADLINE_ATTEMPTS: i32 = 3;

impl Default for Policy {
    fn default() -> Self {
        Policy {
            attempts: 20,
            backoff: Duration::from_secs(1),
            cap: Duration::from_secs(300),
            retry_traps: false,
            hold: false,
            hops: Limits::default().hops,
        }
    }
}

impl Policy {
    /// Decides on a message that failed in its `attempt`th try, counted from 1.
    pub fn decide(&self, failure: &Failure, attempt: i32, message: InboxKey) -> Parking {
        let attempts = match failure {
            Failure::Retry(_) => self.attempts,
            // Handlers are deterministic: any other way to fail would repeat itself, but for
            // documents that others change meanwhile.
            Failure::Trap { .. } if self.retry_traps => self.attempts,
            Failure::Trap { trap: Trap::Deadline, .. } => DEADLINE_ATTEMPTS,
            _ => 1,
        };
        let again = attempt < attempts;
        let state = match (again, self.hold) {
            (true, _) => ParkedState::Retrying,
            (false, true) => ParkedState::Holding,
            (false, false) => ParkedState::Dead,
        };
        Parking {
            state,
            attempts: attempt,
            retry_after: again.then(|| self.pause(attempt, message)),
            reason: failure.reason(),
            error: failure.to_string(),
        }
    }

    /// Milliseconds after the `attempt`th try: exponential, with up to a quarter of jitter that
    /// follows from the message, so that a run can be repeated.
    fn pause(&self, attempt: i32, message: InboxKey) -> i64 {
        let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(30);
        let pause = self.backoff.saturating_mul(1 << doublings).min(self.cap);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 4);
        let seed = u64::from(message.0[0]) * 131 + u64::from(doublings) * 37;
        let jittered = pause - pause / 4 * (seed % 256) / 256;
        i64::try_from(jittered).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> InboxKey {
        InboxKey([byte; 16])
    }

    #[test]
    fn a_retry_is_tried_again_with_growing_pauses_and_then_dead() {
        let policy = Policy { attempts: 4, ..Policy::default() };
        let failure = Failure::Retry("not yet".into());
        let pauses: Vec<Option<i64>> =
            (1..=4).map(|n| policy.decide(&failure, n, key(0)).retry_after).collect();
        assert_eq!(pauses, [Some(1_000), Some(1_928), Some(3_711), None]);
        assert_eq!(policy.decide(&failure, 4, key(0)).state, ParkedState::Dead);
        assert!(policy.decide(&failure, 3, key(255)).retry_after < Some(4_000));
    }

    #[test]
    fn pauses_are_capped() {
        let policy = Policy { attempts: 1_000, ..Policy::default() };
        let parking = policy.decide(&Failure::Retry(String::new()), 900, key(0));
        assert!((225_000..=300_000).contains(&parking.retry_after.expect("tried again")));
    }

    #[test]
    fn what_would_repeat_itself_is_dead_at_once() {
        let policy = Policy::default();
        let trap = |trap| Failure::Trap { trap, detail: String::new() };
        let state = |failure: Failure| policy.decide(&failure, 1, key(0)).state;
        assert_eq!(state(Failure::Reject(String::new())), ParkedState::Dead);
        assert_eq!(state(trap(Trap::Panic)), ParkedState::Dead);
        assert_eq!(state(trap(Trap::Fuel)), ParkedState::Dead);
        assert_eq!(state(trap(Trap::Deadline)), ParkedState::Retrying);
        assert_eq!(state(Failure::Refused(String::new())), ParkedState::Dead);
    }

    #[test]
    fn a_policy_may_try_traps_again_and_hold_the_key_of_the_dead() {
        let policy = Policy { attempts: 2, retry_traps: true, hold: true, ..Policy::default() };
        let panic = Failure::Trap { trap: Trap::Panic, detail: String::new() };
        let state = |failure: &Failure, n| policy.decide(failure, n, key(0)).state;
        assert_eq!(state(&panic, 1), ParkedState::Retrying);
        assert_eq!(state(&panic, 2), ParkedState::Holding);
        assert_eq!(state(&Failure::Reject(String::new()), 1), ParkedState::Holding);
    }
}
