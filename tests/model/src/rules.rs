//! The rules that the protocol rests on, each a switch, and the place in the code that keeps it.

/// Rules with the file that keeps each and words that stand in it.
macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $rule:ident: $file:literal, $words:literal;)+) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $($(#[doc = $doc])+ $rule,)+ }

        impl Rule {
            /// All of them.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)+];

            /// The file that keeps it, and words there.
            pub fn place(self) -> (&'static str, &'static str) {
                match self { $(Rule::$rule => ($file, $words),)+ }
            }
        }
    };
}

rules! {
    /// A message is in the inbox once: a second commit of it fails.
    InboxKey: "host/migrations/0002_functions.sql",
        "INSERT INTO tribox.inbox (key, sequence, component)";
    /// A copy in the same turn is a duplicate.
    SeenInTurn: "host/src/lane/handle.rs", "!self.seen.insert(member.inbox_key)";
    /// After a duplicate, or an outcome that nobody knows, turns look into the inbox.
    LookAtInbox: "host/src/lane/load.rs", "if self.memory.wary > 0";
    /// After an outcome that nobody knows, the log is asked how far it goes.
    MakeSure: "host/src/lane/load.rs", "if state.last > self.log.last";
    /// After an outcome that nobody knows, it is asked which keys are held.
    AskHeldKeys: "host/src/lane/load.rs", "self.memory.held.extend(held.into_iter()";
    /// A log whose commit was given up is looked at again and again: it may take place any time.
    LookOut: "host/src/relay/sending.rs", "filter(|(_, relayed)| relayed.unsure)";
    /// State, inbox and outbox are one transaction.
    OneTransaction: "host/migrations/0002_functions.sql", "INSERT INTO tribox.outbox (writer, seq";
    /// What a turn has read is as it was when it commits.
    Versions: "host/migrations/0002_functions.sql",
        "d.collection = u.c AND d.key = u.k AND d.version = u.v";
    /// JetStream is told that a message was handled after the commit.
    AckAfterCommit: "host/src/lane/mod.rs", "self.settle(batch, &handled, written).await";
    /// A commit checks the fence of its log.
    FenceInCommit: "host/migrations/0002_functions.sql", "w.fence = out_fence FOR KEY SHARE";
    /// Whoever takes over raises the fences of all logs.
    RaiseFences: "host/migrations/0006_partitions.sql",
        "SET fence = tribox.new_fence(w.fence) WHERE w.unit = p_unit";
    /// Whoever takes over publishes what the dead node left.
    TakeOverLogs: "host/migrations/0004_nodes.sql", "SET node = p_node, lane = -w.id";
    /// What is left of another node is published before anything new is handled.
    FinishLeft: "host/src/node/term.rs", "lease::finish_left(&self.shared, &unit";
    /// A consumer with messages in other hands is set back.
    SetBack: "host/src/stream/open.rs", "info.num_ack_pending > 0 || info.num_waiting > 0";
    /// Where a delivery is missing the reader stops, and sets the consumer back.
    CountDeliveries: "host/src/stream/consume.rs", "e != info.consumer_sequence";
    /// The floor passes what is handled without a gap alone.
    FloorWithoutGaps: "host/src/lane/source.rs", "while in_hand.front().is_some_and(|m| m.done)";
    /// A message waits behind one of its key that is tried again.
    WaitBehindHeld: "host/src/lane/handle.rs", "self.rules.held.contains(key)";
    /// What waits stays where it is when the one before it fails again.
    StayBehindFailed: "host/src/lane/handle.rs", "return Ok(Fate::Untouched)";
    /// A log is read from its cursor on.
    ReadFromCursor: "host/src/relay/log.rs", "(self.read_to(), room)";
    /// The cursor passes an entry once it is stored.
    CursorAfterStored: "host/src/relay/log.rs", "is_some_and(|slot| slot.state == State::Done)";
    /// Entries leave in the order of their log.
    LogInOrder: "host/src/relay/log.rs", "while self.next < self.slots.len()";
    /// What an earlier process may have sent is in doubt.
    DoubtAtStart: "host/src/relay/log.rs", "entry.seq <= self.doubtful_to";
    /// What was in flight when a connection broke is in doubt.
    DoubtAfterBreak: "host/src/relay/log.rs", "slot.sent_before |= slot.state == State::InFlight";
    /// What is in doubt, and may be forgotten, is looked for in its stream.
    AskTheStream: "host/src/relay/jobs.rs", "now - entry.committed_at < window - SKEW";
    /// What was found out of an entry in doubt counts for a while only.
    DoubtAgain: "host/src/relay/slot.rs", "is_none_or(|at| at + GOOD <= now)";
    /// Each message is published under its own id.
    PublishUnderId: "host/src/stream/publish.rs", "map.insert(async_nats::header::NATS_MESSAGE_ID";
    /// Whoever may have been replaced publishes nothing.
    PublisherFence: "host/src/stream/publish.rs",
        "if !self.fence.holds() {\n            return Err(FENCED";
}

/// Which rules are kept: all, or all but one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    broken: Option<Rule>,
}

impl Rules {
    /// All but this one.
    pub fn without(rule: Rule) -> Rules {
        Rules { broken: Some(rule) }
    }

    pub fn keep(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }
}
