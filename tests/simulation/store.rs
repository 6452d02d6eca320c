//! A node's way to the simulated database: each question takes time both ways, may be refused, get lost,
//! be answered into the void, or be carried out long after whoever asked has given up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tribox::lane::ports::{
    Commit, CommitError, DueParked, ListRange, Load, LoadedState, LogState, ParkedMessage, Reader,
    Row, Store, StoreAway,
};
use tribox::model::{InboxKey, Unreadable};
use tribox::node::ports::{Leases, Piles};
use tribox::relay::SCHEDULED;
use tribox::relay::ports::{Delayed, Outbox};
use tribox::store::{
    Beat, Buried, Claim, Fate, LeftLog, LoggedEntry, Node, OpenLog, OpenedWriter, Standing,
};

use crate::database::Database;
use crate::world::World;

/// The database as one process sees it.
#[derive(Clone)]
pub struct SimStore {
    pub world: World,
    pub node: Node,
}

/// How a question fares.
struct Trip {
    there: Duration,
    back: Duration,
    /// The server gets it.
    arrives: bool,
    /// Whoever asked gives up after this time.
    patience: Duration,
    /// The answer gets lost on its way back.
    lost: bool,
    starts: u64,
}

fn away(why: &str) -> StoreAway {
    StoreAway(why.to_owned())
}

impl SimStore {
    fn trip(&self) -> Result<Trip, StoreAway> {
        let mut world = self.world.look();
        if world.postgres_down || world.line(&self.node.name).no_postgres {
            return Err(away("connection refused"));
        }
        if world.strikes("postgres: refused", 0.5) {
            return Err(away("too many connections"));
        }
        let arrives = !world.strikes("postgres: question lost", 1.0);
        let late = world.strikes("postgres: carried out late", 1.0);
        let lost = world.strikes("postgres: answer lost", 1.0);
        let (mut there, back) = (world.latency(), world.latency());
        let mut patience = Duration::from_secs(30);
        if late {
            there = world.millis(10, 20_000);
            patience = world.millis(1, 10_000);
        } else if !arrives || lost {
            patience = world.millis(1, 30_000);
        }
        Ok(Trip { there, back, arrives, patience, lost, starts: world.postgres_starts })
    }

    /// Has the server carry something out, and waits for the answer.
    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Database) -> R + Send + 'static,
    ) -> Result<R, StoreAway> {
        let trip = match self.trip() {
            Ok(trip) => trip,
            Err(why) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
                return Err(why);
            }
        };
        let (answer, answered) = oneshot::channel();
        let Trip { there, arrives, lost, starts, .. } = trip;
        let world = self.world.clone();
        // Whatever becomes of whoever asked: what is on its way is carried out.
        tokio::spawn(async move {
            tokio::time::sleep(there).await;
            let mut world = world.look();
            if arrives && !world.postgres_down && world.postgres_starts == starts {
                let result = question(&mut world.database);
                if !lost {
                    let _ = answer.send(result);
                }
            }
        });
        let answered = tokio::time::timeout(trip.patience, answered).await;
        tokio::time::sleep(trip.back).await;
        let mut world = self.world.look();
        let cut = world.line(&self.node.name).no_postgres || world.postgres_starts != starts;
        match answered {
            Ok(Ok(result)) if !cut => Ok(result),
            Ok(_) => Err(away("the connection was closed")),
            Err(_) => Err(away("no answer")),
        }
    }

    fn me(&self) -> (String, i64) {
        (self.node.name.clone(), self.node.epoch)
    }

    /// Takes the node's name; the epoch, and how often it crashed.
    pub async fn register(
        world: &World,
        name: &str,
        holder: String,
        lease: Duration,
    ) -> Result<(Node, i32, HashMap<InboxKey, i32>), StoreAway> {
        let node = Node { name: name.to_owned(), epoch: 0 };
        let store = SimStore { world: world.clone(), node };
        let name = name.to_owned();
        let registered = store
            .ask(move |db| {
                let (epoch, crashes) = db.register(&name, &holder, lease);
                (Node { name, epoch }, crashes, db.suspects())
            })
            .await?;
        Ok(registered)
    }

    pub async fn end_node(&self) -> Result<(), StoreAway> {
        let (name, epoch) = self.me();
        self.ask(move |db| db.end_node(&name, epoch)).await
    }

    pub async fn open_writer(
        &self,
        handler: &str,
        lane: i32,
        lanes: i32,
        owned: bool,
    ) -> Result<OpenedWriter, StoreAway> {
        let ((name, epoch), handler) = (self.me(), handler.to_owned());
        self.ask(move |db| db.open_writer((&name, epoch), &handler, lane, lanes, owned))
            .await?
            .map_err(StoreAway)
    }

    pub async fn moved_logs(&self, handler: &str, lanes: i32) -> Result<Vec<i32>, StoreAway> {
        let ((name, _), handler) = (self.me(), handler.to_owned());
        self.ask(move |db| db.moved_logs(&name, &handler, lanes)).await
    }

    pub async fn heal(&self, handler: &str, component: i32) -> Result<(), StoreAway> {
        let handler = handler.to_owned();
        self.ask(move |db| db.heal(&handler, component)).await
    }

    /// Whether some messages are known to stand in their streams.
    pub async fn any_already_sent(&self) -> Result<bool, StoreAway> {
        self.ask(|db| !db.already_sent.is_empty()).await
    }

    pub async fn floor(&self, handler: &str, stream: &str, created: i64) -> Result<i64, StoreAway> {
        let (handler, stream) = (handler.to_owned(), stream.to_owned());
        self.ask(move |db| db.floor(&handler, &stream, created)).await
    }
}

impl Store for SimStore {
    async fn load(&self, wanted: &Load) -> Result<LoadedState, StoreAway> {
        let wanted = Load { inbox: wanted.inbox.clone(), documents: wanted.documents.clone() };
        self.ask(move |db| db.load(&wanted)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<(), CommitError> {
        let copy = copy_of(commit);
        let (world, name) = (self.world.clone(), self.node.name.clone());
        let lines = format!("{}: {} messages", copy.handler, copy.inbox.len());
        let committed = self.ask(move |db| db.commit(&copy)).await;
        let committed = committed.unwrap_or_else(|why| Err(CommitError::Unavailable(why.0)));
        let outcome = committed.as_ref().err().map_or("done".to_owned(), ToString::to_string);
        world.note(&format!("{name} commit {lines}: {outcome}"));
        committed
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    async fn log_state(&self, writer: i32) -> Result<LogState, StoreAway> {
        self.ask(move |db| db.writer_state(writer)).await
    }

    async fn held_keys(&self, handler: &str) -> Result<Vec<String>, StoreAway> {
        let handler = handler.to_owned();
        self.ask(move |db| db.held_keys(&handler)).await
    }

    async fn parked_messages(
        &self,
        handler: &str,
        due: &[DueParked],
        limit: i64,
    ) -> Result<Vec<ParkedMessage>, StoreAway> {
        let (handler, due) = (handler.to_owned(), due.to_vec());
        self.ask(move |db| db.take_up(&handler, &due, limit)).await
    }

    async fn note_in_hand(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        let ((name, _), keys) = (self.me(), keys.to_vec());
        self.ask(move |db| db.note_in_hand(&name, keys)).await
    }

    async fn forget_suspects(&self, keys: &[InboxKey]) -> Result<(), StoreAway> {
        let keys = keys.to_vec();
        self.ask(move |db| db.forget_suspects(&keys)).await
    }
}

impl Reader for SimStore {
    fn document(&self, collection: &str, key: &str) -> Result<Option<Row>, Unreadable> {
        self.readable()?;
        Ok(self.world.look().database.document(collection, key))
    }

    fn list(&self, range: &ListRange, limit: i64) -> Result<Vec<Row>, Unreadable> {
        self.readable()?;
        let world = self.world.look();
        let (until, after) = (range.until.as_deref(), range.after.as_deref());
        let rows = world.database.list(&range.collection, &range.from, until, after);
        Ok(rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
    }
}

impl SimStore {
    fn readable(&self) -> Result<(), Unreadable> {
        let mut world = self.world.look();
        let cut = world.postgres_down || world.line(&self.node.name).no_postgres;
        if cut || world.strikes("postgres: read failed", 1.0) {
            return Err(Unreadable("the connection was closed".to_owned()));
        }
        Ok(())
    }
}

impl Outbox for SimStore {
    async fn writer_state(&self, writer: i32) -> Result<LogState, StoreAway> {
        self.ask(move |db| db.writer_state(writer)).await
    }

    async fn read_log(
        &self,
        writer: i32,
        after: i64,
        limit: i64,
    ) -> Result<Vec<LoggedEntry>, StoreAway> {
        self.ask(move |db| db.read_log(writer, after, limit)).await
    }

    async fn advance_cursors(&self, cursors: &[(i32, i64)]) -> Result<(), StoreAway> {
        let cursors = cursors.to_vec();
        self.ask(move |db| db.advance_cursors(&cursors)).await
    }

    async fn set_undelivered(
        &self,
        writer: i32,
        seq: i64,
        reason: &str,
        _error: &str,
    ) -> Result<(), StoreAway> {
        let reason = reason.to_owned();
        self.ask(move |db| db.set_undelivered(writer, seq, &reason)).await
    }

    async fn already_sent(&self, ids: &[String]) -> Result<HashSet<String>, StoreAway> {
        let ids = ids.to_vec();
        self.ask(move |db| ids.into_iter().filter(|id| db.already_sent.contains(id)).collect())
            .await
    }
}

impl Delayed for SimStore {
    async fn open_log(&self) -> Result<OpenedWriter, StoreAway> {
        self.open_writer(SCHEDULED, 0, 1, true).await
    }

    async fn release_due(
        &self,
        log: &OpenedWriter,
        first: i64,
        limit: i64,
    ) -> Result<Option<i64>, StoreAway> {
        let log = *log;
        self.ask(move |db| db.release_due(&log, first, limit)).await
    }

    async fn resend(&self, log: &OpenedWriter, first: i64, limit: i64) -> Result<i64, StoreAway> {
        let log = *log;
        self.ask(move |db| db.resend(&log, first, limit)).await
    }

    async fn next_due(&self) -> Result<Option<i64>, StoreAway> {
        self.ask(|db| db.next_due()).await
    }

    async fn count_undelivered(&self, _limit: i64) -> Result<i64, StoreAway> {
        self.ask(|db| i64::try_from(db.undelivered()).unwrap_or(i64::MAX)).await
    }

    async fn settle_resent(&self) -> Result<i64, StoreAway> {
        self.ask(Database::settle_resent).await
    }

    async fn wake_undelivered(&self) -> Result<(), StoreAway> {
        self.ask(Database::wake_undelivered).await
    }
}

impl Leases for SimStore {
    fn node(&self) -> &Node {
        &self.node
    }

    async fn heartbeat(&self, lease: Duration) -> Result<Option<Beat>, StoreAway> {
        let (name, epoch) = self.me();
        let count = self.ask(move |db| db.heartbeat(&name, epoch, lease)).await?;
        Ok(count.map(|count| Beat { count, server: 1 }))
    }

    async fn bury(&self) -> Result<Vec<Buried>, StoreAway> {
        let (name, epoch) = self.me();
        self.ask(move |db| db.bury(&name, epoch)).await
    }

    async fn fate(&self) -> Result<Fate, StoreAway> {
        let (name, epoch) = self.me();
        self.ask(move |db| db.fate(&name, epoch)).await
    }

    async fn claim(&self, unit: &str) -> Result<Claim, StoreAway> {
        let ((name, epoch), unit) = (self.me(), unit.to_owned());
        self.ask(move |db| db.claim(&name, epoch, &unit)).await?.map_err(StoreAway)
    }

    async fn release(&self, unit: &str) -> Result<(), StoreAway> {
        let ((name, epoch), unit) = (self.me(), unit.to_owned());
        self.ask(move |db| db.release(&unit, &name, epoch)).await
    }

    async fn close_logs(&self, _logs: &[i32]) -> Result<(), StoreAway> {
        Ok(())
    }

    async fn own_logs(&self, inherited: bool) -> Result<Vec<OpenLog>, StoreAway> {
        let (name, _) = self.me();
        self.ask(move |db| db.own_logs(&name, inherited)).await
    }

    async fn left_logs(&self, handler: &str) -> Result<Vec<LeftLog>, StoreAway> {
        let ((name, _), handler) = (self.me(), handler.to_owned());
        self.ask(move |db| db.left_logs(&handler, &name)).await
    }

    async fn suspects(&self) -> Result<HashMap<InboxKey, i32>, StoreAway> {
        self.ask(|db| db.suspects()).await
    }
}

impl Piles for SimStore {
    async fn standing(&self, handler: &str, limit: i64) -> Result<Standing, StoreAway> {
        let handler = handler.to_owned();
        self.ask(move |db| db.standing(&handler, limit)).await
    }

    async fn count_parked(&self, _: &str, _: i64) -> Result<Vec<(String, i64)>, StoreAway> {
        Ok(Vec::new())
    }

    async fn count_scheduled_by(&self, _: &str, _: i64) -> Result<i64, StoreAway> {
        Ok(0)
    }
}

/// A commit as it travels.
fn copy_of(commit: &Commit) -> Commit {
    Commit {
        handler: commit.handler.clone(),
        component: commit.component,
        inbox: commit.inbox.clone(),
        updates: commit.updates.clone(),
        creates: commit.creates.clone(),
        blind: commit.blind.clone(),
        reads: commit.reads.clone(),
        lists: commit.lists.clone(),
        changed: commit.changed.clone(),
        writer: commit.writer,
        fence: commit.fence,
        entries: commit.entries.clone(),
        published: commit.published,
        positions: commit.positions.clone(),
        dropped_names: commit.dropped_names.clone(),
        scheduled: commit.scheduled.clone(),
        parked: commit.parked.clone(),
        unparked: commit.unparked.clone(),
        reparked: commit.reparked.clone(),
    }
}
