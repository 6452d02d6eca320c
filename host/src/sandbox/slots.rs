//! How many calls run at a time: as many as the pool of instances has room for. More wait here,
//! so that a full pool is never mistaken for a failure of a guest.

use std::sync::{Condvar, Mutex, PoisonError};

pub(super) struct Slots {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    free: u32,
    /// Calls that wait. Waking nobody costs a system call, for each message.
    waiting: u32,
}

impl Slots {
    pub(super) fn new(count: u32) -> Slots {
        let state = Mutex::new(State { free: count, waiting: 0 });
        Slots { state, freed: Condvar::new() }
    }

    /// Blocks until a slot is free.
    pub(super) fn take(&self) -> Slot<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.free == 0 {
            state.waiting += 1;
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.free -= 1;
        Slot { slots: self }
    }
}

/// A slot that is free again when this is dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free += 1;
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.slots.freed.notify_one();
        }
    }
}
