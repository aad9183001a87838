//! `waymark host list|drain|pause|resume`.

use super::{
    Client, Remote,
    client::segment,
    table::{self, cell, say},
};
use clap::Subcommand;
use serde_json::Value;

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts of the store.
    List {
        /// Which host to ask.
        #[command(flatten)]
        remote: Remote,
    },
    /// Ask a host to claim nothing more; what it holds goes on.
    Pause {
        /// Which host to ask.
        #[command(flatten)]
        remote: Remote,
        /// Id of the host to pause; `waymark host list` shows it.
        host: String,
    },
    /// Ask a paused host to claim again.
    Resume {
        /// Which host to ask.
        #[command(flatten)]
        remote: Remote,
        /// Id of the host to resume.
        host: String,
    },
    /// Ask a host to release its jobs at the end of their steps, and to stop.
    Drain {
        /// Which host to ask.
        #[command(flatten)]
        remote: Remote,
        /// Id of the host to drain; `waymark host list` shows it.
        host: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(command: HostCommand) -> anyhow::Result<()> {
    match command {
        HostCommand::List { remote } => {
            let client = Client::new(&remote)?;
            let answer: Value = client.get("/api/v1/hosts", &[]).await?;
            if client.print(&answer) {
                return Ok(());
            }
            let hosts = answer["hosts"].as_array().cloned().unwrap_or_default();
            let row = |host: &Value| {
                let state = if host["draining"] == true {
                    "draining"
                } else if host["ready"] != true {
                    "not ready"
                } else if host["paused"] == true {
                    "paused"
                } else {
                    "ready"
                };
                let queues = host["queues"].as_array().cloned().unwrap_or_default();
                let queues: Vec<_> = queues.iter().filter_map(Value::as_str).collect();
                let queues = if queues.is_empty() { "all".to_owned() } else { queues.join(",") };
                let share = |name: &str| {
                    host["load"][name]
                        .as_f64()
                        .map_or_else(String::new, |share| format!("{:.0}%", share * 100.0))
                };
                let slots = format!("{}/{}", cell(host, "used"), cell(host, "slots"));
                let types = host["types"].as_array().map_or(0, Vec::len).to_string();
                vec![
                    cell(host, "id"),
                    cell(host, "address"),
                    if host["leader"] == true { "leads".to_owned() } else { "-".to_owned() },
                    state.into(),
                    slots,
                    share("cpu"),
                    share("memory"),
                    queues,
                    types,
                    cell(host, "version"),
                    cell(host, "started_at"),
                ]
            };
            table::print(
                &[
                    "HOST", "ADDRESS", "LEADS", "STATE", "SLOTS", "CPU", "MEMORY", "QUEUES", "TYPES",
                    "VERSION", "STARTED",
                ],
                &hosts.iter().map(row).collect::<Vec<_>>(),
            );
        }
        HostCommand::Pause { remote, host } => {
            let client = Client::new(&remote)?;
            let answer: Value = client.post(&format!("/api/v1/hosts/{}/pause", segment(&host)), &[]).await?;
            if !client.print(&answer) {
                say!("host {host} was asked to claim nothing more");
            }
        }
        HostCommand::Resume { remote, host } => {
            let client = Client::new(&remote)?;
            let answer: Value = client.post(&format!("/api/v1/hosts/{}/resume", segment(&host)), &[]).await?;
            if !client.print(&answer) {
                say!("host {host} was asked to claim again");
            }
        }
        HostCommand::Drain { remote, host } => {
            let client = Client::new(&remote)?;
            let answer: Value = client.post(&format!("/api/v1/hosts/{}/drain", segment(&host)), &[]).await?;
            if !client.print(&answer) {
                say!("host {host} was asked to drain");
            }
        }
    }
    Ok(())
}
