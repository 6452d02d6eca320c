//! What a turn of a lane costs beside its handler and its servers: against a store and a stream in
//! memory, with a native handler that writes one document and sends one message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::sync::mpsc;
use tribox::lane::ports::{
    Commit, CommitError, DueParked, Entry, Handler, ListRange, Load, Loaded, LoadedState, Log,
    LogState, Outlet, ParkedMessage, Reader, Row, Settle, Source, Store, StoreAway,
};
use tribox::lane::{Lane, Memory, Options, Policy};
use tribox::model::{
    Call, Delivery, Description, Document, Documents, Effects, InboxKey, KeySource, Message,
    Mutation, Outgoing, Subscription, Unreadable, Verdict,
};
use tribox::node::SystemClock;
use tribox::telemetry::{Health, Metrics};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TURN: usize = 512;
const KEYS: u64 = 1_000;

/// Writes one document and sends one message.
struct Native(Description);

impl Handler for Native {
    fn description(&self) -> &Description {
        &self.0
    }

    fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call {
        let key = message.key.clone().unwrap_or_default();
        let read = documents.lock().map(|mut documents| documents.get("c", &key));
        let body = match read {
            Ok(Ok(body)) => body.unwrap_or_else(|| "{\"a\": 1}".to_owned()),
            _ => return Call { verdict: Err(Unreadable(String::new())), fuel: 0, memory: 0 },
        };
        let effects = Effects {
            mutations: vec![Mutation::Put(Document { collection: "c".into(), key, body })],
            messages: vec![Outgoing {
                subject: "out.1".into(),
                headers: Vec::new(),
                payload: message.payload.clone(),
                delivery: Delivery::Durable,
                due: None,
                expires_after: None,
                schedule_name: None,
            }],
            cancellations: Vec::new(),
        };
        Call { verdict: Ok(Verdict::Effects(effects)), fuel: 0, memory: 0 }
    }
}

/// Documents in memory; commits always take place.
#[derive(Default)]
struct InMemory {
    rows: Mutex<HashMap<String, Row>>,
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

impl Store for InMemory {
    async fn load(&self, wanted: &Load) -> Result<LoadedState, StoreAway> {
        let rows = self.rows.lock().map_err(|why| StoreAway(why.to_string()))?;
        let documents = wanted.documents.iter().filter_map(|(_, key)| rows.get(key).cloned());
        Ok(LoadedState { handled: Vec::new(), documents: documents.collect() })
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        let rows = self.rows.lock();
        let mut rows = rows.map_err(|why| CommitError::Unavailable(why.to_string()))?;
        for row in commit.creates.iter().chain(&commit.updates) {
            let row = Row { version: row.version + 1, ..row.clone() };
            rows.insert(row.key.clone(), row);
        }
        Ok(())
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

/// Counts what was acknowledged.
struct Acknowledged(AtomicU64);

impl Settle for Acknowledged {
    async fn settle(&self, deliveries: &[&tribox::lane::ports::Delivery]) {
        for delivery in deliveries {
            delivery.done();
        }
        self.0.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
    }
}

/// Drops what goes out.
struct Dropped;

impl Outlet for Dropped {
    fn committed(&self, _: i32, _: Vec<Entry>) {}

    fn look_again(&self, _: i32) {}

    fn transient(&self, _: Vec<Entry>) {}

    fn scheduled(&self) {}
}

fn description() -> Description {
    Description {
        name: "native".to_owned(),
        version: "1".to_owned(),
        subscriptions: vec![Subscription {
            subject: "in.*".to_owned(),
            key: KeySource::SubjectToken(1),
            read_ahead: vec!["c".to_owned()],
        }],
        collections: vec!["c".to_owned()],
        publishes: vec!["out.>".to_owned()],
    }
}

fn delivery(source: &Arc<Source>, n: u64) -> tribox::lane::ports::Delivery {
    source.admit(n, n, "reply", Instant::now());
    let key = (n % KEYS).to_string();
    let message = Message {
        id: format!("message-{n}"),
        subject: format!("in.{key}"),
        key: Some(key),
        headers: Vec::new(),
        payload: vec![b'x'; 200].into(),
        stored_at: n,
    };
    let source = Arc::clone(source);
    tribox::lane::ports::Delivery {
        message,
        unroutable: None,
        source,
        sequence: n,
        redelivered: false,
    }
}

/// A lane works off this many full turns; how long that took.
async fn turns(count: u64) -> Duration {
    let handler: Arc<dyn Handler> = Arc::new(Native(description()));
    let loaded = Arc::new(ArcSwap::from_pointee(Loaded { handler, component: 1 }));
    let source = Arc::new(Source::new("S".to_owned(), 0, 0, true));
    let (sender, deliveries) = mpsc::channel(TURN);
    let (_due, due) = mpsc::channel(1);
    let lane = Lane {
        index: 0,
        handler: loaded,
        options: Options {
            turn: TURN,
            turn_bytes: 8 << 20,
            cache: 16 << 20,
            policy: Policy::default(),
            backlog: i64::MAX,
            announce: None,
        },
        log: Log { writer: 1, fence: 1, last: 0, published: Arc::new(AtomicI64::new(0)) },
        store: Arc::new(InMemory::default()),
        settle: Arc::new(Acknowledged(AtomicU64::new(0))),
        outlet: Arc::new(Dropped),
        clock: Arc::new(SystemClock),
        gate: Arc::default(),
        caution: Arc::default(),
        deliveries,
        due,
        health: Arc::new(Health::default()),
        metrics: Metrics::new().handler("native"),
        memory: Memory::new(16 << 20, []),
    };
    let feeding = async {
        for n in 1..=count * TURN as u64 {
            if sender.send(delivery(&source, n)).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let started = Instant::now();
    let (outcome, ()) = tokio::join!(lane.run(), feeding);
    assert!(outcome.is_ok(), "nobody else is there to take over");
    started.elapsed()
}

fn turn(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|why| panic!("no runtime: {why}"));
    let mut group = criterion.benchmark_group("lane");
    group.throughput(Throughput::Elements(TURN as u64));
    group.bench_function("turn of 512", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(turns(count)));
    });
    group.finish();
}

criterion_group!(benches, turn);
criterion_main!(benches);
