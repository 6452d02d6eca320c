//! What happens in a run: messages, nodes, and how often what may go wrong.

/// How often each fault may happen in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// A process is killed.
    pub crashes: u8,
    /// A running process is frozen, or cut off from Postgres, until its lease is over.
    pub lapses: u8,
    /// The answer to a commit does not come.
    pub give_ups: u8,
    /// A delivery is lost on its way to the reader.
    pub lost_deliveries: u8,
    /// Acknowledgements of a turn are lost.
    pub lost_acks: u8,
    /// The consumer is deleted.
    pub deletions: u8,
    /// The relay's connection breaks.
    pub breaks: u8,
    /// A PubAck is lost.
    pub lost_pub_acks: u8,
    /// The dedup window of an entry ends.
    pub forgets: u8,
    /// A process is stopped in order.
    pub stops: u8,
}

/// A message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Two messages with one id are copies.
    pub id: u8,
    pub key: u8,
    /// How many of its first attempts fail.
    pub fails: u8,
}

/// A message that is handled at its first attempt.
pub const fn message(id: u8, key: u8) -> Message {
    Message { id, key, fails: 0 }
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: &'static str,
    pub messages: Vec<Message>,
    pub nodes: u8,
    pub lanes: u8,
    /// All messages write one more document, so that lanes meet.
    pub shared: bool,
    /// Whether a process that was killed comes back.
    pub restarts: bool,
    pub faults: Faults,
}

impl Scene {
    pub fn message(&self, seq: u8) -> Message {
        self.messages[usize::from(seq) - 1]
    }

    /// The last sequence of the stream.
    pub fn last(&self) -> u8 {
        u8::try_from(self.messages.len()).expect("few messages")
    }

    pub fn keys(&self) -> u8 {
        self.messages.iter().map(|m| m.key + 1).max().unwrap_or(0)
    }

    /// The ids of a key's messages in the order of the stream, copies left out.
    pub(crate) fn firsts(&self, key: u8) -> Vec<u8> {
        let mut ids = Vec::new();
        for message in self.messages.iter().filter(|m| m.key == key) {
            if !ids.contains(&message.id) {
                ids.push(message.id);
            }
        }
        ids
    }

    /// Which documents a message reads and writes.
    pub fn documents(&self, message: Message) -> impl Iterator<Item = u8> {
        [Some(message.key), self.shared.then(|| self.keys())].into_iter().flatten()
    }
}
