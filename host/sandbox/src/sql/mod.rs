//! `waymark:sql`: statements over connections that the operator named.
//!
//! Whoever serves a cursor owns its connection: a task for PostgreSQL ([`postgres`]), a thread for SQLite ([`sqlite`]).
//! It is asked for the next rows over a channel, and ends when nobody holds the cursor any more. What every database
//! has in common is here: grants, limits, waiting.

mod cell;
pub mod config;
mod metrics;
mod postgres;
mod sqlite;

pub(crate) mod bindings {
    //! Generated from `wit/deps/sql`.
    wasmtime::component::bindgen!({
        world: "imports",
        path: "../../wit/deps/sql",
        imports: { default: async | trappable },
        with: { "waymark:sql/query.cursor": crate::sql::Cursor },
    });
    pub(crate) use waymark::sql::query;
}

pub(crate) use metrics::Metrics;

use crate::{secrets::Secrets, state::State};
use bindings::query::{self, Column, Error, Row, Value};
use config::{Address, Connection, Grant};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wasmtime::{Result, component::Resource};

/// Rows that are answered at once, and bytes after which no other row is added.
const BATCH_ROWS_MAX: u32 = 10_000;
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Bytes that a row and a value take beyond their text.
const ROW_BYTES: u64 = 16;
const VALUE_BYTES: u64 = 16;

/// A database, made ready.
pub(crate) struct Database {
    source: Source,
    /// Cursors and statements at once.
    places: Arc<Semaphore>,
    connect: Duration,
}

enum Source {
    Postgres(postgres::Source),
    Sqlite(sqlite::Source),
}

impl Database {
    /// # Errors
    /// Its address is malformed, or its secret is not there.
    pub(crate) fn new(
        name: &str,
        connection: &Connection,
        secrets: &Secrets,
        tls: &rustls::ClientConfig,
    ) -> Result<Self, String> {
        let wrong = |why: String| format!("sql.{name}.{why}");
        let connect = Duration::from_millis(connection.connect_ms);
        let size = connection.pool.get() as usize;
        let source = match connection.address().map_err(wrong)? {
            Address::Sqlite(path) => Source::Sqlite(sqlite::Source { path }),
            Address::Postgres(mut config) => {
                if let Some(name) = &connection.password {
                    let password =
                        secrets.get(name).ok_or_else(|| wrong(format!("password: no secret {name:?}")))?;
                    config.password(password);
                }
                config.connect_timeout(connect).application_name("waymark");
                Source::Postgres(postgres::Source::new(*config, tls, size).map_err(wrong)?)
            }
        };
        Ok(Self { source, places: Arc::new(Semaphore::new(size)), connect })
    }
}

/// What a job type may ask, made ready.
pub(crate) struct Sql {
    job_type: String,
    granted: BTreeMap<String, (Grant, Arc<Database>)>,
    metrics: Arc<Metrics>,
}

/// One statement, ready to be run.
pub(super) struct Statement {
    text: String,
    parameters: Vec<Value>,
    /// Longest time, and when the guest's step ends.
    limit: Duration,
    end: Option<Instant>,
}

impl Statement {
    /// How long it may take from now on.
    fn time(&self) -> Duration {
        time(self.limit, self.end)
    }
}

fn time(limit: Duration, end: Option<Instant>) -> Duration {
    end.map_or(limit, |end| limit.min(end.saturating_duration_since(Instant::now())))
}

/// What a statement may still return.
pub(super) struct Left {
    rows: u64,
    bytes: u64,
    rows_max: u64,
    bytes_max: u64,
}

impl Left {
    fn new(grant: &Grant) -> Self {
        let Grant { rows_max, bytes_max, .. } = *grant;
        Self { rows: rows_max, bytes: bytes_max, rows_max, bytes_max }
    }

    /// Takes a row, and returns its bytes.
    fn take(&mut self, row: &Row) -> Result<u64, Error> {
        let bytes = ROW_BYTES + row.iter().map(size).sum::<u64>();
        let rows = self.rows.checked_sub(1);
        self.rows = rows.ok_or_else(|| {
            Error::TooMuch(format!("the statement returns more than rows_max = {}", self.rows_max))
        })?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            Error::TooMuch(format!("the rows are longer than bytes_max = {}", self.bytes_max))
        })?;
        Ok(bytes)
    }
}

fn size(value: &Value) -> u64 {
    VALUE_BYTES
        + match value {
            Value::Text(text) => text.len() as u64,
            Value::Blob(bytes) => bytes.len() as u64,
            _ => 0,
        }
}

/// A question to whoever serves a cursor.
pub(super) struct Ask {
    rows: u32,
    /// When its answer is of no use any more.
    end: Option<Instant>,
    reply: oneshot::Sender<Result<Vec<Row>, Error>>,
}

/// Rows that are read as they are asked for.
pub struct Cursor {
    columns: Vec<Column>,
    asks: mpsc::Sender<Ask>,
    limit: Duration,
}

/// The end of the channel at which a cursor is served.
pub(super) struct Served {
    opened: oneshot::Sender<Result<Vec<Column>, Error>>,
    asks: mpsc::Receiver<Ask>,
    /// Of the connections of this process.
    _place: OwnedSemaphorePermit,
}

const LATE: &str = "the database did not answer within this step, or within statement_ms";

impl Sql {
    pub(crate) fn new(
        job_type: &str,
        granted: BTreeMap<String, (Grant, Arc<Database>)>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { job_type: job_type.to_owned(), granted, metrics }
    }

    fn database(&self, name: &str) -> Result<&(Grant, Arc<Database>), Error> {
        self.granted.get(name).ok_or_else(|| {
            let job_type = &self.job_type;
            Error::NotGranted(format!(
                "no connection {name:?} is granted: write `sql.{name} = {{}}` under [plugins.{job_type}.grants]"
            ))
        })
    }

    /// The name of a connection where it is the operator's; any other is the guest's own.
    fn known(&self, name: &str) -> &str {
        self.granted.get_key_value(name).map_or("", |(name, _)| name)
    }

    async fn place(database: &Database, end: Option<Instant>) -> Result<OwnedSemaphorePermit, Error> {
        let wait = time(database.connect, end);
        match tokio::time::timeout(wait, database.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::Unavailable("all connections of this host's pool are in use".to_owned())),
        }
    }

    async fn open(
        &self,
        held: usize,
        name: &str,
        text: String,
        parameters: Vec<Value>,
        end: Option<Instant>,
    ) -> Result<Cursor, Error> {
        let (grant, database) = self.database(name)?;
        if held >= grant.cursors_max as usize {
            let most = grant.cursors_max;
            return Err(Error::TooMuch(format!(
                "a job holds at most {most} cursors at once: drop one first"
            )));
        }
        let place = Self::place(database, end).await?;
        let limit = Duration::from_millis(grant.statement_ms.get());
        let statement = Statement { text, parameters, limit, end };
        let wait = statement.time();
        let (opened, open) = oneshot::channel();
        let (asks, asked) = mpsc::channel(1);
        let (left, served) = (Left::new(grant), Served { opened, asks: asked, _place: place });
        match &database.source {
            Source::Postgres(source) => drop(tokio::spawn(source.clone().serve(statement, left, served))),
            Source::Sqlite(source) => {
                let source = source.clone();
                drop(tokio::task::spawn_blocking(move || source.serve(&statement, left, served)));
            }
        }
        let columns = answered(wait, open).await?;
        Ok(Cursor { columns, asks, limit })
    }

    async fn execute(
        &self,
        name: &str,
        text: String,
        parameters: Vec<Value>,
        end: Option<Instant>,
    ) -> Result<u64, Error> {
        let (grant, database) = self.database(name)?;
        if !grant.write {
            let job_type = &self.job_type;
            return Err(Error::Denied(format!(
                "the connection {name:?} is granted for reading: write `sql.{name}.write = true` under \
                 [plugins.{job_type}.grants]"
            )));
        }
        let place = Self::place(database, end).await?;
        let limit = Duration::from_millis(grant.statement_ms.get());
        let statement = Statement { text, parameters, limit, end };
        let wait = statement.time();
        let (done, executed) = oneshot::channel();
        match &database.source {
            Source::Postgres(source) => drop(tokio::spawn(source.clone().execute(statement, done, place))),
            Source::Sqlite(source) => {
                let source = source.clone();
                drop(tokio::task::spawn_blocking(move || source.execute(&statement, done, place)));
            }
        }
        answered(wait, executed).await
    }
}

/// Time beyond a statement's own limit in which the database may say that the limit was passed.
const GRACE: Duration = Duration::from_millis(50);

async fn answered<T>(wait: Duration, answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(wait + GRACE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::Unavailable("the connection was closed".to_owned())),
        Err(_) => Err(Error::Unavailable(LATE.to_owned())),
    }
}

impl query::Host for State {
    async fn connections(&mut self) -> Result<Vec<String>> {
        Ok(self
            .capabilities
            .sql
            .as_ref()
            .map(|sql| sql.granted.keys().cloned().collect())
            .unwrap_or_default())
    }

    async fn open(
        &mut self,
        connection: String,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Result<Resource<Cursor>, Error>> {
        let Some(sql) = self.capabilities.sql.clone() else { return Ok(Err(nothing())) };
        let (began, call) = (Instant::now(), self.call());
        let opened = sql.open(self.cursors, &connection, statement, parameters, self.patience()).await;
        sql.metrics.ran(&sql.job_type, &connection, opened.as_ref().err(), began.elapsed());
        call.end("sql", sql.known(&connection), opened.as_ref().err().map(metrics::kind));
        Ok(match opened {
            Ok(cursor) => {
                let cursor = self.resources.push(cursor)?;
                self.cursors += 1;
                Ok(cursor)
            }
            Err(error) => Err(error),
        })
    }

    async fn execute(
        &mut self,
        connection: String,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Result<u64, Error>> {
        let Some(sql) = self.capabilities.sql.clone() else { return Ok(Err(nothing())) };
        if self.context.shadow {
            return Ok(Err(Error::Denied("a shadow job reads only: `execute` is refused".to_owned())));
        }
        let (began, call) = (Instant::now(), self.call());
        let executed = sql.execute(&connection, statement, parameters, self.patience()).await;
        sql.metrics.ran(&sql.job_type, &connection, executed.as_ref().err(), began.elapsed());
        call.end("sql", sql.known(&connection), executed.as_ref().err().map(metrics::kind));
        Ok(executed)
    }
}

fn nothing() -> Error {
    Error::NotGranted("there are no connections here".to_owned())
}

impl query::HostCursor for State {
    async fn columns(&mut self, cursor: Resource<Cursor>) -> Result<Vec<Column>> {
        Ok(self.resources.get(&cursor)?.columns.clone())
    }

    async fn next(&mut self, cursor: Resource<Cursor>, rows: u32) -> Result<Result<Vec<Row>, Error>> {
        let end = self.patience();
        let Cursor { asks, limit, .. } = self.resources.get(&cursor)?;
        let wait = time(*limit, end);
        let (reply, answer) = oneshot::channel();
        let ask = Ask { rows: rows.clamp(1, BATCH_ROWS_MAX), end, reply };
        if asks.send(ask).await.is_err() {
            return Ok(Err(Error::Unavailable("the cursor is closed".to_owned())));
        }
        let answer = answered(wait, answer).await;
        if let (Some(sql), Ok(rows)) = (&self.capabilities.sql, &answer) {
            sql.metrics.read(&sql.job_type, rows.len());
        }
        Ok(answer)
    }

    async fn drop(&mut self, cursor: Resource<Cursor>) -> Result<()> {
        self.resources.delete(cursor)?;
        self.cursors -= 1;
        Ok(())
    }
}
