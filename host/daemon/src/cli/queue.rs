//! `waymark queue`.

use super::{
    Client,
    client::{read, segment},
    table::{self, cell, say},
};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

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
    /// Show the limits of a queue, what runs under them, and its flow keys.
    Limits {
        /// Name of the queue.
        queue: String,
    },
    /// Set the limits of a queue, all of them: what is not named is not limited any more.
    Limit(Limit),
    /// Take the limits of a queue away.
    Unlimit {
        /// Name of the queue.
        queue: String,
    },
}

/// Limits of a queue.
#[derive(Args, Debug)]
pub struct Limit {
    /// Name of the queue.
    queue: String,
    /// Most jobs that run at once.
    #[arg(long)]
    concurrency: Option<u32>,
    /// Most jobs that start in a time, such as 100/1s; a token bucket of 20 with 100/1s+20.
    #[arg(long, value_parser = rate)]
    rate: Option<Value>,
    /// JSON Pointer to the flow key of a job that names none, such as /input/tenant.
    #[arg(long, value_name = "POINTER")]
    key: Option<String>,
    /// Most jobs of one flow key that run at once.
    #[arg(long, value_name = "JOBS")]
    key_concurrency: Option<u32>,
    /// Most jobs of one flow key that start in a time.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    key_rate: Option<Value>,
    /// What becomes of a new job when a concurrency limit is reached.
    #[arg(long, default_value = "wait", value_parser = ["wait", "reject", "replace", "cancel-running"])]
    when_full: String,
}

/// Reads `COUNT/TIME` or `COUNT/TIME+BURST`.
fn rate(text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is no rate: write COUNT/TIME such as 100/1s, or COUNT/TIME+BURST");
    let (count, rest) = text.split_once('/').ok_or_else(wrong)?;
    let (time, burst) = match rest.split_once('+') {
        Some((time, burst)) => (time, Some(burst.trim().parse::<u32>().map_err(|_| wrong())?)),
        None => (rest, None),
    };
    let count: u32 = count.trim().parse().map_err(|_| wrong())?;
    let per = humantime::parse_duration(time.trim()).map_err(|_| wrong())?;
    let per_ms = u64::try_from(per.as_millis()).map_err(|_| wrong())?;
    Ok(match burst {
        Some(burst) => json!({"count": count, "per_ms": per_ms, "burst": burst}),
        None => json!({"count": count, "per_ms": per_ms}),
    })
}

/// A rate for people.
fn told(rate: &Value) -> String {
    if rate.is_null() {
        return "-".to_owned();
    }
    let per = humantime::format_duration(Duration::from_millis(rate["per_ms"].as_u64().unwrap_or(0)));
    let burst = rate["burst"].as_u64().map(|burst| format!("+{burst}")).unwrap_or_default();
    format!("{}/{per}{burst}", cell(rate, "count"))
}

fn show(client: &Client, answer: &Value) {
    if client.print(answer) {
        return;
    }
    let limits = &answer["limits"];
    if limits.is_null() {
        say!("queue {} has no limits", cell(answer, "name"));
    } else {
        let per_key = &limits["per_key"];
        let row = |what: &str, of_queue: String, of_key: String| vec![what.to_owned(), of_queue, of_key];
        let rows = [
            row("at once", cell(limits, "concurrency"), cell(per_key, "concurrency")),
            row("rate", told(&limits["rate"]), told(&per_key["rate"])),
            row("running", cell(answer, "running"), String::new()),
            row("key", cell(limits, "key"), String::new()),
            row("when full", cell(limits, "when_full"), String::new()),
        ];
        table::print(&["LIMIT", "QUEUE", "EACH KEY"], &rows);
    }
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    if !keys.is_empty() {
        say!("");
        let row = |key: &Value| vec![cell(key, "key"), cell(key, "waiting"), cell(key, "running")];
        table::print(&["KEY", "WAITING", "RUNNING"], &keys.iter().map(row).collect::<Vec<_>>());
    }
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
        QueueCommand::Limits { queue } => {
            let answer = client.get(&format!("/api/v1/queues/{}/limits", segment(&queue)), &[]).await?;
            show(client, &answer);
            return Ok(());
        }
        QueueCommand::Limit(limit) => {
            let body = json!({
                "concurrency": limit.concurrency,
                "rate": limit.rate,
                "key": limit.key,
                "per_key": {"concurrency": limit.key_concurrency, "rate": limit.key_rate},
                "when_full": limit.when_full.replace('-', "_"),
            });
            let path = format!("/api/v1/queues/{}/limits", segment(&limit.queue));
            let answer = read(client.send(client.request(Method::PUT, &path).json(&body)).await?).await?;
            show(client, &answer);
            return Ok(());
        }
        QueueCommand::Unlimit { queue } => {
            client.delete(&format!("/api/v1/queues/{}/limits", segment(&queue))).await?;
            if !client.print(&json!({"name": queue, "limits": null})) {
                say!("queue {queue} has no limits");
            }
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(rate("100/1s").unwrap(), json!({"count": 100, "per_ms": 1000}));
        assert_eq!(rate("5 / 2m + 3").unwrap(), json!({"count": 5, "per_ms": 120_000, "burst": 3}));
        assert_eq!(told(&rate("5/2m+3").unwrap()), "5/2m+3");
        for text in ["", "100", "100/", "x/1s", "1/1parsec", "1/1s+x", "1/1s+"] {
            assert!(rate(text).unwrap_err().contains("is no rate"), "{text}");
        }
    }
}
