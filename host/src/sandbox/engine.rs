//! The wasmtime engine: what makes guests deterministic, and what makes a fresh instance for every
//! message cheap. Nothing here knows the contract.

use std::num::NonZeroUsize;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often the epoch moves on: how exact the wall-clock deadline of a call is.
pub(super) const TICK: Duration = Duration::from_millis(25);

/// Elements of one table of a guest.
pub(super) const TABLE_ELEMENTS: usize = 100_000;

/// What one component may be made of, so that `concurrency` of any of them fit into the pool.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 2;
const TABLES: u32 = 8;

/// Memory of a slot that stays resident between two messages, so that it is reset by writing
/// zeroes instead of being unmapped. It covers what an ordinary guest touches.
const MEMORY_KEEP_RESIDENT: usize = 4 << 20;
const TABLE_KEEP_RESIDENT: usize = 1 << 20;

/// The engine for `concurrency` calls at a time. Where the address space for the pool cannot be
/// reserved, guests run without one, slower.
pub(super) fn new(concurrency: u32) -> wasmtime::Result<Engine> {
    let mut config = deterministic();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(concurrency)));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(
                "no pool of instances for {concurrency} concurrent calls ({error:#}); guests run \
                 without one, and slower: raise the limit of address space (ulimit -v) or lower \
                 the concurrency"
            );
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        }
    }
}

fn deterministic() -> Config {
    let mut config = Config::new();
    // NaN bits and relaxed SIMD are the only results that WebAssembly leaves to the processor.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // Threads are not compiled into wasmtime here; this holds should a crate turn them on.
    config.shared_memory(false);
    // Fuel is the deadline that falls on the same instruction in every run; the epoch is the
    // backstop for what costs time and no fuel.
    config.consume_fuel(true);
    config.epoch_interruption(true);
    // Host functions are synchronous, and the contract has no async functions.
    config.concurrency_support(false);
    config.memory_init_cow(true);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(32));
    // Function names are enough for a trap's backtrace; offsets would double the cached code.
    config.generate_address_map(false);
    config
}

fn pool(concurrency: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(concurrency);
    pool.max_core_instances_per_component(CORE_INSTANCES);
    pool.total_core_instances(concurrency.saturating_mul(CORE_INSTANCES));
    pool.max_memories_per_component(MEMORIES);
    pool.total_memories(concurrency.saturating_mul(MEMORIES));
    pool.max_tables_per_component(TABLES);
    pool.total_tables(concurrency.saturating_mul(TABLES));
    pool.table_elements(TABLE_ELEMENTS);
    pool.max_component_instance_size(4 << 20);
    pool.max_core_instance_size(4 << 20);
    // Keeping memory resident pays only where the kernel says which pages were touched: without
    // the scan all of it is rewritten for each message, which is slower than unmapping.
    if PoolingAllocationConfig::is_pagemap_scan_available() && !swaps() {
        pool.pagemap_scan(Enabled::Yes);
        pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT);
        pool.table_keep_resident(TABLE_KEEP_RESIDENT);
    }
    pool
}

/// Whether the machine has swap space: the scan may overlook dirty pages that were swapped out.
fn swaps() -> bool {
    let table = Dir::open_ambient_dir("/proc", ambient_authority())
        .and_then(|proc| proc.read_to_string("swaps"));
    // Its first line is a heading. What cannot be read is taken for the worse case.
    table.map_or(true, |table| table.lines().count() > 1)
}

/// A thread that moves the engine's epoch on until it is dropped.
pub(super) struct Ticker {
    _stop: Sender<()>,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Ticker> {
        let (stop, stopped) = mpsc::channel();
        let engine = engine.clone();
        std::thread::Builder::new().name("sandbox-epoch".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        })?;
        Ok(Ticker { _stop: stop })
    }
}

/// How many ticks have passed, at the earliest, when `time` has.
pub(super) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX >> 1).max(1)
}
