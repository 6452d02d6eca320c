//! A target of `tribox::fuzz` under libFuzzer; the environment variable TRIBOX_FUZZ_TARGET names it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tribox::fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("TRIBOX_FUZZ_TARGET").unwrap_or_default();
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("TRIBOX_FUZZ_TARGET is {name:?}, which is no target")).1
});

fuzz_target!(|data: &[u8]| (*TARGET)(data));
