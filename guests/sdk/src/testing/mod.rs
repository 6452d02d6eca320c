//! Runs a handler natively against documents in memory, by the rules of the contract.
//!
//! ```
//! # use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};
//! # struct Counter;
//! # impl Handler for Counter {
//! #     fn describe() -> Description {
//! #         Description::new("counter", "1.0.0")
//! #             .subscribe(Subscription::to("count.*").key_from_subject(1).read_ahead("counts"))
//! #             .collection("counts")
//! #     }
//! #     fn handle(message: Message) -> Result<Effects, Failure> {
//! #         let key = message.key()?;
//! #         let count: u64 = documents::get("counts", key)?.unwrap_or(0);
//! #         let mut effects = Effects::new();
//! #         effects.put("counts", key, &(count + message.json::<u64>()?))?;
//! #         Ok(effects)
//! #     }
//! # }
//! use tribox_guest::testing::{TestHost, assert_effects, message};
//!
//! # fn main() -> Result<(), Failure> {
//! let mut host = TestHost::<Counter>::new().with_document("counts", "a", &40);
//! assert_effects(&host.handle(message("count.a").json(&2))?, "put counts/a 42");
//! assert_effects(&host.handle(message("count.a").json(&1))?, "put counts/a 43");
//!
//! let failure = host.handle(message("count.a").json("no number")).unwrap_err();
//! assert!(failure.text().starts_with("the payload of count.a is not the expected JSON"));
//! assert_eq!(host.document::<u64>("counts", "a"), Some(43));
//! # Ok(())
//! # }
//! ```
//!
//! What the host would refuse makes the test panic with the reason: a read or a change outside the
//! declared collections, a message outside `publishes`, a document that is not JSON, a bad name.
//! It is stricter than it is complete: limits of time and memory are not checked, the clock and
//! random numbers are those of the machine, statics outlive a message, and a message that is
//! handled twice is not recognised as a duplicate.

mod incoming;
mod names;
mod rules;
mod snapshot;
mod subject;
mod world;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Description, Effects, Failure, Handler, Mutation, Outgoing};
pub use incoming::{Incoming, STORED_AT, message};
pub use snapshot::assert_effects;
pub(crate) use world::imports;
use world::{Turn, World};

/// A host for handler `H`: its documents, its settings and what it scheduled.
pub struct TestHost<H> {
    description: Description,
    world: World,
    scheduled: BTreeMap<String, Outgoing>,
    handled: u64,
    handler: PhantomData<H>,
}

impl<H: Handler> TestHost<H> {
    /// A host without documents and settings.
    ///
    /// # Panics
    /// Where the host would refuse the handler's description.
    #[must_use]
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "a host of an unnamed handler makes no sense")]
    pub fn new() -> Self {
        let description = world::run(Turn::Describing, H::describe).0;
        if let Err(why) = rules::check_description(&description) {
            panic!("the host would refuse handler '{}': {why}", description.name);
        }
        let world = World::of(&description);
        let (scheduled, handled) = (BTreeMap::new(), 0);
        TestHost { description, world, scheduled, handled, handler: PhantomData }
    }

    /// Sets a setting.
    #[must_use]
    pub fn with_setting(mut self, name: &str, value: impl ToString) -> Self {
        self.world.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// Puts a document there before the first message.
    ///
    /// # Panics
    /// Where the handler does not declare the collection, or Postgres could not store the document.
    #[must_use]
    #[track_caller]
    pub fn with_document<T>(mut self, collection: &str, key: &str, body: &T) -> Self
    where
        T: Serialize + ?Sized,
    {
        let mut given = Effects::new();
        let checked = given
            .put(collection, key, body)
            .map_err(|failure| failure.text().to_owned())
            .and_then(|given| rules::check_effects(&self.description, given));
        if let Err(why) = checked {
            panic!("the document given to the test cannot be there: {why}");
        }
        self.apply(&given);
        self
    }

    /// Hands over one message and, unless it fails, applies its effects.
    ///
    /// # Errors
    /// The handler's failure; then nothing has changed.
    ///
    /// # Panics
    /// Where the host would not hand over this message, or would refuse the effects.
    #[track_caller]
    pub fn handle(&mut self, message: Incoming) -> Result<Effects, Failure> {
        self.handled += 1;
        let message = match message.arrive(&self.description, self.handled) {
            Ok(message) => message,
            Err(why) => panic!("the host would not call the handler: {why}"),
        };
        let subject = message.subject.clone();

        let turn = Turn::Handling(std::mem::take(&mut self.world));
        let (outcome, world) = world::run(turn, || H::handle(message));
        self.world = world;

        let effects = outcome?;
        if let Err(why) = rules::check_effects(&self.description, &effects) {
            panic!("the host would refuse the effects of the message on {subject}: {why}");
        }
        self.apply(&effects);
        Ok(effects)
    }

    /// A document as it is now.
    ///
    /// # Panics
    /// Where it is not JSON of this type.
    #[track_caller]
    pub fn document<T: DeserializeOwned>(&self, collection: &str, key: &str) -> Option<T> {
        let body = self.world.documents.get(collection)?.get(key)?;
        match serde_json::from_str(body) {
            Ok(document) => Some(document),
            Err(error) => panic!("document {collection}/{key} is {body}: {error}"),
        }
    }

    /// The message that waits under a schedule name. Time does not pass here: it waits until
    /// another replaces it or it is cancelled.
    pub fn scheduled(&self, name: &str) -> Option<&Outgoing> {
        self.scheduled.get(name)
    }

    fn apply(&mut self, effects: &Effects) {
        for mutation in &effects.mutations {
            match mutation {
                Mutation::Put(put) => self.world.put(put),
                Mutation::Delete(id) => self.world.delete(id),
            }
        }
        for name in &effects.cancellations {
            self.scheduled.remove(name);
        }
        for message in effects.messages.iter().filter(|message| message.due.is_some()) {
            if let Some(name) = &message.schedule_name {
                self.scheduled.insert(name.clone(), message.clone());
            }
        }
    }
}
