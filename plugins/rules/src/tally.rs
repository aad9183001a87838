//! What a rule has counted, and the rows it shows for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_sdk::prelude::Value;
use waymark_table::{Row, value};

/// What a rule says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Not as it should be.
    Fail,
    /// Nothing to be said: out of scope, or no value.
    Skip,
}

impl From<bool> for Verdict {
    fn from(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Fail }
    }
}

/// Rows by verdict, and the first failing ones.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Rows that passed.
    pub passed: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows of which nothing could be said.
    pub skipped: u64,
    /// Failing rows, the earliest first.
    pub evidence: Vec<Evidence>,
}

/// A failing row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The key's value; an object when the key has several columns; null without a key.
    pub key: Value,
    /// Number of the row, from 1, the header not counted.
    pub row: u64,
    /// Values of the columns that the rule looked at.
    pub values: Value,
}

impl Tally {
    /// Counts a row, and shows it when it failed and there is room.
    pub fn count(&mut self, verdict: Verdict, room: usize, show: impl FnOnce() -> Evidence) {
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Skip => self.skipped += 1,
            Verdict::Fail => {
                self.failed += 1;
                if self.evidence.len() < room {
                    self.evidence.push(show());
                }
            }
        }
    }

    /// Rows that passed or failed.
    pub fn evaluated(&self) -> u64 {
        self.passed + self.failed
    }
}

/// Shows a row: its key, and the values of some columns.
pub fn show(names: &[String], key: &[usize], columns: &[usize], row: &Row<'_>) -> Evidence {
    let field = |column: &usize| {
        row.get(*column).map_or(Value::Null, |field| Value::String(value::cut(&value::text(field))))
    };
    let object = |columns: &[usize]| {
        let named = columns.iter().map(|column| {
            let name = names.get(*column).cloned().unwrap_or_default();
            (name, field(column))
        });
        Value::Object(named.collect())
    };
    let key = match key {
        [] => Value::Null,
        [column] => field(column),
        columns => object(columns),
    };
    Evidence { key, row: row.number, values: object(columns) }
}
