//! `waymark plugin`: `new`, `build`, `check` and `run` work on this machine alone, for authors; `list`, `show`,
//! `install` and `remove` ask a host, and `replay` asks one for the job that it then runs here.

mod build;
mod check;
mod conformance;
mod recording;
mod replay;
mod run;
mod scaffold;

use super::{
    Client, Remote,
    client::{pretty, read, segment},
    table::{self, cell, say},
};
use anyhow::Context as _;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use std::path::PathBuf;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Begin a job type in Rust: a new crate with a test and an input to try.
    New(scaffold::New),
    /// Compile a job type in Rust to a .wasm file.
    Build(build::Build),
    /// Check a .wasm file as a host does, and show what it says of itself; with an input, crash a job again and again.
    Check(Box<check::Check>),
    /// Run one job of a .wasm file in the sandbox, without a host and without a store.
    Run(Box<run::Run>),
    /// Run a real job again on this machine, from its input or its last checkpoint. The host's job is left alone.
    Replay(Box<replay::Replay>),
    /// List the job types of a host, with the errors of files that it refused.
    List,
    /// Show a job type with its schemas.
    Show {
        /// Job type.
        name: String,
    },
    /// Put a .wasm file into service on a host.
    Install {
        /// The file.
        wasm: PathBuf,
        /// Job type [default: the file's name without its ending].
        #[arg(long, value_name = "TYPE")]
        name: Option<String>,
    },
    /// Retire a job type on a host.
    Remove {
        /// Job type.
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused; or the job type cannot be made, built or accepted, or its job failed.
pub async fn run(remote: &Remote, command: PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::New(new) => scaffold::run(&new, remote.json),
        PluginCommand::Build(build) => build::run(&build, remote.json),
        PluginCommand::Check(check) => check::run(&check, remote.json).await,
        PluginCommand::Run(run) => run::run(*run, remote.json).await,
        PluginCommand::Replay(replay) => replay::run(&Client::new(remote)?, &replay).await,
        command => ask(&Client::new(remote)?, command).await,
    }
}

async fn ask(client: &Client, command: PluginCommand) -> anyhow::Result<()> {
    match command {
        // They need no host.
        PluginCommand::New(_)
        | PluginCommand::Build(_)
        | PluginCommand::Check(_)
        | PluginCommand::Run(_)
        | PluginCommand::Replay(_) => {}
        PluginCommand::List => {
            let answer: Value = client.get("/api/v1/plugins", &[]).await?;
            if client.print(&answer) {
                return Ok(());
            }
            let plugins = answer["plugins"].as_array().cloned().unwrap_or_default();
            let elsewhere = answer["elsewhere"].as_array().cloned().unwrap_or_default();
            let row = |plugin: &Value| {
                let digest: String = cell(plugin, "digest").chars().take(12).collect();
                vec![
                    cell(plugin, "name"),
                    cell(plugin, "version"),
                    cell(plugin, "state"),
                    digest,
                    cell(plugin, "file"),
                ]
            };
            let mut rows: Vec<_> = plugins.iter().map(row).collect();
            rows.extend(elsewhere.iter().map(|plugin| {
                let version = cell(&plugin["descriptor"], "version");
                vec![cell(plugin, "name"), version, "elsewhere".into(), "-".into(), "-".into()]
            }));
            table::print(&["TYPE", "VERSION", "STATE", "DIGEST", "FILE"], &rows);
            for plugin in plugins.iter().filter(|plugin| !plugin["error"].is_null()) {
                let error = &plugin["error"];
                say!("\n{}: {} ({})", cell(plugin, "name"), cell(error, "message"), cell(error, "code"));
            }
        }
        PluginCommand::Show { name } => {
            let answer: Value = client.get(&format!("/api/v1/plugins/{}", segment(&name)), &[]).await?;
            say!("{}", pretty(&answer));
        }
        PluginCommand::Install { wasm, name } => {
            let bytes = std::fs::read(&wasm).with_context(|| format!("{} cannot be read", wasm.display()))?;
            let name = match name {
                Some(name) => name,
                None => wasm
                    .file_stem()
                    .and_then(|stem| stem.to_str())
                    .context("the file's name is no job type: name it with --name")?
                    .to_owned(),
            };
            let request = client.request(Method::PUT, &format!("/api/v1/plugins/{}", segment(&name)));
            let request = request.header("content-type", "application/wasm").body(bytes);
            let answer: Value = read(client.send(request).await?).await?;
            if !client.print(&answer) {
                say!(
                    "{} {} is in service (digest {})",
                    cell(&answer, "name"),
                    cell(&answer, "version"),
                    cell(&answer, "digest")
                );
            }
        }
        PluginCommand::Remove { name } => {
            client.delete(&format!("/api/v1/plugins/{}", segment(&name))).await?;
            if !client.print(&serde_json::json!({"name": name, "removed": true})) {
                say!("{name} is retired");
            }
        }
    }
    Ok(())
}
