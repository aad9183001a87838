//! What language models were asked, and what that cost.

use super::{Answer, Cost, Error};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::time::Duration;

/// Upper bounds of the time of one request, seconds.
const SECONDS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

pub(crate) struct Metrics {
    calls: IntCounterVec,
    requests: HistogramVec,
    tokens: IntCounterVec,
    cost: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// The registry has them already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let requests = HistogramVec::new(
            HistogramOpts::new("waymark_llm_request_seconds", "Requests to language models, by outcome.")
                .buckets(SECONDS.to_vec()),
            &["provider", "outcome"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self {
            calls: counters(
                "waymark_llm_calls_total",
                "Questions of guests, by outcome: answered, repaired, cached, or the kind of error.",
                &["type", "outcome"],
            )?,
            requests,
            tokens: counters(
                "waymark_llm_tokens_total",
                "Tokens paid for, prompts and completions.",
                &["type", "provider", "kind"],
            )?,
            cost: counters(
                "waymark_llm_cost_micros_total",
                "What they cost, in millionths of the operator's currency.",
                &["type", "provider"],
            )?,
        })
    }

    pub(super) fn called(&self, job_type: &str, outcome: &str) {
        self.calls.with_label_values(&[job_type, outcome]).inc();
    }

    pub(super) fn asked(&self, provider: &str, outcome: &str, took: Duration) {
        self.requests.with_label_values(&[provider, outcome]).observe(took.as_secs_f64());
    }

    pub(super) fn spent(&self, job_type: &str, provider: &str, cost: Cost) {
        self.tokens.with_label_values(&[job_type, provider, "prompt"]).inc_by(cost.prompt_tokens);
        self.tokens.with_label_values(&[job_type, provider, "completion"]).inc_by(cost.completion_tokens);
        self.cost.with_label_values(&[job_type, provider]).inc_by(cost.micros);
    }
}

/// What became of a question: answered, repaired, cached, or the kind of error.
pub(super) fn outcome(answer: &Result<Answer, Error>) -> &'static str {
    match answer {
        Ok(Answer { cached: true, .. }) => "cached",
        Ok(Answer { repaired: true, .. }) => "repaired",
        Ok(_) => "answered",
        Err(Error::NotConfigured(_)) => "not-configured",
        Err(Error::BadRequest(_)) => "bad-request",
        Err(Error::OverBudget(_)) => "over-budget",
        Err(Error::BadAnswer(_)) => "bad-answer",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Limited(_)) => "limited",
        Err(Error::Unavailable(_)) => "unavailable",
    }
}
