//! The edges of the data: which there are, and rows that show them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waymark_table::value::{cut, number, text};

use crate::input::{Edge, EdgeCases, EdgeKind};
use crate::pick::{Lowest, Pick};

/// Different values of a column beyond which it is no category.
const CATEGORIES_MAX: usize = 100;

/// Cases that a job looks for. It bounds memory on tables with very many columns.
const CASES_MAX: usize = 1_000;

/// What the counting pass learns of one column.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Index of the column.
    pub column: usize,
    no_value: u64,
    numbers: u64,
    other: u64,
    least: f64,
    greatest: f64,
    least_rows: u64,
    greatest_rows: u64,
    /// Rows of each value; `None` once there are too many.
    categories: Option<BTreeMap<String, u64>>,
}

impl Facts {
    /// Nothing known yet.
    pub fn new(column: usize) -> Self {
        Self { column, categories: Some(BTreeMap::new()), ..Self::default() }
    }

    /// Learns from one row.
    pub fn learn(&mut self, field: Option<&[u8]>) {
        let Some(field) = field else {
            self.no_value += 1;
            return;
        };
        match number(field) {
            None => self.other += 1,
            Some(number) => {
                if self.numbers == 0 || number < self.least {
                    (self.least, self.least_rows) = (number, 0);
                }
                if self.numbers == 0 || number > self.greatest {
                    (self.greatest, self.greatest_rows) = (number, 0);
                }
                self.numbers += 1;
                self.least_rows += u64::from(number == self.least);
                self.greatest_rows += u64::from(number == self.greatest);
            }
        }
        if let Some(categories) = &mut self.categories {
            let name = String::from_utf8_lossy(field);
            if let Some(rows) = categories.get_mut(name.as_ref()) {
                *rows += 1;
            } else if categories.len() < CATEGORIES_MAX {
                categories.insert(name.into_owned(), 1);
            } else {
                self.categories = None;
            }
        }
    }

    fn cases(&self, rare_below: f64) -> Vec<(EdgeKind, Option<String>, f64, u64)> {
        let mut cases = Vec::new();
        if self.no_value > 0 {
            cases.push((EdgeKind::NoValue, None, 0.0, self.no_value));
        }
        if self.numbers > 0 && self.other == 0 && self.least < self.greatest {
            cases.push((EdgeKind::Least, Some(self.least.to_string()), self.least, self.least_rows));
            cases.push((
                EdgeKind::Greatest,
                Some(self.greatest.to_string()),
                self.greatest,
                self.greatest_rows,
            ));
        }
        let rows = self.no_value + self.numbers + self.other;
        for (name, count) in self.categories.iter().flatten() {
            if (*count as f64) < rare_below * rows as f64 {
                cases.push((EdgeKind::RareCategory, Some(name.clone()), 0.0, *count));
            }
        }
        cases
    }
}

/// One edge case, and the rows that may show it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Case {
    column: usize,
    kind: EdgeKind,
    value: Option<String>,
    number: f64,
    population: u64,
    picks: Lowest,
}

impl Case {
    fn shown_by(&self, field: Option<&[u8]>, parsed: Option<f64>) -> bool {
        match self.kind {
            EdgeKind::NoValue => field.is_none(),
            EdgeKind::Least | EdgeKind::Greatest => parsed == Some(self.number),
            EdgeKind::RareCategory => {
                field.is_some_and(|field| Some(text(field).as_str()) == self.value.as_deref())
            }
        }
    }

    fn says(&self, columns: &[String]) -> String {
        let column = columns.get(self.column).map_or("", String::as_str);
        let value = self.value.as_deref().map(cut).unwrap_or_default();
        match self.kind {
            EdgeKind::NoValue => format!("no value in {column}"),
            EdgeKind::Least => format!("least {column}: {value}"),
            EdgeKind::Greatest => format!("greatest {column}: {value}"),
            EdgeKind::RareCategory => format!("rare {column}: {value} ({} rows)", self.population),
        }
    }
}

/// The cases by column; where there are too many, only the rarest.
pub fn cases(facts: &[Facts], edges: &EdgeCases) -> Vec<Case> {
    let mut cases: Vec<Case> = facts
        .iter()
        .flat_map(|facts| {
            facts.cases(edges.rare_below).into_iter().map(|(kind, value, number, population)| Case {
                column: facts.column,
                kind,
                value,
                number,
                population,
                picks: Lowest::new(edges.per_case as usize),
            })
        })
        .collect();
    if cases.len() > CASES_MAX {
        let mut populations: Vec<u64> = cases.iter().map(|case| case.population).collect();
        populations.sort_unstable();
        let limit = populations.get(CASES_MAX).copied().unwrap_or(u64::MAX);
        cases.retain(|case| case.population < limit);
    }
    cases
}

/// Offers a row to every case that it shows. The cases are sorted by column.
pub fn offer<'a>(
    cases: &mut [Case],
    get: impl Fn(usize) -> Option<&'a [u8]>,
    score: u64,
    row: u64,
    make: impl Fn() -> Pick,
) {
    for group in cases.chunk_by_mut(|left, right| left.column == right.column) {
        let Some(first) = group.first() else { continue };
        let field = get(first.column);
        let parsed = field.and_then(number);
        for case in group {
            if case.shown_by(field, parsed) {
                case.picks.offer(score, row, &make);
            }
        }
    }
}

/// Chooses at most `room` rows in turns, one for each case, the rarest case first. Answers the rows with all
/// the cases they were chosen for, and the account of every case.
pub fn choose(
    cases: Vec<Case>,
    columns: &[String],
    room: usize,
) -> (BTreeMap<u64, (Pick, String)>, Vec<Edge>) {
    let mut edges = Vec::new();
    let mut waiting = Vec::new();
    for mut case in cases {
        let says = case.says(columns);
        let picks = std::mem::take(&mut case.picks).into_sorted();
        waiting.push((case.population, edges.len(), says, picks));
        edges.push(Edge {
            column: columns.get(case.column).cloned().unwrap_or_default(),
            case: case.kind,
            value: case.value.map(|value| cut(&value)),
            population: case.population,
            sampled: 0,
        });
    }
    waiting.sort_by_key(|(population, index, ..)| (*population, *index));
    let mut chosen: BTreeMap<u64, (Pick, String)> = BTreeMap::new();
    let turns = waiting.iter().map(|(.., picks)| picks.len()).max().unwrap_or(0);
    for turn in 0..turns {
        for (_, index, says, picks) in &waiting {
            let Some(pick) = picks.get(turn) else { continue };
            if let Some((_, reason)) = chosen.get_mut(&pick.row) {
                reason.push_str("; ");
                reason.push_str(says);
            } else if chosen.len() < room {
                chosen.insert(pick.row, (pick.clone(), format!("edge case: {says}")));
            } else {
                continue;
            }
            edges[*index].sampled += 1;
        }
    }
    (chosen, edges)
}
