//! Creating, reading, listing and controlling jobs.

use crate::{Error, Store, limits, objects, pack, script::Call, seal::Kind};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, atomic::Ordering::Relaxed};
use waymark_job::{Control, JobId, Progress, Record, Spec, State, Webhook};

/// How long an idempotency key is remembered, milliseconds.
const IDEMPOTENCY_TTL_MS: u64 = 86_400_000;
/// Jobs created in one script call.
const CREATE_MAX: usize = 500;
/// Jobs moved in one script call.
const MOVE_MAX: usize = 200;
/// The same for jobs with flow keys, each of which may have a line of its own.
const CREATE_KEYED_MAX: usize = 200;
/// Jobs looked at for one page of a filtered listing; a page may be short, its cursor goes on.
const LOOKS_MAX: usize = 5_000;
/// Longest page.
const PAGE_MAX: usize = 1_000;

/// A job to create.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    /// Its id, where the caller fixed it.
    pub id: Option<JobId>,
    /// What is asked for.
    pub spec: Spec,
    /// Not before, Unix milliseconds.
    pub not_before_ms: Option<u64>,
    /// Not before so many milliseconds from now.
    pub delay_ms: Option<u64>,
    /// The same key answers with the same job for a day.
    pub idempotency_key: Option<String>,
    /// Where a job with the same unique key waits and never ran, it gets this input and metadata, and this delay.
    pub replaces_input: bool,
}

/// A job that was created, or that stands for the one asked for.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: JobId,
    /// It was there before: the unique key or the idempotency key is its.
    pub existing: bool,
    /// It was there before, and has the new input now.
    pub updated: bool,
    /// A limit of its queue is reached: nothing was made, the id is no job's.
    pub refused: bool,
    /// The server's time, Unix milliseconds.
    pub created_ms: u64,
    /// Where it stands.
    pub state: State,
}

/// A checkpoint, its state decompressed and its digest checked.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The run that wrote it.
    pub run: u32,
    /// The step after which it was written.
    pub step: u64,
    /// Output records written by then.
    pub outputs: u64,
    /// Media type of the state.
    pub mime_type: String,
    /// Version of the state's shape.
    pub state_version: u32,
    /// The bytes that the plugin wrote.
    pub state: Vec<u8>,
    /// Version of the plugin.
    pub plugin_version: String,
    /// Digest of the plugin.
    pub plugin_digest: String,
    /// SHA-256 of the state, hexadecimal.
    pub digest: String,
    /// Length of the state.
    pub bytes: u64,
    /// When it was written, Unix milliseconds.
    pub created_ms: u64,
    /// When it will be forgotten, Unix milliseconds; `None` while the job waits without a time-out.
    pub expires_ms: Option<u64>,
    /// Progress by then.
    pub progress: Option<Progress>,
}

/// What became of a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlAnswer {
    /// The job is in this state now.
    Done(State),
    /// A running job will pause at the end of its step.
    Pending,
    /// The control does not fit this state.
    Refused(State),
    /// Restart from a step whose checkpoint is not kept.
    NoCheckpoint,
    /// Another job has the job's unique key by now.
    KeyTaken(JobId),
    /// No such job.
    Missing,
}

/// What became of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalAnswer {
    /// It woke the job.
    Delivered,
    /// The job will find it.
    Stored,
    /// The job has ended.
    Ended(State),
    /// No such job.
    Missing,
}

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct View {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub spec: Spec,
    /// Where it stands.
    pub state: State,
    /// As last committed; `started_ms` and `host` of a running job are those of its claim.
    pub record: Record,
    /// Its result, JSON text.
    pub result: Option<String>,
    /// Why there is no result although the job succeeded: it lies in the object storage and cannot be had, or its key is
    /// missing.
    pub result_error: Option<String>,
    /// The key that its input and metadata are encrypted with, where this host does not have it: they are left out.
    pub sealed: Option<String>,
    /// It runs, and will pause at the end of its step.
    pub pause_pending: bool,
}

/// A span of time, Unix milliseconds. What is absent is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from_ms: Option<u64>,
    /// The first moment after it.
    pub to_ms: Option<u64>,
}

impl Span {
    fn holds(self, at_ms: u64) -> bool {
        self.from_ms.is_none_or(|from_ms| at_ms >= from_ms) && self.to_ms.is_none_or(|to_ms| at_ms < to_ms)
    }
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these states; empty: all.
    pub states: Vec<State>,
    /// Job type.
    pub job_type: Option<String>,
    /// Queue.
    pub queue: Option<String>,
    /// Tag.
    pub tag: Option<String>,
    /// Correlation id.
    pub correlation_id: Option<String>,
    /// Kind of the last failure.
    pub error_kind: Option<String>,
    /// When it was created.
    pub created: Span,
    /// When it ended; takes ended jobs only, unless it is open at both ends.
    pub ended: Span,
}

impl Filter {
    fn takes(&self, view: &View) -> bool {
        (self.states.is_empty() || self.states.contains(&view.state))
            && self.job_type.as_ref().is_none_or(|name| *name == view.spec.job_type)
            && self.queue.as_ref().is_none_or(|name| name == view.spec.queue())
            && self.tag.as_ref().is_none_or(|tag| view.spec.tags.contains(tag))
            && self.correlation_id.as_ref().is_none_or(|id| view.spec.correlation_id.as_ref() == Some(id))
            && self.created.holds(view.id.created_ms())
            && (self.ended == Span::default()
                || view.record.ended_ms.is_some_and(|at| view.state.is_ended() && self.ended.holds(at)))
            && self
                .error_kind
                .as_ref()
                .is_none_or(|kind| view.record.error.as_ref().is_some_and(|error| error.kind == *kind))
    }
}

/// A page of a listing, newest first.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<View>,
    /// Where the next page begins; `None`: there is none.
    pub cursor: Option<String>,
}

/// How long ended jobs of a type are kept since they ended, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Succeeded ones.
    pub succeeded_ms: u64,
    /// Failed ones.
    pub failed_ms: u64,
    /// Cancelled ones.
    pub cancelled_ms: u64,
    /// Results and output records, where that is shorter; `None`: as long as their job.
    pub results_ms: Option<u64>,
}

/// What a creation says besides the job itself; the scripts read it by these names.
#[derive(Serialize)]
struct Extra<'a> {
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(rename = "b", skip_serializing_if = "Option::is_none")]
    not_before_ms: Option<u64>,
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(rename = "it", skip_serializing_if = "Option::is_none")]
    idempotency_ttl_ms: Option<u64>,
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    unique_key: Option<&'a str>,
    #[serde(rename = "ut", skip_serializing_if = "Option::is_none")]
    unique_for_ms: Option<u64>,
    #[serde(rename = "ur", skip_serializing_if = "std::ops::Not::not")]
    replaces_input: bool,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(rename = "g", skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [String],
}

/// Adds the six values of a creation to a call. The job has its id.
pub(crate) fn new_job(call: &mut Call<'_>, job: &NewJob) -> Result<(), Error> {
    let mut spec = Cow::Borrowed(&job.spec);
    // Nobody is told of copies.
    let told = job.spec.shadow.is_none();
    let rules = call.store().options().webhooks.iter();
    for rule in rules.filter(|rule| told && rule.takes(&job.spec.job_type)) {
        let endpoint = Some(rule.name.clone());
        // A copy of another job has them already.
        if spec.webhooks.iter().any(|known| !known.is_callers() && known.endpoint == endpoint) {
            continue;
        }
        spec.to_mut().webhooks.push(Webhook { url: None, endpoint, on: rule.on.clone() });
    }
    let spec = spec.as_ref();
    let id = job.id.ok_or_else(|| Error::corrupt("a job to create", "it has no id"))?;
    let packed = pack::spec(&id, spec, call.store().keyring())?;
    call.arg(id.as_str()).arg(packed).arg(spec.lane().as_ref()).arg(&spec.job_type).arg(spec.priority);
    let plain = job.delay_ms.is_none()
        && job.not_before_ms.is_none()
        && job.idempotency_key.is_none()
        && spec.unique_key.is_none()
        && spec.correlation_id.is_none()
        && spec.tags.is_empty();
    if plain {
        call.arg("");
        return Ok(());
    }
    let extra = Extra {
        delay_ms: job.delay_ms,
        not_before_ms: job.not_before_ms,
        idempotency_key: job.idempotency_key.as_deref(),
        idempotency_ttl_ms: job.idempotency_key.as_ref().map(|_| IDEMPOTENCY_TTL_MS),
        unique_key: spec.unique_key.as_deref(),
        unique_for_ms: spec.unique_for_ms,
        replaces_input: job.replaces_input,
        correlation_id: spec.correlation_id.as_deref(),
        tags: &spec.tags,
    };
    let packed = rmp_serde::to_vec_named(&extra).map_err(|error| Error::corrupt("a job to create", error))?;
    call.arg(packed);
    Ok(())
}

pub(crate) fn parse_id(bytes: &[u8]) -> Result<JobId, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error::corrupt("a job id", error))?;
    JobId::parse(text).map_err(|error| Error::corrupt("a job id", error))
}

fn control_answer(answer: &str) -> Result<ControlAnswer, Error> {
    if let Some(holder) = answer.strip_prefix('U') {
        return Ok(ControlAnswer::KeyTaken(parse_id(holder.as_bytes())?));
    }
    let mut letters = answer.chars();
    let kind = letters.next();
    let state = letters.next().map(pack::state).transpose()?;
    match (kind, state) {
        (Some('D'), Some(state)) => Ok(ControlAnswer::Done(state)),
        (Some('R'), Some(state)) => Ok(ControlAnswer::Refused(state)),
        (Some('P'), _) => Ok(ControlAnswer::Pending),
        (Some('N'), _) => Ok(ControlAnswer::NoCheckpoint),
        (Some('M'), _) => Ok(ControlAnswer::Missing),
        _ => Err(Error::corrupt("a control's answer", answer)),
    }
}

/// Jobs with the same text share a partition: a key is looked up where it was kept, and a limit counts there.
pub(crate) fn home<'a>(job: &'a NewJob, limits: &limits::Known) -> Option<Cow<'a, str>> {
    let spec = &job.spec;
    let key = job.idempotency_key.as_deref().or(spec.unique_key.as_deref());
    if let Some(key) = key {
        return Some(Cow::Borrowed(key));
    }
    let limits = limits.get(spec.queue())?;
    let of_queue = limits.concurrency.is_some() || limits.rate.is_some();
    Some(if of_queue { Cow::Borrowed(spec.queue()) } else { spec.lane() })
}

/// A stable hash, so that every host finds the partition of a key (FNV-1a, 64 bits).
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Store {
    /// Creates jobs: one answer for each, in their order. Safe to repeat with the same ids.
    ///
    /// # Errors
    /// The server does not answer; jobs of earlier pieces of the call may have been created.
    pub async fn create(&self, mut jobs: Vec<NewJob>) -> Result<Vec<Created>, Error> {
        let partitions = self.partitions();
        let now_ms = self.about_now_ms().await?;
        let limits = self.settle(&mut jobs).await?;
        let first = self.inner.created.fetch_add(jobs.len() as u64, Relaxed);
        let mut pieces: HashMap<u16, Vec<usize>> = HashMap::new();
        let mut made_up = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter_mut().enumerate() {
            let job_had_no_id = job.id.is_none();
            let id = match job.id {
                Some(id) => id,
                None => {
                    let partition = match home(job, &limits) {
                        _ if partitions == 1 => 0,
                        Some(key) => self.partition_of_key(&key),
                        None => self.any_partition(first + index as u64),
                    };
                    let id = JobId::generate(now_ms, partition)?;
                    job.id = Some(id);
                    id
                }
            };
            if id.partition() >= partitions {
                return Err(Error::corrupt(
                    format!("job id {id}"),
                    "it names a partition that does not exist",
                ));
            }
            made_up.push(job_had_no_id);
            pieces.entry(id.partition()).or_default().push(index);
        }
        let mut created: Vec<Option<Created>> = vec![None; jobs.len()];
        let keyed = jobs.iter().any(|job| job.spec.key.is_some());
        let most = if keyed { CREATE_KEYED_MAX } else { CREATE_MAX };
        for (partition, indexes) in pieces {
            for piece in indexes.chunks(most) {
                let mut call = self.call(&self.inner.scripts.create, partition);
                call.arg(self.control_channel());
                for index in piece {
                    new_job(&mut call, &jobs[*index])?;
                }
                // The ids are fixed: a second call after a lost answer changes nothing.
                let answers: Vec<String> = call.run().await?;
                let created_ms = answers.first().and_then(|now| now.parse().ok()).unwrap_or(now_ms);
                for (index, answer) in piece.iter().zip(answers.iter().skip(1)) {
                    let mut letters = answer.chars();
                    let kind = letters.next();
                    let (existing, state, id) = match kind {
                        None => (false, State::Queued, jobs[*index].id),
                        Some('L') => (false, State::Cancelled, jobs[*index].id),
                        Some('E' | 'U') => {
                            let state = pack::state(letters.next().unwrap_or(' '))?;
                            let id = parse_id(letters.as_str().as_bytes())?;
                            // An id that was made up here can only be there because an answer was lost.
                            let own = made_up[*index] && jobs[*index].id == Some(id);
                            (!own, state, Some(id))
                        }
                        Some(letter) => (false, pack::state(letter)?, jobs[*index].id),
                    };
                    created[*index] = id.map(|id| Created {
                        id,
                        existing,
                        updated: kind == Some('U'),
                        refused: kind == Some('L'),
                        created_ms,
                        state,
                    });
                }
            }
        }
        created.into_iter().map(|one| one.ok_or_else(|| Error::corrupt("a creation", "no answer"))).collect()
    }

    /// Pauses, resumes, restarts, retries or cancels. `from`: the step of the checkpoint to restart from.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn control(
        &self,
        id: &JobId,
        control: Control,
        from: Option<u64>,
    ) -> Result<ControlAnswer, Error> {
        self.control_by(id, control, from, "").await
    }

    /// The same, with the name of who asks, for the job's past; empty: nobody in particular.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn control_by(
        &self,
        id: &JobId,
        control: Control,
        from: Option<u64>,
        who: &str,
    ) -> Result<ControlAnswer, Error> {
        let mut call = self.call(&self.inner.scripts.control, self.partition_of(id));
        call.arg(id.as_str()).arg(control.name());
        match from {
            Some(step) => call.arg(step),
            None => call.arg(""),
        };
        call.arg(self.control_channel()).arg(who);
        let answer: String = call.run().await?;
        control_answer(&answer)
    }

    /// Moves jobs that have not ended to another queue, another priority, or both: one answer for each, in their
    /// order. A running job goes there when it leaves its worker.
    ///
    /// # Errors
    /// The server does not answer; jobs of earlier pieces of the call may have been moved.
    pub async fn move_jobs(
        &self,
        ids: &[JobId],
        queue: Option<&str>,
        priority: Option<u8>,
    ) -> Result<Vec<ControlAnswer>, Error> {
        let mut by_partition: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, id) in ids.iter().enumerate() {
            by_partition.entry(self.partition_of(id)).or_default().push(index);
        }
        let mut answers = vec![ControlAnswer::Missing; ids.len()];
        for (partition, indexes) in by_partition {
            for piece in indexes.chunks(MOVE_MAX) {
                let mut call = self.call(&self.inner.scripts.move_jobs, partition);
                call.arg(queue.unwrap_or_default());
                match priority {
                    Some(priority) => call.arg(priority),
                    None => call.arg(""),
                };
                for index in piece {
                    call.arg(ids[*index].as_str());
                }
                let told: Vec<String> = call.run().await?;
                for (index, answer) in piece.iter().zip(told) {
                    answers[*index] = control_answer(&answer)?;
                }
            }
        }
        Ok(answers)
    }

    /// Notes in the record of an ended job that `new` was made from it; the last 10 are kept.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn replayed(&self, id: &JobId, new: &JobId) -> Result<(), Error> {
        let mut call = self.call(&self.inner.scripts.replayed, self.partition_of(id));
        let _: u8 = call.arg(id.as_str()).arg(new.as_str()).run().await?;
        Ok(())
    }

    /// Forgets a job; `false` where there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn delete(&self, id: &JobId) -> Result<bool, Error> {
        let mut call = self.call(&self.inner.scripts.delete, self.partition_of(id));
        let deleted: u64 = call.arg(self.control_channel()).arg("").arg(id.as_str()).run().await?;
        Ok(deleted == 1)
    }

    /// Delivers a signal with a JSON text.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn signal(&self, id: &JobId, name: &str, payload: &str) -> Result<SignalAnswer, Error> {
        let mut call = self.call(&self.inner.scripts.signal, self.partition_of(id));
        let payload = self.keyring().seal_text(id.as_str(), Kind::Signal, payload)?;
        let answer: String = call.arg(id.as_str()).arg(name).arg(&*payload).run().await?;
        let mut letters = answer.chars();
        match (letters.next(), letters.next()) {
            (Some('D'), _) => Ok(SignalAnswer::Delivered),
            (Some('S'), _) => Ok(SignalAnswer::Stored),
            (Some('E'), Some(letter)) => Ok(SignalAnswer::Ended(pack::state(letter)?)),
            (Some('M'), _) => Ok(SignalAnswer::Missing),
            _ => Err(Error::corrupt("a signal's answer", answer)),
        }
    }

    /// One job.
    ///
    /// # Errors
    /// The server does not answer, or what is stored cannot be read.
    pub async fn get(&self, id: &JobId) -> Result<Option<View>, Error> {
        let mut view = self.views(self.partition_of(id), &[*id]).await?.pop();
        self.fetch_results(view.as_mut_slice()).await;
        Ok(view)
    }

    /// Fetches results of a list that lie in the object storage. One that cannot be had is left out, with the reason.
    pub async fn fetch_results(&self, views: &mut [View]) {
        for view in views {
            if let Some(reference) = view.result.take_if(|result| objects::is_reference(result.as_bytes())) {
                match self.text_of(&view.id, Kind::Result, reference.into_bytes()).await {
                    Ok(result) => view.result = Some(result),
                    Err(error) => view.result_error = Some(error.to_string()),
                }
            }
        }
    }

    /// The jobs of one partition that are there, in the order asked for.
    ///
    /// # Errors
    /// The server does not answer, or what is stored cannot be read.
    pub async fn views(&self, partition: u16, ids: &[JobId]) -> Result<Vec<View>, Error> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<_> = ids.iter().map(JobId::as_str).collect();
        let mut call = self.call(&self.inner.scripts.read_jobs, partition);
        call.arg(fields);
        type Column = Vec<Option<Vec<u8>>>;
        let (specs, states, results, claims, controls): (Column, Column, Column, Column, Column) =
            call.run().await?;
        let rows = ids.iter().zip(specs).zip(states).zip(results).zip(claims).zip(controls);
        let mut views = Vec::with_capacity(ids.len());
        for (((((id, spec), state), result), claim), control) in rows {
            let Some(spec) = spec else { continue };
            let (mut state, mut record) = pack::read_state(id, state.as_deref())?;
            if let Some(claim) = claim.as_deref().and_then(|claim| std::str::from_utf8(claim).ok()) {
                state = State::Running;
                if let Some((_, worker, at)) = pack::read_claim(claim) {
                    record.host = Some(worker.to_owned());
                    record.started_ms = record.started_ms.or(at);
                }
            }
            let (spec, sealed) = match pack::read_spec(id, &spec, self.keyring()) {
                Err(Error::KeyMissing(key)) => {
                    let hidden = "null".to_owned();
                    (Spec { input: hidden, metadata: None, ..pack::read_sealed_spec(id, &spec)? }, Some(key))
                }
                read => (read?, None),
            };
            let read = |stored: &[u8]| pack::read_value(id, Kind::Result, stored, self.keyring());
            let (result, result_error) = match result.as_deref().map(read).transpose() {
                Err(error @ Error::KeyMissing(_)) => (None, Some(error.to_string())),
                read => (read?, None),
            };
            views.push(View {
                id: *id,
                spec,
                state,
                record,
                result,
                result_error,
                sealed,
                pause_pending: control.is_some(),
            });
        }
        Ok(views)
    }

    /// A page of jobs, newest first. The cost does not depend on how many jobs are kept. Results that lie in the
    /// object storage are still to be fetched, see [`Store::fetch_results`].
    ///
    /// # Errors
    /// [`Error::BadCursor`], or the server does not answer.
    pub async fn list(&self, filter: &Filter, limit: usize, cursor: Option<&str>) -> Result<Page, Error> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut below = match cursor {
            Some(text) => Some(JobId::parse(text).map_err(|_| Error::BadCursor)?),
            None => None,
        };
        // No job ends before it is created.
        for end_ms in [filter.created.to_ms, filter.ended.to_ms].into_iter().flatten() {
            let end = JobId::first_at(end_ms);
            below = Some(below.map_or(end, |below| below.min(end)));
        }
        let first = filter.created.from_ms.map(JobId::first_at);
        let mut sources = Vec::new();
        for partition in 0..self.partitions() {
            sources.push((partition, self.sources(partition, filter).await?));
        }
        let mut jobs = Vec::with_capacity(limit);
        let mut looks = 0;
        loop {
            let piece = (limit - jobs.len() + 1).max(16);
            let mut ids = BTreeSet::new();
            let mut more = false;
            // What lies below the shortest full source's end is not complete yet.
            let mut floor: Option<JobId> = None;
            for (partition, source) in &sources {
                for list in self.newest(*partition, source, below.as_ref(), piece).await? {
                    if list.len() == piece {
                        more = true;
                        floor = floor.max(list.last().copied());
                    }
                    ids.extend(list);
                }
            }
            let ids: Vec<_> =
                ids.into_iter().rev().filter(|id| floor.is_none_or(|floor| *id >= floor)).collect();
            if ids.is_empty() {
                return Ok(Page { jobs, cursor: None });
            }
            looks += ids.len();
            let mut by_partition: HashMap<u16, Vec<JobId>> = HashMap::new();
            for id in &ids {
                by_partition.entry(self.partition_of(id)).or_default().push(*id);
            }
            let mut found = HashMap::new();
            for (partition, ids) in by_partition {
                found.extend(self.views(partition, &ids).await?.into_iter().map(|view| (view.id, view)));
            }
            for id in ids {
                if first.is_some_and(|first| id < first) {
                    return Ok(Page { jobs, cursor: None });
                }
                below = Some(id);
                if let Some(view) = found.remove(&id).filter(|view| filter.takes(view)) {
                    jobs.push(view);
                    if jobs.len() == limit {
                        return Ok(Page { jobs, cursor: Some(id.to_string()) });
                    }
                }
            }
            if !more {
                return Ok(Page { jobs, cursor: None });
            }
            if looks >= LOOKS_MAX {
                return Ok(Page { jobs, cursor: below.map(|id| id.to_string()) });
            }
        }
    }

    /// The indexes that hold everything a filter can take, or the claims where it takes running jobs only.
    async fn sources(&self, partition: u16, filter: &Filter) -> Result<Source, Error> {
        let head = self.head(partition);
        if filter.states == [State::Running] {
            return Ok(Source::Claims);
        }
        if let Some(id) = &filter.correlation_id {
            return Ok(Source::Indexes(vec![format!("{head}corr:{id}")]));
        }
        if let Some(tag) = &filter.tag {
            return Ok(Source::Indexes(vec![format!("{head}tag:{tag}")]));
        }
        let mut classes: Vec<_> = if filter.states.is_empty() { &State::ALL[..] } else { &filter.states[..] }
            .iter()
            .map(|state| match state {
                State::Queued | State::Running => 'o',
                other => other.letter(),
            })
            .collect();
        classes.sort_unstable();
        classes.dedup();
        let types: Vec<String> = match (&filter.job_type, &filter.queue) {
            (Some(job_type), _) => vec![job_type.clone()],
            // A queue is either a type's own, or has an index of its own.
            (None, Some(queue)) => vec![queue.clone()],
            (None, None) => {
                let mut command = redis::cmd("SMEMBERS");
                command.arg(format!("{head}types"));
                self.inner.link.any(&command).await?
            }
        };
        let mut keys: Vec<_> = types
            .iter()
            .flat_map(|job_type| classes.iter().map(move |class| (class, job_type)))
            .map(|(class, job_type)| format!("{head}x:{class}:{job_type}"))
            .collect();
        if let (None, Some(queue)) = (&filter.job_type, &filter.queue) {
            keys.push(format!("{head}xq:{queue}"));
        }
        Ok(Source::Indexes(keys))
    }

    async fn newest(
        &self,
        partition: u16,
        source: &Source,
        below: Option<&JobId>,
        piece: usize,
    ) -> Result<Vec<Vec<JobId>>, Error> {
        match source {
            Source::Claims => {
                let mut command = redis::cmd("HKEYS");
                command.arg(format!("{}claims", self.head(partition)));
                let ids: Vec<String> = self.inner.link.any(&command).await?;
                let mut ids: Vec<_> = ids.iter().filter_map(|id| JobId::parse(id).ok()).collect();
                ids.retain(|id| below.is_none_or(|below| id < below));
                ids.sort_unstable_by(|left, right| right.cmp(left));
                ids.truncate(piece);
                Ok(vec![ids])
            }
            Source::Indexes(keys) => {
                if keys.is_empty() {
                    return Ok(Vec::new());
                }
                let from = below.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
                let mut pipeline = redis::pipe();
                for key in keys {
                    pipeline
                        .cmd("ZREVRANGEBYLEX")
                        .arg(key)
                        .arg(&from)
                        .arg("-")
                        .arg("LIMIT")
                        .arg(0)
                        .arg(piece);
                }
                let lists: Vec<Vec<String>> = self.inner.link.pipeline(&pipeline).await?;
                Ok(lists
                    .iter()
                    .map(|list| list.iter().filter_map(|id| JobId::parse(id).ok()).collect())
                    .collect())
            }
        }
    }

    /// Output records from a position, oldest first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn outputs(&self, id: &JobId, from: u64, limit: u64) -> Result<Vec<String>, Error> {
        let stored = self.slice(self.key(id, &format!("out:{id}")), from, limit).await?;
        let mut records = Vec::with_capacity(stored.len());
        for record in stored {
            records.push(self.text_of(id, Kind::Output, record).await?);
        }
        Ok(records)
    }

    pub(crate) async fn slice(&self, key: String, from: u64, limit: u64) -> Result<Vec<Vec<u8>>, Error> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("LRANGE");
        command.arg(key).arg(from).arg(from.saturating_add(limit - 1).min(i64::MAX as u64));
        Ok(self.inner.link.any(&command).await?)
    }

    /// All kept checkpoints of a job, newest first.
    ///
    /// # Errors
    /// The server does not answer, or a checkpoint is damaged.
    pub async fn checkpoints(&self, id: &JobId) -> Result<Vec<Checkpoint>, Error> {
        let key = self.key(id, &format!("cp:{id}"));
        let mut pipeline = redis::pipe();
        pipeline.lrange(&key, 0, -1).pttl(&key);
        let (entries, ttl_ms): (Vec<Vec<u8>>, i64) = self.inner.link.pipeline(&pipeline).await?;
        let now_ms = self.about_now_ms().await?;
        let expires_ms = u64::try_from(ttl_ms).ok().map(|ttl_ms| now_ms + ttl_ms);
        entries.iter().map(|entry| pack::read_checkpoint(id, entry, expires_ms, self.keyring())).collect()
    }

    /// Forgets ended jobs whose time is over, and results whose time is over before that; looks at about `budget` jobs
    /// for each. `retention` names the times of a job type. Returns how many jobs are gone.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn sweep(&self, retention: impl Fn(&str) -> Retention, budget: usize) -> Result<u64, Error> {
        let now_ms = self.now_ms().await?;
        let (mut gone, mut looks, mut result_looks) = (0, 0, 0);
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut command = redis::cmd("SMEMBERS");
            command.arg(format!("{head}types"));
            let types: Vec<String> = self.inner.link.any(&command).await?;
            for job_type in &types {
                let kept = retention(job_type);
                let classes = [('S', kept.succeeded_ms), ('F', kept.failed_ms), ('C', kept.cancelled_ms)];
                for (class, kept_ms) in classes {
                    let index = format!("{head}x:{class}:{job_type}");
                    let mut pass = Pass {
                        index: &index,
                        name: index.clone(),
                        before_ms: now_ms.saturating_sub(kept_ms),
                    };
                    while let Some(ids) = self.pass(&mut pass, &mut looks, budget).await? {
                        let mut call = self.call(&self.inner.scripts.delete, partition);
                        call.arg(self.control_channel()).arg(kept_ms).arg(&ids);
                        gone += call.run::<u64>().await?;
                    }
                    let Some(kept_ms) = kept.results_ms.filter(|results_ms| *results_ms < kept_ms) else {
                        continue;
                    };
                    let name = format!("{index} results");
                    let mut pass = Pass { index: &index, name, before_ms: now_ms.saturating_sub(kept_ms) };
                    while let Some(ids) = self.pass(&mut pass, &mut result_looks, budget).await? {
                        let mut call = self.call(&self.inner.scripts.expire_results, partition);
                        let _: u64 = call.arg(kept_ms).arg(&ids).run().await?;
                    }
                }
            }
        }
        Ok(gone)
    }

    /// The next jobs of an index that were created before the time of a pass; `None` at the end or when the budget is
    /// used up. It goes on where it stopped, so that jobs which are kept longer do not hold up those behind them.
    async fn pass(
        &self,
        pass: &mut Pass<'_>,
        looks: &mut usize,
        budget: usize,
    ) -> Result<Option<Vec<String>>, Error> {
        if *looks >= budget {
            return Ok(None);
        }
        // No job that was created later than this can have ended long enough ago.
        let last = JobId::generate(pass.before_ms, 0)?;
        let last = format!("({}", &last.as_str()[..10]);
        let from = self.swept(&pass.name).unwrap_or_else(|| "-".to_owned());
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(pass.index).arg(&from).arg(&last).arg("LIMIT").arg(0).arg(200);
        let ids: Vec<String> = self.inner.link.any(&command).await?;
        self.set_swept(&pass.name, ids.last().map(|end| format!("({end}")));
        *looks += ids.len();
        Ok((!ids.is_empty()).then_some(ids))
    }
}

/// One way through an index.
struct Pass<'a> {
    index: &'a str,
    /// Under which its place is remembered.
    name: String,
    /// Unix milliseconds.
    before_ms: u64,
}

impl Store {
    fn swept(&self, index: &str) -> Option<String> {
        self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner).get(index).cloned()
    }

    fn set_swept(&self, index: &str, at: Option<String>) {
        let mut swept = self.inner.swept.lock().unwrap_or_else(PoisonError::into_inner);
        match at {
            Some(at) => swept.insert(index.to_owned(), at),
            None => swept.remove(index),
        };
    }
}

enum Source {
    Claims,
    Indexes(Vec<String>),
}
