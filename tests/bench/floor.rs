//! The same pipeline as tribox without wasm: its reader, lanes, commit and relay around a native
//! handler. What it is faster by is the price of the sandbox.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tribox::lane::ports::{Handler, Loaded, Log, Source};
use tribox::lane::{Lane, Memory, Options, Policy};
use tribox::model::{
    Call, Delivery, Description, Document, Documents, Effects, Failure, KeySource, Message,
    Mutation, Outgoing, Subscription, Unit, Unreadable, Verdict, json,
};
use tribox::node::SystemClock;
use tribox::relay::{self, RelayTask};
use tribox::store::{self, Postgres, Statements};
use tribox::stream::{
    Acknowledge, Consumption, Fence, Filters, Lag, Nats, NatsOptions, Publisher, Reader, Router,
    find_streams,
};
use tribox::telemetry::{Health, Metrics};

use crate::work::{event_subject, handle};

/// What the guest does, without the guest.
struct Native(Description);

impl Native {
    fn effects(message: &Message, documents: &Mutex<dyn Documents>) -> Result<Verdict, Unreadable> {
        let key = message.key.as_deref().unwrap_or_default();
        let mut documents =
            documents.lock().map_err(|_| Unreadable("a lock was poisoned".to_owned()))?;
        let document = documents.get("accounts", key)?;
        drop(documents);
        let done = handle(key, document.as_deref(), &message.payload)
            .map_err(|why| why.to_string())
            .and_then(|(body, event)| Ok((json::canonical(&body, 1 << 20)?, event)));
        Ok(match done {
            Err(why) => Verdict::Failed(Failure::Reject(why)),
            Ok((body, event)) => Verdict::Effects(Effects {
                mutations: vec![Mutation::Put(Document {
                    collection: "accounts".to_owned(),
                    key: key.to_owned(),
                    body,
                })],
                messages: vec![Outgoing {
                    subject: event_subject(key),
                    headers: Vec::new(),
                    payload: event.into(),
                    delivery: Delivery::Durable,
                    due: None,
                    expires_after: None,
                    schedule_name: None,
                }],
                cancellations: Vec::new(),
            }),
        })
    }
}

impl Handler for Native {
    fn description(&self) -> &Description {
        &self.0
    }

    fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call {
        Call { verdict: Native::effects(message, &documents), fuel: 0, memory: 0 }
    }
}

fn description() -> Description {
    Description {
        name: "floor".to_owned(),
        version: "1".to_owned(),
        subscriptions: vec![Subscription {
            subject: "accounts.*.credit".to_owned(),
            key: KeySource::SubjectToken(1),
            read_ahead: vec!["accounts".to_owned()],
        }],
        collections: vec!["accounts".to_owned()],
        publishes: vec!["accounts.events.*.*".to_owned()],
    }
}

/// Runs until it is killed.
pub async fn run(database: &str, nats_url: &str, lanes: usize, turn: usize) -> Result<()> {
    let pool = store::connect(database, 16, Statements::Prepared).await?;
    store::migrate(&pool).await?;
    let registered = store::register(&pool, "floor", "bench", Duration::from_secs(3_600)).await?;
    let store = Postgres::new(pool, 16, registered.node);
    let options = NatsOptions { url: nats_url.to_owned(), ..NatsOptions::default() };
    let nats = Nats::connect(&options).await?;
    let (health, metrics) = (Arc::new(Health::default()), Metrics::new());
    let (relay, relaying) = RelayTask::new(
        relay::Options { window: 4_096 },
        store.clone(),
        nats.clone(),
        Publisher::start(options, Fence::open())?,
        Arc::new(SystemClock),
        Arc::clone(&health),
        Arc::clone(&metrics),
    );
    let description = description();
    let component = store.register_component("floor", "1", "native").await?;
    let handler: Arc<dyn Handler> = Arc::new(Native(description.clone()));
    let loaded = Arc::new(ArcSwap::from_pointee(Loaded { handler, component }));
    let mut tasks = JoinSet::new();
    tasks.spawn(relaying.run(CancellationToken::new()));
    let mut senders = Vec::new();
    let mut dues = Vec::new();
    for index in 0..i32::try_from(lanes)? {
        let opened = store.open_writer("floor", index, 0, false).await?;
        let published = relay.open(opened.id, opened.published, opened.last);
        let (sender, deliveries) = mpsc::channel(turn);
        let (due_sender, due) = mpsc::channel(1);
        senders.push(sender);
        dues.push(due_sender);
        let cache = 16 << 20;
        let lane = Lane {
            index,
            handler: Arc::clone(&loaded),
            options: Options {
                turn,
                turn_bytes: 8 << 20,
                cache,
                policy: Policy::default(),
                backlog: 100_000,
                announce: None,
            },
            log: Log { writer: opened.id, fence: opened.fence, last: opened.last, published },
            store: Arc::new(store.for_lane()),
            settle: Arc::new(Acknowledge::new(&nats)),
            outlet: Arc::new(relay.clone()),
            clock: Arc::new(SystemClock),
            gate: Arc::default(),
            caution: Arc::default(),
            deliveries,
            due,
            health: Arc::clone(&health),
            metrics: metrics.handler("floor"),
            memory: Memory::new(cache, []),
        };
        tasks.spawn(async move {
            // Only a takeover ends a lane, and this run has one node.
            let _ = lane.run().await;
        });
    }
    read(&nats, &description, &senders, turn, (&health, &metrics), &mut tasks).await?;
    while tasks.join_next().await.is_some() {}
    drop(dues);
    Ok(())
}

async fn read(
    nats: &Nats,
    description: &Description,
    senders: &[mpsc::Sender<tribox::lane::ports::Delivery>],
    turn: usize,
    (health, metrics): (&Arc<Health>, &Arc<Metrics>),
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let filters = vec!["accounts.*.credit".to_owned()];
    for stream in find_streams(nats, &filters).await? {
        let reader = Reader {
            nats: nats.clone(),
            consumption: Consumption {
                unit: Unit::whole("floor"),
                stream: stream.name.clone(),
                filters: Filters::new(filters.clone(), &Unit::whole("floor")),
                ordered: true,
                max_in_hand: i64::try_from(turn * senders.len() * 4)?.clamp(64, 16_384),
                stalled: Duration::from_secs(60),
            },
            source: Arc::new(Source::new(stream.name, stream.created, 0, true)),
            router: Arc::new(Router::new(description, &Unit::whole("floor"))),
            lanes: senders.to_vec(),
            acknowledge: Acknowledge::new(nats),
            fence: Fence::open(),
            health: Arc::clone(health),
            metrics: metrics.handler("floor"),
            lag: Lag::new(metrics.handler("floor").lag),
            stop: CancellationToken::new(),
        };
        tasks.spawn(async move {
            reader.run().await;
        });
    }
    Ok(())
}
