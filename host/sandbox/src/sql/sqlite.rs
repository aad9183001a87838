//! SQLite files: opened for reading unless writing is granted, and an authorizer that lets nothing pass but rows.

use super::{
    Ask, BATCH_BYTES_MAX, Left, Served, Statement,
    bindings::query::{Column, Error, Row, Value},
    time,
};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, Rows, Statement as Prepared,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
    types::{ToSqlOutput, ValueRef},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Longest text or blob, and longest statement, bytes.
const LENGTH_MAX: i32 = 16 << 20;
/// Instructions of its machine between two looks at the clock.
const CHECK_EVERY: i32 = 10_000;
/// Functions that reach outside the database.
const FORBIDDEN: [&str; 3] = ["load_extension", "readfile", "writefile"];

#[derive(Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
}

/// When the running statement must be over.
#[derive(Clone)]
struct Clock(Arc<Mutex<Instant>>);

impl Clock {
    fn set(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + time;
    }

    fn is_over(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }
}

impl Source {
    fn connect(&self, write: bool, time: Duration) -> rusqlite::Result<(Connection, Clock)> {
        let mode = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
        let mut connection = Connection::open_with_flags(&self.path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        let clock = Clock(Arc::new(Mutex::new(Instant::now() + time)));
        connection.busy_timeout(time)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LENGTH_MAX)?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, LENGTH_MAX)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let watch = clock.clone();
        connection.progress_handler(CHECK_EVERY, Some(move || watch.is_over()))?;
        connection.authorizer(Some(move |context: AuthContext<'_>| allowed(&context.action, write)))?;
        Ok((connection, clock))
    }

    /// Reads the rows of a statement as they are asked for.
    pub(super) fn serve(&self, statement: &Statement, mut left: Left, served: Served) {
        let Served { opened, mut asks, _place } = served;
        let connected = self.connect(false, statement.time()).map_err(error);
        let (connection, clock) = match connected {
            Ok(connected) => connected,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let mut prepared = match prepare(&connection, statement) {
            Ok(prepared) => prepared,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let columns = columns(&prepared);
        let width = columns.len();
        let mut rows = prepared.raw_query();
        // Nobody waits any more: the cursor is not needed.
        if opened.send(Ok(columns)).is_err() {
            return;
        }
        while let Some(Ask { rows: wanted, end, reply }) = asks.blocking_recv() {
            clock.set(time(statement.limit, end));
            let batch = batch(&mut rows, width, wanted, &mut left);
            let failed = batch.is_err();
            if reply.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// Runs a statement that writes, in a transaction of its own.
    pub(super) fn execute(
        &self,
        statement: &Statement,
        done: oneshot::Sender<Result<u64, Error>>,
        _place: OwnedSemaphorePermit,
    ) {
        let execute = || {
            let (connection, _) = self.connect(true, statement.time()).map_err(error)?;
            let mut prepared = prepare(&connection, statement)?;
            let changed = prepared.raw_execute().map_err(error)?;
            Ok(changed as u64)
        };
        // Nobody may wait any more; the statement is done all the same.
        let _ = done.send(execute());
    }
}

/// A statement alone, its parameters bound.
fn prepare<'a>(connection: &'a Connection, statement: &Statement) -> Result<Prepared<'a>, Error> {
    // Refuses more than one.
    let mut prepared = connection.prepare(&statement.text).map_err(error)?;
    let (wanted, given) = (prepared.parameter_count(), statement.parameters.len());
    if wanted != given {
        return Err(Error::BadStatement(format!(
            "the statement has {wanted} parameters, and {given} were given"
        )));
    }
    for (index, value) in (1..).zip(&statement.parameters) {
        // `$1` is a name to SQLite, counted in the order of its first use.
        let named = prepared.parameter_index(&format!("${index}")).map_err(error)?;
        let value = ToSqlOutput::Borrowed(match value {
            Value::Null => ValueRef::Null,
            Value::Boolean(value) => ValueRef::Integer(i64::from(*value)),
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        });
        prepared.raw_bind_parameter(named.unwrap_or(index), value).map_err(error)?;
    }
    Ok(prepared)
}

fn columns(prepared: &Prepared<'_>) -> Vec<Column> {
    // Its values have types, not its columns.
    let column = |name: &str| Column { name: name.to_owned(), type_name: String::new() };
    prepared.column_names().map(column).collect()
}

fn batch(rows: &mut Rows<'_>, width: usize, wanted: u32, left: &mut Left) -> Result<Vec<Row>, Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < wanted as usize && bytes < BATCH_BYTES_MAX {
        let Some(row) = rows.next().map_err(error)? else { break };
        let row = (0..width).map(|index| row.get_ref(index).map(value)).collect::<Result<Row, _>>();
        let row = row.map_err(error)?;
        bytes += left.take(&row)?;
        batch.push(row);
    }
    Ok(batch)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(bytes.to_owned()),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_owned()),
    }
}

fn allowed(action: &AuthAction<'_>, write: bool) -> Authorization {
    let allowed = match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !FORBIDDEN.contains(function_name),
        AuthAction::Insert { .. } | AuthAction::Update { .. } | AuthAction::Delete { .. } => write,
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

fn error(error: rusqlite::Error) -> Error {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly | ErrorCode::PermissionDenied,
        ) => {
            Error::Denied(format!("{text}: the connection is granted for reading rows, or for changing them"))
        }
        Some(ErrorCode::OperationInterrupted) => {
            Error::Unavailable("the statement took longer than statement_ms, or than this step".to_owned())
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::DiskFull,
        ) => Error::Unavailable(text),
        _ => Error::BadStatement(text),
    }
}
