//! `wasi:keyvalue`: values that a job type remembers beyond its jobs, shared by all hosts, with a quota and an expiry.
//!
//! A bucket belongs to one job type: no other can open it. The sandbox knows no store: whoever runs it brings
//! [`Buckets`].

use crate::{calls::Ongoing, fault::Stop, state::State};
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU64, sync::Arc, time::Instant};
use wasmtime::{Result, component::Resource};
use waymark_job::bucket::{Bucket, Keys};

pub(crate) mod bindings {
    //! Generated from `wit/deps/keyvalue`.
    wasmtime::component::bindgen!({
        world: "imports",
        path: "../../wit/deps/keyvalue",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": crate::keyvalue::Open },
    });
    pub(crate) use wasi::keyvalue::{atomics, batch, store};
}

use bindings::{
    atomics, batch,
    store::{self, Error, KeyResponse},
};

/// What an operator grants under `[plugins.<type>.grants.keyvalue]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Bytes that each bucket may hold, names included. Default 10 MiB.
    pub bytes_max: u64,
    /// Time until a value expires after it was written, milliseconds. Default one day.
    pub ttl_ms: NonZeroU64,
    /// Buckets that the job type may have, by name. Default `["default"]`.
    pub buckets: Vec<String>,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            bytes_max: 10 << 20,
            ttl_ms: NonZeroU64::MIN.saturating_add(86_399_999),
            buckets: vec!["default".to_owned()],
        }
    }
}

/// Longest name of a value, bytes.
const NAME_BYTES_MAX: usize = 1 << 10;

/// Buckets that all hosts share. Every error is one sentence.
#[async_trait::async_trait]
pub trait Buckets: Send + Sync {
    /// A value or nothing for each name.
    async fn get(&self, bucket: &Bucket, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, String>;
    /// Writes values; false where that would pass the quota.
    async fn set(&self, bucket: &Bucket, values: &[(String, Vec<u8>)]) -> Result<bool, String>;
    /// Removes values.
    async fn delete(&self, bucket: &Bucket, names: &[String]) -> Result<(), String>;
    /// Some names, from this index on.
    async fn keys(&self, bucket: &Bucket, from: u64) -> Result<Keys, String>;
    /// Adds to a number; nothing where that would pass the quota.
    async fn increment(&self, bucket: &Bucket, name: &str, delta: u64) -> Result<Option<u64>, String>;
}

/// What a job type may keep, made ready.
pub(crate) struct Keeper {
    pub(crate) job_type: String,
    pub(crate) grant: Grant,
    pub(crate) buckets: Arc<dyn Buckets>,
}

/// An open bucket.
pub struct Open {
    bucket: Bucket,
    buckets: Arc<dyn Buckets>,
}

fn quota(bucket: &Bucket) -> Error {
    Error::Other(format!("the bucket would hold more than bytes_max = {}", bucket.bytes_max))
}

/// Waits for the store no longer than the step allows.
async fn kept<T>(
    (end, call, bucket): (Option<Instant>, Ongoing, &Bucket),
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, Error> {
    let done = match end {
        None => work.await,
        Some(end) => match tokio::time::timeout_at(end.into(), work).await {
            Ok(done) => done,
            Err(_) => Err("the store did not answer within this step".to_owned()),
        },
    };
    call.end("keyvalue", &bucket.name, done.is_err().then_some("unavailable"));
    done.map_err(Error::Other)
}

impl State {
    /// An open bucket, and when waiting for it must be over.
    fn bucket(&self, open: &Resource<Open>) -> Result<(Bucket, Arc<dyn Buckets>, Option<Instant>)> {
        let Open { bucket, buckets } = self.resources.get(open)?;
        Ok((bucket.clone(), buckets.clone(), self.patience()))
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.map(String::len).find(|length| *length > NAME_BYTES_MAX) {
        None => Ok(()),
        Some(length) => {
            Err(Stop::Oversized(format!("a name of {length} bytes is longer than {NAME_BYTES_MAX}")).into())
        }
    }
}

impl store::Host for State {
    async fn open(&mut self, identifier: String) -> Result<Result<Resource<Open>, Error>> {
        let Some(keeper) = self.capabilities.keyvalue.clone() else { return Ok(Err(Error::AccessDenied)) };
        let Keeper { job_type, grant, buckets } = &*keeper;
        let identifier = if identifier.is_empty() { "default".to_owned() } else { identifier };
        if !grant.buckets.contains(&identifier) {
            return Ok(Err(Error::NoSuchStore));
        }
        let bucket = Bucket {
            name: format!("{job_type}:{identifier}"),
            bytes_max: grant.bytes_max,
            ttl_ms: grant.ttl_ms.get(),
        };
        Ok(Ok(self.resources.push(Open { bucket, buckets: buckets.clone() })?))
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, open: Resource<Open>, key: String) -> Result<Result<Option<Vec<u8>>, Error>> {
        let found = batch::Host::get_many(self, open, vec![key]).await?;
        Ok(found.map(|mut found| found.pop().flatten().map(|(_, value)| value)))
    }

    async fn set(&mut self, open: Resource<Open>, key: String, value: Vec<u8>) -> Result<Result<(), Error>> {
        batch::Host::set_many(self, open, vec![(key, value)]).await
    }

    async fn delete(&mut self, open: Resource<Open>, key: String) -> Result<Result<(), Error>> {
        batch::Host::delete_many(self, open, vec![key]).await
    }

    async fn exists(&mut self, open: Resource<Open>, key: String) -> Result<Result<bool, Error>> {
        Ok(self.get(open, key).await?.map(|value| value.is_some()))
    }

    async fn list_keys(
        &mut self,
        open: Resource<Open>,
        cursor: Option<u64>,
    ) -> Result<Result<KeyResponse, Error>> {
        let (bucket, buckets, end) = self.bucket(&open)?;
        let listed = kept((end, self.call(), &bucket), buckets.keys(&bucket, cursor.unwrap_or(0))).await;
        Ok(listed.map(|(keys, cursor)| KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, open: Resource<Open>) -> Result<()> {
        self.resources.delete(open)?;
        Ok(())
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        open: Resource<Open>,
        keys: Vec<String>,
    ) -> Result<Result<Vec<Option<(String, Vec<u8>)>>, Error>> {
        names(keys.iter())?;
        let (bucket, buckets, end) = self.bucket(&open)?;
        let found = kept((end, self.call(), &bucket), buckets.get(&bucket, &keys)).await;
        let named = |found: Vec<Option<Vec<u8>>>| {
            keys.into_iter().zip(found).map(|(key, value)| Some((key, value?))).collect()
        };
        Ok(found.map(named))
    }

    async fn set_many(
        &mut self,
        open: Resource<Open>,
        values: Vec<(String, Vec<u8>)>,
    ) -> Result<Result<(), Error>> {
        names(values.iter().map(|(name, _)| name))?;
        let (bucket, buckets, end) = self.bucket(&open)?;
        let set = kept((end, self.call(), &bucket), buckets.set(&bucket, &values)).await;
        Ok(set.and_then(|fits| if fits { Ok(()) } else { Err(quota(&bucket)) }))
    }

    async fn delete_many(&mut self, open: Resource<Open>, keys: Vec<String>) -> Result<Result<(), Error>> {
        let (bucket, buckets, end) = self.bucket(&open)?;
        Ok(kept((end, self.call(), &bucket), buckets.delete(&bucket, &keys)).await)
    }
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        open: Resource<Open>,
        key: String,
        delta: u64,
    ) -> Result<Result<u64, Error>> {
        names(std::iter::once(&key))?;
        let (bucket, buckets, end) = self.bucket(&open)?;
        let sum = kept((end, self.call(), &bucket), buckets.increment(&bucket, &key, delta)).await;
        Ok(sum.and_then(|sum| sum.ok_or_else(|| quota(&bucket))))
    }
}
