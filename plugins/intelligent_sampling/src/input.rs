//! What a caller sends, and what comes back.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_sdk::prelude::Value;
use waymark_table::{Columns, Condition, DataSet, Pace};

/// Largest sample in rows: the chosen keys are the result, and a result is one document.
pub const SAMPLE_SIZE_MAX: u32 = 10_000;

/// Strata a job may have. It stops stratifying by a key, which would keep every row in memory.
pub const STRATA_MAX: usize = 2_000;

/// Bytes of chosen rows that the result holds, as JSON. A host takes 1 MiB of result by default; the rest is
/// for coverage and edge cases.
pub const SAMPLE_BYTES_MAX: usize = 384 << 10;

/// A sample to draw.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The table to draw from.
    pub data_set: DataSet,
    /// Column or columns that tell a reader which row is meant.
    pub key: Columns,
    /// Rows to draw, 1 to 10,000. A smaller table is taken whole.
    #[schemars(range(min = 1, max = 10_000))]
    pub sample_size: u32,
    /// The same seed draws the same rows from the same table.
    #[serde(default)]
    pub seed: u64,
    /// How to choose.
    pub strategy: Strategy,
    /// Reserve a part of the sample for rows at the edges of the data, whatever the strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_cases: Option<EdgeCases>,
    /// Only rows for which all of these hold are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Condition>,
    /// Columns whose values go into the output records beside the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// How gently the table is read.
    #[serde(default)]
    pub pace: Pace,
}

/// How rows are chosen.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Strategy {
    /// Every row with the same chance.
    Random {},
    /// So many rows from each group of rows; within a group every row with the same chance.
    Stratified {
        /// Columns whose values together make the groups, 1 to 8.
        by: Vec<StratumColumn>,
        /// How the sample is shared out; proportional by default.
        #[serde(default)]
        allocation: Allocation,
        /// Rows from each group at least (a smaller group is taken whole).
        #[serde(default)]
        min_per_stratum: u32,
    },
    /// Each row with a chance that grows with its weight: weighted sampling without replacement (A-ES,
    /// Efraimidis and Spirakis 2006). Rows with no weight, or none above zero, are never chosen.
    RiskWeighted {
        /// Column with the weight, or with the category that `weights` gives a weight to.
        column: String,
        /// Weight of each category; without it the column itself holds numbers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weights: Option<BTreeMap<String, f64>>,
        /// Weight of categories that `weights` does not name, and of missing values; 0 by default.
        #[serde(default)]
        default_weight: f64,
    },
    /// Only rows at the edges of the data, and not more than there are; `edge_cases` says which.
    EdgeCases {},
}

/// A column to stratify by.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StratumColumn {
    /// One group for each value, and one for "no value".
    Plain(String),
    /// Numbers in bins: below the first bound, between each two, from the last on.
    Binned {
        /// The column.
        column: String,
        /// Bounds in rising order; each belongs to the bin above it.
        bins: Vec<f64>,
    },
}

/// How a sample is shared out between the groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Allocation {
    /// By size, in whole rows, by the method of Sainte-Lagüe.
    #[default]
    Proportional,
    /// The same for each, as far as a group reaches.
    Equal,
}

/// A part of the sample for the edges of the data: rows without a value, with the least or the greatest
/// number, with a rare category (in columns of at most 100 different values).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeCases {
    /// Part of the sample at most, above 0 to 1; 0.2 by default. Under the strategy `edge_cases` all of it.
    #[serde(default = "share_max")]
    pub share_max: f64,
    /// Columns to look at; all but the key by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// A category is rare below this part of the rows; 0.01 by default.
    #[serde(default = "rare_below")]
    pub rare_below: f64,
    /// Rows for each case at most, 1 to 100; 1 by default.
    #[serde(default = "per_case")]
    #[schemars(range(min = 1, max = 100))]
    pub per_case: u32,
}

impl Default for EdgeCases {
    fn default() -> Self {
        Self { share_max: share_max(), columns: None, rare_below: rare_below(), per_case: per_case() }
    }
}

fn share_max() -> f64 {
    0.2
}

fn rare_below() -> f64 {
    0.01
}

fn per_case() -> u32 {
    1
}

/// What a sampling job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// What was sampled from.
    pub population: Population,
    /// Rows asked for.
    pub sample_size_asked: u32,
    /// Rows chosen.
    pub sample_size: u32,
    /// Chosen rows by row number. Where `sample_complete` is false these are only the first; the output
    /// records hold all.
    pub sample: Vec<Chosen>,
    /// True when `sample` holds every chosen row.
    pub sample_complete: bool,
    /// Each stratum, the whole population being one where the strategy makes none.
    pub coverage: Vec<Coverage>,
    /// Each edge case that was found, where edge cases were asked for.
    pub edge_cases: Vec<Edge>,
}

/// What was sampled from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Population {
    /// Rows of the table.
    pub rows: u64,
    /// Rows that the filters let through.
    pub rows_matching: u64,
    /// Matching rows without a weight above zero; 0 unless the strategy is `risk_weighted`.
    pub rows_without_weight: u64,
    /// Rows of the table with more or fewer fields than its header.
    pub ragged_rows: u64,
}

/// One chosen row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Chosen {
    /// The key's value; an object when the key has several columns.
    pub key: Value,
    /// Number of the row, from 1, the header not counted.
    pub row: u64,
    /// The stratum's values by column; empty where the strategy makes none.
    pub stratum: BTreeMap<String, Option<String>>,
    /// Why this row.
    pub reason: String,
}

/// How well a stratum is covered.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// The stratum's values by column.
    pub stratum: BTreeMap<String, Option<String>>,
    /// Matching rows in it.
    pub population: u64,
    /// Rows allotted to it.
    pub allotted: u32,
    /// Rows chosen from it.
    pub sampled: u32,
    /// `sampled` / `population`.
    pub share: f64,
}

/// One edge case.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// The column.
    pub column: String,
    /// What kind of edge.
    pub case: EdgeKind,
    /// The least, greatest or rare value.
    pub value: Option<String>,
    /// Matching rows that are such a case.
    pub population: u64,
    /// Of those, rows in the sample for this reason.
    pub sampled: u32,
}

/// What kind of edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum EdgeKind {
    NoValue,
    Least,
    Greatest,
    RareCategory,
}
