//! Why a call ended by force, said for people: which limit, which line the guest printed last,
//! which functions it was in.

use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use super::state::{State, Stop};
use crate::model::{Failure, Limits, Trap, Unreadable, rules};

/// Functions of the backtrace that are shown.
const FRAMES: usize = 6;
/// Bytes of a failure's text.
pub(super) const MAX_TEXT: usize = 4 << 10;

/// Says what ended a call.
///
/// # Errors
/// It was not the guest's doing: the state could not be read, or the host has no room for it.
pub(super) fn classify(
    error: &wasmtime::Error,
    state: &mut State,
    limits: &Limits,
) -> Result<Failure, Unreadable> {
    let said = last_words(&state.finish_output());
    let failure = |trap, text: &str| {
        Ok(Failure::Trap { trap, detail: for_people(&format!("{text}{}", backtrace(error))) })
    };
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Unreadable(unreadable) => Err(unreadable.clone()),
            Stop::Contract(text) => failure(Trap::Contract, text),
            Stop::Deadline => {
                let deadline = limits.deadline;
                failure(Trap::Deadline, &format!("the guest ran longer than {deadline:?}"))
            }
        };
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Err(Unreadable(format!("the sandbox has no free instance: {error:#}")));
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    if trap == Some(&wasmtime::Trap::OutOfFuel) {
        let fuel = limits.fuel;
        return failure(Trap::Fuel, &format!("the guest used all of its {fuel} units of fuel"));
    }
    if let Some(refused) = state.memory.refused() {
        return failure(Trap::Memory, &with_words(refused, &said));
    }
    if error.is::<I32Exit>() {
        return failure(Trap::Panic, &with_words("the guest called exit", &said));
    }
    match trap {
        Some(trap) if said.is_empty() => failure(Trap::Panic, &named(*trap)),
        Some(trap) => failure(Trap::Panic, &format!("{said} ({})", named(*trap))),
        None if handed_too_much(error) => Ok(Failure::InvalidEffects(format!(
            "the guest hands over more than fits at once; effects may have {} bytes in all",
            limits.effects_size
        ))),
        // Neither a trap of WebAssembly nor one of ours: the guest broke the rules of the
        // component model, or of WASI.
        None => {
            let text = format!("the call broke off: {}", error.root_cause());
            failure(Trap::Contract, &with_words(&text, &said))
        }
    }
}

/// A trap in words. The stack of a component lies at the start of its memory.
fn named(trap: wasmtime::Trap) -> String {
    match trap {
        wasmtime::Trap::MemoryOutOfBounds => format!("{trap}, or its stack is used up"),
        _ => trap.to_string(),
    }
}

/// Whether lifting what the guest handed over was stopped. wasmtime keeps the type of this error
/// to itself; a test holds that its text is this.
fn handed_too_much(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

fn with_words(text: &str, said: &str) -> String {
    if said.is_empty() { text.to_owned() } else { format!("{text}: {said}") }
}

/// The end of stderr without what says nothing, as `first line | second line`.
fn last_words(stderr: &[String]) -> String {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("note: run with `RUST_BACK");
    let lines: Vec<&str> = stderr.iter().map(String::as_str).filter(says).collect();
    // A Rust panic begins at a line of its own; what stands before it is not part of it.
    let start = lines.iter().rposition(|line| line.contains("panicked at"));
    lines[start.unwrap_or(lines.len().saturating_sub(4))..].join(" | ")
}

/// The functions the guest was in, innermost first, as `; in a < b < c`.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    });
    let mut names: Vec<String> = names.skip_while(|name| is_machinery(name)).collect();
    names.dedup();
    names.truncate(FRAMES);
    if names.is_empty() { String::new() } else { format!("; in {}", names.join(" < ")) }
}

/// Functions between a panic and the line that caused it, which say nothing about the guest.
fn is_machinery(name: &str) -> bool {
    let starts = ["std::", "core::", "alloc::", "rust_", "rustc::", "abort", "exit", "Exit"];
    starts.iter().any(|start| name.trim_start_matches(['_', '<']).starts_with(start))
}

/// Text of a guest as it can be stored and shown: so long and no longer, and without NUL, which
/// Postgres cannot store.
pub(super) fn for_people(text: &str) -> String {
    rules::shorten_to(text, MAX_TEXT).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_begins_at_the_guest() {
        for name in ["std::process::abort", "__rustc::rust_panic", "__rust_abort", "_Exit"] {
            assert!(is_machinery(name), "{name}");
        }
        assert!(!is_machinery("<accounts::Accounts as tribox_guest::Handler>::handle"));
    }

    #[test]
    fn the_last_words_are_the_panic() {
        let lines = ["reading", "thread '<unnamed>' panicked at src/lib.rs:7:5:", "no such lane"]
            .map(String::from);
        let noise = "note: run with `RUST_BACKTRACE=1` environment variable".to_owned();
        let mut all = lines.to_vec();
        all.push(noise);
        let words = last_words(&all);
        assert_eq!(words, "thread '<unnamed>' panicked at src/lib.rs:7:5: | no such lane");
        assert_eq!(last_words(&[]), "");
        assert_eq!(last_words(&["oh no".into()]), "oh no");
    }
}
