//! Logs: one JSON object a line on standard error, or text for a person at a terminal.

use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. `WAYMARK_LOG` takes the directives of `tracing-subscriber`; default `info`.
pub fn start() {
    let filter = EnvFilter::try_from_env("WAYMARK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call finds the logger already in place, which is what it wanted.
    if std::io::stderr().is_terminal() {
        let _ = builder.with_target(false).try_init();
    } else {
        let _ = builder.json().flatten_event(true).try_init();
    }
}
