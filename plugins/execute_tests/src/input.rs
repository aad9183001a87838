//! What a caller sends.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_report::value::Tolerance;
use waymark_report::{Attribute, DataType, Mapping};
use waymark_sdk::Failure;
use waymark_sdk::prelude::Value;
use waymark_sdk::serde_json::Map;
use waymark_table::{DataSet, Pace};

use crate::case::Case;

/// Values to test, and what to test them against.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Attributes that are tested, and how their values are compared.
    #[serde(default)]
    pub attributes: Vec<TestAttribute>,
    /// Attributes of the report, as from `generate_test_attributes`: those that are not among `attributes` are tested as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub report_attributes: Vec<Attribute>,
    /// Names of the attributes to test, as `attributes_to_test` of `generate_recommendations`; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
    /// Where attributes are found, as from `auto_map_pdes`; an attribute's own `column` goes before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Cases one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<GivenCase>,
    /// Keys to test every attribute of, as from `intelligent_sampling`; needs `source`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<Sampled>,
    /// Where the sample was drawn: what is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Side>,
    /// What was found.
    pub evidence: Evidence,
    /// Tolerance of attributes that have none of their own.
    #[serde(default)]
    pub tolerance: Tolerance,
    /// How gently tables are read.
    #[serde(default)]
    pub pace: Pace,
    /// Let a language model, where one is granted, look for values in documents that have no label for them.
    #[serde(default)]
    pub ask_model: bool,
}

/// An attribute, and how its values are compared.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestAttribute {
    /// Its name.
    pub name: String,
    /// Column of the source; by default as mapped, or called like the attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Column of the evidence; by default that of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_column: Option<String>,
    /// What its values are; text by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<DataType>,
    /// How the source writes dates (strftime), where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date_format: Option<String>,
    /// How the evidence writes dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_date_format: Option<String>,
    /// What stands before its value in a document; its name by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// How far apart its values may lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
}

/// One case.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenCase {
    /// The attribute, one of `attributes`.
    pub attribute: String,
    /// Key of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// What the source says.
    pub expected: Value,
    /// What was found, instead of evidence under the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
}

/// A row of a sample; of `intelligent_sampling`'s fields the key alone counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Sampled {
    /// A text or a number.
    pub key: Value,
}

/// A table and its key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The table.
    pub data_set: DataSet,
    /// Its key.
    pub key: String,
}

/// What was found: one of `data_set` and `csv`, with `key`, or documents, or both.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// A table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_set: Option<DataSet>,
    /// The text of a CSV file with a header line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<String>,
    /// Column with the key; `key` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Texts, in which a value stands behind its label: `Loan amount: $1,200`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<Document>,
}

/// A document about one key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The key.
    pub key: Value,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its text.
    pub text: String,
}

/// A key as text; `None` for lists and objects.
pub fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A value as text; nothing for null.
pub fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

impl Evidence {
    /// The table, taken out of the input.
    ///
    /// # Errors
    /// `InvalidInput` when both are given, or the text is no CSV.
    pub fn data_set(&mut self) -> Result<Option<DataSet>, Failure> {
        match (self.data_set.take(), self.csv.take()) {
            (Some(_), Some(_)) => {
                Err(Failure::invalid_input("`evidence` has either `data_set` or `csv`, not both"))
            }
            (Some(data_set), None) => Ok(Some(data_set)),
            (None, Some(text)) => Ok(Some(DataSet { rows: Some(rows(&text)?), ..DataSet::default() })),
            (None, None) => Ok(None),
        }
    }
}

fn rows(text: &str) -> Result<Vec<Map<String, Value>>, Failure> {
    let bad = |error: csv::Error| Failure::invalid_input(format_args!("`evidence.csv`: {error}"));
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(bad)?.clone();
    let record = |record: csv::Result<csv::StringRecord>| {
        let record = record.map_err(bad)?;
        Ok(header.iter().zip(&record).map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
    };
    reader.records().map(record).collect()
}

impl Input {
    /// Makes one list of all attributes that are tested.
    pub fn join(&mut self) {
        for Attribute { name, data_type, .. } in std::mem::take(&mut self.report_attributes) {
            if !self.attributes.iter().any(|known| known.name == name) {
                self.attributes.push(TestAttribute { name, data_type, ..TestAttribute::default() });
            }
        }
        if let Some(only) = &self.only {
            self.attributes.retain(|attribute| only.contains(&attribute.name));
        }
    }

    /// # Errors
    /// `InvalidInput`: what does not go together.
    pub fn check(&self) -> Result<(), Failure> {
        let mut names: Vec<&str> = self.attributes.iter().map(|attribute| attribute.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::invalid_input(format_args!("the attribute {:?} is there twice", twice[0])));
        }
        if let Some(case) = self.cases.iter().find(|case| !names.contains(&case.attribute.as_str())) {
            let attribute = &case.attribute;
            return Err(Failure::invalid_input(format_args!(
                "a case is about {attribute:?}, which is no attribute"
            )));
        }
        if !self.sample.is_empty() && self.source.is_none() {
            return Err(Failure::invalid_input("a `sample` needs the `source` that it was drawn from"));
        }
        Ok(())
    }

    /// The cases given, then those of the sample: every attribute of every key.
    ///
    /// # Errors
    /// `InvalidInput` for a key that is a list or an object.
    pub fn all_cases(&mut self) -> Result<Vec<Case>, Failure> {
        let mut cases = Vec::new();
        for given in std::mem::take(&mut self.cases) {
            let key = given.key.as_ref().map(crate::key).transpose()?;
            let (expected, found) = (value_text(&given.expected), given.found.as_ref().and_then(value_text));
            cases.push(Case { attribute: given.attribute, key, given: true, expected, found, read: None });
        }
        for sampled in std::mem::take(&mut self.sample) {
            let key = crate::key(&sampled.key)?;
            cases.extend(self.attributes.iter().map(|attribute| Case {
                attribute: attribute.name.clone(),
                key: Some(key.clone()),
                given: false,
                expected: None,
                found: None,
                read: None,
            }));
        }
        Ok(cases)
    }
}
