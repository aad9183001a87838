//! What a caller asks of a row: `{"column": "hour", "op": "ge", "value": 6}`.
//!
//! A JSON number compares as numbers, a JSON text as text; two columns compare as numbers where both hold
//! one. A comparison with a missing value is false, whichever way it points.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use waymark_sdk::Failure;

use crate::value::number;
use crate::{Row, Table};

/// One test of one row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The column looked at.
    pub column: String,
    /// What is asked of it.
    pub op: Op,
    /// What it is compared with: a number, a text or a boolean; a list for `in`, `not_in`; a pattern for
    /// `matches`; two bounds, both included, for `between`; nothing for `is_null`, `not_null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// A column to compare with, instead of `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_column: Option<String>,
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Between,
    Matches,
    IsNull,
    NotNull,
}

/// Conditions made ready for a table; all must hold.
#[derive(Debug, Default)]
pub struct Filter(Vec<Test>);

#[derive(Debug)]
struct Test {
    column: usize,
    asks: Asks,
}

#[derive(Debug)]
enum Asks {
    IsNull,
    NotNull,
    Number(Op, f64),
    Text(Op, Vec<u8>),
    Column(Op, usize),
    Among { texts: BTreeSet<Vec<u8>>, numbers: Vec<f64>, among: bool },
    Between(f64, f64),
    BetweenText(Vec<u8>, Vec<u8>),
    Matches(Box<Regex>),
}

/// Bytes of memory that a compiled pattern may take: no caller's pattern may eat the job's memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Compiles a regular expression within bounds.
///
/// # Errors
/// `InvalidInput` with what is wrong with the pattern.
pub fn pattern(pattern: &str) -> Result<Regex, Failure> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| Failure::invalid_input(format_args!("the pattern {pattern:?}: {error}")))
}

impl Filter {
    /// Finds the columns and compiles the patterns.
    ///
    /// # Errors
    /// `InvalidInput` naming the column, pattern or value that does not fit.
    pub fn new(table: &Table, conditions: &[Condition]) -> Result<Self, Failure> {
        conditions.iter().map(|condition| Test::new(table, condition)).collect::<Result<_, _>>().map(Self)
    }

    /// True when all conditions hold.
    pub fn holds(&self, row: &Row<'_>) -> bool {
        self.0.iter().all(|test| test.holds(row))
    }

    /// True when a column that a condition compares is empty in this row, so that nothing can be said.
    pub fn unknown(&self, row: &Row<'_>) -> bool {
        self.0.iter().any(|test| match test.asks {
            Asks::IsNull | Asks::NotNull => false,
            Asks::Column(_, other) => row.get(test.column).is_none() || row.get(other).is_none(),
            _ => row.get(test.column).is_none(),
        })
    }

    /// The columns looked at, in order, without repeats.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = BTreeSet::new();
        for test in &self.0 {
            columns.insert(test.column);
            if let Asks::Column(_, other) = test.asks {
                columns.insert(other);
            }
        }
        columns.into_iter().collect()
    }
}

impl Test {
    fn new(table: &Table, condition: &Condition) -> Result<Self, Failure> {
        let Condition { column, op, value, other_column } = condition;
        let wrong = |expected: &str| {
            Failure::invalid_input(format_args!("the condition on {column:?} with {op:?} needs {expected}"))
        };
        let asks = match (op, value, other_column) {
            (Op::IsNull, None, None) => Asks::IsNull,
            (Op::NotNull, None, None) => Asks::NotNull,
            (Op::IsNull | Op::NotNull, ..) => return Err(wrong("neither `value` nor `other_column`")),
            (Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge, None, Some(other)) => {
                Asks::Column(*op, table.column(other)?)
            }
            (Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge, Some(value), None) => match value {
                Value::Number(number) => Asks::Number(*op, number.as_f64().ok_or_else(|| wrong("a number"))?),
                value => Asks::Text(*op, scalar(value).ok_or_else(|| wrong("one value"))?),
            },
            (Op::In | Op::NotIn, Some(Value::Array(values)), None) => {
                let mut numbers = Vec::new();
                let mut texts = BTreeSet::new();
                for value in values {
                    match value {
                        Value::Number(number) => numbers.extend(number.as_f64()),
                        value => drop(texts.insert(scalar(value).ok_or_else(|| wrong("a list of values"))?)),
                    }
                }
                Asks::Among { texts, numbers, among: *op == Op::In }
            }
            (Op::In | Op::NotIn, ..) => return Err(wrong("a list as `value`")),
            (Op::Between, Some(Value::Array(bounds)), None) => match bounds.as_slice() {
                [Value::Number(low), Value::Number(high)] => Asks::Between(
                    low.as_f64().ok_or_else(|| wrong("numbers"))?,
                    high.as_f64().ok_or_else(|| wrong("numbers"))?,
                ),
                [Value::String(low), Value::String(high)] => {
                    Asks::BetweenText(low.clone().into_bytes(), high.clone().into_bytes())
                }
                _ => return Err(wrong("two numbers or two texts in `value`")),
            },
            (Op::Between, ..) => return Err(wrong("two bounds as `value`")),
            (Op::Matches, Some(Value::String(text)), None) => Asks::Matches(Box::new(pattern(text)?)),
            (Op::Matches, ..) => return Err(wrong("a pattern as `value`")),
            _ => return Err(wrong("either `value` or `other_column`")),
        };
        Ok(Self { column: table.column(column)?, asks })
    }

    fn holds(&self, row: &Row<'_>) -> bool {
        let field = row.get(self.column);
        let field = match (&self.asks, field) {
            (Asks::IsNull, field) => return field.is_none(),
            (_, None) => return false,
            (_, Some(field)) => field,
        };
        match &self.asks {
            Asks::IsNull => false,
            Asks::NotNull => true,
            Asks::Number(op, value) => number(field).is_some_and(|left| op.accepts(left.partial_cmp(value))),
            Asks::Text(op, value) => op.accepts(Some(field.cmp(value.as_slice()))),
            Asks::Column(op, other) => row.get(*other).is_some_and(|other| {
                op.accepts(match (number(field), number(other)) {
                    (Some(left), Some(right)) => left.partial_cmp(&right),
                    _ => Some(field.cmp(other)),
                })
            }),
            Asks::Among { texts, numbers, among } => {
                let found = texts.contains(field)
                    || (!numbers.is_empty() && number(field).is_some_and(|left| numbers.contains(&left)));
                found == *among
            }
            Asks::Between(low, high) => number(field).is_some_and(|value| *low <= value && value <= *high),
            Asks::BetweenText(low, high) => low.as_slice() <= field && field <= high.as_slice(),
            Asks::Matches(regex) => regex.is_match(field),
        }
    }
}

impl Op {
    fn accepts(self, ordering: Option<Ordering>) -> bool {
        let Some(ordering) = ordering else { return false };
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
            _ => false,
        }
    }
}

fn scalar(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Bool(value) => Some(value.to_string().into_bytes()),
        _ => None,
    }
}
