//! Who runs next, when a guest has run for a tick of the clock.
//!
//! A guest that goes on computing takes one turn of a tick after another. Between two turns of *any* guests of a
//! thread, everything else of that thread runs once: timers, sockets, short jobs. So their delay is one tick however
//! many guests compute. (If every guest just yielded, it would be one tick for each of them; and if they woke
//! themselves, which is what Wasmtime does by default, Tokio would run 61 turns before it looks at a socket.)
//!
//! The time a guest waits for its turn does not count against its limit: it is not slower for having neighbours.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// The turns of one instance. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns {
    gate: Gate,
    /// In the running call, nanoseconds.
    waited_ns: Arc<AtomicU64>,
}

/// Shared by all instances of an engine: a place for each thread that runs guests.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(threads: usize) -> Self {
        Self(Arc::new(Semaphore::new(threads.max(1))))
    }
}

impl Turns {
    pub(crate) fn new(gate: Gate) -> Self {
        Self { gate, waited_ns: Arc::default() }
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        self.waited_ns.store(0, Relaxed);
    }

    /// In the running call.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns.load(Relaxed))
    }

    /// Ends when it is this instance's turn.
    pub(crate) fn next(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Self { gate, waited_ns } = self.clone();
        Box::pin(async move {
            let from = Instant::now();
            // The gate is never closed. It is held until everything else has run once, not for the turn itself: a
            // guest that then waits in the host holds up nobody.
            let place = gate.0.acquire().await;
            tokio::task::yield_now().await;
            drop(place);
            let waited = u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX);
            waited_ns.fetch_add(waited, Relaxed);
        })
    }
}
