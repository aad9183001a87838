//! A table that is a statement's rows: read page by page in the order of a key, so that a job goes on behind the last one.

use serde::{Deserialize, Serialize};
use waymark_sdk::sql::{self, Keyset, Value};
use waymark_sdk::{Context, Failure};

use crate::data_set::Statement;
use crate::scan::Position;

/// Rows of a page unless the input says otherwise.
const ROWS_PER_PAGE: u32 = 2_000;
/// Rows of a page at most.
const ROWS_PER_PAGE_MAX: u32 = 10_000;

/// How far the rows are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pages {
    keyset: Keyset,
    rows_per_page: u32,
    /// Rows of the first pass, once it has ended.
    rows: Option<u64>,
}

/// Names of the columns, and how many rows there are.
///
/// # Errors
/// `InvalidInput` for what is no statement that reads, or whose key is not among its columns; `Transient` when the database
/// does not answer.
pub fn described(asked: &Statement) -> Result<(Vec<String>, u64), Failure> {
    let Statement { connection, select, .. } = asked;
    let parameters = parameters(asked)?;
    let head = sql::query(connection, &format!("SELECT * FROM ({select}) AS page LIMIT 0"), &parameters);
    let columns = head.map_err(refused)?.columns();
    if let Some(key) = asked.key.names().iter().find(|key| !columns.contains(key)) {
        let known = columns.join(", ");
        return Err(Failure::invalid_input(format_args!(
            "`sql.key`: there is no column {key:?}; there are: {known}"
        )));
    }
    let mut count = sql::query(connection, &format!("SELECT count(*) FROM ({select}) AS page"), &parameters)?;
    let rows = count.next(1)?;
    let rows = rows.first().and_then(|row| row.first()).and_then(Value::as_i64).unwrap_or_default();
    Ok((columns, u64::try_from(rows).unwrap_or_default()))
}

/// What the caller wrote is wrong where the database refuses it.
fn refused(error: sql::Error) -> Failure {
    match error {
        sql::Error::Denied(_) | sql::Error::BadStatement(_) => Failure::invalid_input(error),
        error => error.into(),
    }
}

fn parameters(asked: &Statement) -> Result<Vec<Value>, Failure> {
    let one = |value: &serde_json::Value| match value {
        serde_json::Value::Null => Ok(Value::Null),
        serde_json::Value::Bool(value) => Ok(Value::Boolean(*value)),
        serde_json::Value::String(text) => Ok(Value::Text(text.clone())),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Value::Integer(whole)),
            (None, Some(number)) => Ok(Value::Real(number)),
            (None, None) => {
                Err(Failure::invalid_input(format_args!("`sql.parameters`: {number} is too large")))
            }
        },
        _ => Err(Failure::invalid_input("`sql.parameters` are texts, numbers, booleans or null")),
    };
    asked.parameters.iter().map(one).collect()
}

fn keyset(asked: &Statement) -> Result<Keyset, Failure> {
    let rows = asked.rows_per_page.unwrap_or(ROWS_PER_PAGE);
    if !(1..=ROWS_PER_PAGE_MAX).contains(&rows) {
        return Err(Failure::invalid_input(format_args!(
            "`sql.rows_per_page` must be 1 to {ROWS_PER_PAGE_MAX}"
        )));
    }
    if asked.key.names().is_empty() {
        return Err(Failure::invalid_input("`sql.key` names no column"));
    }
    let keyset = Keyset::new(asked.connection.as_str(), asked.select.as_str(), asked.key.names());
    let keyset = parameters(asked)?.into_iter().fold(keyset, Keyset::parameter);
    Ok(keyset.rows_per_page(rows))
}

impl Pages {
    /// # Errors
    /// `InvalidInput`.
    pub fn new(asked: &Statement) -> Result<Self, Failure> {
        let rows_per_page = asked.rows_per_page.unwrap_or(ROWS_PER_PAGE);
        Ok(Self { keyset: keyset(asked)?, rows_per_page, rows: None })
    }

    /// From the first row again.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn begin(&mut self, asked: &Statement) -> Result<(), Failure> {
        self.keyset = keyset(asked)?;
        Ok(())
    }

    /// Hands rows to `each` with their numbers, until `rows_end`; true at the end. `size` is how many rows the
    /// statement had when it was counted.
    ///
    /// # Errors
    /// The first failure of `each`; what the database says; `Permanent` where a later pass has more or fewer rows.
    pub fn read(
        &mut self,
        position: &mut Position,
        rows_end: u64,
        size: u64,
        context: &Context,
        mut each: impl FnMut(u64, &[Option<String>]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut fields = Vec::new();
        loop {
            let left = u32::try_from(rows_end.saturating_sub(position.rows)).unwrap_or(u32::MAX);
            self.keyset = self.keyset.clone().rows_per_page(self.rows_per_page.min(left));
            let page = self.keyset.next_page()?;
            if page.is_empty() {
                let rows = *self.rows.get_or_insert(position.rows);
                if rows != position.rows {
                    return Err(Failure::permanent(format_args!(
                        "the statement had {rows} rows at first and {} now",
                        position.rows
                    )));
                }
                position.offset = size;
                return Ok(true);
            }
            for row in page {
                fields.clear();
                fields.extend(row.into_iter().map(text));
                position.rows += 1;
                each(position.rows, &fields)?;
            }
            // Rows that came after they were counted are no progress.
            position.offset = position.rows.min(size);
            if position.rows >= rows_end || context.should_yield() {
                return Ok(false);
            }
        }
    }
}

/// A value as a table's field.
fn text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Boolean(value) => Some(value.to_string()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text),
        Value::Blob(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}
