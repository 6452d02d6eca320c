//! Write handlers for tribox in Rust.
//!
//! A handler decides what one message does: from the message and the documents it reads it makes
//! [`Effects`], documents to put and messages to send. The host commits all of them, together with
//! the fact that the message was handled, or none. A handler has no other way to have an effect;
//! this crate must never offer one.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};
//!
//! #[derive(Deserialize)]
//! struct Deposit {
//!     amount: i64,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Jar {
//!     coins: i64,
//! }
//!
//! struct Jars;
//!
//! impl Handler for Jars {
//!     fn describe() -> Description {
//!         Description::new("jars", env!("CARGO_PKG_VERSION"))
//!             .subscribe(
//!                 Subscription::to("jars.*.deposit").key_from_subject(1).read_ahead("jars"),
//!             )
//!             .collection("jars")
//!             .publish("jars.events.*.*")
//!     }
//!
//!     fn handle(message: Message) -> Result<Effects, Failure> {
//!         let id = message.key()?;
//!         let deposit: Deposit = message.json()?;
//!         let mut jar: Jar = documents::get("jars", id)?.unwrap_or_default();
//!         jar.coins += deposit.amount;
//!
//!         let mut effects = Effects::new();
//!         effects.put("jars", id, &jar)?;
//!         effects.send(format!("jars.events.{id}.filled"), &jar)?;
//!         Ok(effects)
//!     }
//! }
//!
//! tribox_guest::export!(Jars);
//!
//! # fn main() -> Result<(), Failure> {
//! // What a unit test of it looks like; see `testing`.
//! use tribox_guest::testing::{TestHost, assert_effects, message};
//!
//! let mut host = TestHost::<Jars>::new();
//! let effects = host.handle(message("jars.7.deposit").json(&serde_json::json!({"amount": 3})))?;
//! assert_effects(&effects, r#"
//!     put jars/7 {"coins":3}
//!     send jars.events.7.filled {"coins":3}
//! "#);
//! # Ok(())
//! # }
//! ```

#[cfg(any(test, all(feature = "arena", target_family = "wasm")))]
mod arena;
#[doc(hidden)]
pub mod bindings;
mod description;
pub mod documents;
mod effects;
mod export;
mod failure;
mod host;
mod message;
mod print;
pub mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::tribox::handler::types::{
    Delivery, Description, Document, DocumentId, Due, Effects, Failure, Header, KeySource, Message,
    Mutation, Outgoing, Subscription,
};
#[doc(hidden)]
pub use export::Export;

#[cfg(all(feature = "arena", target_family = "wasm"))]
#[global_allocator]
static ALLOCATOR: arena::Arena = arena::Arena::new();

/// A point in time: milliseconds since the Unix epoch, UTC.
pub type Timestamp = u64;

/// A message handler: describes itself, and makes effects of one message.
///
/// The host calls [`handle`](Handler::handle) in a fresh instance for each message, possibly more
/// than once, and commits the effects of one call. The same message and documents must yield the
/// same effects.
pub trait Handler {
    /// The handler's name and version, what it wants to get, and what it may read, change and send.
    ///
    /// It is called before settings and documents are there, and always returns the same.
    fn describe() -> Description;

    /// Decides what `message` does.
    ///
    /// # Errors
    /// [`Failure::Reject`] where the message can never be handled, [`Failure::Retry`] where the
    /// state is not ready for it yet. Nothing is committed then. A panic parks the message as dead.
    fn handle(message: Message) -> Result<Effects, Failure>;
}
