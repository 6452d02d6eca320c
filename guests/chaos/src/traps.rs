//! Ways to be stopped by force.

use std::hint::black_box;

use serde_json::Value;
use tribox_guest::{Effects, Failure, documents};

pub fn panic(key: &str) -> ! {
    panic!("{key} was told to panic");
}

/// Runs until the fuel or the deadline stops it.
pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes memory until the limit stops it.
pub fn allocate() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Recurses until the stack ends.
pub fn stack() -> Result<Effects, Failure> {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 16]);
        if frame[0] == u64::MAX { 0 } else { deeper(depth + 1) + black_box(frame)[1] }
    }
    Err(Failure::reject(format!("the stack did not end: {}", deeper(0))))
}

/// Reads what another handler owns.
pub fn read_outside(key: &str) -> Result<Effects, Failure> {
    let read: Option<Value> = documents::get("accounts", key)?;
    Err(Failure::reject(format!("reading outside was possible: {read:?}")))
}
