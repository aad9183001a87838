//! The job type `generate_profiling_rules`: data-quality rules for the attributes of a report, ready for
//! `execute_profiling_rules`.
//!
//! First some rows of the table are read. Then each step writes the rules of some attributes ([`write`]), from what the
//! attribute says of itself and what the column's profile shows, and tries every one on those rows: a rule that cannot be
//! compiled, or says nothing of any row, is dropped with the reason. Where it is asked for, a language model then proposes more
//! ([`propose`]), which are tried likewise.

use waymark_report::attribute::column_of;
use waymark_report::{Attribute, Mapping};
use waymark_rules::input::{self as rules, Rule};
use waymark_rules::output::ColumnReport;
use waymark_rules::rules::{Asks, Ready};
use waymark_rules::tally::Verdict;
use waymark_sdk::prelude::*;
use waymark_sdk::serde_json::Map;
use waymark_table::{Columns, DataSet, Pace, Position, Table, value};

pub mod propose;
pub mod write;

/// Attributes of one job.
pub const ATTRIBUTES_MAX: usize = 500;
/// Rows that rules may be tried on.
pub const SAMPLE_ROWS_MAX: u64 = 5_000;
/// Bytes of values of those rows: they lie in every checkpoint.
const SAMPLE_BYTES_MAX: usize = 1 << 20;
/// Attributes whose rules a step writes and tries.
const ATTRIBUTES_PER_STEP: usize = 5;

/// What rules are wanted for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The table.
    pub data_set: DataSet,
    /// Its key, which the rules' evidence shows; it is checked for being there and unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Columns>,
    /// Attributes, at most 500.
    pub attributes: Vec<Attribute>,
    /// Where attributes are found, as from `auto_map_pdes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// What the columns hold: `columns` of the result of `execute_profiling_rules`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnReport>,
    /// Rows that rules are tried on, 1 to 5,000; 1,000 by default.
    #[serde(default = "sample_rows")]
    #[schemars(range(min = 1, max = 5_000))]
    pub sample_rows: u64,
    /// Let a language model propose more rules, where one is granted. Each is tried on the sample rows.
    #[serde(default)]
    pub ask_model: bool,
}

fn sample_rows() -> u64 {
    1_000
}

/// A rule that was dropped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// The rule.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// What a job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Input of an `execute_profiling_rules`: the table, its key, and the rules.
    pub job: rules::Input,
    /// Rules kept.
    pub rules: usize,
    /// Of those, rules that a language model proposed.
    pub proposed: usize,
    /// Rules that do not evaluate.
    pub dropped: Vec<Dropped>,
    /// Attributes without a column.
    pub unmapped: Vec<String>,
    /// False where the soft limit came before the last attribute.
    pub complete: bool,
}

/// A generating job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Generating {
    #[serde(flatten)]
    cursor: Cursor,
    plan: Input,
    table: Table,
    position: Position,
    sampled: bool,
    sample: Vec<Map<String, Value>>,
    sample_bytes: usize,
    done: usize,
    kept: Vec<Rule>,
    dropped: Vec<Dropped>,
    unmapped: Vec<String>,
    /// Rules kept that a model proposed.
    #[serde(default)]
    proposed: usize,
    /// There turned out to be no model.
    #[serde(default)]
    no_model: bool,
}

impl Job for Generating {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "generate_profiling_rules";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str =
        "Writes data-quality rules for the attributes of a report, each tried on sample rows.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:llm", "waymark:sql"];

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        if input.attributes.is_empty() || input.attributes.len() > ATTRIBUTES_MAX {
            return Err(Failure::invalid_input(format_args!("`attributes` must be 1 to {ATTRIBUTES_MAX}")));
        }
        if !(1..=SAMPLE_ROWS_MAX).contains(&input.sample_rows) {
            return Err(Failure::invalid_input(format_args!("`sample_rows` must be 1 to {SAMPLE_ROWS_MAX}")));
        }
        let table = Table::open(input.data_set.clone())?;
        if let Some(key) = &input.key {
            table.indexes(key)?;
        }
        // The sample counts as one unit.
        let cursor = Cursor::new(1 + input.attributes.len() as u64);
        Ok(Self {
            cursor,
            plan: input,
            table,
            position: Position::default(),
            sampled: false,
            sample: Vec::new(),
            sample_bytes: 0,
            done: 0,
            kept: Vec::new(),
            dropped: Vec::new(),
            unmapped: Vec::new(),
            proposed: 0,
            no_model: false,
        })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        if !self.sampled {
            self.read(context)?;
            return Ok(Step::Progress(self.cursor.progress().saying("reading sample rows")));
        }
        let late = context.job().soft_limit_ms == Some(0);
        if late || self.done == self.plan.attributes.len() {
            return Ok(Step::Done(self.output()));
        }
        // The rows as a table of their own, opened once for the step.
        let rows = DataSet {
            rows: Some(self.sample.clone()),
            null_values: self.plan.data_set.null_values.clone(),
            ..DataSet::default()
        };
        let mut sample = Table::open(rows)?;
        if self.done == 0
            && let Some(key) = self.plan.key.clone()
        {
            self.keep(write::of_key(&key), By::Rules, &mut sample, context)?;
        }
        let mut subjects = Vec::new();
        for _ in 0..ATTRIBUTES_PER_STEP {
            let Some(attribute) = self.plan.attributes.get(self.done) else { break };
            let column = column_of(&self.plan.mappings, &attribute.name);
            match column.filter(|column| self.table.column(column).is_ok()) {
                Some(column) => {
                    let report = self.plan.columns.iter().find(|report| report.column == column);
                    let profile = report.and_then(|report| report.profile.as_ref());
                    let rules = write::of_attribute(attribute, column, profile);
                    if self.plan.ask_model && !self.no_model {
                        subjects.push(propose::Subject::new(
                            attribute,
                            column,
                            profile,
                            &self.sample,
                            &rules,
                        ));
                    }
                    self.keep(rules, By::Rules, &mut sample, context)?;
                }
                None => self.unmapped.push(attribute.name.clone()),
            }
            self.done += 1;
            self.cursor.advance(1);
            if context.should_yield() {
                break;
            }
        }
        if !subjects.is_empty() {
            let names: Vec<&str> = self.table.columns().iter().map(String::as_str).collect();
            match propose::ask(&subjects, &names, context)? {
                Some(rules) => self.keep(rules, By::Model, &mut sample, context)?,
                None => self.no_model = true,
            }
        }
        Ok(Step::Progress(self.cursor.progress()))
    }
}

/// Who wrote a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Rules,
    Model,
}

impl Generating {
    /// Reads on, until there are rows enough.
    fn read(&mut self, context: &Context) -> Result<(), Failure> {
        let Self { plan, table, position, sample, sample_bytes, .. } = self;
        let names = table.columns().to_vec();
        let left = plan.sample_rows.saturating_sub(position.rows);
        let pace = Pace { rows_per_step: std::num::NonZeroU64::new(left), rest_ms: None };
        let ended = table.scan(position, pace, context, |row| {
            if *sample_bytes > SAMPLE_BYTES_MAX {
                return Ok(());
            }
            let field = |(index, name): (usize, &String)| {
                let value = row.get(index).map_or(Value::Null, |field| Value::from(value::text(field)));
                (name.clone(), value)
            };
            let record: Map<String, Value> = names.iter().enumerate().map(field).collect();
            *sample_bytes += record.values().map(|value| value.as_str().map_or(4, str::len)).sum::<usize>();
            sample.push(record);
            Ok(())
        })?;
        if ended || position.rows >= plan.sample_rows || *sample_bytes > SAMPLE_BYTES_MAX {
            self.sampled = true;
            self.cursor.advance(1);
            if self.sample.is_empty() {
                return Err(Failure::invalid_input("the table has no rows to try rules on"));
            }
        }
        Ok(())
    }

    /// Tries rules on the sample, keeps those that evaluate, and tells of each. Of a model's rules, those are dropped as well
    /// that every row fails, or that are there already.
    fn keep(
        &mut self,
        rules: Vec<Rule>,
        by: By,
        sample: &mut Table,
        context: &mut Context,
    ) -> Result<(), Failure> {
        for rule in rules {
            let mut tried = tried(&rule, sample, context);
            if by == By::Model {
                tried = match tried {
                    Ok((0, failed)) if failed > 0 => Err("every sample row fails it".to_owned()),
                    Ok(_) if self.kept.iter().any(|kept| propose::same(kept, &rule)) => {
                        Err("it is there already".to_owned())
                    }
                    tried => tried,
                };
            }
            match tried {
                Ok((passed, failed)) => {
                    context.emit(&json!({
                        "record": "rule", "by": by, "rule": rule, "sample_passed": passed, "sample_failed": failed,
                    }))?;
                    self.proposed += usize::from(by == By::Model);
                    self.kept.push(rule);
                }
                Err(reason) => {
                    context.emit(&json!({"record": "dropped", "by": by, "rule": rule, "reason": reason}))?;
                    self.dropped.push(Dropped { id: rule.id, reason });
                }
            }
        }
        Ok(())
    }

    fn output(&mut self) -> Output {
        let rules = std::mem::take(&mut self.kept);
        Output {
            rules: rules.len(),
            proposed: self.proposed,
            job: rules::Input {
                data_set: self.plan.data_set.clone(),
                key: self.plan.key.clone(),
                rules,
                profile: true,
                profile_columns: None,
                evidence_max: 10,
                pace: Pace::default(),
            },
            dropped: std::mem::take(&mut self.dropped),
            unmapped: std::mem::take(&mut self.unmapped),
            complete: self.done == self.plan.attributes.len(),
        }
    }
}

/// Rows of the sample that pass and that fail; of a rule that looks at all rows together, only whether it can be run.
///
/// # Errors
/// Why the rule does not evaluate.
fn tried(rule: &Rule, sample: &mut Table, context: &Context) -> Result<(u64, u64), String> {
    let ready = Ready::new(sample, rule).map_err(|failure| failure.to_string())?;
    if matches!(ready.asks, Asks::Keyed | Asks::Newest(_)) {
        return Ok((0, 0));
    }
    let (mut passed, mut failed) = (0, 0);
    let mut position = Position::default();
    loop {
        let ended = sample.scan(&mut position, Pace::default(), context, |row| {
            if ready.only.holds(row) {
                match ready.verdict(row) {
                    Verdict::Pass => passed += 1,
                    Verdict::Fail => failed += 1,
                    Verdict::Skip => {}
                }
            }
            Ok(())
        });
        if ended.map_err(|failure| failure.to_string())? {
            break;
        }
    }
    if passed + failed == 0 {
        Err("it says nothing of any sample row".to_owned())
    } else {
        Ok((passed, failed))
    }
}

waymark_sdk::export!(Generating);
