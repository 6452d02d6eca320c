//! Clocks that repeat: the wall clock stands at the message's `stored-at`, the monotonic clock
//! starts at zero and is moved by sleeping alone. A sleep never takes real time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::state::State;

const NANOSECONDS: u64 = 1_000_000;

/// The virtual monotonic clock of one call, in nanoseconds.
#[derive(Default)]
struct VirtualTime {
    now: u64,
    /// The earliest timer that was asked about since one fired last.
    earliest: u64,
    /// How many timers have fired: what was asked before the last one counts no more.
    fired: u64,
}

/// Shared by a call and its timers; made when a guest sets its first timer.
#[derive(Clone, Default)]
pub(super) struct MonotonicClock(Option<Arc<Mutex<VirtualTime>>>);

impl MonotonicClock {
    fn now(&self) -> u64 {
        let time = self.0.as_ref();
        time.map_or(0, |time| time.lock().unwrap_or_else(PoisonError::into_inner).now)
    }

    fn timer(&mut self, when: u64) -> Timer {
        let fresh = || {
            let earliest = u64::MAX;
            Arc::new(Mutex::new(VirtualTime { earliest, ..VirtualTime::default() }))
        };
        let time = self.0.get_or_insert_with(fresh);
        Timer { time: Arc::clone(time), when, asked: (0, 0) }
    }
}

/// A point of virtual time that a guest waits for.
///
/// A guest that waits for several timers must get the earliest first. A timer cannot see the
/// others, so the first time it is asked it only says when it is due; the second time, all of the
/// same wait have said so, and the earliest moves the clock. The third time it moves the clock in
/// any case: the earliest may be one that the guest no longer waits for.
struct Timer {
    time: Arc<Mutex<VirtualTime>>,
    when: u64,
    /// The value of `fired` when it was asked, and how often since.
    asked: (u64, u32),
}

impl Timer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        if self.when <= time.now {
            return Poll::Ready(());
        }
        if self.asked.0 != time.fired {
            self.asked = (time.fired, 0);
        }
        self.asked.1 += 1;
        let turn = match self.asked.1 {
            1 => false,
            2 => self.when <= time.earliest,
            _ => true,
        };
        if turn {
            time.now = self.when;
            time.earliest = u64::MAX;
            time.fired += 1;
            return Poll::Ready(());
        }
        time.earliest = time.earliest.min(self.when);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        poll_fn(|context| self.poll(context)).await;
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime {
            seconds: self.stored_at / 1000,
            nanoseconds: u32::try_from(self.stored_at % 1000 * NANOSECONDS)?,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: u32::try_from(NANOSECONDS)? })
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.now())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = self.clock.timer(when);
        let table = &mut self.wasi().table;
        let timer = table.push(timer)?;
        subscribe(table, timer)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.clock.now().saturating_add(duration);
        monotonic_clock::Host::subscribe_instant(self, when)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(timer: &mut Timer) -> bool {
        timer.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn of_several_timers_the_earliest_fires_first() {
        let mut clock = MonotonicClock::default();
        let (mut late, mut early) = (clock.timer(100), clock.timer(10));
        assert_eq!([poll(&mut late), poll(&mut early)], [false, false]);
        assert_eq!([poll(&mut late), poll(&mut early)], [false, true]);
        assert_eq!(clock.now(), 10);
        assert_eq!([poll(&mut late), poll(&mut late)], [false, true]);
        assert_eq!(clock.now(), 100);
    }

    #[test]
    fn a_timer_nobody_waits_for_holds_up_no_other() {
        let mut clock = MonotonicClock::default();
        let (mut forgotten, mut other) = (clock.timer(10), clock.timer(20));
        assert!(!poll(&mut forgotten));
        assert_eq!([poll(&mut other), poll(&mut other), poll(&mut other)], [false, false, true]);
        assert_eq!(clock.now(), 20);
        assert!(poll(&mut forgotten));
    }
}
