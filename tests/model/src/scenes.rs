//! The scenes that are looked at: each has few messages and few faults, and all orders of them.
//! What one scene leaves out another has; together they would be too many.

use crate::scene::{Faults, Message, Scene, message};

const NONE: Faults = Faults {
    crashes: 0,
    lapses: 0,
    give_ups: 0,
    lost_deliveries: 0,
    lost_acks: 0,
    deletions: 0,
    breaks: 0,
    lost_pub_acks: 0,
    forgets: 0,
    stops: 0,
};

fn scene(name: &'static str, messages: &[Message], faults: Faults) -> Scene {
    let messages = messages.to_vec();
    Scene { name, messages, nodes: 2, lanes: 1, shared: false, restarts: true, faults }
}

/// Scenes that are looked at in each run of the tests, the smallest first.
pub fn small() -> Vec<Scene> {
    let one = [message(0, 0)];
    let two = [message(0, 0), message(1, 0)];
    let failing = Message { fails: 2, ..message(0, 0) };
    let alone = |scene: Scene| Scene { nodes: 1, ..scene };
    let lanes = |scene: Scene| Scene { nodes: 1, lanes: 2, ..scene };
    let gone = |scene: Scene| Scene { restarts: false, ..scene };
    let kill = Faults { crashes: 1, ..NONE };
    let relay = Faults { breaks: 1, lost_pub_acks: 1, forgets: 2, ..NONE };
    let frozen = Faults { lapses: 1, lost_pub_acks: 1, forgets: 1, breaks: 1, ..NONE };
    vec![
        alone(scene("two copies of a message", &[message(0, 0), message(0, 0)], NONE)),
        Scene {
            shared: true,
            ..lanes(scene(
                "two lanes that meet in a document",
                &[message(0, 0), message(1, 1)],
                NONE,
            ))
        },
        gone(scene("a node is killed and does not come back", &two, kill)),
        alone(scene("connections break, PubAcks are lost, dedup windows end", &two, relay)),
        scene(
            "deliveries and acknowledgements are lost",
            &two,
            Faults { lost_deliveries: 1, lost_acks: 1, ..NONE },
        ),
        scene("a node is frozen, and the dedup window ends", &one, frozen),
        scene("a node is frozen for longer than its lease", &two, Faults { lapses: 1, ..NONE }),
        alone(scene(
            "answers to commits do not come, and a kill",
            &two,
            Faults { give_ups: 1, ..kill },
        )),
        alone(scene(
            "a message fails, and answers to commits do not come",
            &[failing, two[1]],
            Faults { give_ups: 1, ..NONE },
        )),
        scene("a message fails twice, one waits behind it, and a kill", &[failing, two[1]], kill),
        scene("a node is stopped, another killed", &two, Faults { stops: 1, ..kill }),
        lanes(scene(
            "two lanes, a kill, and a consumer that is deleted",
            &[message(0, 0), message(1, 1)],
            Faults { deletions: 1, ..kill },
        )),
    ]
}

/// Scenes with larger bounds: minutes, and gigabytes.
pub fn large() -> Vec<Scene> {
    let two = [message(0, 0), message(1, 0)];
    let failing = Message { fails: 1, ..message(0, 0) };
    let mut scenes = small();
    scenes.extend([
        scene("a kill and a freeze", &two, Faults { crashes: 1, lapses: 1, ..NONE }),
        scene(
            "a freeze, and deliveries and acknowledgements are lost",
            &two,
            Faults { lapses: 1, lost_deliveries: 1, lost_acks: 1, ..NONE },
        ),
        scene(
            "a freeze, connections break, PubAcks are lost, dedup windows end",
            &two,
            Faults { lapses: 1, breaks: 1, lost_pub_acks: 1, forgets: 2, ..NONE },
        ),
        scene(
            "a message of a key fails, one waits, and one of another key, and a kill",
            &[failing, message(1, 0), message(2, 1)],
            Faults { crashes: 1, ..NONE },
        ),
        scene(
            "three messages, one of them twice, and a kill",
            &[message(0, 0), message(1, 0), message(0, 0), message(2, 1)],
            Faults { crashes: 1, ..NONE },
        ),
        scene(
            "answers to commits do not come, a freeze",
            &two,
            Faults { give_ups: 1, lapses: 1, ..NONE },
        ),
    ]);
    scenes
}
