//! `waymark plugin run`: one job in this process, in the sandbox that hosts use, without a store.
//!
//! Every step counts as committed at once: its output records are printed, and a later crash would begin after it.
//! Where a host would park the job (sleep, signal), and where `--crash-every` says so, the instance is thrown away and
//! a fresh one goes on from the checkpoint. What needs other jobs needs a host.

use super::{
    check::{self, Accepted},
    recording::Recorder,
};
use crate::{
    cli::{client::pretty, job::text_of, table::say},
    config::{Config, Flags},
    worker,
};
use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::HashMap,
    io::IsTerminal as _,
    num::NonZeroU64,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use waymark_job::{JobError, JobId, Progress};
use waymark_sandbox::{
    Effects, Fault, FileGrant, Grants, JobContext, LogLine, Offer, Outcome, Snapshot, scratch,
    secrets::Secrets,
};

/// The job's id: always the same, so that two runs can be compared.
const ID: &str = "00000000000000000000000000";
/// Violations of the schema that are shown.
const VIOLATIONS_MAX: usize = 20;
/// Where there is no terminal, progress is one line in so long.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A job to run.
#[derive(Args, Debug)]
pub struct Run {
    /// The .wasm file.
    file: PathBuf,
    /// Input: JSON, @FILE, or - for standard input.
    #[arg(long, short, default_value = "{}", value_name = "JSON|@FILE|-")]
    input: String,
    /// Write input, result, and the checkpoint of every step into this folder, which must not exist, for
    /// `plugin check --recorded` of a later version.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// How a job is run.
#[derive(Args, Debug)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) granting: Granting,
    /// Throw the instance away after so many steps, again and again, and go on from its checkpoint [default: never].
    #[arg(long, value_name = "N")]
    crash_every: Option<NonZeroU64>,
    /// Give up after so many steps [default: never].
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Longest wait where the job sleeps, or waits for a signal that is not given.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    max_sleep: Duration,
    /// A signal and its payload, null if that is left out. May be given several times.
    #[arg(long = "signal", value_name = "NAME=JSON", value_parser = signal)]
    signals: Vec<(String, String)>,
}

/// What a job may reach.
#[derive(Args, Debug)]
pub(super) struct Granting {
    /// A directory that the job may read, and where it sees it; /=DIR if that is left out. May be given several times.
    #[arg(long = "grant", value_name = "GUEST=DIR", value_parser = grant)]
    grants: Vec<FileGrant>,
    /// A directory of so many bytes that the job may write to, as /scratch: a new one for each instance.
    #[arg(long, value_name = "BYTES")]
    scratch: Option<u64>,
    /// A host's configuration: the job may reach what that grants to its type, with the connections, language models and
    /// secrets that it names. Answers of models are not kept, and there are no buckets [default: nothing is granted].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Grants by job type, and what they speak of.
pub(super) struct Granted {
    pub(super) offer: Offer,
    /// What is granted to all of them.
    own: Grants,
    /// Where scratch files lie, as long as anybody may make some.
    pub(super) folder: Arc<TempDir>,
    config: Option<Config>,
}

impl Granting {
    /// Reads the configuration, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is wrong; or there is no place for scratch files.
    pub(super) fn read(&self) -> anyhow::Result<Granted> {
        let config =
            self.config.as_deref().map(|file| Config::load(Some(file), Flags::default())).transpose()?;
        let scratch = self.scratch.map(|bytes_max| scratch::Grant { bytes_max, ..scratch::Grant::default() });
        let own = Grants { files: self.grants.clone(), scratch, ..Grants::default() };
        own.check_scratch().map_err(|why| anyhow::anyhow!("--grant, --scratch: {why}"))?;
        let folder = Arc::new(tempfile::tempdir()?);
        let offer = match &config {
            None => Offer::default(),
            Some(config) => Offer {
                secrets: Secrets::read(&config.secrets).map_err(anyhow::Error::msg)?,
                llm: config.llm.clone(),
                sql: config.sql.clone(),
                ..Offer::default()
            },
        };
        let offer = Offer { scratch: Some(folder.path().to_owned()), ..offer };
        Ok(Granted { offer, own, folder, config })
    }
}

impl Granted {
    /// What a job type may reach.
    pub(super) fn of(&self, job_type: &str) -> Grants {
        let policy = self.config.as_ref().map(|config| config.policy(job_type));
        let mut grants = policy.map(|policy| policy.grants).unwrap_or_default();
        grants.files.extend(self.own.files.iter().cloned());
        grants.scratch = self.own.scratch.clone().or(grants.scratch);
        grants
    }
}

/// What the job is told of itself.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) job_id: String,
    pub(super) correlation_id: String,
    pub(super) attempt: u32,
    pub(super) run: u32,
    /// JSON.
    pub(super) metadata: String,
}

impl Default for About {
    fn default() -> Self {
        let (job_id, metadata) = (ID.to_owned(), "{}".to_owned());
        Self { job_id, correlation_id: String::new(), attempt: 1, run: 1, metadata }
    }
}

impl About {
    /// What an instance is given, before the step after `steps`.
    pub(super) fn context(
        &self,
        steps: u64,
        signals: HashMap<String, String>,
        log: impl Fn(LogLine) + Send + Sync + 'static,
    ) -> JobContext {
        let (parent, run) = (JobId::parse(&self.job_id).ok(), self.run);
        JobContext {
            job_id: self.job_id.clone(),
            correlation_id: self.correlation_id.clone(),
            attempt: self.attempt,
            run,
            committed_steps: steps,
            soft_limit: None,
            metadata: self.metadata.clone(),
            children: Vec::new(),
            signals,
            shadow: false,
            yield_flag: Arc::default(),
            logs: Box::new(log),
            calls: None,
            child_id: Box::new(move |step, index| {
                parent
                    .as_ref()
                    .map(|id| JobId::child(id, run, step, index, 0).to_string())
                    .unwrap_or_default()
            }),
        }
    }
}

/// Where a job begins.
pub(super) enum Begin {
    /// At its beginning, with this input.
    Input(String),
    /// After this many steps, from their checkpoint.
    Checkpoint(u64, Snapshot),
}

pub(super) fn grant(text: &str) -> Result<FileGrant, String> {
    let (guest, host) = text.split_once('=').unwrap_or(("/", text));
    let host = PathBuf::from(host);
    if !host.is_dir() {
        return Err(format!("{} is not a directory", host.display()));
    }
    Ok(FileGrant { guest: guest.to_owned(), host })
}

pub(super) fn signal(text: &str) -> Result<(String, String), String> {
    let (name, payload) = text.split_once('=').unwrap_or((text, "null"));
    let payload: Box<RawValue> =
        serde_json::from_str(payload).map_err(|error| format!("the payload: {error}"))?;
    Ok((name.to_owned(), payload.get().to_owned()))
}

/// Why a job did not succeed, in the words of the API.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: String,
    pub(super) message: String,
    trace: Option<String>,
    /// A host would try again.
    again: bool,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        let (JobError { kind, message, trace }, _, again) = worker::classify(fault);
        Self { kind, message, trace, again }
    }
}

/// What a job has come to so far.
#[derive(Default)]
struct Report {
    steps: u64,
    restores: u64,
    checkpoint_bytes_max: usize,
    memory_bytes_max: u64,
    outputs: Vec<String>,
    progress: Progress,
    progress_said: Option<Instant>,
}

/// What a person sees while the job runs, on standard error: a bar on a terminal, lines elsewhere. Cheap to clone.
#[derive(Clone)]
struct Display {
    bar: ProgressBar,
    terminal: bool,
}

impl Display {
    fn new(name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(name.to_owned());
        bar.set_style(style("{prefix} {spinner} {msg} {elapsed}"));
        Self { bar, terminal }
    }

    fn set_total(&self, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar
                .set_style(style("{prefix} [{bar:30}] {human_pos}/{human_len} {percent}% {msg} {elapsed}"));
            self.bar.set_length(total);
        }
    }

    /// Prints a line above the bar.
    fn line(&self, text: &str) {
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// What `--json` prints. Numbers of the job's stay as it wrote them.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    job_type: &'a str,
    status: &'a str,
    result: Option<&'a RawValue>,
    error: Option<Value>,
    output: Vec<&'a RawValue>,
    steps: u64,
    restores: u64,
    checkpoint_bytes_max: usize,
    memory_bytes_max: u64,
}

struct Job<'a> {
    options: &'a Options,
    json: bool,
    accepted: &'a Accepted,
    about: About,
    recorder: Option<&'a mut Recorder>,
    display: Display,
    report: Report,
    children: Vec<String>,
}

/// Runs the job and prints its records and its result.
///
/// # Errors
/// The file is refused, the input does not fit, or the job did not succeed.
pub(super) async fn run(run: Run, json: bool) -> anyhow::Result<()> {
    let text = text_of(&run.input)?;
    let accepted = check::accept(&run.file, &run.options.granting.read()?, json).await?;
    let mut recorder = run.record.as_deref().map(|folder| Recorder::new(folder, text.trim())).transpose()?;
    let begin = Begin::Input(text.trim().to_owned());
    execute(&run.options, &accepted, About::default(), begin, recorder.as_mut(), json).await?;
    match recorder {
        Some(recorder) => recorder.keep(&accepted.compiled.descriptor, &run.options.signals),
        None => Ok(()),
    }
}

/// Runs a job from anywhere to its end, and prints its records and its result.
///
/// # Errors
/// The input does not fit, or the job did not succeed.
pub(super) async fn execute(
    options: &Options,
    accepted: &Accepted,
    about: About,
    begin: Begin,
    recorder: Option<&mut Recorder>,
    json: bool,
) -> anyhow::Result<()> {
    let name = accepted.compiled.descriptor.name.clone();
    let violations = match &begin {
        Begin::Input(text) => {
            accepted.violations(&serde_json::from_str(text).context("the input is not well-formed JSON")?)
        }
        Begin::Checkpoint(..) => Vec::new(),
    };
    let mut job = Job {
        options,
        json,
        accepted,
        about,
        recorder,
        display: Display::new(&name),
        report: Report::default(),
        children: Vec::new(),
    };
    let began = Instant::now();
    let outcome = if violations.is_empty() {
        job.finish(begin).await
    } else {
        let message = violations.iter().take(VIOLATIONS_MAX).cloned().collect::<Vec<_>>().join("\n  ");
        Err(Failed { kind: "invalid-input".into(), message, trace: None, again: false })
    };
    job.display.bar.finish_and_clear();
    let status = if outcome.is_ok() { "succeeded" } else { "failed" };
    let Report { steps, restores, checkpoint_bytes_max, memory_bytes_max, ref outputs, .. } = job.report;
    if steps > 0 {
        let checkpoint = match checkpoint_bytes_max {
            0 => String::new(),
            bytes => format!(", largest checkpoint {bytes} bytes"),
        };
        let ms = began.elapsed().as_millis();
        eprintln!(
            "{name} has {status}: {steps} steps, {restores} restores, {ms} ms, memory {memory_bytes_max} bytes{checkpoint}"
        );
    }
    if json {
        let failed = outcome.as_ref().err();
        say!(
            "{}",
            pretty(&Document {
                job_type: &name,
                status,
                result: outcome.as_ref().ok().and_then(|result| serde_json::from_str(result).ok()),
                error: failed.map(|Failed { kind, message, trace, .. }| {
                    json!({"kind": kind, "message": message, "trace": trace})
                }),
                output: outputs.iter().filter_map(|record| serde_json::from_str(record).ok()).collect(),
                steps,
                restores,
                checkpoint_bytes_max,
                memory_bytes_max,
            })
        );
    }
    match outcome {
        Ok(_) if json => Ok(()),
        Ok(result) => {
            say!("{result}");
            Ok(())
        }
        Err(Failed { kind, message, trace, again }) => {
            let trace = trace.map(|trace| format!("\n{trace}")).unwrap_or_default();
            let again = if again { "\nA host would try it again, from its last checkpoint." } else { "" };
            Err(anyhow::anyhow!("{message} ({kind}){trace}{again}"))
                .with_context(|| format!("the job of {name} failed"))
        }
    }
}

impl Job<'_> {
    async fn finish(&mut self, begin: Begin) -> Result<String, Failed> {
        let mut instance = match begin {
            Begin::Input(input) => self.accepted.plugin.start(self.context(), &input).await?,
            Begin::Checkpoint(steps, snapshot) => {
                self.report.steps = steps;
                self.accepted.plugin.restore(self.context(), snapshot).await?
            }
        };
        loop {
            if self.options.max_steps == Some(self.report.steps) {
                let message =
                    format!("the job has not ended after {} steps, which is --max-steps", self.report.steps);
                return Err(stopped("max-steps", message));
            }
            let outcome = instance.step().await?;
            self.report.steps += 1;
            self.report.memory_bytes_max = self.report.memory_bytes_max.max(instance.memory_bytes());
            self.commit(instance.take_effects());
            let parked = match outcome {
                Outcome::Completed(result) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.ended(&result);
                    }
                    return Ok(result);
                }
                Outcome::Progressed(progress) => {
                    self.advance(progress);
                    self.options
                        .crash_every
                        .is_some_and(|steps| self.report.steps.is_multiple_of(steps.get()))
                }
                Outcome::Sleep(ms) => {
                    self.rest("sleeps", Duration::from_millis(ms)).await;
                    true
                }
                Outcome::AwaitSignal { name, timeout_ms } => {
                    self.await_signal(&name, timeout_ms).await?;
                    true
                }
                Outcome::AwaitChildren if self.children.is_empty() => true,
                Outcome::AwaitChildren => {
                    return Err(stopped(
                        "needs-host",
                        format!(
                            "the job waits for {} children ({}): they are jobs of their own, which needs a host. The SDK's \
                         test harness can answer for them",
                            self.children.len(),
                            types(&self.children)
                        ),
                    ));
                }
            };
            if parked || self.recorder.is_some() {
                let snapshot = instance.checkpoint().await?;
                self.report.checkpoint_bytes_max = self.report.checkpoint_bytes_max.max(snapshot.state.len());
                if let Some(recorder) = &mut self.recorder {
                    recorder.step(self.report.steps, &snapshot);
                }
                if parked {
                    // Its memory is free before the next one asks for some.
                    drop(instance);
                    self.report.restores += 1;
                    instance = self.accepted.plugin.restore(self.context(), snapshot).await?;
                }
            }
        }
    }

    async fn await_signal(&self, name: &str, timeout_ms: Option<u64>) -> Result<(), Failed> {
        if self.options.signals.iter().any(|(given, _)| given == name) {
            return Ok(());
        }
        let Some(ms) = timeout_ms else {
            return Err(stopped(
                "needs-host",
                format!(
                    "the job waits for the signal {name:?}: give it with --signal {name}=JSON, or run the job on a host"
                ),
            ));
        };
        self.rest(&format!("waits for the signal {name:?}"), Duration::from_millis(ms)).await;
        Ok(())
    }

    async fn rest(&self, what: &str, wanted: Duration) {
        let waits = wanted.min(self.options.max_sleep);
        let cut = if waits < wanted { format!(", here {waits:?}") } else { String::new() };
        self.display.line(&format!("the job {what} for {wanted:?}{cut}"));
        tokio::time::sleep(waits).await;
    }

    /// A step's effects take effect.
    fn commit(&mut self, effects: Effects) {
        if let Some(progress) = effects.progress {
            self.advance(progress);
        }
        self.children.extend(effects.children.into_iter().map(|child| child.job_type));
        if let Some(recorder) = &mut self.recorder {
            recorder.emitted(&effects.outputs);
        }
        if self.json {
            self.report.outputs.extend(effects.outputs);
        } else if !effects.outputs.is_empty() {
            // Records and the progress bar may share a terminal.
            self.display.bar.suspend(|| effects.outputs.iter().for_each(|record| say!("{record}")));
        }
    }

    /// Progress never goes back.
    fn advance(&mut self, next: Progress) {
        let current = self.report.progress.current.max(next.current);
        self.report.progress = Progress { current, ..next };
        let progress = &self.report.progress;
        self.display.bar.set_message(progress.message.clone().unwrap_or_default());
        if let Some(total) = progress.total {
            self.display.set_total(total);
            self.display.bar.set_position(current.min(total));
        }
        let due = self.report.progress_said.is_none_or(|said| said.elapsed() >= PROGRESS_EVERY);
        if !self.display.terminal && due {
            let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
            let message = progress.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            self.display.line(&format!("{current}{total}{message}"));
            self.report.progress_said = Some(Instant::now());
        }
    }

    fn context(&self) -> JobContext {
        let display = self.display.clone();
        let signals = self.options.signals.iter().cloned().collect();
        self.about.context(self.report.steps, signals, move |line: LogLine| {
            let level = serde_json::to_value(line.level).unwrap_or_default();
            let fields = line.fields.map(|fields| format!(" {fields}")).unwrap_or_default();
            display.line(&format!("{} {}{fields}", level.as_str().unwrap_or_default(), line.message));
        })
    }
}

/// The job could go on, but not here.
fn stopped(kind: &str, message: String) -> Failed {
    Failed { kind: kind.to_owned(), message, trace: None, again: false }
}

fn types(children: &[String]) -> String {
    let mut names: Vec<_> = children.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
