//! What a report asks for, and where it is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One attribute of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Its name, once in a report.
    pub name: String,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What its values are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<DataType>,
    /// Must it have a value?
    #[serde(default)]
    pub mandatory: bool,
    /// Is it a critical data element?
    #[serde(default)]
    pub critical: bool,
    /// The section of the report that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// The passage that asks for it, as it stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citation: Option<String>,
}

/// What the values of an attribute or a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Anything.
    Text,
    /// One of a list of short texts or numbers.
    Code,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Decimal,
    /// Money.
    Amount,
    /// Parts of a whole.
    Percentage,
    /// Days.
    Date,
    /// Moments.
    Datetime,
    /// Yes or no.
    Boolean,
}

impl DataType {
    /// What a word for a type means, in a report's instructions or in a database: `varchar(20)`, `NUMBER`, `currency`.
    pub fn named(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let word: String = text.chars().take_while(|letter| letter.is_ascii_alphabetic()).collect();
        Some(match word.as_str() {
            "text" | "string" | "char" | "character" | "varchar" | "nvarchar" | "alphanumeric" | "clob" => {
                Self::Text
            }
            "code" | "enum" | "enumeration" | "category" | "lookup" | "list" => Self::Code,
            "int" | "integer" | "bigint" | "smallint" | "tinyint" | "count" | "serial" => Self::Integer,
            "decimal" | "numeric" | "number" | "float" | "double" | "real" => Self::Decimal,
            "amount" | "money" | "currency" | "monetary" => Self::Amount,
            "percent" | "percentage" | "ratio" | "rate" => Self::Percentage,
            "date" | "day" => Self::Date,
            "datetime" | "timestamp" | "timestamptz" | "time" => Self::Datetime,
            "bool" | "boolean" | "flag" | "indicator" | "bit" | "yes" => Self::Boolean,
            _ => return None,
        })
    }

    /// How well a value of type `other` can be one of this type: 1 the same, 0 never.
    pub fn fits(self, other: Self) -> f64 {
        use DataType::{Amount, Boolean, Code, Date, Datetime, Decimal, Integer, Percentage, Text};
        if self == other {
            return 1.0;
        }
        match (self, other) {
            (Amount | Percentage, Decimal) | (Decimal, Amount | Percentage) => 0.95,
            (Decimal | Amount | Percentage, Integer) | (Integer, Decimal) => 0.8,
            (Date, Datetime) | (Datetime, Date) => 0.9,
            (Code, Text | Integer | Boolean) | (Text | Integer | Boolean, Code) => 0.85,
            (Boolean, Integer | Text) => 0.6,
            // Text holds anything, badly.
            (_, Text) => 0.5,
            (Text, _) => 0.4,
            (Amount, Percentage) | (Percentage, Amount) => 0.3,
            _ => 0.0,
        }
    }
}

/// Where an attribute is found: what `auto_map_pdes` answers, of which others need the names alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// Name of the attribute.
    pub attribute: String,
    /// The column; null where there is none.
    #[serde(default)]
    pub column: Option<String>,
    /// How sure that is, 0 to 1.
    #[serde(default)]
    pub confidence: f64,
}

/// The column that the mappings have for an attribute; without a mapping for it the column of its own name.
pub fn column_of<'a>(mappings: &'a [Mapping], attribute: &'a str) -> Option<&'a str> {
    match mappings.iter().find(|mapping| mapping.attribute == attribute) {
        Some(mapping) => mapping.column.as_deref(),
        None => Some(attribute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_name_in_a_database_or_a_manual() {
        for (name, is) in [
            ("VARCHAR(20)", Some(DataType::Text)),
            ("number(10,2)", Some(DataType::Decimal)),
            ("Currency", Some(DataType::Amount)),
            ("timestamp with time zone", Some(DataType::Datetime)),
            ("Yes/No", Some(DataType::Boolean)),
            ("blob", None),
        ] {
            assert_eq!(DataType::named(name), is, "{name}");
        }
    }

    #[test]
    fn a_date_is_no_amount() {
        assert!(DataType::Date.fits(DataType::Amount).abs() < f64::EPSILON);
        assert!(DataType::Amount.fits(DataType::Decimal) > DataType::Amount.fits(DataType::Text));
    }
}
