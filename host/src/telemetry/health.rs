//! Which parts of the world can be used now. A change of state is logged once, not every attempt.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Parts that readiness depends on, by name: `postgres`, `nats`, `handler accounts`.
pub type Part = String;

/// The state of each part; a part that nobody spoke of is fine.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    trouble: BTreeMap<Part, Trouble>,
    /// When a part was last well again.
    mended: BTreeMap<Part, Instant>,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    since: Instant,
    /// Whether the log has a line of it.
    told: bool,
}

/// What is said of a part that is not ready yet.
const STARTING: &str = "starting";

/// A part that is well again and in trouble within so short a time is in the same trouble: one
/// connection was mended before another one met the outage.
const SETTLING: Duration = Duration::from_secs(2);

impl Health {
    /// Notes that a part cannot be used, and logs it where that is news.
    pub fn away(&self, part: &str, why: &str) {
        if self.away_at(part, why, Instant::now()) {
            tracing::warn!(part, "{part} cannot be used, waiting for it: {why}");
        }
    }

    /// Notes that a part can be used again, and logs it where that is news.
    pub fn back(&self, part: &str) {
        if self.back_at(part, Instant::now()) {
            tracing::info!(part, "{part} can be used again");
        }
    }

    fn away_at(&self, part: &str, why: &str, now: Instant) -> bool {
        let mut parts = self.parts();
        let since = |at: Instant| now.saturating_duration_since(at);
        if let Some(trouble) = parts.trouble.get_mut(part)
            && trouble.why != STARTING
        {
            why.clone_into(&mut trouble.why);
            let news = !trouble.told && since(trouble.since) >= SETTLING;
            trouble.told |= news;
            return news;
        }
        let told = parts.mended.get(part).is_none_or(|at| since(*at) >= SETTLING);
        parts.trouble.insert(part.to_owned(), Trouble { why: why.to_owned(), since: now, told });
        told
    }

    fn back_at(&self, part: &str, now: Instant) -> bool {
        let mut parts = self.parts();
        let Some(trouble) = parts.trouble.remove(part) else { return false };
        if trouble.why == STARTING {
            return false;
        }
        parts.mended.insert(part.to_owned(), now);
        trouble.told
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, part: &str, why: &str) {
        let trouble = Trouble { why: why.to_owned(), since: Instant::now(), told: false };
        self.parts().trouble.insert(part.to_owned(), trouble);
    }

    /// A part is not ready before it says so. That alone is not worth a line in the log.
    pub fn starting(&self, part: &str) {
        self.set(part, STARTING);
    }

    /// Everything that was to be started was.
    pub fn started(&self) {
        self.forget("node");
    }

    /// The host begins anew: what was said before is past.
    pub fn start_again(&self) {
        let mut parts = self.parts();
        parts.trouble.clear();
        parts.mended.clear();
        drop(parts);
        self.starting("node");
    }

    /// The host ends: nothing new should be sent to it.
    pub fn stopping(&self) {
        self.set("node", "stopping");
    }

    /// A part that is no longer wanted.
    pub fn forget(&self, part: &str) {
        let mut parts = self.parts();
        parts.trouble.remove(part);
        parts.mended.remove(part);
    }

    /// What is wrong now, by part.
    pub fn trouble(&self) -> BTreeMap<Part, String> {
        let why = |(part, trouble): (&Part, &Trouble)| (part.clone(), trouble.why.clone());
        self.parts().trouble.iter().map(why).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(health.away_at("nats", "gone", now));
        assert!(!health.away_at("nats", "still gone", now + SETTLING * 2));
        assert_eq!(health.trouble()["nats"], "still gone");
        assert!(health.back_at("nats", now + SETTLING * 2));
        assert!(!health.back_at("nats", now + SETTLING * 2));
        assert!(health.away_at("nats", "gone again", now + SETTLING * 4));
    }

    #[test]
    fn a_connection_that_meets_the_outage_late_is_no_news() {
        let (health, now) = (Health::default(), Instant::now());
        health.away_at("postgres", "refused", now);
        assert!(health.back_at("postgres", now));
        assert!(!health.away_at("postgres", "a broken connection", now + SETTLING / 2));
        assert!(health.trouble().contains_key("postgres"), "it is not ready all the same");
        assert!(!health.back_at("postgres", now + SETTLING / 2));
    }

    #[test]
    fn an_outage_right_after_another_is_told_when_it_lasts() {
        let (health, now) = (Health::default(), Instant::now());
        health.away_at("postgres", "refused", now);
        health.back_at("postgres", now);
        assert!(!health.away_at("postgres", "refused", now));
        assert!(health.away_at("postgres", "refused", now + SETTLING));
        assert!(health.back_at("postgres", now + SETTLING));
    }

    #[test]
    fn starting_is_no_trouble_worth_a_line() {
        let (health, now) = (Health::default(), Instant::now());
        health.starting("handler a");
        assert!(!health.back_at("handler a", now));
        health.starting("handler a");
        assert!(health.away_at("handler a", "no stream", now));
        assert!(health.back_at("handler a", now));
    }
}
