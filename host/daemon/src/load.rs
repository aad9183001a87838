//! How busy this machine and this host's workers are.
//!
//! What counts is what the host may use: of the machine or, in a container, of its control group.

use serde::Serialize;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System,
};

/// What was seen since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Load {
    /// Share of all processors of the machine that is busy, 0 to 1.
    pub cpu: f64,
    /// Share of the processors allowed to this host that its workers use, 0 to 1.
    pub workers_cpu: f64,
    /// Share of the memory allowed to this host that is in use, 0 to 1.
    pub memory: f64,
    /// Memory of its workers, bytes.
    pub workers_memory_bytes: u64,
}

/// Looks at the machine.
pub struct Machine {
    system: System,
    processors: f64,
}

impl Machine {
    /// A first look; shares of time are known from the second one on.
    #[must_use]
    pub fn new() -> Self {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_cpu_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { system: System::new_with_specifics(what), processors: processors as f64 }
    }

    /// What happened since the last look, with the workers of these process ids.
    pub fn look(&mut self, workers: &[u32]) -> Load {
        let pids: Vec<_> = workers.iter().copied().map(Pid::from_u32).collect();
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&pids),
            true,
            ProcessRefreshKind::nothing().with_cpu().with_memory(),
        );
        let (used, total) = match self.system.cgroup_limits() {
            Some(limits) => (limits.total_memory.saturating_sub(limits.free_memory), limits.total_memory),
            None => (self.system.used_memory(), self.system.total_memory()),
        };
        let processes = pids.iter().filter_map(|pid| self.system.process(*pid));
        let (percent, workers_memory_bytes) = processes
            .fold((0.0, 0), |(cpu, bytes), one| (cpu + f64::from(one.cpu_usage()), bytes + one.memory()));
        let share = |value: f64| (value.clamp(0.0, 1.0) * 1e3).round() / 1e3;
        Load {
            cpu: share(f64::from(self.system.global_cpu_usage()) / 100.0),
            workers_cpu: share(percent / 100.0 / self.processors),
            memory: share(used as f64 / total.max(1) as f64),
            workers_memory_bytes,
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}
