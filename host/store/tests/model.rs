//! Random operations against the scripts and against a model in memory: after every operation both must agree.
//!
//! `WAYMARK_SEED` repeats one seed, `WAYMARK_MODEL_OPERATIONS` says how many operations are done with each. Ids of
//! jobs are chosen by the system, and turns between lines depend on the clock, so that a seed repeats the choices
//! but not every claim. Times are over or days away, so that the model needs no clock; the clock jumps by days. Now and then
//! the connection breaks, before a command reaches the server or after.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use support::{
    Held, LEASE_MS, World, held, now_ms,
    proxy::{Cut, Proxy},
};
use waymark_job::{Control, JobError, JobId, Record, Spec, State, record::UniqueUntil};
use waymark_store::{
    ChildOutcome, ClaimRequest, Commit, CommitAnswer, ControlAnswer, Error, Filter, NewJob, Retention,
    SignalAnswer, Then,
};

const FAR_MS: u64 = 86_400_000;
const TYPES: [&str; 2] = ["a", "b"];
const QUEUES: [&str; 4] = ["", "x", "y", "a"];
const TAGS: [&str; 2] = ["red", "blue"];
const SIGNALS: [&str; 2] = ["go", "stop"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
/// The queue that has limits.
const LIMITED: &str = "y";
const LIMITS: &str = r#"{"concurrency":4,"per_key":{"concurrency":2}}"#;
/// Weights that [`LIMITS`] lets run at once.
const LIMIT: u32 = 4;
const KEY_LIMIT: u32 = 2;
const PIN: &str = "abc";
const JOBS_MAX: usize = 150;
const CRASHES_MAX: u32 = 3;
const CHECKPOINTS_MAX: usize = 5;
const CANCELLED: &str = "the job was cancelled";
const DELETED: &str = "the job was deleted";

/// Numbers that a seed repeats (SplitMix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn token(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }
}

#[derive(Clone, Debug)]
struct Claim {
    worker: String,
    token: String,
    /// Step of the last commit under this claim.
    committed: Option<u64>,
    /// The lane it was claimed from: it may be moved while it runs.
    lane: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    run: u32,
    step: u64,
    outputs: u64,
    children: usize,
    committed_ms: u64,
}

#[derive(Clone, Debug, Default)]
struct Job {
    spec: Spec,
    /// The state, but that a claimed job is running.
    parked: Option<State>,
    record: Record,
    /// Days until it is due; over at 0.
    due: Option<i64>,
    /// The same as its record has it, which no jump of the clock touches.
    asked: Option<i64>,
    claim: Option<Claim>,
    pausing: bool,
    /// Payload, and when it arrived.
    signals: BTreeMap<String, (String, u64)>,
    kids: BTreeMap<JobId, ChildOutcome>,
    awaited: i64,
    kept: Vec<Kept>,
    outputs: Vec<String>,
    result: Option<String>,
    /// The selector of the line it came to last, which holds it while it is queued.
    line: String,
    /// All lines that may still hold an entry of it.
    lines: BTreeSet<String>,
}

impl Job {
    fn state(&self) -> State {
        if self.claim.is_some() { State::Running } else { self.parked.unwrap_or(State::Queued) }
    }

    fn holds(&self, token: &str) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.token == token)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lease {
    Holds,
    /// It ran out and nobody noticed yet.
    RanOut,
    Gone,
}

/// What a commit says, as the model takes it.
struct Ask {
    id: JobId,
    token: String,
    step: u64,
    base_step: u64,
    then: Then,
    record: Record,
    has_checkpoint: bool,
    outputs: Vec<String>,
    children: Vec<NewJob>,
    took: Option<(String, u64)>,
}

impl Ask {
    fn of(commit: &Commit) -> Self {
        Self {
            id: commit.id,
            token: commit.token.clone(),
            step: commit.step,
            base_step: commit.base_step,
            then: commit.then.clone(),
            record: commit.record.clone(),
            has_checkpoint: commit.checkpoint.is_some(),
            outputs: commit.outputs.clone(),
            children: commit.children.clone(),
            took: commit.took.clone(),
        }
    }
}

fn days(delay_ms: u64) -> i64 {
    (delay_ms / FAR_MS) as i64
}

/// All that the scripts are to keep.
#[derive(Default)]
struct Model {
    jobs: BTreeMap<JobId, Job>,
    /// Ids ever created, oldest first, with those deleted.
    order: Vec<JobId>,
    uniques: BTreeMap<String, JobId>,
    idempotent: BTreeMap<String, JobId>,
    paused: BTreeSet<String>,
    workers: BTreeMap<String, Lease>,
    used: BTreeSet<String>,
    touched: BTreeSet<JobId>,
}

impl Model {
    fn job(&mut self, id: &JobId) -> &mut Job {
        self.touched.insert(*id);
        self.jobs.get_mut(id).expect("the model has the job")
    }

    fn enqueue(&mut self, id: &JobId, selector: &str) {
        let job = self.job(id);
        job.parked = None;
        job.line = selector.to_owned();
        job.lines.insert(selector.to_owned());
    }

    fn wake(&mut self, id: &JobId) {
        let job = self.job(id);
        (job.due, job.asked) = (None, None);
        job.record.not_before_ms = None;
        job.record.signal = None;
        job.record.parked = None;
        let selector = job.spec.job_type.clone();
        self.enqueue(id, &selector);
    }

    fn tell_parent(&mut self, id: &JobId, parent: Option<JobId>, outcome: ChildOutcome) {
        let Some(parent) = parent else { return };
        let Some(job) = self.jobs.get_mut(&parent) else { return };
        if job.kids.get(id) != Some(&ChildOutcome::Pending) {
            return;
        }
        job.kids.insert(*id, outcome);
        job.awaited -= 1;
        if job.awaited <= 0 && job.state() == State::Waiting && job.record.signal.is_none() {
            self.wake(&parent);
        }
    }

    fn release_unique(&mut self, id: &JobId, key: Option<&String>) {
        if let Some(key) = key
            && self.uniques.get(key) == Some(id)
        {
            self.uniques.remove(key);
        }
    }

    fn create_one(&mut self, id: JobId, new: &NewJob) -> State {
        let spec = new.spec.clone();
        let selector = spec.job_type.clone();
        self.order.push(id);
        self.jobs.insert(id, Job { spec, ..Job::default() });
        match new.delay_ms.filter(|delay_ms| *delay_ms > 0) {
            Some(delay_ms) => {
                let job = self.job(&id);
                job.parked = Some(State::Scheduled);
                job.due = Some(days(delay_ms));
                job.asked = job.due;
                job.record.not_before_ms = Some(0);
                State::Scheduled
            }
            None => {
                self.enqueue(&id, &selector);
                State::Queued
            }
        }
    }

    /// The job that stands for a new one, if any, and whether it does so by its unique key.
    fn stands_for(&self, new: &NewJob) -> Option<(JobId, bool)> {
        let same = new.id.filter(|id| self.jobs.contains_key(id));
        let idempotent = new.idempotency_key.as_ref().and_then(|key| self.idempotent.get(key));
        let idempotent = idempotent.filter(|id| self.jobs.contains_key(id));
        let unique = new.spec.unique_key.as_ref().and_then(|key| self.uniques.get(key));
        same.or(idempotent.copied()).map(|id| (id, false)).or(unique.map(|id| (*id, true)))
    }

    /// A job that waits and never ran takes the input of a newer one; answers whether it does.
    fn replace_input(&mut self, id: &JobId, new: &NewJob) -> bool {
        let job = self.job(id);
        let state = job.state();
        if !new.replaces_input || job.record.step > 0 || !matches!(state, State::Queued | State::Scheduled) {
            return false;
        }
        job.spec.input = new.spec.input.clone();
        job.spec.metadata = new.spec.metadata.clone();
        if let Some(delay_ms) = new.delay_ms.filter(|delay_ms| *delay_ms > 0 && state == State::Scheduled) {
            job.due = Some(days(delay_ms));
            job.asked = job.due;
            job.record.not_before_ms = Some(0);
        }
        true
    }

    /// A worker takes a job.
    fn claimed(&mut self, id: &JobId, worker: &str, token: &str) {
        let job = self.job(id);
        let lane = job.spec.lane().into_owned();
        let starts = job.spec.unique_until == Some(UniqueUntil::Started);
        let key = job.spec.unique_key.clone().filter(|_| starts);
        job.claim = Some(Claim { worker: worker.to_owned(), token: token.to_owned(), committed: None, lane });
        self.release_unique(id, key.as_ref());
    }

    /// No more of the limited queue runs than its limits allow, but for a job that is heavier than a whole limit.
    fn check_limits(&self) {
        let mut running = BTreeMap::<String, (u32, u32)>::new();
        let is_limited = |lane: &str| lane.split('/').next() == Some(LIMITED);
        let claimed = self.jobs.values().filter_map(|job| Some((job, job.claim.as_ref()?)));
        for (job, claim) in claimed.filter(|(_, claim)| is_limited(&claim.lane)) {
            let weight = job.spec.weight.unwrap_or(1);
            for scope in BTreeSet::from([LIMITED.to_owned(), claim.lane.clone()]) {
                let (sum, jobs) = running.entry(scope).or_default();
                *sum += weight;
                *jobs += 1;
            }
        }
        for (scope, (sum, jobs)) in running {
            let most = if scope == LIMITED { LIMIT } else { KEY_LIMIT };
            assert!(sum <= most || jobs == 1, "{jobs} jobs of weight {sum} run in {scope}");
        }
    }

    fn take_back(&mut self, id: &JobId, is_crash: bool) {
        let job = self.job(id);
        job.claim = None;
        let pausing = std::mem::take(&mut job.pausing);
        let selector = job.spec.job_type.clone();
        if is_crash {
            job.record.crashes += 1;
            let crashes = job.record.crashes;
            if crashes >= CRASHES_MAX {
                let message = format!("a worker died under the job {crashes} times in a row");
                job.parked = Some(State::Failed);
                job.record.ended_ms = Some(0);
                job.record.error =
                    Some(JobError { kind: "poisonous".into(), message: message.clone(), trace: None });
                let (parent, key) = (job.spec.parent, job.spec.unique_key.clone());
                self.release_unique(id, key.as_ref());
                self.tell_parent(id, parent, ChildOutcome::Failed(message));
                return;
            }
        }
        if pausing {
            job.parked = Some(State::Paused);
        } else {
            self.enqueue(id, &selector);
        }
    }

    /// Takes back all claims of which this holds; returns how many.
    fn take_all(&mut self, is_crash: bool, wanted: impl Fn(&Claim) -> bool) -> u64 {
        let jobs = self.jobs.iter().filter(|(_, job)| job.claim.as_ref().is_some_and(&wanted));
        let ids: Vec<_> = jobs.map(|(id, _)| *id).collect();
        for id in &ids {
            self.take_back(id, is_crash);
        }
        ids.len() as u64
    }

    /// A worker says that it is there; returns whether it is, and how many jobs were taken from dead workers.
    fn beat(&mut self, worker: &str, register: bool) -> (bool, u64) {
        let alive = register || self.workers.get(worker).is_some_and(|lease| *lease != Lease::Gone);
        if alive {
            self.workers.insert(worker.to_owned(), Lease::Holds);
        }
        let dead: BTreeSet<_> = self
            .workers
            .iter()
            .filter(|(_, lease)| **lease == Lease::RanOut)
            .map(|(name, _)| name.clone())
            .collect();
        let taken = self.take_all(true, |claim| dead.contains(&claim.worker));
        for name in dead {
            self.workers.insert(name, Lease::Gone);
        }
        (alive, taken)
    }

    /// All jobs whose time is over go into their lines.
    fn wake_due(&mut self) {
        let due: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.due.is_some_and(|days| days <= 0))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.wake(&id);
        }
    }

    fn refusal(&mut self, ask: &Ask) -> Option<CommitAnswer> {
        let Some(job) = self.jobs.get(&ask.id) else { return Some(CommitAnswer::Lost) };
        let Some(claim) = job.claim.as_ref().filter(|claim| claim.token == ask.token) else {
            let already = job.record.claim.as_ref() == Some(&ask.token);
            return Some(if already { CommitAnswer::Already } else { CommitAnswer::Lost });
        };
        if ask.then == Then::Continue && claim.committed.is_some_and(|committed| committed >= ask.step) {
            return Some(CommitAnswer::Already);
        }
        if claim.committed.unwrap_or(job.record.step) < ask.base_step {
            self.take_back(&ask.id, false);
            return Some(CommitAnswer::Lost);
        }
        None
    }

    /// Commits of one call, in their order.
    fn commit(&mut self, asks: &[Ask]) -> Vec<CommitAnswer> {
        let mut answers = Vec::new();
        let (mut ended, mut waits) = (Vec::new(), Vec::new());
        for (number, ask) in asks.iter().enumerate() {
            if let Some(refused) = self.refusal(ask) {
                answers.push(refused);
                continue;
            }
            let id = ask.id;
            let job = self.job(&id);
            let ends = matches!(ask.then, Then::Succeeded { .. } | Then::Failed);
            let pauses = job.pausing && !ends;
            let mut record = ask.record.clone();
            if ask.then != Then::Continue || pauses {
                record.claim = Some(ask.token.clone());
                job.claim = None;
                job.pausing = false;
            }
            let delay_ms = match &ask.then {
                Then::Retry { delay_ms } | Then::Sleep { delay_ms } => Some(*delay_ms),
                Then::AwaitSignal { timeout_ms, .. } => *timeout_ms,
                _ => None,
            };
            record.not_before_ms = delay_ms;
            if pauses {
                record.parked = match &ask.then {
                    Then::Retry { .. } | Then::Sleep { .. } => Some('s'),
                    Then::AwaitChildren | Then::AwaitSignal { .. } | Then::AwaitChild { .. } => Some('w'),
                    _ => None,
                };
            }
            if ask.has_checkpoint {
                let kept = Kept {
                    run: record.run,
                    step: record.step,
                    outputs: record.outputs,
                    children: record.children.len(),
                    committed_ms: record.committed_ms.unwrap_or(0),
                };
                job.kept.insert(0, kept);
                job.kept.truncate(CHECKPOINTS_MAX);
            }
            job.record = record;
            job.outputs.extend(ask.outputs.iter().cloned());
            if let Some((name, arrived_us)) = &ask.took
                && job.signals.get(name).is_some_and(|(_, arrived)| arrived == arrived_us)
            {
                job.signals.remove(name);
            }
            job.asked = delay_ms.map(days);
            job.due = job.asked.filter(|_| !pauses);
            let parent = job.spec.parent;
            let unique = job.spec.unique_key.clone();
            let selector = job.spec.job_type.clone();
            let mut front = None;
            let state = match &ask.then {
                _ if pauses => State::Paused,
                Then::Continue => {
                    if let Some(claim) = &mut job.claim {
                        claim.committed = Some(ask.step);
                    }
                    State::Running
                }
                Then::Succeeded { result } => {
                    let result = if result == "null" { String::new() } else { result.clone() };
                    job.result = (!result.is_empty()).then(|| result.clone());
                    ended.push((id, parent, ChildOutcome::Succeeded(result)));
                    State::Succeeded
                }
                Then::Failed => {
                    let why = job.record.error.as_ref().map_or(String::new(), |error| error.message.clone());
                    ended.push((id, parent, ChildOutcome::Failed(why)));
                    State::Failed
                }
                Then::Retry { .. } | Then::Sleep { .. } => State::Scheduled,
                Then::AwaitChildren | Then::AwaitSignal { .. } | Then::AwaitChild { .. } => {
                    waits.push((number, id, ask));
                    State::Waiting
                }
                Then::Paused => State::Paused,
                Then::PausedAsAsked => {
                    front = Some(selector);
                    State::Queued
                }
                Then::Release { pin } => {
                    front = Some(match pin {
                        Some(pin) => format!("{selector}@{pin}"),
                        None => selector,
                    });
                    State::Queued
                }
            };
            if state != State::Running {
                job.parked = Some(state);
            }
            if let Some(selector) = front {
                self.enqueue(&id, &selector);
            }
            for child in &ask.children {
                let child_id = child.id.expect("a child has an id");
                if !self.jobs.contains_key(&child_id) {
                    self.create_one(child_id, child);
                    let job = self.job(&id);
                    job.kids.insert(child_id, ChildOutcome::Pending);
                    job.awaited += 1;
                }
            }
            if ends {
                self.release_unique(&id, unique.as_ref());
            }
            answers.push(CommitAnswer::Done(state));
        }
        for (id, parent, outcome) in ended {
            self.tell_parent(&id, parent, outcome);
        }
        for (number, id, ask) in waits {
            let job = &self.jobs[&id];
            if job.state() == State::Waiting {
                let over = match &ask.then {
                    Then::AwaitSignal { name, .. } => job.signals.contains_key(name),
                    _ => job.awaited <= 0,
                };
                if over {
                    if let Then::AwaitSignal { name, .. } = &ask.then {
                        self.job(&id).record.heard = Some(name.clone());
                    }
                    self.wake(&id);
                }
            }
            answers[number] = CommitAnswer::Done(self.jobs[&id].state());
        }
        answers
    }

    fn cancel(&mut self, id: &JobId) {
        let job = self.job(id);
        job.claim = None;
        job.pausing = false;
        (job.due, job.asked) = (None, None);
        job.parked = Some(State::Cancelled);
        job.record.ended_ms = Some(0);
        job.record.not_before_ms = None;
        job.record.signal = None;
        job.record.parked = None;
        let (parent, unique) = (job.spec.parent, job.spec.unique_key.clone());
        self.release_unique(id, unique.as_ref());
        self.tell_parent(id, parent, ChildOutcome::Failed(CANCELLED.to_owned()));
    }

    fn control(&mut self, id: &JobId, control: Control, from: Option<u64>) -> ControlAnswer {
        if !self.jobs.contains_key(id) {
            return ControlAnswer::Missing;
        }
        let job = self.job(id);
        let state = job.state();
        match (control, state) {
            (Control::Pause, State::Running) => {
                job.pausing = true;
                ControlAnswer::Pending
            }
            (Control::Pause, State::Paused) => ControlAnswer::Done(State::Paused),
            (Control::Pause, state) if !state.is_ended() => {
                job.due = None;
                if state != State::Queued {
                    job.record.parked = Some(state.letter());
                }
                job.parked = Some(State::Paused);
                ControlAnswer::Done(State::Paused)
            }
            (Control::Resume, State::Queued | State::Scheduled | State::Waiting) => {
                ControlAnswer::Done(state)
            }
            (Control::Resume, State::Running) => {
                job.pausing = false;
                ControlAnswer::Done(State::Running)
            }
            (Control::Resume, State::Paused) => ControlAnswer::Done(self.resume(id)),
            (Control::Restart, state) if state == State::Paused || state.is_ended() => self.restart(id, from),
            (Control::Retry, State::Failed) => {
                let newest = job.kept.first().map(|one| one.step);
                self.restart(id, newest)
            }
            (Control::Cancel, State::Cancelled) => ControlAnswer::Done(State::Cancelled),
            (Control::Cancel, state) if !state.is_ended() => {
                self.cancel(id);
                ControlAnswer::Done(State::Cancelled)
            }
            (_, state) => ControlAnswer::Refused(state),
        }
    }

    /// A job that slept or waited when it was paused does so again, unless that is over.
    fn resume(&mut self, id: &JobId) -> State {
        let job = self.job(id);
        let is_due = job.asked.is_some_and(|days| days <= 0);
        let goes_back = match (job.record.parked, job.record.signal.clone()) {
            (None, _) => None,
            (Some('w'), Some(name)) if job.signals.contains_key(&name) => {
                job.record.heard = Some(name);
                None
            }
            (Some('w'), None) if job.awaited <= 0 => None,
            (Some(letter), _) => State::from_letter(letter).filter(|_| !is_due),
        };
        if let Some(state) = goes_back {
            job.record.parked = None;
            job.parked = Some(state);
            job.due = job.asked;
            return state;
        }
        self.wake(id);
        State::Queued
    }

    fn restart(&mut self, id: &JobId, from: Option<u64>) -> ControlAnswer {
        let job = &self.jobs[id];
        let chosen = from.map(|step| job.kept.iter().position(|kept| kept.step == step));
        if chosen == Some(None) {
            return ControlAnswer::NoCheckpoint;
        }
        let chosen = chosen.flatten();
        if let Some(key) = job.spec.unique_key.clone() {
            if let Some(holder) = self.uniques.get(&key).filter(|holder| *holder != id) {
                return ControlAnswer::KeyTaken(*holder);
            }
            self.uniques.insert(key, *id);
        }
        let job = self.job(id);
        let mut again =
            Record { run: job.record.run + 1, replays: job.record.replays.clone(), ..Record::default() };
        let mut kept = Vec::new();
        if let Some(at) = chosen {
            let mut one = job.kept[at].clone();
            one.run = again.run;
            again.step = one.step;
            again.outputs = one.outputs;
            again.digest = Some("abc".into());
            again.version = Some("1.0.0".into());
            again.committed_ms = Some(one.committed_ms);
            let mut children = job.record.children.clone();
            for child in children.split_off(one.children.min(children.len())) {
                if job.kids.remove(&child) == Some(ChildOutcome::Pending) {
                    job.awaited -= 1;
                }
            }
            again.children = children;
            kept.push(one);
        } else {
            job.signals.clear();
            job.kids.clear();
            job.awaited = 0;
        }
        job.outputs.truncate(again.outputs as usize);
        for (at, one) in job.kept.iter().enumerate() {
            if one.outputs <= again.outputs && Some(at) != chosen {
                kept.push(one.clone());
            }
        }
        job.kept = kept;
        job.result = None;
        job.record = again;
        self.wake(id);
        ControlAnswer::Done(State::Queued)
    }

    fn move_job(&mut self, id: &JobId, queue: Option<&str>, priority: Option<u8>) -> ControlAnswer {
        if !self.jobs.contains_key(id) {
            return ControlAnswer::Missing;
        }
        let job = self.job(id);
        let state = job.state();
        if state.is_ended() {
            return ControlAnswer::Refused(state);
        }
        let before = (job.spec.queue().to_owned(), job.spec.priority);
        let after = (queue.map_or(before.0.clone(), str::to_owned), priority.unwrap_or(before.1));
        if after != before {
            job.spec.queue = if after.0 == job.spec.job_type { String::new() } else { after.0 };
            job.spec.priority = after.1;
            if state == State::Queued {
                let selector = job.spec.job_type.clone();
                self.enqueue(id, &selector);
            }
        }
        ControlAnswer::Done(state)
    }

    fn delete(&mut self, id: &JobId) -> bool {
        let Some(job) = self.jobs.remove(id) else { return false };
        self.touched.insert(*id);
        self.release_unique(id, job.spec.unique_key.as_ref());
        if !job.state().is_ended() {
            self.tell_parent(id, job.spec.parent, ChildOutcome::Failed(DELETED.to_owned()));
        }
        true
    }

    fn signal(&mut self, id: &JobId, name: &str, payload: &str, arrived_us: u64) -> SignalAnswer {
        if !self.jobs.contains_key(id) {
            return SignalAnswer::Missing;
        }
        let job = self.job(id);
        if job.state().is_ended() {
            return SignalAnswer::Ended(job.state());
        }
        job.signals.insert(name.to_owned(), (payload.to_owned(), arrived_us));
        if job.state() != State::Waiting || job.record.signal.as_deref() != Some(name) {
            return SignalAnswer::Stored;
        }
        job.record.heard = Some(name.to_owned());
        self.wake(id);
        SignalAnswer::Delivered
    }

    /// Cancels what is queued, and what that wakes in the same queue.
    fn purge(&mut self, queue: &str) -> u64 {
        let mut cancelled = 0;
        while let Some(id) = self
            .jobs
            .iter()
            .find(|(_, job)| job.state() == State::Queued && job.spec.queue() == queue)
            .map(|(id, _)| *id)
        {
            self.cancel(&id);
            cancelled += 1;
        }
        cancelled
    }

    fn may_claim(&self, request: &ClaimRequest, job: &Job) -> bool {
        let queue = job.spec.queue();
        job.state() == State::Queued
            && !self.paused.contains(queue)
            && request.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
    }
}

/// Says what was done last when an assertion fails.
struct Trail {
    seed: u64,
    done: usize,
    last: VecDeque<String>,
}

impl Trail {
    fn note(&mut self, what: String) {
        self.done += 1;
        if self.last.len() == 30 {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>6} {what:.2000}", self.done));
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("WAYMARK_SEED={}, the last operations:", self.seed);
            for line in &self.last {
                println!("{line}");
            }
        }
    }
}

/// A record without what the clock decides, and what is only told to people.
fn timeless(record: &Record) -> Record {
    Record {
        ended_ms: record.ended_ms.map(|_| 0),
        not_before_ms: record.not_before_ms.map(|_| 0),
        started_ms: None,
        host: None,
        past: Vec::new(),
        ..record.clone()
    }
}

struct Driver {
    world: World,
    proxy: Proxy,
    connection: redis::Connection,
    model: Model,
    rng: Rng,
    trail: Trail,
    /// What workers hold or once held.
    hands: Vec<Held>,
    workers_made: usize,
    /// A time of the last operation is over in a moment.
    waits: bool,
}

impl Driver {
    async fn new(seed: u64) -> Self {
        let mut proxy = None;
        let world = World::with(|options| {
            let before = Proxy::before(&options.url);
            options.url.clone_from(&before.url);
            proxy = Some(before);
        })
        .await;
        let proxy = proxy.expect("it was made");
        let connection = world.redis.connection();
        let mut model = Model::default();
        model.workers.insert("w1".into(), Lease::Holds);
        let limits = serde_json::from_str(LIMITS).unwrap();
        world.store.set_limits(LIMITED, Some(&limits)).await.unwrap();
        let trail = Trail { seed, done: 0, last: VecDeque::new() };
        let (hands, workers_made, waits) = (Vec::new(), 1, false);
        Self { world, proxy, connection, model, rng: Rng(seed), trail, hands, workers_made, waits }
    }

    fn note(&mut self, what: String) {
        self.trail.note(what);
    }

    /// Lets the connection break now and then during the next call. The first operations give the server its scripts.
    fn expect_trouble(&mut self) {
        if self.trail.done > 300 && self.rng.chance(4) {
            let cut = *self.rng.pick(&[Cut::Before, Cut::After]);
            let after = if self.rng.chance(80) { 0 } else { 1 };
            self.proxy.arm(cut, after);
        }
    }

    /// How often the call since then reached the server: a call whose answer was lost is repeated.
    fn times(&mut self) -> usize {
        match self.proxy.disarm() {
            Some(cut) => {
                self.note(format!("the connection broke: {cut:?}"));
                if cut == Cut::After { 2 } else { 1 }
            }
            None => 1,
        }
    }

    fn any_job(&mut self) -> Option<JobId> {
        let order = &self.model.order;
        // Mostly one of the newer ones, now and then one that may be gone.
        let from = if self.rng.chance(95) { order.len().saturating_sub(200) } else { 0 };
        for _ in 0..8 {
            let id = *order.get(from..).filter(|list| !list.is_empty()).map(|list| self.rng.pick(list))?;
            if self.model.jobs.contains_key(&id) || self.rng.chance(3) {
                return Some(id);
            }
        }
        None
    }

    fn worker(&mut self) -> String {
        let all: Vec<_> = self.model.workers.iter().map(|(name, lease)| (name.clone(), *lease)).collect();
        let good: Vec<_> = all.iter().filter(|(_, lease)| *lease == Lease::Holds).collect();
        if good.is_empty() || self.rng.chance(8) {
            return self.rng.pick(&all).0.clone();
        }
        self.rng.pick(&good).0.clone()
    }

    fn delay(&mut self) -> Option<u64> {
        match self.rng.below(10) {
            0 | 1 => Some(1),
            2 => Some(FAR_MS),
            3 => Some(0),
            _ => None,
        }
    }

    fn spec(&mut self) -> Spec {
        let mut spec = support::spec(self.rng.pick::<&str>(&TYPES));
        spec.queue = (*self.rng.pick(&QUEUES)).into();
        spec.priority = *self.rng.pick(&[0, 0, 3, 9]);
        if self.rng.chance(30) {
            spec.tags = vec![(*self.rng.pick(&TAGS)).into()];
        }
        if self.rng.chance(20) {
            spec.correlation_id = Some("whole".into());
        }
        if self.rng.chance(40) {
            spec.key = Some((*self.rng.pick(&KEYS)).into());
        }
        if self.rng.chance(20) {
            spec.weight = Some(1 + self.rng.below(6) as u32);
        }
        spec
    }

    async fn create(&mut self) {
        let mut jobs = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let mut new = NewJob { spec: self.spec(), delay_ms: self.delay(), ..NewJob::default() };
            if self.rng.chance(25) {
                new.spec.unique_key = Some(format!("u{}", self.rng.below(6)));
                new.spec.unique_until = self.rng.chance(30).then_some(UniqueUntil::Started);
                new.replaces_input = self.rng.chance(30);
                new.spec.input = self.rng.below(1_000).to_string();
            }
            if self.rng.chance(15) {
                new.idempotency_key = Some(format!("i{}", self.rng.below(12)));
            }
            if self.rng.chance(15) {
                new.id = match self.any_job() {
                    Some(id) if self.rng.chance(30) && self.model.jobs.contains_key(&id) => Some(id),
                    _ => Some(JobId::generate(now_ms(), 0).unwrap()),
                };
            }
            self.waits |= new.delay_ms == Some(1);
            jobs.push(new);
        }
        // An answer that is lost: the same ids or keys are asked for again.
        let rounds = if self.rng.chance(15) { 2 } else { 1 };
        for _ in 0..rounds {
            self.expect_trouble();
            let answers = self.world.store.create(jobs.clone()).await.unwrap();
            let is_repeated = self.times() > 1;
            self.note(format!("create {jobs:?}: {answers:?}"));
            for (new, answer) in jobs.iter().zip(answers) {
                let stands = self.model.stands_for(new);
                let (mut existing, id) = match stands {
                    Some((id, _)) => (true, id),
                    None => (false, new.id.unwrap_or(answer.id)),
                };
                let is_new = !existing;
                // Of an id that the caller chose nobody knows whether an earlier call made the job.
                existing |= is_repeated && new.id == Some(id);
                assert_eq!((answer.existing, answer.id), (existing, id), "creation of {new:?}");
                let updated = stands.is_some_and(|(id, by_key)| by_key && self.model.replace_input(&id, new));
                assert_eq!(answer.updated, updated, "creation of {new:?}");
                if is_new {
                    self.model.create_one(id, new);
                    if let Some(key) = &new.spec.unique_key {
                        self.model.uniques.insert(key.clone(), id);
                    }
                    if let Some(key) = &new.idempotency_key {
                        self.model.idempotent.insert(key.clone(), id);
                    }
                }
                assert_eq!(answer.state, self.model.jobs[&id].state(), "creation of {new:?}");
            }
        }
    }

    fn request(&mut self) -> ClaimRequest {
        let mut selectors = Vec::new();
        for name in TYPES {
            if self.rng.chance(80) {
                selectors.push(name.to_owned());
            }
            if self.rng.chance(60) {
                selectors.push(format!("{name}@{PIN}"));
            }
        }
        if selectors.is_empty() {
            selectors.push("a".into());
        }
        let queues = self.rng.chance(20).then(|| vec!["x".to_owned(), (*self.rng.pick(&TYPES)).to_owned()]);
        ClaimRequest {
            worker: self.worker(),
            token: self.rng.token(),
            selectors,
            queues,
            limit: *self.rng.pick(&[1, 2, 3, 8, 40]),
            fair: if self.rng.chance(20) { 1 + self.rng.below(3) as u32 } else { 0 },
        }
    }

    async fn claim(&mut self) {
        let request = self.request();
        if self.rng.chance(4) {
            // A claim that arrives after it was given up.
            let taken = self.world.store.recover(0, &request.worker, &request.token).await.unwrap();
            assert_eq!(taken, 0);
            self.model.used.insert(request.token.clone());
        }
        self.expect_trouble();
        let answer = self.world.store.claim(0, &request).await;
        let cut = self.proxy.disarm();
        self.note(format!("claim {request:?}: {answer:?} {cut:?}"));
        if let Some(cut) = cut {
            self.give_up(request, cut).await;
            return;
        }
        if self.model.workers[&request.worker] != Lease::Holds {
            assert!(matches!(answer, Err(Error::Unregistered)), "{answer:?}");
            return;
        }
        if self.model.used.contains(&request.token) {
            assert!(matches!(answer, Err(Error::Corrupt { .. })), "{answer:?}");
            return;
        }
        self.model.wake_due();
        let claimed = held(&self.world.store, answer.unwrap(), &request).await;
        assert!(claimed.len() <= request.limit);
        let mut lowest = 9;
        for one in &claimed {
            let job = &self.model.jobs[&one.id];
            assert!(self.model.may_claim(&request, job), "{} was claimed, which is {job:?}", one.id);
            assert!(request.selectors.iter().any(|name| job.lines.contains(name)), "no line of {job:?}");
            assert_eq!(*one.spec, job.spec, "{}", one.id);
            assert_eq!(timeless(&one.record), timeless(&job.record));
            lowest = lowest.min(job.spec.priority);
            self.model.claimed(&one.id, &request.worker, &request.token);
        }
        self.model.check_limits();
        // What limits hold back may be left; [`Driver::drain`] looks at it.
        for (id, job) in self.model.jobs.iter().filter(|(_, job)| job.spec.queue() != LIMITED) {
            let left = self.model.may_claim(&request, job) && request.selectors.contains(&job.line);
            assert!(!left || claimed.len() == request.limit, "{id} was left though it is {job:?}");
            assert!(!left || request.fair > 0 || job.spec.priority <= lowest, "{id} goes before: {job:?}");
        }
        if !claimed.is_empty() {
            self.model.used.insert(request.token.clone());
        }
        if self.rng.chance(10) {
            // The answer is lost: the worker gives the claim up.
            let expected = self.model.take_all(false, |claim| claim.token == request.token);
            let taken = self.world.store.recover(0, &request.worker, &request.token).await.unwrap();
            self.note(format!("recover {}: {taken}", request.token));
            assert_eq!(taken, expected);
            self.model.used.insert(request.token);
        }
        self.hands.extend(claimed);
        while self.hands.len() > 80 {
            let at = self.rng.below(self.hands.len());
            self.hands.swap_remove(at);
        }
    }

    /// Nobody knows what became of a claim: whatever it took goes back.
    async fn give_up(&mut self, request: ClaimRequest, cut: Cut) {
        let is_valid =
            self.model.workers[&request.worker] == Lease::Holds && !self.model.used.contains(&request.token);
        if cut == Cut::After && is_valid {
            self.model.wake_due();
            for (id, token) in self.world.store.held(0, &request.worker).await.unwrap() {
                if token == request.token {
                    self.model.claimed(&id, &request.worker, &token);
                }
            }
        }
        let expected = self.model.take_all(false, |claim| {
            claim.worker == request.worker && claim.token == request.token && claim.committed.is_none()
        });
        let taken = self.world.store.recover(0, &request.worker, &request.token).await.unwrap();
        self.note(format!("recover {}: {taken}", request.token));
        assert_eq!(taken, expected);
        self.model.used.insert(request.token);
    }

    async fn recover(&mut self) {
        let Some(hand) = self.any_hand() else { return };
        let (token, worker) = (self.hands[hand].token.clone(), self.worker());
        let taken = self.world.store.recover(0, &worker, &token).await.unwrap();
        self.note(format!("recover {worker} {token}: {taken}"));
        let expected = self.model.take_all(false, |claim| {
            claim.worker == worker && claim.token == token && claim.committed.is_none()
        });
        assert_eq!(taken, expected);
        self.model.used.insert(token);
    }

    /// Mostly a job that is really held.
    fn any_hand(&mut self) -> Option<usize> {
        let live: Vec<_> = (0..self.hands.len())
            .filter(|at| {
                let hand = &self.hands[*at];
                self.model.jobs.get(&hand.id).is_some_and(|job| job.holds(&hand.token))
            })
            .collect();
        if !live.is_empty() && self.rng.chance(85) {
            return Some(*self.rng.pick(&live));
        }
        (!self.hands.is_empty()).then(|| self.rng.below(self.hands.len()))
    }

    fn then(&mut self) -> Then {
        let delay_ms = *self.rng.pick(&[0, 1, FAR_MS]);
        match self.rng.below(16) {
            0..=4 => Then::Continue,
            5 => Then::Succeeded { result: "null".into() },
            6 => Then::Succeeded { result: "42".into() },
            7 => Then::Failed,
            8 => Then::Retry { delay_ms },
            9 => Then::Sleep { delay_ms },
            10 | 11 => Then::AwaitChildren,
            12 => {
                let name = (*self.rng.pick(&SIGNALS)).into();
                Then::AwaitSignal { name, timeout_ms: self.rng.chance(50).then_some(delay_ms) }
            }
            13 => Then::Paused,
            14 => Then::PausedAsAsked,
            _ => Then::Release { pin: self.rng.chance(50).then(|| PIN.into()) },
        }
    }

    /// Makes the same commit from the same seed, so that it can be sent twice.
    fn build(&mut self, hand: &mut Held) -> Commit {
        let then = self.then();
        let (outputs, children) = (self.rng.below(3), self.rng.below(12).saturating_sub(8));
        let is_step = self.rng.chance(85);
        if is_step {
            for index in 0..children {
                let next = hand.record.step + 1;
                let child = JobId::child(&hand.id, hand.record.run, next, index as u32, now_ms());
                hand.record.children.push(child);
            }
        }
        let mut commit = if is_step { hand.step(then) } else { hand.then(then) };
        if is_step {
            hand.record.outputs += outputs as u64;
            hand.record.outputs -= 1;
            commit.record.outputs = hand.record.outputs;
            commit.outputs = (0..outputs).map(|index| format!("{}.{index}", commit.step)).collect();
            if self.rng.chance(30) {
                commit.checkpoint = None;
            }
            let first = commit.record.children.len() - children;
            for id in commit.record.children[first..].iter().copied() {
                let mut spec = self.spec();
                spec.parent = Some(hand.id);
                commit.children.push(NewJob {
                    id: Some(id),
                    spec,
                    delay_ms: self.delay(),
                    ..NewJob::default()
                });
            }
        }
        // Times count from now, so that an hour from it is not over.
        commit.record.committed_ms = Some(now_ms());
        self.waits |= commit.children.iter().any(|child| child.delay_ms == Some(1));
        self.waits |= matches!(
            commit.then,
            Then::Retry { .. } | Then::Sleep { .. } | Then::AwaitSignal { timeout_ms: Some(_), .. }
        );
        commit
    }

    async fn commit(&mut self) {
        let mut commits = Vec::new();
        let number = if self.rng.chance(30) { 1 + self.rng.below(6) } else { 1 };
        for _ in 0..number {
            let Some(at) = self.any_hand() else { return };
            let mut hand = self.hands[at].clone();
            if number == 1 && self.rng.chance(6) {
                // The server lost commits that the worker goes on from.
                hand.record.step += 2;
            }
            let commit = self.build(&mut hand);
            self.hands[at] = hand;
            commits.push(commit);
        }
        let rounds = if self.rng.chance(15) { 2 } else { 1 };
        for _ in 0..rounds {
            let asks: Vec<_> = commits.iter().map(Ask::of).collect();
            self.expect_trouble();
            let answers = self.world.store.commit(0, &mut commits).await.unwrap();
            let times = self.times();
            self.note(format!("commit {commits:?}: {answers:?}"));
            let mut expected = Vec::new();
            for _ in 0..times {
                expected = self.model.commit(&asks);
            }
            assert_eq!(answers, expected);
        }
        if self.rng.chance(80) {
            let model = &self.model;
            let is_of = |hand: &Held| commits.iter().any(|commit| commit.id == hand.id);
            let holds = |hand: &Held| model.jobs.get(&hand.id).is_some_and(|job| job.holds(&hand.token));
            self.hands.retain(|hand| !is_of(hand) || holds(hand));
        }
    }

    async fn control(&mut self) {
        let Some(id) = self.any_job() else { return };
        let control = *self.rng.pick(&[
            Control::Pause,
            Control::Pause,
            Control::Resume,
            Control::Resume,
            Control::Restart,
            Control::Restart,
            Control::Retry,
            Control::Cancel,
        ]);
        let from = match self.model.jobs.get(&id) {
            Some(job) if !job.kept.is_empty() && self.rng.chance(50) => Some(self.rng.pick(&job.kept).step),
            _ => self.rng.chance(10).then_some(7),
        };
        let from = from.filter(|_| control == Control::Restart);
        self.expect_trouble();
        let answer = self.world.store.control(&id, control, from).await.unwrap();
        let times = self.times();
        self.note(format!("{control:?} {id} {from:?}: {answer:?}"));
        let mut expected = ControlAnswer::Missing;
        for _ in 0..times {
            expected = self.model.control(&id, control, from);
        }
        assert_eq!(answer, expected);
    }

    async fn move_jobs(&mut self) {
        let ids: Vec<_> = (0..=self.rng.below(4)).filter_map(|_| self.any_job()).collect();
        let queue = self.rng.chance(60).then(|| *self.rng.pick(&["a", "b", "x", "y"]));
        let priority = (queue.is_none() || self.rng.chance(30)).then(|| *self.rng.pick(&[0, 3, 9]));
        self.expect_trouble();
        let answers = self.world.store.move_jobs(&ids, queue, priority).await.unwrap();
        // Done twice it is the same.
        let _ = self.times();
        self.note(format!("move {ids:?} to {queue:?} {priority:?}: {answers:?}"));
        let expected: Vec<_> = ids.iter().map(|id| self.model.move_job(id, queue, priority)).collect();
        assert_eq!(answers, expected);
    }

    async fn replay(&mut self) {
        let Some(id) = self.any_job() else { return };
        let Some(job) = self.model.jobs.get(&id) else { return };
        let mut new = NewJob { spec: job.spec.clone(), ..NewJob::default() };
        (new.spec.parent, new.spec.unique_key, new.spec.replay_of) = (None, None, Some(id));
        let made = self.world.store.create(vec![new.clone()]).await.unwrap()[0].id;
        self.world.store.replayed(&id, &made).await.unwrap();
        self.note(format!("replay {id}: {made}"));
        self.model.create_one(made, &new);
        let old = self.model.job(&id);
        if old.state().is_ended() {
            old.record.replays.push(made);
            if old.record.replays.len() > 10 {
                old.record.replays.remove(0);
            }
        }
    }

    async fn delete(&mut self) {
        let Some(id) = self.any_job() else { return };
        self.expect_trouble();
        let deleted = self.world.store.delete(&id).await.unwrap();
        let times = self.times();
        self.note(format!("delete {id}: {deleted}"));
        let expected = self.model.delete(&id);
        // The second time it is gone already.
        assert_eq!(deleted, expected && times == 1);
    }

    async fn signal(&mut self) {
        let Some(id) = self.any_job() else { return };
        let (name, payload) = (*self.rng.pick(&SIGNALS), self.rng.below(9).to_string());
        self.expect_trouble();
        let answer = self.world.store.signal(&id, name, &payload).await.unwrap();
        let times = self.times();
        self.note(format!("signal {id} {name}: {answer:?}"));
        let mut expected = SignalAnswer::Missing;
        let stored = self.world.store.load(&id, &Record::default()).await.unwrap().signals;
        let arrived_us = stored.iter().find(|one| one.name == name).map_or(0, |one| one.arrived_us);
        for _ in 0..times {
            expected = self.model.signal(&id, name, &payload, arrived_us);
        }
        assert_eq!(answer, expected);
    }

    async fn queue(&mut self) {
        let name = *self.rng.pick(&["a", "b", "x", "y"]);
        match self.rng.below(7) {
            0 | 1 => {
                self.world.store.pause_queue(name).await.unwrap();
                self.note(format!("pause queue {name}"));
                self.model.paused.insert(name.into());
            }
            6 => {
                self.expect_trouble();
                let purged = self.world.store.purge_queue(name).await.unwrap();
                let times = self.times();
                self.note(format!("purge queue {name}: {purged}"));
                let expected = self.model.purge(name);
                assert!(purged == expected || times > 1 && purged < expected, "{purged} of {expected}");
            }
            _ => {
                self.world.store.resume_queue(name).await.unwrap();
                self.note(format!("resume queue {name}"));
                self.model.paused.remove(name);
            }
        }
    }

    async fn lease(&mut self) {
        let living = self.model.workers.values().filter(|lease| **lease == Lease::Holds).count();
        let worker = self.worker();
        match self.rng.below(10) {
            _ if living < 2 => self.register().await,
            0 if living < 5 => self.register().await,
            1 => {
                // The worker dies: nobody renews its lease until that runs out.
                if self.model.workers[&worker] == Lease::Holds {
                    self.note(format!("the lease of {worker} runs out"));
                    let () = redis::cmd("ZADD")
                        .arg("{wm0}:workers")
                        .arg(1)
                        .arg(&worker)
                        .query(&mut self.connection)
                        .unwrap();
                    self.model.workers.insert(worker, Lease::RanOut);
                }
            }
            2 => {
                let crashed = self.rng.chance(50);
                self.expect_trouble();
                let taken = self.world.store.retire(0, &worker, crashed).await.unwrap();
                let times = self.times();
                self.note(format!("retire {worker} {crashed}: {taken}"));
                let expected = self.model.take_all(crashed, |claim| claim.worker == worker);
                assert!(taken == expected || times > 1 && taken < expected, "{taken} of {expected}");
                self.model.workers.insert(worker, Lease::Gone);
            }
            3 => {
                let mut known = self.world.store.held(0, &worker).await.unwrap();
                known.sort();
                let claims = self.model.jobs.iter().filter_map(|(id, job)| Some((id, job.claim.as_ref()?)));
                let own = claims.filter(|(_, claim)| claim.worker == worker);
                let expected: Vec<_> = own.map(|(id, claim)| (*id, claim.token.clone())).collect();
                assert_eq!(known, expected, "what {worker} holds");
                known.truncate(2);
                if let Some(at) = self.any_hand() {
                    known.push((self.hands[at].id, self.rng.token()));
                }
                let taken = self.world.store.give_back(0, &known).await.unwrap();
                self.note(format!("give back {known:?}: {taken}"));
                let mut count = 0;
                for (id, token) in known {
                    if self.model.jobs.get(&id).is_some_and(|job| job.holds(&token)) {
                        self.model.take_back(&id, false);
                        count += 1;
                    }
                }
                assert_eq!(taken, count);
            }
            _ => {
                self.expect_trouble();
                let answer = self.world.store.renew(0, &worker, LEASE_MS).await.unwrap();
                let times = self.times();
                self.note(format!("renew {worker}: {answer:?}"));
                let mut expected = (false, 0);
                for _ in 0..times {
                    expected = self.model.beat(&worker, false);
                }
                assert_eq!((answer.alive, answer.reaped), expected);
                let mut pauses = answer.pauses;
                pauses.sort();
                let is_own =
                    |job: &Job| job.pausing && job.claim.as_ref().is_some_and(|claim| claim.worker == worker);
                let jobs = self.model.jobs.iter().filter(|(_, job)| answer.alive && is_own(job));
                assert_eq!(pauses, jobs.map(|(id, _)| *id).collect::<Vec<_>>());
            }
        }
        // Those gone long ago need not be chosen any more.
        if self.model.workers.len() > 12 {
            self.model.workers.retain(|_, lease| *lease != Lease::Gone);
        }
    }

    async fn register(&mut self) {
        self.workers_made += 1;
        let worker = format!("w{}", self.workers_made);
        self.world.store.register(0, &worker, LEASE_MS).await.unwrap();
        self.note(format!("register {worker}"));
        self.model.beat(&worker, true);
    }

    /// The server's clock jumps by a day: the same as moving all that it is compared with the other way.
    fn jump(&mut self) {
        let forward = self.rng.chance(60);
        let day = if forward { -(FAR_MS as i64) } else { FAR_MS as i64 };
        self.note(format!("the clock jumps {}", if forward { "forward" } else { "back" }));
        let mut shift = |name: &str| {
            let scores: Vec<(String, f64)> = redis::cmd("ZRANGE")
                .arg(name)
                .arg(0)
                .arg(-1)
                .arg("WITHSCORES")
                .query(&mut self.connection)
                .unwrap();
            for (member, score) in scores {
                // A lease of 0 is a mark, not a time.
                let shifted = if score == 0.0 { 0 } else { (score as i64 + day).max(1) };
                let mut command = redis::cmd("ZADD");
                let () = command.arg(name).arg(shifted).arg(member).query(&mut self.connection).unwrap();
            }
        };
        shift("{wm0}:due");
        if forward {
            shift("{wm0}:workers");
            for lease in self.model.workers.values_mut().filter(|lease| **lease == Lease::Holds) {
                *lease = Lease::RanOut;
            }
        }
        for job in self.model.jobs.values_mut() {
            job.due = job.due.map(|days| if forward { days - 1 } else { days + 1 });
        }
    }

    async fn sweep(&mut self) {
        let kept_ms = if self.rng.chance(20) { FAR_MS } else { 0 };
        // Everything that ended did so before this millisecond.
        tokio::time::sleep(Duration::from_millis(3)).await;
        let retention =
            Retention { succeeded_ms: kept_ms, failed_ms: kept_ms, cancelled_ms: FAR_MS, results_ms: None };
        let gone = self.world.store.sweep(|_| retention, 10_000).await.unwrap();
        self.note(format!("sweep {retention:?}: {gone}"));
        let mut expected = 0;
        for id in self.model.jobs.keys().copied().collect::<Vec<_>>() {
            let is_over =
                kept_ms == 0 && matches!(self.model.jobs[&id].state(), State::Succeeded | State::Failed);
            expected += u64::from(is_over && self.model.delete(&id));
        }
        assert_eq!(gone, expected);
    }

    async fn operate(&mut self) {
        self.waits = false;
        let is_full = self.model.jobs.len() >= JOBS_MAX;
        match self.rng.below(100) {
            0..=17 if is_full => self.delete().await,
            0..=17 => self.create().await,
            18..=35 => self.claim().await,
            36..=63 => self.commit().await,
            64..=79 => self.control().await,
            80..=81 => self.delete().await,
            82..=83 => self.move_jobs().await,
            84..=88 => self.signal().await,
            89..=91 => self.queue().await,
            92..=96 => self.lease().await,
            97 if !is_full && self.rng.chance(50) => self.replay().await,
            97 if self.rng.chance(20) => self.jump(),
            97 => self.recover().await,
            _ if is_full || self.rng.chance(10) => self.sweep().await,
            _ => self.claim().await,
        }
        if self.waits {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let touched: Vec<_> = std::mem::take(&mut self.model.touched).into_iter().collect();
        for id in &touched {
            self.check(id).await;
        }
        if !touched.is_empty() && self.rng.chance(40) {
            let id = *self.rng.pick(&touched);
            self.check_parts(&id).await;
        }
    }

    /// State, record and result of one job.
    async fn check(&self, id: &JobId) {
        let view = self.world.store.get(id).await.unwrap();
        let Some(job) = self.model.jobs.get(id) else {
            assert!(view.is_none(), "{id} is still there: {view:?}");
            return;
        };
        let view = view.unwrap_or_else(|| panic!("{id} is not there"));
        assert_eq!(view.state, job.state(), "{id}: {view:?} {job:?}");
        assert_eq!(timeless(&view.record), timeless(&job.record), "{id}");
        assert_eq!(view.spec, job.spec, "{id}");
        assert_eq!((view.result, view.pause_pending), (job.result.clone(), job.pausing), "{id}");
        if let Some(claim) = &job.claim {
            assert_eq!(view.record.host.as_ref(), Some(&claim.worker), "{id}");
        }
    }

    /// What is kept of a job beside its record.
    async fn check_parts(&self, id: &JobId) {
        let store = &self.world.store;
        let nothing = Job::default();
        let job = self.model.jobs.get(id).unwrap_or(&nothing);
        assert_eq!(store.outputs(id, 0, 1_000_000).await.unwrap(), job.outputs, "outputs of {id}");
        let kept = store.checkpoints(id).await.unwrap();
        let kept: Vec<_> = kept.iter().map(|one| (one.run, one.step, one.outputs)).collect();
        let expected: Vec<_> = job.kept.iter().map(|one| (one.run, one.step, one.outputs)).collect();
        assert_eq!(kept, expected, "checkpoints of {id}");
        let resume = store.load(id, &job.record).await.unwrap();
        let outcome = |child: &JobId| job.kids.get(child).cloned().unwrap_or(ChildOutcome::Pending);
        let children: Vec<_> = job.record.children.iter().map(|child| (*child, outcome(child))).collect();
        assert_eq!(resume.children, children, "children of {id}");
        let signals = resume.signals.into_iter().map(|one| (one.name, (one.payload, one.arrived_us)));
        assert_eq!(signals.collect::<BTreeMap<_, _>>(), job.signals, "signals of {id}");
    }

    /// Everything.
    async fn check_all(&self) {
        for id in self.model.jobs.keys() {
            self.check(id).await;
            self.check_parts(id).await;
        }
        let mut connection = self.world.redis.connection();
        for (id, job) in &self.model.jobs {
            let mut command = redis::cmd("HGET");
            command.arg(format!("{{wm0}}:kids:{id}")).arg("n");
            let awaited: Option<i64> = command.query(&mut connection).unwrap();
            assert_eq!(awaited.unwrap_or(0), job.awaited, "children that {id} waits for");
        }
        let store = &self.world.store;
        let mut counts = BTreeMap::<(String, State), u64>::new();
        let mut depths = BTreeMap::<String, u64>::new();
        for job in self.model.jobs.values() {
            *counts.entry((job.spec.job_type.clone(), job.state())).or_default() += 1;
            if job.state() == State::Queued {
                *depths.entry(job.spec.queue().to_owned()).or_default() += 1;
            }
        }
        let found = store.counts().await.unwrap();
        let found: BTreeMap<_, _> =
            found.into_iter().filter(|one| one.2 > 0).map(|one| ((one.0, one.1), one.2)).collect();
        assert_eq!(found, counts);
        let queues = store.queues().await.unwrap();
        let found: BTreeMap<_, _> = queues
            .iter()
            .filter(|queue| queue.depth > 0)
            .map(|queue| (queue.name.clone(), queue.depth))
            .collect();
        assert_eq!(found, depths);
        let paused: BTreeSet<_> =
            queues.iter().filter(|queue| queue.paused).map(|queue| queue.name.clone()).collect();
        assert_eq!(paused, self.model.paused);
        let filters = [
            Filter::default(),
            Filter { tag: Some("red".into()), ..Filter::default() },
            Filter { queue: Some("x".into()), ..Filter::default() },
            Filter { correlation_id: Some("whole".into()), ..Filter::default() },
            Filter { states: vec![State::Paused, State::Running], ..Filter::default() },
        ];
        for filter in filters {
            let page = store.list(&filter, 1_000, None).await.unwrap();
            let takes = |job: &Job| {
                (filter.states.is_empty() || filter.states.contains(&job.state()))
                    && filter.tag.as_ref().is_none_or(|tag| job.spec.tags.contains(tag))
                    && filter.queue.as_ref().is_none_or(|queue| job.spec.queue() == queue)
                    && (filter.correlation_id.is_none() || filter.correlation_id == job.spec.correlation_id)
            };
            let found: BTreeSet<_> = page.jobs.iter().map(|view| view.id).collect();
            let jobs = self.model.jobs.iter().filter(|(_, job)| takes(job));
            assert_eq!(found, jobs.map(|(id, _)| *id).collect(), "{filter:?}");
        }
    }
}

impl Driver {
    /// Every job that waits gets its turn: no limit keeps one for ever.
    async fn drain(&mut self) {
        for name in self.model.paused.clone() {
            self.world.store.resume_queue(&name).await.unwrap();
            self.model.paused.remove(&name);
        }
        self.register().await;
        let worker = format!("w{}", self.workers_made);
        let all = self.model.take_all(false, |_| true);
        let mut taken = 0;
        for worker in self.model.workers.clone().into_keys().filter(|name| *name != worker) {
            taken += self.world.store.retire(0, &worker, false).await.unwrap();
        }
        assert_eq!(taken, all);
        for round in 0..500 {
            let waiting = self.model.jobs.values().filter(|job| job.state() == State::Queued).count();
            if waiting == 0 {
                return;
            }
            assert!(round < 400, "{waiting} jobs never get their turn");
            let selectors = TYPES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}@{PIN}")]);
            let mut request = support::request(&worker, &[], 40);
            request.selectors = selectors.collect();
            let claimed = self.world.store.claim(0, &request).await.unwrap();
            let claimed = held(&self.world.store, claimed, &request).await;
            self.model.wake_due();
            for one in &claimed {
                self.model.claimed(&one.id, &request.worker, &request.token);
            }
            self.model.check_limits();
            let mut commits: Vec<_> =
                claimed.iter().map(|one| one.then(Then::Succeeded { result: "1".into() })).collect();
            let asks: Vec<_> = commits.iter().map(Ask::of).collect();
            let answers = self.world.store.commit(0, &mut commits).await.unwrap();
            assert_eq!(answers, self.model.commit(&asks));
            tokio::time::sleep(Duration::from_millis(if claimed.is_empty() { 20 } else { 1 })).await;
        }
    }
}

async fn run(seed: u64, operations: usize) {
    println!("WAYMARK_SEED={seed} WAYMARK_MODEL_OPERATIONS={operations}");
    let mut driver = Driver::new(seed).await;
    for number in 1..=operations {
        driver.operate().await;
        if number % 100 == 0 {
            driver.world.check_ledger();
        }
        if number % 1_000 == 0 {
            driver.check_all().await;
        }
    }
    driver.check_all().await;
    driver.world.check_ledger();
    driver.drain().await;
    driver.check_all().await;
    driver.world.check_ledger();
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn the_scripts_do_what_the_model_does() {
    let operations = setting("WAYMARK_MODEL_OPERATIONS").unwrap_or(3_000) as usize;
    let seeds = setting("WAYMARK_SEED").map_or_else(|| vec![1, 2, 3], |seed| vec![seed]);
    std::thread::scope(|scope| {
        for seed in seeds {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run(seed, operations));
            });
        }
    });
}

#[tokio::test]
async fn a_parent_that_a_purge_wakes_and_cancels_stands_in_one_index() {
    let world = World::new().await;
    let parent = world.create(support::job(support::TYPE)).await;
    let mut hand = world.claim(1).await.remove(0);
    let child = JobId::child(&parent, 1, 1, 0, now_ms());
    hand.record.children.push(child);
    let mut commit = hand.step(Then::Sleep { delay_ms: 0 });
    let spec = Spec { parent: Some(parent), ..support::spec(support::TYPE) };
    commit.children = vec![NewJob { id: Some(child), spec, ..NewJob::default() }];
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Scheduled));
    // The parent wakes and stands behind its child, which is claimed.
    let young = world.claim(1).await.remove(0);
    assert_eq!(young.id, child);
    // Now it stands in front as well, is claimed from there, and leaves the other entry behind.
    for control in [Control::Pause, Control::Resume] {
        world.store.control(&parent, control, None).await.unwrap();
    }
    let mut hand = world.claim(1).await.remove(0);
    assert_eq!(hand.id, parent);
    assert_eq!(world.commit(hand.step(Then::AwaitChildren)).await, CommitAnswer::Done(State::Waiting));
    let release = young.then(Then::Release { pin: None });
    assert_eq!(world.commit(release).await, CommitAnswer::Done(State::Queued));
    world.check_ledger();
    assert_eq!(world.store.purge_queue(support::TYPE).await.unwrap(), 2);
    assert_eq!((world.state(&child).await, world.state(&parent).await), (State::Cancelled, State::Cancelled));
    world.check_ledger();
}
