//! `worker`: how many jobs run at once, and how they are claimed.

use crate::api::submission::is_queue_pattern;
use serde::{Deserialize, Serialize};

/// The worker processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Worker processes; 0 serves the API only. Default 1.
    pub processes: u32,
    /// Jobs at once in one worker process, the most where `slots_min` is set. Default 64.
    pub slots: u32,
    /// Fewest jobs at once in one worker process: it begins with so many, and they follow what waits, for how long,
    /// and how busy the machine is. Default: none, there are always `slots`.
    pub slots_min: Option<u32>,
    /// Share of the machine's processors in use, above 0 up to 1, above which slots are taken away, down to
    /// `slots_min`; none is added above nine tenths of it. 1: processors do not matter. Default 0.9.
    pub slots_cpu_max: f64,
    /// The same for the memory that the host may use. Default 0.9.
    pub slots_memory_max: f64,
    /// Threads that run guests in one worker process; more than 1 suits long CPU-bound jobs. Default 1.
    pub threads: u32,
    /// Most jobs claimed in one call, 1 to 1,000. Default 200.
    pub batch: u32,
    /// A worker that has not answered for so long has lost its jobs, milliseconds. Default 15,000.
    pub lease_ms: u64,
    /// Time to finish the current steps when asked to stop, milliseconds. Default 20,000.
    pub drain_ms: u64,
    /// Linear memory of all jobs of one worker process, bytes; jobs wait above it. Default 4 GiB.
    pub memory_bytes: u64,
    /// Hosts that may die under a job between two commits before it fails as poisonous. Default 3.
    pub crashes_max: u32,
    /// Traps in a row, without a job that ended well between, that quarantine a plugin. Default 20.
    pub quarantine_traps: u32,
    /// Queues served: names, or patterns with `*`. Default: none, which serves all.
    pub queues: Vec<String>,
    /// Claim nothing until somebody resumes the host. Default false.
    pub start_paused: bool,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            processes: 1,
            slots: 64,
            slots_min: None,
            slots_cpu_max: 0.9,
            slots_memory_max: 0.9,
            threads: 1,
            batch: 200,
            lease_ms: 15_000,
            drain_ms: 20_000,
            memory_bytes: 4 << 30,
            crashes_max: 3,
            quarantine_traps: 20,
            queues: Vec::new(),
            start_paused: false,
        }
    }
}

impl Worker {
    /// # Errors
    /// A value is out of its bounds; the message names the key.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=1_000).contains(&self.batch), "worker.batch must be 1 to 1000");
        anyhow::ensure!((1..=10_000).contains(&self.slots), "worker.slots must be 1 to 10000");
        anyhow::ensure!(
            self.slots_min.is_none_or(|min| (1..=self.slots).contains(&min)),
            "worker.slots_min must be 1 to worker.slots"
        );
        for (name, share) in [("cpu", self.slots_cpu_max), ("memory", self.slots_memory_max)] {
            anyhow::ensure!(
                share > 0.0 && share <= 1.0,
                "worker.slots_{name}_max must be above 0, at most 1"
            );
        }
        anyhow::ensure!((1..=64).contains(&self.threads), "worker.threads must be 1 to 64");
        anyhow::ensure!(self.processes <= 256, "worker.processes must be at most 256");
        for name in &self.queues {
            anyhow::ensure!(
                is_queue_pattern(name),
                "worker.queues: {name:?} is neither a queue's name nor a pattern with *"
            );
        }
        anyhow::ensure!(self.lease_ms >= 500, "worker.lease_ms must be at least 500");
        Ok(())
    }
}
