//! Failures and what follows from them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// Kinds of failure that a policy may name: those after which a worker decides about another attempt.
pub const KINDS: [&str; 13] = [
    "transient",
    "retry-after",
    "permanent",
    "invalid-input",
    "guest-trap",
    "guest-exit",
    "out-of-memory",
    "stack-overflow",
    "step-timeout",
    "hard-limit",
    "oversized",
    "bad-value",
    "host-error",
];
/// Longest time that a policy may name: ten years, milliseconds. Catches other units; and scripts count in doubles.
pub const MS_MAX: u64 = 10 * 366 * 86_400_000;
/// Most attempts that a policy may allow.
pub const ATTEMPTS_MAX: u32 = 1_000;

/// When a failed job is tried again. By default exponential back-off with full jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
///
/// What is absent is as the policy below says: a job's lies over its type's, that over the one of all types, that
/// over the defaults here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Whether there is another attempt at all. Default: it depends on the kind of failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// Attempts in all, 1 to 1,000. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How the wait grows. Default exponential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Longest wait before the second attempt, milliseconds. Default 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ms: Option<u64>,
    /// Longest wait of all, milliseconds. Default 300,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
    /// The wait is random between 0 and its longest, so that jobs that failed together do not come back together.
    /// Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
    /// No attempt begins when the job is older than this, milliseconds since it was made. Default: no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    /// Longest wait that the other side may ask for with `retry-after`, milliseconds: a longer one is cut.
    /// Default: no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_max_ms: Option<u64>,
    /// What else holds for a kind of failure, one of [`KINDS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, RetryPolicy>,
}

impl RetryPolicy {
    /// This policy with another one laid over it. What the other says holds for all kinds, unless it says something
    /// else for one of them.
    #[must_use]
    pub fn with(&self, over: &Self) -> Self {
        let mut policy = self.clone();
        policy.take(over);
        for own in policy.kinds.values_mut() {
            own.take(over);
        }
        for (kind, over) in &over.kinds {
            policy.kinds.entry(kind.clone()).or_default().take(over);
        }
        policy
    }

    /// Everything but the kinds.
    fn take(&mut self, over: &Self) {
        self.retry = over.retry.or(self.retry);
        self.max_attempts = over.max_attempts.or(self.max_attempts);
        self.backoff = over.backoff.or(self.backoff);
        self.base_ms = over.base_ms.or(self.base_ms);
        self.max_ms = over.max_ms.or(self.max_ms);
        self.jitter = over.jitter.or(self.jitter);
        self.max_age_ms = over.max_age_ms.or(self.max_age_ms);
        self.retry_after_max_ms = over.retry_after_max_ms.or(self.retry_after_max_ms);
    }

    /// The policy for one kind of failure.
    #[must_use]
    pub fn of_kind(&self, kind: &str) -> Self {
        let mut policy = Self { kinds: BTreeMap::new(), ..self.clone() };
        if let Some(own) = self.kinds.get(kind) {
            policy.take(own);
        }
        policy
    }

    /// What cannot be meant: the place below this policy, such as `kinds/transient/max_attempts`, and what is wrong
    /// there.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.max_attempts.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            found.push(("max_attempts".to_owned(), format!("must be 1 to {ATTEMPTS_MAX}")));
        }
        for (name, time_ms) in [
            ("base_ms", self.base_ms),
            ("max_ms", self.max_ms),
            ("max_age_ms", self.max_age_ms),
            ("retry_after_max_ms", self.retry_after_max_ms),
        ] {
            if time_ms.is_some_and(|time_ms| time_ms > MS_MAX) {
                found.push((name.to_owned(), "must be at most ten years, in milliseconds".to_owned()));
            }
        }
        for (kind, own) in &self.kinds {
            if !KINDS.contains(&kind.as_str()) {
                let all = KINDS.join(", ");
                found
                    .push(("kinds".to_owned(), format!("there is no such kind of failure; there are {all}")));
            } else if !own.kinds.is_empty() {
                found.push((format!("kinds/{kind}/kinds"), "a kind has no kinds".to_owned()));
            } else {
                let below = own.mistakes().into_iter();
                found.extend(below.map(|(at, what)| (format!("kinds/{kind}/{at}"), what)));
            }
        }
        found
    }

    /// How long to wait after the `failed`-th failed attempt (from 1), milliseconds; `None` when no attempt is left.
    /// `asked_ms` is the wait that the other side asked for, `age_ms` the job's age, `random` uniform in `0.0..1.0`.
    #[must_use]
    pub fn delay_ms(&self, failed: u32, asked_ms: Option<u64>, age_ms: u64, random: f64) -> Option<u64> {
        if failed >= self.max_attempts.unwrap_or(5) {
            return None;
        }
        let factor = match self.backoff.unwrap_or_default() {
            Backoff::Exponential => 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX),
            Backoff::Linear => u64::from(failed),
            Backoff::Fixed => 1,
        };
        let base_ms = self.base_ms.unwrap_or(1_000);
        let longest = base_ms.saturating_mul(factor).min(self.max_ms.unwrap_or(300_000));
        let own = if self.jitter.unwrap_or(true) { (longest as f64 * random) as u64 } else { longest };
        let granted = asked_ms.map(|asked| asked.min(self.retry_after_max_ms.unwrap_or(u64::MAX)));
        let delay_ms = granted.unwrap_or(own);
        let too_late = self.max_age_ms.is_some_and(|max_ms| age_ms.saturating_add(delay_ms) > max_ms);
        (!too_late).then_some(delay_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(policy: &RetryPolicy) -> Vec<u64> {
        (1..7).filter_map(|failed| policy.delay_ms(failed, None, 0, 0.999_999)).collect()
    }

    fn policy(backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            max_attempts: Some(100),
            backoff: Some(backoff),
            base_ms: Some(100),
            max_ms: Some(1_000),
            jitter: Some(false),
            ..RetryPolicy::default()
        }
    }

    fn read(text: &str) -> RetryPolicy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_wait_grows_as_configured_up_to_its_maximum() {
        assert_eq!(waits(&policy(Backoff::Exponential)), [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(waits(&policy(Backoff::Linear)), [100, 200, 300, 400, 500, 600]);
        assert_eq!(waits(&policy(Backoff::Fixed)), [100; 6]);
        assert_eq!(policy(Backoff::Exponential).delay_ms(90, None, 0, 0.0), Some(1_000));
        assert_eq!(policy(Backoff::Linear).delay_ms(90, None, 0, 0.0), Some(1_000));
    }

    #[test]
    fn jitter_is_anything_up_to_the_longest_wait() {
        let policy = RetryPolicy { jitter: Some(true), ..policy(Backoff::Fixed) };
        assert_eq!(policy.delay_ms(1, None, 0, 0.0), Some(0));
        assert_eq!(policy.delay_ms(1, None, 0, 0.5), Some(50));
    }

    #[test]
    fn the_other_side_is_heard_within_a_bound() {
        assert_eq!(policy(Backoff::Fixed).delay_ms(1, Some(70_000), 0, 0.5), Some(70_000));
        let bounded = RetryPolicy { retry_after_max_ms: Some(60_000), ..policy(Backoff::Fixed) };
        assert_eq!(bounded.delay_ms(1, Some(70_000), 0, 0.5), Some(60_000));
        assert_eq!(bounded.delay_ms(1, Some(7_000), 0, 0.5), Some(7_000));
    }

    #[test]
    fn no_attempt_is_left_when_there_were_enough_or_the_job_is_too_old() {
        let few = RetryPolicy { max_attempts: Some(3), ..RetryPolicy::default() };
        assert_eq!(few.delay_ms(3, None, 0, 0.5), None);
        assert_eq!(RetryPolicy::default().delay_ms(5, None, 0, 0.5), None);
        let young = RetryPolicy { max_age_ms: Some(1_000), ..policy(Backoff::Fixed) };
        assert_eq!(young.delay_ms(1, None, 900, 0.5), Some(100));
        assert_eq!(young.delay_ms(1, None, 901, 0.5), None);
        assert_eq!(young.delay_ms(1, Some(5_000), 0, 0.5), None);
    }

    #[test]
    fn a_kind_of_failure_has_its_own_word() {
        let policy = read(
            r#"{"max_attempts":9,"base_ms":5,"kinds":{"guest-trap":{"retry":false},"transient":{"base_ms":7}}}"#,
        );
        let of = |kind| policy.of_kind(kind);
        assert_eq!((of("guest-trap").retry, of("guest-trap").max_attempts), (Some(false), Some(9)));
        assert_eq!((of("transient").retry, of("transient").base_ms), (None, Some(7)));
        assert_eq!(of("host-error").base_ms, Some(5));
    }

    #[test]
    fn the_later_word_counts_for_every_kind_that_it_names_or_leaves_out() {
        let below =
            read(r#"{"max_attempts":3,"base_ms":5,"kinds":{"transient":{"max_attempts":4,"base_ms":6}}}"#);
        let over = read(r#"{"max_attempts":8,"kinds":{"guest-trap":{"max_attempts":1}}}"#);
        let policy = below.with(&over);
        let of = |kind: &str| (policy.of_kind(kind).max_attempts, policy.of_kind(kind).base_ms);
        assert_eq!(of("host-error"), (Some(8), Some(5)));
        assert_eq!(of("transient"), (Some(8), Some(6)));
        assert_eq!(of("guest-trap"), (Some(1), Some(5)));
    }

    #[test]
    fn a_policy_is_read_from_what_is_named() {
        let policy = read(r#"{"backoff":"linear","jitter":false}"#);
        assert_eq!((policy.backoff, policy.jitter), (Some(Backoff::Linear), Some(false)));
        assert!(serde_json::from_str::<RetryPolicy>(r#"{"backoff":"magic"}"#).is_err());
        assert!(serde_json::from_str::<RetryPolicy>(r#"{"attempts":3}"#).is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let places = |text| read(text).mistakes().into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert!(places(r#"{"max_attempts":1000,"kinds":{"transient":{"retry":true}}}"#).is_empty());
        assert_eq!(places(r#"{"max_attempts":0}"#), ["max_attempts"]);
        assert_eq!(places(r#"{"max_age_ms":999999999999999}"#), ["max_age_ms"]);
        assert_eq!(places(r#"{"kinds":{"bad-luck":{}}}"#), ["kinds"]);
        assert_eq!(
            places(r#"{"kinds":{"transient":{"max_attempts":1001}}}"#),
            ["kinds/transient/max_attempts"]
        );
        assert_eq!(
            places(r#"{"kinds":{"transient":{"kinds":{"transient":{}}}}}"#),
            ["kinds/transient/kinds"]
        );
    }
}
