//! A host for `cargo test`: runs a job type natively, and crashes it as often as one likes.
//!
//! ```
//! # use waymark_sdk::{prelude::*, testing};
//! # #[derive(Serialize, Deserialize)]
//! # struct MyJob(u64);
//! # impl Job for MyJob {
//! #     type Input = u64; type Output = u64;
//! #     const NAME: &str = "my-job"; const VERSION: &str = "0.1.0";
//! #     fn start(n: u64, _: &mut Context) -> Result<Self, Failure> { Ok(Self(n)) }
//! #     fn step(&mut self, _: &mut Context) -> Result<Step<u64>, Failure> { Ok(Step::Done(self.0)) }
//! # }
//! let run = testing::assert_survives_anything::<MyJob>(&json!(7));
//! assert_eq!(run.result, Ok(json!(7)));
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::context::{Context, JobContext, Level};
use crate::guest::{STATE_MIME_TYPE, decode, encode, parse_input};
use crate::{Failure, Job, Progress, Step};

/// Steps after which a run is given up as endless, unless told otherwise.
pub const STEPS_MAX: u64 = 1_000_000;

/// Answers a child job: its type and input, in; its result or the reason of its failure, out.
pub type ChildAnswer = Arc<dyn Fn(&str, &Value) -> Result<Value, String>>;

/// What a job's calls leave behind, natively. Buffered effects are kept apart until the step is committed.
#[derive(Debug, Default, Clone)]
pub(crate) struct Host {
    job: JobContext,
    yields: bool,
    key: String,
    children: Vec<(String, Result<String, String>)>,
    signals: BTreeMap<String, String>,
    spawned_before: u64,
    logs: RefCell<Vec<LogLine>>,
    effects: Effects,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Effects {
    outputs: Vec<String>,
    progress: Vec<Progress>,
    spawned: Vec<(String, String, String)>,
}

/// One line that the job logged.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Weight.
    pub level: Level,
    /// Fixed text.
    pub message: String,
    /// What varies: an object.
    pub fields: Value,
}

/// A child job that was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Spawned {
    /// Its job type.
    pub job_type: String,
    /// Its input.
    pub input: Value,
}

/// All that a run left behind.
#[derive(Debug, Clone)]
pub struct Run {
    /// The result, or the failure that ended the job.
    pub result: Result<Value, Failure>,
    /// Output records in order, as committed.
    pub outputs: Vec<Value>,
    /// Progress in order, as committed.
    pub progress: Vec<Progress>,
    /// Log lines in order. Lines of a step that ran twice are here twice.
    pub logs: Vec<LogLine>,
    /// Children in order.
    pub spawned: Vec<Spawned>,
    /// Steps committed.
    pub steps: u64,
    /// Attempts, from 1.
    pub attempts: u32,
    /// Size of the largest checkpoint in bytes, where checkpoints were taken.
    pub checkpoint_bytes_max: usize,
}

impl PartialEq for Run {
    /// Equal in everything that a caller can observe: result, output records, progress and children.
    fn eq(&self, other: &Self) -> bool {
        self.result == other.result
            && self.outputs == other.outputs
            && self.progress == other.progress
            && self.spawned == other.spawned
            && self.steps == other.steps
    }
}

/// How often the job loses its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Never: one instance from start to end.
    Never,
    /// After each step: the next one runs in an instance restored from the checkpoint.
    BetweenSteps,
    /// Within each step: every step runs twice from the same checkpoint, and only the second counts; both
    /// must do the same.
    WithinSteps,
}

/// A host with settings. [`run`] and its like are the short way.
#[derive(Clone)]
pub struct Harness {
    crash: Crash,
    yields: bool,
    steps_max: u64,
    attempts_max: u32,
    metadata: Value,
    signals: BTreeMap<String, String>,
    child: ChildAnswer,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Harness").field("crash", &self.crash).finish_non_exhaustive()
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self {
            crash: Crash::Never,
            yields: false,
            steps_max: STEPS_MAX,
            attempts_max: 3,
            metadata: Value::Null,
            signals: BTreeMap::new(),
            child: Arc::new(|job_type, _| Err(format!("the test answers no child of type {job_type}"))),
        }
    }
}

impl Harness {
    /// An undisturbed host: no crash, three attempts, no signals, children that all fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the job loses its instance; never by default.
    #[must_use]
    pub fn crash(self, crash: Crash) -> Self {
        Self { crash, ..self }
    }

    /// Asks the job to yield all the time, so that steps are as short as they can be.
    #[must_use]
    pub fn always_yielding(self) -> Self {
        Self { yields: true, ..self }
    }

    /// Gives up after so many steps; [`STEPS_MAX`] by default.
    #[must_use]
    pub fn steps_max(self, steps_max: u64) -> Self {
        Self { steps_max, ..self }
    }

    /// Attempts when steps fail for now; 3 by default, at least 1.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max: attempts_max.max(1), ..self }
    }

    /// What the caller attached to the job.
    #[must_use]
    pub fn metadata(self, metadata: Value) -> Self {
        Self { metadata, ..self }
    }

    /// Delivers this payload when the job waits for the signal.
    #[must_use]
    pub fn signal(mut self, name: &str, payload: &Value) -> Self {
        self.signals.insert(name.to_owned(), payload.to_string());
        self
    }

    /// Answers the children that the job spawns.
    #[must_use]
    pub fn children(self, answer: impl Fn(&str, &Value) -> Result<Value, String> + 'static) -> Self {
        Self { child: Arc::new(answer), ..self }
    }

    /// Runs the job to its end. The input goes through JSON text, as a caller's does.
    ///
    /// # Panics
    /// When a step that ran twice did not do the same twice, when progress went back, when the job waits
    /// for a signal that never comes, or when it does not end within the allowed steps: all are mistakes in
    /// the job type that a host would suffer from.
    pub fn run<J: Job>(&self, input: &(impl Serialize + ?Sized)) -> Run {
        let mut run = Run {
            result: Ok(Value::Null),
            outputs: Vec::new(),
            progress: Vec::new(),
            logs: Vec::new(),
            spawned: Vec::new(),
            steps: 0,
            attempts: 1,
            checkpoint_bytes_max: 0,
        };
        run.result = self.run_to_end::<J>(input, &mut run);
        run
    }

    fn run_to_end<J: Job>(&self, input: &(impl Serialize + ?Sized), run: &mut Run) -> Result<Value, Failure> {
        let input = text(input);
        let mut signals = BTreeMap::new();
        let mut children: Vec<(String, Result<String, String>)> = Vec::new();
        let mut waiting: Vec<(String, String, String)> = Vec::new();
        let mut checkpoint: Option<Vec<u8>> = None;
        let mut alive: Option<J> = None;
        let mut repeated: Option<(Effects, Step<Value>)> = None;
        loop {
            assert!(run.steps < self.steps_max, "{} did not end within {} steps", J::NAME, self.steps_max);
            let mut context = Context {
                host: Host {
                    job: JobContext {
                        job_id: "job-under-test".to_owned(),
                        correlation_id: "test".to_owned(),
                        attempt: run.attempts,
                        committed_steps: run.steps,
                        soft_limit_ms: None,
                        metadata: self.metadata.clone(),
                    },
                    yields: self.yields,
                    key: format!("job-under-test/{}", run.steps + 1),
                    children: children.clone(),
                    signals: signals.clone(),
                    spawned_before: run.spawned.len() as u64,
                    logs: RefCell::default(),
                    effects: Effects::default(),
                },
            };
            let begun = match (alive.take(), &checkpoint) {
                (Some(job), _) => Ok(job),
                (None, Some(state)) => restore(state, &mut context),
                (None, None) => parse_input::<J>(&input).and_then(|input| J::start(input, &mut context)),
            };
            let answered = begun.and_then(|mut job| {
                let step = job.step(&mut context)?;
                Ok((job, as_json(step)?))
            });
            let Host { effects, logs, .. } = context.host;
            run.logs.extend(logs.into_inner());
            let (job, step) = match answered {
                Ok(answer) => answer,
                Err(Failure::Transient(_) | Failure::RetryAfter(..)) if run.attempts < self.attempts_max => {
                    run.attempts += 1;
                    repeated = None;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if self.crash == Crash::WithinSteps {
                let Some(first) = repeated.take() else {
                    repeated = Some((effects, step));
                    continue;
                };
                let number = run.steps + 1;
                assert_eq!(first, (effects.clone(), step.clone()), "step {number} did not do the same twice");
            }
            let ended = matches!(step, Step::Done(_));
            if !ended {
                let state = encode(&job)?;
                run.checkpoint_bytes_max = run.checkpoint_bytes_max.max(state.len());
                if self.crash == Crash::Never {
                    alive = Some(job);
                } else {
                    let again = encode(&restore::<J>(&state, &mut Context { host: Host::default() })?)?;
                    assert!(
                        again == state,
                        "the checkpoint of step {} changes when it is restored",
                        run.steps + 1
                    );
                }
                checkpoint = Some(state);
            }
            run.steps += 1;
            self.commit(effects, &step, run, &mut waiting);
            match step {
                Step::Progress(_) | Step::Sleep(_) => {}
                Step::Done(result) => return Ok(result),
                Step::AwaitChildren => {
                    children.extend(waiting.drain(..).map(|(id, job_type, input)| {
                        let answer = (self.child)(&job_type, &value(&input));
                        (id, answer.map(|result| result.to_string()))
                    }));
                }
                Step::AwaitSignal { name, timeout } => match self.signals.get(&name) {
                    Some(payload) => drop(signals.insert(name, payload.clone())),
                    None => assert!(timeout.is_some(), "the job waits for ever for the signal {name}"),
                },
            }
        }
    }

    fn commit(
        &self,
        effects: Effects,
        step: &Step<Value>,
        run: &mut Run,
        waiting: &mut Vec<(String, String, String)>,
    ) {
        run.outputs.extend(effects.outputs.iter().map(|text| value(text)));
        run.spawned.extend(
            effects
                .spawned
                .iter()
                .map(|(_, job_type, input)| Spawned { job_type: job_type.clone(), input: value(input) }),
        );
        waiting.extend(effects.spawned);
        let answered = match step {
            Step::Progress(progress) => Some(progress.clone()),
            _ => None,
        };
        for progress in effects.progress.into_iter().chain(answered) {
            let before = run.progress.last().map_or(0, |last| last.current);
            assert!(progress.current >= before, "progress went back from {before} to {}", progress.current);
            run.progress.push(progress);
        }
    }
}

/// A context to call [`Job::start`] and [`Job::step`] with by hand.
pub fn context() -> Context {
    Context { host: Host::default() }
}

/// Runs a job undisturbed.
pub fn run<J: Job>(input: &(impl Serialize + ?Sized)) -> Run {
    Harness::new().run::<J>(input)
}

/// Runs a job that is restored from its checkpoint after every single step.
pub fn run_restoring_every_step<J: Job>(input: &(impl Serialize + ?Sized)) -> Run {
    Harness::new().crash(Crash::BetweenSteps).run::<J>(input)
}

/// Runs a job undisturbed, restored after every step, and with every step run twice; returns the first run.
///
/// # Panics
/// When the three runs differ in result, output records, progress or children; see also [`Harness::run`].
pub fn assert_survives_anything<J: Job>(input: &(impl Serialize + ?Sized)) -> Run {
    let undisturbed = run::<J>(input);
    for crash in [Crash::BetweenSteps, Crash::WithinSteps] {
        let crashed = Harness::new().crash(crash).run::<J>(input);
        assert_eq!(undisturbed, crashed, "{} differs when it is crashed {crash:?}", J::NAME);
    }
    undisturbed
}

/// A `main` for an example: runs the job type on the input in the file that is the first argument and prints
/// `{"result", "outputs", "steps", "checkpoint_bytes_max"}`. With `--crash` the job is restored after every
/// step. Files are looked for below `$WAYMARK_FILES`.
///
/// # Errors
/// What went wrong, for a person: a file that cannot be read, or the job's failure.
pub fn command_line<J: Job>() -> Result<(), String> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let crash = arguments.iter().position(|argument| argument == "--crash").map(|at| arguments.remove(at));
    let [path] = arguments.as_slice() else { return Err("usage: run INPUT.json [--crash]".to_owned()) };
    let input = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let input: Value = serde_json::from_str(&input).map_err(|error| format!("{path}: {error}"))?;
    let crash = if crash.is_some() { Crash::BetweenSteps } else { Crash::Never };
    let run = Harness::new().crash(crash).run::<J>(&input);
    let result = run.result.map_err(|failure| failure.to_string())?;
    println!(
        "{}",
        serde_json::json!({
            "result": result,
            "outputs": run.outputs,
            "steps": run.steps,
            "checkpoint_bytes_max": run.checkpoint_bytes_max,
        })
    );
    Ok(())
}

fn restore<J: Job>(state: &[u8], context: &mut Context) -> Result<J, Failure> {
    let mut job: J = decode(STATE_MIME_TYPE, J::STATE_VERSION, state)?;
    job.restored(context)?;
    Ok(job)
}

fn as_json<O: Serialize>(step: Step<O>) -> Result<Step<Value>, Failure> {
    Ok(match step {
        Step::Progress(progress) => Step::Progress(progress),
        Step::Done(output) => Step::Done(value(&text(&output))),
        Step::Sleep(delay) => Step::Sleep(delay),
        Step::AwaitChildren => Step::AwaitChildren,
        Step::AwaitSignal { name, timeout } => Step::AwaitSignal { name, timeout },
    })
}

fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| panic!("not JSON: {error}"))
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON: {error}: {text}"))
}

impl Context {
    pub(crate) fn raw_job(&self) -> JobContext {
        self.host.job.clone()
    }

    pub(crate) fn raw_should_yield(&self) -> bool {
        self.host.yields
    }

    pub(crate) fn raw_idempotency_key(&self) -> String {
        self.host.key.clone()
    }

    pub(crate) fn raw_log(&self, level: Level, message: &str, fields: &str) {
        let line = LogLine { level, message: message.to_owned(), fields: value(fields) };
        self.host.logs.borrow_mut().push(line);
    }

    pub(crate) fn raw_emit(&mut self, record: String) {
        self.host.effects.outputs.push(record);
    }

    pub(crate) fn raw_report(&mut self, progress: Progress) {
        self.host.effects.progress.push(progress);
    }

    pub(crate) fn raw_spawn(&mut self, job_type: &str, input: String) -> String {
        let number = self.host.spawned_before + self.host.effects.spawned.len() as u64;
        let id = format!("child-{number}");
        self.host.effects.spawned.push((id.clone(), job_type.to_owned(), input));
        id
    }

    pub(crate) fn raw_children(&self) -> Vec<(String, Result<String, String>)> {
        self.host.children.clone()
    }

    pub(crate) fn raw_signal(&self, name: &str) -> Option<String> {
        self.host.signals.get(name).cloned()
    }
}
