//! Sessions of people who signed in, and the log of what was asked for.
//!
//! A session is found by the digest of its secret, so that whoever reads the store cannot use one. The log is one
//! stream for the whole deployment; its entries are texts that the caller makes.

use crate::{Error, Store};

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place: greater for later ones.
    pub id: String,
    /// When it was written, Unix milliseconds of the store's clock.
    pub at_ms: u64,
    /// As it was given.
    pub text: String,
}

impl Store {
    /// Keeps a session for `ttl_ms`; `digest` is that of its secret, `holder` whose it is.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn put_session(&self, digest: &str, holder: &str, ttl_ms: u64) -> Result<(), Error> {
        let mut command = redis::cmd("SET");
        command.arg(self.session_key(digest)).arg(holder).arg("PX").arg(ttl_ms);
        Ok(self.inner.link.any(&command).await?)
    }

    /// Whose session this is; `None` for one that ended.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn session(&self, digest: &str) -> Result<Option<String>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(self.session_key(digest));
        Ok(self.inner.link.any(&command).await?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn end_session(&self, digest: &str) -> Result<(), Error> {
        let mut command = redis::cmd("DEL");
        command.arg(self.session_key(digest));
        Ok(self.inner.link.any(&command).await?)
    }

    fn session_key(&self, digest: &str) -> String {
        self.global(&format!("session:{digest}"))
    }

    /// Adds an entry to the log, which keeps about the last `keep`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn append_audit(&self, text: &str, keep: u64) -> Result<(), Error> {
        let mut command = redis::cmd("XADD");
        command.arg(self.global("audit")).arg("MAXLEN").arg("~").arg(keep).arg("*").arg("e").arg(text);
        Ok(self.inner.link.any(&command).await?)
    }

    /// Entries of the log, newest first, older than `before` where that is given; at most `count`.
    ///
    /// # Errors
    /// The server does not answer, or `before` is not an entry's id.
    pub async fn audit(&self, before: Option<&str>, count: usize) -> Result<Vec<AuditEntry>, Error> {
        let end = match before {
            None => "+".to_owned(),
            Some(id) if stream_id(id) => format!("({id}"),
            Some(_) => return Err(Error::BadCursor),
        };
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.global("audit")).arg(end).arg("-").arg("COUNT").arg(count);
        let found: Vec<(String, Vec<String>)> = self.inner.link.any(&command).await?;
        let entry = |(id, fields): (String, Vec<String>)| {
            let at_ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            AuditEntry { at_ms, text: fields.into_iter().nth(1).unwrap_or_default(), id }
        };
        Ok(found.into_iter().map(entry).collect())
    }
}

fn stream_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(ms, index)| ms.parse::<u64>().is_ok() && index.parse::<u64>().is_ok())
}
