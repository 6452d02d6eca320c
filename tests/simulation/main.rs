//! The real lanes, relay, scheduler and leases in a simulated world: one seed, one run, byte for byte.
//! `make simulate SEEDS=n FROM=s` runs more of them; `TRACE=1` shows what happened.

mod broker;
mod chaos;
mod check;
mod conform;
mod database;
mod handlers;
mod input;
mod left;
mod nats;
mod node;
mod reader;
mod restore;
mod runner;
mod seat;
mod serial;
mod store;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tribox::sandbox::{Guest, Sandbox, SandboxConfig};
use tribox_tests::programs;

use self::chaos::Outcome;
use self::world::{RULES, Rule, Tally};

/// Seeds that a test run takes where nobody says how many.
const SEEDS: u64 = 2_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the world of a seed, on this thread alone.
fn run(seed: u64, shown: bool, without: Option<Rule>, component: Option<Guest>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(chaos::run(seed, shown, without, component))
}

/// Runs seeds on all processors; what each came to, and whether to go on.
fn run_all(from: u64, seeds: u64, each: impl Fn(u64, Outcome) -> bool + Sync) {
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    if !each(seed, run(seed, false, None, None)) {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn the_guarantees_hold_under_every_fault() {
    let (seeds, from) = (number("TRIBOX_SEEDS", SEEDS), number("TRIBOX_FROM", 1));
    if std::env::var("TRIBOX_TRACE").is_ok_and(|trace| !trace.is_empty()) {
        let outcome = run(from, true, None, None);
        assert!(outcome.violations.is_empty(), "seed {from}: {:#?}", outcome.violations);
        return;
    }
    // Whoever asks only whether there is one needs no more.
    let stop = number("TRIBOX_STOP", 0) == 1;
    let total = Mutex::new((Tally::default(), 0, Vec::new()));
    run_all(from, seeds, |seed, outcome| {
        let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
        total.0.add(&outcome.tally);
        total.1 += outcome.messages;
        if !outcome.violations.is_empty() {
            println!("seed {seed}: {:#?}", outcome.violations);
            total.2.push(seed);
        }
        !stop || total.2.is_empty()
    });
    let (tally, messages, mut bad) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (kind, count) in &tally.0 {
        println!("{count:>9} {kind}");
    }
    bad.sort_unstable();
    println!(
        "seeds {from} to {}: {seeds} runs, {messages} messages, {} faults, {} violations",
        from + seeds - 1,
        tally.total(),
        bad.len()
    );
    assert!(bad.is_empty(), "replay with `make simulate SEEDS=1 TRACE=1 FROM={}`", bad[0]);
}

/// Seeds until a broken rule is noticed, at most.
const ENOUGH: u64 = 1_000;

#[test]
fn a_rule_that_is_broken_is_noticed() {
    let unnoticed: Vec<Rule> = RULES
        .into_iter()
        .filter(|rule| {
            let noticed = (1..=ENOUGH).find_map(|seed| {
                let outcome = run(seed, false, Some(*rule), None);
                outcome.violations.first().map(|first| (seed, first.clone()))
            });
            println!("{rule:?}: {noticed:?}");
            noticed.is_none()
        })
        .collect();
    assert!(unnoticed.is_empty(), "nothing was noticed without {unnoticed:?}");
}

#[test]
fn a_seed_gives_one_run_byte_for_byte() {
    for seed in 1..=20 {
        let digest = || run(seed, false, None, None).digest;
        assert_eq!(digest(), digest(), "seed {seed}");
    }
}

/// Seeds that are run with the real component.
const WITH_COMPONENT: u64 = 60;

/// `book` as a component in the real sandbox, in place of the native one: what comes of it is compared with
/// the native one all the same.
#[test]
fn the_guarantees_hold_with_the_real_sandbox() {
    let file = programs::guest("book").expect("built by `make guests`");
    let bytes = std::fs::read(&file).unwrap_or_else(|why| {
        panic!("{}: {why}; run `make guests`", file.display());
    });
    let sandbox = Sandbox::new(SandboxConfig::default()).expect("a sandbox");
    let guest = sandbox.load("book.wasm", &bytes).expect("a handler");
    assert_eq!(**guest.description(), handlers::description(handlers::BOOK));
    let bad: Vec<(u64, Vec<String>)> = (1..=WITH_COMPONENT)
        .map(|seed| (seed, run(seed, false, None, Some(guest.clone())).violations))
        .filter(|(_, violations)| !violations.is_empty())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let digest = |component| run(1, false, None, component).digest;
    assert_eq!(digest(Some(guest.clone())), digest(Some(guest)));
}
