//! `waymark plugin check`: what a host would say of a file.

use crate::cli::{client::pretty, table::say};
use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use waymark_sandbox::{self as sandbox, Compiled, Grants, Limits, LoadError, Plugin};

/// Memory for the job that is run.
const MEMORY_BYTES: u64 = 1 << 30;

/// A file to check.
#[derive(Args, Debug)]
pub struct Check {
    /// The .wasm file.
    file: PathBuf,
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
/// A host would refuse it.
pub(super) async fn run(check: &Check, json: bool) -> anyhow::Result<()> {
    let Accepted { compiled, input_schema, result_schema, .. } =
        accept(&check.file, Grants::default(), json).await?;
    let descriptor = &compiled.descriptor;
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
                "input_schema": input_schema,
                "result_schema": result_schema,
            }))
        );
        return Ok(());
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
    say!("");
    say!("input {}", pretty(&input_schema));
    say!("result {}", pretty(&result_schema));
    Ok(())
}

/// Compiles a file in a child process and loads it, as a host does, with a cache that is gone afterwards.
///
/// # Errors
/// A host would refuse the file. With `json` that is printed as a document too.
pub(super) async fn accept(file: &Path, grants: Grants, json: bool) -> anyhow::Result<Accepted> {
    ensure!(file.is_file(), "{} is not a file", file.display());
    let cache = tempfile::tempdir()?;
    let refused = match load(file, cache.path(), grants).await {
        Ok(accepted) => return Ok(accepted),
        Err(refused) => refused,
    };
    if json {
        say!("{}", pretty(&json!({"error": {"code": refused.code, "message": refused.message}})));
    }
    Err(anyhow::Error::new(refused).context(format!("{} is refused", file.display())))
}

async fn load(file: &Path, cache: &Path, grants: Grants) -> Result<Accepted, Refusal> {
    let host = |what: &str, error: &dyn std::fmt::Display| Refusal {
        code: "host-error",
        message: format!("{what}: {error}"),
    };
    let executable = std::env::current_exe().map_err(|error| host("this program's own file", &error))?;
    let compiled = sandbox::compile_in_child(&executable, file, cache).await?;
    let options =
        sandbox::EngineOptions { memory_budget_bytes: MEMORY_BYTES, instances_max: 1, pooling: false };
    let engine = sandbox::Engine::new(&options).map_err(|error| host("Wasmtime", &error))?;
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
    Ok(Accepted { compiled, plugin, input_schema, result_schema, validator })
}
