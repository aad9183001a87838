//! Values of columns, read over a connection that the operator granted.

use waymark_sdk::prelude::*;
use waymark_sdk::sql::{self, Error};

use crate::Pde;

/// Columns that a step reads.
const COLUMNS_PER_STEP: usize = 10;
/// Rows that are read of a column, and different values that are kept.
const ROWS_MAX: u32 = 200;
const VALUES_MAX: usize = 10;
/// Longest value that is kept, in characters.
const CHARACTERS_MAX: usize = 60;

/// Reads values of the next elements, and returns how many are behind. An element that has samples keeps them; one that cannot
/// be read goes without, and an output record says why.
///
/// # Errors
/// The connection is not granted, or does not answer.
pub fn read(
    connection: &str,
    catalogue: &mut [Pde],
    from: usize,
    context: &mut Context,
) -> Result<usize, Failure> {
    let to = catalogue.len().min(from + COLUMNS_PER_STEP);
    for pde in catalogue.get_mut(from..to).unwrap_or_default() {
        if !pde.samples.is_empty() {
            continue;
        }
        match values(connection, pde) {
            Ok(values) => pde.samples = values,
            Err(error @ (Error::BadStatement(_) | Error::Denied(_) | Error::TooMuch(_))) => {
                context.emit(&json!({"record": "not read", "pde": pde.id(), "reason": error.to_string()}))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(to)
}

fn values(connection: &str, pde: &Pde) -> Result<Vec<String>, Error> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = pde.table.split('.').map(quoted).collect::<Vec<_>>().join(".");
    let column = quoted(&pde.column);
    let statement = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT {ROWS_MAX}");
    let mut cursor = sql::query(connection, &statement, &[])?;
    let mut values: Vec<String> = Vec::new();
    loop {
        let rows = cursor.next(ROWS_MAX)?;
        if rows.is_empty() {
            return Ok(values);
        }
        for value in rows.into_iter().filter_map(|row| row.into_iter().next()) {
            let text = match value {
                sql::Value::Boolean(value) => value.to_string(),
                sql::Value::Integer(number) => number.to_string(),
                sql::Value::Real(number) => number.to_string(),
                sql::Value::Text(text) => text.trim().chars().take(CHARACTERS_MAX).collect(),
                sql::Value::Null | sql::Value::Blob(_) => continue,
            };
            if values.len() < VALUES_MAX && !text.is_empty() && !values.contains(&text) {
                values.push(text);
            }
        }
    }
}
