//! Rules that look at one row at a time.

use std::collections::BTreeSet;

use regex::bytes::Regex;
use waymark_sdk::Failure;
use waymark_sdk::prelude::Value;
use waymark_table::condition::pattern;
use waymark_table::value::{DateFormat, Type, number, text, type_of};
use waymark_table::{Filter, Row, Table};

use crate::input::{Bound, Check, Rule};
use crate::tally::Verdict;

/// A rule made ready for a table.
#[derive(Debug)]
pub struct Ready {
    /// Rows that it is about.
    pub only: Filter,
    /// Columns that it looks at.
    pub columns: Vec<usize>,
    /// What it asks of a row.
    pub asks: Asks,
}

/// What a rule asks.
#[derive(Debug)]
pub enum Asks {
    /// All columns have a value.
    Complete,
    /// Something of one value alone.
    Value(Test),
    /// A relation.
    Compare(Filter),
    /// The second where the first.
    When(Filter, Filter),
    /// Of every row: not older than this moment, in seconds since 1970.
    NotBefore(DateFormat, f64),
    /// Of the table: its newest moment.
    Newest(DateFormat),
    /// Something that needs all rows together; see [`crate::keyed`].
    Keyed,
}

/// Something that is asked of a value alone, so that equal values need one answer.
#[derive(Debug)]
#[allow(missing_docs, reason = "as in the input")]
pub enum Test {
    Type(Type),
    Regex(Box<Regex>),
    Numbers { min: f64, max: f64, exclusive: bool },
    Moments { min: i64, max: i64, exclusive: bool, format: DateFormat },
    Set { texts: BTreeSet<Vec<u8>>, numbers: Vec<f64>, exclude: bool },
    Length(u64, u64),
    Date(DateFormat),
}

impl Test {
    /// True when the value is as it should be.
    pub fn passes(&self, field: &[u8]) -> bool {
        match self {
            Self::Type(expected) => expected.admits(type_of(field)),
            Self::Regex(regex) => regex.is_match(field),
            Self::Numbers { min, max, exclusive } => number(field).is_some_and(|value| {
                if *exclusive { *min < value && value < *max } else { *min <= value && value <= *max }
            }),
            Self::Moments { min, max, exclusive, format } => format.seconds(field).is_some_and(|value| {
                if *exclusive { *min < value && value < *max } else { *min <= value && value <= *max }
            }),
            Self::Set { texts, numbers, exclude } => {
                let found = texts.contains(field)
                    || (!numbers.is_empty() && number(field).is_some_and(|value| numbers.contains(&value)));
                found != *exclude
            }
            Self::Length(min, max) => {
                let length = if field.is_ascii() { field.len() } else { text(field).chars().count() } as u64;
                *min <= length && length <= *max
            }
            Self::Date(format) => format.seconds(field).is_some(),
        }
    }
}

fn moment(text: &str) -> Result<i64, Failure> {
    let iso = DateFormat::new(None).map_err(Failure::invalid_input)?;
    iso.seconds(text.as_bytes()).ok_or_else(|| {
        Failure::invalid_input(format_args!("{text:?} is not an ISO 8601 date or time such as 2013-01-31"))
    })
}

fn range(min: Option<&Bound>, max: Option<&Bound>, exclusive: bool) -> Result<Test, Failure> {
    match (min, max) {
        (None, None) => Err(Failure::invalid_input("a range needs `min` or `max`")),
        (None | Some(Bound::Number(_)), None | Some(Bound::Number(_))) => {
            let bound = |bound: Option<&Bound>, none: f64| match bound {
                Some(Bound::Number(number)) => *number,
                _ => none,
            };
            Ok(Test::Numbers {
                min: bound(min, f64::NEG_INFINITY),
                max: bound(max, f64::INFINITY),
                exclusive,
            })
        }
        (None | Some(Bound::Date(_)), None | Some(Bound::Date(_))) => {
            let bound = |bound: Option<&Bound>, none: i64| match bound {
                Some(Bound::Date(text)) => moment(text),
                _ => Ok(none),
            };
            Ok(Test::Moments {
                min: bound(min, i64::MIN)?,
                max: bound(max, i64::MAX)?,
                exclusive,
                format: DateFormat::new(None).map_err(Failure::invalid_input)?,
            })
        }
        _ => Err(Failure::invalid_input("the bounds of a range must both be numbers or both be dates")),
    }
}

fn set(values: &[Value], exclude: bool) -> Result<Test, Failure> {
    let mut texts = BTreeSet::new();
    let mut numbers = Vec::new();
    for value in values {
        match value {
            Value::String(text) => drop(texts.insert(text.clone().into_bytes())),
            Value::Bool(value) => drop(texts.insert(value.to_string().into_bytes())),
            Value::Number(number) => numbers.extend(number.as_f64()),
            _ => return Err(Failure::invalid_input("a set holds texts, numbers and booleans")),
        }
    }
    Ok(Test::Set { texts, numbers, exclude })
}

impl Ready {
    /// Finds columns, compiles patterns and formats.
    ///
    /// # Errors
    /// `InvalidInput` naming the rule and what is wrong with it.
    pub fn new(table: &Table, rule: &Rule) -> Result<Self, Failure> {
        Self::compile(table, rule).map_err(|failure| match failure {
            Failure::InvalidInput(message) => {
                Failure::invalid_input(format_args!("rule {:?}: {message}", rule.id))
            }
            other => other,
        })
    }

    fn compile(table: &Table, rule: &Rule) -> Result<Self, Failure> {
        if !(rule.threshold >= 0.0 && rule.threshold <= 1.0) {
            return Err(Failure::invalid_input("`threshold` must be 0 to 1"));
        }
        let one = |column: &str| table.column(column).map(|column| vec![column]);
        let date = |format: Option<&str>| DateFormat::new(format).map_err(Failure::invalid_input);
        let (columns, asks) = match &rule.check {
            Check::Completeness { columns } => (table.indexes(columns)?, Asks::Complete),
            Check::Uniqueness { columns } | Check::Duplicates { columns: Some(columns) } => {
                (table.indexes(columns)?, Asks::Keyed)
            }
            Check::Duplicates { columns: None } => ((0..table.columns().len()).collect(), Asks::Keyed),
            Check::Referential { columns, references } => {
                if columns.names().len() != references.columns.names().len() {
                    return Err(Failure::invalid_input("`references` needs as many columns as are checked"));
                }
                (table.indexes(columns)?, Asks::Keyed)
            }
            Check::Type { column, expected } => (one(column)?, Asks::Value(Test::Type(*expected))),
            Check::Regex { column, pattern: text } => {
                (one(column)?, Asks::Value(Test::Regex(Box::new(pattern(text)?))))
            }
            Check::Range { column, min, max, exclusive } => {
                (one(column)?, Asks::Value(range(min.as_ref(), max.as_ref(), *exclusive)?))
            }
            Check::Set { column, values, exclude } => (one(column)?, Asks::Value(set(values, *exclude)?)),
            Check::Length { column, min, max } => {
                let (min, max) = (min.unwrap_or(0), max.unwrap_or(u64::MAX));
                (one(column)?, Asks::Value(Test::Length(min, max)))
            }
            Check::DateFormat { column, format } => {
                (one(column)?, Asks::Value(Test::Date(date(Some(format))?)))
            }
            Check::Comparison { condition } => {
                let filter = Filter::new(table, std::slice::from_ref(condition))?;
                (filter.columns(), Asks::Compare(filter))
            }
            Check::Conditional { when, then } => {
                if when.is_empty() || then.is_empty() {
                    return Err(Failure::invalid_input("`when` and `then` need at least one condition each"));
                }
                let (when, then) = (Filter::new(table, when)?, Filter::new(table, then)?);
                let mut columns = when.columns();
                columns.extend(then.columns());
                columns.sort_unstable();
                columns.dedup();
                (columns, Asks::When(when, then))
            }
            Check::Freshness { column, format, as_of, max_age_days, every_row } => {
                if *max_age_days < 0.0 {
                    return Err(Failure::invalid_input("`max_age_days` must not be negative"));
                }
                let format = date(format.as_deref())?;
                let as_of = moment(as_of)?;
                let oldest = as_of as f64 - max_age_days * 86_400.0;
                let asks = if *every_row { Asks::NotBefore(format, oldest) } else { Asks::Newest(format) };
                (one(column)?, asks)
            }
        };
        Ok(Self { only: Filter::new(table, &rule.only)?, columns, asks })
    }

    /// What the rule says of a row that it is about. Rules that look at the whole table skip every row.
    pub fn verdict(&self, row: &Row<'_>) -> Verdict {
        let field = self.columns.first().and_then(|column| row.get(*column));
        match (&self.asks, field) {
            (Asks::Complete, _) => self.columns.iter().all(|column| row.get(*column).is_some()).into(),
            (Asks::Compare(relation), _) if relation.unknown(row) => Verdict::Skip,
            (Asks::Compare(relation), _) => relation.holds(row).into(),
            (Asks::When(when, _), _) if !when.holds(row) => Verdict::Skip,
            (Asks::When(_, then), _) => then.holds(row).into(),
            (Asks::Value(test), Some(field)) => test.passes(field).into(),
            (Asks::NotBefore(format, oldest), Some(field)) => {
                format.seconds(field).is_some_and(|seconds| seconds as f64 >= *oldest).into()
            }
            (Asks::Value(_) | Asks::NotBefore(..), None) | (Asks::Newest(_) | Asks::Keyed, _) => {
                Verdict::Skip
            }
        }
    }
}

/// Age of a newest moment in days, and whether it is fresh.
///
/// # Errors
/// As for the rule itself.
pub fn age(newest_seconds: i64, as_of: &str, max_age_days: f64) -> Result<(f64, bool), Failure> {
    let age_days = (moment(as_of)? - newest_seconds) as f64 / 86_400.0;
    Ok((age_days, age_days <= max_age_days))
}
