//! What a person's way to write a value means, and when two ways mean the same.

use crate::DataType;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use waymark_table::value::{DateFormat, boolean};

/// How far two values may lie apart and still be the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Numbers: so much, in their own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// Numbers: so large a part of the expected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// Numbers: both are rounded to so many digits after the point first (half away from zero).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 12))]
    pub decimals: Option<u32>,
    /// Dates: so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Texts: capitals count; they do not by default.
    #[serde(default)]
    pub case: bool,
}

/// A value, whichever way it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Normal {
    /// A text with single blanks.
    Text(String),
    /// A number.
    Number(Decimal),
    /// A day or a moment, in seconds since 1970, and how it is shown.
    Moment(i64, String),
    /// Yes or no.
    Boolean(bool),
}

impl std::fmt::Display for Normal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) | Self::Moment(_, text) => formatter.write_str(text),
            Self::Number(number) => write!(formatter, "{}", number.normalize()),
            Self::Boolean(yes) => formatter.write_str(if *yes { "yes" } else { "no" }),
        }
    }
}

/// Ways to write a date that mean one day.
const DATES: [&str; 12] = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d.%m.%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y",
    "%d. %B %Y",
];
/// Ways that mean two days, unless one of them does not exist: day first, month first.
const EITHER: [(&str, &str); 2] = [("%d/%m/%Y", "%m/%d/%Y"), ("%d-%m-%Y", "%m-%d-%Y")];

/// Reads a value. `format` is how dates are written (strftime), where that is known.
///
/// # Errors
/// One line saying why the text is no such value, or could mean two.
pub fn normal(text: &str, kind: DataType, format: Option<&str>) -> Result<Normal, String> {
    let text = text.trim();
    match kind {
        DataType::Text | DataType::Code => {
            let words: Vec<&str> = text.split_whitespace().collect();
            Ok(Normal::Text(words.join(" ")))
        }
        DataType::Integer | DataType::Decimal | DataType::Amount => number(text).map(Normal::Number),
        DataType::Percentage => match text.strip_suffix('%') {
            Some(hundredths) => number(hundredths).map(|number| Normal::Number(number / Decimal::from(100))),
            None => number(text).map(Normal::Number),
        },
        DataType::Boolean => match text {
            "1" => Ok(Normal::Boolean(true)),
            "0" => Ok(Normal::Boolean(false)),
            _ => boolean(text.as_bytes())
                .map(Normal::Boolean)
                .ok_or_else(|| format!("{text:?} is neither yes nor no")),
        },
        DataType::Date => date(text, format),
        DataType::Datetime => {
            let seconds = DateFormat::new(format)?.seconds(text.as_bytes());
            match seconds {
                Some(seconds) => Ok(Normal::Moment(seconds, text.to_owned())),
                None => date(text, format),
            }
        }
    }
}

/// `1,234.50`, `1.234,50`, `$ 1 234.50`, `(12)`, `12-`, `1.2e3`, `EUR 5`, `1.5m`: the number. Where a lone separator could be either
/// (`1,234`), a comma groups and a point divides.
fn number(text: &str) -> Result<Decimal, String> {
    let wrong = || format!("{text:?} is not a number");
    let mut rest = text.trim();
    let mut negative = false;
    if let Some(inner) = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        (rest, negative) = (inner.trim(), true);
    }
    // A currency before or after it, as a sign or as a code of three letters.
    let currency = |letter: char| !(letter.is_ascii_digit() || "+-.,'".contains(letter));
    let code = |part: &str| {
        let part = part.trim();
        part.is_empty()
            || part.chars().all(|letter| !letter.is_alphanumeric())
            || (part.len() == 3 && part.chars().all(|letter| letter.is_ascii_uppercase()))
    };
    let begin = rest.find(|letter: char| !currency(letter)).ok_or_else(wrong)?;
    let end =
        rest.rfind(|letter: char| letter.is_ascii_digit() || "-.".contains(letter)).ok_or_else(wrong)?;
    let (before, after) = (&rest[..begin], rest.get(end + 1..).unwrap_or_default());
    if !code(before) || !code(after) || begin > end {
        return Err(wrong());
    }
    rest = rest[begin..=end].trim();
    for sign in ['-', '+'] {
        if let Some(stripped) = rest.strip_prefix(sign).or_else(|| rest.strip_suffix(sign)) {
            negative ^= sign == '-';
            rest = stripped.trim();
        }
    }
    let plain = plain(rest).ok_or_else(wrong)?;
    let number = if plain.contains(['e', 'E']) {
        Decimal::from_scientific(&plain)
    } else {
        Decimal::from_str_exact(&plain)
    };
    let number = number.map_err(|_| wrong())?;
    Ok(if negative { -number } else { number })
}

/// Digits with a point at most: what groups thousands is dropped.
fn plain(text: &str) -> Option<String> {
    // What a currency sign leaves behind.
    let text = text.trim_start_matches(['$', '€', '£', ' ']);
    if text.contains(['e', 'E']) {
        return (!text.contains(',')).then(|| text.to_owned());
    }
    let (points, commas) = (text.matches('.').count(), text.matches(',').count());
    let divides = match (text.rfind('.'), text.rfind(',')) {
        (Some(point), Some(comma)) if point > comma => Some('.'),
        (Some(_), Some(_)) => Some(','),
        (Some(_), None) if points == 1 => Some('.'),
        (None, Some(comma)) if commas == 1 && text.len() - comma != 4 => Some(','),
        _ => None,
    };
    if divides == Some('.') && points > 1 || divides == Some(',') && commas > 1 {
        return None;
    }
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            _ if Some(letter) == divides => plain.push('.'),
            ',' | '.' | '\'' | ' ' | '\u{a0}' | '\u{202f}' => {}
            '0'..='9' => plain.push(letter),
            _ => return None,
        }
    }
    plain.bytes().any(|byte| byte.is_ascii_digit()).then_some(plain)
}

fn date(text: &str, format: Option<&str>) -> Result<Normal, String> {
    let day = |format: Option<&str>| DateFormat::new(format).ok()?.seconds(text.as_bytes());
    let moment = |seconds: i64| {
        // Days only: a time of day on a date says nothing here.
        let days = seconds.div_euclid(86_400);
        Normal::Moment(days * 86_400, shown(days))
    };
    if let Some(format) = format {
        let seconds =
            day(Some(format)).ok_or_else(|| format!("{text:?} is not a date written as {format}"))?;
        return Ok(moment(seconds));
    }
    if let Some(seconds) = day(None).or_else(|| DATES.iter().find_map(|format| day(Some(format)))) {
        return Ok(moment(seconds));
    }
    for (day_first, month_first) in EITHER {
        match (day(Some(day_first)), day(Some(month_first))) {
            (Some(one), Some(other)) if one != other => {
                return Err(format!(
                    "{text:?} is {} or {}: name its `date_format`",
                    moment(one),
                    moment(other)
                ));
            }
            (Some(seconds), _) | (None, Some(seconds)) => return Ok(moment(seconds)),
            (None, None) => {}
        }
    }
    Err(format!("{text:?} is not a date"))
}

/// A day as `2024-01-31` (H. Hinnant, "chrono-compatible low-level date algorithms").
fn shown(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Are they the same? `Err` says in one line how they differ; `Ok` why they are taken for the same.
///
/// # Errors
/// They differ.
pub fn same(expected: &Normal, found: &Normal, tolerance: &Tolerance) -> Result<String, String> {
    match (expected, found) {
        (Normal::Number(expected), Normal::Number(found)) => numbers(*expected, *found, tolerance),
        (Normal::Moment(one, expected), Normal::Moment(other, found)) => {
            let days = (one - other).abs().div_euclid(86_400);
            if one == other {
                Ok("the same date".to_owned())
            } else if tolerance.days.is_some_and(|most| days <= i64::from(most)) {
                Ok(format!("{days} days apart, within tolerance"))
            } else {
                Err(format!("expected {expected}, found {found}: {days} days apart"))
            }
        }
        (Normal::Text(expected), Normal::Text(found)) => {
            if expected == found {
                Ok("the same text".to_owned())
            } else if !tolerance.case && expected.to_lowercase() == found.to_lowercase() {
                Ok("the same text but for capitals".to_owned())
            } else {
                Err(format!("expected {expected:?}, found {found:?}"))
            }
        }
        (expected, found) if expected == found => Ok("the same".to_owned()),
        (expected, found) => Err(format!("expected {expected}, found {found}")),
    }
}

fn numbers(expected: Decimal, found: Decimal, tolerance: &Tolerance) -> Result<String, String> {
    let rounded = |number: Decimal| match tolerance.decimals {
        Some(digits) => {
            number.round_dp_with_strategy(digits, rust_decimal::RoundingStrategy::MidpointAwayFromZero)
        }
        None => number,
    };
    if expected == found {
        return Ok("the same number".to_owned());
    }
    if rounded(expected) == rounded(found) {
        return Ok(format!("the same to {} decimals", tolerance.decimals.unwrap_or_default()));
    }
    let apart = (rounded(expected) - rounded(found)).abs();
    let within = |most: Option<Decimal>| most.is_some_and(|most| apart <= most);
    let decimal = |number: f64| Decimal::try_from(number).ok();
    if within(tolerance.absolute.and_then(decimal)) {
        return Ok(format!("{} apart, within the absolute tolerance", apart.normalize()));
    }
    let part = tolerance.relative.and_then(decimal).and_then(|part| part.checked_mul(expected.abs()));
    if within(part) {
        return Ok(format!("{} apart, within the relative tolerance", apart.normalize()));
    }
    Err(format!(
        "expected {}, found {}: {} apart",
        expected.normalize(),
        found.normalize(),
        apart.normalize()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_of(text: &str) -> Option<String> {
        number(text).ok().map(|number| number.normalize().to_string())
    }

    #[test]
    fn a_number_is_read_as_a_person_means_it() {
        for (text, is) in [
            ("1,234.50", Some("1234.5")),
            ("1.234,50", Some("1234.5")),
            ("$1,234", Some("1234")),
            ("$ 1 234.5", Some("1234.5")),
            ("EUR 12,5", Some("12.5")),
            ("12.00 USD", Some("12")),
            ("(12.5)", Some("-12.5")),
            ("-$3", Some("-3")),
            ("0.010", Some("0.01")),
            ("1,234,567", Some("1234567")),
            ("1.234.567", Some("1234567")),
            ("1'000", Some("1000")),
            ("about 5", None),
            ("n/a", None),
            ("", None),
            ("5 apples", None),
        ] {
            assert_eq!(number_of(text).as_deref(), is, "{text}");
        }
    }

    #[test]
    fn a_date_that_could_be_two_is_none() {
        let date = |text: &str| normal(text, DataType::Date, None).map(|normal| normal.to_string());
        for text in ["2024-03-01", "1 Mar 2024", "March 1, 2024", "01.03.2024", "20240301", "01-Mar-2024"] {
            assert_eq!(date(text).as_deref(), Ok("2024-03-01"), "{text}");
        }
        assert_eq!(date("13/02/2024").as_deref(), Ok("2024-02-13"));
        assert_eq!(date("02/13/2024").as_deref(), Ok("2024-02-13"));
        assert!(date("01/03/2024").is_err_and(|why| why.contains("2024-03-01 or 2024-01-03")));
        assert_eq!(
            normal("01/03/2024", DataType::Date, Some("%d/%m/%Y")).map(|day| day.to_string()).as_deref(),
            Ok("2024-03-01")
        );
        assert!(date("2024-02-30").is_err());
    }

    #[test]
    fn a_tolerance_is_what_it_says() {
        let read = |text: &str| normal(text, DataType::Amount, None).unwrap();
        let one = |expected: &str, found: &str, tolerance: Tolerance| {
            same(&read(expected), &read(found), &tolerance).is_ok()
        };
        assert!(one("100", "100.00", Tolerance::default()));
        assert!(!one("100", "100.01", Tolerance::default()));
        assert!(one("100", "100.01", Tolerance { absolute: Some(0.01), ..Tolerance::default() }));
        assert!(!one("100", "100.02", Tolerance { absolute: Some(0.01), ..Tolerance::default() }));
        assert!(one("200", "202", Tolerance { relative: Some(0.01), ..Tolerance::default() }));
        assert!(one("0.125", "0.13", Tolerance { decimals: Some(2), ..Tolerance::default() }));
        let percent = |text: &str| normal(text, DataType::Percentage, None).unwrap();
        assert!(same(&percent("80%"), &percent("0.8"), &Tolerance::default()).is_ok());
    }
}
