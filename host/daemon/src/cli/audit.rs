//! `waymark audit` and `waymark password`.

use super::{
    Client,
    table::{self, cell, say},
};
use crate::api::password::{PASSWORD_BYTES_MAX, Password};
use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use std::io::{IsTerminal as _, Read as _};

/// Which entries.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Name of a token or user.
    #[arg(long)]
    actor: Option<String>,
    /// A part of the path, such as the id of a job.
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// Most entries.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// `next_cursor` of the list before.
    #[arg(long)]
    cursor: Option<String>,
}

/// Lists changes that somebody asked for, newest first.
///
/// # Errors
/// The host cannot be reached or refused.
pub async fn run(client: &Client, which: Which) -> anyhow::Result<()> {
    let mut query = vec![("limit", which.limit.to_string())];
    query.extend(which.actor.map(|actor| ("actor", actor)));
    query.extend(which.about.map(|about| ("about", about)));
    query.extend(which.cursor.map(|cursor| ("cursor", cursor)));
    let answer: Value = client.get("/api/v1/audit", &query).await?;
    if client.print(&answer) {
        return Ok(());
    }
    let columns = ["at", "actor", "from", "method", "path", "status", "code", "why"];
    let entries = answer["entries"].as_array().cloned().unwrap_or_default();
    let rows: Vec<_> = entries.iter().map(|entry| columns.map(|name| cell(entry, name)).to_vec()).collect();
    table::print(&["AT", "WHO", "FROM", "METHOD", "PATH", "STATUS", "CODE", "WHY"], &rows);
    if let Some(cursor) = answer["next_cursor"].as_str() {
        eprintln!("older entries: --cursor {cursor}");
    }
    Ok(())
}

/// Prints what the configuration keeps of a password, which is read from standard input.
///
/// # Errors
/// It is empty, too long, or not text.
pub fn password() -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        eprintln!("The password is read from standard input and will be seen; end it with Ctrl-D.");
    }
    let mut password = String::new();
    let most = u64::try_from(PASSWORD_BYTES_MAX).unwrap_or(u64::MAX) + 2;
    std::io::stdin().take(most).read_to_string(&mut password).context("the password is not text")?;
    say!("{}", Password::new(password.trim_end_matches(['\r', '\n']))?.text());
    Ok(())
}
