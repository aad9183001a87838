//! What a caller sends: a table, and rules about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_sdk::prelude::Value;
use waymark_table::value::Type;
use waymark_table::{Columns, Condition, DataSet, Pace};

/// Rules that a job may have.
pub const RULES_MAX: usize = 1_000;

/// Evidence that a job may keep over all rules, in rows: it lies in memory and in every checkpoint.
pub const EVIDENCE_ROWS_MAX: usize = 20_000;

/// A table and the rules to run over it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The table.
    pub data_set: DataSet,
    /// Column or columns that tell a reader which row is meant; row numbers alone without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Columns>,
    /// The rules, at most 1,000.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Describe the columns too.
    #[serde(default = "yes")]
    pub profile: bool,
    /// Columns to describe; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_columns: Option<Vec<String>>,
    /// Failing rows that each rule shows, 0 to 100; 10 by default.
    #[serde(default = "evidence_max")]
    #[schemars(range(max = 100))]
    pub evidence_max: usize,
    /// How gently the table is read.
    #[serde(default)]
    pub pace: Pace,
}

fn yes() -> bool {
    true
}

fn evidence_max() -> usize {
    10
}

fn whole() -> f64 {
    1.0
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the rule, once in a job.
    pub id: String,
    /// What is checked.
    pub check: Check,
    /// Where the rule counts; what its kind suggests by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<Dimension>,
    /// The rule passes when at least this part of the checked rows does, 0 to 1; 1 by default.
    #[serde(default = "whole")]
    pub threshold: f64,
    /// Only rows for which all of these hold are checked.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Condition>,
}

/// What a rule checks. A row whose value is missing is skipped, unless the kind says otherwise: that a value
/// is there is what `completeness` checks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// Every one of the columns has a value.
    Completeness {
        /// The column or columns.
        columns: Columns,
    },
    /// No two rows have the same values in these columns. Every row of a repeated value fails.
    Uniqueness {
        /// The column or columns.
        columns: Columns,
    },
    /// No row repeats an earlier one; missing values are equal. Only the repeats fail.
    Duplicates {
        /// Columns to compare; all by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        columns: Option<Columns>,
    },
    /// The value is of a type.
    Type {
        /// The column.
        column: String,
        /// The type; an integer is a decimal too, a date a datetime, and everything text.
        expected: Type,
    },
    /// The value holds a match of a regular expression; anchor it with `^` and `$` for the whole value.
    Regex {
        /// The column.
        column: String,
        /// Syntax of the Rust `regex` crate: no look-around, linear time.
        pattern: String,
    },
    /// The value is a number, or an ISO 8601 date or time, between two bounds.
    Range {
        /// The column.
        column: String,
        /// Lower bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<Bound>,
        /// Upper bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<Bound>,
        /// The bounds themselves fail.
        #[serde(default)]
        exclusive: bool,
    },
    /// The value is one of a list. A number in the list stands for every way to write it.
    Set {
        /// The column.
        column: String,
        /// Texts and numbers.
        values: Vec<Value>,
        /// The value must not be in the list.
        #[serde(default)]
        exclude: bool,
    },
    /// The value has so many characters.
    Length {
        /// The column.
        column: String,
        /// At least.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        min: Option<u64>,
        /// At most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u64>,
    },
    /// The value is a date that exists, written in a format.
    DateFormat {
        /// The column.
        column: String,
        /// strftime letters, such as `%Y-%m-%d` or `%d.%m.%Y %H:%M`.
        format: String,
    },
    /// A value stands in a relation to a constant or to another column. Skipped where one is missing.
    Comparison {
        /// The relation.
        condition: Condition,
    },
    /// Where all of `when` hold, all of `then` must hold.
    Conditional {
        /// Rows that are checked.
        when: Vec<Condition>,
        /// What must hold for them.
        then: Vec<Condition>,
    },
    /// The values stand in columns of another table, or of this one.
    Referential {
        /// The column or columns.
        columns: Columns,
        /// Where they must be found.
        references: References,
    },
    /// The data is recent: the newest date, or every one, is not too old.
    Freshness {
        /// The column with dates or times.
        column: String,
        /// strftime letters; ISO 8601 by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
        /// The moment to count back from, ISO 8601. A job reads no clock, so that it can be run again.
        as_of: String,
        /// Age that is still fresh, in days.
        max_age_days: f64,
        /// Check every row, not the newest alone.
        #[serde(default)]
        every_row: bool,
    },
}

/// A bound of a range: a number, or an ISO 8601 date or time.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Bound {
    /// A number.
    Number(f64),
    /// A date or time.
    Date(String),
}

/// Where referred values must be found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct References {
    /// The other table; this one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_set: Option<DataSet>,
    /// As many columns as are checked, in the same order.
    pub columns: Columns,
}

/// Sides of data quality that scores are given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Values are there.
    Completeness,
    /// Nothing stands twice.
    Uniqueness,
    /// Values are of the right kind.
    Validity,
    /// Values agree with each other.
    Consistency,
    /// What is referred to exists.
    Integrity,
    /// Data is recent.
    Timeliness,
}

impl Check {
    /// Name of the kind, as in the input.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Completeness { .. } => "completeness",
            Self::Uniqueness { .. } => "uniqueness",
            Self::Duplicates { .. } => "duplicates",
            Self::Type { .. } => "type",
            Self::Regex { .. } => "regex",
            Self::Range { .. } => "range",
            Self::Set { .. } => "set",
            Self::Length { .. } => "length",
            Self::DateFormat { .. } => "date_format",
            Self::Comparison { .. } => "comparison",
            Self::Conditional { .. } => "conditional",
            Self::Referential { .. } => "referential",
            Self::Freshness { .. } => "freshness",
        }
    }

    /// The dimension that the kind suggests.
    pub fn dimension(&self) -> Dimension {
        match self {
            Self::Completeness { .. } => Dimension::Completeness,
            Self::Uniqueness { .. } | Self::Duplicates { .. } => Dimension::Uniqueness,
            Self::Type { .. }
            | Self::Regex { .. }
            | Self::Range { .. }
            | Self::Set { .. }
            | Self::Length { .. }
            | Self::DateFormat { .. } => Dimension::Validity,
            Self::Comparison { .. } | Self::Conditional { .. } => Dimension::Consistency,
            Self::Referential { .. } => Dimension::Integrity,
            Self::Freshness { .. } => Dimension::Timeliness,
        }
    }
}
