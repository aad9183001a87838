//! `waymark workflow`.

use super::{
    Client,
    client::{self, segment},
    table::{self, cell, say},
    watch,
};
use anyhow::Context as _;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use std::path::PathBuf;

/// What to do with workflows.
#[derive(Debug, Subcommand)]
pub enum WorkflowCommand {
    /// Make a workflow of what a JSON file says.
    Submit {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
    /// Show a workflow and its nodes.
    Show {
        /// The workflow's id.
        id: String,
        /// Most nodes.
        #[arg(long, default_value_t = 100)]
        nodes: usize,
        /// Number of the first node.
        #[arg(long, default_value_t = 0)]
        from: usize,
    },
    /// List workflows, newest first.
    List {
        /// Only these states, with commas between them.
        #[arg(long)]
        status: Option<String>,
        /// Most workflows.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// End a workflow and its jobs now.
    Cancel {
        /// The workflow's id.
        id: String,
    },
    /// Stop a workflow and its jobs; they keep their places.
    Pause {
        /// The workflow's id.
        id: String,
    },
    /// Let a paused workflow and its jobs go on.
    Resume {
        /// The workflow's id.
        id: String,
    },
    /// Run an ended workflow again, except for what succeeded.
    Retry {
        /// The workflow's id.
        id: String,
    },
    /// Follow a workflow to its end.
    Watch {
        /// The workflow's id.
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read, the host cannot be reached or refused, or a workflow that was followed did not succeed.
pub async fn run(client: &Client, command: WorkflowCommand) -> anyhow::Result<()> {
    match command {
        WorkflowCommand::Submit { file } => {
            let text = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin()).context("standard input cannot be read")?
            } else {
                std::fs::read_to_string(&file)
                    .with_context(|| format!("{} cannot be read", file.display()))?
            };
            let request = client.request(Method::POST, "/api/v1/workflows").body(text);
            let job: Value = client::read(client.send(request).await?).await?;
            told(client, &job);
        }
        WorkflowCommand::Show { id, nodes, from } => {
            let query = [("nodes", nodes.to_string()), ("from", from.to_string())];
            let workflow: Value = client.get(&format!("/api/v1/workflows/{}", segment(&id)), &query).await?;
            if !client.print(&workflow) {
                show(&workflow);
            }
        }
        WorkflowCommand::List { status, limit } => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(status.map(|status| ("status", status)));
            let page: Value = client.get("/api/v1/workflows", &query).await?;
            if client.print(&page) {
                return Ok(());
            }
            let rows: Vec<_> = page["jobs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|job| {
                    let of_input = |name| cell(&job["input"], name);
                    let progress = cell(&job["progress"], "percent");
                    vec![
                        cell(job, "id"),
                        cell(job, "status"),
                        of_input("name"),
                        of_input("nodes"),
                        progress,
                        cell(job, "created_at"),
                    ]
                })
                .collect();
            table::print(&["ID", "STATUS", "NAME", "NODES", "PERCENT", "CREATED"], &rows);
        }
        WorkflowCommand::Cancel { id } => {
            ask(client, &format!("/api/v1/jobs/{}/cancel", segment(&id))).await?
        }
        WorkflowCommand::Pause { id } => ask(client, &format!("/api/v1/jobs/{}/pause", segment(&id))).await?,
        WorkflowCommand::Resume { id } => {
            ask(client, &format!("/api/v1/jobs/{}/resume", segment(&id))).await?
        }
        WorkflowCommand::Retry { id } => {
            ask(client, &format!("/api/v1/workflows/{}/retry", segment(&id))).await?
        }
        WorkflowCommand::Watch { id } => watch::to_end(client, &id, false, false).await?,
    }
    Ok(())
}

async fn ask(client: &Client, path: &str) -> anyhow::Result<()> {
    let job: Value = client.post(path, &[]).await?;
    told(client, &job);
    Ok(())
}

fn told(client: &Client, job: &Value) {
    if !client.print(job) {
        say!("{} {}", cell(job, "id"), cell(job, "status"));
    }
}

fn show(workflow: &Value) {
    let job = &workflow["job"];
    say!("{} {} {}", cell(job, "id"), cell(job, "status"), cell(&job["input"], "name"));
    let counts = &workflow["counts"];
    let names = ["waiting", "active", "succeeded", "failed", "cancelled", "skipped"];
    let counts: Vec<_> = names
        .iter()
        .filter(|name| counts[**name] != 0)
        .map(|name| format!("{} {name}", cell(counts, name)))
        .collect();
    say!("{} nodes: {}", cell(&workflow["counts"], "total"), counts.join(", "));
    if let Some(message) = job["error"]["message"].as_str() {
        say!("error: {message}");
    }
    let rows: Vec<_> = workflow["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            let needs = node["needs"].as_array().into_iter().flatten();
            let needs: Vec<_> = needs.take(5).filter_map(Value::as_str).collect();
            let items = match &node["items"] {
                Value::Null => "-".to_owned(),
                items => format!("{} of {}", cell(items, "ended"), cell(items, "total")),
            };
            let columns = [cell(node, "name"), cell(node, "type"), cell(node, "state"), items];
            [&columns[..], &[needs.join(", "), cell(node, "job_id"), cell(node, "error")]].concat()
        })
        .collect();
    table::print(&["NODE", "TYPE", "STATE", "ITEMS", "NEEDS", "JOB", "ERROR"], &rows);
    if let Some(next) = workflow["next_node"].as_u64() {
        say!("more: --from {next}");
    }
}
