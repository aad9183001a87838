//! PostgreSQL: one statement in a transaction of its own, by the extended protocol, in which more than one cannot be
//! sent. Rows come through a portal, as many as are asked for.
//!
//! A transaction that reads is `READ ONLY`, and has taken its snapshot before the guest's statement runs: after that no
//! statement can make it anything else.

use super::{
    Ask, BATCH_BYTES_MAX, Left, Served, Statement,
    bindings::query::{Column, Error, Row, Value},
    cell::{Cell, Parameter},
    time,
};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::{StreamExt, pin_mut};
use std::{collections::VecDeque, error::Error as _, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_postgres::{Config, Portal, Transaction, error::SqlState, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Rows that are fetched at once: a longer fetch would keep more in the host than one batch.
const FETCH_ROWS_MAX: i32 = 1_000;

#[derive(Clone)]
pub(super) struct Source {
    pool: Pool,
    tls: MakeRustlsConnect,
}

impl Source {
    pub(super) fn new(config: Config, tls: &rustls::ClientConfig, size: usize) -> Result<Self, String> {
        let mut tls = tls.clone();
        tls.alpn_protocols.clear();
        let tls = MakeRustlsConnect::new(tls);
        // What a statement set in its session is gone before the next one runs there.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Clean };
        let manager = Manager::from_config(config, tls.clone(), manager);
        let pool = Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1).build();
        Ok(Self { pool: pool.map_err(|error| error.to_string())?, tls })
    }

    async fn connect(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => told(&error),
            other => Error::Unavailable(other.to_string()),
        })
    }

    /// Reads the rows of a statement as they are asked for.
    pub(super) async fn serve(self, statement: Statement, mut left: Left, served: Served) {
        let Served { mut opened, mut asks, _place } = served;
        let connected = unless_dropped(&mut opened, self.connect()).await;
        let mut client = match connected {
            Some(Ok(client)) => client,
            Some(Err(error)) => return drop(opened.send(Err(error))),
            None => return,
        };
        let cancel = client.cancel_token();
        let limit = statement.limit;
        let opening = async {
            let transaction = begin(&mut client, true, &statement).await?;
            let (portal, columns) = bind(&transaction, &statement).await?;
            Ok((transaction, portal, columns))
        };
        let (transaction, portal) = match unless_dropped(&mut opened, opening).await {
            Some(Ok((transaction, portal, columns))) => {
                if opened.send(Ok(columns)).is_err() {
                    return;
                }
                (transaction, portal)
            }
            Some(Err(error)) => return drop(opened.send(Err(error))),
            None => return drop(cancel.cancel_query(self.tls).await),
        };
        let mut fetched = Fetched::default();
        while let Some(Ask { rows, end, mut reply }) = asks.recv().await {
            let batch = fetched.batch(&transaction, &portal, rows, &mut left);
            let batch = tokio::time::timeout(time(limit, end), batch);
            let batch = match unless_dropped(&mut reply, batch).await {
                Some(Ok(batch)) => batch,
                Some(Err(_)) => Err(Error::Unavailable(super::LATE.to_owned())),
                None => Err(Error::Unavailable("nobody waits".to_owned())),
            };
            let failed = batch.is_err();
            if reply.send(batch).is_err() || failed {
                // It may still run there. If this does not reach it, statement_timeout does.
                let _ = cancel.cancel_query(self.tls).await;
                return;
            }
        }
    }

    /// Runs a statement that writes.
    pub(super) async fn execute(
        self,
        statement: Statement,
        done: oneshot::Sender<Result<u64, Error>>,
        _place: OwnedSemaphorePermit,
    ) {
        let execute = async {
            let mut client = self.connect().await?;
            let transaction = begin(&mut client, false, &statement).await?;
            let prepared = transaction.prepare(&statement.text).await.map_err(|error| told(&error))?;
            counted(prepared.params().len(), statement.parameters.len())?;
            let parameters = Parameter::all(&statement.parameters);
            let changed =
                transaction.execute_raw(&prepared, parameters).await.map_err(|error| told(&error))?;
            transaction.commit().await.map_err(|error| told(&error))?;
            Ok(changed)
        };
        // Nobody may wait any more; the statement is done all the same.
        let _ = done.send(execute.await);
    }
}

/// Waits for something, unless whoever wants it is gone.
async fn unless_dropped<R, T>(reply: &mut oneshot::Sender<R>, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = reply.closed() => None,
    }
}

async fn begin<'a>(
    client: &'a mut Object,
    read_only: bool,
    statement: &Statement,
) -> Result<Transaction<'a>, Error> {
    let client: &mut tokio_postgres::Client = client;
    let transaction = client.build_transaction().read_only(read_only).start().await;
    let transaction = transaction.map_err(|error| told(&error))?;
    let ms = statement.time().max(Duration::from_millis(1)).as_millis();
    let limits = "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)";
    let limit: &(dyn ToSql + Sync) = &format!("{ms}ms");
    transaction.query_one(limits, &[limit]).await.map_err(|error| told(&error))?;
    Ok(transaction)
}

async fn bind(transaction: &Transaction<'_>, statement: &Statement) -> Result<(Portal, Vec<Column>), Error> {
    let prepared = transaction.prepare(&statement.text).await.map_err(|error| told(&error))?;
    counted(prepared.params().len(), statement.parameters.len())?;
    let columns = prepared.columns().iter();
    let columns: Vec<_> = columns
        .map(|column| Column { name: column.name().to_owned(), type_name: column.type_().name().to_owned() })
        .collect();
    if let Some((column, kind)) = Cell::unreadable(prepared.columns()) {
        return Err(Error::BadStatement(format!("the column {column:?} is of type {kind}: cast it to text")));
    }
    let parameters = Parameter::all(&statement.parameters);
    let portal = transaction.bind_raw(&prepared, parameters).await.map_err(|error| told(&error))?;
    Ok((portal, columns))
}

fn counted(wanted: usize, given: usize) -> Result<(), Error> {
    if wanted == given {
        return Ok(());
    }
    Err(Error::BadStatement(format!("the statement has {wanted} parameters, and {given} were given")))
}

/// Rows that came with the last fetch and were not asked for yet.
#[derive(Default)]
struct Fetched {
    rows: VecDeque<(Row, u64)>,
    at_end: bool,
}

impl Fetched {
    async fn batch(
        &mut self,
        transaction: &Transaction<'_>,
        portal: &Portal,
        wanted: u32,
        left: &mut Left,
    ) -> Result<Vec<Row>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < wanted as usize && bytes < BATCH_BYTES_MAX {
            if let Some((row, size)) = self.rows.pop_front() {
                bytes += size;
                batch.push(row);
                continue;
            }
            if self.at_end {
                break;
            }
            let missing = i32::try_from(wanted as usize - batch.len()).unwrap_or(FETCH_ROWS_MAX);
            self.fetch(transaction, portal, missing.min(FETCH_ROWS_MAX), left).await?;
        }
        Ok(batch)
    }

    async fn fetch(
        &mut self,
        transaction: &Transaction<'_>,
        portal: &Portal,
        rows: i32,
        left: &mut Left,
    ) -> Result<(), Error> {
        let stream = transaction.query_portal_raw(portal, rows).await.map_err(|error| told(&error))?;
        pin_mut!(stream);
        let mut came = 0;
        while let Some(row) = stream.next().await {
            let row = row.map_err(|error| told(&error))?;
            let values = (0..row.len()).map(|index| row.try_get::<_, Cell>(index).map(|cell| cell.0));
            let row = values.collect::<Result<Vec<Value>, _>>().map_err(|error| told(&error))?;
            let size = left.take(&row)?;
            self.rows.push_back((row, size));
            came += 1;
        }
        self.at_end = came < rows;
        Ok(())
    }
}

fn told(error: &tokio_postgres::Error) -> Error {
    let Some(database) = error.as_db_error() else {
        let closed = error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>());
        let text = chain(error);
        return if closed { Error::Unavailable(text) } else { Error::BadStatement(text) };
    };
    let code = database.code();
    let text = format!("{} ({})", database.message(), code.code());
    match code.code().get(..2) {
        _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            Error::Denied(format!("{text}: the connection is granted for reading"))
        }
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => Error::Denied(text),
        _ if *code == SqlState::QUERY_CANCELED => {
            Error::Unavailable("the statement took longer than statement_ms, or than this step".to_owned())
        }
        // Connection, transaction rolled back, resources, lock not available, shutting down, system.
        Some("08" | "40" | "53" | "55" | "57" | "58") => Error::Unavailable(text),
        _ => Error::BadStatement(text),
    }
}

/// An error and what it came of.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
