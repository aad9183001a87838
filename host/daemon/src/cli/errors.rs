//! `waymark errors`.

use super::{
    Client,
    client::segment,
    table::{self, cell, say},
};
use clap::Subcommand;
use serde_json::Value;

/// What to do with groups of failures.
#[derive(Debug, Subcommand)]
pub enum ErrorsCommand {
    /// List the groups, those seen last first.
    List {
        /// Job type.
        #[arg(long = "type", value_name = "TYPE")]
        job_type: Option<String>,
        /// Only groups seen at this time (RFC 3339) or later.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// What comes first: last_seen or attempts.
        #[arg(long, default_value = "last_seen")]
        sort: String,
        /// Most groups.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a group with the jobs that failed so last.
    Show {
        /// The group's fingerprint.
        fingerprint: String,
    },
    /// Forget groups whose cause was mended.
    Forget {
        /// Fingerprints of groups.
        #[arg(required = true)]
        fingerprints: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, command: ErrorsCommand) -> anyhow::Result<()> {
    match command {
        ErrorsCommand::List { job_type, since, sort, limit } => {
            let mut query = vec![("sort", sort), ("limit", limit.to_string())];
            query.extend(job_type.map(|name| ("type", name)));
            query.extend(since.map(|since| ("since", since)));
            let answer: Value = client.get("/api/v1/errors", &query).await?;
            if client.print(&answer) {
                return Ok(());
            }
            let columns = ["fingerprint", "type", "kind", "attempts", "failed", "last_seen", "pattern"];
            let groups = answer["errors"].as_array().cloned().unwrap_or_default();
            let rows: Vec<_> =
                groups.iter().map(|group| columns.map(|name| cell(group, name)).to_vec()).collect();
            table::print(
                &["FINGERPRINT", "TYPE", "KIND", "ATTEMPTS", "FAILED", "LAST SEEN", "MESSAGE"],
                &rows,
            );
        }
        ErrorsCommand::Show { fingerprint } => {
            let group: Value = client.get(&path(&fingerprint), &[]).await?;
            if client.print(&group) {
                return Ok(());
            }
            for name in
                ["type", "kind", "message", "pattern", "attempts", "failed", "first_seen", "last_seen"]
            {
                say!("{name:<11} {}", cell(&group, name));
            }
            for frame in group["frames"].as_array().into_iter().flatten() {
                say!("at          {}", frame.as_str().unwrap_or_default());
            }
            for version in group["versions"].as_array().into_iter().flatten() {
                say!("version     {}: {} attempts", cell(version, "version"), cell(version, "attempts"));
            }
            for job in group["jobs"].as_array().into_iter().flatten() {
                say!("job         {} {}", cell(job, "id"), cell(job, "status"));
            }
        }
        ErrorsCommand::Forget { fingerprints } => {
            for fingerprint in fingerprints {
                client.delete(&path(&fingerprint)).await?;
                if !client.json {
                    say!("{fingerprint} is forgotten");
                }
            }
        }
    }
    Ok(())
}

fn path(fingerprint: &str) -> String {
    format!("/api/v1/errors/{}", segment(fingerprint))
}
