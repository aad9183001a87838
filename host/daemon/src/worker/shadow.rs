//! Copies of jobs, which run on another version without effects, and what became of them beside the jobs.
//!
//! A copy is made just before its job ends, so that nobody waits for it and it has an end to be compared with; its id
//! follows from the job's, so that a job which is run again after a crash has one copy all the same. It is tried once.
//! A job that spawned children is not copied: its copy could not spawn them.

use super::run::Job;
use std::time::Duration;
use waymark_job::{
    JobId, Spec, State,
    route::{ShadowOf, Stored, compare::Outcome},
};
use waymark_store::{Mismatch, NewJob, View};

/// The tag of copies.
const TAG: &str = "shadow";
/// Longest wait of a job for its copy to be made: a job does not fail for want of one.
const MAKE_MAX: Duration = Duration::from_secs(2);
/// How often a copy that ended first looks whether its job has ended by now, and how often at most.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOKS_MAX: u32 = 25;

impl Job<'_> {
    /// Makes a copy of the job, where its route asks for one.
    pub(super) async fn copy(&self, stored: &Stored) {
        let Some((_, target)) = stored.shadows(&self.spec.job_type, self.id.as_str()) else { return };
        let Some(digest) = target.digest.clone().filter(|_| self.base.children.is_empty()) else { return };
        let run = self.base.run;
        let spec = Spec {
            job_type: self.spec.job_type.clone(),
            queue: self.spec.queue.clone(),
            input: self.spec.input.clone(),
            metadata: self.spec.metadata.clone(),
            tags: vec![TAG.to_owned()],
            correlation_id: Some(self.id.to_string()),
            max_attempts: Some(1),
            soft_limit_ms: self.spec.soft_limit_ms,
            hard_limit_ms: self.spec.hard_limit_ms,
            shadow: Some(Box::new(ShadowOf { job: self.id, run, digest })),
            ..Spec::default()
        };
        // No step has the number 0, so no child has this id.
        let id = JobId::child(&self.id, run, 0, 0, self.id.created_ms());
        let job = NewJob { id: Some(id), spec, ..NewJob::default() };
        match tokio::time::timeout(MAKE_MAX, self.shared.store.create(vec![job])).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(job_id = %self.id, %error, "no shadow job was made"),
            Err(_) => tracing::warn!(job_id = %self.id, "no shadow job was made in time"),
        }
    }

    /// Compares the end of a copy with that of its job, and counts and keeps what differs.
    pub(super) async fn compare(&self, of: &ShadowOf, right: Outcome) {
        let Some(stored) = self.shared.routes.get(&self.spec.job_type) else { return };
        let Some(rule) = stored.route.shadow.as_ref().map(|shadow| &shadow.compare) else { return };
        let Some(left) = self.end_of(of).await else { return };
        let differences = rule.differences(&left, &right);
        self.shared.routes.compared(&self.spec.job_type, stored.epoch, !differences.is_empty());
        if differences.is_empty() {
            return;
        }
        let mismatch = Mismatch {
            at_ms: self.claim.now_ms(),
            job: of.job,
            shadow: self.id,
            left: Some(left),
            right: Some(right),
            differences,
        };
        if let Err(error) = self.shared.store.keep_mismatch(&self.spec.job_type, mismatch).await {
            tracing::warn!(job_id = %self.id, %error, "a differing result was counted and not kept");
        }
    }

    /// How the job ended; `None`: it has not, or it was cancelled or restarted, or is gone.
    async fn end_of(&self, of: &ShadowOf) -> Option<Outcome> {
        for _ in 0..LOOKS_MAX {
            let view = match self.shared.store.views(of.job.partition(), &[of.job]).await {
                Ok(mut views) => views.pop()?,
                Err(error) => {
                    tracing::warn!(job_id = %self.id, %error, "a copy is not compared with its job");
                    return None;
                }
            };
            if view.record.run != of.run {
                return None;
            }
            if view.state.is_ended() {
                return outcome(view);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        None
    }
}

fn outcome(view: View) -> Option<Outcome> {
    match view.state {
        State::Succeeded if view.result_error.is_none() => {
            let text = view.result.as_deref().unwrap_or("null");
            Some(Outcome::Succeeded(serde_json::from_str(text).ok()?))
        }
        State::Failed => Some(Outcome::Failed(view.record.error.map(|error| error.kind).unwrap_or_default())),
        _ => None,
    }
}
