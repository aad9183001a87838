//! Failures and what follows from them.

use serde::{Deserialize, Serialize};

/// Why a step could not go on, in the words of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// May succeed later.
    Transient(String),
    /// The other side said when to come back, in milliseconds.
    RetryAfter(u64, String),
    /// Never going to succeed.
    Permanent(String),
    /// The input does not fit the job type.
    InvalidInput(String),
}

/// Exponential back-off with full jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1. Default 5.
    pub max_attempts: u32,
    /// Longest wait before the second attempt, milliseconds. Default 1,000.
    pub base_ms: u64,
    /// Longest wait of all, milliseconds. Default 300,000.
    pub max_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 5, base_ms: 1_000, max_ms: 300_000 }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failed`-th failed attempt (from 1), milliseconds;
    /// `None` when no attempt is left. `random` is uniform in `0.0..1.0`.
    #[must_use]
    pub fn delay_ms(&self, failed: u32, random: f64) -> Option<u64> {
        if failed >= self.max_attempts {
            return None;
        }
        let ceiling = self
            .base_ms
            .saturating_mul(1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX))
            .min(self.max_ms);
        Some((ceiling as f64 * random) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_maximum() {
        let policy = RetryPolicy { max_attempts: 100, base_ms: 100, max_ms: 1_000 };
        let waits: Vec<_> = (1..7).map(|failed| policy.delay_ms(failed, 1.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000].map(Some));
        assert_eq!(policy.delay_ms(90, 1.0), Some(1_000));
    }

    #[test]
    fn no_wait_when_no_attempt_is_left() {
        assert_eq!(RetryPolicy { max_attempts: 3, ..RetryPolicy::default() }.delay_ms(3, 0.5), None);
    }
}
