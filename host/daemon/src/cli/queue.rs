//! `waymark queue`.

use super::{
    Client,
    client::segment,
    table::{self, cell, say},
};
use clap::Subcommand;
use serde_json::Value;

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List the queues that hold jobs or are paused.
    List,
    /// Stop claims from a queue; running jobs go on.
    Pause {
        /// Name of the queue.
        queue: String,
    },
    /// Allow claims from a queue again.
    Resume {
        /// Name of the queue.
        queue: String,
    },
    /// Cancel every job that is queued in a queue.
    Purge {
        /// Name of the queue.
        queue: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, command: QueueCommand) -> anyhow::Result<()> {
    let (queue, verb) = match command {
        QueueCommand::List => {
            let answer: Value = client.get("/api/v1/queues", &[]).await?;
            if client.print(&answer) {
                return Ok(());
            }
            let queues = answer["queues"].as_array().cloned().unwrap_or_default();
            let row = |queue: &Value| {
                let paused = if queue["paused"] == true { "paused" } else { "open" };
                vec![cell(queue, "name"), cell(queue, "depth"), cell(queue, "oldest_at"), paused.to_owned()]
            };
            table::print(
                &["QUEUE", "QUEUED", "OLDEST", "SWITCH"],
                &queues.iter().map(row).collect::<Vec<_>>(),
            );
            return Ok(());
        }
        QueueCommand::Pause { queue } => (queue, "pause"),
        QueueCommand::Resume { queue } => (queue, "resume"),
        QueueCommand::Purge { queue } => (queue, "purge"),
    };
    let answer: Value = client.post(&format!("/api/v1/queues/{}/{verb}", segment(&queue)), &[]).await?;
    if !client.print(&answer) {
        match verb {
            "pause" => say!("queue {queue} is paused"),
            "resume" => say!("queue {queue} is open"),
            _ => say!("{} jobs of queue {queue} were cancelled", cell(&answer, "cancelled")),
        }
    }
    Ok(())
}
