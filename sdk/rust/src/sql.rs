//! SQL over connections that the operator granted to this job type (`waymark:sql`, [`wit/deps/sql`]).
//!
//! Values reach a statement as parameters only, written `$1`, `$2` and so on. A [`Cursor`] reads rows in batches, in bounded
//! memory; it does not survive a checkpoint. A job that must go on after a crash reads pages with [`Keyset`], which is part
//! of its state.
//!
//! ```no_run
//! use waymark_sdk::{prelude::*, sql::Keyset};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Sum { pages: Keyset, total: i64 }
//!
//! # fn start() -> Sum {
//! let pages = Keyset::new("warehouse", "SELECT id, amount FROM payments WHERE amount > $1", ["id"])
//!     .parameter(100)
//!     .rows_per_page(5_000);
//! # Sum { pages, total: 0 }}
//! # fn step(sum: &mut Sum) -> Result<Step<i64>, Failure> {
//! let rows = sum.pages.next_page()?;
//! sum.total += rows.iter().filter_map(|row| row[1].as_i64()).sum::<i64>();
//! Ok(if rows.is_empty() { Step::Done(sum.total) } else { Step::progress(sum.pages.rows(), None) })
//! # }
//! ```
//!
//! Natively, in tests, statements are answered by a function given to [`answer_on_this_thread`].
//!
//! [`wit/deps/sql`]: https://github.com/waymark-rs/waymark/blob/main/wit/deps/sql/sql.wit

use crate::Failure;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};

#[cfg(not(target_arch = "wasm32"))]
pub use inner::answer_on_this_thread;

/// A value of a row, or a parameter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text; also exact decimals, dates, times, UUIDs and JSON.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// The whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($from:ty => $case:ident),*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$case(value.into())
            }
        }
    )*};
}

from!(bool => Boolean, i32 => Integer, i64 => Integer, u32 => Integer, f64 => Real, &str => Text, String => Text);

/// One row.
pub type Row = Vec<Value>;

/// Why a statement has no answer. As a [`Failure`] it is what the host should make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No connection of this name is granted to the job type.
    NotGranted(String),
    /// The statement does what the grant does not allow.
    Denied(String),
    /// The database refuses the statement or its parameters.
    BadStatement(String),
    /// More rows or bytes than the grant allows.
    TooMuch(String),
    /// The connection failed, was busy, or the statement took too long: may succeed later.
    Unavailable(String),
}

impl Error {
    /// There is no such connection for this job type: a job that can do without goes on without.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotGranted(_))
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotGranted(why)
            | Self::Denied(why)
            | Self::BadStatement(why)
            | Self::TooMuch(why)
            | Self::Unavailable(why) => write!(formatter, "SQL: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) => Self::transient(error),
            _ => Self::permanent(error),
        }
    }
}

/// Names of the connections that are granted. *Pure.*
pub fn connections() -> Vec<String> {
    inner::connections()
}

/// Runs a statement that reads. *Immediate.*
///
/// # Errors
/// See [`Error`].
pub fn query(connection: &str, statement: &str, parameters: &[Value]) -> Result<Cursor, Error> {
    inner::open(connection, statement, parameters).map(Cursor)
}

/// Runs a statement that writes, in a transaction of its own, and returns how many rows it changed. *Immediate*: it may
/// happen again if the step is run again after a crash, so make it one that may.
///
/// # Errors
/// See [`Error`].
pub fn execute(connection: &str, statement: &str, parameters: &[Value]) -> Result<u64, Error> {
    inner::execute(connection, statement, parameters)
}

/// The rows of a statement, read as they are asked for.
#[derive(Debug)]
pub struct Cursor(inner::Cursor);

impl Cursor {
    /// Names of the columns.
    pub fn columns(&self) -> Vec<String> {
        self.0.columns()
    }

    /// The next rows, at most so many; none at the end. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`].
    pub fn next(&mut self, rows: u32) -> Result<Vec<Row>, Error> {
        self.0.next(rows)
    }
}

/// Rows that a page has unless told otherwise.
pub const ROWS_PER_PAGE: u32 = 1_000;

/// A statement read page by page in the order of its keys: each page begins behind the last row of the one before. Part of a
/// job's state; what it holds of the table is the last key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keyset {
    connection: String,
    select: String,
    parameters: Vec<Value>,
    keys: Vec<String>,
    after: Option<Vec<Value>>,
    rows_per_page: u32,
    rows: u64,
    ended: bool,
}

impl Keyset {
    /// Pages of `select`, in which the columns `keys` are together unique and never null.
    pub fn new<K: Into<String>>(
        connection: impl Into<String>,
        select: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> Self {
        Self {
            connection: connection.into(),
            select: select.into(),
            parameters: Vec::new(),
            keys: keys.into_iter().map(Into::into).collect(),
            after: None,
            rows_per_page: ROWS_PER_PAGE,
            rows: 0,
            ended: false,
        }
    }

    /// Adds a parameter of the statement.
    #[must_use]
    pub fn parameter(mut self, value: impl Into<Value>) -> Self {
        self.parameters.push(value.into());
        self
    }

    /// Rows of a page; 0 counts as 1.
    #[must_use]
    pub fn rows_per_page(self, rows: u32) -> Self {
        Self { rows_per_page: rows.max(1), ..self }
    }

    /// Rows read so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next page; empty at the end. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`]; `BadStatement` where a key is not among the columns.
    pub fn next_page(&mut self) -> Result<Vec<Row>, Error> {
        if self.ended {
            return Ok(Vec::new());
        }
        let (statement, parameters) = self.statement();
        let mut cursor = query(&self.connection, &statement, &parameters)?;
        let columns = cursor.columns();
        let mut page = Vec::new();
        loop {
            let rows = cursor.next(self.rows_per_page)?;
            if rows.is_empty() {
                break;
            }
            page.extend(rows);
        }
        match page.last() {
            None => self.ended = true,
            Some(last) => {
                let key = |key: &String| {
                    let index = columns.iter().position(|column| column == key);
                    let value = index.and_then(|index| last.get(index)).cloned();
                    value.ok_or_else(|| {
                        Error::BadStatement(format!("the key {key:?} is not among the columns"))
                    })
                };
                self.after = Some(self.keys.iter().map(key).collect::<Result<_, _>>()?);
            }
        }
        self.rows += page.len() as u64;
        Ok(page)
    }

    fn statement(&self) -> (String, Vec<Value>) {
        let quoted = |key: &String| format!("\"{}\"", key.replace('"', "\"\""));
        let keys = self.keys.iter().map(quoted).collect::<Vec<_>>().join(", ");
        let mut parameters = self.parameters.clone();
        let mut behind = String::new();
        if let Some(after) = &self.after {
            let first = parameters.len() + 1;
            let places: Vec<_> = (first..first + after.len()).map(|number| format!("${number}")).collect();
            behind = format!(" WHERE ({keys}) > ({})", places.join(", "));
            parameters.extend(after.iter().cloned());
        }
        let Self { select, rows_per_page, .. } = self;
        let statement =
            format!("SELECT * FROM ({select}) AS page{behind} ORDER BY {keys} LIMIT {rows_per_page}");
        (statement, parameters)
    }
}

#[cfg(target_arch = "wasm32")]
mod inner {
    use super::{Error, Row, Value};

    #[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    mod bindings {
        wit_bindgen::generate!({ path: "../../wit/deps/sql", world: "imports" });
    }

    use bindings::waymark::sql::query;

    #[derive(Debug)]
    pub(super) struct Cursor(query::Cursor);

    impl Cursor {
        pub(super) fn columns(&self) -> Vec<String> {
            self.0.columns().into_iter().map(|column| column.name).collect()
        }

        pub(super) fn next(&mut self, rows: u32) -> Result<Vec<Row>, Error> {
            let rows = self.0.next(rows).map_err(told)?;
            Ok(rows.into_iter().map(|row| row.into_iter().map(read).collect()).collect())
        }
    }

    pub(super) fn connections() -> Vec<String> {
        query::connections()
    }

    pub(super) fn open(connection: &str, statement: &str, parameters: &[Value]) -> Result<Cursor, Error> {
        query::open(connection, statement, &sent(parameters)).map(Cursor).map_err(told)
    }

    pub(super) fn execute(connection: &str, statement: &str, parameters: &[Value]) -> Result<u64, Error> {
        query::execute(connection, statement, &sent(parameters)).map_err(told)
    }

    fn sent(parameters: &[Value]) -> Vec<query::Value> {
        let sent = |value: &Value| match value {
            Value::Null => query::Value::Null,
            Value::Boolean(value) => query::Value::Boolean(*value),
            Value::Integer(value) => query::Value::Integer(*value),
            Value::Real(value) => query::Value::Real(*value),
            Value::Text(text) => query::Value::Text(text.clone()),
            Value::Blob(bytes) => query::Value::Blob(bytes.clone()),
        };
        parameters.iter().map(sent).collect()
    }

    fn read(value: query::Value) -> Value {
        match value {
            query::Value::Null => Value::Null,
            query::Value::Boolean(value) => Value::Boolean(value),
            query::Value::Integer(value) => Value::Integer(value),
            query::Value::Real(value) => Value::Real(value),
            query::Value::Text(text) => Value::Text(text),
            query::Value::Blob(bytes) => Value::Blob(bytes),
        }
    }

    fn told(error: query::Error) -> Error {
        match error {
            query::Error::NotGranted(why) => Error::NotGranted(why),
            query::Error::Denied(why) => Error::Denied(why),
            query::Error::BadStatement(why) => Error::BadStatement(why),
            query::Error::TooMuch(why) => Error::TooMuch(why),
            query::Error::Unavailable(why) => Error::Unavailable(why),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use super::{Error, Row, Value};
    use std::{cell::RefCell, collections::VecDeque, rc::Rc};

    /// Columns and rows of a statement.
    type Table = (Vec<String>, Vec<Row>);
    type Database = Rc<dyn Fn(&str, &str, &[Value]) -> Result<Table, Error>>;

    thread_local! {
        static DATABASE: RefCell<Option<Database>> = const { RefCell::new(None) };
    }

    /// From now on this thread's statements are answered by this function, which is given connection, statement and
    /// parameters. For tests.
    pub fn answer_on_this_thread(database: impl Fn(&str, &str, &[Value]) -> Result<Table, Error> + 'static) {
        DATABASE.set(Some(Rc::new(database)));
    }

    #[derive(Debug)]
    pub(super) struct Cursor(Vec<String>, VecDeque<Row>);

    impl Cursor {
        pub(super) fn columns(&self) -> Vec<String> {
            self.0.clone()
        }

        pub(super) fn next(&mut self, rows: u32) -> Result<Vec<Row>, Error> {
            let rows = self.1.len().min(rows as usize);
            Ok(self.1.drain(..rows).collect())
        }
    }

    pub(super) fn connections() -> Vec<String> {
        Vec::new()
    }

    pub(super) fn open(connection: &str, statement: &str, parameters: &[Value]) -> Result<Cursor, Error> {
        let database = DATABASE.with_borrow(Clone::clone).ok_or_else(|| {
            Error::NotGranted("no database: give one to waymark_sdk::sql::answer_on_this_thread".to_owned())
        })?;
        let (columns, rows) = database(connection, statement, parameters)?;
        Ok(Cursor(columns, rows.into()))
    }

    pub(super) fn execute(connection: &str, statement: &str, parameters: &[Value]) -> Result<u64, Error> {
        open(connection, statement, parameters).map(|cursor| cursor.1.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_behind_the_last_key() {
        answer_on_this_thread(|connection, statement, parameters| {
            assert_eq!(connection, "main");
            let columns = ["a", "b"].map(str::to_owned).to_vec();
            let row = |number: i64| vec![Value::Integer(number), Value::Text("x".into())];
            let rows = match parameters {
                [Value::Integer(7)] => {
                    assert_eq!(
                        statement,
                        "SELECT * FROM (SELECT a, b FROM t WHERE c = $1) AS page ORDER BY \"a\", \"b\" LIMIT 2"
                    );
                    vec![row(1), row(2)]
                }
                [_, Value::Integer(2), Value::Text(_)] => {
                    assert!(statement.contains(" WHERE (\"a\", \"b\") > ($2, $3) ORDER BY"), "{statement}");
                    Vec::new()
                }
                other => panic!("{other:?}"),
            };
            Ok((columns, rows))
        });
        let mut pages = Keyset::new("main", "SELECT a, b FROM t WHERE c = $1", ["a", "b"]);
        pages = pages.parameter(7).rows_per_page(2);
        assert_eq!(pages.next_page().unwrap().len(), 2);
        let state = serde_json::to_string(&pages).unwrap();
        let mut restored: Keyset = serde_json::from_str(&state).unwrap();
        assert_eq!(restored, pages);
        assert!(restored.next_page().unwrap().is_empty() && restored.next_page().unwrap().is_empty());
        assert_eq!(restored.rows(), 2);
    }

    #[test]
    fn without_a_database_statements_fail_in_a_way_that_a_job_can_tell() {
        assert!(query("main", "SELECT 1", &[]).unwrap_err().is_absent());
    }
}
