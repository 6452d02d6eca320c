//! The points of a program that is tested: `TRIBOX_FAULT=<point>:<action>:<n>` has one thing go
//! wrong, once: at the n-th pass.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Action, Point};

/// How long a step takes that is made to take its time: longer than most that go on beside it.
const LONG: Duration = Duration::from_millis(300);

/// What a step fails with that was made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fault point {0}")]
pub struct Fault(&'static str);

/// What is to go wrong.
#[derive(Debug)]
struct Plan {
    point: &'static str,
    action: Action,
    /// Passes until then, this one included.
    left: AtomicU32,
}

impl Plan {
    /// From `<point>:<action>:<n>`.
    fn parse(text: &str) -> Result<Plan, String> {
        let mut parts = text.split(':');
        let (name, action) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let known: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        let Some(point) = Point::ALL.iter().copied().find(|point| point.name() == name) else {
            return Err(format!("no point '{name}'; there are {}", known.join(", ")));
        };
        let possible = point.actions();
        let Some(action) = possible.iter().copied().find(|one| one.name() == action) else {
            let possible: Vec<&str> = possible.iter().map(|action| action.name()).collect();
            return Err(format!("'{name}' has no '{action}'; it has {}", possible.join(", ")));
        };
        let left = match parts.next().map(str::parse) {
            None => 1,
            Some(Ok(n @ 1..)) if parts.next().is_none() => n,
            _ => return Err(format!("the pass in '{text}' is no number from 1 on")),
        };
        Ok(Plan { point: point.name(), action, left: AtomicU32::new(left) })
    }

    /// Whether this pass is the one.
    fn strikes(&self, point: Point) -> bool {
        self.point == point.name() && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Error => "error",
            Action::Delay => "delay",
            Action::Twice => "twice",
        }
    }
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("TRIBOX_FAULT").ok()?;
        Some(Plan::parse(&text).unwrap_or_else(|why| panic!("TRIBOX_FAULT: {why}")))
    });
    plan.as_ref()
}

/// The action that befalls a step now, of those that `point` and `pass` know.
fn struck(point: Point) -> Option<Action> {
    let plan = plan().filter(|plan| plan.action != Action::Twice && plan.strikes(point))?;
    tell(plan);
    Some(plan.action)
}

fn tell(plan: &Plan) {
    tracing::warn!("fault point {}: {}", plan.point, plan.action.name());
}

/// A step that can fail.
///
/// # Errors
/// It was made to.
pub fn point(point: Point) -> Result<(), Fault> {
    match struck(point) {
        None | Some(Action::Twice) => {}
        Some(Action::Kill) => end(),
        Some(Action::Delay) => wait(),
        Some(Action::Error) => return Err(Fault(point.name())),
    }
    Ok(())
}

/// A step that cannot fail.
pub fn pass(point: Point) {
    // No such point has the action.
    let _ = self::point(point);
}

/// Whether a step is to be done a second time.
pub fn twice(point: Point) -> bool {
    let plan = plan().filter(|plan| plan.action == Action::Twice && plan.strikes(point));
    plan.inspect(|plan| tell(plan)).is_some()
}

/// Ends the process as `kill -9` does: nothing is flushed, nothing is told to anybody.
fn end() {
    let killed = kill_process(getpid(), Signal::KILL);
    panic!("the process cannot end itself: {killed:?}");
}

/// Holds this thread up; on a runtime of several, what else is ready goes on.
fn wait() {
    let several = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
    if Handle::try_current().is_ok_and(several) {
        tokio::task::block_in_place(|| std::thread::sleep(LONG));
    } else {
        std::thread::sleep(LONG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_strikes_once() {
        let plan = Plan::parse("after-commit:error:2").unwrap();
        assert_eq!(plan.action, Action::Error);
        let strikes = |point| plan.strikes(point);
        assert!(!strikes(Point::BeforeCommit));
        assert!(!strikes(Point::AfterCommit));
        assert!(!strikes(Point::BeforeCommit));
        assert!(strikes(Point::AfterCommit));
        assert!(!strikes(Point::AfterCommit));
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_told() {
        for (text, what) in [
            ("nowhere:kill", "no point 'nowhere'; there are received, "),
            ("after-ack:error", "'after-ack' has no 'error'; it has kill, delay"),
            ("received:kill:0", "no number from 1 on"),
            ("received:kill:1:1", "no number from 1 on"),
        ] {
            let why = Plan::parse(text).unwrap_err();
            assert!(why.contains(what), "{text}: {why}");
        }
    }

    #[test]
    fn each_point_has_a_name_of_its_own_and_can_kill() {
        let mut names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(Point::ALL.iter().all(|point| point.actions().contains(&Action::Kill)));
    }
}
