//! `waymark scale`.

use super::{
    Client,
    table::{self, cell, say},
};
use clap::Args;
use serde_json::Value;

/// What to look at.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only these queues: names, or patterns with `*`. Several: once for each.
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// How long a job may wait, milliseconds.
    #[arg(long, default_value_t = crate::scale::TARGET_MS)]
    target_ms: u64,
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, arguments: Arguments) -> anyhow::Result<()> {
    let mut query = vec![("target_ms", arguments.target_ms.to_string())];
    if !arguments.queues.is_empty() {
        query.push(("queue", arguments.queues.join(",")));
    }
    let answer: Value = client.get("/api/v1/scale", &query).await?;
    if client.print(&answer) {
        return Ok(());
    }
    say!(
        "{} jobs wait, the oldest for {} s; {} of {} slots of {} hosts are in use; wanted: {} slots, {} hosts",
        answer["waiting"],
        answer["oldest_waiting_seconds"],
        answer["running"],
        answer["slots"],
        answer["hosts"],
        answer["wanted_slots"],
        answer["wanted_hosts"]
    );
    let queues = answer["queues"].as_array().cloned().unwrap_or_default();
    if !queues.is_empty() {
        let row = |queue: &Value| {
            ["name", "waiting", "oldest_waiting_seconds"].iter().map(|name| cell(queue, name)).collect()
        };
        table::print(&["QUEUE", "WAITING", "OLDEST SECONDS"], &queues.iter().map(row).collect::<Vec<_>>());
    }
    Ok(())
}
