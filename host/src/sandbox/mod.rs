//! The sandbox: runs a guest on one message, deterministically, within limits, with no effect but
//! what it returns. The only room that speaks wasmtime.
//!
//! A component passes [`Sandbox::load`] once, which checks its imports and exports, compiles it (or
//! takes it from the cache) and has it describe itself. From then on [`Guest::call`] runs it: a
//! fresh instance for each message, with reading documents as its only way out. Nothing here
//! commits, publishes or knows a lane.

mod bindings;
mod cache;
mod clock;
mod engine;
mod guest;
#[cfg(test)]
mod hostile_tests;
mod linker;
mod load;
mod memory;
mod output;
mod random;
mod slots;
mod state;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test lays out its own directory")]
mod tests;
mod traps;

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Linker;

pub use guest::Guest;
pub use linker::{Import, ImportKind};
pub use load::{LoadError, Problem};

/// How the sandbox is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Calls that run at a time, of all handlers together; more wait. Each that ran keeps up to
    /// 5 MiB of memory resident for the next.
    pub concurrency: u32,
    /// Where compiled components are kept. It must belong to the user that runs the host and be
    /// writable by nobody else; otherwise there is a warning and no cache.
    pub cache: Option<PathBuf>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        SandboxConfig { concurrency: 64, cache: None }
    }
}

/// The engine that all guests of a host share. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<state::State>,
    slots: slots::Slots,
    cache: Option<cache::Cache>,
    _ticker: engine::Ticker,
}

/// The sandbox cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox cannot be set up: {0}")]
pub struct SandboxError(String);

impl Sandbox {
    /// # Errors
    /// The engine does not work on this processor or operating system, or no thread can be started.
    pub fn new(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let refused = |error: wasmtime::Error| SandboxError(format!("{error:#}"));
        let concurrency = config.concurrency.max(1);
        let engine = engine::new(concurrency).map_err(refused)?;
        let linker = linker::linker(&engine).map_err(refused)?;
        let ticker = engine::Ticker::start(&engine)
            .map_err(|error| SandboxError(format!("no thread for its clock: {error}")))?;
        let cache = config.cache.and_then(|path| {
            cache::Cache::open(&path)
                .inspect_err(|error| {
                    let path = path.display();
                    tracing::warn!("compiled components are not kept in {path}: {error}");
                })
                .ok()
        });
        let slots = slots::Slots::new(concurrency);
        let inner = Inner { engine, linker, slots, cache, _ticker: ticker };
        Ok(Sandbox { inner: Arc::new(inner) })
    }

    /// Loads a component: checks it, compiles it and has it describe itself. Blocks for as long as
    /// compiling takes, a fraction of a second for an ordinary Rust handler.
    ///
    /// `file` is what errors call it by.
    ///
    /// # Errors
    /// What is wrong with the component, and what to do about it.
    pub fn load(&self, file: &str, wasm: &[u8]) -> Result<Guest, LoadError> {
        load::load(&self.inner, wasm)
            .map_err(|problem| LoadError { file: file.to_owned(), problem })
    }
}
