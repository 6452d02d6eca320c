//! What came of handling a message.

use std::fmt;

use super::effects::Effects;

/// What a call of the guest came to. Effects are checked against the handler's description and the
/// limits before they become a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Effects(Effects),
    Failed(Failure),
}

/// Why a message was not handled; nothing of it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handler says: never.
    Reject(String),
    /// The handler says: not yet.
    Retry(String),
    /// The guest trapped or went over a limit. The text is for people.
    Trap { trap: Trap, detail: String },
    /// The effects break the description, a limit or what JSON and NATS allow.
    InvalidEffects(String),
    /// Postgres refused what the message would write (found by bisecting its turn).
    Refused(String),
    /// The message cannot be routed: it lacks the key its subscription asks for.
    NoKey(String),
    /// Its bytes are no NATS message that could be handed to a handler.
    Unreadable(String),
    /// It came through too many handlers; see [`super::chain`].
    Loop(String),
    /// The host ended by force each time it handled the message, at last with nothing else in hand.
    Crash(String),
}

/// The ways a guest can stop by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// A panic, an abort, an `unreachable`, or any other trap of WebAssembly.
    Panic,
    /// The fuel ran out: the deterministic deadline.
    Fuel,
    /// The wall-clock deadline passed: the backstop.
    Deadline,
    /// It asked for more memory, or larger tables, than it may have.
    Memory,
    /// It called the host in a way the contract forbids (an undeclared collection, say).
    Contract,
}

impl Failure {
    /// A short, stable word for metrics and for filters: what kind of failure this is.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Reject(_) => "reject",
            Failure::Retry(_) => "retry",
            Failure::Trap { trap: Trap::Panic, .. } => "trap",
            Failure::Trap { trap: Trap::Fuel, .. } => "fuel",
            Failure::Trap { trap: Trap::Deadline, .. } => "deadline",
            Failure::Trap { trap: Trap::Memory, .. } => "memory",
            Failure::Trap { trap: Trap::Contract, .. } => "contract",
            Failure::InvalidEffects(_) => "invalid-effects",
            Failure::Refused(_) => "refused",
            Failure::NoKey(_) => "no-key",
            Failure::Unreadable(_) => "unreadable",
            Failure::Loop(_) => "loop",
            Failure::Crash(_) => "crash",
        }
    }
}

/// The reasons that another build of the handler may mend, as [`Failure::reason`] has them: the ways in
/// which a build, not a decision of the handler, fails a message.
pub const MENDED_BY_A_BUILD: [&str; 8] =
    ["trap", "fuel", "deadline", "memory", "contract", "invalid-effects", "refused", "crash"];

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Reject(text)
            | Failure::Retry(text)
            | Failure::InvalidEffects(text)
            | Failure::Refused(text)
            | Failure::NoKey(text)
            | Failure::Unreadable(text)
            | Failure::Loop(text)
            | Failure::Crash(text)
            | Failure::Trap { detail: text, .. } => f.write_str(text),
        }
    }
}
