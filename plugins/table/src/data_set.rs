//! How a caller names a table and its columns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A table: a CSV file below a directory that the operator granted, or rows in the input itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// CSV file with a header line, by its path relative to a granted directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Rows as objects, instead of `file`. Columns are the fields of all rows in alphabetical order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Map<String, Value>>>,
    /// What stands between two fields of the file: one ASCII character, `,` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// Texts that mean "no value", after blanks around them are dropped. By default the empty text, `NA`,
    /// `NaN`, `nan`, `NULL` and `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_values: Option<Vec<String>>,
}

/// Texts that mean "no value" unless the data set says otherwise.
pub const NULL_VALUES: [&str; 6] = ["", "NA", "NaN", "nan", "NULL", "null"];

/// One column or several: `"id"` or `["year", "month"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Columns {
    /// One column.
    One(String),
    /// Several, in this order.
    Several(Vec<String>),
}

impl Columns {
    /// The names in order.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}
