//! `retention`: how long what has ended is kept.

use super::Config;
use serde::{Deserialize, Serialize};

/// How long ended jobs are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Succeeded jobs, milliseconds. Default one day.
    pub succeeded_ms: u64,
    /// Failed jobs, milliseconds. Default seven days.
    pub failed_ms: u64,
    /// Cancelled jobs, milliseconds. Default one day.
    pub cancelled_ms: u64,
    /// Checkpoints since the last write, milliseconds. Default one day.
    pub checkpoint_ms: u64,
    /// Checkpoints kept per job. Default 5.
    pub checkpoints: u32,
    /// Log lines kept per job. Default 1,000.
    pub log_lines: u32,
    /// Results and output records of ended jobs, milliseconds. Default: as long as their job.
    pub results_ms: Option<u64>,
    /// Groups of failures since the last one, milliseconds. Default 30 days.
    pub errors_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            succeeded_ms: DAY_MS,
            failed_ms: 7 * DAY_MS,
            cancelled_ms: DAY_MS,
            checkpoint_ms: DAY_MS,
            checkpoints: 5,
            log_lines: 1_000,
            results_ms: None,
            errors_ms: 30 * DAY_MS,
        }
    }
}

/// How long ended jobs of one type are kept; what is absent is taken from `retention`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeRetention {
    /// See [`Retention::succeeded_ms`].
    pub succeeded_ms: Option<u64>,
    /// See [`Retention::failed_ms`].
    pub failed_ms: Option<u64>,
    /// See [`Retention::cancelled_ms`].
    pub cancelled_ms: Option<u64>,
    /// See [`Retention::results_ms`].
    pub results_ms: Option<u64>,
}

impl Config {
    /// How long ended jobs of a type are kept.
    #[must_use]
    pub fn retention_of(&self, job_type: &str) -> waymark_store::Retention {
        let own = self.plugins.get(job_type).map(|own| own.retention).unwrap_or_default();
        waymark_store::Retention {
            succeeded_ms: own.succeeded_ms.unwrap_or(self.retention.succeeded_ms),
            failed_ms: own.failed_ms.unwrap_or(self.retention.failed_ms),
            cancelled_ms: own.cancelled_ms.unwrap_or(self.retention.cancelled_ms),
            results_ms: own.results_ms.or(self.retention.results_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn a_type_keeps_its_jobs_as_long_as_it_says() {
        let text =
            "[retention]\nfailed_ms = 9\n[plugins.x]\nretention = { succeeded_ms = 5, results_ms = 2 }\n";
        let config = load(text).unwrap();
        let own = config.retention_of("x");
        assert_eq!((own.succeeded_ms, own.failed_ms, own.results_ms), (5, 9, Some(2)));
        assert_eq!(config.retention_of("y").results_ms, None);
    }
}
