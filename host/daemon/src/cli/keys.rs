//! `waymark keys`.

use super::{
    Client,
    table::{self, say},
};
use anyhow::bail;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// What to do with the keys that stored values are encrypted with.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Encrypt with the active key what other keys encrypted, beside running hosts; may be broken off and begun again.
    Reencrypt {
        /// Only count the values of each key.
        #[arg(long)]
        dry_run: bool,
    },
}

/// The answer to one step.
#[derive(Deserialize)]
struct Step {
    active: Option<String>,
    jobs: u64,
    values: BTreeMap<String, u64>,
    reencrypted: u64,
    left: u64,
    next_cursor: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The host cannot be reached or refused, or values of other keys are left.
pub async fn run(client: &Client, command: KeysCommand) -> anyhow::Result<()> {
    let KeysCommand::Reencrypt { dry_run } = command;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let ask = async |cursor: Option<String>| {
        let mut query = vec![("dry_run", dry_run.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        client.post::<Step>("/api/v1/keys/reencrypt", &query).await
    };
    let mut sum = ask(None).await?;
    while let Some(cursor) = sum.next_cursor.take() {
        bar.set_position(sum.jobs);
        let step = ask(Some(cursor)).await?;
        for (key, values) in step.values {
            *sum.values.entry(key).or_default() += values;
        }
        sum.jobs += step.jobs;
        sum.reencrypted += step.reencrypted;
        sum.left += step.left;
        sum.next_cursor = step.next_cursor;
    }
    bar.finish_and_clear();
    let Step { active, jobs, values, reencrypted, left, .. } = sum;
    let answer = json!({
        "active": active, "jobs": jobs, "values": values, "reencrypted": reencrypted, "left": left, "dry_run": dry_run,
    });
    if !client.print(&answer) {
        let is_active = |key: &String| if active.as_ref() == Some(key) { "yes" } else { "" };
        let row =
            |(key, number): (&String, &u64)| vec![key.clone(), is_active(key).into(), number.to_string()];
        let rows: Vec<_> = values.iter().map(row).collect();
        table::print(&["KEY", "ACTIVE", "VALUES FOUND"], &rows);
        say!("{jobs} jobs; {reencrypted} values are encrypted with the active key now, {left} with others");
    }
    if left > 0 && !dry_run {
        bail!(
            "{left} values are left: they changed meanwhile, their key is missing, or their storage does not answer. Keep \
             the old keys, and run this again"
        );
    }
    Ok(())
}
