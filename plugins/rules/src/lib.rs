//! Runs data-quality rules over a table and describes its columns: the job type `execute_profiling_rules`, as a
//! library, so that `generate_profiling_rules` writes and tries the very rules that it runs.
//!
//! The first pass over the table runs every rule that looks at one row at a time and describes the columns.
//! What needs all rows together (uniqueness, duplicates, references, large columns) takes part in it too, and
//! goes on in further passes while its memory is short. In the order in which a job meets them: [`input`],
//! [`rules`] (row by row), [`keyed`] over [`keys`] (all rows together), [`profile`] and [`quantiles`]
//! (columns), [`tally`] and [`output`] (what is told).

use std::collections::BTreeMap;

use waymark_sdk::prelude::*;
use waymark_table::{DataSet, Position, Row, Table, value};

pub mod input;
pub mod keyed;
pub mod keys;
pub mod output;
pub mod profile;
pub mod quantiles;
pub mod rules;
pub mod tally;

use input::{Check, EVIDENCE_ROWS_MAX, Input, RULES_MAX};
use keyed::{KEYS_MAX, Keyed, Purpose};
use output::{ColumnRecord, Details, Output, RuleRecord, RuleReport};
use profile::{COLUMNS_MAX, Column, VALUES_BYTES_MAX_IN_ALL, VALUES_MAX, VALUES_MAX_IN_ALL};
use quantiles::Quantiles;
use rules::{Asks, Ready};
use tally::{Evidence, Tally, Verdict, show};

/// What is being read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reading {
    /// The references of the keyed check of this index.
    References(usize),
    /// The table itself.
    Table,
}

/// What a row rule has counted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counted {
    tally: Tally,
    newest_seconds: Option<i64>,
}

/// A profiling job: the rules, how far it is, what it has counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profiling {
    /// In bytes of the files (or rows of the input) over all passes; the total is a guess while it is not
    /// known how many passes there will be.
    #[serde(flatten)]
    cursor: Cursor,
    plan: Input,
    table: Table,
    /// Tables referred to, by rule; none for this table itself.
    references: BTreeMap<usize, Option<Table>>,
    reading: Reading,
    pass: u32,
    position: Position,
    rows: u64,
    ragged_rows: u64,
    counted: Vec<Counted>,
    keyed: Vec<Keyed>,
    columns: Vec<Column>,
    results: BTreeMap<usize, RuleReport>,
    #[serde(skip)]
    ready: Option<Prepared>,
}

/// The plan made ready for the table; made again after a restore.
#[derive(Debug)]
struct Prepared {
    key: Vec<usize>,
    rules: Vec<Ready>,
    /// Columns of the references by rule.
    referred: BTreeMap<usize, Vec<usize>>,
    /// For each rule that asks something of a value alone: its column's place among the profiled ones, and
    /// the answers so far by number of the value.
    answers: Vec<Option<(usize, Vec<Option<bool>>)>>,
}

impl Prepared {
    fn new(
        plan: &Input,
        table: &Table,
        references: &BTreeMap<usize, Option<Table>>,
        columns: &[Column],
    ) -> Result<Self, Failure> {
        let key = match &plan.key {
            Some(key) => table.indexes(key)?,
            None => Vec::new(),
        };
        let rules: Vec<Ready> =
            plan.rules.iter().map(|rule| Ready::new(table, rule)).collect::<Result<_, _>>()?;
        let mut referred = BTreeMap::new();
        for (index, other) in references {
            if let Some(Check::Referential { references, .. }) =
                plan.rules.get(*index).map(|rule| &rule.check)
            {
                referred.insert(*index, other.as_ref().unwrap_or(table).indexes(&references.columns)?);
            }
        }
        let answers = rules
            .iter()
            .map(|rule| match (&rule.asks, rule.columns.first()) {
                (Asks::Value(_), Some(column)) => {
                    columns.iter().position(|known| known.index == *column).map(|place| (place, Vec::new()))
                }
                _ => None,
            })
            .collect();
        Ok(Self { key, rules, referred, answers })
    }
}

fn check(input: &Input) -> Result<(), Failure> {
    if input.rules.len() > RULES_MAX {
        return Err(Failure::invalid_input(format_args!("more than {RULES_MAX} rules")));
    }
    if input.evidence_max > 100 || input.evidence_max * input.rules.len() > EVIDENCE_ROWS_MAX {
        return Err(Failure::invalid_input(format_args!(
            "`evidence_max` must be 100 at most, and {EVIDENCE_ROWS_MAX} over all rules"
        )));
    }
    if input.rules.is_empty() && !input.profile {
        return Err(Failure::invalid_input("nothing to do: no rules, and `profile` is false"));
    }
    let mut ids: Vec<&str> = input.rules.iter().map(|rule| rule.id.as_str()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Failure::invalid_input(format_args!("two rules have the id {:?}", pair[0]))),
        None => Ok(()),
    }
}

impl Job for Profiling {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "execute_profiling_rules";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Runs data-quality rules over a table and describes its columns.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:sql"];

    fn start(mut input: Input, _: &mut Context) -> Result<Self, Failure> {
        check(&input)?;
        let table = Table::open(std::mem::take(&mut input.data_set))?;
        let columns = match (&input.profile_columns, input.profile) {
            (_, false) => Vec::new(),
            (None, true) => (0..table.columns().len()).map(Column::new).collect(),
            (Some(names), true) => {
                names.iter().map(|name| table.column(name).map(Column::new)).collect::<Result<_, _>>()?
            }
        };
        if columns.len() > COLUMNS_MAX {
            return Err(Failure::invalid_input(format_args!(
                "the table has {} columns: name at most {COLUMNS_MAX} in `profile_columns`",
                columns.len()
            )));
        }
        let mut references = BTreeMap::new();
        for (index, rule) in input.rules.iter_mut().enumerate() {
            if let Check::Referential { references: other, .. } = &mut rule.check {
                let opened = match other.data_set.as_mut().map(std::mem::take) {
                    None => None,
                    Some(data_set) => Some(Table::open(data_set)?),
                };
                // What is left of the data set only says that there is one.
                other.data_set = opened.as_ref().map(|_| DataSet::default());
                references.insert(index, opened);
            }
        }
        let ready = Prepared::new(&input, &table, &references, &columns)?;
        let keyed = input
            .rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let purpose = match rule.check {
                    Check::Uniqueness { .. } => Purpose::Uniqueness(index),
                    Check::Duplicates { .. } => Purpose::Duplicates(index),
                    Check::Referential { .. } => Purpose::Referential(index),
                    _ => return None,
                };
                Some(Keyed::new(purpose, ready.rules.get(index)?.columns.clone()))
            })
            .collect();
        let mut job = Self {
            cursor: Cursor::new(None),
            counted: input.rules.iter().map(|_| Counted::default()).collect(),
            plan: input,
            table,
            references,
            reading: Reading::Table,
            pass: 0,
            position: Position::default(),
            rows: 0,
            ragged_rows: 0,
            keyed,
            columns,
            results: BTreeMap::new(),
            ready: Some(ready),
        };
        job.begin_pass();
        Ok(job)
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let mut ready = match self.ready.take() {
            Some(ready) => ready,
            None => Prepared::new(&self.plan, &self.table, &self.references, &self.columns)?,
        };
        let before = self.position.offset;
        let ended = match self.reading {
            Reading::Table => self.read_table(&mut ready, context)?,
            Reading::References(index) => self.read_references(&ready, index, context)?,
        };
        self.cursor.advance(self.position.offset - before);
        if ended {
            match self.reading {
                Reading::References(index) => self.read_next(index + 1),
                Reading::Table => {
                    self.end_pass(&ready, context)?;
                    if self.is_done() {
                        return self.finish(context).map(Step::Done);
                    }
                    self.begin_pass();
                }
            }
        }
        self.ready = Some(ready);
        let doing = match self.reading {
            Reading::References(_) => "references",
            Reading::Table => "table",
        };
        let message = format!("pass {}, {doing}, row {}", self.pass, self.position.rows);
        Ok(self.plan.pace.step(self.cursor.progress().saying(message), context))
    }
}

impl Profiling {
    fn begin_pass(&mut self) {
        self.pass += 1;
        self.read_next(0);
        let references: u64 = (self.keyed.iter())
            .filter(|check| !check.done)
            .filter_map(|check| self.reference_of(check).map(Table::size))
            .sum();
        // As many passes more as the slowest check needs at the pace it has had.
        let slowest = self.keyed.iter().map(Keyed::share_done).fold(1.0, f64::min);
        let passes_behind = f64::from(self.pass - 1);
        let passes_left =
            if slowest > 0.0 { (passes_behind * (1.0 - slowest) / slowest).ceil().max(1.0) } else { 1.0 };
        let left = (self.table.size() + references) as f64 * passes_left;
        self.cursor.set_total(self.cursor.index() + left as u64);
    }

    fn reference_of(&self, check: &Keyed) -> Option<&Table> {
        match check.purpose {
            Purpose::Referential(rule) => {
                self.references.get(&rule).map(|other| other.as_ref().unwrap_or(&self.table))
            }
            _ => None,
        }
    }

    /// Goes to the next references that must be read in this pass, or to the table.
    fn read_next(&mut self, from: usize) {
        self.position = Position::default();
        let next = self.keyed.iter().enumerate().skip(from);
        self.reading = next
            .filter(|(_, check)| check.is_referential() && !check.done)
            .map(|(index, _)| Reading::References(index))
            .next()
            .unwrap_or(Reading::Table);
    }

    fn read_references(
        &mut self,
        ready: &Prepared,
        index: usize,
        context: &Context,
    ) -> Result<bool, Failure> {
        let Self { plan, table, references, position, keyed, .. } = self;
        let Some(rule) = keyed.get(index).and_then(Keyed::rule) else { return Ok(true) };
        let other = references.get_mut(&rule).and_then(Option::as_mut).unwrap_or(table);
        let columns = ready.referred.get(&rule).map(Vec::as_slice).unwrap_or_default();
        let mut buffer = Vec::new();
        other.scan(position, plan.pace, context, |row| {
            if let Some(check) = keyed.get_mut(index) {
                check.refer(row, columns, &mut buffer);
            }
            keyed::make_room(keyed, KEYS_MAX / 2, Keyed::is_referential);
            Ok(())
        })
    }

    fn read_table(&mut self, ready: &mut Prepared, context: &Context) -> Result<bool, Failure> {
        let Self { plan, table, position, counted, keyed, columns, pass, .. } = self;
        let first = *pass == 1;
        let room = plan.evidence_max;
        let Prepared { key, rules, answers, .. } = ready;
        let mut pieces = Pieces { columns, kept: Kept::default(), numbers: Vec::new() };
        pieces.measure();
        let referred: usize = keyed.iter().filter(|check| check.is_referential()).map(Keyed::held).sum();
        let names = table.columns().to_vec();
        let mut buffer = Vec::new();
        table.scan(position, plan.pace, context, |row| {
            if first {
                pieces.look(row);
                for ((rule, answers), counted) in rules.iter().zip(answers.iter_mut()).zip(counted.iter_mut())
                {
                    let number = answers.as_mut().and_then(|(place, answers)| {
                        pieces.numbers.get(*place).copied().flatten().map(|number| (number as usize, answers))
                    });
                    look(rule, number, counted, row, room, || show(&names, key, &rule.columns, row));
                }
            } else {
                pieces.look_for_quantiles(row);
            }
            for check in keyed.iter_mut().filter(|check| !check.done) {
                let rule = check.rule().and_then(|rule| rules.get(rule));
                let in_scope = rule.is_none_or(|rule| rule.only.holds(row));
                check.look(row, in_scope, room, &mut buffer, |columns| show(&names, key, columns, row));
            }
            keyed::make_room(keyed, KEYS_MAX - referred, |check| !check.is_referential());
            Ok(())
        })
    }

    fn end_pass(&mut self, ready: &Prepared, context: &mut Context) -> Result<(), Failure> {
        if self.pass == 1 {
            self.rows = self.position.rows;
            self.ragged_rows = self.position.ragged_rows;
            for (index, rule) in ready.rules.iter().enumerate() {
                if !matches!(rule.asks, Asks::Keyed) {
                    self.tell_row_rule(index, rule, context)?;
                }
            }
        }
        let open = self.keyed.iter().filter(|check| !check.done).count().max(1);
        for index in 0..self.keyed.len() {
            let Some(check) = self.keyed.get_mut(index).filter(|check| !check.done) else { continue };
            check.end_pass(KEYS_MAX / open / if check.is_referential() { 2 } else { 1 });
            if !check.done {
                continue;
            }
            if let Purpose::Distinct(place) = check.purpose
                && let Some(column) = self.columns.get_mut(place)
            {
                column.distinct = Some(check.distinct);
            }
            if let Some(rule) = check.rule() {
                let details = match check.purpose {
                    Purpose::Referential(_) => Details::default(),
                    _ => Details {
                        distinct: Some(check.distinct),
                        repeated_keys: Some(check.repeated),
                        ..Details::default()
                    },
                };
                let tally = std::mem::take(&mut check.tally);
                let columns = check.columns.clone();
                self.tell(rule, &columns, tally, details, context)?;
            }
        }
        for (place, column) in self.columns.iter_mut().enumerate() {
            if let Some(quantiles) = &mut column.quantiles {
                quantiles.end_pass();
            }
            if self.pass == 1 && column.is_large() {
                column.begin_quantiles();
                self.keyed.push(Keyed::new(Purpose::Distinct(place), vec![column.index]));
            }
        }
        Ok(())
    }

    fn tell_row_rule(&mut self, index: usize, rule: &Ready, context: &mut Context) -> Result<(), Failure> {
        let Some(counted) = self.counted.get_mut(index) else { return Ok(()) };
        let Counted { mut tally, newest_seconds } = std::mem::take(counted);
        let mut details = Details::default();
        if let (Some(Check::Freshness { as_of, max_age_days, every_row, .. }), Some(newest_seconds)) =
            (self.plan.rules.get(index).map(|rule| &rule.check), newest_seconds)
        {
            let (age_days, fresh) = rules::age(newest_seconds, as_of, *max_age_days)?;
            details.newest_seconds = Some(newest_seconds);
            details.newest_age_days = Some(age_days);
            if !every_row {
                tally.passed = u64::from(fresh);
                tally.failed = u64::from(!fresh);
            }
        }
        self.tell(index, &rule.columns, tally, details, context)
    }

    /// Emits the record of a rule that is known now, and keeps its account for the result.
    fn tell(
        &mut self,
        index: usize,
        columns: &[usize],
        tally: Tally,
        details: Details,
        context: &mut Context,
    ) -> Result<(), Failure> {
        let Some(rule) = self.plan.rules.get(index) else { return Ok(()) };
        let names = columns.iter().filter_map(|column| self.table.columns().get(*column).cloned()).collect();
        let report = RuleReport::new(rule, names, &tally, details);
        let record = "rule".to_owned();
        context.emit(&RuleRecord { record, report: report.clone(), evidence: tally.evidence })?;
        self.results.insert(index, report);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.keyed.iter().all(|check| check.done)
            && self.columns.iter().filter_map(|column| column.quantiles.as_ref()).all(Quantiles::done)
    }

    fn finish(&mut self, context: &mut Context) -> Result<Output, Failure> {
        let results = std::mem::take(&mut self.results).into_values().collect();
        let mut profiles = BTreeMap::new();
        for column in &self.columns {
            let profile = column.profile();
            let name = self.table.columns().get(column.index).cloned().unwrap_or_default();
            let record = "column".to_owned();
            context.emit(&ColumnRecord { record, column: name, profile: profile.clone() })?;
            profiles.insert(column.index, profile);
        }
        let output = Output::new(results, self.table.columns(), profiles);
        Ok(Output { rows: self.rows, ragged_rows: self.ragged_rows, passes: self.pass, ..output }.cut())
    }
}

/// Runs a row rule. `known` are the number of the rule's value among the different ones, and the answers
/// given so far by number.
fn look(
    rule: &Ready,
    known: Option<(usize, &mut Vec<Option<bool>>)>,
    counted: &mut Counted,
    row: &Row<'_>,
    room: usize,
    show: impl FnOnce() -> Evidence,
) {
    if matches!(rule.asks, Asks::Keyed) {
        return;
    }
    let verdict = if !rule.only.holds(row) {
        Verdict::Skip
    } else if let (Asks::Value(test), Some((number, answers)), Some(column)) =
        (&rule.asks, known, rule.columns.first())
    {
        if answers.len() <= number {
            answers.resize(number + 1, None);
        }
        match row.get(*column) {
            None => Verdict::Skip,
            Some(field) => (*answers[number].get_or_insert_with(|| test.passes(field))).into(),
        }
    } else {
        rule.verdict(row)
    };
    if let (Asks::Newest(format) | Asks::NotBefore(format, _), Some(column)) =
        (&rule.asks, rule.columns.first())
        && rule.only.holds(row)
        && let Some(seconds) = row.get(*column).and_then(|field| format.seconds(field))
    {
        counted.newest_seconds = counted.newest_seconds.max(Some(seconds));
        if matches!(rule.asks, Asks::Newest(_)) {
            return;
        }
    }
    counted.tally.count(verdict, room, show);
}

/// The profiled columns while rows come in, and how much of their values is kept.
struct Pieces<'a> {
    columns: &'a mut Vec<Column>,
    kept: Kept,
    /// For each column the number of the row's value among the different ones.
    numbers: Vec<Option<u32>>,
}

#[derive(Default)]
struct Kept {
    values: usize,
    bytes: usize,
}

impl Pieces<'_> {
    fn measure(&mut self) {
        let kept = self.columns.iter().map(Column::kept);
        let (values, bytes) = kept.fold((0, 0), |sum, kept| (sum.0 + kept.0, sum.1 + kept.1));
        self.kept = Kept { values, bytes };
    }

    fn look(&mut self, row: &Row<'_>) {
        self.numbers.clear();
        for place in 0..self.columns.len() {
            let Some(column) = self.columns.get_mut(place) else { continue };
            let before = column.kept();
            let number = column.look(row.get(column.index));
            self.numbers.push(number);
            let after = column.kept();
            if after.0 > before.0 {
                self.kept.values += after.0 - before.0;
                self.kept.bytes += after.1 - before.1;
                if after.0 > VALUES_MAX {
                    column.give_up_values();
                    self.measure();
                }
                while self.kept.values > VALUES_MAX_IN_ALL || self.kept.bytes > VALUES_BYTES_MAX_IN_ALL {
                    let Some(largest) = self.columns.iter_mut().max_by_key(|column| column.kept().1) else {
                        break;
                    };
                    largest.give_up_values();
                    self.measure();
                }
            }
        }
    }

    fn look_for_quantiles(&mut self, row: &Row<'_>) {
        for column in self.columns.iter_mut() {
            if let Some(quantiles) = &mut column.quantiles
                && !quantiles.done()
                && let Some(number) = row.get(column.index).and_then(value::number)
            {
                quantiles.look(number);
            }
        }
    }
}
