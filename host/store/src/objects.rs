//! Values too long for Redis lie as objects in a directory or in S3-compatible storage.
//!
//! Redis keeps a reference instead: path, lengths, digest. An object is noted as waste before it is written, and is no
//! longer once a commit refers to it; what a job that was deleted or restarted referred to is waste again. A sweep
//! takes waste away when its time has come. So no object stays behind, whoever dies when, and none is taken from a
//! job: a commit whose object was swept meanwhile is refused like one whose claim was lost.
//!
//! When the storage does not answer, a value stays in Redis: a job is not held up for want of room elsewhere. Those that
//! follow stay too, for a moment: not every commit shall wait for the storage.

use crate::{Commit, Error, Options, Store, Then, link::Link, pack, seal::Kind, storage::Storage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use waymark_job::JobId;

/// How long an object may wait for the commit that refers to it, milliseconds. Longer than any outage of Redis after
/// which a worker could still hold its claim.
const UNCOMMITTED_MS: u64 = 86_400_000;
/// How long a storage that did not answer is left alone.
const AWAY: Duration = Duration::from_secs(2);
/// Objects taken away in one call.
const SWEEP_MAX: usize = 100;

/// Where long values go.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// `file:///directory`, `s3://bucket` or `s3://bucket/prefix`.
    pub url: String,
    /// Values of more bytes than this become objects.
    pub above_bytes: usize,
    /// For S3: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http` and the other settings of
    /// the crate `object_store`. What is absent is taken from the environment (`AWS_ACCESS_KEY_ID` and so on).
    pub settings: BTreeMap<String, String>,
}

pub(crate) struct Objects {
    storage: Storage,
    above_bytes: usize,
    /// It did not answer, and is not asked before.
    away_until: Mutex<Option<Instant>>,
}

/// What Redis keeps of an object: the character U+0001, which no JSON text begins with, and this as JSON. Scripts look
/// for the path.
#[derive(Serialize, Deserialize)]
struct Reference {
    #[serde(rename = "k")]
    path: String,
    /// SHA-256 of the object, hexadecimal.
    #[serde(rename = "d")]
    digest: String,
    /// Length of the object, which is compressed, bytes.
    #[serde(rename = "b")]
    bytes: u64,
}

const MARK: char = '\u{1}';

impl Objects {
    /// Opens the storage that is configured, if any is.
    pub(crate) fn open(options: &Options, second: Option<&Arc<Link>>) -> Result<Option<Self>, Error> {
        let (storage, above_bytes) = match (&options.objects, &options.results, second) {
            (Some(objects), _, _) => (Storage::open(&objects.url, &objects.settings)?, objects.above_bytes),
            (None, Some(results), Some(second)) => {
                (Storage::Redis(second.clone(), options.prefix.clone()), results.above_bytes)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { storage, above_bytes, away_until: Mutex::default() }))
    }

    fn is_away(&self) -> bool {
        let until = *self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn failed(&self) {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + AWAY);
    }
}

/// Is it a reference to an object?
pub(crate) fn is_reference(value: &[u8]) -> bool {
    value.first() == Some(&(MARK as u8))
}

impl Store {
    /// Moves what is too long for Redis out of a commit: its result, unless a parent gets a copy of it, and its output
    /// records. Does nothing where no object storage is configured, and leaves values where the storage does not
    /// answer. May be called again for the same commit.
    pub async fn spill(&self, commit: &mut Commit) {
        let Some(objects) = &self.inner.objects else { return };
        let stem = format!("{}/{}-{}", commit.id, commit.record.run, commit.token);
        let has_parent = commit.spec.parent.is_some();
        let result = match &mut commit.then {
            Then::Succeeded { result } if !has_parent => Some(result),
            _ => None,
        };
        let values = commit.outputs.iter_mut().enumerate();
        let values = values.map(|(at, value)| (format!("{}-{at}", commit.step), Kind::Output, value));
        let values = values.chain(result.map(|value| ("result".to_owned(), Kind::Result, value)));
        for (name, kind, value) in values.filter(|(.., value)| value.len() > objects.above_bytes) {
            if objects.is_away() {
                return;
            }
            match self.put_object(objects, &commit.id, format!("{stem}-{name}"), kind, value).await {
                Ok(reference) => *value = reference,
                Err(error) => {
                    tracing::warn!(job_id = %commit.id, %error, "long values stay in Redis for a moment");
                    objects.failed();
                    return;
                }
            }
        }
    }

    async fn put_object(
        &self,
        objects: &Objects,
        id: &JobId,
        path: String,
        kind: Kind,
        value: &str,
    ) -> Result<String, Error> {
        let content = pack::value(id, kind, value, self.keyring())?.into_owned();
        let reference =
            Reference { path, digest: hex::encode(Sha256::digest(&content)), bytes: content.len() as u64 };
        let mut command = redis::cmd("ZADD");
        let until_ms = self.about_now_ms().await? + UNCOMMITTED_MS;
        command.arg(self.key(id, "waste")).arg(until_ms).arg(&reference.path);
        let _: u64 = self.inner.link.any(&command).await?;
        objects.storage.put(&reference.path, content).await?;
        let json = serde_json::to_string(&reference).map_err(|error| Error::corrupt("a reference", error))?;
        Ok(format!("{MARK}{json}"))
    }

    /// The JSON text of a stored value, wherever it lies.
    pub(crate) async fn text_of(&self, id: &JobId, kind: Kind, stored: Vec<u8>) -> Result<String, Error> {
        if !is_reference(&stored) {
            return pack::read_value(id, kind, &stored, self.keyring());
        }
        let (_, content) = self.content_of(&stored).await?;
        pack::read_value(id, kind, &content, self.keyring())
    }

    /// What a reference names: the path of an object, and its content.
    pub(crate) async fn content_of(&self, stored: &[u8]) -> Result<(String, Vec<u8>), Error> {
        let reference: Reference = serde_json::from_slice(stored.get(1..).unwrap_or_default())
            .map_err(|error| Error::corrupt("a reference to an object", error))?;
        let missing = |why: String| Error::Object { path: reference.path.clone(), why };
        let Some(objects) = &self.inner.objects else {
            let settings = "results.storage or redis.results_url";
            return Err(missing(format!("this host has no {settings} configured")));
        };
        let Some(content) = objects.storage.get(&reference.path).await? else {
            return Err(missing("it is not there".to_owned()));
        };
        if hex::encode(Sha256::digest(&content)) != reference.digest {
            return Err(missing("it is not what was written: its digest does not match".to_owned()));
        }
        Ok((reference.path, content))
    }

    /// Puts the value of an object into a new one, sealed by the active key. Answers the reference and the new path, which is
    /// waste until something refers to it.
    pub(crate) async fn put_again(
        &self,
        id: &JobId,
        kind: Kind,
        path: &str,
        content: &[u8],
    ) -> Result<(Vec<u8>, String), Error> {
        let Some(objects) = &self.inner.objects else {
            return Err(Error::Storage("none is configured".to_owned()));
        };
        let value = pack::read_value(id, kind, content, self.keyring())?;
        // Two that do the same at once must not write the same object.
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let stem = path.split_once('_').map_or(path, |(stem, _)| stem);
        let path = format!("{stem}_{}", hex::encode(random));
        let reference = self.put_object(objects, id, path.clone(), kind, &value).await?;
        Ok((reference.into_bytes(), path))
    }

    /// Takes waste out of the object storage. Returns how many objects are gone.
    ///
    /// # Errors
    /// Redis or the storage does not answer.
    pub async fn sweep_objects(&self) -> Result<u64, Error> {
        let Some(objects) = &self.inner.objects else { return Ok(0) };
        let mut gone = 0;
        for partition in 0..self.partitions() {
            loop {
                let mut call = self.call(&self.inner.scripts.take_waste, partition);
                let paths: Vec<String> = call.arg(SWEEP_MAX).run().await?;
                for path in &paths {
                    objects.storage.delete(path).await?;
                    gone += 1;
                    let mut command = redis::cmd("ZREM");
                    command.arg(format!("{}waste", self.head(partition))).arg(path);
                    let _: u64 = self.inner.link.any(&command).await?;
                }
                if paths.len() < SWEEP_MAX {
                    break;
                }
            }
        }
        Ok(gone)
    }
}
