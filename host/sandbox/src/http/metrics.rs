//! Requests that job types sent.

use super::Sent;
use prometheus::{HistogramOpts, HistogramVec, Registry};
use std::time::Duration;
use wasmtime_wasi_http::Error;

/// Upper bounds of the time until the head of an answer, seconds.
const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

pub(crate) struct Metrics {
    requests: HistogramVec,
}

impl Metrics {
    /// # Errors
    /// The registry has them already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = HistogramVec::new(
            HistogramOpts::new(
                "waymark_http_request_seconds",
                "Requests of guests until the head of the answer, by outcome: the class of the status, denied, \
                 timeout, or failed.",
            )
            .buckets(SECONDS.to_vec()),
            &["type", "outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { requests })
    }

    pub(super) fn sent(&self, job_type: &str, outcome: &str, took: Duration) {
        self.requests.with_label_values(&[job_type, outcome]).observe(took.as_secs_f64());
    }
}

/// The class of the status, or what went wrong.
pub(super) fn outcome(sent: &Result<Sent, Error>) -> &'static str {
    match sent {
        Ok((answer, _)) => match answer.status().as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "1xx",
        },
        Err(Error::HttpRequestDenied | Error::DestinationIpProhibited) => "denied",
        Err(Error::ConnectionTimeout | Error::ConnectionReadTimeout | Error::ConnectionLimitReached) => {
            "timeout"
        }
        Err(_) => "failed",
    }
}
