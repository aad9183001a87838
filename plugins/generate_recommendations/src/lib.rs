//! The job type `generate_recommendations`: how risky each section of a report is, and whether to test it in this cycle.
//!
//! Risk is a weighted mean of four factors, each 0 to 1: criticality, history of defects, complexity and materiality. A factor
//! that nothing is known of counts as the middle, and is said to be unknown. Each section is scored in its turn; then one step
//! chooses among them, within a budget where there is one. Where it is asked for, a language model explains each
//! recommendation ([`explain`]); it changes none.

use std::collections::BTreeMap;

use waymark_report::{Attribute, Mapping};
use waymark_sdk::prelude::*;

pub mod explain;

/// Sections of one job: their scores are in the result.
pub const SECTIONS_MAX: usize = 2_000;
/// Sections that a step scores.
const SECTIONS_PER_STEP: u32 = 50;
/// What an unknown factor counts as.
const UNKNOWN: f64 = 0.5;
/// How much a cycle counts against the one after it.
const FADES: f64 = 0.6;
/// Mappings less sure than this make a section harder to test.
const SURE: f64 = 0.7;

/// What to choose from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Sections, at most 2,000, each name once.
    #[serde(default)]
    pub sections: Vec<Section>,
    /// Attributes, as from `generate_test_attributes`: each joins the section that it names, or makes one, of high criticality
    /// where it is critical.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Mappings, as from `auto_map_pdes`: attributes without a sure one make their section more complex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// How much each factor counts.
    #[serde(default)]
    pub weights: Weights,
    /// Sections of at least this risk are to be tested, 0 to 1; 0.5 by default.
    #[serde(default = "test_from")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub test_from: f64,
    /// Most sections to test, the riskiest first; no limit by default. Critical sections are tested whatever the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    /// Let a language model explain each recommendation, where one is granted. It changes none of them.
    #[serde(default)]
    pub ask_model: bool,
}

fn test_from() -> f64 {
    0.5
}

/// How much each factor counts; not all may be 0.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Weights {
    pub criticality: f64,
    pub defects: f64,
    pub complexity: f64,
    pub materiality: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { criticality: 0.35, defects: 0.3, complexity: 0.15, materiality: 0.2 }
    }
}

/// A section of the report.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// What a mistake in it would mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criticality: Option<Criticality>,
    /// Earlier cycles, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Cycle>,
    /// How hard it is to get right, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub complexity: Option<f64>,
    /// Its part of the report, such as its share of the total amount, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub materiality: Option<f64>,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
}

/// What a mistake would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Criticality {
    Low,
    Medium,
    High,
    Critical,
}

/// How a section fared in an earlier cycle.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Values tested.
    pub tested: u64,
    /// Of those, wrong ones.
    pub failed: u64,
}

/// What to do with a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Test it.
    Test,
    /// It is risky enough, and the budget is spent.
    Defer,
    /// Leave it for this cycle.
    Skip,
}

/// One section's risk, and what to do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// Name of the section.
    pub section: String,
    /// 0 to 1.
    pub risk: f64,
    /// The factors, 0 to 1; those that nothing is known of are left out and count as 0.5.
    pub factors: BTreeMap<String, f64>,
    /// What to do.
    pub advice: Advice,
    /// Why, for a person.
    pub rationale: String,
    /// The same in the words of a language model, where it was asked for and says no number that it was not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// The section's attributes.
    pub attributes: Vec<String>,
}

/// What a job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The riskiest first.
    pub recommendations: Vec<Recommendation>,
    /// Attributes of the sections to test.
    pub attributes_to_test: Vec<String>,
    /// How much of the report that covers.
    pub coverage: Coverage,
}

/// How much of the report is to be tested.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Sections in all.
    pub sections: usize,
    /// Sections to test.
    pub sections_to_test: usize,
    /// Sections put off for the budget.
    pub sections_deferred: usize,
    /// Attributes in all.
    pub attributes: usize,
    /// Attributes to test.
    pub attributes_to_test: usize,
    /// Part of all risk that lies in the sections to test.
    pub risk_share: f64,
    /// Part of all materiality known that lies in the sections to test; null where none is known.
    pub materiality_share: Option<f64>,
}

/// A scoping job: sections to score, those that are, and the answer while it is explained.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scoping {
    #[serde(flatten)]
    sections: Items<Section>,
    mappings: Vec<Mapping>,
    weights: Weights,
    test_from: f64,
    budget: Option<usize>,
    scored: Vec<Scored>,
    #[serde(default)]
    ask_model: bool,
    #[serde(default)]
    output: Option<Output>,
    /// Recommendations that the model was asked about.
    #[serde(default)]
    asked: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scored {
    recommendation: Recommendation,
    critical: bool,
    materiality: Option<f64>,
}

impl Job for Scoping {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "generate_recommendations";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Scores the sections of a report by risk, and recommends which to test.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:llm"];

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        let Input { mut sections, attributes, mappings, weights, test_from, budget, ask_model } = input;
        join(&mut sections, attributes);
        if sections.is_empty() || sections.len() > SECTIONS_MAX {
            return Err(Failure::invalid_input(format_args!("`sections` must be 1 to {SECTIONS_MAX}")));
        }
        let all = [weights.criticality, weights.defects, weights.complexity, weights.materiality];
        if all.iter().any(|weight| *weight < 0.0) || all.iter().sum::<f64>() <= 0.0 {
            return Err(Failure::invalid_input("`weights` must not be negative, and one must be above 0"));
        }
        let mut names: Vec<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::invalid_input(format_args!("the section {:?} is there twice", twice[0])));
        }
        if let Some(bad) =
            sections.iter().find(|section| section.history.iter().any(|cycle| cycle.failed > cycle.tested))
        {
            return Err(Failure::invalid_input(format_args!("{:?} has more failed than tested", bad.name)));
        }
        let sections = Items::new(sections).per_step(SECTIONS_PER_STEP);
        let (scored, output, asked) = (Vec::new(), None, 0);
        Ok(Self { sections, mappings, weights, test_from, budget, scored, ask_model, output, asked })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        if self.output.is_some() {
            return self.explain(context);
        }
        let Self { sections, mappings, weights, test_from, budget, scored, .. } = self;
        let before = scored.len();
        let more = sections.each(context, |section, context| {
            let one = score(section, mappings, weights, *test_from);
            let Recommendation { section, risk, factors, .. } = &one.recommendation;
            context.emit(&json!({"record": "risk", "section": section, "risk": risk, "factors": factors}))?;
            scored.push(one);
            Ok(())
        })?;
        if let Some(more) = more {
            return Ok(more);
        }
        if scored.len() > before {
            return Ok(Step::progress(sections.index(), sections.total()));
        }
        let output = Output::new(std::mem::take(scored), *budget);
        if self.ask_model {
            self.output = Some(output);
            return self.explain(context);
        }
        finish(output, context)
    }
}

impl Scoping {
    /// Asks about the next recommendations; ends where none is left, or there is no model.
    fn explain(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let (index, total) = (self.sections.index(), self.sections.total());
        let Some(mut output) = self.output.take() else {
            return Err(Failure::permanent("there is nothing to explain"));
        };
        let all = output.recommendations.len();
        let to = all.min(self.asked + explain::ASKED_PER_STEP);
        let batch = output.recommendations.get_mut(self.asked..to).unwrap_or_default();
        let late = context.job().soft_limit_ms == Some(0);
        if batch.is_empty() || late || !explain::explain(batch, context)? {
            return finish(output, context);
        }
        self.asked = to;
        self.output = Some(output);
        Ok(Step::Progress(Progress::new(index, total).saying(format!("{to} of {all} explained"))))
    }
}

fn finish(output: Output, context: &mut Context) -> Result<Step<Output>, Failure> {
    for recommendation in &output.recommendations {
        let Recommendation { section, advice, rationale, explanation, .. } = recommendation;
        let mut record = json!({
            "record": "recommendation", "section": section, "advice": advice, "rationale": rationale,
        });
        if let (Some(explanation), Some(fields)) = (explanation, record.as_object_mut()) {
            fields.insert("explanation".to_owned(), explanation.as_str().into());
        }
        context.emit(&record)?;
    }
    Ok(Step::Done(output))
}

/// Puts attributes into their sections.
fn join(sections: &mut Vec<Section>, attributes: Vec<Attribute>) {
    let mut places: BTreeMap<String, usize> =
        sections.iter().enumerate().map(|(at, section)| (section.name.clone(), at)).collect();
    let given = sections.len();
    for attribute in attributes {
        let name = attribute.section.unwrap_or_else(|| "(no section)".to_owned());
        let at = *places.entry(name).or_insert_with_key(|name| {
            sections.push(Section { name: name.clone(), ..Section::default() });
            sections.len() - 1
        });
        let Some(section) = sections.get_mut(at) else { continue };
        if attribute.critical && at >= given {
            section.criticality = Some(Criticality::High);
        }
        if !section.attributes.contains(&attribute.name) {
            section.attributes.push(attribute.name);
        }
    }
}

fn score(section: Section, mappings: &[Mapping], weights: &Weights, test_from: f64) -> Scored {
    let mut factors = BTreeMap::new();
    let mut says = Vec::new();
    if let Some(criticality) = section.criticality {
        let (value, word) = match criticality {
            Criticality::Low => (0.1, "low"),
            Criticality::Medium => (0.4, "medium"),
            Criticality::High => (0.75, "high"),
            Criticality::Critical => (1.0, "critical"),
        };
        factors.insert("criticality", value);
        says.push(format!("criticality is {word}"));
    }
    if let Some(rate) = defects(&section.history) {
        factors.insert("defects", rate);
        let (tested, failed) =
            section.history.iter().fold((0, 0), |sum, cycle| (sum.0 + cycle.tested, sum.1 + cycle.failed));
        says.push(format!("{failed} of {tested} values were wrong in {} cycles", section.history.len()));
    }
    let unsure = unsure(&section.attributes, mappings);
    if let Some(complexity) = match (section.complexity, unsure) {
        (Some(known), Some(unsure)) => Some(known.max(unsure)),
        (known, unsure) => known.or(unsure),
    } {
        factors.insert("complexity", complexity);
        says.push(format!("complexity is {complexity:.2}"));
    }
    if let Some(unsure) = unsure.filter(|unsure| *unsure > 0.0) {
        says.push(format!("{:.0} % of its attributes have no sure mapping", unsure * 100.0));
    }
    if let Some(materiality) = section.materiality {
        factors.insert("materiality", materiality);
        says.push(format!("it is {:.0} % of the report", materiality * 100.0));
    }
    let weighted = [
        ("criticality", weights.criticality),
        ("defects", weights.defects),
        ("complexity", weights.complexity),
        ("materiality", weights.materiality),
    ];
    let unknown: Vec<&str> = weighted
        .iter()
        .filter(|(name, weight)| *weight > 0.0 && !factors.contains_key(name))
        .map(|(name, _)| *name)
        .collect();
    if !unknown.is_empty() {
        says.push(format!("nothing is known of {}", unknown.join(", ")));
    }
    let of = |name: &str| factors.get(name).copied().unwrap_or(UNKNOWN).clamp(0.0, 1.0);
    let sum: f64 = weighted.iter().map(|(name, weight)| of(name) * weight).sum();
    let risk = sum / weighted.iter().map(|(_, weight)| weight).sum::<f64>();
    let risk = (risk * 1e4).round() / 1e4;
    let critical = section.criticality == Some(Criticality::Critical);
    let advice = if critical || risk >= test_from { Advice::Test } else { Advice::Skip };
    let verdict = match advice {
        Advice::Test if critical && risk < test_from => "a critical section is always tested".to_owned(),
        Advice::Test => format!("its risk of {risk:.2} is at least {test_from}"),
        Advice::Defer | Advice::Skip => format!("its risk of {risk:.2} is below {test_from}"),
    };
    let rationale = format!("{verdict}: {}", says.join("; "));
    let factors = factors.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let Section { name, materiality, attributes, .. } = section;
    let explanation = None;
    let recommendation =
        Recommendation { section: name, risk, factors, advice, rationale, explanation, attributes };
    Scored { recommendation, critical, materiality }
}

/// How defective it was, 0 to 1: the rate of each cycle, newer ones counting more. One wrong value in ten is as bad as can be.
fn defects(history: &[Cycle]) -> Option<f64> {
    let (mut sum, mut weights, mut weight) = (0.0, 0.0, 1.0);
    for cycle in history {
        if cycle.tested > 0 {
            sum += weight * (10.0 * cycle.failed as f64 / cycle.tested as f64).min(1.0);
            weights += weight;
        }
        weight *= FADES;
    }
    (weights > 0.0).then(|| sum / weights)
}

/// Part of the attributes that have no sure mapping; `None` where there are no mappings at all.
fn unsure(attributes: &[String], mappings: &[Mapping]) -> Option<f64> {
    if attributes.is_empty() || mappings.is_empty() {
        return None;
    }
    let sure = |attribute: &&String| {
        mappings.iter().any(|mapping| {
            mapping.attribute == **attribute && mapping.column.is_some() && mapping.confidence >= SURE
        })
    };
    Some(1.0 - attributes.iter().filter(sure).count() as f64 / attributes.len() as f64)
}

impl Output {
    fn new(mut scored: Vec<Scored>, budget: Option<usize>) -> Self {
        // Stable: sections of one risk stay in the caller's order.
        scored.sort_by(|one, other| {
            let by_risk = other.recommendation.risk.total_cmp(&one.recommendation.risk);
            other.critical.cmp(&one.critical).then(by_risk)
        });
        if let Some(budget) = budget {
            let over = scored.iter_mut().filter(|one| one.recommendation.advice == Advice::Test).skip(budget);
            for one in over.filter(|one| !one.critical) {
                one.recommendation.advice = Advice::Defer;
                one.recommendation.rationale =
                    format!("put off, the budget of {budget} is spent; {}", one.recommendation.rationale);
            }
        }
        scored.sort_by(|one, other| other.recommendation.risk.total_cmp(&one.recommendation.risk));
        let to_test = |one: &&Scored| one.recommendation.advice == Advice::Test;
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let risk = |one: &Scored| one.recommendation.risk;
        let known = scored.iter().any(|one| one.materiality.is_some());
        let material = |one: &Scored| one.materiality.unwrap_or(0.0);
        let attributes = |one: &Scored| one.recommendation.attributes.len();
        let coverage = Coverage {
            sections: scored.len(),
            sections_to_test: scored.iter().filter(to_test).count(),
            sections_deferred: scored.iter().filter(|one| one.recommendation.advice == Advice::Defer).count(),
            attributes: scored.iter().map(attributes).sum(),
            attributes_to_test: scored.iter().filter(to_test).map(attributes).sum(),
            risk_share: share(scored.iter().filter(to_test).map(risk).sum(), scored.iter().map(risk).sum()),
            materiality_share: known.then(|| {
                share(scored.iter().filter(to_test).map(material).sum(), scored.iter().map(material).sum())
            }),
        };
        let attributes_to_test =
            scored.iter().filter(to_test).flat_map(|one| one.recommendation.attributes.clone()).collect();
        let recommendations = scored.into_iter().map(|one| one.recommendation).collect();
        Self { recommendations, attributes_to_test, coverage }
    }
}

waymark_sdk::export!(Scoping);
