//! A loaded handler, and the call of it: a fresh instance for each message, thrown away after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, InstancePre, TypedFunc};

use super::bindings;
use super::bindings::tribox::handler::types;
use super::linker::Import;
use super::state::{Access, Origin, State};
use super::traps;
use super::{Inner, engine};
use crate::model::rules;
use crate::model::{
    Call, Description, Documents, Effects, Failure, Limits, Message, Unreadable, Verdict,
};

/// A handler that was loaded and checked. Cheap to clone; calls of it may run on many threads.
#[derive(Clone)]
pub struct Guest {
    pub(super) code: Arc<Code>,
    pub(super) settings: Arc<BTreeMap<String, String>>,
    pub(super) limits: Arc<Limits>,
}

/// What does not depend on the host's config.
pub(super) struct Code {
    pub(super) sandbox: Arc<Inner>,
    pub(super) pre: InstancePre<State>,
    /// Its export `handle`.
    pub(super) handle: ComponentExportIndex,
    pub(super) name: Arc<str>,
    pub(super) description: Arc<Description>,
    pub(super) digest: String,
    pub(super) size: usize,
    pub(super) contract: String,
    pub(super) imports: Vec<Import>,
}

impl Guest {
    /// What the handler says of itself; it keeps all rules of [`rules::check_description`].
    pub fn description(&self) -> &Arc<Description> {
        &self.code.description
    }

    /// SHA-256 of the component, in hex: tells versions of a handler apart.
    pub fn digest(&self) -> &str {
        &self.code.digest
    }

    /// Bytes of the component.
    pub fn size(&self) -> usize {
        self.code.size
    }

    /// The version of the contract it was built against: `0.1.0`.
    pub fn contract(&self) -> &str {
        &self.code.contract
    }

    pub fn imports(&self) -> &[Import] {
        &self.code.imports
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The same handler under other settings and limits.
    pub fn configured(&self, settings: BTreeMap<String, String>, limits: Limits) -> Guest {
        Guest {
            code: Arc::clone(&self.code),
            settings: Arc::new(settings),
            limits: Arc::new(limits),
        }
    }

    /// Handles one message. Effects in the verdict keep all rules of [`rules::check_effects`].
    ///
    /// It blocks: for the guest's computing, for reads of documents, and while as many calls run
    /// as the sandbox has slots. In a tokio runtime it belongs into `block_in_place` (of a
    /// multi-thread runtime) or `spawn_blocking`; without a runtime it works as well.
    pub fn call(&self, message: &Message, documents: Arc<Mutex<dyn Documents>>) -> Call {
        let mut run = match self.start(message, documents) {
            Ok(run) => run,
            Err(unreadable) => return Call { verdict: Err(unreadable), fuel: 0, memory: 0 },
        };
        let verdict = match run.handle(&self.code, message) {
            Ok(Ok(effects)) => Ok(self.checked(effects.into())),
            Ok(Err(failure)) => Ok(Verdict::Failed(failure)),
            Err(error) => run.classify(&error).map(Verdict::Failed),
        };
        run.finish(verdict)
    }

    fn start(
        &self,
        message: &Message,
        documents: Arc<Mutex<dyn Documents>>,
    ) -> Result<Run<'_>, Unreadable> {
        let origin = Origin {
            handler: Arc::clone(&self.code.name),
            message_id: Arc::from(message.id.as_str()),
        };
        let access = Access { description: Arc::clone(&self.code.description), documents };
        let settings = Arc::clone(&self.settings);
        let state = State::new(origin, message.stored_at, Some(access), settings, &self.limits);
        Run::start(&self.code.sandbox, state, &self.limits)
    }

    /// The same call again and again in one instance, and how long that took: what a fresh instance
    /// costs is measured against it. For measuring alone: here a message would see what the one
    /// before it left behind.
    ///
    /// # Errors
    /// A call failed; the text says why.
    #[doc(hidden)]
    pub fn time_in_one_instance(
        &self,
        message: &Message,
        documents: Arc<Mutex<dyn Documents>>,
        calls: u64,
    ) -> Result<Duration, String> {
        let text = |error: wasmtime::Error| format!("{error:#}");
        let mut run = self.start(message, documents).map_err(|why| why.to_string())?;
        let headers = bindings::headers(message);
        let handle = run.instantiate(&self.code).map_err(text)?;
        let started = Instant::now();
        for _ in 0..calls {
            run.store.set_fuel(self.limits.fuel).map_err(text)?;
            let effects = run.call(&handle, bindings::message(message, &headers)).map_err(text)?;
            let effects = effects.map_err(|failure| failure.to_string())?;
            std::hint::black_box(self.checked(effects.into()));
        }
        Ok(started.elapsed())
    }

    fn checked(&self, mut effects: Effects) -> Verdict {
        match rules::check_effects(&self.code.description, &self.limits, &mut effects) {
            Ok(()) => Verdict::Effects(effects),
            Err(text) => Verdict::Failed(Failure::InvalidEffects(traps::for_people(&text))),
        }
    }
}

/// `handle` of an instance, as the contract has it.
type Handle<'m> = TypedFunc<(types::Message<'m>,), (Result<types::Effects, types::Failure>,)>;

/// One call: a store with its limits, in a slot of the sandbox.
pub(super) struct Run<'a> {
    pub(super) store: Store<State>,
    limits: &'a Limits,
    /// Freed after the store, whose instance takes up the place.
    _slot: super::slots::Slot<'a>,
}

impl<'a> Run<'a> {
    /// # Errors
    /// The sandbox cannot set the limits; that is never the guest's doing.
    pub(super) fn start(
        sandbox: &'a Inner,
        state: State,
        limits: &'a Limits,
    ) -> Result<Run<'a>, Unreadable> {
        let slot = sandbox.slots.take();
        let mut store = Store::new(&sandbox.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_fuel(limits.fuel).map_err(|error| Unreadable(format!("{error:#}")))?;
        store.set_epoch_deadline(engine::ticks(limits.deadline));
        store.epoch_deadline_callback(State::on_epoch);
        // What a guest hands over at once, be it effects or a key: a list of a million references
        // to one string would take gigabytes here.
        store.set_hostcall_fuel(
            limits.effects_size.saturating_mul(2).saturating_add(limits.effects * 256 + (1 << 20)),
        );
        Ok(Run { store, limits, _slot: slot })
    }

    fn handle(
        &mut self,
        code: &Code,
        message: &Message,
    ) -> wasmtime::Result<Result<types::Effects, Failure>> {
        let headers = bindings::headers(message);
        let handle = self.instantiate(code)?;
        self.call(&handle, bindings::message(message, &headers))
    }

    /// The one function that a call needs: the bindings' own way would look for `describe` as well,
    /// and compare its types, each time.
    fn instantiate<'m>(&mut self, code: &Code) -> wasmtime::Result<Handle<'m>> {
        let instance = code.pre.instantiate(&mut self.store)?;
        instance.get_typed_func(&mut self.store, code.handle)
    }

    fn call<'m>(
        &mut self,
        handle: &Handle<'m>,
        message: types::Message<'m>,
    ) -> wasmtime::Result<Result<types::Effects, Failure>> {
        let (result,) = handle.call(&mut self.store, (message,))?;
        Ok(result.map_err(|failure| match failure {
            types::Failure::Reject(text) => Failure::Reject(traps::for_people(&text)),
            types::Failure::Retry(text) => Failure::Retry(traps::for_people(&text)),
        }))
    }

    pub(super) fn classify(&mut self, error: &wasmtime::Error) -> Result<Failure, Unreadable> {
        traps::classify(error, self.store.data_mut(), self.limits)
    }

    fn finish(mut self, verdict: Result<Verdict, Unreadable>) -> Call {
        self.store.data_mut().finish_output();
        let left = self.store.get_fuel().unwrap_or_default();
        let memory = self.store.data().memory.used();
        Call { verdict, fuel: self.limits.fuel.saturating_sub(left), memory }
    }
}
