//! Plugins that all hosts of a deployment share: uploaded once, and found by the digest of the file.
//!
//! A file lies in parts under its digest; an entry for each job type says which file is its newest. A file is written
//! before its entry, with an expiry that the entry takes away, so that an upload that breaks off leaves nothing.

use crate::{Error, Store};

/// Bytes of one part: what one call writes or reads.
const PART_BYTES: usize = 512 << 10;
/// Parts of one file, so that nobody is made to read without end: 256 MiB.
const PARTS_MAX: usize = 512;
/// Time in which an upload is finished, or forgotten, seconds.
const UPLOAD_S: u64 = 600;
/// How hard files are compressed: WebAssembly shrinks to about a third.
const LEVEL: i32 = 3;

/// What all hosts shall have of a job type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPlugin {
    /// Job type.
    pub name: String,
    /// Greater than that of every entry of the type before.
    pub number: u64,
    /// SHA-256 of the file, hexadecimal; `None`: the type was taken back.
    pub digest: Option<String>,
    /// Version that the plugin says.
    pub version: String,
    /// It was to replace a newer version.
    pub forced: bool,
    /// Detached signature of the file, as it was given.
    pub signature: Option<String>,
}

/// A file to share, and what is said of it.
#[derive(Clone, Copy, Debug)]
pub struct NewPlugin<'a> {
    /// Job type.
    pub name: &'a str,
    /// SHA-256 of the file, hexadecimal.
    pub digest: &'a str,
    /// The file.
    pub file: &'a [u8],
    /// Version that the plugin says; without blanks.
    pub version: &'a str,
    /// It is to replace a newer version.
    pub forced: bool,
    /// Detached signature; without blanks.
    pub signature: Option<&'a str>,
}

impl Store {
    /// Shares a file. Answers the number of its entry.
    ///
    /// # Errors
    /// The server does not answer or has no room, or the file is longer than 256 MiB.
    pub async fn share_plugin(&self, new: NewPlugin<'_>) -> Result<u64, Error> {
        let NewPlugin { name, digest, file, version, forced, signature } = new;
        let damaged = |why: String| Error::corrupt(format!("the plugin {name}"), why);
        let packed = zstd::encode_all(file, LEVEL).map_err(|error| damaged(error.to_string()))?;
        let parts = packed.chunks(PART_BYTES);
        let count = parts.len();
        if count > PARTS_MAX {
            return Err(damaged(format!("{} bytes are too many to be shared", file.len())));
        }
        let key = self.global(&format!("plugin:{digest}"));
        for (index, part) in parts.enumerate() {
            let mut command = redis::cmd("HSET");
            command.arg(&key).arg(index).arg(part);
            let _: u64 = self.inner.link.any(&command).await?;
            if index == 0 {
                let mut command = redis::cmd("EXPIRE");
                command.arg(&key).arg(UPLOAD_S);
                let _: u64 = self.inner.link.any(&command).await?;
            }
        }
        let entry = format!("{version} {} {}", u8::from(forced), signature.unwrap_or(""));
        let number = self.put_entry(name, digest, count, &entry).await?;
        if number == 0 {
            return Err(damaged("it was removed while it was written".into()));
        }
        Ok(number)
    }

    /// Takes a job type back from all hosts. Answers the number of the entry that says so.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn withdraw_plugin(&self, name: &str) -> Result<u64, Error> {
        self.put_entry(name, "", 0, "").await
    }

    async fn put_entry(&self, name: &str, digest: &str, parts: usize, entry: &str) -> Result<u64, Error> {
        let mut call = self.call_at(&self.inner.scripts.plugin_share, self.global(""));
        call.arg(name).arg(digest).arg(parts).arg(entry);
        call.run().await
    }

    /// What all hosts shall have, by job type.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn shared_plugins(&self) -> Result<Vec<SharedPlugin>, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.global("plugins"));
        let found: Vec<(String, String)> = self.inner.link.any(&command).await?;
        let entry = |(name, text): (String, String)| {
            let mut words = text.split(' ');
            let number = words.next()?.parse().ok()?;
            let mut word = || words.next().filter(|word| !word.is_empty()).map(str::to_owned);
            let (digest, version) = (word(), word().unwrap_or_default());
            Some(SharedPlugin {
                name,
                number,
                digest,
                version,
                forced: word().is_some_and(|word| word == "1"),
                signature: word(),
            })
        };
        // One that another version of the host wrote in another way is none of ours.
        Ok(found.into_iter().filter_map(entry).collect())
    }

    /// A shared file; `None` where it is gone, or a newer one is being put in its place. Whoever reads it compares the
    /// digest. At most `bytes_max` bytes are unpacked.
    ///
    /// # Errors
    /// The server does not answer, or the file is damaged or too long.
    pub async fn shared_plugin(&self, digest: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let key = self.global(&format!("plugin:{digest}"));
        let mut packed = Vec::new();
        for index in 0..=PARTS_MAX {
            let mut command = redis::cmd("HGET");
            command.arg(&key).arg(index);
            let part: Option<Vec<u8>> = self.inner.link.any(&command).await?;
            match part {
                Some(part) => packed.extend_from_slice(&part),
                None if index == 0 => return Ok(None),
                None => break,
            }
        }
        let damaged = |error: std::io::Error| Error::corrupt("a shared plugin", error);
        let decoder = zstd::Decoder::new(packed.as_slice()).map_err(damaged)?;
        let mut file = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, bytes_max.saturating_add(1)), &mut file)
            .map_err(damaged)?;
        if file.len() as u64 > bytes_max {
            return Err(Error::corrupt("a shared plugin", format!("it is longer than {bytes_max} bytes")));
        }
        Ok(Some(file))
    }
}
