//! The points of a program that is tested: `TRIBOX_FAULT=<point>:<action>:<n>` has one thing go
//! wrong, once: at the n-th pass. `<point>:delay:<n>:<file>` makes the file, and stands there until
//! somebody takes it away.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Action, Point};

/// How long a step takes that is made to take its time: longer than most that go on beside it.
const LONG: Duration = Duration::from_millis(300);
/// How often it is looked whether a file is gone.
const LOOK: Duration = Duration::from_millis(2);

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
    /// How long a delay takes: as long as this file is there.
    while_there: Option<PathBuf>,
}

impl Plan {
    /// From `<point>:<action>:<n>:<file>`.
    fn parse(text: &str) -> Result<Plan, String> {
        let mut parts = text.splitn(4, ':');
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
            Some(Ok(n @ 1..)) => n,
            Some(_) => return Err(format!("the pass in '{text}' is no number from 1 on")),
        };
        let while_there = parts.next().map(PathBuf::from);
        if while_there.is_some() && action != Action::Delay {
            return Err(format!("a file in '{text}', which only a delay can have"));
        }
        Ok(Plan { point: point.name(), action, left: AtomicU32::new(left), while_there })
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

/// What befalls a step now, of the actions that `point` and `pass` know.
fn struck(point: Point) -> Option<&'static Plan> {
    let plan = plan().filter(|plan| plan.action != Action::Twice && plan.strikes(point));
    plan.inspect(|plan| tell(plan))
}

fn tell(plan: &Plan) {
    tracing::warn!("fault point {}: {}", plan.point, plan.action.name());
}

/// A step that can fail.
///
/// # Errors
/// It was made to.
pub fn point(point: Point) -> Result<(), Fault> {
    let Some(plan) = struck(point) else { return Ok(()) };
    match plan.action {
        Action::Twice => {}
        Action::Kill => end(),
        Action::Delay => wait(plan.while_there.as_deref()),
        Action::Error => return Err(Fault(point.name())),
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
fn wait(while_there: Option<&Path>) {
    let several = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
    let wait = || while_there.map_or_else(|| std::thread::sleep(LONG), stand);
    if Handle::try_current().is_ok_and(several) {
        tokio::task::block_in_place(wait);
    } else {
        wait();
    }
}

/// Makes a file, and waits until it is gone.
fn stand(file: &Path) {
    std::fs::write(file, "").unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    while file.exists() {
        std::thread::sleep(LOOK);
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
            ("received:delay:x:file", "no number from 1 on"),
            ("received:kill:1:1", "which only a delay can have"),
        ] {
            let why = Plan::parse(text).unwrap_err();
            assert!(why.contains(what), "{text}: {why}");
        }
    }

    #[test]
    fn a_delay_lasts_while_its_file_is_there() {
        let plan = Plan::parse("received:delay:2:/tmp/a:b").unwrap();
        assert_eq!(plan.while_there.as_deref(), Some(Path::new("/tmp/a:b")));
        let name = format!("tribox-stands-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::thread::scope(|scope| {
            let stands = scope.spawn(|| stand(&file));
            while !file.exists() {
                std::thread::sleep(LOOK);
            }
            assert!(!stands.is_finished());
            std::fs::remove_file(&file).unwrap();
        });
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
