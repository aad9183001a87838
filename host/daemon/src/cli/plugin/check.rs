//! `waymark plugin check`: what a host would say of a file, and with an input the conformance run.

use super::{
    conformance::{self, Report, Trial},
    recording::Recording,
    run::{Granted, Granting, signal},
};
use crate::{
    cli::{client::pretty, job::text_of, table::say},
    directory,
};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use waymark_sandbox::{self as sandbox, Compiled, Grants, Limits, LoadError, Plugin};

/// Memory for the job that is run.
const MEMORY_BYTES: u64 = 1 << 30;

/// A file to check.
#[derive(Args, Debug)]
pub struct Check {
    /// The .wasm file.
    file: PathBuf,
    /// Input of a job to crash and restore after every step, run twice, and compare: JSON, @FILE, or - for standard
    /// input.
    #[arg(long, short, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Also go on from every checkpoint in this folder, which an earlier version wrote with `plugin run --record`. Its
    /// input is the default.
    #[arg(long, value_name = "DIR")]
    recorded: Option<PathBuf>,
    #[command(flatten)]
    granting: Granting,
    /// A signal and its payload, null if that is left out. May be given several times.
    #[arg(long = "signal", value_name = "NAME=JSON", value_parser = signal)]
    signals: Vec<(String, String)>,
    /// Give a run up after so many steps.
    #[arg(long, value_name = "N", default_value_t = conformance::STEPS_MAX)]
    max_steps: u64,
}

/// A file that a host would take.
pub(super) struct Accepted {
    /// What the compiler found.
    pub(super) compiled: Compiled,
    /// Ready to run.
    pub(super) plugin: Plugin,
    pub(super) input_schema: Value,
    pub(super) result_schema: Value,
    validator: jsonschema::Validator,
    /// Scratch files lie in it as long as the plugin may run.
    _folder: Arc<TempDir>,
}

/// Why a host would not take a file.
#[derive(Debug, thiserror::Error)]
#[error("{message} ({code})")]
struct Refusal {
    code: &'static str,
    message: String,
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl Accepted {
    /// What of an input does not fit: one line per violation, each beginning with a JSON Pointer.
    pub(super) fn violations(&self, input: &Value) -> Vec<String> {
        let errors = self.validator.iter_errors(input);
        errors.map(|error| format!("/input{}: {error}", error.instance_path())).collect()
    }
}

/// Checks the file and prints what it says of itself, or why it is refused.
///
/// # Errors
/// A host would refuse it, or the conformance run shows a mistake.
pub(super) async fn run(check: &Check, json: bool) -> anyhow::Result<()> {
    let granted = check.granting.read()?;
    let accepted = accept(&check.file, &granted, json).await?;
    let report = conform(check, &accepted).await?;
    let grants = granted.of(&accepted.compiled.descriptor.name);
    describe(&accepted, &grants, report.as_ref(), json);
    let findings = report.map(|report| report.findings).unwrap_or_default();
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = findings.into_iter().map(|finding| finding.message).collect();
    bail!("{} does not conform:\n  {}", check.file.display(), lines.join("\n  "))
}

async fn conform(check: &Check, accepted: &Accepted) -> anyhow::Result<Option<Report>> {
    let recording = check.recorded.as_deref().map(Recording::open).transpose()?;
    let (input, mut signals) = match (&check.input, &recording) {
        (None, None) => return Ok(None),
        (Some(input), _) => (text_of(input)?, Vec::new()),
        (None, Some(recording)) => {
            let signals = recording.signals.iter();
            let signals = signals.map(|(name, payload)| (name.clone(), payload.get().to_owned()));
            (recording.input.get().to_owned(), signals.collect())
        }
    };
    if let Some(recording) = &recording {
        let name = &accepted.compiled.descriptor.name;
        ensure!(
            recording.job_type == *name,
            "the recording is of {}, and this is {name}",
            recording.job_type
        );
    }
    signals.extend(check.signals.iter().cloned());
    let parsed = serde_json::from_str(&input).context("the input is not well-formed JSON")?;
    let violations = accepted.violations(&parsed);
    ensure!(violations.is_empty(), "the input does not fit the schema:\n  {}", violations.join("\n  "));
    let signals = signals.into_iter().collect();
    let trial = Trial { accepted, input: input.trim(), signals, steps_max: check.max_steps };
    let recorded = check.recorded.as_deref().zip(recording.as_ref());
    trial.run(recorded).await.map(Some)
}

fn describe(accepted: &Accepted, grants: &Grants, report: Option<&Report>, json: bool) {
    let Accepted { compiled, input_schema, result_schema, .. } = accepted;
    let descriptor = &compiled.descriptor;
    let capabilities = directory::capabilities(descriptor, &compiled.imports, grants);
    if json {
        say!(
            "{}",
            pretty(&json!({
                "name": descriptor.name,
                "version": descriptor.version,
                "description": descriptor.description,
                "digest": compiled.digest,
                "bytes": compiled.bytes,
                "state_version": descriptor.state_version,
                "oldest_state_version": descriptor.oldest_state_version,
                "imports": compiled.imports,
                "capabilities": capabilities,
                "input_schema": input_schema,
                "result_schema": result_schema,
                "conformance": report,
            }))
        );
        return;
    }
    say!("{} {}", descriptor.name, descriptor.version);
    if !descriptor.description.is_empty() {
        say!("{}", descriptor.description);
    }
    say!("");
    say!("digest          {}", compiled.digest);
    say!("bytes           {}", compiled.bytes);
    say!("state version   {}", descriptor.state_version);
    say!("reads versions  {} to {}", descriptor.oldest_state_version, descriptor.state_version);
    say!("imports         {}", compiled.imports.join("\n                "));
    for one in &capabilities {
        let grant = one.grant.as_deref().map(|grant| format!("\n                {grant}"));
        say!("capability      {}: {}{}", one.import, one.state, grant.unwrap_or_default());
    }
    match report {
        Some(report) if report.findings.is_empty() => say!("conformance     {}", report.line()),
        Some(report) => say!("conformance     {} mistakes", report.findings.len()),
        None => say!("conformance     not tried: give an input with --input"),
    }
    say!("");
    say!("input {}", pretty(&input_schema));
    say!("result {}", pretty(&result_schema));
}

/// Compiles a file in a child process and loads it, as a host does, with a cache that is gone afterwards.
///
/// # Errors
/// A host would refuse the file. With `json` that is printed as a document too.
pub(super) async fn accept(file: &Path, granted: &Granted, json: bool) -> anyhow::Result<Accepted> {
    ensure!(file.is_file(), "{} is not a file", file.display());
    let cache = tempfile::tempdir()?;
    let refused = match load(file, cache.path(), granted).await {
        Ok(accepted) => return Ok(accepted),
        Err(refused) => refused,
    };
    if json {
        say!("{}", pretty(&json!({"error": {"code": refused.code, "message": refused.message}})));
    }
    Err(anyhow::Error::new(refused).context(format!("{} is refused", file.display())))
}

async fn load(file: &Path, cache: &Path, granted: &Granted) -> Result<Accepted, Refusal> {
    let host = |what: &str, error: &dyn std::fmt::Display| Refusal {
        code: "host-error",
        message: format!("{what}: {error}"),
    };
    let executable = std::env::current_exe().map_err(|error| host("this program's own file", &error))?;
    let compiled = sandbox::compile_in_child(&executable, file, cache).await?;
    let options =
        sandbox::EngineOptions { memory_budget_bytes: MEMORY_BYTES, instances_max: 1, pooling: false };
    let engine =
        sandbox::Engine::offering(&options, &granted.offer).map_err(|error| host("Wasmtime", &error))?;
    let grants = granted.of(&compiled.descriptor.name);
    let plugin = engine.load(cache, &compiled.digest, Limits::default(), grants)?;
    let bad = |what: &str, error: &dyn std::fmt::Display| Refusal {
        code: "bad-descriptor",
        message: format!("the {what} schema is not a JSON Schema: {error}"),
    };
    let schema =
        |text: &str, what: &str| serde_json::from_str::<Value>(text).map_err(|error| bad(what, &error));
    let input_schema = schema(&compiled.descriptor.input_schema, "input")?;
    let result_schema = schema(&compiled.descriptor.result_schema, "result")?;
    let validator = jsonschema::validator_for(&input_schema).map_err(|error| bad("input", &error))?;
    Ok(Accepted { compiled, plugin, input_schema, result_schema, validator, _folder: granted.folder.clone() })
}
