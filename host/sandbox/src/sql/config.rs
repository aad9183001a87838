//! What an operator writes about databases: connections under `[sql.<name>]`, grants under
//! `[plugins.<type>.grants.sql.<name>]`.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// `postgres://user@host:port/database?sslmode=require`, or `sqlite:PATH` of a file that exists.
    pub url: String,
    /// Name of the secret that is the password. Default: none.
    #[serde(default)]
    pub password: Option<String>,
    /// Connections of one worker process at once; who needs one more waits. Default 4.
    #[serde(default = "four")]
    pub pool: NonZeroU32,
    /// Longest wait for a connection, milliseconds. Default 10,000.
    #[serde(default = "ten_seconds")]
    pub connect_ms: u64,
}

fn four() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(3)
}

fn ten_seconds() -> u64 {
    10_000
}

/// What a job type may do with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// It may write. Default false.
    pub write: bool,
    /// Longest time of one statement, or of reading one batch of its rows, milliseconds. Default 30,000.
    pub statement_ms: NonZeroU64,
    /// Most rows that one statement may return. Default 10,000,000.
    pub rows_max: u64,
    /// Most bytes of these rows. Default 1 GiB.
    pub bytes_max: u64,
    /// Cursors that one job may hold at once. Default 4.
    pub cursors_max: u32,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            write: false,
            statement_ms: NonZeroU64::MIN.saturating_add(29_999),
            rows_max: 10_000_000,
            bytes_max: 1 << 30,
            cursors_max: 4,
        }
    }
}

/// Where a connection leads.
pub(super) enum Address {
    Postgres(Box<tokio_postgres::Config>),
    Sqlite(PathBuf),
}

impl Connection {
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn check<T>(&self, secrets: &BTreeMap<String, T>) -> Result<(), String> {
        match &self.password {
            Some(name) if !secrets.contains_key(name) => {
                return Err(format!("password: there is no secrets.{name}"));
            }
            _ => {}
        }
        match self.address()? {
            Address::Sqlite(path) if !path.is_file() => {
                Err(format!("url: there is no file {}", path.display()))
            }
            Address::Postgres(config) if config.get_password().is_some() => {
                Err("url: write the password as a secret, and name that under `password`".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn address(&self) -> Result<Address, String> {
        if let Some(path) = self.url.strip_prefix("sqlite:") {
            return Ok(Address::Sqlite(path.strip_prefix("//").unwrap_or(path).into()));
        }
        if !self.url.starts_with("postgres://") && !self.url.starts_with("postgresql://") {
            return Err("url: it begins with postgres:// or sqlite:".to_owned());
        }
        let config = self.url.parse().map_err(|error| format!("url: {error}"))?;
        Ok(Address::Postgres(Box::new(config)))
    }
}
