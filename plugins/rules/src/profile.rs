//! What a column holds.
//!
//! A column of up to [`VALUES_MAX`] different values is kept as those values with their counts, and all is
//! computed from them in the end, exactly. A column with more is summed up row by row from then on: its top
//! values are not known; its quantiles and the number of different values take further passes over the table
//! ([`crate::quantiles`], [`crate::keyed`]) and are exact too.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use waymark_table::value::{Type, cut, number, type_of};

use crate::quantiles::{QUANTILES, Quantiles, interpolate, positions};

/// Columns that a job describes: each takes a few hundred bytes in every checkpoint, and a few kilobytes in
/// the output.
pub const COLUMNS_MAX: usize = 2_000;

/// Different values that are kept for one column.
pub const VALUES_MAX: usize = 10_000;

/// Different values that are kept over all columns.
pub const VALUES_MAX_IN_ALL: usize = 100_000;

/// Bytes of different values that are kept over all columns.
pub const VALUES_BYTES_MAX_IN_ALL: usize = 4 << 20;

/// Most frequent values that are shown.
const TOP_VALUES: usize = 10;

/// What is told of a column.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Rows with a value.
    pub count: u64,
    /// Rows without one.
    pub nulls: u64,
    /// Different values.
    pub distinct: u64,
    /// The narrowest type that admits every value; null for an empty column.
    pub inferred_type: Option<Type>,
    /// Rows by the narrowest type of their value.
    pub types: Vec<TypeCount>,
    /// Least value: by number for numbers, by text otherwise.
    pub min: Option<String>,
    /// Greatest value.
    pub max: Option<String>,
    /// Shortest value in characters.
    pub length_min: Option<u64>,
    /// Longest value in characters.
    pub length_max: Option<u64>,
    /// Of numbers: the mean.
    pub mean: Option<f64>,
    /// Of at least two numbers: the standard deviation of the sample (n - 1).
    pub standard_deviation: Option<f64>,
    /// Of numbers: quantiles, linear between two values.
    pub quantiles: Vec<Quantile>,
    /// Most frequent values, at most 10; null when the column has too many different values.
    pub top_values: Option<Vec<TopValue>>,
}

/// Rows of a type.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TypeCount {
    /// Narrowest type.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Rows.
    pub count: u64,
}

/// One quantile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Quantile {
    /// Part of the values that is not greater, 0 to 1.
    pub q: f64,
    /// The value.
    pub value: f64,
}

/// A frequent value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TopValue {
    /// The value, cut after 200 characters.
    pub value: String,
    /// Rows that hold it.
    pub count: u64,
}

/// A column while it is being read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Column {
    /// Index of the column.
    pub index: usize,
    nulls: u64,
    /// `None` once there are too many different values.
    values: Option<Values>,
    summary: Summary,
    /// Set for a large column of numbers after the first pass.
    pub quantiles: Option<Quantiles>,
    /// Set for a large column when its keys have been counted.
    pub distinct: Option<u64>,
}

impl Column {
    /// Nothing seen yet.
    pub fn new(index: usize) -> Self {
        Self { index, values: Some(Values::default()), ..Self::default() }
    }

    /// Takes in a row; answers the number of the value among the different ones, while they are kept. Equal
    /// values have equal numbers until the job is restored.
    pub fn look(&mut self, field: Option<&[u8]>) -> Option<u32> {
        let Some(field) = field else {
            self.nulls += 1;
            return None;
        };
        let text = String::from_utf8_lossy(field);
        match &mut self.values {
            Some(values) => Some(values.see(&text)),
            None => {
                self.summary.add(&text, 1);
                None
            }
        }
    }

    /// Different values kept, and their bytes.
    pub fn kept(&self) -> (usize, usize) {
        self.values.as_ref().map_or((0, 0), |values| (values.counts.len(), values.bytes))
    }

    /// Gives the different values up, to go on with sums.
    pub fn give_up_values(&mut self) {
        for (text, count) in self.values.take().map(Values::into_sorted).unwrap_or_default() {
            self.summary.add(&text, count);
        }
    }

    /// True when further passes are needed.
    pub fn is_large(&self) -> bool {
        self.values.is_none()
    }

    /// Begins to look for the quantiles, if the column holds numbers.
    pub fn begin_quantiles(&mut self) {
        if self.is_large() && self.summary.is_numeric() {
            self.quantiles =
                Some(Quantiles::new(self.summary.least, self.summary.greatest, self.summary.numbers));
        }
    }

    /// What is told of the column in the end.
    pub fn profile(&self) -> Profile {
        let mut summary = self.summary.clone();
        let mut distinct = self.distinct.unwrap_or(0);
        let mut top_values = None;
        let mut quantiles = match &self.quantiles {
            Some(quantiles) => quantiles.values(),
            None => Vec::new(),
        };
        if let Some(values) = &self.values {
            let mut sorted = values.sorted();
            distinct = sorted.len() as u64;
            for (text, count) in &sorted {
                summary.add(text, *count);
            }
            if summary.is_numeric() {
                let mut numbers: Vec<(f64, u64)> = sorted
                    .iter()
                    .filter_map(|(text, count)| number(text.as_bytes()).map(|value| (value, *count)))
                    .collect();
                numbers.sort_by(|left, right| left.0.total_cmp(&right.0));
                quantiles = quantiles_of(&numbers, summary.numbers);
            }
            sorted.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
            let top = sorted.iter().take(TOP_VALUES);
            top_values =
                Some(top.map(|(text, count)| TopValue { value: cut(text), count: *count }).collect());
        }
        let numeric = summary.is_numeric();
        let deviation = (summary.m2 / (summary.numbers.saturating_sub(1)) as f64).sqrt();
        Profile {
            count: summary.count,
            nulls: self.nulls,
            distinct,
            inferred_type: summary.inferred_type(),
            types: summary.type_counts(),
            min: if numeric { Some(summary.least.to_string()) } else { summary.first.clone() },
            max: if numeric { Some(summary.greatest.to_string()) } else { summary.last.clone() },
            length_min: (summary.count > 0).then_some(summary.length_min),
            length_max: (summary.count > 0).then_some(summary.length_max),
            mean: numeric.then(|| (summary.sum + summary.lost) / summary.numbers as f64),
            standard_deviation: (numeric && summary.numbers > 1).then_some(deviation),
            quantiles: QUANTILES.into_iter().zip(quantiles).map(|(q, value)| Quantile { q, value }).collect(),
            top_values,
        }
    }
}

/// Quantiles of sorted numbers with counts.
fn quantiles_of(numbers: &[(f64, u64)], count: u64) -> Vec<f64> {
    let at = |rank: u64| {
        let mut behind = 0;
        for (value, count) in numbers {
            behind += count;
            if rank < behind {
                return *value;
            }
        }
        numbers.last().map_or(0.0, |last| last.0)
    };
    positions(count)
        .map(|(rank, part)| interpolate(at(rank), at((rank + 1).min(count.saturating_sub(1))), part))
        .collect()
}

/// Different values with counts. A value's number is its place in the order of first sight.
#[derive(Debug, Default)]
struct Values {
    numbers: HashMap<Box<str>, u32, FxBuildHasher>,
    counts: Vec<u64>,
    bytes: usize,
}

impl Values {
    fn see(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            self.counts[*number as usize] += 1;
            return *number;
        }
        let number = self.counts.len() as u32;
        self.numbers.insert(text.into(), number);
        self.counts.push(1);
        self.bytes += text.len();
        number
    }

    fn sorted(&self) -> Vec<(&str, u64)> {
        let mut sorted: Vec<(&str, u64)> =
            self.numbers.iter().map(|(text, number)| (&**text, self.counts[*number as usize])).collect();
        sorted.sort_unstable();
        sorted
    }

    fn into_sorted(self) -> Vec<(Box<str>, u64)> {
        let mut sorted: Vec<(Box<str>, u64)> =
            self.numbers.into_iter().map(|(text, number)| (text, self.counts[number as usize])).collect();
        sorted.sort_unstable();
        sorted
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.sorted())
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counted: HashMap<Box<str>, u64, FxBuildHasher> = HashMap::deserialize(deserializer)?;
        if u32::try_from(counted.len()).is_err() {
            return Err(D::Error::custom("too many different values"));
        }
        let mut values = Self::default();
        for (text, count) in counted {
            let number = values.see(&text);
            values.counts[number as usize] = count;
        }
        Ok(values)
    }
}

/// What can be summed up value by value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Summary {
    count: u64,
    /// Rows by narrowest type, in the order of [`TYPES`].
    types: [u64; 6],
    numbers: u64,
    mean: f64,
    /// Sum, and what its additions lost (Neumaier 1974): the mean that is told.
    sum: f64,
    lost: f64,
    /// Sum of squared distances from the mean (Welford 1962; West 1979 for counts).
    m2: f64,
    least: f64,
    greatest: f64,
    first: Option<String>,
    last: Option<String>,
    length_min: u64,
    length_max: u64,
}

fn finite(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(f64::MIN, f64::MAX) }
}

const TYPES: [Type; 6] =
    [Type::Integer, Type::Decimal, Type::Boolean, Type::Date, Type::Datetime, Type::Text];

impl Summary {
    fn add(&mut self, text: &str, count: u64) {
        let field = text.as_bytes();
        let kind = type_of(field);
        self.types[TYPES.iter().position(|known| *known == kind).unwrap_or(5)] += count;
        let length = if text.is_ascii() { text.len() } else { text.chars().count() } as u64;
        self.length_min = if self.count == 0 { length } else { self.length_min.min(length) };
        self.length_max = self.length_max.max(length);
        self.count += count;
        if self.first.as_deref().is_none_or(|first| text < first) {
            self.first = Some(cut(text));
        }
        if self.last.as_deref().is_none_or(|last| text > last) {
            self.last = Some(cut(text));
        }
        if let Some(value) = number(field) {
            self.least = if self.numbers == 0 { value } else { self.least.min(value) };
            self.greatest = if self.numbers == 0 { value } else { self.greatest.max(value) };
            self.numbers += count;
            let distance = value - self.mean;
            let added = value * count as f64;
            let sum = self.sum + added;
            let lost = if self.sum.abs() >= added.abs() {
                (self.sum - sum) + added
            } else {
                (added - sum) + self.sum
            };
            self.lost = finite(self.lost + lost);
            self.sum = finite(sum);
            // A checkpoint is JSON, which has no infinity.
            self.mean = finite(self.mean + distance * count as f64 / self.numbers as f64);
            self.m2 = finite(self.m2 + distance * (value - self.mean) * count as f64);
        }
    }

    fn is_numeric(&self) -> bool {
        self.numbers > 0 && self.numbers == self.count
    }

    fn inferred_type(&self) -> Option<Type> {
        let mut kinds =
            TYPES.into_iter().zip(self.types).filter(|(_, count)| *count > 0).map(|(kind, _)| kind);
        let first = kinds.next()?;
        Some(kinds.fold(first, |known, kind| match () {
            () if known.admits(kind) => known,
            () if kind.admits(known) => kind,
            () => Type::Text,
        }))
    }

    fn type_counts(&self) -> Vec<TypeCount> {
        let all = TYPES.into_iter().zip(self.types).filter(|(_, count)| *count > 0);
        all.map(|(kind, count)| TypeCount { kind, count }).collect()
    }
}
