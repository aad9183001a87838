//! `waymark plugin run`: one job in this process, in the sandbox that hosts use, without a store.
//!
//! Every step counts as committed at once: its output records are printed, and a later crash would begin after it.
//! Where a host would park the job (sleep, signal) or with `--crash` after every step, the instance is thrown away and
//! a fresh one goes on from the checkpoint. What needs other jobs needs a host.

use super::check::{self, Accepted};
use crate::{
    cli::{client::pretty, job::text_of, table::say},
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
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use waymark_job::{JobError, JobId, Progress};
use waymark_sandbox::{Effects, Fault, FileGrant, Grants, Instance, JobContext, LogLine, Outcome, Snapshot};

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
    /// A directory that the job may read, and where it sees it; /=DIR if that is left out. May be given several times.
    #[arg(long = "grant", value_name = "GUEST=DIR", value_parser = grant)]
    grants: Vec<FileGrant>,
    /// Throw the instance away after every step, and go on from its checkpoint.
    #[arg(long)]
    crash: bool,
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

fn grant(text: &str) -> Result<FileGrant, String> {
    let (guest, host) = text.split_once('=').unwrap_or(("/", text));
    let host = PathBuf::from(host);
    if !host.is_dir() {
        return Err(format!("{} is not a directory", host.display()));
    }
    Ok(FileGrant { guest: guest.to_owned(), host })
}

fn signal(text: &str) -> Result<(String, String), String> {
    let (name, payload) = text.split_once('=').unwrap_or((text, "null"));
    let payload: Box<RawValue> =
        serde_json::from_str(payload).map_err(|error| format!("the payload: {error}"))?;
    Ok((name.to_owned(), payload.get().to_owned()))
}

/// Why a job did not succeed, in the words of the API.
#[derive(Debug)]
struct Failed {
    kind: String,
    message: String,
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
    run: &'a Run,
    json: bool,
    accepted: &'a Accepted,
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
    let input: Value = serde_json::from_str(&text).context("the input is not well-formed JSON")?;
    let accepted =
        check::accept(&run.file, Grants { files: run.grants.clone(), ..Grants::default() }, json).await?;
    let name = accepted.compiled.descriptor.name.clone();
    let violations = accepted.violations(&input);
    let mut job = Job {
        run: &run,
        json,
        accepted: &accepted,
        display: Display::new(&name),
        report: Report::default(),
        children: Vec::new(),
    };
    let began = Instant::now();
    let outcome = if violations.is_empty() {
        job.finish(text.trim()).await
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
    async fn finish(&mut self, input: &str) -> Result<String, Failed> {
        let mut instance = self.accepted.plugin.start(self.context(), input).await?;
        loop {
            if self.run.max_steps == Some(self.report.steps) {
                let message =
                    format!("the job has not ended after {} steps, which is --max-steps", self.report.steps);
                return Err(stopped("max-steps", message));
            }
            let outcome = instance.step().await?;
            self.report.steps += 1;
            self.report.memory_bytes_max = self.report.memory_bytes_max.max(instance.memory_bytes());
            self.commit(instance.take_effects());
            match outcome {
                Outcome::Completed(result) => return Ok(result),
                Outcome::Progressed(progress) => {
                    self.advance(progress);
                    if self.run.crash {
                        instance = self.again(instance).await?;
                    }
                }
                Outcome::Sleep(ms) => {
                    self.rest("sleeps", Duration::from_millis(ms)).await;
                    instance = self.again(instance).await?;
                }
                Outcome::AwaitSignal { name, timeout_ms } => {
                    if !self.run.signals.iter().any(|(given, _)| *given == name) {
                        let Some(ms) = timeout_ms else {
                            return Err(stopped(
                                "needs-host",
                                format!(
                                    "the job waits for the signal {name:?}: give it with --signal {name}=JSON, or run the job on a host"
                                ),
                            ));
                        };
                        self.rest(&format!("waits for the signal {name:?}"), Duration::from_millis(ms)).await;
                    }
                    instance = self.again(instance).await?;
                }
                Outcome::AwaitChildren if self.children.is_empty() => {
                    instance = self.again(instance).await?;
                }
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
            }
        }
    }

    /// A fresh instance that goes on from this one's checkpoint.
    async fn again(&mut self, mut instance: Instance) -> Result<Instance, Failed> {
        let snapshot: Snapshot = instance.checkpoint().await?;
        // Its memory is free before the next one asks for some.
        drop(instance);
        self.report.restores += 1;
        self.report.checkpoint_bytes_max = self.report.checkpoint_bytes_max.max(snapshot.state.len());
        Ok(self.accepted.plugin.restore(self.context(), snapshot).await?)
    }

    async fn rest(&self, what: &str, wanted: Duration) {
        let waits = wanted.min(self.run.max_sleep);
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
        let signals: HashMap<_, _> = self.run.signals.iter().cloned().collect();
        JobContext {
            job_id: ID.into(),
            correlation_id: String::new(),
            attempt: 1,
            run: 1,
            committed_steps: self.report.steps,
            soft_limit: None,
            metadata: "{}".into(),
            children: Vec::new(),
            signals,
            yield_flag: Arc::default(),
            logs: Box::new(move |line: LogLine| {
                let level = serde_json::to_value(line.level).unwrap_or_default();
                let fields = line.fields.map(|fields| format!(" {fields}")).unwrap_or_default();
                let text = format!("{} {}{fields}", level.as_str().unwrap_or_default(), line.message);
                display.line(&text);
            }),
            child_id: Box::new(|step, index| {
                JobId::parse(ID)
                    .map(|id| JobId::child(&id, 1, step, index, 0).to_string())
                    .unwrap_or_default()
            }),
        }
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
