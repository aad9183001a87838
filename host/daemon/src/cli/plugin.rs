//! `waymark plugin`: `new`, `build`, `check` and `run` work on this machine alone, for authors; `list`, `show`,
//! `install` and `remove` ask a host, `push` a registry, and `replay` asks one for the job that it then runs here.

mod build;
mod check;
mod conformance;
mod language;
mod origin;
mod recording;
mod replay;
mod run;
mod scaffold;
mod sign;

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
    /// Begin a job type in Rust, Python, JavaScript or C: a new project with a test and an input to try.
    New(scaffold::New),
    /// Make a .wasm file of a job type in Rust, Python, JavaScript or C.
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
    /// Put a plugin into service on all hosts: a .wasm file, an http(s):// address, or a place oci://HOST/NAME:TAG. The
    /// signature comes from the file with .sig behind its name, or the layer's annotation.
    Install {
        /// The file, address, or place in a registry.
        from: String,
        /// Job type [default: the file's name without its ending, or the last part of the registry's name].
        #[arg(long, value_name = "TYPE")]
        name: Option<String>,
        /// Which file is meant: sha256: and 64 hexadecimal digits. Needed with an address.
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
        /// Take it though it is older than the version in service.
        #[arg(long)]
        force: bool,
        /// Who asks a registry.
        #[command(flatten)]
        registry: origin::Registry,
    },
    /// Make the version before the active one active again on a host.
    Rollback {
        /// Job type.
        name: String,
    },
    /// Write a .wasm file to a registry of containers, with the signature beside it.
    Push {
        /// The file.
        wasm: PathBuf,
        /// Where to: oci://HOST/NAME:TAG.
        to: String,
        /// Who asks a registry.
        #[command(flatten)]
        registry: origin::Registry,
    },
    /// Make a key that plugins are signed with.
    Keygen {
        /// File to write.
        file: PathBuf,
    },
    /// Sign a .wasm file: writes FILE.wasm.sig.
    Sign(sign::Sign),
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
        PluginCommand::Keygen { file } => sign::keygen(&file, remote.json),
        PluginCommand::Sign(sign) => sign::sign(&sign, remote.json),
        PluginCommand::Push { wasm, to, registry } => {
            let pushed = origin::push(&wasm, &to, &registry).await?;
            if remote.json {
                say!("{}", pretty(&serde_json::json!({"to": to, "manifest": pushed})));
            } else {
                say!("{} is at {to}", wasm.display());
            }
            Ok(())
        }
        PluginCommand::Replay(replay) => replay::run(&Client::new(remote)?, &replay).await,
        command => ask(&Client::new(remote)?, command).await,
    }
}

/// What becomes of the jobs of the version before.
fn swap(plugin: &Value) {
    let versions = plugin["versions"].as_array().cloned().unwrap_or_default();
    let active = versions.iter().find(|version| version["active"] == true);
    let trials = active.and_then(|version| version["swap"]["trials"].as_array().cloned()).unwrap_or_default();
    if !trials.is_empty() {
        say!("");
        let row = |trial: &Value| vec![cell(trial, "of"), cell(trial, "verdict"), cell(trial, "why")];
        table::print(&["CHECKPOINT OF", "VERDICT", "WHY"], &trials.iter().map(row).collect::<Vec<_>>());
    }
}

async fn ask(client: &Client, command: PluginCommand) -> anyhow::Result<()> {
    match command {
        // They need no host.
        PluginCommand::New(_)
        | PluginCommand::Build(_)
        | PluginCommand::Check(_)
        | PluginCommand::Run(_)
        | PluginCommand::Push { .. }
        | PluginCommand::Keygen { .. }
        | PluginCommand::Sign(_)
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
        PluginCommand::Install { from, name, digest, force, registry } => {
            let fetched = origin::fetch(&from, digest.as_deref(), &registry).await?;
            let name =
                name.or(fetched.stem).context("the file's name is no job type: name it with --name")?;
            let request = client.request(Method::PUT, &format!("/api/v1/plugins/{}", segment(&name)));
            let mut request = request.header("content-type", "application/wasm").query(&[("force", force)]);
            if let Some(signature) = fetched.signature {
                request = request.header("waymark-signature", signature);
            }
            let request = request.body(fetched.bytes);
            let answer: Value = read(client.send(request).await?).await?;
            if !client.print(&answer) {
                say!(
                    "{} {} is in service (digest {})",
                    cell(&answer, "name"),
                    cell(&answer, "version"),
                    cell(&answer, "digest")
                );
                swap(&answer);
            }
        }
        PluginCommand::Rollback { name } => {
            let path = format!("/api/v1/plugins/{}/rollback", segment(&name));
            let answer: Value = client.post(&path, &[]).await?;
            if !client.print(&answer) {
                say!(
                    "{} {} is active again (digest {})",
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
