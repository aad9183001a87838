//! What is kept of a job: the [`Spec`] that never changes, and the [`Record`] that does.
//!
//! JSON values travel as text: neither the store nor the worker has a reason to look inside.
//! The scripts of the store read both as MessagePack maps; the short field names are theirs.

use crate::{
    JobId, RetryPolicy, Trace,
    route::{Routed, ShadowOf},
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Lowest and highest priority; 9 is served first.
pub const PRIORITY_MAX: u8 = 9;

/// What the caller asked for. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Job type: 1 to 64 of a-z, 0-9, '_' and '-'.
    #[serde(rename = "t")]
    pub job_type: String,
    /// Queue; empty means the job type's own.
    #[serde(rename = "q", default, skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// 0 to 9, 9 first.
    #[serde(rename = "p", default, skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// Input, JSON text.
    #[serde(rename = "i")]
    pub input: String,
    /// Free metadata of the caller, a JSON object as text.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Labels for filtering.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The caller's identifier for a larger whole.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// At most one job with this key is not ended.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// When the unique key is let go before the job ends.
    #[serde(rename = "um", default, skip_serializing_if = "Option::is_none")]
    pub unique_until: Option<UniqueUntil>,
    /// The unique key holds for so many milliseconds from the creation on, whatever becomes of the job.
    #[serde(rename = "ut", default, skip_serializing_if = "Option::is_none")]
    pub unique_for_ms: Option<u64>,
    /// Flow key, as [`crate::flow::encode_key`] writes it.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it counts for in limits; `None` is 1.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Attempts in all; `None`: the job type's.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// What this job says about retries beyond its type; `None`: nothing.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<RetryPolicy>>,
    /// Soft limit of running time, milliseconds.
    #[serde(rename = "sl", default, skip_serializing_if = "Option::is_none")]
    pub soft_limit_ms: Option<u64>,
    /// Hard limit of running time, milliseconds.
    #[serde(rename = "hl", default, skip_serializing_if = "Option::is_none")]
    pub hard_limit_ms: Option<u64>,
    /// The job that spawned this one.
    #[serde(rename = "pa", default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The ended job that this one was made from.
    #[serde(rename = "ro", default, skip_serializing_if = "Option::is_none")]
    pub replay_of: Option<JobId>,
    /// The schedule that made it.
    #[serde(rename = "sc", default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Firing>,
    /// Who is told of the job's end.
    #[serde(rename = "wh", default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// The span that asked for it.
    #[serde(rename = "tr", default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// The job that this one is a copy of, which runs without effects.
    #[serde(rename = "sh", default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<ShadowOf>>,
    /// What must be known of a task that came from Celery to tell its callers, JSON text; the daemon's `celery` module
    /// writes and reads it.
    #[serde(rename = "ce", default, skip_serializing_if = "Option::is_none")]
    pub celery: Option<String>,
    /// Its callers are told when it begins, too.
    #[serde(rename = "cb", default, skip_serializing_if = "std::ops::Not::not")]
    pub celery_begin: bool,
    /// Never started after this time, Unix milliseconds.
    #[serde(rename = "ex", default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// Somebody who is told of a job's end over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The caller's address; `None`: that of the configured endpoint.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of a configured endpoint, whose secret signs.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Letters of the ends that are told.
    pub on: String,
}

impl Webhook {
    /// The job type that tells.
    pub const JOB_TYPE: &str = "waymark.webhook";

    /// Was it asked for with the job, and not by the configuration?
    #[must_use]
    pub fn is_callers(&self) -> bool {
        self.url.is_some()
    }
}

/// What a schedule made a job for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// Name of the schedule.
    #[serde(rename = "n")]
    pub name: String,
    /// The planned time, Unix milliseconds.
    #[serde(rename = "at")]
    pub planned_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// When a unique key is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UniqueUntil {
    /// With the first claim of the job.
    #[serde(rename = "s")]
    Started,
}

impl Spec {
    /// The lane that the job stands in: `queue`, or `queue/key`.
    #[must_use]
    pub fn lane(&self) -> Cow<'_, str> {
        match &self.key {
            None => Cow::Borrowed(self.queue()),
            Some(key) => Cow::Owned(format!("{}/{key}", self.queue())),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn queue(&self) -> &str {
        if self.queue.is_empty() { &self.job_type } else { &self.queue }
    }
}

/// Units of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished.
    pub current: u64,
    /// In all, where known.
    #[serde(default)]
    pub total: Option<u64>,
    /// One line for a person.
    #[serde(default)]
    pub message: Option<String>,
}

/// A task that workers of Celery were sent in place of an attempt, kept with the job until it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentTask {
    /// Its id, which follows from job, run and attempt.
    #[serde(rename = "i")]
    pub id: String,
    /// When it was sent, Unix milliseconds, less what the job had run for before.
    #[serde(rename = "t")]
    pub since_ms: u64,
    /// Where Celery's workers hear of it when the job is cancelled.
    #[serde(rename = "c")]
    pub channel: String,
    /// What they are told then.
    #[serde(rename = "v")]
    pub revoke: String,
}

/// Why a job failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Stable code, such as `guest-trap`, `invalid-input`, `memory-limit`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// Back-trace of the guest, where there is one.
    #[serde(default)]
    pub trace: Option<String>,
}

/// Failed attempts kept in a record, and characters of each message: a record travels with every commit.
pub const FAILURES_MAX: usize = 10;
const FAILURE_CHARS_MAX: usize = 300;

/// A failed attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Run in which it was.
    pub run: u32,
    /// Its number in that run, from 1.
    pub attempt: u32,
    /// When it failed, Unix milliseconds.
    pub at_ms: u64,
    /// Stable code.
    pub kind: String,
    /// One sentence, cut.
    pub message: String,
}

/// Entries of a job's past kept in a record, which travels with every commit.
pub const PAST_MAX: usize = 20;

/// Something in a job's past: a stay on a worker that is over, or something that somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// When it was, or was over, Unix milliseconds.
    #[serde(rename = "a")]
    pub at_ms: u64,
    /// Of a stay how it ended, in a word of the worker or the scripts: `succeeded`, `failed`, `tried again`, `sleeps`, `waits
    /// for children`, `waits for a signal`, `paused`, `released`, `cancelled`, `lost`. Else what was asked for: `pause`,
    /// `resume`, `restart`, `retry`, `cancel`; a pause stands where it took effect.
    #[serde(rename = "w")]
    pub what: String,
    /// The run.
    #[serde(rename = "r")]
    pub run: u32,
    /// When the stay began, Unix milliseconds; `None`: it is none.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// The worker, or who asked where that is known.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Version of the plugin that the run began with.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// So many stays of this kind one after the other, from the first one's beginning to the last one's end; `None`: one.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// What changes while a job lives. While a job is claimed, its claimer is the only writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Which run of the job, from 1; a restart begins the next.
    pub run: u32,
    /// Failed attempts so far in this run.
    pub attempt: u32,
    /// Hosts that died under the job since its last commit.
    pub crashes: u32,
    /// Commits in this run; also the number of the last committed step.
    pub step: u64,
    /// Output records committed.
    pub outputs: u64,
    /// Digest of the plugin version that this run began with.
    pub digest: Option<String>,
    /// Semantic version of that plugin.
    pub version: Option<String>,
    /// Digest of the version that could not read its checkpoint: it is not moved to that one again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Where the route of its type sent it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Box<Routed>>,
    /// The task that runs in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Box<SentTask>>,
    /// The worker that last held the job.
    pub host: Option<String>,
    /// First claim of this run, Unix milliseconds.
    pub started_ms: Option<u64>,
    /// End, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Not before, Unix milliseconds.
    pub not_before_ms: Option<u64>,
    /// Last commit, Unix milliseconds.
    pub committed_ms: Option<u64>,
    /// Running time so far in this run, since the last attempt that failed and was tried again, milliseconds.
    pub ran_ms: u64,
    /// Progress, as last committed.
    pub progress: Option<Progress>,
    /// The last failure.
    pub error: Option<JobError>,
    /// The last failed attempts, of earlier runs too, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedAttempt>,
    /// The last of what was, of earlier runs too, oldest first. A job that succeeds in its first stay has none: the rest of
    /// its record says it all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<Past>,
    /// The last jobs that were made from this one after its end, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<JobId>,
    /// Children spawned so far in this run, oldest first.
    pub children: Vec<JobId>,
    /// Name of the awaited signal, while waiting for one.
    pub signal: Option<String>,
    /// The signal that woke it, until the step that takes it is committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard: Option<String>,
    /// Letter of the state that a paused job goes back to: it slept until `not_before_ms`, or waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<char>,
    /// Its result and output records were forgotten before the job itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Claim under which the job last left the running state: tells a repeated finish from a lost one.
    pub claim: Option<String>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            run: 1,
            attempt: 0,
            crashes: 0,
            step: 0,
            outputs: 0,
            digest: None,
            version: None,
            refused: None,
            route: None,
            sent: None,
            host: None,
            started_ms: None,
            ended_ms: None,
            not_before_ms: None,
            committed_ms: None,
            ran_ms: 0,
            progress: None,
            error: None,
            failures: Vec::new(),
            past: Vec::new(),
            replays: Vec::new(),
            children: Vec::new(),
            signal: None,
            heard: None,
            parked: None,
            expired: false,
            claim: None,
        }
    }
}

impl Record {
    /// Counts a failed attempt and keeps it among the last ones. A task that was sent in its place is over with it.
    pub fn attempt_failed(&mut self, error: JobError, at_ms: u64) {
        self.attempt += 1;
        self.sent = None;
        if self.failures.len() >= FAILURES_MAX {
            self.failures.drain(..=self.failures.len() - FAILURES_MAX);
        }
        self.failures.push(FailedAttempt {
            run: self.run,
            attempt: self.attempt,
            at_ms,
            kind: error.kind.clone(),
            message: error.message.chars().take(FAILURE_CHARS_MAX).collect(),
        });
        self.error = Some(error);
    }

    /// Notes a stay that is over. One like the last is counted with it: a job that sleeps or waits a thousand times still
    /// shows what else was.
    pub fn left(&mut self, stay: Past) {
        if let Some(last) = self.past.last_mut() {
            let is_like = last.since_ms.is_some()
                && (last.run, &last.what, &last.by, &last.version)
                    == (stay.run, &stay.what, &stay.by, &stay.version);
            if is_like {
                last.times = Some(last.times.unwrap_or(1).saturating_add(1));
                last.at_ms = stay.at_ms;
                return;
            }
        }
        if self.past.len() >= PAST_MAX {
            self.past.drain(..=self.past.len() - PAST_MAX);
        }
        self.past.push(stay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_that_are_alike_are_one_entry_and_the_last_ones_are_kept() {
        let mut record = Record::default();
        let stay = |what: &str, at_ms| Past {
            at_ms,
            what: what.into(),
            run: 1,
            since_ms: Some(at_ms - 1),
            by: Some("w1".into()),
            ..Past::default()
        };
        for at_ms in 1..=1_000 {
            record.left(stay("sleeps", at_ms));
        }
        assert_eq!(record.past, [Past { at_ms: 1_000, times: Some(1_000), ..stay("sleeps", 1) }]);
        for at_ms in 1..=30 {
            record.left(stay(if at_ms % 2 == 0 { "sleeps" } else { "tried again" }, at_ms));
        }
        assert_eq!(
            record.past.iter().map(|one| one.at_ms).collect::<Vec<_>>(),
            (11..=30).collect::<Vec<_>>()
        );
        // What was asked for is no stay, whatever it is called.
        record.past = vec![Past { since_ms: None, ..stay("paused", 5) }];
        record.left(stay("paused", 6));
        assert_eq!(record.past.len(), 2);
    }

    #[test]
    fn the_last_failed_attempts_are_kept() {
        let mut record = Record::default();
        for at_ms in 0..25 {
            let error = JobError { kind: "transient".into(), message: "x".repeat(1_000), trace: None };
            record.attempt_failed(error, at_ms);
        }
        let kept: Vec<_> = record.failures.iter().map(|one| (one.attempt, one.at_ms)).collect();
        assert_eq!(kept, (15..25).map(|at_ms| (at_ms as u32 + 1, at_ms)).collect::<Vec<_>>());
        assert_eq!(record.failures[0].message.len(), FAILURE_CHARS_MAX);
        assert_eq!(record.error.map(|error| error.message.len()), Some(1_000));
    }
}
