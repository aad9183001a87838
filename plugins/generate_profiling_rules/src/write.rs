//! Rules from what is known: nothing here is guessed from names.

use waymark_report::{Attribute, DataType};
use waymark_rules::input::{Bound, Check, Rule};
use waymark_rules::profile::Profile;
use waymark_sdk::prelude::Value;
use waymark_table::Columns;
use waymark_table::value::Type;

/// A column with at most so many different values holds codes.
const CODES_MAX: u64 = 10;
/// Values that a code has at least: a rarer one may be a mistake.
const CODE_SHARE_MIN: f64 = 0.001;
/// What rules about attributes that are not critical must reach.
const THRESHOLD: f64 = 0.99;

fn rule(id: String, check: Check, critical: bool) -> Rule {
    let threshold = if critical { 1.0 } else { THRESHOLD };
    Rule { id, check, dimension: None, threshold, only: Vec::new() }
}

/// A key is there, and no two rows have the same.
pub fn of_key(key: &Columns) -> Vec<Rule> {
    vec![
        rule("key: is there".to_owned(), Check::Completeness { columns: key.clone() }, true),
        rule("key: is unique".to_owned(), Check::Uniqueness { columns: key.clone() }, true),
    ]
}

/// The rules of an attribute: that it is there, of its type, within its bounds, one of its codes.
pub fn of_attribute(attribute: &Attribute, column: &str, profile: Option<&Profile>) -> Vec<Rule> {
    let own =
        |what: &str, check: Check| rule(format!("{}: {what}", attribute.name), check, attribute.critical);
    let column = || column.to_owned();
    let mut rules = Vec::new();
    if attribute.mandatory {
        rules.push(own("is there", Check::Completeness { columns: Columns::One(column()) }));
    }
    let expected = attribute.data_type.and_then(|data_type| match data_type {
        DataType::Integer => Some(Type::Integer),
        DataType::Decimal | DataType::Amount | DataType::Percentage => Some(Type::Decimal),
        DataType::Date => Some(Type::Date),
        DataType::Datetime => Some(Type::Datetime),
        DataType::Boolean => Some(Type::Boolean),
        DataType::Text | DataType::Code => None,
    });
    if let Some(expected) = expected {
        rules.push(own("is of its type", Check::Type { column: column(), expected }));
    }
    let Some(profile) = profile else { return rules };
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    let numeric = matches!(profile.inferred_type, Some(Type::Integer | Type::Decimal));
    if numeric && number(&profile.min).is_some_and(|least| least >= 0.0) {
        let max = (attribute.data_type == Some(DataType::Percentage))
            .then_some(if number(&profile.max).is_some_and(|most| most > 1.5) { 100.0 } else { 1.0 });
        let (min, max) = (Some(Bound::Number(0.0)), max.map(Bound::Number));
        rules.push(own("is within bounds", Check::Range { column: column(), min, max, exclusive: false }));
    }
    let codes = matches!(attribute.data_type, Some(DataType::Code | DataType::Text) | None);
    if codes
        && profile.distinct <= CODES_MAX
        && let Some(top) = &profile.top_values
    {
        let often = |count: u64| count as f64 >= CODE_SHARE_MIN * profile.count as f64;
        let values = top.iter().filter(|one| often(one.count)).map(|one| Value::from(one.value.clone()));
        rules.push(own(
            "is one of its codes",
            Check::Set { column: column(), values: values.collect(), exclude: false },
        ));
    } else if codes && let (Some(_), Some(most)) = (profile.length_min, profile.length_max) {
        rules.push(own(
            "is no longer than known",
            Check::Length { column: column(), min: Some(1), max: Some(most) },
        ));
    }
    rules
}
