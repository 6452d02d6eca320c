use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::super::Memory;
use super::*;
use crate::lane::ports::{
    Clock, Delivery, DueParked, Entry, Handler, ListRange, Load, Loaded, LoadedState, Log,
    LogState, ParkedMessage, Reader, Row, Source,
};
use crate::lane::{Options, Policy};
use crate::model::{
    Call, Delivery as Way, Description, Documents, Effects, InboxKey, KeySource, Message, Outgoing,
    Subscription, Unreadable, Verdict,
};
use crate::telemetry::{Health, Metrics};

/// Sends one message.
struct Sends(Description);

impl Handler for Sends {
    fn description(&self) -> &Description {
        &self.0
    }

    fn call(&self, _: &Message, _: Arc<Mutex<dyn Documents>>) -> Call {
        let message = Outgoing {
            subject: "out".into(),
            headers: Vec::new(),
            payload: "{}".into(),
            delivery: Way::Durable,
            due: None,
            expires_after: None,
            schedule_name: None,
        };
        let effects = Effects { messages: vec![message], ..Effects::default() };
        Call { verdict: Ok(Verdict::Effects(effects)), fuel: 0, memory: 0 }
    }
}

/// The answer to the first commit does not come, and it takes place after the log was asked.
#[derive(Default)]
struct Late {
    commits: AtomicUsize,
    given_up: Mutex<Vec<InboxKey>>,
}

struct Nothing;

impl Reader for Nothing {
    fn document(&self, _: &str, _: &str) -> Result<Option<Row>, Unreadable> {
        Ok(None)
    }

    fn list(&self, _: &ListRange, _: i64) -> Result<Vec<Row>, Unreadable> {
        Ok(Vec::new())
    }
}

impl Store for Late {
    async fn load(&self, wanted: &Load) -> Result<LoadedState, StoreAway> {
        let there = self.given_up.lock().expect("whole").clone();
        let handled = wanted.inbox.iter().copied().filter(|key| there.contains(key)).collect();
        Ok(LoadedState { handled, documents: Vec::new() })
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        assert_eq!(self.commits.fetch_add(1, Ordering::SeqCst), 0, "committed again");
        self.given_up.lock().expect("whole").extend(commit.inbox.iter().map(|(key, _)| *key));
        Err(CommitError::Unavailable("no answer".into()))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Nothing)
    }

    async fn log_state(&self, _: i32) -> Result<LogState, StoreAway> {
        Ok(LogState { last: 0, published: 0 })
    }

    async fn held_keys(&self, _: &str) -> Result<Vec<String>, StoreAway> {
        Ok(Vec::new())
    }

    async fn parked_messages(
        &self,
        _: &str,
        _: &[DueParked],
        _: i64,
    ) -> Result<Vec<ParkedMessage>, StoreAway> {
        Ok(Vec::new())
    }

    async fn note_in_hand(&self, _: &[InboxKey]) -> Result<(), StoreAway> {
        Ok(())
    }

    async fn forget_suspects(&self, _: &[InboxKey]) -> Result<(), StoreAway> {
        Ok(())
    }
}

/// How many messages were acknowledged.
#[derive(Default)]
struct Acknowledged(AtomicUsize);

impl Settle for Acknowledged {
    async fn settle(&self, deliveries: &[&Delivery]) {
        self.0.fetch_add(deliveries.len(), Ordering::SeqCst);
    }
}

/// How often the relay was told to look at the log.
#[derive(Default)]
struct Looks(AtomicUsize);

impl Outlet for Looks {
    fn committed(&self, _: i32, _: Vec<Entry>) {}

    fn look_again(&self, _: i32) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn transient(&self, _: Vec<Entry>) {}

    fn scheduled(&self) {}
}

struct Epoch;

impl Clock for Epoch {
    fn unix_millis(&self) -> u64 {
        0
    }
}

fn description() -> Description {
    let subject = "in".to_owned();
    Description {
        name: "h".to_owned(),
        version: "1".to_owned(),
        subscriptions: vec![Subscription { subject, key: KeySource::None, read_ahead: vec![] }],
        collections: Vec::new(),
        publishes: vec!["out".to_owned()],
    }
}

fn delivery() -> Delivery {
    Delivery {
        message: Message {
            id: "m".into(),
            subject: "in".into(),
            key: None,
            headers: Vec::new(),
            payload: "{}".into(),
            stored_at: 1,
        },
        unroutable: None,
        source: Arc::new(Source::new("S".into(), 0, 0, true)),
        sequence: 1,
        redelivered: false,
    }
}

/// Found by the model of the protocol (tests/model): what such a commit sends was known to nobody
/// until the next one, or the next start.
#[tokio::test]
async fn what_a_commit_sends_that_took_place_after_it_was_given_up_is_published() {
    let handler = Arc::new(Sends(description()));
    let (sender, deliveries) = mpsc::channel(1);
    let (_due, due) = mpsc::channel::<DueParked>(1);
    let (settle, outlet) = (Arc::new(Acknowledged::default()), Arc::new(Looks::default()));
    let lane = Lane {
        index: 0,
        handler: Arc::new(ArcSwap::from_pointee(Loaded { handler, component: 1 })),
        options: Options {
            turn: 10,
            turn_bytes: 1 << 20,
            cache: 1 << 20,
            policy: Policy::default(),
            backlog: i64::MAX,
            announce: None,
        },
        log: Log { writer: 1, fence: 1, last: 0, published: Arc::new(AtomicI64::new(0)) },
        store: Arc::new(Late::default()),
        settle: Arc::clone(&settle),
        outlet: Arc::clone(&outlet),
        clock: Arc::new(Epoch),
        gate: Arc::default(),
        caution: Arc::default(),
        deliveries,
        due,
        health: Arc::new(Health::default()),
        metrics: Metrics::new().handler("h"),
        memory: Memory::new(1 << 20, []),
    };
    sender.send(delivery()).await.expect("a lane");
    drop(sender);
    lane.run().await.expect("nobody takes over");
    assert_eq!(settle.0.load(Ordering::SeqCst), 1);
    assert!(outlet.0.load(Ordering::SeqCst) > 0, "nobody has told the relay");
}
