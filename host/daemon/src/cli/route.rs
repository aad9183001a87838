//! `waymark route`.

use super::{
    Client,
    client::{pretty, read, segment},
    table::{self, cell, say},
};
use anyhow::Context as _;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use std::{io::Read as _, path::PathBuf};

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// List the routes.
    List,
    /// Show a route, what was counted of each of its targets, and its last changes.
    Show {
        /// Job type.
        job_type: String,
    },
    /// Put a route in the place of the one there is.
    Put {
        /// Job type.
        job_type: String,
        /// File with the route as JSON; - is standard input.
        file: PathBuf,
    },
    /// Remove a route: the active version of the plugin runs the type again.
    Delete {
        /// Job type.
        job_type: String,
    },
    /// Take a canary to its next step.
    Promote {
        /// Job type.
        job_type: String,
        /// To its last step at once.
        #[arg(long)]
        full: bool,
    },
    /// Keep a canary in its step until it is promoted; guards still roll it back.
    Hold {
        /// Job type.
        job_type: String,
    },
    /// Take all weight from a canary.
    Rollback {
        /// Job type.
        job_type: String,
    },
    /// Make a route what it was before its last change.
    Undo {
        /// Job type.
        job_type: String,
    },
    /// Show the newest pairs of a job and its shadow job that ended in different ways.
    Mismatches {
        /// Job type.
        job_type: String,
    },
}

fn path(job_type: &str) -> String {
    format!("/api/v1/routes/{}", segment(job_type))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The canary in words.
fn canary(route: &Value) -> String {
    let canary = &route["canary"];
    if canary.is_null() {
        return "-".to_owned();
    }
    format!("{}, step {} of {}", text(&canary["standing"]), text(&canary["step"]), text(&canary["steps"]))
}

fn weights(route: &Value) -> String {
    let targets = route["route"]["targets"].as_array().cloned().unwrap_or_default();
    let each = targets.iter().map(|target| format!("{} {} %", cell(target, "arm"), cell(target, "weight")));
    each.collect::<Vec<_>>().join(", ")
}

fn summary(client: &Client, answer: &Value) {
    if client.print(answer) {
        return;
    }
    if answer.is_null() {
        say!("the type has no route");
    } else {
        say!("{}: {}; canary: {}", cell(answer, "type"), weights(answer), canary(answer));
    }
}

fn show(client: &Client, answer: &Value) {
    if client.print(answer) {
        return;
    }
    summary(client, answer);
    say!("");
    let rounded = |value: &Value, digits: usize| {
        value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
    };
    let row = |arm: &Value| {
        vec![
            cell(arm, "arm"),
            format!("{} %", cell(arm, "weight")),
            format!("{} {}", cell(arm, "kind"), cell(arm, "target").chars().take(40).collect::<String>()),
            cell(arm, "attempts"),
            arm["error_rate"]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |rate| format!("{:.2} %", rate * 100.0)),
            rounded(&arm["mean_ms"], 1),
            rounded(&arm["p95_ms"], 1),
            cell(arm, "result_bytes"),
        ]
    };
    let arms = answer["arms"].as_array().cloned().unwrap_or_default();
    table::print(
        &["ARM", "WEIGHT", "TARGET", "ATTEMPTS", "ERRORS", "MEAN MS", "P95 MS", "BYTES"],
        &arms.iter().map(row).collect::<Vec<_>>(),
    );
    if answer["compared"].as_u64() > Some(0) {
        say!("\n{} of {} shadow results differ", cell(answer, "mismatched"), cell(answer, "compared"));
    }
    let history = answer["history"].as_array().cloned().unwrap_or_default();
    if !history.is_empty() {
        say!("");
        let row = |one: &Value| vec![cell(one, "at"), cell(one, "who"), cell(one, "what"), cell(one, "why")];
        table::print(&["AT", "WHO", "WHAT", "WHY"], &history.iter().map(row).collect::<Vec<_>>());
    }
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, command: RouteCommand) -> anyhow::Result<()> {
    let (job_type, verb, full) = match command {
        RouteCommand::List => {
            let answer: Value = client.get("/api/v1/routes", &[]).await?;
            if client.print(&answer) {
                return Ok(());
            }
            let routes = answer["routes"].as_array().cloned().unwrap_or_default();
            let row = |route: &Value| {
                vec![cell(route, "type"), weights(route), canary(route), cell(route, "changed_at")]
            };
            table::print(
                &["TYPE", "WEIGHTS", "CANARY", "CHANGED"],
                &routes.iter().map(row).collect::<Vec<_>>(),
            );
            return Ok(());
        }
        RouteCommand::Show { job_type } => {
            show(client, &client.get(&path(&job_type), &[]).await?);
            return Ok(());
        }
        RouteCommand::Put { job_type, file } => {
            let mut text = String::new();
            if file.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            } else {
                text = std::fs::read_to_string(&file)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
            }
            let body: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
            let request = client.request(Method::PUT, &path(&job_type)).json(&body);
            summary(client, &read(client.send(request).await?).await?);
            return Ok(());
        }
        RouteCommand::Delete { job_type } => {
            client.delete(&path(&job_type)).await?;
            if !client.print(&json!({"type": job_type, "route": null})) {
                say!("{job_type} has no route");
            }
            return Ok(());
        }
        RouteCommand::Mismatches { job_type } => {
            let answer: Value = client.get(&format!("{}/mismatches", path(&job_type)), &[]).await?;
            say!("{}", pretty(&answer));
            return Ok(());
        }
        RouteCommand::Promote { job_type, full } => (job_type, "promote", full),
        RouteCommand::Hold { job_type } => (job_type, "hold", false),
        RouteCommand::Rollback { job_type } => (job_type, "rollback", false),
        RouteCommand::Undo { job_type } => (job_type, "undo", false),
    };
    let query: Vec<_> = full.then(|| ("full", "true".to_owned())).into_iter().collect();
    let answer: Value = client.post(&format!("{}/{verb}", path(&job_type)), &query).await?;
    summary(client, &answer);
    Ok(())
}
