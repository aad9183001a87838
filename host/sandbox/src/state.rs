//! What belongs to one job while it runs, and the host functions of the contract.
//!
//! *Buffered* calls only write into [`Effects`]; whoever commits takes them. A job that traps leaves nothing behind.

use crate::{
    bindings::waymark::task::{job, types},
    calls::Calls,
    descriptor::is_name,
    fault::Stop,
    limits::Limits,
    log::{LogSink, Logger},
    meter::Meter,
    services::Capabilities,
    turns::Turns,
    wasi::Wasi,
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use wasmtime::{Result, component::ResourceTable};
use waymark_job::Progress;

/// What a job must know of itself. Strings called JSON are trusted to be so.
pub struct JobContext {
    /// Identifier of the job.
    pub job_id: String,
    /// The caller's identifier for a larger whole; empty if there is none.
    pub correlation_id: String,
    /// From 1.
    pub attempt: u32,
    /// Which run of the job, from 1.
    pub run: u32,
    /// Number of the last step that was committed.
    pub committed_steps: u64,
    /// When the job should come to an end by itself.
    pub soft_limit: Option<Instant>,
    /// The caller's metadata, a JSON object.
    pub metadata: String,
    /// Outcomes of the children, in the order they were spawned; JSON, or why they failed.
    pub children: Vec<(String, Result<String, String>)>,
    /// Payloads of the signals that arrived, JSON, by name.
    pub signals: HashMap<String, String>,
    /// It is a copy that must have no effects: requests other than GET and HEAD, statements that write, children and
    /// language models (beyond kept answers) are refused, and its buckets are its own.
    pub shadow: bool,
    /// True when the job should return from its step soon.
    pub yield_flag: Arc<AtomicBool>,
    /// Takes the job's log lines. Must not block.
    pub logs: LogSink,
    /// Is told of calls that leave the sandbox; none: nobody is.
    pub calls: Option<Arc<dyn Calls>>,
    /// Identifier of the child that is spawned in this step with this index (from 0); the same whenever asked.
    pub child_id: Box<dyn Fn(u64, u32) -> String + Send + Sync>,
}

/// That of a call that belongs to no job, and says nothing.
impl Default for JobContext {
    fn default() -> Self {
        Self {
            job_id: String::new(),
            correlation_id: String::new(),
            attempt: 1,
            run: 1,
            committed_steps: 0,
            soft_limit: None,
            metadata: "{}".into(),
            children: Vec::new(),
            signals: HashMap::new(),
            shadow: false,
            yield_flag: Arc::default(),
            logs: Box::new(drop),
            calls: None,
            child_id: Box::new(|_, _| String::new()),
        }
    }
}

/// What takes effect with the next commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Output records: JSON, each in one line.
    pub outputs: Vec<String>,
    /// Last progress reported within a step.
    pub progress: Option<Progress>,
    /// Children to create.
    pub children: Vec<Spawn>,
}

/// A child to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its identifier, from [`JobContext::child_id`].
    pub id: String,
    /// Its job type.
    pub job_type: String,
    /// Its input, JSON.
    pub input: String,
}

/// What one buffered effect costs beyond its text.
const EFFECT_OVERHEAD_BYTES: u64 = 64;
const PROGRESS_MESSAGE_BYTES_MAX: usize = 1 << 10;
/// What a guest keeps of its step, when a capability waits as long as it may, to make something of the error: this
/// part of the limit, at most the longest.
const KEPT_OF_STEP: u32 = 10;
const KEPT_OF_STEP_MAX: Duration = Duration::from_secs(1);

pub(crate) struct State {
    pub(crate) context: JobContext,
    pub(crate) limits: Arc<Limits>,
    pub(crate) meter: Meter,
    pub(crate) logger: Arc<Logger>,
    pub(crate) wasi: Option<Box<Wasi>>,
    pub(crate) capabilities: Capabilities,
    /// What the guest holds of capabilities.
    pub(crate) resources: ResourceTable,
    /// Cursors among them.
    pub(crate) cursors: usize,
    pub(crate) effects: Effects,
    effects_bytes: u64,
    /// Children spawned in the running step.
    spawned: u32,
    /// Number of the step that runs or will run next.
    pub(crate) step: u64,
    pub(crate) turns: Turns,
    /// When the running call is over, but for the time it waits for its turn.
    pub(crate) deadline: Option<Instant>,
}

impl State {
    pub(crate) fn new(mut context: JobContext, limits: Arc<Limits>, meter: Meter, turns: Turns) -> Self {
        let sink = std::mem::replace(&mut context.logs, Box::new(drop));
        let logger = Arc::new(Logger::new(sink, limits.log_line_bytes_max, limits.log_lines_per_second));
        let step = context.committed_steps + 1;
        Self {
            context,
            limits,
            meter,
            logger,
            wasi: None,
            capabilities: Capabilities::default(),
            resources: ResourceTable::new(),
            cursors: 0,
            effects: Effects::default(),
            effects_bytes: 0,
            spawned: 0,
            step,
            turns,
            deadline: None,
        }
    }

    pub(crate) fn effects_bytes(&self) -> u64 {
        self.effects_bytes
    }

    pub(crate) fn take_effects(&mut self) -> Effects {
        self.meter.give_back(self.effects_bytes);
        self.effects_bytes = 0;
        std::mem::take(&mut self.effects)
    }

    /// The step that runs next is `step`.
    pub(crate) fn enter_step(&mut self, step: u64) {
        if step != self.step {
            self.step = step;
            self.spawned = 0;
        }
    }

    /// Until when a capability may wait for something outside. Waiting counts against the limit of the step, for the
    /// step holds its slot; it ends a little before, with an error that the guest can handle, so that nobody is
    /// trapped for the slowness of others.
    pub(crate) fn patience(&self) -> Option<Instant> {
        let limit = Duration::from_millis(self.limits.step_hard_ms?);
        let kept = (limit / KEPT_OF_STEP).min(KEPT_OF_STEP_MAX);
        (self.deadline? + self.turns.waited()).checked_sub(kept)
    }

    /// Buffered values are the job's memory as much as its own.
    fn charge(&mut self, bytes: usize) -> Result<()> {
        let bytes = bytes as u64 + EFFECT_OVERHEAD_BYTES;
        let limit = self.limits.effects_bytes_max;
        if self.effects_bytes.saturating_add(bytes) > limit {
            let bytes = self.effects_bytes + bytes;
            let message = format!(
                "output records and children of one step: {bytes} bytes are more than the {limit} allowed"
            );
            return Err(Stop::Oversized(message).into());
        }
        if !self.meter.take(bytes)? {
            let (bytes, limit) = (self.meter.used() + bytes, self.meter.limit());
            let what = "memory with output records and children";
            return Err(Stop::oversized(what, bytes, limit, "memory_bytes").into());
        }
        self.effects_bytes += bytes;
        Ok(())
    }
}

fn bad_value(message: impl Into<String>) -> wasmtime::Error {
    Stop::BadValue(message.into()).into()
}

/// Checks that a guest's text is JSON of legal size, which `setting` sets, and returns it in one line.
pub(crate) fn checked_json(what: &str, text: String, bytes_max: u64, setting: &str) -> Result<String, Stop> {
    if text.len() as u64 > bytes_max {
        return Err(Stop::oversized(what, text.len() as u64, bytes_max, setting));
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(one_line(text)),
        Err(error) => Err(Stop::BadValue(format!("{what} is not JSON: {error}"))),
    }
}

/// Valid JSON without line breaks: inside of strings they are escaped, outside they are white space.
pub(crate) fn one_line(json: String) -> String {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}

/// A guest's progress, its message in one line of at most 1 KiB.
pub(crate) fn progress(progress: types::Progress) -> Progress {
    let message = progress.message.map(|mut message| {
        message.truncate(message.floor_char_boundary(PROGRESS_MESSAGE_BYTES_MAX));
        one_line(message)
    });
    Progress { current: progress.current, total: progress.total, message }
}

impl types::Host for State {}

impl job::Host for State {
    fn context(&mut self) -> Result<job::JobContext> {
        let context = &self.context;
        let left = |end: Instant| end.saturating_duration_since(Instant::now()).as_millis();
        Ok(job::JobContext {
            job_id: context.job_id.clone(),
            correlation_id: context.correlation_id.clone(),
            attempt: context.attempt,
            committed_steps: self.step - 1,
            soft_limit_ms: context.soft_limit.map(|end| u64::try_from(left(end)).unwrap_or(u64::MAX)),
            metadata: context.metadata.clone(),
        })
    }

    fn should_yield(&mut self) -> Result<bool> {
        let over = |end: Instant| end <= Instant::now();
        Ok(self.context.yield_flag.load(Relaxed) || self.context.soft_limit.is_some_and(over))
    }

    fn idempotency_key(&mut self) -> Result<String> {
        Ok(format!("{}.{}.{}", self.context.job_id, self.context.run, self.step))
    }

    fn log(&mut self, level: job::Level, message: String, fields: String) -> Result<()> {
        self.logger.say(level.into(), message, fields);
        Ok(())
    }

    fn emit(&mut self, item: String) -> Result<()> {
        let item =
            checked_json("the output record", item, self.limits.output_item_bytes_max, "output_bytes_max")?;
        self.charge(item.len())?;
        self.effects.outputs.push(item);
        Ok(())
    }

    fn report(&mut self, reported: types::Progress) -> Result<()> {
        self.effects.progress = Some(progress(reported));
        Ok(())
    }

    fn spawn(&mut self, job_type: String, input: String) -> Result<String> {
        if !is_name(&job_type) {
            return Err(bad_value("the job type of a child is not 1 to 64 of a-z, 0-9, '_' and '-'"));
        }
        if self.context.shadow {
            return Err(bad_value("a shadow job spawns no children"));
        }
        let input =
            checked_json("the child's input", input, self.limits.input_bytes_max, "api.input_bytes_max")?;
        let limit = self.limits.children_max;
        if self.effects.children.len() as u64 >= u64::from(limit) {
            return Err(Stop::Oversized(format!("more than {limit} children between two commits")).into());
        }
        let id = (self.context.child_id)(self.step, self.spawned);
        self.charge(id.len() + job_type.len() + input.len())?;
        self.spawned += 1;
        self.effects.children.push(Spawn { id: id.clone(), job_type, input });
        Ok(id)
    }

    fn children(&mut self) -> Result<Vec<(String, Result<String, String>)>> {
        Ok(self.context.children.clone())
    }

    fn signal(&mut self, name: String) -> Result<Option<String>> {
        Ok(self.context.signals.get(&name).cloned())
    }
}
