//! The job type `auto_map_pdes`: for each attribute of a report, the physical data element (a column of a table) that holds it.
//!
//! Where a connection is named, some values of each column are read first ([`evidence`]). Each step then scores some attributes
//! against the whole catalogue and keeps their best candidates ([`score`]), which a language model ranks where it is asked for
//! ([`rank`]); the last one chooses among them ([`choose`]), each attribute for itself or one to one.

use std::collections::BTreeMap;

use waymark_report::{Attribute, DataType};
use waymark_sdk::prelude::*;

pub mod choose;
pub mod evidence;
pub mod rank;
pub mod score;

use score::Ready;

/// Attributes of one job: their candidates are in the result.
pub const ATTRIBUTES_MAX: usize = 500;
/// Elements of a catalogue.
pub const CATALOGUE_MAX: usize = 5_000;
/// Candidates that are kept for each attribute.
pub const CANDIDATES_MAX: usize = 8;
/// Comparisons of an attribute with an element that a step makes, about: some 50 ms.
const COMPARISONS: usize = 20_000;

/// What to map.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Attributes, at most 500, each name once.
    pub attributes: Vec<Attribute>,
    /// Physical data elements, at most 5,000.
    pub catalogue: Vec<Pde>,
    /// Abbreviations beside the built-in ones, and what they are short for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub abbreviations: BTreeMap<String, String>,
    /// Groups of words that mean the same, beside the built-in ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub synonyms: Vec<Vec<String>>,
    /// Confidence below which there is no mapping, 0 to 1; 0.5 by default.
    #[serde(default = "min_confidence")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_confidence: f64,
    /// A mapping is ambiguous where another candidate comes as close as this; 0.05 by default.
    #[serde(default = "ambiguous_margin")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ambiguous_margin: f64,
    /// No element serves two attributes: the assignment with the greatest confidence in all.
    #[serde(default)]
    pub one_to_one: bool,
    /// Candidates that each mapping shows, 1 to 8; 3 by default.
    #[serde(default = "candidates_max")]
    #[schemars(range(min = 1, max = 8))]
    pub candidates_max: usize,
    /// A connection that is granted: elements without samples are shown with some values of their columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Let a language model rank the best candidates, where one is granted.
    #[serde(default)]
    pub ask_model: bool,
}

fn min_confidence() -> f64 {
    0.5
}

fn ambiguous_margin() -> f64 {
    0.05
}

fn candidates_max() -> usize {
    3
}

/// A physical data element.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pde {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The system that has the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What the column holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its type as the database names it, such as `varchar(20)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    /// Some of its values, which show a type where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<String>,
}

impl Pde {
    /// `system.table.column`.
    pub fn id(&self) -> String {
        let system = self.system.iter().map(String::as_str);
        system.chain([self.table.as_str(), self.column.as_str()]).collect::<Vec<_>>().join(".")
    }
}

/// An element that might hold an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// Its place in the catalogue, from 0.
    pub index: usize,
    /// `system.table.column`.
    pub pde: String,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// Why.
    pub reason: String,
}

/// How an attribute fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// One element is clearly the best.
    Mapped,
    /// The best one, but another comes close: a person should look.
    Ambiguous,
    /// None is good enough.
    Unmapped,
}

/// Where an attribute is found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// Name of the attribute.
    pub attribute: String,
    /// How it fared.
    pub status: Status,
    /// `system.table.column`; null where unmapped.
    pub pde: Option<String>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// How sure that is, 0 to 1; of the best candidate where unmapped.
    pub confidence: f64,
    /// Why this one, or none.
    pub reason: String,
    /// The best candidates, the chosen one among them.
    pub candidates: Vec<Candidate>,
}

/// What a job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// One for each attribute, in their order.
    pub mappings: Vec<Mapping>,
    /// Attributes by how they fared.
    pub counts: Counts,
    /// Critical attributes and mandatory ones without a mapping.
    pub gaps: Vec<String>,
    /// Elements that no attribute maps to.
    pub elements_unused: usize,
}

/// Attributes by how they fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub total: usize,
    pub mapped: usize,
    pub ambiguous: usize,
    pub unmapped: usize,
}

/// A mapping job: what is asked, and the candidates so far.
#[derive(Debug, Serialize, Deserialize)]
pub struct AutoMap {
    #[serde(flatten)]
    cursor: Cursor,
    plan: Input,
    /// For each attribute so far, the best first.
    candidates: Vec<Vec<Candidate>>,
    /// Elements whose values were read.
    #[serde(default)]
    read: usize,
    /// Attributes whose candidates were ranked.
    #[serde(default)]
    ranked: usize,
    #[serde(skip)]
    ready: Option<Ready>,
}

impl Job for AutoMap {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "auto_map_pdes";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str =
        "Maps the attributes of a report to the columns that hold them, with confidence and reason.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:llm", "waymark:sql"];

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        let most = |what: &str, has: usize, most: usize| match has {
            0 => Err(Failure::invalid_input(format_args!("no {what}"))),
            has if has > most => Err(Failure::invalid_input(format_args!("more than {most} {what}"))),
            _ => Ok(()),
        };
        most("attributes", input.attributes.len(), ATTRIBUTES_MAX)?;
        most("elements in the catalogue", input.catalogue.len(), CATALOGUE_MAX)?;
        if !(1..=CANDIDATES_MAX).contains(&input.candidates_max) {
            return Err(Failure::invalid_input(format_args!(
                "`candidates_max` must be 1 to {CANDIDATES_MAX}"
            )));
        }
        let mut names: Vec<&str> = input.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::invalid_input(format_args!("the attribute {:?} is there twice", twice[0])));
        }
        let read = if input.connection.is_some() { input.catalogue.len() } else { 0 };
        let ranked = if input.ask_model { input.attributes.len() } else { 0 };
        let cursor = Cursor::new((read + input.attributes.len() + ranked) as u64);
        Ok(Self { cursor, plan: input, candidates: Vec::new(), read: 0, ranked: 0, ready: None })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let Self { cursor, plan, candidates, read, ranked, ready } = self;
        if let Some(connection) = plan.connection.clone()
            && *read < plan.catalogue.len()
        {
            let before = *read;
            *read = evidence::read(&connection, &mut plan.catalogue, before, context)?;
            cursor.advance((*read - before) as u64);
            return Ok(Step::Progress(cursor.progress().saying("reading values")));
        }
        let ready = ready.get_or_insert_with(|| Ready::new(plan));
        let share = (COMPARISONS / plan.catalogue.len().max(1)).max(1);
        let before = candidates.len();
        for attribute in plan.attributes.iter().skip(candidates.len()).take(share) {
            let best = ready.candidates(attribute, plan);
            context
                .emit(&json!({"record": "candidates", "attribute": attribute.name, "candidates": best}))?;
            candidates.push(best);
            cursor.advance(1);
            if context.should_yield() {
                break;
            }
        }
        if candidates.len() > before {
            let next = plan.attributes.get(candidates.len()).map(|attribute| attribute.name.as_str());
            return Ok(Step::Progress(cursor.progress().saying(next.unwrap_or("choosing"))));
        }
        let late = context.job().soft_limit_ms == Some(0);
        if plan.ask_model && *ranked < plan.attributes.len() && !late {
            let before = *ranked;
            *ranked = rank::rank(plan, candidates, before, context)?;
            cursor.advance((*ranked - before) as u64);
            return Ok(Step::Progress(cursor.progress().saying("ranking candidates")));
        }
        let mappings = choose::mappings(plan, candidates);
        for mapping in &mappings {
            let Mapping { attribute, status, pde, confidence, reason, .. } = mapping;
            context.emit(&json!({
                "record": "mapping", "attribute": attribute, "status": status, "pde": pde, "confidence": confidence,
                "reason": reason,
            }))?;
        }
        Ok(Step::Done(Output::new(plan, mappings)))
    }
}

impl Output {
    fn new(plan: &Input, mappings: Vec<Mapping>) -> Self {
        let mut counts = Counts { total: mappings.len(), ..Counts::default() };
        let mut gaps = Vec::new();
        for (mapping, attribute) in mappings.iter().zip(&plan.attributes) {
            match mapping.status {
                Status::Mapped => counts.mapped += 1,
                Status::Ambiguous => counts.ambiguous += 1,
                Status::Unmapped => {
                    counts.unmapped += 1;
                    if attribute.critical || attribute.mandatory {
                        gaps.push(attribute.name.clone());
                    }
                }
            }
        }
        let mut used: Vec<&String> = mappings.iter().filter_map(|mapping| mapping.pde.as_ref()).collect();
        used.sort_unstable();
        used.dedup();
        let elements_unused = plan.catalogue.len().saturating_sub(used.len());
        Self { mappings, counts, gaps, elements_unused }
    }
}

/// The type of an element: as named, or as its values show.
fn type_of(pde: &Pde) -> Option<DataType> {
    use waymark_table::value::{Type, type_of};
    let named = pde.data_type.as_deref().and_then(DataType::named);
    // Text says little: values may say more.
    if named.is_some_and(|named| named != DataType::Text) {
        return named;
    }
    let types = pde
        .samples
        .iter()
        .filter(|sample| !sample.trim().is_empty())
        .map(|sample| type_of(sample.as_bytes()));
    // The narrowest that admits all.
    let shown = types.reduce(|one, other| {
        if one.admits(other) {
            one
        } else if other.admits(one) {
            other
        } else {
            Type::Text
        }
    });
    let Some(shown) = shown else { return named };
    Some(match shown {
        Type::Integer => DataType::Integer,
        Type::Decimal => DataType::Decimal,
        Type::Boolean => DataType::Boolean,
        Type::Date => DataType::Date,
        Type::Datetime => DataType::Datetime,
        Type::Text => DataType::Text,
    })
}

waymark_sdk::export!(AutoMap);
