//! One case: what was expected, what was found, and what that comes to.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_report::DataType;
use waymark_report::value::{normal, same};

use crate::input::{Input, TestAttribute, key_text};
use crate::{Found, document};

/// A case before it is compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// The attribute.
    pub attribute: String,
    /// Key of source and evidence.
    pub key: Option<String>,
    /// The caller said what is expected; else the source does.
    pub given: bool,
    /// What is expected, where it was given.
    pub expected: Option<String>,
    /// What was found, where it was given.
    pub found: Option<String>,
    /// What a language model read in a document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
}

/// A value that a language model read in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The value, as it stands there.
    pub value: String,
    /// What a person calls the document.
    pub document: String,
}

/// What is kept of a case that was compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tested {
    /// The attribute.
    pub attribute: String,
    /// How it ended.
    pub status: Status,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The values are the same.
    Pass,
    /// They are not.
    Fail,
    /// There is nothing to compare, or it could mean two things: a person should look.
    Inconclusive,
}

/// A case that was compared; also an output record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The attribute.
    pub attribute: String,
    /// The key.
    pub key: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Why.
    pub reason: String,
    /// What is expected, as it is written.
    pub expected: Option<String>,
    /// What was found, as it is written.
    pub found: Option<String>,
    /// Where it was found: `given`, `table`, or the name of a document, with a remark where a language model read it.
    pub evidence: Option<String>,
}

/// Compares a case.
pub fn outcome(
    case: &Case,
    plan: &Input,
    expected: &Found,
    found: &Found,
    twice: &BTreeSet<String>,
) -> Outcome {
    let of = |values: &Found| values.get(case.key.as_ref()?)?.get(&case.attribute).cloned();
    let wanted = if case.given { case.expected.clone() } else { of(expected) };
    let attribute = plan.attributes.iter().find(|attribute| attribute.name == case.attribute);
    let (seen, evidence) = match (&case.found, of(found)) {
        (Some(given), _) => (Some(given.clone()), Some("given".to_owned())),
        (None, Some(value)) => (Some(value), Some("table".to_owned())),
        (None, None) => match (in_documents(case, plan, attribute), &case.read) {
            ((None, _), Some(Read { value, document })) => {
                (Some(value.clone()), Some(format!("{document} (read by a model)")))
            }
            (seen, _) => seen,
        },
    };
    let row = case.key.as_ref().is_some_and(|key| found.contains_key(key));
    let (status, reason) = match (attribute, &wanted, &seen) {
        (None, ..) => (Status::Inconclusive, "the attribute is not described".to_owned()),
        _ if case.found.is_none() && case.key.as_ref().is_some_and(|key| twice.contains(key)) => {
            (Status::Inconclusive, "the evidence has more than one row with this key".to_owned())
        }
        (_, None, _) if !case.given && !case.key.as_ref().is_some_and(|key| expected.contains_key(key)) => {
            (Status::Inconclusive, "the source has no row with this key".to_owned())
        }
        (_, None, None) if row => (Status::Pass, "neither has a value".to_owned()),
        (_, None, Some(seen)) => (Status::Fail, format!("expected no value, found {seen:?}")),
        (_, Some(wanted), None) if row => (Status::Fail, format!("expected {wanted:?}, found no value")),
        (_, _, None) => (Status::Inconclusive, "there is no evidence".to_owned()),
        (Some(attribute), Some(wanted), Some(seen)) => compare(attribute, plan, wanted, seen),
    };
    let (attribute, key) = (case.attribute.clone(), case.key.clone());
    Outcome { attribute, key, status, reason, expected: wanted, found: seen, evidence }
}

fn compare(attribute: &TestAttribute, plan: &Input, wanted: &str, seen: &str) -> (Status, String) {
    let kind = attribute.data_type.unwrap_or(DataType::Text);
    let format = attribute.date_format.as_deref();
    let wanted = normal(wanted, kind, format);
    let seen = normal(seen, kind, attribute.evidence_date_format.as_deref().or(format));
    match (wanted, seen) {
        (Err(why), _) => (Status::Inconclusive, format!("what is expected: {why}")),
        (_, Err(why)) => (Status::Inconclusive, format!("the evidence: {why}")),
        (Ok(wanted), Ok(seen)) => {
            match same(&wanted, &seen, attribute.tolerance.as_ref().unwrap_or(&plan.tolerance)) {
                Ok(how) => (Status::Pass, how),
                Err(how) => (Status::Fail, how),
            }
        }
    }
}

/// The first document of the key that has the value, and its name.
pub fn in_documents(
    case: &Case,
    plan: &Input,
    attribute: Option<&TestAttribute>,
) -> (Option<String>, Option<String>) {
    let (Some(attribute), Some(key)) = (attribute, &case.key) else { return (None, None) };
    let own = [attribute.name.clone()];
    let labels = if attribute.labels.is_empty() { &own[..] } else { &attribute.labels };
    for one in plan.evidence.documents.iter().filter(|one| key_text(&one.key).as_ref() == Some(key)) {
        if let Some(value) = document::value(&one.text, labels) {
            return (Some(value), Some(one.name.clone().unwrap_or_else(|| "document".to_owned())));
        }
    }
    (None, None)
}
