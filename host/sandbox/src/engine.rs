//! Wasmtime, set up once per process.
//!
//! Two engines with the same compiled code: one whose allocator keeps a pool of slots ready (a factor of five for
//! short jobs, DESIGN §7), one that asks the system for every instance. A plugin that does not fit into a slot, such
//! as an interpreter with very large tables, uses the second; so does everything where address space for the first
//! is missing.

use crate::{
    bindings::Task,
    keyvalue, llm,
    meter::Budget,
    services::{self, Offer, Services},
    sql,
    state::State,
    turns::Gate,
    wasi::Wasi,
};
use sha2::{Digest, Sha256};
use std::{
    hash::{Hash, Hasher},
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Duration,
};
use wasmtime::{
    Config, Enabled, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
    component::{HasSelf, Linker},
};
use wasmtime_wasi::p2::bindings::filesystem::types;
use wasmtime_wasi_config::WasiConfig;

/// What can be set.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Memory that all jobs of this process may use together, in bytes; a job that needs more waits.
    pub memory_budget_bytes: u64,
    /// Jobs that may have an instance at once.
    pub instances_max: u32,
    /// Keep slots ready for instances. Off where few jobs run, such as in a process that only checks plugins.
    pub pooling: bool,
}

/// Wasmtime, set up. Cheap to clone; the last clone ends the thread that interrupts guests.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) pooled: Option<Backend>,
    pub(crate) on_demand: Backend,
    pub(crate) budget: Arc<Budget>,
    pub(crate) hash: String,
    pub(crate) services: Services,
    gate: OnceLock<Gate>,
}

pub(crate) struct Backend {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Linker<State>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings do not suit this machine.
    #[error("WebAssembly cannot be run here: {0:#}")]
    Machine(wasmtime::Error),
    /// A capability cannot be made ready.
    #[error(transparent)]
    Offer(#[from] services::Error),
}

impl From<wasmtime::Error> for Error {
    fn from(error: wasmtime::Error) -> Self {
        Self::Machine(error)
    }
}

/// How often guests are interrupted, to let others run and to look at the clock.
const TICK: Duration = Duration::from_millis(10);
/// Native stack of a guest. Rust guests need little; interpreters nest deep.
const GUEST_STACK_BYTES: usize = 1 << 20;
/// Guest stack, and room for the host functions it calls.
const FIBER_STACK_BYTES: usize = 2 << 20;
/// Memory that a free slot keeps, to spare page faults to the next job. DESIGN §7: the measured optimum.
const KEPT_BYTES_MAX: usize = 4 << 20;
const KEPT_BYTES_MIN: usize = 64 << 10;
const KEPT_OF_TABLE_BYTES_MIN: usize = 4 << 10;
/// Free slots may keep this share of the budget.
const KEPT_SHARE: u64 = 4;
/// Table elements of a pooled module. Larger modules use the other engine.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Tables of a usual component: its own, and those of wit-component's shims.
const TABLES_PER_INSTANCE: u32 = 8;
/// Core instances of a component. Only a count: an interpreter is made of dozens of modules.
const CORE_INSTANCES_PER_INSTANCE: u32 = 256;

impl Engine {
    /// Sets Wasmtime up and starts the thread that interrupts guests every 10 ms. Nothing can be granted but
    /// files that are read.
    ///
    /// # Errors
    /// The machine does not allow even one instance.
    pub fn new(options: &EngineOptions) -> std::result::Result<Self, Error> {
        Self::offering(options, &Offer::default())
    }

    /// The same with capabilities to grant.
    ///
    /// # Errors
    /// The machine does not allow even one instance, or the offer cannot be made ready.
    pub fn offering(options: &EngineOptions, offer: &Offer) -> std::result::Result<Self, Error> {
        let services = Services::new(offer)?;
        let on_demand = Backend::new(&config(InstanceAllocationStrategy::OnDemand))?;
        let pooled = options.pooling.then(|| Backend::pooled(options)).flatten();
        let hash = hash(&on_demand.engine);
        let mut ticking = vec![on_demand.engine.weak()];
        ticking.extend(pooled.as_ref().map(|backend| backend.engine.weak()));
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || tick(&ticking))
            .map_err(|error| Error::Machine(error.into()))?;
        let budget = Arc::new(Budget::new(options.memory_budget_bytes));
        let inner = Inner { pooled, on_demand, budget, hash, services, gate: OnceLock::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether slots are kept ready.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        self.inner.pooled.is_some()
    }

    /// Memory that guests use now, in bytes.
    #[must_use]
    pub fn memory_used_bytes(&self) -> u64 {
        self.inner.budget.used()
    }
}

impl Inner {
    /// As wide as the runtime that runs the first guest has threads.
    pub(crate) fn gate(&self) -> Gate {
        let threads = || tokio::runtime::Handle::current().metrics().num_workers();
        self.gate.get_or_init(|| Gate::new(threads())).clone()
    }
}

impl Backend {
    fn new(config: &Config) -> Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // Where it writes, a quota is asked.
        linker.allow_shadowing(true);
        types::add_to_linker::<_, HasSelf<Wasi>>(&mut linker, State::wasi)?;
        linker.allow_shadowing(false);
        Task::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| {
            WasiConfig::new(&state.capabilities.config)
        })?;
        keyvalue::bindings::Imports::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        sql::bindings::Imports::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        llm::bindings::Imports::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        Ok(Self { engine, linker })
    }

    /// As many slots as there is address space for, up to the number wanted.
    fn pooled(options: &EngineOptions) -> Option<Self> {
        let mut slots = options.instances_max.max(1);
        loop {
            let strategy = InstanceAllocationStrategy::Pooling(pool(slots, options.memory_budget_bytes));
            match Self::new(&config(strategy)) {
                Ok(backend) => {
                    if slots < options.instances_max {
                        tracing::warn!(slots, wanted = options.instances_max, "address space is short");
                    }
                    return Some(backend);
                }
                Err(error) if slots == 1 => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "no pool of instances: short jobs will be slower"
                    );
                    return None;
                }
                Err(_) => slots /= 2,
            }
        }
    }
}

fn pool(slots: u32, budget_bytes: u64) -> PoolingAllocationConfig {
    let share = usize::try_from(budget_bytes / KEPT_SHARE / u64::from(slots)).unwrap_or(usize::MAX);
    // A kernel that names the pages which were written to (Linux 6.7) lets the allocator clean those alone. Without
    // it, everything that is kept is overwritten after every job.
    let (kept, kept_of_table) = if PoolingAllocationConfig::is_pagemap_scan_available() {
        (share.clamp(KEPT_BYTES_MIN, KEPT_BYTES_MAX), TABLE_ELEMENTS_MAX * size_of::<usize>())
    } else {
        (KEPT_BYTES_MIN, KEPT_OF_TABLE_BYTES_MIN)
    };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_INSTANCE))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(slots)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(kept)
        .table_keep_resident(kept_of_table)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Settings that change compiled code are the same whatever the allocator.
fn config(strategy: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(strategy)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_threads(false)
        .gc_support(false)
        .wasm_component_model(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(crate::fault::FRAMES_MAX))
        .memory_init_cow(true);
    config
}

/// Names the settings and the version of Wasmtime under which code was compiled.
fn hash(engine: &wasmtime::Engine) -> String {
    let mut digest = Digester(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    env!("CARGO_PKG_VERSION").hash(&mut digest);
    hex(&digest.0.finalize()[..8])
}

struct Digester(Sha256);

impl Hasher for Digester {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn tick(engines: &[EngineWeak]) {
    loop {
        std::thread::sleep(TICK);
        let mut alive = false;
        for engine in engines {
            if let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                alive = true;
            }
        }
        if !alive {
            return;
        }
    }
}
