//! What one call holds: the documents it may read, its settings, its clocks and its limits. It
//! lives as long as the instance and is never shared by two messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::UpdateDeadline;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::tribox::handler::{documents, types};
use super::bindings::wasi::config::store;
use super::clock::MonotonicClock;
use super::engine;
use super::memory::Meter;
use super::output::{Output, Pipe, Stream};
use super::random::Randomness;
use crate::model::rules;
use crate::model::{Description, Documents, Limits, Unreadable};

/// Reads of one message. Time spent in reads does not count against the deadline, which is the
/// guest's; this is what ends a guest that reads for ever.
const MAX_READS: u32 = 10_000;
/// What `list-by-prefix` returns at most, whatever the guest asks for.
const MAX_LISTED: u32 = 1_000;
/// Handles of host resources (streams, timers) that a guest may hold at a time.
const MAX_RESOURCES: usize = 10_000;

/// Why the host itself stops a call. It travels through wasmtime as the error of the call.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("{0}")]
    Contract(String),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the deadline has passed")]
    Deadline,
}

impl Stop {
    pub(super) fn contract(text: String) -> wasmtime::Error {
        wasmtime::Error::new(Stop::Contract(text))
    }
}

/// Which handler and message a call belongs to.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) handler: Arc<str>,
    pub(super) message_id: Arc<str>,
}

/// What a call may read: nothing while a component is asked to describe itself.
pub(super) struct Access {
    pub(super) description: Arc<Description>,
    pub(super) documents: Arc<Mutex<dyn Documents>>,
}

/// WASI's own context, made when a guest first touches it: many only ask for a clock, a seed or
/// the environment, which this room answers itself.
pub(super) struct Wasi {
    context: WasiCtx,
    pub(super) table: ResourceTable,
    output: Arc<Mutex<Output>>,
}

pub(super) struct State {
    pub(super) origin: Origin,
    pub(super) stored_at: u64,
    pub(super) clock: MonotonicClock,
    pub(super) randomness: Randomness,
    pub(super) memory: Meter,
    access: Option<Access>,
    settings: Arc<BTreeMap<String, String>>,
    reads: u32,
    wasi: Option<Box<Wasi>>,
    deadline: Duration,
    started: Instant,
    /// Time spent waiting for documents: it is not the guest's.
    waited: Duration,
}

impl State {
    pub(super) fn new(
        origin: Origin,
        stored_at: u64,
        access: Option<Access>,
        settings: Arc<BTreeMap<String, String>>,
        limits: &Limits,
    ) -> State {
        State {
            origin,
            stored_at,
            clock: MonotonicClock::default(),
            randomness: Randomness::default(),
            memory: Meter::new(limits.memory),
            access,
            settings,
            reads: 0,
            wasi: None,
            deadline: limits.deadline,
            started: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// What happens when the epoch deadline of a call is reached: it goes on as long as the time
    /// that was not spent waiting for documents is within the limit.
    pub(super) fn on_epoch(
        context: StoreContextMut<'_, State>,
    ) -> wasmtime::Result<UpdateDeadline> {
        let state = context.data();
        let used = state.started.elapsed().saturating_sub(state.waited);
        match state.deadline.checked_sub(used) {
            Some(left) if !left.is_zero() => Ok(UpdateDeadline::Continue(engine::ticks(left))),
            _ => Err(wasmtime::Error::new(Stop::Deadline)),
        }
    }

    pub(super) fn wasi(&mut self) -> &mut Wasi {
        let origin = &self.origin;
        self.wasi.get_or_insert_with(|| Box::new(Wasi::new(origin.clone())))
    }

    /// Ends what the guest printed. Returns the last lines of its stderr.
    pub(super) fn finish_output(&mut self) -> Vec<String> {
        let Some(wasi) = &self.wasi else { return Vec::new() };
        let mut output = wasi.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.finish().iter().cloned().collect()
    }

    /// Reads documents of `collection`, if the handler may.
    fn read<T>(
        &mut self,
        collection: &str,
        read: impl FnOnce(&mut dyn Documents) -> Result<T, Unreadable>,
    ) -> wasmtime::Result<T> {
        let Some(access) = &self.access else {
            return Err(Stop::contract("documents cannot be read during `describe`".into()));
        };
        if !access.description.collections.iter().any(|c| c == collection) {
            return Err(Stop::contract(format!(
                "the handler reads collection {:?}, which its description does not declare; it \
                 declares {}",
                rules::shorten(collection),
                rules::shorten_list(&access.description.collections)
            )));
        }
        self.reads += 1;
        if self.reads > MAX_READS {
            return Err(Stop::contract(format!(
                "the handler reads documents more than {MAX_READS} times for one message; \
                 list-by-prefix reads many at once"
            )));
        }
        let asked = Instant::now();
        let result = match access.documents.lock() {
            Ok(mut documents) => read(&mut *documents),
            Err(_) => Err(Unreadable("an earlier read panicked".into())),
        };
        self.waited += asked.elapsed();
        result.map_err(|unreadable| wasmtime::Error::new(Stop::Unreadable(unreadable)))
    }
}

impl Wasi {
    fn new(origin: Origin) -> Wasi {
        let output = Arc::new(Mutex::new(Output::new(origin)));
        let pipe = |stream| Pipe { output: Arc::clone(&output), stream };
        let mut context = WasiCtx::builder();
        context.stdout(pipe(Stream::Stdout)).stderr(pipe(Stream::Stderr));
        // Closed altogether: the default answers "denied" for each address instead.
        context.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        let context = context.build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Wasi { context, table, output }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// A key that Postgres could not hold is the guest's mistake, not an empty result.
fn check_text(what: &str, text: &str) -> wasmtime::Result<()> {
    if text.len() > rules::MAX_KEY || text.contains('\0') {
        return Err(Stop::contract(format!(
            "the handler reads documents with a {what} of {} bytes ({:?}); allowed are {} bytes \
             without NUL",
            text.len(),
            rules::shorten(text),
            rules::MAX_KEY
        )));
    }
    Ok(())
}

impl types::Host for State {}

impl documents::Host for State {
    fn get(&mut self, collection: String, key: String) -> wasmtime::Result<Option<String>> {
        check_text("key", &key)?;
        self.read(&collection, |documents| documents.get(&collection, &key))
    }

    fn list_by_prefix(
        &mut self,
        collection: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Vec<types::Document>> {
        check_text("prefix", &prefix)?;
        check_text("key to start after", after.as_deref().unwrap_or_default())?;
        let limit = limit.min(MAX_LISTED);
        let list = self.read(&collection, |documents| {
            documents.list(&collection, &prefix, after.as_deref(), limit)
        })?;
        Ok(list.into_iter().map(Into::into).collect())
    }
}

impl store::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        Ok(Ok(self.settings.get(&key).cloned()))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.settings.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
    }
}

/// The environment of a guest is empty, and asking for it needs no WASI context.
impl wasmtime_wasi::p2::bindings::cli::environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}
