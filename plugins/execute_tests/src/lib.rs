//! The job type `execute_tests`: compares what a source says with what the evidence says, value by value.
//!
//! Cases are given one by one, or made of a sample's keys and the attributes: then the source is read for what is expected
//! ([`Stage::Source`]). Evidence is rows, CSV text or a file, read once ([`Stage::Evidence`]), or the text of documents. Then
//! each step compares some cases ([`case`]). Where it is asked for, a language model first looks for values in documents that have
//! no label for them ([`read`]).

use std::collections::{BTreeMap, BTreeSet};

use waymark_report::attribute::column_of;
use waymark_sdk::prelude::*;
use waymark_table::{Pace, Position, Row, Table, value};

pub mod case;
pub mod document;
pub mod input;
pub mod read;

use case::{Case, Outcome, Status, Tested};
use input::{Input, key_text};

/// Cases of one job.
pub const CASES_MAX: usize = 20_000;
/// Cases that a step compares.
const CASES_PER_STEP: usize = 200;
/// Bytes of values that a job keeps of source and evidence: they lie in every checkpoint.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// Failed and inconclusive cases that the result shows; the output records hold all.
const SHOWN_MAX: usize = 500;

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading what is expected.
    Source,
    /// Reading what was found.
    Evidence,
    /// Comparing.
    Compare,
}

/// Values by key and column.
type Found = BTreeMap<String, BTreeMap<String, String>>;

/// A test execution.
#[derive(Debug, Serialize, Deserialize)]
pub struct Execution {
    /// In cases, and in bytes or rows of what is read for them.
    #[serde(flatten)]
    cursor: Cursor,
    plan: Input,
    stage: Stage,
    position: Position,
    source: Option<Table>,
    evidence: Option<Table>,
    expected: Found,
    found: Found,
    kept_bytes: usize,
    /// Keys of evidence with more than one row.
    twice: BTreeSet<String>,
    cases: Vec<Case>,
    tested: Vec<Tested>,
    done: usize,
    /// There turned out to be no model.
    #[serde(default)]
    no_model: bool,
}

/// What a job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Cases by how they ended.
    pub counts: Counts,
    /// Part of the conclusive cases that passed; null where there is none.
    pub pass_rate: Option<f64>,
    /// The same for each attribute, in the order of the input.
    pub attributes: Vec<AttributeResult>,
    /// Failed and inconclusive cases, at most 500; the output records hold all.
    pub exceptions: Vec<Outcome>,
}

/// Cases by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub total: usize,
    pub passed: usize,
    pub failed: usize,
    pub inconclusive: usize,
}

/// An attribute's cases.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AttributeResult {
    /// Its name.
    pub attribute: String,
    /// Its cases by how they ended.
    pub counts: Counts,
    /// Part of the conclusive ones that passed.
    pub pass_rate: Option<f64>,
}

impl Job for Execution {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "execute_tests";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str =
        "Compares sampled values with evidence: pass, fail or inconclusive, with the reason.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:llm", "waymark:sql"];

    fn start(mut input: Input, _: &mut Context) -> Result<Self, Failure> {
        input.join();
        input.check()?;
        let source = match &mut input.source {
            Some(side) => Some(Table::open(std::mem::take(&mut side.data_set))?),
            None => None,
        };
        let evidence = match input.evidence.data_set()? {
            Some(data_set) => Some(Table::open(data_set)?),
            None => None,
        };
        let mut execution = Self {
            cursor: Cursor::new(None),
            plan: input,
            stage: Stage::Source,
            position: Position::default(),
            source,
            evidence,
            expected: Found::new(),
            found: Found::new(),
            kept_bytes: 0,
            twice: BTreeSet::new(),
            cases: Vec::new(),
            tested: Vec::new(),
            done: 0,
            no_model: false,
        };
        execution.cases = execution.plan.all_cases()?;
        if execution.cases.is_empty() || execution.cases.len() > CASES_MAX {
            return Err(Failure::invalid_input(format_args!(
                "{} cases: there must be 1 to {CASES_MAX}, of `cases`, or of `sample` and `attributes`",
                execution.cases.len()
            )));
        }
        let tables = execution.source.iter().chain(&execution.evidence).map(Table::size).sum::<u64>();
        execution.cursor.set_total(tables + execution.cases.len() as u64);
        Ok(execution)
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        match self.stage {
            Stage::Source => {
                if self.read(true, context)? {
                    self.stage = Stage::Evidence;
                }
                Ok(self.pace().step(self.cursor.progress().saying("reading what is expected"), context))
            }
            Stage::Evidence => {
                if self.read(false, context)? {
                    self.stage = Stage::Compare;
                }
                Ok(self.pace().step(self.cursor.progress().saying("reading evidence"), context))
            }
            Stage::Compare => self.compare(context),
        }
    }
}

impl Execution {
    fn pace(&self) -> Pace {
        self.plan.pace
    }

    /// Reads on in one of the tables, and keeps the values of the cases' keys. True at its end.
    fn read(&mut self, source: bool, context: &Context) -> Result<bool, Failure> {
        let Self { plan, position, cursor, expected, found, kept_bytes, twice, cases, .. } = self;
        let side = if source { &mut self.source } else { &mut self.evidence };
        let Some(table) = side else { return Ok(true) };
        let key = if source {
            plan.source.as_ref().map(|side| side.key.as_str())
        } else {
            plan.evidence.key.as_deref()
        };
        let key = table.column(key.unwrap_or("key"))?;
        let wanted: BTreeSet<&str> = cases.iter().filter_map(|case| case.key.as_deref()).collect();
        let columns = columns(plan, table, source)?;
        let kept = if source { expected } else { found };
        let before = position.offset;
        let ended = table.scan(position, plan.pace, context, |row| {
            let Some(key) = row.get(key).map(|key| value::text(key.trim_ascii())) else { return Ok(()) };
            if !wanted.contains(key.as_str()) {
                return Ok(());
            }
            let values = values(row, &columns);
            *kept_bytes += key.len() + values.iter().map(|(column, value)| column.len() + value.len()).sum::<usize>();
            if *kept_bytes > KEPT_BYTES_MAX {
                return Err(Failure::permanent(format_args!(
                    "the values to compare are more than {KEPT_BYTES_MAX} bytes: test fewer keys or attributes at once"
                )));
            }
            if kept.insert(key.clone(), values).is_some() && !source {
                twice.insert(key);
            }
            Ok(())
        })?;
        cursor.advance(position.offset.saturating_sub(before));
        if ended {
            *position = Position::default();
        }
        Ok(ended)
    }

    fn compare(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let mut end = self.cases.len().min(self.done + CASES_PER_STEP);
        if self.plan.ask_model && !self.no_model {
            let cases = self.cases.get_mut(self.done..end).unwrap_or_default();
            match read::read(cases, &self.plan, &self.found, context)? {
                Some(ready) => end = self.done + ready,
                None => self.no_model = true,
            }
        }
        while self.done < end {
            let Some(case) = self.cases.get(self.done) else { break };
            let outcome = case::outcome(case, &self.plan, &self.expected, &self.found, &self.twice);
            context.emit(&outcome)?;
            self.tested.push(Tested { attribute: case.attribute.clone(), status: outcome.status });
            self.done += 1;
            self.cursor.advance(1);
            if context.should_yield() {
                break;
            }
        }
        if self.done < self.cases.len() {
            let message = format!("{} of {} cases compared", self.done, self.cases.len());
            return Ok(Step::Progress(self.cursor.progress().saying(message)));
        }
        Ok(Step::Done(self.output()))
    }

    fn output(&self) -> Output {
        let count = |tested: &mut dyn Iterator<Item = &Tested>| {
            let mut counts = Counts::default();
            for one in tested {
                counts.total += 1;
                match one.status {
                    Status::Pass => counts.passed += 1,
                    Status::Fail => counts.failed += 1,
                    Status::Inconclusive => counts.inconclusive += 1,
                }
            }
            let conclusive = counts.passed + counts.failed;
            (counts, (conclusive > 0).then(|| counts.passed as f64 / conclusive as f64))
        };
        let (counts, pass_rate) = count(&mut self.tested.iter());
        let attributes = self.plan.attributes.iter().filter_map(|attribute| {
            let name = &attribute.name;
            let (counts, pass_rate) = count(&mut self.tested.iter().filter(|one| one.attribute == *name));
            (counts.total > 0).then(|| AttributeResult { attribute: name.clone(), counts, pass_rate })
        });
        let exceptions =
            self.cases.iter().zip(&self.tested).filter(|(_, tested)| tested.status != Status::Pass);
        let exceptions = exceptions
            .take(SHOWN_MAX)
            .map(|(case, _)| case::outcome(case, &self.plan, &self.expected, &self.found, &self.twice));
        Output { counts, pass_rate, attributes: attributes.collect(), exceptions: exceptions.collect() }
    }
}

/// The columns that are kept, with their indexes. One that the evidence lacks makes its cases inconclusive; the source must
/// have all.
fn columns(plan: &Input, table: &Table, source: bool) -> Result<Vec<(String, usize)>, Failure> {
    let mut columns = Vec::new();
    for attribute in &plan.attributes {
        let of_source = attribute.column.as_deref().or_else(|| column_of(&plan.mappings, &attribute.name));
        let name = if source { of_source } else { attribute.evidence_column.as_deref().or(of_source) };
        let Some(name) = name else { continue };
        let index = match table.column(name) {
            Ok(index) => index,
            Err(failure) if source => return Err(failure),
            Err(_) => continue,
        };
        columns.push((attribute.name.clone(), index));
    }
    Ok(columns)
}

fn values(row: &Row<'_>, columns: &[(String, usize)]) -> BTreeMap<String, String> {
    let value = |(name, index): &(String, usize)| Some((name.clone(), value::text(row.get(*index)?)));
    columns.iter().filter_map(value).collect()
}

/// A key as text, from a case or from a sample.
fn key(value: &Value) -> Result<String, Failure> {
    key_text(value)
        .ok_or_else(|| Failure::invalid_input(format_args!("a key is a text or a number, not {value}")))
}

waymark_sdk::export!(Execution);
