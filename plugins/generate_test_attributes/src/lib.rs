//! The job type `generate_test_attributes`: the attributes of a report, read out of its instructions.
//!
//! The text is cut at its headings ([`sections`]). Each step asks a language model about some sections, at once ([`ask`]); what it
//! says is checked, citations are looked up in the section ([`waymark_report::passage`]), and attributes of one name are made one. Without a
//! model the job fails, or finds what can be found by rules ([`rules`]), as its input says.

use std::collections::{BTreeMap, VecDeque};

use waymark_report::Attribute;
use waymark_report::words::Vocabulary;
use waymark_sdk::llm::Error;
use waymark_sdk::prelude::*;

pub mod ask;
pub mod rules;
pub mod sections;

use sections::Section;

/// Longest instructions, bytes: they lie in every checkpoint.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Sections of one job.
pub const SECTIONS_MAX: usize = 2_000;
/// Attributes of one job.
pub const ATTRIBUTES_MAX: usize = 5_000;
/// Sections that a step asks about at once, at most.
pub const SECTIONS_PER_STEP_MAX: usize = 50;
/// Longest guidance, bytes.
const GUIDANCE_BYTES_MAX: usize = 4 << 10;
/// Bounds of a section's length, bytes.
const SECTION_BYTES: std::ops::RangeInclusive<usize> = 500..=100_000;

/// What to read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The report's name.
    pub report: String,
    /// Its instructions: Markdown or plain text, at most 4 MiB.
    pub text: String,
    /// What the model is to know besides, at most 4 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub guidance: String,
    /// What to do about a section that no model answers for; without it, the job fails where there is no model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Sections that are asked about at once, 1 to 50; 4 by default. A host that dies repeats so many questions at most.
    #[serde(default = "sections_per_step")]
    #[schemars(range(min = 1, max = 50))]
    pub sections_per_step: usize,
    /// Sections longer than this are cut at paragraphs, 500 to 100,000; 12,000 by default.
    #[serde(default = "section_bytes_max")]
    #[schemars(range(min = 500, max = 100_000))]
    pub section_bytes_max: usize,
}

fn sections_per_step() -> usize {
    4
}

fn section_bytes_max() -> usize {
    12_000
}

/// What to do about a section that no model answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Take rows of tables, and items of lists that begin with a name.
    Rules,
}

/// How a section was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A language model answered.
    Model,
    /// The fallback did.
    Rules,
    /// Nobody did.
    Nobody,
}

/// An attribute that several sections ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Merged {
    /// Its name.
    pub attribute: String,
    /// What it is called there, if it is called otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_called: Option<String>,
    /// The other section.
    pub section: String,
    /// What the two say that does not go together; the first is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disagree: Option<String>,
}

/// A section that nobody answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unread {
    /// Its name.
    pub section: String,
    /// Why.
    pub reason: String,
}

/// What a job answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// One for each name, in the order of the text.
    pub attributes: Vec<Attribute>,
    /// Sections by how they were read.
    pub sections: Counts,
    /// What several sections ask for.
    pub merged: Vec<Merged>,
    /// Attributes whose citation is not in the section, word for word: a person should look.
    pub unproved: Vec<String>,
    /// Sections that nobody answered for.
    pub unread: Vec<Unread>,
    /// False where the soft limit came before the last section.
    pub complete: bool,
}

/// Sections by how they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub total: usize,
    pub by_model: usize,
    pub by_rules: usize,
    pub by_nobody: usize,
}

/// A reading job: what is left to read, and what was found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reading {
    #[serde(flatten)]
    cursor: Cursor,
    report: String,
    guidance: String,
    fallback: Option<Fallback>,
    sections_per_step: usize,
    sections: VecDeque<Section>,
    counts: Counts,
    attributes: Vec<Attribute>,
    /// Where an attribute is, by its normal name.
    known: BTreeMap<String, usize>,
    merged: Vec<Merged>,
    unproved: Vec<String>,
    unread: Vec<Unread>,
}

impl Job for Reading {
    type Input = Input;
    type Output = Output;
    const NAME: &str = "generate_test_attributes";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const DESCRIPTION: &str = "Reads the attributes of a report out of its instructions, section by section, with a language model.";
    const OPTIONAL_IMPORTS: &[&str] = &["waymark:llm"];

    fn start(input: Input, _: &mut Context) -> Result<Self, Failure> {
        let Input { report, text, guidance, fallback, sections_per_step, section_bytes_max } = input;
        if text.len() > TEXT_BYTES_MAX || guidance.len() > GUIDANCE_BYTES_MAX {
            return Err(Failure::invalid_input(format_args!(
                "`text` has at most {TEXT_BYTES_MAX} bytes, `guidance` {GUIDANCE_BYTES_MAX}"
            )));
        }
        if !(1..=SECTIONS_PER_STEP_MAX).contains(&sections_per_step) {
            return Err(Failure::invalid_input(format_args!(
                "`sections_per_step` must be 1 to {SECTIONS_PER_STEP_MAX}"
            )));
        }
        if !SECTION_BYTES.contains(&section_bytes_max) {
            return Err(Failure::invalid_input("`section_bytes_max` must be 500 to 100000"));
        }
        let sections: VecDeque<Section> = sections::cut(&text, section_bytes_max).into();
        if sections.is_empty() || sections.len() > SECTIONS_MAX {
            return Err(Failure::invalid_input(format_args!(
                "`text` must have 1 to {SECTIONS_MAX} sections, and has {}",
                sections.len()
            )));
        }
        Ok(Self {
            cursor: Cursor::new(sections.len() as u64),
            report,
            guidance,
            fallback,
            sections_per_step,
            counts: Counts { total: sections.len(), ..Counts::default() },
            sections,
            attributes: Vec::new(),
            known: BTreeMap::new(),
            merged: Vec::new(),
            unproved: Vec::new(),
            unread: Vec::new(),
        })
    }

    fn step(&mut self, context: &mut Context) -> Result<Step<Output>, Failure> {
        let late = context.job().soft_limit_ms == Some(0);
        if self.sections.is_empty() || late {
            return Ok(Step::Done(self.output()));
        }
        let share = self.sections_per_step.min(self.sections.len());
        let batch: Vec<Section> = self.sections.drain(..share).collect();
        let answers = ask::ask(&self.report, &self.guidance, &batch);
        for (section, answer) in batch.iter().zip(answers) {
            let (by, found, reason) = match answer {
                Ok(found) => (By::Model, found, None),
                Err(error) => self.without(section, error)?,
            };
            match by {
                By::Model => self.counts.by_model += 1,
                By::Rules => self.counts.by_rules += 1,
                By::Nobody => self.counts.by_nobody += 1,
            }
            context.emit(&json!({
                "record": "section", "section": section.name, "by": by, "attributes": found.len(), "reason": reason,
            }))?;
            for attribute in found {
                self.add(attribute, section, context)?;
            }
            if by == By::Nobody {
                let reason = reason.unwrap_or_default();
                self.unread.push(Unread { section: section.name.clone(), reason });
            }
            self.cursor.advance(1);
        }
        let next = self.sections.front().map_or("done", |section| section.name.as_str());
        Ok(Step::Progress(self.cursor.progress().saying(next)))
    }
}

impl Reading {
    /// What becomes of a section that no model answers for.
    fn without(
        &self,
        section: &Section,
        error: Error,
    ) -> Result<(By, Vec<Attribute>, Option<String>), Failure> {
        let reason = Some(error.to_string());
        match (&error, self.fallback) {
            // They may pass: the step is run again, and what was answered comes from the host's cache.
            (Error::Limited(..) | Error::Unavailable(_), _) => Err(error.into()),
            (_, Some(Fallback::Rules)) => Ok((By::Rules, rules::attributes(section), reason)),
            (Error::BadAnswer(_), None) => Ok((By::Nobody, Vec::new(), reason)),
            (Error::NotConfigured(_), None) => Err(Failure::permanent(format_args!(
                "{error}; or write `\"fallback\": \"rules\"` into the input"
            ))),
            (_, None) => Err(error.into()),
        }
    }

    /// Takes an attribute up, or makes it one with the one that has its name.
    fn add(&mut self, found: Attribute, section: &Section, context: &mut Context) -> Result<(), Failure> {
        let Self { attributes, known, merged, unproved, .. } = self;
        let key = normal(&found.name);
        let Some(kept) = known.get(&key).and_then(|at| attributes.get_mut(*at)) else {
            if attributes.len() >= ATTRIBUTES_MAX {
                return Err(Failure::permanent(format_args!(
                    "the text has more than {ATTRIBUTES_MAX} attributes"
                )));
            }
            context.emit(&json!({"record": "attribute", "attribute": found}))?;
            if found.citation.is_none() {
                unproved.push(found.name.clone());
            }
            known.insert(key, attributes.len());
            attributes.push(found);
            return Ok(());
        };
        let disagree = match (kept.data_type, found.data_type) {
            (Some(one), Some(other)) if one != other => {
                Some(format!("the type is {} and {}", json!(one), json!(other)))
            }
            _ => None,
        };
        let also_called = (found.name != kept.name).then(|| found.name.clone());
        let one =
            Merged { attribute: kept.name.clone(), also_called, section: section.name.clone(), disagree };
        kept.mandatory |= found.mandatory;
        kept.critical |= found.critical;
        kept.description = kept.description.take().or(found.description);
        kept.data_type = kept.data_type.or(found.data_type);
        if kept.citation.is_none() && found.citation.is_some() {
            // The section of a citation is the one that has it.
            (kept.citation, kept.section) = (found.citation, found.section);
            unproved.retain(|name| *name != kept.name);
        }
        context.emit(&json!({"record": "merged", "merged": one}))?;
        merged.push(one);
        Ok(())
    }

    fn output(&mut self) -> Output {
        Output {
            attributes: std::mem::take(&mut self.attributes),
            sections: self.counts,
            merged: std::mem::take(&mut self.merged),
            unproved: std::mem::take(&mut self.unproved),
            unread: std::mem::take(&mut self.unread),
            complete: self.sections.is_empty(),
        }
    }
}

/// What is the same for names that a person takes for one: `Loan Amt.`, "the loan amounts".
fn normal(name: &str) -> String {
    let words = Vocabulary::new(&BTreeMap::new(), &[]).spelled(name);
    if words.is_empty() { name.to_lowercase() } else { words.join(" ") }
}

waymark_sdk::export!(Reading);
