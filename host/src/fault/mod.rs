//! Fault points: the steps of the program at which a test can have something go wrong, steered by
//! the environment. `TRIBOX_FAULT=after-commit:kill:3` ends the process by force when it passes
//! that step for the third time. They are there in builds with debug assertions alone: in what is
//! shipped a point is nothing, and its name is not in the program.
//!
//! What it must never do: change anything where no fault was asked for.

#[cfg(debug_assertions)]
mod armed;
#[cfg(not(debug_assertions))]
mod off;

#[cfg(debug_assertions)]
pub use self::armed::{Fault, pass, point, twice};
#[cfg(not(debug_assertions))]
pub use self::off::{Fault, pass, point, twice};

/// What can go wrong at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The process ends by force, as by `kill -9`.
    Kill,
    /// The step fails, as it does when a server is away or its answer is lost.
    Error,
    /// The step takes its time.
    Delay,
    /// The step is done twice.
    Twice,
}

/// The points, each with its name and what can go wrong there. tests/suite/faults.rs goes through
/// all.
macro_rules! points {
    ($($(#[$doc:meta])+ $point:ident $name:literal: $($action:ident)+;)+) => {
        /// A step of the program at which something can go wrong.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])+ $point,)+
        }

        #[cfg(debug_assertions)]
        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$point),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)+
                }
            }

            /// What can go wrong here.
            pub fn actions(self) -> &'static [Action] {
                match self {
                    $(Point::$point => &[$(Action::$action),+],)+
                }
            }
        }
    };
}

points! {
    // The way of a message in.
    /// A delivery was read from the consumer and is in nobody's hand yet.
    Received "received": Kill Error Delay;
    /// A turn has what it wants to know.
    Loaded "loaded": Kill Error Delay;
    /// A turn was handled, and nothing is written.
    Handled "handled": Kill Error Delay;
    /// The commit of a turn is about to be sent.
    BeforeCommit "before-commit": Kill Error Delay;
    /// Postgres has committed a turn; with an error, its answer is lost.
    AfterCommit "after-commit": Kill Error Delay;
    /// A commit set messages aside.
    Parked "parked": Kill Error Delay;
    /// Parked messages that are due were read.
    TakenUp "taken-up": Kill Error Delay;
    /// A commit took parked messages away, or put them back for another attempt.
    TriedAgain "tried-again": Kill Error Delay;
    /// A commit left delayed messages behind.
    Scheduled "scheduled": Kill Error Delay;
    /// A delivery that was committed is about to be acknowledged; with an error, it is not.
    BeforeAck "before-ack": Kill Error Delay Twice;
    /// The client was given an acknowledgement.
    AfterAck "after-ack": Kill Delay;

    // The way of a message out.
    /// The relay got what a lane committed.
    HandedToRelay "handed-to-relay": Kill Delay Twice;
    /// A message is about to be given to the client; with an error, the connection breaks.
    BeforePublish "before-publish": Kill Error Delay Twice;
    /// The client has a message; with an error, the connection breaks.
    AfterPublish "after-publish": Kill Error Delay;
    /// The answer to a publish has come; with an error, it is lost.
    PubAckSeen "puback-seen": Kill Error Delay Twice;
    /// The relay is about to write down how far logs are published.
    BeforeCursor "before-cursor": Kill Error Delay;
    /// It is written down; with an error, the answer is lost.
    CursorWritten "cursor-written": Kill Error Delay Twice;
    /// Entries of a log were read from the table.
    LogRead "log-read": Kill Error Delay;
    /// Entries that may have been sent before are about to be looked for in their streams.
    LookingBack "looking-back": Kill Error Delay;
    /// A message that no stream takes was set aside.
    SetAside "set-aside": Kill Error Delay;
    /// Delayed messages that are due were moved into a log; with an error, the answer is lost.
    ScheduledMoved "scheduled-moved": Kill Error Delay;

    // What a node holds.
    /// The name of the node was taken.
    LeaseTaken "lease-taken": Kill Error Delay Twice;
    /// A sign of life was given.
    LeaseProlonged "lease-prolonged": Kill Error Delay Twice;
    /// A node owns a unit.
    UnitClaimed "unit-claimed": Kill Error Delay Twice;
    /// Dead nodes were fenced out, and their logs taken over.
    TookOver "took-over": Kill Error Delay;
    /// What another node had left of a handler is published.
    LeftFinished "left-finished": Kill Delay;
    /// A log was opened for appending.
    LogOpened "log-opened": Kill Error Delay Twice;
    /// After a crash: what is in hand was noted.
    InHandNoted "in-hand-noted": Kill Error Delay;
    /// The consumer was deleted, to be made anew behind what was handled.
    ConsumerDeleted "consumer-deleted": Kill Error Delay;
    /// The consumer was made.
    ConsumerMade "consumer-made": Kill Error Delay;
    /// In an end in order: a unit was given up.
    UnitReleased "unit-released": Kill Error Delay Twice;
    /// In an end in order: the node has said so.
    NodeEnded "node-ended": Kill Error Delay Twice;
}
