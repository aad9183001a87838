//! How a job leaves its worker without having ended its step: given back, failed, or out of time.

use super::{
    Job, Stop,
    failure::{classify, is_said_by_guest},
};
use crate::{
    redaction::hide_error,
    worker::{protocol::Report, shared::Version},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::oneshot;
use waymark_job::{JobError, RetryPolicy, State, route::compare::Outcome};
use waymark_sandbox::Fault;
use waymark_store::{CommitAnswer, Then};

/// Kind of the error of a job whose version was withdrawn.
const WITHDRAWN: &str = "version-withdrawn";
/// When a job comes back that the host had no memory for in the middle of a step.
const BUSY_RETRY: Duration = Duration::from_secs(1);

impl Job<'_> {
    /// Writes why the job left, where there is anything to write.
    pub(super) async fn stop(&mut self, stop: Stop) {
        let then = match stop {
            Stop::Gone => {
                self.trace.taken_away();
                self.shared.leave(&self.id, self.running);
                return;
            }
            Stop::Paused => Then::PausedAsAsked,
            Stop::Release(pin) => Then::Release { pin },
            // It waits for memory, which costs no attempt.
            Stop::Fault(Fault::Busy) => Then::Sleep { delay_ms: BUSY_RETRY.as_millis() as u64 },
            Stop::Asleep(delay) => Then::Sleep { delay_ms: delay.as_millis() as u64 },
            Stop::Expired => return self.start_over().await,
            Stop::Parked(message) => {
                let mut record = self.base.clone();
                record.error = Some(JobError { kind: WITHDRAWN.to_owned(), message, trace: None });
                let commit = self.commit_of(record, Then::Paused, None, Vec::new(), Vec::new());
                return self.send_last(commit);
            }
            Stop::Fault(fault) => {
                self.flush_logs().await;
                return self.fail(fault).await;
            }
        };
        let commit = self.commit_of(self.base.clone(), then, None, Vec::new(), Vec::new());
        self.send_last(commit);
    }

    async fn fail(&mut self, fault: Fault) {
        let (mut error, retry_after, retries) = classify(fault);
        hide_error(&self.mask, &mut error);
        // What the host did wrong says nothing about who ran the job.
        if error.kind != "host-error" {
            self.count(None);
        }
        let against = |_: &&Arc<Version>| error.trace.is_some() || !is_said_by_guest(&error.kind);
        if let Some(version) = self.version.as_ref().filter(against).filter(|_| self.spec.shadow.is_none()) {
            let (name, digest) = (&self.spec.job_type, version.plugin.digest());
            self.shared.metrics.traps.with_label_values(&[name.as_str(), error.kind.as_str()]).inc();
            version.suspect.store(true, Relaxed);
            self.shared.report(Report::Trap {
                name: name.clone(),
                digest: digest.to_owned(),
                kind: error.kind.clone(),
            });
        }
        tracing::info!(
            job_id = %self.id,
            correlation_id = self.spec.correlation_id.as_deref().unwrap_or_default(),
            kind = error.kind,
            message = error.message,
            "an attempt failed"
        );
        let mut record = self.base.clone();
        let mut policy = self.policy.retry.clone();
        if let Some(own) = &self.spec.retry {
            policy = policy.with(own);
        }
        if self.spec.max_attempts.is_some() {
            let own = RetryPolicy { max_attempts: self.spec.max_attempts, ..RetryPolicy::default() };
            policy = policy.with(&own);
        }
        let policy = policy.of_kind(&error.kind);
        record.attempt_failed(error, self.claim.now_ms());
        let age_ms = self.claim.now_ms().saturating_sub(self.id.created_ms());
        let delay_ms = policy
            .retry
            .unwrap_or(retries)
            .then(|| policy.delay_ms(record.attempt, retry_after, age_ms, uniform()))
            .flatten();
        let then = match delay_ms {
            Some(delay_ms) => Then::Retry { delay_ms },
            None => {
                record.ended_ms = Some(self.claim.now_ms());
                Then::Failed
            }
        };
        if then == Then::Failed {
            let kind = record.error.as_ref().map(|error| error.kind.clone());
            self.mirror(|| Outcome::Failed(kind.unwrap_or_default())).await;
        }
        let commit = self.commit_of(record, then, None, Vec::new(), Vec::new());
        self.send_last(commit);
    }

    /// The job's checkpoint expired: it begins again, in a new run, and its log says so.
    async fn start_over(&mut self) {
        let line = serde_json::json!({
            "at": self.claim.now_ms(), "level": "warn",
            "message": "the checkpoint expired: the job restarts from the beginning", "fields": {},
        });
        self.shared.logs.say(self.id, line.to_string());
        let (reply, answer) = oneshot::channel();
        let commit = self.commit_of(self.base.clone(), Then::Paused, None, Vec::new(), Vec::new());
        let item = self.item(commit, Some(reply));
        self.shared.commit(item);
        let paused = matches!(answer.await, Ok(CommitAnswer::Done(State::Paused) | CommitAnswer::Already));
        self.shared.leave(&self.id, self.running);
        if paused
            && let Err(error) = self.shared.store.control(&self.id, waymark_job::Control::Restart, None).await
        {
            tracing::error!(job_id = %self.id, %error, "a job whose checkpoint expired stays paused: restart it");
        }
    }

    /// A job ended well: what a trap had said of its plugin is taken back.
    pub(super) fn recovered(&self) {
        let Some(version) = &self.version else { return };
        if version.suspect.load(Relaxed) && version.suspect.swap(false, Relaxed) {
            self.shared.report(Report::Recovered {
                name: self.spec.job_type.clone(),
                digest: version.plugin.digest().to_owned(),
            });
        }
    }
}

/// Uniform in `0.0..1.0`.
fn uniform() -> f64 {
    let mut random = [0; 4];
    // Without randomness the longest wait is the safe one.
    match getrandom::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.999,
    }
}
