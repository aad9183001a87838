//! What a field's bytes mean: numbers, dates, booleans, types.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A field as text; bytes that are not UTF-8 become replacement characters.
pub fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Longest value that a report shows, in characters.
pub const SHOWN_CHARACTERS_MAX: usize = 200;

/// A text, cut where it is too long to be shown.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A finite decimal number, blanks around it dropped: `12`, `-0.5`, `1e6`. No thousands separators.
pub fn number(field: &[u8]) -> Option<f64> {
    let field = field.trim_ascii();
    if !field.first()?.is_ascii_digit() && !matches!(field[0], b'-' | b'+' | b'.') {
        return None;
    }
    if !field.last()?.is_ascii_digit() && field.last() != Some(&b'.') {
        return None;
    }
    std::str::from_utf8(field).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

fn is_integer(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    let digits = field.strip_prefix(b"-").or_else(|| field.strip_prefix(b"+")).unwrap_or(field);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// `true`, `false`, `yes`, `no`, `t`, `f`, `y`, `n` in any case. Digits are numbers.
pub fn boolean(field: &[u8]) -> Option<bool> {
    let field = field.trim_ascii();
    let is = |words: [&str; 4]| words.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(field));
    if is(["true", "yes", "t", "y"]) {
        Some(true)
    } else if is(["false", "no", "f", "n"]) {
        Some(false)
    } else {
        None
    }
}

/// Type of a value or a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Digits with an optional sign.
    Integer,
    /// Any decimal number, integers too.
    Decimal,
    /// See [`boolean`].
    Boolean,
    /// `2013-01-31`.
    Date,
    /// `2013-01-31T10:00:00`, or with a blank for `T`, with or without fraction and zone; dates too.
    Datetime,
    /// Anything.
    Text,
}

/// The narrowest type of a value: never `Datetime` for a mere date, never `Decimal` for an integer.
pub fn type_of(field: &[u8]) -> Type {
    if is_integer(field) {
        Type::Integer
    } else if number(field).is_some() {
        Type::Decimal
    } else if boolean(field).is_some() {
        Type::Boolean
    } else {
        match iso(field) {
            Some((_, false)) => Type::Date,
            Some((_, true)) => Type::Datetime,
            None => Type::Text,
        }
    }
}

impl Type {
    /// True when a value of narrowest type `narrow` is also of this type.
    pub fn admits(self, narrow: Type) -> bool {
        match self {
            Self::Text => true,
            Self::Decimal => matches!(narrow, Self::Integer | Self::Decimal),
            Self::Datetime => matches!(narrow, Self::Date | Self::Datetime),
            Self::Integer | Self::Boolean | Self::Date => self == narrow,
        }
    }
}

/// An ISO 8601 date or time of day on a date: the moment in seconds since 1970 (UTC unless it names a zone),
/// and whether it has a time of day.
fn iso(field: &[u8]) -> Option<(i64, bool)> {
    let field = field.trim_ascii();
    if field.len() < 10 || field[4] != b'-' || field[7] != b'-' || !field.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(field).ok()?;
    let date: NaiveDate = text[..10].parse().ok()?;
    if text.len() == 10 {
        return Some((date.and_time(NaiveTime::MIN).and_utc().timestamp(), false));
    }
    let rest = text[10..].strip_prefix(['T', 't', ' '])?;
    let (time, offset_seconds) = match rest.find(['Z', 'z', '+', '-']) {
        None => (rest, 0),
        Some(at) if matches!(rest.as_bytes()[at], b'Z' | b'z') && at + 1 == rest.len() => (&rest[..at], 0),
        Some(at) => (&rest[..at], zone(&rest[at..])?),
    };
    let time: NaiveTime = time.parse().ok()?;
    Some((date.and_time(time).and_utc().timestamp() - offset_seconds, true))
}

/// `+01:00`, `+0100` or `+01` in seconds.
fn zone(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text[1..].chars().filter(|letter| *letter != ':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = if digits.len() == 4 { digits[2..].parse().ok()? } else { 0 };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A date format: strftime letters such as `%Y-%m-%d`, or ISO 8601 where none is given.
#[derive(Debug, Clone)]
pub struct DateFormat(Option<Vec<Item<'static>>>);

impl DateFormat {
    /// Compiles `format`; `None` reads ISO 8601.
    ///
    /// # Errors
    /// One line saying what is wrong with the format.
    pub fn new(format: Option<&str>) -> Result<Self, String> {
        let Some(format) = format else { return Ok(Self(None)) };
        let items = StrftimeItems::new(format)
            .parse_to_owned()
            .map_err(|_| format!("{format:?} is not a date format such as %Y-%m-%d"))?;
        Ok(Self(Some(items)))
    }

    /// The moment in seconds since 1970 (UTC unless the text names a zone), if the text fits the format
    /// and names a date that exists.
    pub fn seconds(&self, field: &[u8]) -> Option<i64> {
        let Some(items) = &self.0 else { return iso(field).map(|(seconds, _)| seconds) };
        let text = std::str::from_utf8(field).ok()?;
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, items.iter()).ok()?;
        let offset = i64::from(parsed.offset().unwrap_or(0));
        let moment: NaiveDateTime = match parsed.to_naive_datetime_with_offset(0) {
            Ok(moment) => moment,
            Err(_) => parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN),
        };
        Some(moment.and_utc().timestamp() - offset)
    }
}
