//! Statements that job types ran, and the rows they read.

use super::bindings::query::Error;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// Upper bounds of the time of a statement until its first row, seconds.
const SECONDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

pub(crate) struct Metrics {
    statements: HistogramVec,
    rows: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// The registry has them already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let statements = HistogramVec::new(
            HistogramOpts::new(
                "waymark_sql_statement_seconds",
                "Statements of guests until they are ready to be read, by outcome.",
            )
            .buckets(SECONDS.to_vec()),
            &["type", "connection", "outcome"],
        )?;
        let rows =
            IntCounterVec::new(Opts::new("waymark_sql_rows_total", "Rows that guests read."), &["type"])?;
        registry.register(Box::new(statements.clone()))?;
        registry.register(Box::new(rows.clone()))?;
        Ok(Self { statements, rows })
    }

    pub(super) fn ran(&self, job_type: &str, connection: &str, error: Option<&Error>, took: Duration) {
        // The name is the guest's own where nothing is granted.
        let connection = if matches!(error, Some(Error::NotGranted(_))) { "" } else { connection };
        let outcome = error.map_or("done", kind);
        self.statements.with_label_values(&[job_type, connection, outcome]).observe(took.as_secs_f64());
    }

    pub(super) fn read(&self, job_type: &str, rows: usize) {
        self.rows.with_label_values(&[job_type]).inc_by(rows as u64);
    }
}

pub(super) fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotGranted(_) => "not-granted",
        Error::Denied(_) => "denied",
        Error::BadStatement(_) => "bad-statement",
        Error::TooMuch(_) => "too-much",
        Error::Unavailable(_) => "unavailable",
    }
}
