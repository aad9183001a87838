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

/// How the wait grows from attempt to attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// It doubles.
    #[default]
    Exponential,
    /// It grows by the first wait.
    Linear,
    /// It stays.
    Fixed,
}

/// When a failed job is tried again. By default exponential back-off with full jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1. Default 5.
    pub max_attempts: u32,
    /// How the wait grows. Default exponential.
    pub backoff: Backoff,
    /// Longest wait before the second attempt, milliseconds. Default 1,000.
    pub base_ms: u64,
    /// Longest wait of all, milliseconds. Default 300,000.
    pub max_ms: u64,
    /// The wait is random between 0 and its longest, so that jobs that failed together do not come back together.
    /// Default true.
    pub jitter: bool,
    /// No attempt begins when the job is older than this, milliseconds since it was made. Default: no such limit.
    pub max_age_ms: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff: Backoff::default(),
            base_ms: 1_000,
            max_ms: 300_000,
            jitter: true,
            max_age_ms: None,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failed`-th failed attempt (from 1), milliseconds; `None` when no attempt is left.
    /// `asked_ms` is the wait that the other side asked for, `age_ms` the job's age, `random` uniform in `0.0..1.0`.
    #[must_use]
    pub fn delay_ms(&self, failed: u32, asked_ms: Option<u64>, age_ms: u64, random: f64) -> Option<u64> {
        if failed >= self.max_attempts {
            return None;
        }
        let factor = match self.backoff {
            Backoff::Exponential => 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX),
            Backoff::Linear => u64::from(failed),
            Backoff::Fixed => 1,
        };
        let longest = self.base_ms.saturating_mul(factor).min(self.max_ms);
        let own = if self.jitter { (longest as f64 * random) as u64 } else { longest };
        let delay_ms = asked_ms.unwrap_or(own);
        let too_late = self.max_age_ms.is_some_and(|max_ms| age_ms.saturating_add(delay_ms) > max_ms);
        (!too_late).then_some(delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(policy: RetryPolicy) -> Vec<u64> {
        (1..7).filter_map(|failed| policy.delay_ms(failed, None, 0, 0.999_999)).collect()
    }

    fn policy(backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            max_attempts: 100,
            backoff,
            base_ms: 100,
            max_ms: 1_000,
            jitter: false,
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn the_wait_grows_as_configured_up_to_its_maximum() {
        assert_eq!(waits(policy(Backoff::Exponential)), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(waits(policy(Backoff::Linear)), [100, 200, 300, 400, 500, 600]);
        assert_eq!(waits(policy(Backoff::Fixed)), [100; 6]);
        assert_eq!(policy(Backoff::Exponential).delay_ms(90, None, 0, 0.0), Some(1_000));
        assert_eq!(policy(Backoff::Linear).delay_ms(90, None, 0, 0.0), Some(1_000));
    }

    #[test]
    fn jitter_is_anything_up_to_the_longest_wait() {
        let policy = RetryPolicy { jitter: true, ..policy(Backoff::Fixed) };
        assert_eq!(policy.delay_ms(1, None, 0, 0.0), Some(0));
        assert_eq!(policy.delay_ms(1, None, 0, 0.5), Some(50));
    }

    #[test]
    fn the_other_side_is_heard() {
        assert_eq!(policy(Backoff::Fixed).delay_ms(1, Some(70_000), 0, 0.5), Some(70_000));
    }

    #[test]
    fn no_attempt_is_left_when_there_were_enough_or_the_job_is_too_old() {
        let few = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        assert_eq!(few.delay_ms(3, None, 0, 0.5), None);
        let young = RetryPolicy { max_age_ms: Some(1_000), ..policy(Backoff::Fixed) };
        assert_eq!(young.delay_ms(1, None, 900, 0.5), Some(100));
        assert_eq!(young.delay_ms(1, None, 901, 0.5), None);
        assert_eq!(young.delay_ms(1, Some(5_000), 0, 0.5), None);
    }

    #[test]
    fn a_policy_is_read_from_what_is_named() {
        let policy: RetryPolicy = serde_json::from_str(r#"{"backoff":"linear","jitter":false}"#).unwrap();
        assert_eq!((policy.backoff, policy.jitter, policy.max_attempts), (Backoff::Linear, false, 5));
        assert!(serde_json::from_str::<RetryPolicy>(r#"{"backoff":"magic"}"#).is_err());
    }
}
