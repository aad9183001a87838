//! One job, from its claim to its last commit.
//!
//! The worker holds the only right to write the job's record. [`Job::base`] is the record as it was last
//! committed: a failed attempt goes back to it, so that nothing of an uncommitted step remains.
//!
//! What runs is an [`Instance`]: of a plugin (`guest`), or of a job type of the worker's own (`native`). Both go
//! through the one loop in this file; those that Celery's workers run come to it with their result (`celery`). How a job
//! leaves before its commit is in `leave`, what a failure means in `failure`.

mod celery;
mod failure;
mod guest;
mod leave;
mod trace;

pub(crate) use failure::classify;
pub(in crate::worker) use trace::Commit as CommitTrace;

use super::{
    claims::Claim,
    commits::Item,
    native,
    shared::{Running, Shared, Version, Wish},
};
use crate::{
    config::{Checkpoint as Cadence, TypePolicy},
    redaction::hide_progress,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use waymark_job::{
    JobId, Past, Progress, Record, Spec, State,
    redact::Mask,
    route::{Stored, compare::Outcome},
};
use waymark_sandbox::Fault;
use waymark_store::{ClaimedJob, Commit, CommitAnswer, NewCheckpoint, NewJob, Then};

/// A checkpoint and its commit may take one part in so many of a job's time.
const CADENCE_SHARE: u32 = 20;
/// Longest time between two checkpoints however expensive they are.
const CADENCE_MAX: Duration = Duration::from_secs(30);

/// What runs a job step by step.
pub(super) trait Instance {
    /// A bounded piece of work.
    async fn step(&mut self) -> Result<Next, Fault>;

    /// The state after the last step.
    async fn checkpoint(&mut self) -> Result<NewCheckpoint, Fault>;

    /// What takes effect with the next commit; it is handed over once.
    fn take_effects(&mut self) -> Effects;

    /// The last step shall be committed whatever the cadence of checkpoints is.
    fn wants_commit(&self) -> bool;

    /// The next step is the one after step `number`.
    fn ended_step(&mut self, number: u64);
}

/// What a step ended with.
pub(super) enum Next {
    /// The job is done: its result, JSON text.
    Completed(String),
    /// It goes on.
    Progressed(Progress),
    /// It leaves the worker for now: sleeps or waits.
    Leave(Then),
}

/// What takes effect with a commit.
#[derive(Default)]
pub(super) struct Effects {
    /// Output records, JSON texts.
    pub(super) outputs: Vec<String>,
    /// Progress that was reported within a step.
    pub(super) progress: Option<Progress>,
    /// Jobs to create, each with its id.
    pub(super) children: Vec<NewJob>,
    /// Those of them whose outcomes the record lists.
    pub(super) listed: Vec<JobId>,
}

/// Why a job left this worker before its commit.
pub(super) enum Stop {
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
    /// It comes back after so long, as it is: no step was done, and no attempt ended.
    Asleep(Duration),
    /// It pauses, and says why: it can go on under no version that may run.
    Parked(String),
}

pub(super) struct Job<'a> {
    pub(super) shared: &'a Shared,
    pub(super) claim: &'a Claim,
    running: &'a Arc<Running>,
    pub(super) id: JobId,
    pub(super) spec: Arc<Spec>,
    pub(super) base: Record,
    policy: Arc<TypePolicy>,
    /// What runs it; none for a job type of the worker's own.
    version: Option<Arc<Version>>,
    /// The route that sends it where its record says.
    route: Option<Arc<Stored>>,
    began: Instant,
    committed_at: Instant,
    /// When the signals that it began with arrived, by name.
    arrived_us: HashMap<String, u64>,
    /// How long the last checkpoint and its commit took.
    commit_cost: Duration,
    soft: Option<Instant>,
    hard: Option<tokio::time::Instant>,
    /// It wrote to its log.
    spoke: Arc<AtomicBool>,
    pub(in crate::worker) trace: trace::Stay,
    /// Hides what people are not shown.
    pub(super) mask: Arc<Mask>,
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
    let mask = Arc::new(shared.redaction.mask(&spec.job_type, &spec.input));
    let trace = trace::Stay::begin(&shared.tracer, &id, &spec, &record, &claim.worker, claim.now_ms());
    let mut base = record;
    base.host = Some(claim.worker.clone());
    base.claim = None;
    base.not_before_ms = None;
    if spec.shadow.is_none() {
        shared.metrics.claimed.with_label_values(&[spec.job_type.as_str()]).inc();
    }
    let first = base.started_ms.is_none();
    if first {
        base.started_ms = Some(claim.now_ms());
    }
    if first && spec.shadow.is_none() {
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
        policy: Arc::default(),
        version: None,
        route: None,
        began,
        committed_at: began,
        commit_cost: Duration::ZERO,
        soft: None,
        hard: None,
        arrived_us: HashMap::new(),
        spoke: Arc::default(),
        trace,
        mask,
    };
    if let Err(stop) = job.run().await {
        job.stop(stop).await;
    }
    let stay = began.elapsed();
    shared.metrics.ran.with_label_values(&[job.spec.job_type.as_str()]).observe(stay.as_secs_f64());
    shared.stayed(stay);
    drop(place);
}

impl Job<'_> {
    async fn run(&mut self) -> Result<(), Stop> {
        self.may_begin()?;
        let never_began = self.base.step == 0 && self.base.attempt == 0;
        if never_began
            && self.base.sent.is_none()
            && self.spec.expires_ms.is_some_and(|expires_ms| self.claim.now_ms() > expires_ms)
        {
            return Err(Stop::Fault(Fault::Trap {
                kind: "expired",
                message: "it was to start before a time that has passed".into(),
                trace: None,
            }));
        }
        if native::is_native(&self.spec.job_type) {
            return native::run(self).await;
        }
        let before = self.base.route.clone();
        self.choose_target();
        match self.base.route.as_ref().map(|routed| routed.kind.as_str()) {
            Some("http") => native::call(self).await,
            Some("celery") => self.celery().await,
            _ => self.guest(before).await,
        }
    }

    /// Where the route of its type sends it. A job that has not committed a step is sent anew each time it starts, so
    /// that a change of the route reaches it; so is one that failed, but only to another version. Any other stays, and so
    /// does one whose task is under way: it would run beside another attempt.
    fn choose_target(&mut self) {
        if self.spec.shadow.is_some() {
            return;
        }
        if self.is_sent() {
            self.route = self.shared.routes.get(&self.spec.job_type);
            return;
        }
        self.base.sent = None;
        let begun = self.base.step > 0 || !self.base.children.is_empty();
        let Some(stored) = self.shared.routes.get(&self.spec.job_type) else {
            if !begun {
                self.base.route = None;
            }
            return;
        };
        if !begun || self.base.attempt > 0 {
            let (id, metadata) = (self.id, self.spec.metadata.as_deref());
            let index = stored.choose(&self.spec.job_type, id.as_str(), &self.spec.input, metadata);
            let target = stored.route.targets.get(index);
            if let Some(target) = target.filter(|target| !begun || target.version.is_some()) {
                self.base.route = Some(Box::new(target.routed()));
            }
        }
        self.route = self.base.route.as_ref().map(|_| stored);
    }

    /// Counts the end of an attempt for its arm; `bytes` of its result, `None` if it failed.
    fn count(&self, bytes: Option<usize>) {
        let (Some(stored), Some(routed)) = (&self.route, &self.base.route) else { return };
        let outcome = if bytes.is_some() { "succeeded" } else { "failed" };
        let labels = [self.spec.job_type.as_str(), routed.arm.as_str(), outcome];
        self.shared.metrics.routed.with_label_values(&labels).inc();
        let ran = Duration::from_millis(self.base.ran_ms) + self.committed_at.elapsed();
        self.shared.routes.count(&self.spec.job_type, stored.epoch, &routed.arm, |arm| match bytes {
            Some(bytes) => arm.succeeded(ran.as_micros() as u64, bytes as u64),
            None => arm.failed(),
        });
    }

    /// What is done for a copy that ends, or for a job that might be copied.
    async fn mirror(&self, outcome: impl FnOnce() -> Outcome) {
        match (&self.spec.shadow, &self.route) {
            (Some(of), _) => self.compare(of, outcome()).await,
            (None, Some(stored)) => self.copy(stored).await,
            (None, None) => {}
        }
    }

    /// Leaves where somebody wants anything but that the job goes on.
    fn may_begin(&self) -> Result<(), Stop> {
        match self.running.wish() {
            Wish::GoOn => Ok(()),
            Wish::Pause => Err(Stop::Paused),
            Wish::Release => Err(Stop::Release(None)),
            Wish::Drop => Err(Stop::Gone),
        }
    }

    /// What holds for the job's type from now on.
    pub(super) fn set_policy(&mut self, policy: Arc<TypePolicy>) {
        let ran = Duration::from_millis(self.base.ran_ms);
        let soft_limit_ms = self.spec.soft_limit_ms.or(policy.soft_limit_ms);
        self.soft =
            soft_limit_ms.map(Duration::from_millis).map(|limit| self.began + limit.saturating_sub(ran));
        self.policy = policy;
        self.hard = self
            .hard_limit_ms()
            .map(Duration::from_millis)
            .map(|limit| tokio::time::Instant::from_std(self.began + limit.saturating_sub(ran)));
    }

    /// Running time after which it fails, milliseconds: its own limit, else its type's.
    fn hard_limit_ms(&self) -> Option<u64> {
        self.spec.hard_limit_ms.or(self.policy.hard_limit_ms)
    }

    /// Takes steps until the job leaves.
    pub(super) async fn work(&mut self, mut instance: impl Instance) -> Result<(), Stop> {
        let steps_counter = self.shared.metrics.steps.with_label_values(&[self.spec.job_type.as_str()]);
        let mut record = self.base.clone();
        loop {
            let step = self.trace.step(record.step + 1);
            let next = self.bounded(instance.step()).await;
            self.trace.ended(step, next.as_ref().err().and_then(Stop::error));
            let next = next?;
            steps_counter.inc();
            record.step += 1;
            match next {
                Next::Completed(result) => {
                    record.ended_ms = Some(self.claim.now_ms());
                    record.error = None;
                    if let Some(Progress { current, total: Some(total), .. }) = &mut record.progress {
                        *current = *total;
                    }
                    self.count(Some(result.len()));
                    let copied = self.spec.shadow.as_ref().map(|_| result.clone());
                    let mut commit = self.prepare(&mut instance, record, Then::Succeeded { result }, None);
                    drop(instance);
                    self.mirror(|| {
                        let result = copied.as_deref().unwrap_or("null");
                        Outcome::Succeeded(serde_json::from_str(result).unwrap_or_default())
                    })
                    .await;
                    self.shared.store.spill(&mut commit).await;
                    self.flush_logs().await;
                    self.send_last(commit);
                    self.recovered();
                    return Ok(());
                }
                Next::Progressed(mut progress) => {
                    hide_progress(&self.mask, &mut progress);
                    advance(&mut record, progress);
                    instance.ended_step(record.step);
                    let wish = self.running.wish();
                    if self.soft.is_some_and(|soft| Instant::now() >= soft) {
                        self.running.yields.store(true, Relaxed);
                    }
                    if wish == Wish::GoOn && !self.is_due(&record, &instance) {
                        // A guest whose steps are short must not keep the thread from its neighbours.
                        if record.step.is_multiple_of(16) {
                            tokio::task::yield_now().await;
                        }
                        continue;
                    }
                    let then = match wish {
                        // It is taken again at once, and begins under the version that it moves to.
                        Wish::GoOn if self.moves() => Then::Release { pin: None },
                        Wish::GoOn => Then::Continue,
                        Wish::Pause => Then::PausedAsAsked,
                        Wish::Release => Then::Release { pin: None },
                        Wish::Drop => return Err(Stop::Gone),
                    };
                    let goes_on = then == Then::Continue;
                    record = self.commit(&mut instance, record, then).await?;
                    if !goes_on {
                        return Ok(());
                    }
                }
                Next::Leave(then) => {
                    instance.ended_step(record.step);
                    if let Then::AwaitSignal { name, .. } = &then {
                        record.signal = Some(name.clone());
                    }
                    return self.commit(&mut instance, record, then).await.map(drop);
                }
            }
        }
    }

    /// Waits for a call into the instance, unless the job is taken away or its time is over.
    pub(super) async fn bounded<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Stop> {
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

    fn is_due(&self, record: &Record, instance: &impl Instance) -> bool {
        // A job whose host died proves first of all that it gets anywhere.
        if self.base.crashes > 0 || instance.wants_commit() {
            return true;
        }
        match self.policy.checkpoint {
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
        instance: &mut impl Instance,
        mut record: Record,
        then: Then,
        checkpoint: Option<NewCheckpoint>,
    ) -> Commit {
        let effects = instance.take_effects();
        record.outputs += effects.outputs.len() as u64;
        if let Some(mut progress) = effects.progress {
            hide_progress(&self.mask, &mut progress);
            advance(&mut record, progress);
        }
        record.children.extend(effects.listed);
        let took = record.heard.take();
        let took = took.and_then(|name| self.arrived_us.get(&name).map(|arrived_us| (name, *arrived_us)));
        let commit = self.commit_of(record, then, checkpoint, effects.outputs, effects.children);
        Commit { took, ..commit }
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
        let now_ms = self.claim.now_ms();
        record.committed_ms = Some(now_ms);
        // Limits are those of an attempt: one that took all of its time has it again.
        let again = matches!(then, Then::Retry { .. });
        let ran_ms = self.base.ran_ms + self.committed_at.elapsed().as_millis() as u64;
        record.ran_ms = if again { 0 } else { ran_ms };
        // Of a job that succeeds at once the rest of the record says it all.
        let at_once = record.past.is_empty() && matches!(then, Then::Succeeded { .. });
        if then != Then::Continue && !at_once {
            record.left(Past {
                at_ms: now_ms,
                what: outcome(&then).to_owned(),
                run: record.run,
                since_ms: Some(now_ms.saturating_sub(self.began.elapsed().as_millis() as u64)),
                by: Some(self.claim.worker.clone()),
                version: record.version.clone(),
                times: None,
            });
        }
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
            took: None,
            trace: self.trace.handed_on().cloned(),
        }
    }

    fn item(&mut self, commit: Commit, reply: Option<oneshot::Sender<CommitAnswer>>) -> Item {
        let leaves = commit.then != Then::Continue;
        let error =
            commit.record.error.as_ref().filter(|_| matches!(commit.then, Then::Failed | Then::Retry { .. }));
        let error = error.map(|error| error.kind.as_str());
        let trace = self.trace.committing(commit.step, leaves, outcome(&commit.then), error);
        Item { commit, partition: self.claim.partition, running: self.running.clone(), reply, trace }
    }

    /// The job leaves whatever the answer is.
    fn send_last(&mut self, commit: Commit) {
        // The receiver lives as long as the process.
        let item = self.item(commit, None);
        self.shared.commit(item);
    }

    /// Whoever sees the end of a job sees its whole log.
    async fn flush_logs(&self) {
        if self.spoke.load(Relaxed) {
            self.shared.logs.flush(self.claim.partition).await;
        }
    }

    /// Writes a checkpoint and what was buffered. Returns the record that now holds; leaves with [`Stop::Gone`]
    /// where the job is no longer this worker's.
    async fn commit(
        &mut self,
        instance: &mut impl Instance,
        record: Record,
        then: Then,
    ) -> Result<Record, Stop> {
        let from = Instant::now();
        let checkpoint = self.bounded(instance.checkpoint()).await?;
        let bytes = checkpoint.state.len() as u64;
        self.shared.metrics.checkpoint_bytes.with_label_values(&[self.spec.job_type.as_str()]).inc_by(bytes);
        let stays = matches!(then, Then::Continue);
        let mut commit = self.prepare(instance, record, then, Some(checkpoint));
        self.shared.store.spill(&mut commit).await;
        if !stays {
            let record = commit.record.clone();
            self.send_last(commit);
            return Ok(record);
        }
        let record = commit.record.clone();
        let (reply, answer) = oneshot::channel();
        let item = self.item(commit, Some(reply));
        self.shared.commit(item);
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
}

impl Stop {
    /// What a trace says of it: the kind of failure, never its words, which may quote the input.
    fn error(&self) -> Option<String> {
        match self {
            Self::Fault(fault) => Some(classify(fault.clone()).0.kind),
            Self::Expired => Some("checkpoint-expired".to_owned()),
            Self::Gone | Self::Release(_) | Self::Paused | Self::Asleep(_) | Self::Parked(_) => None,
        }
    }
}

/// How a job leaves its worker, in one word.
fn outcome(then: &Then) -> &'static str {
    match then {
        Then::Continue => "continues",
        Then::Succeeded { .. } => "succeeded",
        Then::Failed => "failed",
        Then::Retry { .. } => "tried again",
        Then::Sleep { .. } => "sleeps",
        Then::AwaitChildren | Then::AwaitChild { .. } => "waits for children",
        Then::AwaitSignal { .. } => "waits for a signal",
        Then::Paused | Then::PausedAsAsked => "paused",
        Then::Release { .. } => "released",
    }
}

/// Progress never goes back within one run.
fn advance(record: &mut Record, next: Progress) {
    let before = record.progress.as_ref().map_or(0, |progress| progress.current);
    record.progress = Some(Progress { current: next.current.max(before), ..next });
}
