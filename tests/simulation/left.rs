//! What is left to do in the simulated world.

use crate::handlers::{BOOK, COUNT, TAIL};
use crate::world::Inner;

/// The first thing that is left to do, if any is.
pub fn left(world: &mut Inner) -> Option<String> {
    for (stream, handler) in [("IN", BOOK), ("NEXT", TAIL), ("IN", COUNT)] {
        let Some(stream) = world.broker.stream(stream) else { continue };
        let drained = stream.consumers.get(&format!("tribox-{handler}"));
        if !drained.is_some_and(|c| c.drained(&stream.messages)) {
            let info = drained.map(|c| c.info());
            return Some(format!("{handler} has not got or not acknowledged all: {info:?}"));
        }
        let parked = world.database.count_open_parked(handler);
        if parked > 0 {
            return Some(format!("{parked} messages of {handler} are parked"));
        }
    }
    let database = &world.database;
    let behind = database.writers.iter().find(|(id, w)| database.last_of(**id) > w.published);
    if let Some((id, writer)) = behind {
        let last = database.last_of(*id);
        return Some(format!("log {id} ({writer:?}) goes up to {last}"));
    }
    if database.scheduled() + database.undelivered() > 0 {
        let (delayed, undelivered) = (database.scheduled(), database.undelivered());
        return Some(format!("{delayed} delayed and {undelivered} undelivered messages"));
    }
    None
}
