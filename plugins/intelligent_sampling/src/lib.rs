//! The job type `intelligent_sampling`: draws a sample from a table for testing.
//!
//! The table is read once to count (strata, edges), where the strategy needs it; once to find the edge
//! cases, where they are asked for; and once to choose. Memory grows with the sample and the number of
//! strata, not with the table. In the order in which a job meets them: [`input`], [`strata`], [`edges`],
//! [`pick`].

use std::collections::BTreeMap;

use waymark_sdk::prelude::*;
use waymark_table::{Filter, Position, Row, Table, value};

pub mod edges;
pub mod input;
pub mod pick;
pub mod strata;

use edges::{Case, Facts};
use input::{
    Allocation, Chosen, Coverage, EdgeCases, Input, Output, Population, SAMPLE_BYTES_MAX, SAMPLE_SIZE_MAX,
    Strategy,
};
use pick::Pick;
use strata::{Labels, Stratum};

/// What the present pass over the table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pass {
    Count,
    FindEdges,
    Choose,
}

/// A sampling job: the plan, how far it is, what it has found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sampling {
    /// In bytes of the file (or rows of the input) over all passes.
    #[serde(flatten)]
    cursor: Cursor,
    plan: Input,
    table: Table,
    pass: Pass,
    /// True in the first pass, whichever it is: it counts the population.
    counting: bool,
    position: Position,
    rows_matching: u64,
    rows_without_weight: u64,
    strata: BTreeMap<String, Stratum>,
    facts: Vec<Facts>,
    cases: Vec<Case>,
    /// Edge cases that are in the sample, by row, each with its reason.
    edge_rows: BTreeMap<u64, (Pick, String)>,
    edges: Vec<input::Edge>,
    #[serde(skip)]
    ready: Option<Ready>,
}

/// The plan made ready for the table; made again after a restore.
#[derive(Debug)]
struct Ready {
    filter: Filter,
    key: Vec<usize>,
    include: Vec<usize>,
    labels: Labels,
    weight: Option<usize>,
}

impl Ready {
    fn new(plan: &Input, table: &Table) -> Result<Self, Failure> {
        Ok(Self {
            filter: Filter::new(table, &plan.filters)?,
            key: table.indexes(&plan.key)?,
            include: plan.include.iter().map(|name| table.column(name)).collect::<Result<_, _>>()?,
            labels: match &plan.strategy {
                Strategy::Stratified { by, .. } => Labels::new(table, by)?,
                _ => Labels::default(),
            },
            weight: match &plan.strategy {
                Strategy::RiskWeighted { column, .. } => Some(table.column(column)?),
                _ => None,
            },
        })
    }

    fn pick(&self, row: &Row<'_>, score: u64, stratum: &str, note: String) -> Pick {
        let values =
            |columns: &[usize]| columns.iter().map(|column| row.get(*column).map(value::text)).collect();
        Pick {
            score,
            row: row.number,
            key: values(&self.key),
            include: values(&self.include),
            stratum: stratum.to_owned(),
            note,
        }
    }
}

impl Input {
    /// The settings of the edge cases, if any are asked for.
    fn edges(&self) -> Option<EdgeCases> {
        match (&self.strategy, &self.edge_cases) {
            (Strategy::EdgeCases {}, edges) => {
                Some(EdgeCases { share_max: 1.0, ..edges.clone().unwrap_or_default() })
            }
            (_, edges) => edges.clone(),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        if self.sample_size == 0 || self.sample_size > SAMPLE_SIZE_MAX {
            return Err(Failure::invalid_input(format_args!("`sample_size` must be 1 to {SAMPLE_SIZE_MAX}")));
        }
        if let Some(edges) = &self.edge_cases {
            if !(edges.share_max > 0.0 && edges.share_max <= 1.0) {
                return Err(Failure::invalid_input("`edge_cases.share_max` must be above 0, and 1 at most"));
            }
            if !(edges.rare_below >= 0.0 && edges.rare_below <= 1.0) {
                return Err(Failure::invalid_input("`edge_cases.rare_below` must be 0 to 1"));
            }
            if edges.per_case == 0 || edges.per_case > 100 {
                return Err(Failure::invalid_input("`edge_cases.per_case` must be 1 to 100"));
            }
        }
        Ok(())
    }

    /// Weight of a field under the strategy `risk_weighted`.
    fn weight(&self, field: Option<&[u8]>) -> f64 {
        let Strategy::RiskWeighted { weights, default_weight, .. } = &self.strategy else { return 1.0 };
        let weight = match (weights, field) {
            (_, None) => *default_weight,
            (None, Some(field)) => value::number(field).unwrap_or(*default_weight),
            (Some(weights), Some(field)) => {
                weights.get(String::from_utf8_lossy(field).as_ref()).copied().unwrap_or(*default_weight)
            }
        };
        if weight > 0.0 { weight } else { 0.0 }
    }
}

impl Job for Sampling {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "intelligent_sampling";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Draws a sample from a table for testing: at random, by strata, by risk, and at \
                               the edges of the data.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:sql"];

    fn start(mut input: Input, _: &mut Context) -> Result<Self, Failure> {
        input.check()?;
        let table = Table::open(std::mem::take(&mut input.data_set))?;
        let ready = Ready::new(&input, &table)?;
        let edges = input.edges();
        let facts = match &edges {
            None => Vec::new(),
            Some(EdgeCases { columns: Some(names), .. }) => {
                let mut columns =
                    names.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>()?;
                columns.sort_unstable();
                columns.dedup();
                columns.into_iter().map(Facts::new).collect()
            }
            Some(_) => (0..table.columns().len())
                .filter(|column| !ready.key.contains(column))
                .map(Facts::new)
                .collect(),
        };
        let pass = match input.strategy {
            Strategy::Stratified { .. } => Pass::Count,
            _ if edges.is_some() => Pass::Count,
            _ => Pass::Choose,
        };
        let mut passes = if pass == Pass::Count { 2 } else { 1 };
        if edges.is_some() && !matches!(input.strategy, Strategy::EdgeCases {}) {
            passes += 1;
        }
        let mut job = Self {
            cursor: Cursor::new(table.size() * passes),
            plan: input,
            table,
            pass,
            counting: true,
            position: Position::default(),
            rows_matching: 0,
            rows_without_weight: 0,
            strata: BTreeMap::new(),
            facts,
            cases: Vec::new(),
            edge_rows: BTreeMap::new(),
            edges: Vec::new(),
            ready: Some(ready),
        };
        if job.pass == Pass::Choose {
            // One stratum that gets the whole sample: nothing needs to be counted before.
            let drawn = pick::Lowest::new(job.plan.sample_size as usize);
            let allotted = job.plan.sample_size;
            job.strata.insert(String::new(), Stratum { allotted, drawn, ..Stratum::default() });
        }
        Ok(job)
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let ready = match self.ready.take() {
            Some(ready) => ready,
            None => Ready::new(&self.plan, &self.table)?,
        };
        let before = self.position.offset;
        let ended = self.read_on(&ready, context)?;
        self.cursor.advance(self.position.offset - before);
        if ended {
            self.counting = false;
            if self.end_pass()? {
                return self.finish(&ready, context).map(Step::Done);
            }
            self.position = Position::default();
        }
        let doing = match self.pass {
            Pass::Count => "counting",
            Pass::FindEdges => "finding edge cases",
            Pass::Choose => "choosing",
        };
        self.ready = Some(ready);
        let progress = self.cursor.progress().saying(format!("{doing}, row {}", self.position.rows));
        Ok(self.plan.pace.step(progress, context))
    }
}

impl Sampling {
    fn read_on(&mut self, ready: &Ready, context: &Context) -> Result<bool, Failure> {
        let Self { plan, table, pass, counting, position, rows_matching, rows_without_weight, .. } = self;
        let Self { strata, facts, cases, edge_rows, .. } = self;
        let mut label = String::new();
        table.scan(position, plan.pace, context, |row| {
            if !ready.filter.holds(row) {
                return Ok(());
            }
            let weight = ready.weight.map(|column| plan.weight(row.get(column)));
            ready.labels.write(row, &mut label);
            if *counting {
                *rows_matching += 1;
                *rows_without_weight += u64::from(weight == Some(0.0));
                strata::count(strata, &label)?;
            }
            let number = pick::number(plan.seed, row.number);
            match pass {
                Pass::Count => {
                    for facts in facts.iter_mut() {
                        facts.learn(row.get(facts.column));
                    }
                }
                Pass::FindEdges => {
                    let make = || ready.pick(row, number, &label, String::new());
                    edges::offer(cases, |column| row.get(column), number, row.number, make);
                }
                Pass::Choose => {
                    if weight == Some(0.0) || edge_rows.contains_key(&row.number) {
                        return Ok(());
                    }
                    let Some(stratum) = strata.get_mut(label.as_str()) else { return Ok(()) };
                    let score = weight.map_or(number, |weight| pick::weighted(number, weight));
                    stratum.drawn.offer(score, row.number, || {
                        let note = weight.map(|weight| format!(" {weight}")).unwrap_or_default();
                        ready.pick(row, score, &label, note)
                    });
                }
            }
            Ok(())
        })
    }

    /// Prepares the next pass; true when there is none.
    fn end_pass(&mut self) -> Result<bool, Failure> {
        let edges = self.plan.edges();
        match (self.pass, &edges) {
            (Pass::Count, Some(edges)) => {
                self.cases = edges::cases(&std::mem::take(&mut self.facts), edges);
                self.pass = Pass::FindEdges;
                return Ok(false);
            }
            (Pass::FindEdges, Some(edges)) => {
                let room = (f64::from(self.plan.sample_size) * edges.share_max).ceil() as usize;
                let cases = std::mem::take(&mut self.cases);
                (self.edge_rows, self.edges) = edges::choose(cases, self.table.columns(), room);
                for (pick, _) in self.edge_rows.values() {
                    if let Some(stratum) = self.strata.get_mut(&pick.stratum) {
                        stratum.edges += 1;
                    }
                }
            }
            (Pass::Choose, _) => return Ok(true),
            _ => {}
        }
        match self.plan.strategy {
            Strategy::EdgeCases {} => {
                for stratum in self.strata.values_mut() {
                    stratum.allotted = stratum.edges;
                }
                return Ok(true);
            }
            Strategy::Stratified { allocation, min_per_stratum, .. } => {
                strata::allot(&mut self.strata, self.plan.sample_size, allocation, min_per_stratum)?;
            }
            _ => strata::allot(&mut self.strata, self.plan.sample_size, Allocation::Proportional, 0)?,
        }
        for stratum in self.strata.values_mut() {
            stratum.drawn = pick::Lowest::new((stratum.allotted - stratum.edges) as usize);
        }
        self.pass = Pass::Choose;
        Ok(false)
    }

    fn finish(&mut self, ready: &Ready, context: &mut Context) -> Result<Output, Failure> {
        let reason = match &self.plan.strategy {
            Strategy::Random {} => "random".to_owned(),
            Strategy::Stratified { .. } => "share of its stratum".to_owned(),
            Strategy::RiskWeighted { column, .. } => format!("risk by {column}: weight"),
            Strategy::EdgeCases {} => String::new(),
        };
        let mut coverage = Vec::new();
        let mut rows: BTreeMap<u64, (Pick, String)> = std::mem::take(&mut self.edge_rows);
        for (label, stratum) in std::mem::take(&mut self.strata) {
            let sampled = stratum.drawn.count() as u32 + stratum.edges;
            coverage.push(Coverage {
                stratum: ready.labels.read(&label),
                population: stratum.population,
                allotted: (u64::from(stratum.allotted)).min(stratum.population) as u32,
                sampled,
                share: if stratum.population == 0 {
                    0.0
                } else {
                    f64::from(sampled) / stratum.population as f64
                },
            });
            for pick in stratum.drawn.into_sorted() {
                let reason = format!("{reason}{}", pick.note);
                rows.insert(pick.row, (pick, reason));
            }
        }
        let mut sample = Vec::new();
        let mut sample_bytes = 0;
        let sample_size = rows.len() as u32;
        for (row, (pick, reason)) in rows {
            let stratum = ready.labels.read(&pick.stratum);
            let key = self.key(pick.key);
            let values: BTreeMap<_, _> = self.plan.include.iter().zip(&pick.include).collect();
            context.emit(&json!({
                "key": key, "row": row, "stratum": stratum, "reason": reason, "values": values
            }))?;
            let chosen = Chosen { key, row, stratum, reason };
            sample_bytes += json!(chosen).to_string().len() + 1;
            if sample_bytes <= SAMPLE_BYTES_MAX {
                sample.push(chosen);
            }
        }
        Ok(Output {
            population: Population {
                rows: self.position.rows,
                rows_matching: self.rows_matching,
                rows_without_weight: self.rows_without_weight,
                ragged_rows: self.position.ragged_rows,
            },
            sample_size_asked: self.plan.sample_size,
            sample_size,
            sample_complete: sample.len() == sample_size as usize,
            sample,
            coverage,
            edge_cases: std::mem::take(&mut self.edges),
        })
    }

    fn key(&self, mut values: Vec<Option<String>>) -> Value {
        match self.plan.key.names() {
            [_] => values.pop().flatten().map_or(Value::Null, Value::String),
            names => names.iter().cloned().zip(values.into_iter().map(Value::from)).collect(),
        }
    }
}

waymark_sdk::export!(Sampling);
