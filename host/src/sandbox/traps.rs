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
    let stderr = state.finish_output();
    let failure = |trap, detail: String| Failure::Trap { trap, detail: for_people(&detail) };
    match error.downcast_ref::<Stop>() {
        Some(Stop::Unreadable(unreadable)) => return Err(unreadable.clone()),
        Some(Stop::Contract(text)) => return Ok(failure(Trap::Contract, text.clone())),
        Some(Stop::Deadline) => {
            return Ok(failure(
                Trap::Deadline,
                format!("the guest ran longer than {:?}{}", limits.deadline, backtrace(error)),
            ));
        }
        None => {}
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return Err(Unreadable(format!("the sandbox has no free instance: {error:#}")));
    }
    let trap = error.downcast_ref::<wasmtime::Trap>();
    if trap == Some(&wasmtime::Trap::OutOfFuel) {
        let text = format!("the guest used all of its {} units of fuel", limits.fuel);
        return Ok(failure(Trap::Fuel, text + &backtrace(error)));
    }
    let said = last_words(&stderr);
    if let Some(refused) = state.memory.refused() {
        return Ok(failure(Trap::Memory, format!("{refused}{said}{}", backtrace(error))));
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Ok(failure(Trap::Panic, format!("the guest exited with status {status}{said}")));
    }
    match trap {
        Some(trap) => {
            let text = if said.is_empty() { trap.to_string() } else { said + " (" + &trap.to_string() + ")" };
            let text = text.trim_start_matches(": ").to_owned();
            Ok(failure(Trap::Panic, text + &backtrace(error)))
        }
        // Neither a trap of WebAssembly nor one of ours: the guest broke the rules of the
        // component model, or handed over more than fits.
        None => {
            let text = format!("the call broke off: {}{said}", error.root_cause());
            Ok(failure(Trap::Contract, text + &backtrace(error)))
        }
    }
}

/// The end of stderr without what says nothing, as `: first line | second line`.
fn last_words(stderr: &[String]) -> String {
    let noise = |line: &&String| !line.is_empty() && !line.starts_with("note: run with `RUST_BACK");
    let lines: Vec<&str> = stderr.iter().filter(noise).map(String::as_str).collect();
    // A Rust panic begins at a line of its own; what stands before it is not part of it.
    let start = lines.iter().rposition(|line| line.contains("panicked at"));
    let lines = &lines[start.unwrap_or(lines.len().saturating_sub(4))..];
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" | ")) }
}

/// The functions the guest was in, innermost first, as ` in a < b < c`.
fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names = backtrace.frames().iter().map(|frame| match frame.func_name() {
        Some(name) => name.to_owned(),
        None => format!("function {}", frame.func_index()),
    });
    let machinery = |name: &String| {
        ["std::panicking", "core::panicking", "rust_panic", "__rust", "abort", "std::process"]
            .iter()
            .any(|prefix| name.trim_start_matches(['_', '<']).starts_with(prefix))
    };
    let names: Vec<String> = names.skip_while(machinery).take(FRAMES).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(" < ")) }
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
    fn the_last_words_are_the_panic() {
        let lines = ["reading", "thread '<unnamed>' panicked at src/lib.rs:7:5:", "no such lane"]
            .map(String::from);
        let noise = "note: run with `RUST_BACKTRACE=1` environment variable".to_owned();
        let mut all = lines.to_vec();
        all.push(noise);
        let words = last_words(&all);
        assert_eq!(words, ": thread '<unnamed>' panicked at src/lib.rs:7:5: | no such lane");
        assert_eq!(last_words(&[]), "");
        assert_eq!(last_words(&["oh no".into()]), ": oh no");
    }
}
