//! Is the arm under trial worse than the one beside it? Counts go in, a finding with its figures comes out.
//!
//! Each guard is a one-sided test, and each looks at the counts of one step of one canary alone, so that what changes
//! for both arms with time (load, input) does not pass for a difference between them:
//!
//! * error rate: Fisher's exact test of the failed attempts;
//! * latency: the rank test of Mann and Whitney on running times, which are kept in buckets of a quarter of a power of
//!   two; the times of the baseline count as longer by `ratio`, so that what is tested is "slower by more than that";
//! * mismatches: the exact binomial test of "more than `at_most` of the compared results differ".
//!
//! Counts are looked at again and again, and every look could be wrong by chance. The probability `alpha` that a canary
//! without any fault is rolled back is therefore spent: evenly on the guards and steps, and within a step on its looks,
//! the k-th of which (from 0) gets the part 1 / ((k + 1) (k + 2)); these parts add up to one however many looks there
//! are. The sum of what all tests may be wrong by is at most `alpha`, whatever they have to do with one another. To
//! have few looks, the next one is taken when the sample has grown by half.

use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, ContinuousCDF as _, DiscreteCDF as _, Hypergeometric, Normal};
use std::collections::BTreeMap;

/// Buckets of running time for each doubling.
const PER_DOUBLING: f64 = 4.0;
/// Running times up to this, microseconds, are in the first bucket.
const SHORTEST_US: f64 = 16.0;
/// The last bucket: everything from about 70 minutes on.
pub const BUCKET_MAX: u8 = 112;

/// What guards a canary. `null` for one of them switches it off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Guards {
    /// More attempts fail. Default: on.
    pub error_rate: Option<ErrorRate>,
    /// Successful attempts run longer. Default: on.
    pub latency: Option<Latency>,
    /// Results of shadow jobs differ. Default: off.
    pub mismatch: Option<Mismatch>,
}

impl Default for Guards {
    fn default() -> Self {
        Self { error_rate: Some(ErrorRate::default()), latency: Some(Latency::default()), mismatch: None }
    }
}

/// Guard of the error rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorRate {
    /// Attempts of each arm before anything is said. Default 30.
    pub min_samples: u32,
    /// A smaller difference between the two rates is let pass however certain it is, 0 to 1. Default 0.005.
    pub at_least: f64,
}

impl Default for ErrorRate {
    fn default() -> Self {
        Self { min_samples: 30, at_least: 0.005 }
    }
}

/// Guard of the running time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// Successful attempts of each arm before anything is said. Default 30.
    pub min_samples: u32,
    /// How many times as long an attempt may take, 1 to 100; taken up to the next quarter of a power of two: 1.25 is
    /// 1.41. Default 1.25.
    pub ratio: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { min_samples: 30, ratio: 1.25 }
    }
}

/// Guard of shadow results.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mismatch {
    /// Compared pairs before anything is said. Default 30.
    pub min_samples: u32,
    /// Part of the pairs that may differ, 0 to 1. Default 0.01.
    pub at_most: f64,
}

impl Default for Mismatch {
    fn default() -> Self {
        Self { min_samples: 30, at_most: 0.01 }
    }
}

/// What was counted of one arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Attempts that ended.
    pub attempts: u64,
    /// Those that failed.
    pub errors: u64,
    /// Running time of the successful ones added up, microseconds.
    pub ran_us: u64,
    /// Length of their results added up, bytes.
    pub bytes: u64,
    /// How many of them ran how long, by [`bucket`].
    pub times: BTreeMap<u8, u64>,
}

/// What was counted in one step of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// By the name of the arm.
    pub arms: BTreeMap<String, Arm>,
    /// Pairs of a job and its shadow that were compared.
    pub compared: u64,
    /// Those that differ.
    pub mismatched: u64,
}

/// Why a canary is rolled back, in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `error_rate`, `latency` or `mismatch`.
    pub guard: String,
    /// One sentence with the figures.
    pub message: String,
    /// Probability of figures at least as bad where the arm under trial is not worse.
    pub p: f64,
    /// What it had to be below.
    pub p_max: f64,
}

/// The bucket of a running time, microseconds.
#[must_use]
pub fn bucket(us: u64) -> u8 {
    let doublings = (us.max(1) as f64 / SHORTEST_US).log2().max(0.0);
    (doublings * PER_DOUBLING).ceil().min(f64::from(BUCKET_MAX)) as u8
}

/// The longest running time of a bucket, microseconds.
#[must_use]
pub fn bucket_us(bucket: u8) -> u64 {
    (SHORTEST_US * (f64::from(bucket) / PER_DOUBLING).exp2()) as u64
}

impl Arm {
    /// Notes an attempt that succeeded.
    pub fn succeeded(&mut self, us: u64, bytes: u64) {
        self.attempts += 1;
        self.ran_us += us;
        self.bytes += bytes;
        *self.times.entry(bucket(us)).or_default() += 1;
    }

    /// Notes an attempt that failed.
    pub const fn failed(&mut self) {
        self.attempts += 1;
        self.errors += 1;
    }

    /// Part of the attempts that failed; `None`: there were none.
    #[must_use]
    pub fn error_rate(&self) -> Option<f64> {
        (self.attempts > 0).then(|| self.errors as f64 / self.attempts as f64)
    }

    /// Mean running time of the successful ones, microseconds.
    #[must_use]
    pub fn mean_us(&self) -> Option<u64> {
        self.ran_us.checked_div(self.successes())
    }

    /// Running time that this part of the successful ones did not pass, as exactly as the buckets are, microseconds.
    #[must_use]
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let wanted = (self.successes() as f64 * part).ceil() as u64;
        let mut seen = 0;
        self.times.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted.max(1)).then(|| bucket_us(*bucket))
        })
    }

    fn successes(&self) -> u64 {
        self.times.values().sum()
    }
}

/// The part of `alpha` that one look of one guard may be wrong by.
#[must_use]
pub fn spent(alpha: f64, guards: usize, steps: usize, look: u32) -> f64 {
    let look = f64::from(look);
    alpha / (guards.max(1) * steps.max(1)) as f64 / ((look + 1.0) * (look + 2.0))
}

impl Guards {
    /// How many are on.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.error_rate.is_some())
            + usize::from(self.latency.is_some())
            + usize::from(self.mismatch.is_some())
    }

    /// Is none on?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is wrong with them: a field and why.
    ///
    /// # Errors
    /// A figure is out of its bounds.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, why: &str| Err((field.to_owned(), why.to_owned()));
        if let Some(ErrorRate { min_samples, at_least }) = self.error_rate {
            if min_samples == 0 {
                return wrong("error_rate/min_samples", "must be at least 1");
            }
            if !(0.0..=1.0).contains(&at_least) {
                return wrong("error_rate/at_least", "must be 0 to 1");
            }
        }
        if let Some(Latency { min_samples, ratio }) = self.latency {
            if min_samples == 0 {
                return wrong("latency/min_samples", "must be at least 1");
            }
            if !(1.0..=100.0).contains(&ratio) {
                return wrong("latency/ratio", "must be 1 to 100");
            }
        }
        if let Some(Mismatch { min_samples, at_most }) = self.mismatch {
            if min_samples == 0 {
                return wrong("mismatch/min_samples", "must be at least 1");
            }
            if !(0.0..1.0).contains(&at_most) {
                return wrong("mismatch/at_most", "must be 0 to below 1");
            }
        }
        Ok(())
    }

    /// Attempts that both arms need before a step may end: the most that a guard of arms asks for.
    #[must_use]
    pub fn min_samples(&self) -> u64 {
        let errors = self.error_rate.map_or(0, |guard| guard.min_samples);
        u64::from(errors.max(self.latency.map_or(0, |guard| guard.min_samples)))
    }

    /// Pairs that must have been compared before a step may end.
    #[must_use]
    pub fn min_pairs(&self) -> u64 {
        self.mismatch.map_or(0, |guard| u64::from(guard.min_samples))
    }

    /// Looks at the counts of a step; `p_max` is what [`spent`] says. A guard whose sample is too small says nothing.
    #[must_use]
    pub fn look(&self, trial: &Arm, baseline: &Arm, counts: &Counts, p_max: f64) -> Option<Finding> {
        let found = [
            self.error_rate.and_then(|guard| guard.look(trial, baseline)),
            self.latency.and_then(|guard| guard.look(trial, baseline)),
            self.mismatch.and_then(|guard| guard.look(counts)),
        ];
        let worst = found.into_iter().flatten().filter(|(_, p, _)| *p < p_max);
        let (guard, p, message) = worst.min_by(|left, right| left.1.total_cmp(&right.1))?;
        Some(Finding { guard: guard.to_owned(), message, p, p_max })
    }
}

type Found = (&'static str, f64, String);

impl ErrorRate {
    fn look(self, trial: &Arm, baseline: &Arm) -> Option<Found> {
        let enough = u64::from(self.min_samples);
        if trial.attempts < enough || baseline.attempts < enough {
            return None;
        }
        let (rate, before) = (trial.error_rate()?, baseline.error_rate()?);
        if rate - before < self.at_least || rate <= before {
            return None;
        }
        let p = fisher(trial.errors, trial.attempts, baseline.errors, baseline.attempts)?;
        let message = format!(
            "{} of {} attempts failed ({:.1} %), and {} of {} beside them ({:.1} %)",
            trial.errors,
            trial.attempts,
            rate * 100.0,
            baseline.errors,
            baseline.attempts,
            before * 100.0
        );
        Some(("error_rate", p, message))
    }
}

impl Latency {
    fn look(self, trial: &Arm, baseline: &Arm) -> Option<Found> {
        let enough = u64::from(self.min_samples);
        if trial.successes() < enough || baseline.successes() < enough {
            return None;
        }
        let longer = (self.ratio.log2() * PER_DOUBLING).ceil() as u8;
        let p = mann_whitney(&trial.times, &baseline.times, longer)?;
        let ms = |us: Option<u64>| us.unwrap_or(0) as f64 / 1e3;
        let message = format!(
            "attempts ran {:.1} ms on average (95 % up to {:.1} ms), and {:.1} ms beside them (95 % up to {:.1} ms)",
            ms(trial.mean_us()),
            ms(trial.quantile_us(0.95)),
            ms(baseline.mean_us()),
            ms(baseline.quantile_us(0.95))
        );
        Some(("latency", p, message))
    }
}

impl Mismatch {
    fn look(self, counts: &Counts) -> Option<Found> {
        let Counts { compared, mismatched, .. } = *counts;
        if compared < u64::from(self.min_samples) || mismatched as f64 <= self.at_most * compared as f64 {
            return None;
        }
        let p = match self.at_most {
            // Where none may differ, one is enough.
            at_most if at_most <= 0.0 => 0.0,
            at_most => Binomial::new(at_most, compared).ok()?.sf(mismatched.checked_sub(1)?),
        };
        Some(("mismatch", p, format!("{mismatched} of {compared} results differ from those beside them")))
    }
}

/// Fisher's exact test, one-sided: the probability of so many errors among the first sample or more, where both have
/// the same rate.
fn fisher(errors: u64, sample: u64, other_errors: u64, other_sample: u64) -> Option<f64> {
    let below = errors.checked_sub(1)?;
    let distribution = Hypergeometric::new(sample + other_sample, errors + other_errors, sample).ok()?;
    Some(distribution.sf(below))
}

/// The rank test of Mann and Whitney, one-sided, normal approximation with corrections for ties and continuity: the
/// probability of ranks as high as those of `trial`, where it is not slower than `baseline` with `longer` added to
/// every bucket.
fn mann_whitney(trial: &BTreeMap<u8, u64>, baseline: &BTreeMap<u8, u64>, longer: u8) -> Option<f64> {
    let mut both: BTreeMap<u16, (f64, f64)> = BTreeMap::new();
    for (bucket, count) in trial {
        both.entry(u16::from(*bucket)).or_default().0 += *count as f64;
    }
    for (bucket, count) in baseline {
        // Times that fall off the upper end stay comparable: buckets are wider here than there are.
        both.entry(u16::from(*bucket) + u16::from(longer)).or_default().1 += *count as f64;
    }
    let (mut first, mut second, mut greater, mut ties) = (0.0, 0.0, 0.0, 0.0);
    for (mine, theirs) in both.values() {
        greater += mine * (second + theirs / 2.0);
        first += mine;
        second += theirs;
        let tied = mine + theirs;
        ties += tied.powi(3) - tied;
    }
    let all = first + second;
    if first < 1.0 || second < 1.0 || all < 2.0 {
        return None;
    }
    let variance = first * second / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)));
    if variance <= 0.0 {
        // All in one bucket: nothing differs.
        return Some(1.0);
    }
    let z = (greater - first * second / 2.0 - 0.5) / variance.sqrt();
    Some(Normal::new(0.0, 1.0).ok()?.sf(z))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(attempts: u64, errors: u64, us: u64) -> Arm {
        let mut arm = Arm::default();
        (0..attempts - errors).for_each(|index| arm.succeeded(us + index % 7, 10));
        (0..errors).for_each(|_| arm.failed());
        arm
    }

    #[test]
    fn fisher_agrees_with_a_table() {
        // The lady tasting tea: 3 of 4 right has 17/70, 4 of 4 has 1/70.
        assert!((fisher(3, 4, 1, 4).unwrap() - 17.0 / 70.0).abs() < 1e-9);
        assert!((fisher(4, 4, 0, 4).unwrap() - 1.0 / 70.0).abs() < 1e-9);
    }

    #[test]
    fn ranks_agree_with_a_known_example() {
        // Two samples of 10 without ties, the first wholly above the second: U = 100, z = (100 - 50 - 0.5) / 13.23.
        let high = (10..20).map(|bucket| (bucket, 1)).collect();
        let low = (0..10).map(|bucket| (bucket, 1)).collect();
        let p = mann_whitney(&high, &low, 0).unwrap();
        assert!((p - 9.13e-5).abs() < 2e-6, "{p}");
        assert!(mann_whitney(&low, &high, 0).unwrap() > 0.999);
        let one = BTreeMap::from([(5, 1_000)]);
        assert!((mann_whitney(&one, &one, 0).unwrap() - 1.0).abs() < 1e-9, "all alike");
        assert!(mann_whitney(&one, &BTreeMap::new(), 0).is_none());
    }

    #[test]
    fn buckets_hold_what_they_say() {
        for us in [0, 1, 16, 17, 100, 1_000, 123_456, 60_000_000, u64::MAX] {
            let bucket = bucket(us);
            assert!(bucket <= BUCKET_MAX);
            assert!(us <= 16 || bucket == BUCKET_MAX || bucket_us(bucket) + 1 >= us, "{us}");
            assert!(bucket == 0 || bucket_us(bucket - 1) < us, "{us}");
        }
        assert_eq!(arm(100, 0, 1_000).quantile_us(0.95), Some(bucket_us(bucket(1_000))));
        assert_eq!(Arm::default().quantile_us(0.5), None);
    }

    #[test]
    fn looks_spend_no_more_than_alpha() {
        let all: f64 = (0..10_000).map(|look| spent(0.01, 2, 4, look)).sum::<f64>() * 8.0;
        assert!(all <= 0.01 && all > 0.0099, "{all}");
    }

    #[test]
    fn a_small_sample_says_nothing() {
        let guards = Guards::default();
        let look = |trial: &Arm, baseline: &Arm| guards.look(trial, baseline, &Counts::default(), 0.5);
        assert_eq!(look(&arm(29, 29, 1_000), &arm(1_000, 0, 1_000)), None);
        assert_eq!(look(&arm(1_000, 999, 1_000), &arm(29, 0, 1_000)), None);
        assert!(look(&arm(30, 29, 1_000), &arm(30, 0, 1_000)).is_some());
    }

    #[test]
    fn each_guard_finds_its_own() {
        let (guards, none) = (Guards::default(), Counts::default());
        let found = |trial: &Arm, baseline: &Arm| guards.look(trial, baseline, &none, 1e-4);
        let good = arm(900, 0, 1_000);
        assert_eq!(found(&arm(100, 0, 1_000), &good), None);
        assert_eq!(found(&arm(100, 6, 1_000), &good).unwrap().guard, "error_rate");
        assert_eq!(found(&arm(100, 0, 2_000), &good).unwrap().guard, "latency");
        assert_eq!(found(&arm(100, 0, 1_200), &good), None, "within the ratio");
        assert_eq!(found(&arm(100, 0, 500), &good), None, "faster is no fault");
        assert_eq!(found(&good, &arm(100, 6, 1_000)), None, "better is no fault");
        let guards = Guards { mismatch: Some(Mismatch::default()), ..Guards::default() };
        let counts = |mismatched| Counts { compared: 100, mismatched, ..Counts::default() };
        assert_eq!(guards.look(&good, &good, &counts(2), 1e-4), None);
        assert_eq!(guards.look(&good, &good, &counts(10), 1e-4).unwrap().guard, "mismatch");
    }

    #[test]
    fn a_certain_but_tiny_difference_is_let_pass() {
        let guards = Guards::default();
        let (trial, baseline) = (arm(1_000_000, 3_000, 1_000), arm(1_000_000, 1_000, 1_000));
        assert_eq!(guards.look(&trial, &baseline, &Counts::default(), 1e-4), None);
    }
}
