//! The conformance run of `waymark plugin check`: one job, run again and again without a host or a store, each time
//! disturbed otherwise. Whatever a caller can see must be the same each time: result, output records, progress,
//! children. The checkpoints must be the same too.
//!
//! The runs are, in this order: undisturbed; the same again, for determinism; with a checkpoint taken after every step;
//! with the instance thrown away after every step and restored from it; and one from each checkpoint that an earlier
//! version recorded. Sleeps are skipped. What comes after a wait for children is not looked at: they need a host.

use super::{
    check::Accepted,
    recording::Recording,
    run::{About, Failed},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};
use waymark_sandbox::{Instance, Outcome, Snapshot};

/// Steps after which a run is given up as endless, unless told otherwise.
pub(super) const STEPS_MAX: u64 = 10_000;
/// Between the beginnings of two runs of a plugin that imports a clock: a clock of whole seconds shows too.
const CLOCK_MOVES: Duration = Duration::from_millis(1_100);
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 120;

/// What a run is to be disturbed by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disturbed {
    Never,
    /// A checkpoint is taken after every step.
    Saved,
    /// Every step runs in an instance of its own.
    Restored,
}

/// What a step did.
#[derive(Debug, PartialEq)]
struct Did {
    outcome: Outcome,
    outputs: Vec<String>,
    /// Last progress that it reported on the way.
    reported: Option<u64>,
    /// Types and inputs.
    children: Vec<(String, String)>,
}

/// A step and the checkpoint after it.
#[derive(Debug)]
struct Step {
    did: Did,
    saved: Option<Snapshot>,
    /// What an instance restored from `saved` says when it is asked at once.
    read_back: Option<Snapshot>,
}

/// A run: its steps, and why it ended before its time.
struct Trace {
    steps: Vec<Step>,
    failed: Option<String>,
}

/// A mistake of the job type.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// Stable.
    code: &'static str,
    /// What was seen, and what to do.
    pub(super) message: String,
}

/// What the runs came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Of the undisturbed run.
    steps: usize,
    runs: usize,
    checkpoints: usize,
    checkpoint_bytes_max: usize,
    /// Checkpoints of an earlier version that were gone on from.
    recorded: usize,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { steps, runs, checkpoints, checkpoint_bytes_max, recorded, .. } = self;
        format!(
            "{runs} runs of {steps} steps, {checkpoints} checkpoints of at most {checkpoint_bytes_max} bytes, {recorded} recorded ones"
        )
    }

    fn found(&mut self, code: &'static str, message: String) {
        self.findings.push(Finding { code, message });
    }
}

/// The job to try.
pub(super) struct Trial<'a> {
    pub(super) accepted: &'a Accepted,
    /// JSON, which fits the schema.
    pub(super) input: &'a str,
    pub(super) signals: HashMap<String, String>,
    pub(super) steps_max: u64,
}

impl Trial<'_> {
    /// All runs. The first one that shows a mistake is the last: the others would only repeat it.
    ///
    /// # Errors
    /// The job does not succeed undisturbed, or the recording cannot be read.
    pub(super) async fn run(&self, recorded: Option<(&Path, &Recording)>) -> anyhow::Result<Report> {
        let mut report = Report::default();
        let began = Instant::now();
        let first = self.whole(Disturbed::Never, &mut report).await;
        report.steps = first.steps.len();
        if let Some(why) = &first.failed {
            anyhow::bail!(
                "the job does not succeed even undisturbed: {why}. Give an input with which it does"
            );
        }
        self.progress_rises(&first, &mut report);
        if self.accepted.compiled.imports.iter().any(|import| import.starts_with("wasi:clocks")) {
            tokio::time::sleep(CLOCK_MOVES.saturating_sub(began.elapsed())).await;
        }
        let second = self.whole(Disturbed::Never, &mut report).await;
        if let Some(difference) = compare(&first, &second) {
            report.found(
                "not-deterministic",
                format!(
                    "the same input, run twice undisturbed: {difference}. A step that runs again after a crash must do \
                     the same again: take times and random numbers from the input, not from a clock or a generator, \
                     and sort what has no order"
                ),
            );
            return Ok(report);
        }
        let saved = self.whole(Disturbed::Saved, &mut report).await;
        let checkpoints = saved.steps.iter().filter_map(|step| step.saved.as_ref());
        report.checkpoints = checkpoints.clone().count();
        report.checkpoint_bytes_max = checkpoints.map(|snapshot| snapshot.state.len()).max().unwrap_or(0);
        if let Some(difference) = compare(&first, &saved) {
            report.found(
                "checkpoint-changes-the-job",
                format!(
                    "with `checkpoint` called after every step: {difference}. `checkpoint` only reads: it must not \
                     change what the next step does"
                ),
            );
            return Ok(report);
        }
        let restored = self.whole(Disturbed::Restored, &mut report).await;
        restoring(&saved, &restored, &mut report);
        if let Some((folder, recording)) = recorded
            && report.findings.is_empty()
        {
            self.go_on_from(folder, recording, &mut report).await?;
        }
        Ok(report)
    }

    fn progress_rises(&self, trace: &Trace, report: &mut Report) {
        let mut before = 0;
        for (index, step) in trace.steps.iter().enumerate() {
            let answered = match &step.did.outcome {
                Outcome::Progressed(progress) => Some(progress.current),
                _ => None,
            };
            for now in step.did.reported.into_iter().chain(answered) {
                if now < before {
                    return report.found(
                        "progress-goes-back",
                        format!(
                            "step {} reports {now} units done after {before}. Progress never goes back within a run: count \
                             units finished over the whole job, and keep the count in the job's state",
                            index + 1
                        ),
                    );
                }
                before = now;
            }
        }
    }

    /// The job from its input.
    async fn whole(&self, disturbed: Disturbed, report: &mut Report) -> Trace {
        let mut trace = Trace { steps: Vec::new(), failed: None };
        report.runs += 1;
        trace.failed = match self.accepted.plugin.start(self.context(0), self.input).await {
            Ok(instance) => self.steps(instance, disturbed, 0, &mut trace.steps).await.err(),
            Err(fault) => Some(told("start", fault)),
        };
        trace
    }

    /// The job from a checkpoint on.
    async fn rest(&self, done: u64, snapshot: Snapshot) -> Trace {
        let mut trace = Trace { steps: Vec::new(), failed: None };
        trace.failed = match self.accepted.plugin.restore(self.context(done), snapshot).await {
            Ok(instance) => self.steps(instance, Disturbed::Never, done, &mut trace.steps).await.err(),
            Err(fault) => Some(told("restore", fault)),
        };
        trace
    }

    async fn steps(
        &self,
        mut instance: Instance,
        disturbed: Disturbed,
        mut done: u64,
        steps: &mut Vec<Step>,
    ) -> Result<(), String> {
        loop {
            if done == self.steps_max {
                return Err(format!("it has not ended after {done} steps, which is --max-steps"));
            }
            let outcome =
                instance.step().await.map_err(|fault| told(&format!("step {}", done + 1), fault))?;
            done += 1;
            let effects = instance.take_effects();
            let children = effects.children.into_iter().map(|child| (child.job_type, child.input));
            let children: Vec<_> = children.collect();
            let parked = !matches!(outcome, Outcome::Progressed(_));
            let ended = match &outcome {
                Outcome::Completed(_) => true,
                Outcome::AwaitChildren => {
                    steps.iter().any(|step| !step.did.children.is_empty()) || !children.is_empty()
                }
                Outcome::AwaitSignal { name, timeout_ms: None } => !self.signals.contains_key(name),
                _ => false,
            };
            let reported = effects.progress.map(|progress| progress.current);
            let did = Did { outcome, outputs: effects.outputs, reported, children };
            steps.push(Step { did, saved: None, read_back: None });
            if ended {
                return Ok(());
            }
            if disturbed == Disturbed::Never && !parked {
                continue;
            }
            let at = |fault| told(&format!("the checkpoint after step {done}"), fault);
            let snapshot = instance.checkpoint().await.map_err(at)?;
            let mut read_back = None;
            if disturbed == Disturbed::Restored || parked {
                // Its memory is free before the next one asks for some.
                drop(instance);
                let at = |fault| told(&format!("`restore` of the checkpoint after step {done}"), fault);
                instance =
                    self.accepted.plugin.restore(self.context(done), snapshot.clone()).await.map_err(at)?;
                if disturbed == Disturbed::Restored {
                    read_back = Some(instance.checkpoint().await.map_err(at)?);
                }
            }
            if disturbed != Disturbed::Never
                && let Some(step) = steps.last_mut()
            {
                (step.saved, step.read_back) = (Some(snapshot), read_back);
            }
        }
    }

    async fn go_on_from(
        &self,
        folder: &Path,
        recording: &Recording,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let version = &recording.version;
        for (done, outputs, snapshot) in recording.checkpoints(folder)? {
            report.recorded += 1;
            let trace = self.rest(done, snapshot).await;
            if let Some(why) = trace.failed {
                report.found(
                    "recorded-checkpoint-fails",
                    format!(
                        "from the checkpoint that version {version} wrote after step {done}: {why}. Read its shape (in \
                         Rust: raise STATE_VERSION and rewrite it in `migrate`), or give up on it by raising \
                         OLDEST_STATE_VERSION: then jobs go on under the version that wrote it"
                    ),
                );
                return Ok(());
            }
            let result = trace.steps.last().and_then(|step| match &step.did.outcome {
                Outcome::Completed(result) => Some(result.as_str()),
                _ => None,
            });
            let rest = recording.output.iter().skip(outputs).map(|record| record.get());
            let emitted = trace.steps.iter().flat_map(|step| step.did.outputs.iter().map(String::as_str));
            let difference = match result {
                Some(result) if !same_json(result, recording.result.get()) => Some(format!(
                    "the result is {} where version {version} had {}",
                    short(result),
                    short(recording.result.get())
                )),
                _ if !rest.eq(emitted) => {
                    Some(format!("the output records are not those of version {version}"))
                }
                _ => None,
            };
            if let Some(difference) = difference {
                report.found(
                    "recorded-checkpoint-differs",
                    format!(
                        "from the checkpoint that version {version} wrote after step {done}: {difference}. See that \
                         `restore` reads every field of the older shape; where this version is meant to answer \
                         otherwise, record it anew"
                    ),
                );
                return Ok(());
            }
        }
        Ok(())
    }

    fn context(&self, steps: u64) -> waymark_sandbox::JobContext {
        About::default().context(steps, self.signals.clone(), |_| ())
    }
}

/// What an instance restored after every step did, against one that was not.
fn restoring(saved: &Trace, restored: &Trace, report: &mut Report) {
    for (index, (kept, again)) in saved.steps.iter().zip(&restored.steps).enumerate() {
        let number = index + 1;
        if let Some(difference) = differ(&kept.did, &again.did) {
            return report.found(
                "checkpoint-forgets",
                format!(
                    "restored after every step: step {number} {difference}. The checkpoint reads back as it was written, so \
                     something that the job remembers is not in it: write everything that the next step needs (in \
                     Rust: a field marked `#[serde(skip)]` is filled again in `restored`)"
                ),
            );
        }
        if let (Some(kept), Some(again)) = (&kept.saved, &again.saved)
            && let Some(difference) = apart(kept, again)
        {
            return report.found(
                "checkpoint-forgets",
                format!(
                    "restored after every step: the checkpoint after step {number} is not that of the undisturbed job: \
                     {difference}. Something that the job remembers is not in the checkpoint before: write \
                     everything that the next step needs"
                ),
            );
        }
        if let (Some(written), Some(read)) = (&again.saved, &again.read_back)
            && let Some(difference) = apart(written, read)
        {
            return report.found(
                "restore-ignores",
                format!(
                    "the checkpoint after step {number}, once restored and taken again, is another: {difference}. \
                     `restore` must read every field that `checkpoint` writes"
                ),
            );
        }
    }
    if let Some(why) = &restored.failed {
        report.found(
            "restore-fails",
            format!(
                "restored after every step: {why}. `restore` must take whatever `checkpoint` of the same version writes, \
                 after every step"
            ),
        );
    }
}

/// The first difference between two runs that a caller can see.
fn compare(one: &Trace, other: &Trace) -> Option<String> {
    for (index, (one, other)) in one.steps.iter().zip(&other.steps).enumerate() {
        if let Some(difference) = differ(&one.did, &other.did) {
            return Some(format!("step {} {difference}", index + 1));
        }
    }
    match (&one.failed, &other.failed) {
        (None, Some(why)) => Some(why.clone()),
        _ if one.steps.len() != other.steps.len() => {
            Some(format!("it ended after {} steps, and after {}", one.steps.len(), other.steps.len()))
        }
        _ => None,
    }
}

fn differ(one: &Did, other: &Did) -> Option<String> {
    if one == other {
        return None;
    }
    if one.outputs != other.outputs {
        let none = "nothing".to_owned();
        let at = one.outputs.iter().zip(&other.outputs).take_while(|(one, other)| one == other).count();
        let (one, other) = (one.outputs.get(at).unwrap_or(&none), other.outputs.get(at).unwrap_or(&none));
        return Some(format!("emitted {}, and then {}", short(one), short(other)));
    }
    Some(match (&one.outcome, &other.outcome) {
        (Outcome::Completed(one), Outcome::Completed(other)) => {
            format!("ended with the result {}, and then {}", short(one), short(other))
        }
        (Outcome::Progressed(one), Outcome::Progressed(other)) if one.current != other.current => {
            format!("reported {} units done, and then {}", one.current, other.current)
        }
        (one, other) if one != other => {
            format!("answered {}, and then {}", short(&format!("{one:?}")), short(&format!("{other:?}")))
        }
        _ if one.children != other.children => "spawned other children".to_owned(),
        _ => "reported other progress on the way".to_owned(),
    })
}

/// How two checkpoints differ; as JSON where they are, so that the order of fields does not count.
fn apart(one: &Snapshot, other: &Snapshot) -> Option<String> {
    if one == other {
        return None;
    }
    let values = (serde_json::from_slice::<Value>(&one.state), serde_json::from_slice::<Value>(&other.state));
    match values {
        (Ok(left), Ok(right))
            if one.mime_type == other.mime_type && one.state_version == other.state_version =>
        {
            unlike(&left, &right, &mut String::new())
        }
        _ => Some(format!(
            "{} bytes of {} version {}, and then {} of {} version {}",
            one.state.len(),
            one.mime_type,
            one.state_version,
            other.state.len(),
            other.mime_type,
            other.state_version
        )),
    }
}

/// The first place where two documents differ, as a JSON Pointer with both values.
fn unlike(one: &Value, other: &Value, path: &mut String) -> Option<String> {
    let length = path.len();
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
            for name in names {
                path.push_str(&format!("/{}", name.replace('~', "~0").replace('/', "~1")));
                let (one, other) = (left.get(name), right.get(name));
                let found = match (one, other) {
                    (Some(one), Some(other)) => unlike(one, other, path),
                    _ => Some(said(one, other, path)),
                };
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            None
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (one, other)) in left.iter().zip(right).enumerate() {
                path.push_str(&format!("/{index}"));
                if let Some(found) = unlike(one, other, path) {
                    return Some(found);
                }
                path.truncate(length);
            }
            None
        }
        _ if one == other => None,
        _ => Some(said(Some(one), Some(other), path)),
    }
}

fn said(one: Option<&Value>, other: Option<&Value>, path: &str) -> String {
    let text = |value: Option<&Value>| {
        value.map_or_else(|| "not there".to_owned(), |value| short(&value.to_string()))
    };
    format!("`{path}` was {} and is {}", text(one), text(other))
}

fn same_json(one: &str, other: &str) -> bool {
    one == other
        || matches!(
            (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)),
            (Ok(one), Ok(other)) if one == other
        )
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn told(what: &str, fault: waymark_sandbox::Fault) -> String {
    let Failed { kind, message, .. } = Failed::from(fault);
    format!("{what} failed: {message} ({kind})")
}
