//! What a profiling job tells: one record for each rule, and a result.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_sdk::prelude::json;

use crate::input::{Dimension, Rule};
use crate::profile::Profile;
use crate::tally::{Evidence, Tally};

/// Bytes of a result that still holds the profiles, as JSON. A host takes 1 MiB of result by default.
const RESULT_BYTES_MAX: usize = 900 << 10;

/// How a rule ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Enough rows passed.
    Passed,
    /// Too few rows passed.
    Failed,
    /// There was no row to check.
    NotApplicable,
}

/// The account of a rule.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RuleReport {
    /// Name of the rule.
    pub id: String,
    /// Kind of the check.
    pub kind: String,
    /// Where the rule counts.
    pub dimension: Dimension,
    /// Columns that it looked at.
    pub columns: Vec<String>,
    /// How it ended.
    pub status: Status,
    /// Rows checked.
    pub rows_evaluated: u64,
    /// Rows that passed.
    pub rows_passed: u64,
    /// Rows that failed.
    pub rows_failed: u64,
    /// Rows out of scope or without a value.
    pub rows_skipped: u64,
    /// `rows_passed` / `rows_evaluated`; null without rows.
    pub pass_rate: Option<f64>,
    /// Least pass rate.
    pub threshold: f64,
    /// What this kind of rule knows besides.
    pub details: Details,
}

/// What some kinds of rules know besides.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// Different keys (uniqueness, duplicates).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// Keys that stand more than once (uniqueness, duplicates).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeated_keys: Option<u64>,
    /// Newest moment, in seconds since 1970 (freshness).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_seconds: Option<i64>,
    /// Age of the newest moment in days (freshness).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_age_days: Option<f64>,
}

/// The output record of a rule: its account, and failing rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RuleRecord {
    /// Always `rule`.
    pub record: String,
    /// The account.
    #[serde(flatten)]
    pub report: RuleReport,
    /// Failing rows, at most as many as asked for. Of rows that repeat each other, the second and later.
    pub evidence: Vec<Evidence>,
}

/// The output record of a column: what it holds.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ColumnRecord {
    /// Always `column`.
    pub record: String,
    /// The column.
    pub column: String,
    /// What it holds.
    pub profile: Profile,
}

/// What a profiling job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Rows of the table.
    pub rows: u64,
    /// Rows with more or fewer fields than the header.
    pub ragged_rows: u64,
    /// Passes over the table.
    pub passes: u32,
    /// Rules by how they ended.
    pub rules: RuleCounts,
    /// Part of all checked rows, over all rules, that passed; null without rules.
    pub score: Option<f64>,
    /// The same for each dimension that has rules.
    pub dimensions: Vec<DimensionScore>,
    /// The same for each column, and what the column holds.
    pub columns: Vec<ColumnReport>,
    /// False when the profiles did not fit into the result; the output records hold all.
    pub profiles_complete: bool,
    /// Every rule in the order of the input.
    pub results: Vec<RuleReport>,
}

/// Rules by how they ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct RuleCounts {
    /// All.
    pub total: u64,
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Without rows to check.
    pub not_applicable: u64,
}

/// Score of a dimension.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DimensionScore {
    /// The dimension.
    pub dimension: Dimension,
    /// Rules by how they ended.
    pub rules: RuleCounts,
    /// Part of the checked rows that passed; null when none was checked.
    pub score: Option<f64>,
}

/// Score and contents of a column.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ColumnReport {
    /// The column.
    pub column: String,
    /// Rules that looked at it, by how they ended.
    pub rules: RuleCounts,
    /// Part of the rows checked by them that passed; null when none was checked.
    pub score: Option<f64>,
    /// What it holds, where that was asked for.
    pub profile: Option<Profile>,
}

/// Rules and rows summed up.
#[derive(Debug, Clone, Default)]
struct Sum {
    rules: RuleCounts,
    passed: u64,
    evaluated: u64,
}

impl Sum {
    fn add(&mut self, report: &RuleReport) {
        self.rules.total += 1;
        match report.status {
            Status::Passed => self.rules.passed += 1,
            Status::Failed => self.rules.failed += 1,
            Status::NotApplicable => self.rules.not_applicable += 1,
        }
        self.passed += report.rows_passed;
        self.evaluated += report.rows_evaluated;
    }

    fn score(&self) -> Option<f64> {
        (self.evaluated > 0).then(|| self.passed as f64 / self.evaluated as f64)
    }
}

impl RuleReport {
    /// The account of a rule from what it has counted.
    pub fn new(rule: &Rule, columns: Vec<String>, tally: &Tally, details: Details) -> Self {
        let evaluated = tally.evaluated();
        let pass_rate = (evaluated > 0).then(|| tally.passed as f64 / evaluated as f64);
        Self {
            id: rule.id.clone(),
            kind: rule.check.kind().to_owned(),
            dimension: rule.dimension.unwrap_or_else(|| rule.check.dimension()),
            columns,
            status: match pass_rate {
                None => Status::NotApplicable,
                Some(pass_rate) if pass_rate >= rule.threshold => Status::Passed,
                Some(_) => Status::Failed,
            },
            rows_evaluated: evaluated,
            rows_passed: tally.passed,
            rows_failed: tally.failed,
            rows_skipped: tally.skipped,
            pass_rate,
            threshold: rule.threshold,
            details,
        }
    }
}

impl Output {
    /// Leaves the profiles out where the result would be too large with them.
    #[must_use]
    pub fn cut(mut self) -> Self {
        if json!(self).to_string().len() > RESULT_BYTES_MAX {
            self.profiles_complete = false;
            for column in &mut self.columns {
                column.profile = None;
            }
        }
        self
    }

    /// Sums the rules up.
    pub fn new(results: Vec<RuleReport>, columns: &[String], mut profiles: BTreeMap<usize, Profile>) -> Self {
        let mut all = Sum::default();
        let mut dimensions: BTreeMap<Dimension, Sum> = BTreeMap::new();
        let mut by_column: BTreeMap<&str, Sum> = BTreeMap::new();
        for report in &results {
            all.add(report);
            dimensions.entry(report.dimension).or_default().add(report);
            for column in &report.columns {
                by_column.entry(column).or_default().add(report);
            }
        }
        let columns = columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let sum = by_column.remove(column.as_str()).unwrap_or_default();
                let score = sum.score();
                let profile = profiles.remove(&index);
                ColumnReport { column: column.clone(), rules: sum.rules, score, profile }
            })
            .collect();
        Self {
            rows: 0,
            ragged_rows: 0,
            passes: 0,
            score: all.score(),
            rules: all.rules,
            dimensions: dimensions
                .into_iter()
                .map(|(dimension, sum)| {
                    let score = sum.score();
                    DimensionScore { dimension, rules: sum.rules, score }
                })
                .collect(),
            columns,
            profiles_complete: true,
            results,
        }
    }
}
