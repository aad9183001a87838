//! Groups of rows, and how a sample is shared out between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::{Deserialize, Serialize};
use waymark_sdk::Failure;
use waymark_table::{Row, Table, value};

use crate::input::{Allocation, STRATA_MAX, StratumColumn};
use crate::pick::Lowest;

/// Stands between the values of a label; no text of a table holds it by accident.
const BETWEEN: char = '\u{1f}';

/// Stands for "no value" in a label.
const NONE: &str = "\u{0}";

/// Columns that a job may stratify by.
const COLUMNS_MAX: usize = 8;

/// One group of rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stratum {
    /// Matching rows.
    pub population: u64,
    /// Rows allotted.
    pub allotted: u32,
    /// Rows taken as edge cases.
    pub edges: u32,
    /// Rows drawn so far.
    pub drawn: Lowest,
}

/// How to find a row's group.
#[derive(Debug, Default)]
pub struct Labels(Vec<(String, usize, Vec<f64>)>);

impl Labels {
    /// Finds the columns.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown column, none or too many, or bins that do not rise.
    pub fn new(table: &Table, by: &[StratumColumn]) -> Result<Self, Failure> {
        if by.is_empty() || by.len() > COLUMNS_MAX {
            return Err(Failure::invalid_input(format_args!("`by` needs 1 to {COLUMNS_MAX} columns")));
        }
        let mut labels: Vec<(String, usize, Vec<f64>)> = Vec::new();
        for column in by {
            let (name, bins) = match column {
                StratumColumn::Plain(name) => (name, Vec::new()),
                StratumColumn::Binned { column, bins } => {
                    let rising = bins.windows(2).all(|pair| pair[0] < pair[1]);
                    if bins.is_empty() || !rising {
                        return Err(Failure::invalid_input(format_args!(
                            "the bins of {column:?} must be numbers in rising order"
                        )));
                    }
                    (column, bins.clone())
                }
            };
            if labels.iter().any(|(known, ..)| known == name) {
                return Err(Failure::invalid_input(format_args!("`by` names {name:?} twice")));
            }
            labels.push((name.clone(), table.column(name)?, bins));
        }
        Ok(Self(labels))
    }

    /// Writes the row's label into `label`.
    pub fn write(&self, row: &Row<'_>, label: &mut String) {
        label.clear();
        for (index, (_, column, bins)) in self.0.iter().enumerate() {
            if index > 0 {
                label.push(BETWEEN);
            }
            match row.get(*column) {
                None => label.push_str(NONE),
                Some(field) if bins.is_empty() => label.push_str(&String::from_utf8_lossy(field)),
                Some(field) => match value::number(field) {
                    None => label.push_str("not a number"),
                    Some(number) => label.push_str(&bin(bins, number)),
                },
            }
        }
    }

    /// The label's values by column.
    pub fn read(&self, label: &str) -> BTreeMap<String, Option<String>> {
        let values = label.split(BETWEEN).map(|value| (value != NONE).then(|| value::cut(value)));
        self.0.iter().map(|(name, ..)| name.clone()).zip(values).collect()
    }
}

fn bin(bins: &[f64], number: f64) -> String {
    match bins.partition_point(|bound| *bound <= number) {
        0 => format!("below {}", bins[0]),
        at if at == bins.len() => format!("{} and above", bins[at - 1]),
        at => format!("{} to below {}", bins[at - 1], bins[at]),
    }
}

/// Counts a row into its stratum.
///
/// # Errors
/// `InvalidInput` when there are more than [`STRATA_MAX`].
pub fn count(strata: &mut BTreeMap<String, Stratum>, label: &str) -> Result<(), Failure> {
    if let Some(stratum) = strata.get_mut(label) {
        stratum.population += 1;
        return Ok(());
    }
    if strata.len() == STRATA_MAX {
        return Err(Failure::invalid_input(format_args!(
            "more than {STRATA_MAX} strata: stratify by columns with fewer values, or in bins"
        )));
    }
    strata.insert(label.to_owned(), Stratum { population: 1, ..Stratum::default() });
    Ok(())
}

/// Shares out `sample_size` rows: first what each stratum must have (its minimum, and the edge cases taken
/// from it already), then one row at a time to the stratum that is furthest behind its due.
///
/// # Errors
/// `InvalidInput` when the minimums alone are more than the sample.
pub fn allot(
    strata: &mut BTreeMap<String, Stratum>,
    sample_size: u32,
    allocation: Allocation,
    min_per_stratum: u32,
) -> Result<(), Failure> {
    let mut left = i64::from(sample_size);
    for stratum in strata.values_mut() {
        let min = u64::from(min_per_stratum).min(stratum.population) as u32;
        stratum.allotted = min.max(stratum.edges);
        left -= i64::from(stratum.allotted);
    }
    if left < 0 {
        return Err(Failure::invalid_input(format_args!(
            "{} strata with at least {min_per_stratum} rows each, and the edge cases, need a sample of {}; \
             `sample_size` is {sample_size}",
            strata.len(),
            i64::from(sample_size) - left
        )));
    }
    // The stratum with the greatest due comes first, then the earlier label.
    let mut dues: BinaryHeap<(Due, Reverse<usize>)> = BinaryHeap::new();
    let mut strata: Vec<&mut Stratum> = strata.values_mut().collect();
    for (index, stratum) in strata.iter().enumerate() {
        dues.extend(due(stratum, allocation).map(|due| (due, Reverse(index))));
    }
    while left > 0 {
        let Some((_, Reverse(index))) = dues.pop() else { break };
        strata[index].allotted += 1;
        left -= 1;
        dues.extend(due(strata[index], allocation).map(|due| (due, Reverse(index))));
    }
    Ok(())
}

/// A fraction, compared without rounding.
#[derive(Debug, PartialEq, Eq)]
struct Due(u64, u64);

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (u128::from(self.0) * u128::from(other.1)).cmp(&(u128::from(other.0) * u128::from(self.1)))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// How much a stratum deserves the next row; `None` when it is taken whole. Sainte-Laguë divides by odd
/// numbers; equal shares divide one by the rows that it has.
fn due(stratum: &Stratum, allocation: Allocation) -> Option<Due> {
    let has = u64::from(stratum.allotted);
    (has < stratum.population).then_some(match allocation {
        Allocation::Proportional => Due(stratum.population, 2 * has + 1),
        Allocation::Equal => Due(1, has + 1),
    })
}
