//! What is told to the handlers: messages of one theme, from the source of chance.

use bytes::Bytes;
use serde_json::json;

use crate::world::Inner;

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What most messages of a run are about.
#[derive(Debug, Clone, Copy)]
pub enum Theme {
    Mixed,
    Lists,
    Appends,
    Failures,
}

/// Publishes message `n`; with `copies`, sometimes twice.
pub fn tell(world: &mut Inner, n: usize, theme: Theme, copies: bool) {
    let key = KEYS[world.chance.usize(0..KEYS.len())];
    let other = KEYS[world.chance.usize(0..KEYS.len())];
    let name = format!("reminder-{}", world.chance.u8(0..3));
    let kind = match theme {
        Theme::Mixed => world.chance.u8(0..20),
        Theme::Lists => world.chance.u8(7..13),
        Theme::Appends => world.chance.u8(0..8),
        Theme::Failures => world.chance.u8(13..24),
    };
    let payload = match kind {
        0..=6 => json!({ "n": n, "op": "append", "other": other }),
        7..=9 => json!({ "n": n, "op": "transfer", "other": other, "amount": n % 40 }),
        10 => json!({ "n": n, "op": "first" }),
        11 => json!({ "n": n, "op": "remove" }),
        12 => json!({ "n": n, "op": "mark", "other": other }),
        13 => json!({ "n": n, "op": "delay", "after": n * 200 }),
        14 => json!({ "n": n, "op": "delay", "after": 30_000, "name": name }),
        15 => json!({ "n": n, "op": "cancel", "name": name }),
        16 => json!({ "n": n, "op": "poison" }),
        17 => json!({ "n": n, "op": "reject" }),
        18 => json!({ "n": n, "op": "late" }),
        _ => json!({ "n": n, "op": "retry", "other": other }),
    };
    let payload = Bytes::from(payload.to_string());
    let (id, subject) = (format!("m-{n}"), format!("in.{key}"));
    world.publish(Some(&id), &subject, "", &payload);
    if world.chance.u8(0..10) == 0 && copies {
        // A copy that the stream does not know for one.
        world.tally.count("input: copy");
        let again = format!("Nats-Msg-Id: {id}\n");
        world.publish(None, &subject, &again, &payload);
    }
}
