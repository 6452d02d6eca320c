//! Runs one handler: as a whole, or the partitions of it that this node owns, term after term.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::build::prepare;
use super::term::{Term, part};
use super::{Shared, lease};
use crate::lane::ports::{Loaded, StoreAway};
use crate::model::{Description, Unit};
use crate::sandbox::Guest;
use crate::stream::obstacle;

/// How often it is looked whether partitions can be worked on.
const LOOK: Duration = Duration::from_secs(1);

/// How many units of a handler are worked on here.
#[derive(Debug, Default)]
pub struct Works(AtomicUsize);

/// Counts while it lives.
pub struct Working(Arc<Works>);

impl Works {
    pub fn begin(self: &Arc<Self>) -> Working {
        self.0.fetch_add(1, Ordering::AcqRel);
        Working(Arc::clone(self))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A handler that runs.
pub struct Running {
    pub file: String,
    pub guest: Guest,
    loaded: Arc<ArcSwap<Loaded>>,
    works: Arc<Works>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Starts a handler.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn start(shared: &Shared, file: &str, guest: Guest) -> Result<Running, StoreAway> {
        let name = guest.description().name.clone();
        let settings = shared.config.handler(&name);
        let loaded = prepare(shared, &guest, &settings).await?;
        let loaded = Arc::new(ArcSwap::from_pointee(loaded));
        let works = Arc::new(Works::default());
        let stop = CancellationToken::new();
        let description = guest.description();
        let partitions = settings.partitions.filter(|_| description.keyed());
        let mut tasks = JoinSet::new();
        for unit in Unit::all(&name, partitions) {
            shared.health.starting(&part(&unit));
            let post = Post {
                shared: shared.clone(),
                unit,
                description: Arc::clone(description),
                works: Arc::clone(&works),
                stop: stop.clone(),
            };
            tasks.spawn(post.hold(Arc::clone(&loaded)));
        }
        Ok(Running { file: file.to_owned(), guest, loaded, works, stop, tasks })
    }

    /// Puts a new build in the place of the running one, between two turns. Only for one with the
    /// same subscriptions.
    pub fn swap(&mut self, file: &str, guest: Guest, loaded: Loaded) {
        self.loaded.store(Arc::new(loaded));
        file.clone_into(&mut self.file);
        self.guest = guest;
    }

    /// Whether messages of it are handled here, and it does not merely stand by.
    pub fn works(&self) -> bool {
        self.works.0.load(Ordering::Acquire) > 0
    }

    /// Stops consuming, finishes the turns, and waits for that.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A unit that this node works on, or stands by for.
struct Post {
    shared: Shared,
    unit: Unit,
    description: Arc<Description>,
    works: Arc<Works>,
    stop: CancellationToken,
}

impl Post {
    /// Works until stopped; returns when all turns are finished. Whatever this waits for, other handlers
    /// go on. A handler with keys is worked on where it is owned alone, and given up where another node
    /// has less.
    async fn hold(self, loaded: Arc<ArcSwap<Loaded>>) {
        if !self.description.keyed() {
            let logs = self.term(self.stop.clone()).work(loaded).await;
            return lease::close(&self.shared, &logs).await;
        }
        let (name, part, posts) = (self.unit.to_string(), part(&self.unit), &self.shared.posts);
        while self.can_be_worked_on(&part).await {
            let stop = self.stop.child_token();
            posts.want(&self.shared.store, &name, &stop).await;
            if !lease::own(&self.shared, &name, &part, &self.stop).await {
                break;
            }
            let logs = self.term(stop).work(Arc::clone(&loaded)).await;
            lease::close(&self.shared, &logs).await;
            // Others need not wait for this node to take it up again.
            posts.forget(&self.shared.store, &name).await;
            lease::hand_over(&self.shared, &name, logs).await;
            if self.stop.is_cancelled() {
                break;
            }
        }
        posts.forget(&self.shared.store, &name).await;
        self.shared.health.forget(&part);
    }

    fn term(&self, stop: CancellationToken) -> Term {
        Term::new(&self.shared, &self.unit, &self.description, &self.works, stop)
    }

    /// Waits until a partition's stream is there and it is its turn. False: asked to stop before.
    async fn can_be_worked_on(&self, part: &str) -> bool {
        let Some(partition) = self.unit.partition() else { return !self.stop.is_cancelled() };
        loop {
            if self.stop.is_cancelled() {
                return false;
            }
            match obstacle(&self.shared.nats, &self.description, Some(partition.of)).await {
                Ok(None) => return true,
                Ok(Some(why)) => self.shared.health.away(part, &why),
                Err(why) => self.shared.health.away(part, &why.to_string()),
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
