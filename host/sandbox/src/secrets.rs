//! Passwords and keys: named in the configuration, read by the host, never seen by a guest.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Where a secret is. One key of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// An environment variable of the host.
    Env(String),
    /// A file; white space at its end does not belong to the secret.
    File(PathBuf),
}

/// Longest secret, bytes: a certificate chain is the longest that somebody may mean.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The secrets of a host, by name. Shows no value.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Reads them all.
    ///
    /// # Errors
    /// One is not there, is empty or no text; the message names it and says nothing of its value.
    pub fn read(sources: &BTreeMap<String, Source>) -> Result<Self, String> {
        let read = |(name, source): (&String, &Source)| {
            let value = value(source).map_err(|why| format!("secrets.{name}: {why}"))?;
            if value.is_empty() { Err(format!("secrets.{name} is empty")) } else { Ok((name.clone(), value)) }
        };
        sources.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The secret of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn value(source: &Source) -> Result<String, String> {
    match source {
        Source::Env(variable) => {
            std::env::var(variable).map_err(|error| format!("environment variable {variable}: {error}"))
        }
        Source::File(file) => {
            let shown = file.display();
            let bytes = std::fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?.len();
            if bytes > SECRET_BYTES_MAX {
                return Err(format!("{shown} is longer than {SECRET_BYTES_MAX} bytes"));
            }
            let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
            Ok(text.trim_end().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_file_and_shown_nowhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let sources = BTreeMap::from([("key".to_owned(), Source::File(file.path().to_owned()))]);
        let secrets = Secrets::read(&sources).unwrap();
        assert_eq!(secrets.get("key"), Some("s3cret"));
        assert!(!format!("{secrets:?}").contains("s3cret"));
        std::fs::write(file.path(), "\n").unwrap();
        assert!(Secrets::read(&sources).unwrap_err().contains("secrets.key"));
        let absent = BTreeMap::from([("key".to_owned(), Source::Env("WAYMARK_NO_SUCH_VARIABLE".into()))]);
        assert!(Secrets::read(&absent).unwrap_err().contains("secrets.key"));
    }
}
