//! How a caller names a table and its columns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A table: a CSV file below a directory that the operator granted, rows in the input itself, or a statement over a connection
/// that the operator granted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// CSV file with a header line, by its path relative to a granted directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Rows as objects, instead of `file`. Columns are the fields of all rows in alphabetical order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<Map<String, Value>>>,
    /// A statement, instead of `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<Statement>,
    /// What stands between two fields of the file: one ASCII character, `,` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// Texts that mean "no value", after blanks around them are dropped. By default the empty text, `NA`,
    /// `NaN`, `nan`, `NULL` and `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_values: Option<Vec<String>>,
}

/// A statement whose rows are read page by page, in the order of a key. They must not change while the job reads them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// A connection that is granted to the job type.
    pub connection: String,
    /// `SELECT …`, with parameters `$1`, `$2` and so on, and without an order of its own. Types that are not read as they are
    /// (arrays, intervals) are cast to text in it.
    pub select: String,
    /// Parameters: texts, numbers, booleans, null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Value>,
    /// Columns of the statement that are together unique and never null; an index on them makes pages cheap.
    pub key: Columns,
    /// Rows of a page, 1 to 10,000; 2,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub rows_per_page: Option<u32>,
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
