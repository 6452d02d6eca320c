//! What docs/GUARANTEES.md promises, as conditions on a state.

use crate::Protocol;
use crate::world::{Set, World};

/// A condition that every state fulfils, under the name of its guarantee.
pub type Promise = (&'static str, fn(&Protocol, &World) -> bool);

/// What holds in every state.
pub const PROMISES: &[Promise] = &[
    ("1 once, 5 in order: a key's messages are applied once, as they stand in the stream", applied),
    ("2 whole: a message is in the inbox exactly if it was applied or is parked", accounted),
    ("2 whole: what was applied is in the outbox once", in_outbox),
    ("4 sent: each id stands in the stream once", once_in_stream),
    ("4 sent: the cursor passes only what the stream has", behind_cursor),
    ("5 in order: a key's messages are published as they were applied", published_in_order),
    ("6 as if one at a time: the document that all write has what each wrote", serial),
    ("8 nothing dropped: what was acknowledged is committed", acknowledged),
];

fn applied_to(world: &World, key: u8) -> &[u8] {
    &world.postgres.documents[usize::from(key)].applied
}

fn all_applied<'a>(protocol: &Protocol, world: &'a World) -> impl Iterator<Item = u8> + 'a {
    let keys = 0..protocol.scene.keys();
    keys.flat_map(|key| applied_to(world, key).iter().copied())
}

/// How often each id is there.
fn count(ids: impl Iterator<Item = u8>) -> [u8; 16] {
    let mut counts = [0; 16];
    ids.for_each(|id| counts[usize::from(id)] += 1);
    counts
}

fn applied(protocol: &Protocol, world: &World) -> bool {
    let mut keys = 0..protocol.scene.keys();
    keys.all(|key| protocol.firsts[usize::from(key)].starts_with(applied_to(world, key)))
}

fn accounted(protocol: &Protocol, world: &World) -> bool {
    let mut there: Set = all_applied(protocol, world).collect();
    for row in &world.postgres.parked {
        let id = protocol.scene.message(row.seq).id;
        if !there.add(id) {
            return false;
        }
    }
    there == world.postgres.inbox
}

fn in_outbox(protocol: &Protocol, world: &World) -> bool {
    let sent = world.postgres.logs.iter().flat_map(|log| log.entries.iter().copied());
    count(all_applied(protocol, world)) == count(sent)
}

fn once_in_stream(_: &Protocol, world: &World) -> bool {
    let out = &world.broker.out;
    out.iter().enumerate().all(|(at, id)| !out[..at].contains(id))
}

fn behind_cursor(_: &Protocol, world: &World) -> bool {
    world.postgres.logs.iter().all(|log| {
        let mut passed = log.entries[..usize::from(log.published.min(log.last()))].iter();
        passed.all(|id| world.broker.out.contains(id))
    })
}

fn published_in_order(protocol: &Protocol, world: &World) -> bool {
    (0..protocol.scene.keys()).all(|key| {
        let applied = applied_to(world, key);
        let mut seen = Set::default();
        let of_key = |id: &&u8| protocol.firsts[usize::from(key)].contains(id);
        // That each is there once is another promise.
        let mut out = world.broker.out.iter().filter(of_key).filter(|id| seen.add(**id));
        let mut first = applied.iter();
        out.all(|id| first.next() == Some(id))
    })
}

fn serial(protocol: &Protocol, world: &World) -> bool {
    if !protocol.scene.shared {
        return true;
    }
    let shared = applied_to(world, protocol.scene.keys());
    count(all_applied(protocol, world)) == count(shared.iter().copied())
}

fn acknowledged(protocol: &Protocol, world: &World) -> bool {
    let Some(consumer) = &world.broker.consumer else { return true };
    let mut done = (1..consumer.next).filter(|seq| !consumer.pending.has(*seq));
    done.all(|seq| world.postgres.inbox.has(protocol.scene.message(seq).id))
}

/// Whether there is nothing left to do: every message is handled and acknowledged, and what it sent
/// stands in the stream and is noted.
pub fn is_drained(protocol: &Protocol, world: &World) -> bool {
    let postgres = &world.postgres;
    let ids: Set = protocol.scene.messages.iter().map(|m| m.id).collect();
    let published: Set = world.broker.out.iter().copied().collect();
    let read = |consumer: &crate::world::Consumer| {
        consumer.next > protocol.scene.last() && consumer.pending.is_empty()
    };
    postgres.inbox == ids
        && postgres.parked.is_empty()
        && postgres.logs.iter().all(|log| !log.is_left())
        && published == ids
        && world.broker.consumer.as_ref().is_some_and(read)
}
