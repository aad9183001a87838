//! A recommendation in the words of a language model: what it is told is all it may say.

use std::collections::BTreeSet;

use waymark_sdk::Level;
use waymark_sdk::llm::{Error, Request, ask_all};
use waymark_sdk::prelude::*;

use crate::Recommendation;

/// Recommendations that a step asks about, at once.
pub const ASKED_PER_STEP: usize = 20;
/// Longest explanation, in characters.
const CHARACTERS_MAX: usize = 600;

const TASK: &str = "You explain to the owner of a regulatory report why a section of it is to be tested in this cycle, put off, or \
skipped. The decision was made by fixed rules; you do not change it. Write two or three plain sentences. Use only the facts that \
you are given, and no number that is not among them.";

/// What a model answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Explanation {
    /// Two or three plain sentences.
    explanation: String,
}

/// Asks about all of these at once. False where there is no model: then there is no use in asking about others.
///
/// # Errors
/// What may pass, so that the step is run again.
pub fn explain(recommendations: &mut [Recommendation], context: &mut Context) -> Result<bool, Failure> {
    let requests: Vec<Request> = recommendations.iter().map(request).collect::<Result<_, _>>()?;
    for (one, answer) in recommendations.iter_mut().zip(ask_all::<Explanation>(requests)) {
        let refused = match answer {
            Ok((answer, _)) => match sound(&answer.explanation, one) {
                Ok(explanation) => {
                    one.explanation = Some(explanation);
                    continue;
                }
                Err(why) => why,
            },
            Err(Error::NotConfigured(why)) => {
                context.log(Level::Warn, &format!("without explanations: {why}"), &json!({}));
                return Ok(false);
            }
            Err(error @ (Error::Limited(..) | Error::Unavailable(_))) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        context.log(
            Level::Warn,
            "a section has no explanation",
            &json!({"section": one.section, "why": refused}),
        );
    }
    Ok(true)
}

fn request(one: &Recommendation) -> Result<Request, Failure> {
    let facts = waymark_sdk::serde_json::to_string_pretty(&json!({
        "section": one.section, "decision": one.advice, "risk": one.risk, "factors": one.factors, "rationale": one.rationale,
        "attributes": one.attributes,
    }));
    Ok(Request::new(facts.or_permanent("writing the facts")?).system(TASK))
}

/// # Errors
/// Why the explanation is of no use.
fn sound(text: &str, one: &Recommendation) -> Result<String, String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.chars().count() > CHARACTERS_MAX {
        return Err(format!("it must have 1 to {CHARACTERS_MAX} characters"));
    }
    let mut told = numbers(&format!("{} {} {}", one.section, one.rationale, one.attributes.join(" ")));
    for factor in one.factors.values().chain([&one.risk]) {
        // As a person may round it, or write it in per cent.
        for (scale, digits) in [(1.0, 4), (1.0, 2), (1.0, 1), (100.0, 0), (100.0, 1), (100.0, 2)] {
            told.extend(numbers(&format!("{:.digits$}", factor * scale)));
        }
    }
    match numbers(&text).into_iter().find(|number| !told.contains(number)) {
        Some(number) => Err(format!("it says {number}, which it was not told")),
        None => Ok(text),
    }
}

/// The numbers of a text, without zeros that say nothing.
fn numbers(text: &str) -> BTreeSet<String> {
    let parts = text.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let number = |part: &str| {
        let number: f64 = part.trim_matches('.').parse().ok()?;
        Some(number.to_string())
    };
    parts.filter_map(number).collect()
}
