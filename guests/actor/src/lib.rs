//! A middleware: a component that imports a handler and exports one. Messages without an `Actor` header
//! are rejected, who acts is printed, and the header goes on to everything that the handler sends, so
//! that it reaches the last handler of a chain. docs/MIDDLEWARE.md shows how it is put around a handler.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "middleware", generate_all });
}

use bindings::exports::tribox::handler::handler::Guest;
use bindings::tribox::handler::handler as inner;
use bindings::tribox::handler::types::{Description, Effects, Failure, Header, Message};

const ACTOR: &str = "Actor";

struct Actor;

impl Guest for Actor {
    /// It is the handler inside, under its own name: its inbox goes on, with it or without.
    fn describe() -> Description {
        inner::describe()
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let found = message.headers.iter().find(|header| header.name == ACTOR);
        let Some(Header { value: actor, .. }) = found.cloned() else {
            let why =
                format!("the message on {} has no header {ACTOR}: who asks?", message.subject);
            return Err(Failure::Reject(why));
        };
        println!("{actor} asks for {}", message.subject);
        let mut effects = inner::handle(&message)?;
        for outgoing in &mut effects.messages {
            if !outgoing.headers.iter().any(|header| header.name == ACTOR) {
                outgoing.headers.push(Header { name: ACTOR.to_owned(), value: actor.clone() });
            }
        }
        Ok(effects)
    }
}

// Natively there is no component to export.
#[cfg(target_family = "wasm")]
bindings::export!(Actor with_types_in bindings);
