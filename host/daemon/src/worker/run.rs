//! One job, from its claim to its last commit.
//!
//! The worker holds the only right to write the job's record. [`Job::base`] is the record as it was last
//! committed: a failed attempt goes back to it, so that nothing of an uncommitted step remains.

use super::{
    claims::Claim,
    commits::Item,
    protocol::Report,
    shared::{Running, Shared, Version, Wish},
};
use crate::config::Checkpoint as Cadence;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use waymark_job::{Failure, JobError, JobId, Progress, Record, Spec, State};
use waymark_sandbox::{self as sandbox, Fault, Outcome};
use waymark_store::{ChildOutcome, ClaimedJob, Commit, CommitAnswer, NewCheckpoint, NewJob, Then};

/// Buffered effects that are committed early, bytes: a longer buffer would be a longer script call.
const EFFECTS_BYTES_MAX: u64 = 1 << 20;
/// A checkpoint and its commit may take one part in so many of a job's time.
const CADENCE_SHARE: u32 = 20;
/// Longest time between two checkpoints however expensive they are.
const CADENCE_MAX: Duration = Duration::from_secs(30);
/// How long a job waits for memory of this host before it asks again.
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// When a job comes back that the host had no memory for in the middle of a step.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Why a job left this worker before its commit.
enum Stop {
    /// Its claim is another's, or it was cancelled or deleted: nothing is to be written.
    Gone,
    /// A failure of the guest, or a limit.
    Fault(Fault),
    /// It goes back to its queue; with the digest of the only version that can run it.
    Release(Option<String>),
    /// An operator wants it paused before it began.
    Paused,
    /// Its checkpoint expired.
    Expired,
}

struct Job<'a> {
    shared: &'a Shared,
    claim: &'a Claim,
    running: &'a Arc<Running>,
    id: JobId,
    spec: Arc<Spec>,
    base: Record,
    began: Instant,
    committed_at: Instant,
    /// How long the last checkpoint and its commit took.
    commit_cost: Duration,
    hard: Option<tokio::time::Instant>,
    /// It wrote to its log.
    spoke: Arc<AtomicBool>,
}

/// Runs a claimed job until it leaves this worker.
pub(super) async fn job(
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    claimed: ClaimedJob,
    running: Arc<Running>,
    place: OwnedSemaphorePermit,
) {
    let began = Instant::now();
    let ClaimedJob { id, spec, record } = claimed;
    let spec = Arc::new(spec);
    let mut base = record;
    base.host = Some(claim.worker.clone());
    base.claim = None;
    base.not_before_ms = None;
    shared.metrics.claimed.with_label_values(&[spec.job_type.as_str()]).inc();
    if base.started_ms.is_none() {
        base.started_ms = Some(claim.now_ms());
        let waited = claim.now_ms().saturating_sub(id.created_ms()) as f64 / 1e3;
        shared.metrics.waited.with_label_values(&[spec.job_type.as_str()]).observe(waited);
    }
    let mut job = Job {
        shared: &shared,
        claim: &claim,
        running: &running,
        id,
        spec,
        base,
        began,
        committed_at: began,
        commit_cost: Duration::ZERO,
        hard: None,
        spoke: Arc::default(),
    };
    let mut version = None;
    let stop = job.run(&mut version).await;
    if let Err(stop) = stop {
        job.stop(stop, version.as_deref()).await;
    }
    let stay = began.elapsed();
    shared.metrics.ran.with_label_values(&[job.spec.job_type.as_str()]).observe(stay.as_secs_f64());
    shared.stayed(stay);
    drop(place);
}

impl Job<'_> {
    async fn run(&mut self, loaded: &mut Option<Arc<Version>>) -> Result<(), Stop> {
        match self.running.wish() {
            Wish::GoOn => {}
            Wish::Pause => return Err(Stop::Paused),
            Wish::Release => return Err(Stop::Release(None)),
            Wish::Drop => return Err(Stop::Gone),
        }
        let mut version = self.version()?;
        *loaded = Some(version.clone());
        let ran = Duration::from_millis(self.base.ran_ms);
        let limit = |own: Option<u64>, policy: Option<u64>| own.or(policy).map(Duration::from_millis);
        let soft = limit(self.spec.soft_limit_ms, version.policy.soft_limit_ms)
            .map(|limit| self.began + limit.saturating_sub(ran));
        self.hard = limit(self.spec.hard_limit_ms, version.policy.hard_limit_ms)
            .map(|limit| tokio::time::Instant::from_std(self.began + limit.saturating_sub(ran)));
        let mut instance = self.begin(&mut version, soft).await?;
        *loaded = Some(version.clone());
        let digest = version.plugin.digest();
        if self.base.digest.as_deref() != Some(digest) {
            self.base.digest = Some(digest.to_owned());
            self.base.version = Some(version.plugin.descriptor().version.clone());
        }
        let steps_counter = self.shared.metrics.steps.with_label_values(&[self.spec.job_type.as_str()]);
        let mut record = self.base.clone();
        loop {
            let outcome = self.bounded(instance.step()).await?;
            steps_counter.inc();
            record.step += 1;
            match outcome {
                Outcome::Completed(result) => {
                    record.ended_ms = Some(self.claim.now_ms());
                    record.error = None;
                    if let Some(Progress { current, total: Some(total), .. }) = &mut record.progress {
                        *current = *total;
                    }
                    let commit = self.prepare(&mut instance, record, Then::Succeeded { result }, None);
                    drop(instance);
                    self.flush_logs().await;
                    self.send_last(commit);
                    self.recovered(&version);
                    return Ok(());
                }
                Outcome::Progressed(progress) => {
                    advance(&mut record, progress);
                    instance.committed(record.step);
                    let wish = self.running.wish();
                    if soft.is_some_and(|soft| Instant::now() >= soft) {
                        self.running.yields.store(true, Relaxed);
                    }
                    if wish == Wish::GoOn && !self.is_due(&record, &version, &instance) {
                        // A guest whose steps are short must not keep the thread from its neighbours.
                        if record.step.is_multiple_of(16) {
                            tokio::task::yield_now().await;
                        }
                        continue;
                    }
                    let then = match wish {
                        Wish::GoOn => Then::Continue,
                        Wish::Pause => Then::PausedAsAsked,
                        Wish::Release => Then::Release { pin: None },
                        Wish::Drop => return Err(Stop::Gone),
                    };
                    record = self.commit(&mut instance, record, then, &version).await?;
                    if wish != Wish::GoOn {
                        return Ok(());
                    }
                }
                Outcome::Sleep(delay_ms) => {
                    instance.committed(record.step);
                    let then = Then::Sleep { delay_ms };
                    return self.commit(&mut instance, record, then, &version).await.map(drop);
                }
                Outcome::AwaitChildren => {
                    instance.committed(record.step);
                    return self.commit(&mut instance, record, Then::AwaitChildren, &version).await.map(drop);
                }
                Outcome::AwaitSignal { name, timeout_ms } => {
                    instance.committed(record.step);
                    record.signal = Some(name.clone());
                    let then = Then::AwaitSignal { name, timeout_ms };
                    return self.commit(&mut instance, record, then, &version).await.map(drop);
                }
            }
        }
    }

    /// The version to run: the one that the run began with, else the active one. A job that failed, or that was
    /// restarted, tries the active one first if that reads its state: the operator may have mended what it failed of.
    fn version(&self) -> Result<Arc<Version>, Stop> {
        let plugins = self.shared.plugins();
        let active = plugins.active(&self.spec.job_type);
        let own = self.own_version();
        let wants_active = self.base.attempt > 0 || self.base.run > 1;
        if wants_active { active.or(own) } else { own.or(active) }.ok_or(Stop::Release(None))
    }

    /// The version that wrote the job's checkpoint, if there is one and it is here.
    fn own_version(&self) -> Option<Arc<Version>> {
        let digest = self.base.digest.as_deref().filter(|_| self.base.step > 0)?;
        self.shared.plugins().digest(digest)
    }

    /// A fresh instance, at the beginning or at the last checkpoint. Goes on with the job's own version where the
    /// one tried first cannot read its checkpoint.
    async fn begin(
        &mut self,
        version: &mut Arc<Version>,
        soft: Option<Instant>,
    ) -> Result<sandbox::Instance, Stop> {
        let fresh = self.base.step == 0 && self.base.children.is_empty();
        let resume = if fresh { None } else { Some(self.load().await?) };
        if self.base.step > 0 && resume.as_ref().is_none_or(|resume| resume.checkpoint.is_none()) {
            return Err(Stop::Expired);
        }
        loop {
            let context = self.context(resume.as_ref(), soft);
            let checkpoint = resume.as_ref().and_then(|resume| resume.checkpoint.as_ref());
            let begun = match checkpoint {
                None => self.bounded(version.plugin.start(context, &self.spec.input)).await,
                Some(checkpoint) => {
                    let snapshot = sandbox::Snapshot {
                        mime_type: checkpoint.mime_type.clone(),
                        state_version: checkpoint.state_version,
                        state: checkpoint.state.clone(),
                    };
                    let restored = self.bounded(version.plugin.restore(context, snapshot)).await;
                    match restored {
                        // Another version than the job's own could not read its checkpoint.
                        Err(Stop::Fault(fault))
                            if checkpoint.plugin_digest != version.plugin.digest()
                                && !matches!(fault, Fault::Busy) =>
                        {
                            if let Some(own) = self.own_version() {
                                *version = own;
                                continue;
                            }
                            tracing::warn!(
                                job_id = %self.id,
                                correlation_id = self.spec.correlation_id.as_deref(),
                                needs = checkpoint.plugin_digest,
                                "the active version cannot read the job's checkpoint: it waits for its own version"
                            );
                            return Err(Stop::Release(Some(checkpoint.plugin_digest.clone())));
                        }
                        other => other,
                    }
                }
            };
            match begun {
                Err(Stop::Fault(Fault::Busy)) => match self.running.wish() {
                    Wish::GoOn => tokio::time::sleep(BUSY_WAIT).await,
                    Wish::Pause => return Err(Stop::Paused),
                    Wish::Release => return Err(Stop::Release(None)),
                    Wish::Drop => return Err(Stop::Gone),
                },
                other => return other,
            }
        }
    }

    async fn load(&self) -> Result<waymark_store::Resume, Stop> {
        loop {
            match self.shared.store.load(&self.id, &self.base).await {
                Ok(resume) => return Ok(resume),
                Err(error) => {
                    let correlation_id = self.spec.correlation_id.as_deref();
                    tracing::warn!(job_id = %self.id, correlation_id, %error, "the checkpoint cannot be read yet");
                }
            }
            if self.running.wish() == Wish::Drop {
                return Err(Stop::Gone);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn context(&self, resume: Option<&waymark_store::Resume>, soft: Option<Instant>) -> sandbox::JobContext {
        let (id, run) = (self.id, self.base.run);
        let at_ms = self.base.committed_ms.unwrap_or_else(|| id.created_ms());
        let (logs, spoke) = (self.shared.logs.clone(), self.spoke.clone());
        // The contract: none is told before all have ended.
        let children = resume.map(|resume| resume.children.as_slice()).unwrap_or_default();
        let all_ended = children.iter().all(|(_, outcome)| *outcome != ChildOutcome::Pending);
        let children = if all_ended { children } else { &[] };
        sandbox::JobContext {
            job_id: id.to_string(),
            correlation_id: self.spec.correlation_id.clone().unwrap_or_default(),
            attempt: self.base.attempt + 1,
            run,
            committed_steps: self.base.step,
            soft_limit: soft,
            metadata: self.spec.metadata.clone().unwrap_or_else(|| "{}".to_owned()),
            children: children.iter().map(|(id, outcome)| (id.to_string(), outcome.clone().into())).collect(),
            signals: resume.map(|resume| resume.signals.iter().cloned().collect()).unwrap_or_default(),
            yield_flag: self.running.yields.clone(),
            logs: Box::new(move |line| {
                spoke.store(true, Relaxed);
                logs.say(id, line.to_json());
            }),
            child_id: Box::new(move |step, index| JobId::child(&id, run, step, index, at_ms).to_string()),
        }
    }

    /// Waits for a call into the guest, unless the job is taken away or its time is over.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Stop> {
        let over = async {
            match self.hard {
                Some(hard) => tokio::time::sleep_until(hard).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = call => done.map_err(Stop::Fault),
            () = self.running.dropped() => Err(Stop::Gone),
            () = over => Err(Stop::Fault(Fault::Trap {
                kind: "hard-limit",
                message: "the job ran longer than its hard limit".into(),
                trace: None,
            })),
        }
    }

    fn is_due(&self, record: &Record, version: &Version, instance: &sandbox::Instance) -> bool {
        // A job whose host died proves first of all that it gets anywhere.
        if self.base.crashes > 0 || instance.effects_bytes() > EFFECTS_BYTES_MAX {
            return true;
        }
        match version.policy.checkpoint {
            Cadence::EverySteps(steps) => record.step - self.base.step >= steps.max(1),
            Cadence::EveryMs(ms) => {
                let apart =
                    Duration::from_millis(ms).max((self.commit_cost * CADENCE_SHARE).min(CADENCE_MAX));
                self.committed_at.elapsed() >= apart
            }
        }
    }

    fn prepare(
        &self,
        instance: &mut sandbox::Instance,
        mut record: Record,
        then: Then,
        checkpoint: Option<NewCheckpoint>,
    ) -> Commit {
        let effects = instance.take_effects();
        record.outputs += effects.outputs.len() as u64;
        if let Some(progress) = effects.progress {
            advance(&mut record, progress);
        }
        let mut children = Vec::with_capacity(effects.children.len());
        for spawn in effects.children {
            // The identifier came from our own `child_id`.
            let Ok(id) = JobId::parse(&spawn.id) else { continue };
            record.children.push(id);
            children.push(NewJob {
                id: Some(id),
                spec: Spec {
                    job_type: spawn.job_type,
                    input: spawn.input,
                    priority: self.spec.priority,
                    correlation_id: self.spec.correlation_id.clone(),
                    parent: Some(self.id),
                    ..Spec::default()
                },
                not_before_ms: None,
                delay_ms: None,
                idempotency_key: None,
            });
        }
        self.commit_of(record, then, checkpoint, effects.outputs, children)
    }

    fn commit_of(
        &self,
        mut record: Record,
        then: Then,
        checkpoint: Option<NewCheckpoint>,
        outputs: Vec<String>,
        children: Vec<NewJob>,
    ) -> Commit {
        record.crashes = 0;
        record.committed_ms = Some(self.claim.now_ms());
        record.ran_ms = self.base.ran_ms + self.committed_at.elapsed().as_millis() as u64;
        Commit {
            id: self.id,
            token: self.claim.token.clone(),
            step: record.step,
            base_step: self.base.step,
            spec: self.spec.clone(),
            record,
            then,
            checkpoint,
            outputs,
            children,
        }
    }

    fn item(&self, commit: Commit, reply: Option<oneshot::Sender<CommitAnswer>>) -> Item {
        Item { commit, partition: self.claim.partition, running: self.running.clone(), reply }
    }

    /// The job leaves whatever the answer is.
    fn send_last(&self, commit: Commit) {
        // The receiver lives as long as the process.
        let _ = self.shared.commits.send(self.item(commit, None));
    }

    /// Whoever sees the end of a job sees its whole log.
    async fn flush_logs(&self) {
        if self.spoke.load(Relaxed) {
            self.shared.logs.flush().await;
        }
    }

    /// Writes a checkpoint and what was buffered. Returns the record that now holds; leaves with [`Stop::Gone`]
    /// where the job is no longer this worker's.
    async fn commit(
        &mut self,
        instance: &mut sandbox::Instance,
        record: Record,
        then: Then,
        version: &Version,
    ) -> Result<Record, Stop> {
        let from = Instant::now();
        let snapshot = self.bounded(instance.checkpoint()).await?;
        let bytes = snapshot.state.len() as u64;
        self.shared.metrics.checkpoint_bytes.with_label_values(&[self.spec.job_type.as_str()]).inc_by(bytes);
        let checkpoint = NewCheckpoint {
            mime_type: snapshot.mime_type,
            state_version: snapshot.state_version,
            state: snapshot.state,
            plugin_version: version.plugin.descriptor().version.clone(),
            plugin_digest: version.plugin.digest().to_owned(),
        };
        let stays = matches!(then, Then::Continue);
        let commit = self.prepare(instance, record, then, Some(checkpoint));
        if !stays {
            let record = commit.record.clone();
            self.send_last(commit);
            return Ok(record);
        }
        let record = commit.record.clone();
        let (reply, answer) = oneshot::channel();
        let _ = self.shared.commits.send(self.item(commit, Some(reply)));
        let answer = tokio::select! {
            answer = answer => answer.unwrap_or(CommitAnswer::Lost),
            () = self.running.dropped() => CommitAnswer::Lost,
        };
        match answer {
            CommitAnswer::Done(State::Running) | CommitAnswer::Already => {
                self.base = record.clone();
                self.committed_at = Instant::now();
                self.commit_cost = from.elapsed();
                Ok(record)
            }
            CommitAnswer::Done(_) | CommitAnswer::Lost => Err(Stop::Gone),
        }
    }

    /// Writes why the job left, where there is anything to write.
    async fn stop(&mut self, stop: Stop, version: Option<&Version>) {
        let then = match stop {
            Stop::Gone => {
                self.shared.leave(std::iter::once((&self.id, self.running)));
                return;
            }
            Stop::Paused => Then::PausedAsAsked,
            Stop::Release(pin) => Then::Release { pin },
            // It waits for memory, which costs no attempt.
            Stop::Fault(Fault::Busy) => Then::Sleep { delay_ms: BUSY_RETRY.as_millis() as u64 },
            Stop::Expired => return self.start_over().await,
            Stop::Fault(fault) => {
                self.flush_logs().await;
                return self.fail(fault, version);
            }
        };
        let commit = self.commit_of(self.base.clone(), then, None, Vec::new(), Vec::new());
        self.send_last(commit);
    }

    fn fail(&mut self, fault: Fault, version: Option<&Version>) {
        let (error, retry_after, retries) = classify(fault);
        if let Some(version) = version.filter(|_| error.trace.is_some() || !is_said_by_guest(&error.kind)) {
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
        record.attempt += 1;
        let mut policy = version.map(|version| version.policy.retry).unwrap_or_default();
        policy.max_attempts = self.spec.max_attempts.unwrap_or(policy.max_attempts).max(1);
        let age_ms = self.claim.now_ms().saturating_sub(self.id.created_ms());
        let delay_ms =
            if retries { policy.delay_ms(record.attempt, retry_after, age_ms, uniform()) } else { None };
        let then = match delay_ms {
            Some(delay_ms) => Then::Retry { delay_ms },
            None => {
                record.ended_ms = Some(self.claim.now_ms());
                Then::Failed
            }
        };
        record.error = Some(error);
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
        let _ = self.shared.commits.send(self.item(commit, Some(reply)));
        let paused = matches!(answer.await, Ok(CommitAnswer::Done(State::Paused) | CommitAnswer::Already));
        self.shared.leave(std::iter::once((&self.id, self.running)));
        if paused
            && let Err(error) = self.shared.store.control(&self.id, waymark_job::Control::Restart, None).await
        {
            tracing::error!(job_id = %self.id, %error, "a job whose checkpoint expired stays paused: restart it");
        }
    }

    fn recovered(&self, version: &Version) {
        if version.suspect.load(Relaxed) && version.suspect.swap(false, Relaxed) {
            self.shared.report(Report::Recovered {
                name: self.spec.job_type.clone(),
                digest: version.plugin.digest().to_owned(),
            });
        }
    }
}

/// Progress never goes back within one run.
fn advance(record: &mut Record, next: Progress) {
    let before = record.progress.as_ref().map_or(0, |progress| progress.current);
    record.progress = Some(Progress { current: next.current.max(before), ..next });
}

fn is_said_by_guest(kind: &str) -> bool {
    matches!(kind, "transient" | "retry-after" | "permanent" | "invalid-input" | "hard-limit" | "host-error")
}

/// The error to show, when the guest said to come back, and whether another attempt makes sense.
pub(crate) fn classify(fault: Fault) -> (JobError, Option<u64>, bool) {
    let error = |kind: &str, message| JobError { kind: kind.to_owned(), message, trace: None };
    match fault {
        Fault::Failure(Failure::Transient(message)) => (error("transient", message), None, true),
        Fault::Failure(Failure::RetryAfter(ms, message)) => (error("retry-after", message), Some(ms), true),
        Fault::Failure(Failure::Permanent(message)) => (error("permanent", message), None, false),
        Fault::Failure(Failure::InvalidInput(message)) => (error("invalid-input", message), None, false),
        // A trap may come of what the guest met outside; a limit will be met again.
        Fault::Trap { kind, message, trace } => {
            (JobError { kind: kind.to_owned(), message, trace }, None, kind == "guest-trap")
        }
        Fault::Busy => (error("host-error", "the host had no memory to spare".into()), None, true),
        Fault::Host(message) => (error("host-error", message), None, true),
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
