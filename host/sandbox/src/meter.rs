//! Counts the memory of a job against its own limit and against the budget of the whole process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use wasmtime::{ResourceLimiter, Result};

/// Bytes of one table element in Wasmtime 48 (`ResourceLimiter::table_growing`: "a pointer's worth").
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// Memory that all jobs of a process share.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// The process has no memory left to give: the job waits, it does not fail.
#[derive(Debug, thiserror::Error)]
#[error("the memory budget of the host is used up")]
pub(crate) struct BudgetUsedUp;

/// The memory of one job.
#[derive(Debug)]
pub(crate) struct Meter {
    budget: Arc<Budget>,
    /// Of this job; never more than the whole budget, for then it would wait for ever.
    limit: u64,
    used: u64,
    /// Asked for last, to be given back if the system refuses it.
    last: u64,
    /// The guest was refused memory in the current call.
    pub(crate) refused: bool,
}

impl Meter {
    pub(crate) fn new(budget: Arc<Budget>, limit: u64) -> Self {
        let limit = limit.min(budget.limit);
        Self { budget, limit, used: 0, last: 0, refused: false }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// `Ok(false)`: beyond the job's own limit.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<bool, BudgetUsedUp> {
        if self.used.saturating_add(bytes) > self.limit {
            self.refused = true;
            return Ok(false);
        }
        if !self.budget.take(bytes) {
            return Err(BudgetUsedUp);
        }
        self.used += bytes;
        Ok(true)
    }

    pub(crate) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.used);
        self.used -= bytes;
        self.budget.give_back(bytes);
    }

    fn growing(&mut self, current: u64, desired: u64, maximum: Option<u64>) -> Result<bool> {
        self.last = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.refused = true;
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let granted = self.take(more)?;
        if granted {
            self.last = more;
        }
        Ok(granted)
    }

    fn failed(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.give_back(last);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.budget.give_back(self.used);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.growing(current as u64, desired as u64, maximum.map(|maximum| maximum as u64))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let bytes = |elements: usize| (elements as u64).saturating_mul(TABLE_ELEMENT_BYTES);
        self.growing(bytes(current), bytes(desired), maximum.map(bytes))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.failed();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_add_up() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut meter = Meter::new(budget.clone(), 200_000);
        assert!(meter.memory_growing(0, 131_072, None).unwrap());
        assert!(!meter.memory_growing(0, 131_072, None).unwrap(), "a second memory counts as well");
        assert!(meter.refused);
        assert!(meter.table_growing(0, 8_000, None).unwrap());
        assert!(!meter.table_growing(8_000, 16_000, None).unwrap());
        assert_eq!(meter.used(), 131_072 + 64_000);
        drop(meter);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_full_host_is_not_the_job_s_fault() {
        let budget = Arc::new(Budget::new(100_000));
        let mut first = Meter::new(budget.clone(), 1 << 30);
        assert_eq!(first.limit(), 100_000, "a job that needs more than the budget would wait for ever");
        assert!(first.memory_growing(0, 65_536, None).unwrap());
        let mut second = Meter::new(budget.clone(), 1 << 30);
        let error = second.memory_growing(0, 65_536, None).unwrap_err();
        assert!(error.is::<BudgetUsedUp>());
        assert!(!second.refused);
        first.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(budget.used(), 0, "what the system refused is given back");
    }
}
