//! Tables and sentences for people, on standard output.

use std::{fmt, io::Write as _};

/// Prints a line. A reader that went away, as `head` does, ends the program like any other in a pipe.
pub fn line_out(text: fmt::Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        // 128 + SIGPIPE, what a shell expects.
        std::process::exit(141);
    }
}

/// Like `println!`, by way of [`line_out`].
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::table::line_out(format_args!($($argument)*)) };
}
pub(crate) use say;

/// Prints rows below their titles, each column as wide as its widest cell; says `none` instead of an empty table.
pub fn print(titles: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        say!("none");
        return;
    }
    let mut widths: Vec<_> = titles.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    line(titles.iter().copied(), &widths);
    for row in rows {
        line(row.iter().map(String::as_str), &widths);
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let text: Vec<_> = cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    say!("{}", text.join("  ").trim_end());
}

/// A text of a JSON document, or `-`.
#[must_use]
pub fn cell(document: &serde_json::Value, name: &str) -> String {
    match &document[name] {
        serde_json::Value::Null => "-".into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.len().to_string(),
        other => other.to_string(),
    }
}
