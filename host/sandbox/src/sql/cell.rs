//! Values on their way to PostgreSQL and back.

use super::bindings::query::Value;
use bytes::BytesMut;
use std::{error::Error, fmt::Write};
use time::{
    Date, OffsetDateTime, PrimitiveDateTime, Time, format_description::BorrowedFormatItem,
    format_description::well_known::Rfc3339, macros::format_description,
};
use tokio_postgres::{
    Column,
    types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked},
};

/// A parameter. It travels as text, which the database reads as the type that it expects.
#[derive(Debug)]
pub(super) struct Parameter<'a>(&'a Value);

impl<'a> Parameter<'a> {
    pub(super) fn all(values: &'a [Value]) -> Vec<Self> {
        values.iter().map(Parameter).collect()
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Boolean(value) => out.write_str(if *value { "t" } else { "f" })?,
            Value::Integer(value) => write!(out, "{value}")?,
            Value::Real(value) if value.is_infinite() => {
                out.write_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })?;
            }
            Value::Real(value) => write!(out, "{value}")?,
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Blob(bytes) => {
                out.write_str("\\x")?;
                for byte in bytes {
                    write!(out, "{byte:02x}")?;
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A value of a row.
pub(super) struct Cell(pub(super) Value);

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const TIME: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]:[second].[subsecond digits:6]");
const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");

impl Cell {
    /// The first column of a type that is not read, with its name.
    pub(super) fn unreadable(columns: &[Column]) -> Option<(&str, &str)> {
        let column = columns.iter().find(|column| !Self::accepts(column.type_()))?;
        Some((column.name(), column.type_().name()))
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let text =
            |raw| Ok::<_, Box<dyn Error + Sync + Send>>(Value::Text(std::str::from_utf8(raw)?.to_owned()));
        Ok(Self(match *kind {
            Type::BOOL => Value::Boolean(bool::from_sql(kind, raw)?),
            Type::INT2 => Value::Integer(i16::from_sql(kind, raw)?.into()),
            Type::INT4 => Value::Integer(i32::from_sql(kind, raw)?.into()),
            Type::INT8 => Value::Integer(i64::from_sql(kind, raw)?),
            Type::OID => Value::Integer(u32::from_sql(kind, raw)?.into()),
            Type::FLOAT4 => Value::Real(f32::from_sql(kind, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(kind, raw)?),
            Type::BYTEA => Value::Blob(raw.to_owned()),
            Type::NUMERIC => Value::Text(decimal(raw).ok_or("a malformed number")?),
            Type::UUID => Value::Text(uuid(raw).ok_or("a malformed UUID")?),
            Type::DATE => Value::Text(Date::from_sql(kind, raw)?.format(DATE)?),
            Type::TIME => Value::Text(Time::from_sql(kind, raw)?.format(TIME)?),
            Type::TIMESTAMP => Value::Text(PrimitiveDateTime::from_sql(kind, raw)?.format(STAMP)?),
            Type::TIMESTAMPTZ => Value::Text(OffsetDateTime::from_sql(kind, raw)?.format(&Rfc3339)?),
            // A version byte, and the text.
            Type::JSONB => text(raw.get(1..).unwrap_or_default())?,
            _ => text(raw)?,
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(kind.kind(), Kind::Enum(_))
            || matches!(
                *kind,
                Type::BOOL
                    | Type::INT2
                    | Type::INT4
                    | Type::INT8
                    | Type::OID
                    | Type::FLOAT4
                    | Type::FLOAT8
                    | Type::BYTEA
                    | Type::NUMERIC
                    | Type::UUID
                    | Type::DATE
                    | Type::TIME
                    | Type::TIMESTAMP
                    | Type::TIMESTAMPTZ
                    | Type::JSON
                    | Type::JSONB
                    | Type::TEXT
                    | Type::VARCHAR
                    | Type::BPCHAR
                    | Type::NAME
                    | Type::UNKNOWN
            )
    }
}

/// 16 bytes as 8-4-4-4-12 hexadecimal digits.
fn uuid(raw: &[u8]) -> Option<String> {
    let digits = crate::engine::hex(<&[u8; 16]>::try_from(raw).ok()?);
    let [a, b, c, d, e] = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| &digits[from..to]);
    Some(format!("{a}-{b}-{c}-{d}-{e}"))
}

/// A number as PostgreSQL sends it (`numeric_send`): digits to the base of 10,000, the weight of the first, a sign, and
/// how many decimals are shown.
fn decimal(raw: &[u8]) -> Option<String> {
    const NEGATIVE: u16 = 0x4000;
    let words: Vec<u16> = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [count, weight, sign, decimals, digits @ ..] = words.as_slice() else { return None };
    match sign {
        0 | &NEGATIVE => {}
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    if digits.len() != usize::from(*count) {
        return None;
    }
    let weight = i32::from(weight.cast_signed());
    let digit = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index.and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    for place in (0..=weight.max(0)).rev() {
        // Writing to a String cannot fail.
        let _ = if text.is_empty() {
            write!(text, "{}", digit(place))
        } else {
            write!(text, "{:04}", digit(place))
        };
    }
    let mut fraction = String::new();
    for place in 1..=i32::from(decimals.div_ceil(4)) {
        let _ = write!(fraction, "{:04}", digit(-place));
    }
    fraction.truncate(usize::from(*decimals));
    let whole = text.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let minus = if *sign == NEGATIVE { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{minus}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_read_exactly() {
        let number = |weight: i16, sign: u16, decimals: u16, digits: &[u16]| {
            let words = [digits.len() as u16, weight.cast_unsigned(), sign, decimals];
            let bytes: Vec<u8> = words.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect();
            decimal(&bytes).unwrap()
        };
        assert_eq!(number(0, 0, 0, &[]), "0");
        assert_eq!(number(0, 0, 2, &[12, 3400]), "12.34");
        assert_eq!(number(1, 0x4000, 0, &[1, 5]), "-10005");
        assert_eq!(number(-1, 0, 4, &[7]), "0.0007");
        assert_eq!(number(-2, 0, 10, &[1]), "0.0000000100");
        assert_eq!(number(2, 0, 1, &[3]), "300000000.0");
        assert_eq!(number(0, 0xc000, 0, &[]), "NaN");
        assert_eq!(decimal(&[0, 9]), None);
    }
}
