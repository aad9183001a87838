//! `wasi:keyvalue`: values that a job type remembers beyond its jobs, shared by all hosts, with a quota and an expiry.
//!
//! A bucket belongs to one job type: no other can open it. The sandbox knows no store: whoever runs it brings
//! [`Buckets`].

use crate::{calls::Ongoing, fault::Stop, log::Level, state::State};
use prometheus::{IntCounterVec, Opts, Registry};
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
    pub(crate) metrics: Arc<Metrics>,
}

/// What came of calls.
pub(crate) struct Metrics {
    calls: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// The registry has them already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let calls = IntCounterVec::new(
            Opts::new(
                "waymark_keyvalue_calls_total",
                "Calls of guests to their buckets, by what came of them.",
            ),
            &["type", "call", "outcome"],
        )?;
        registry.register(Box::new(calls.clone()))?;
        Ok(Self { calls })
    }
}

impl Keeper {
    fn called<T>(&self, call: &str, came: Result<T, Error>) -> Result<T, Error> {
        let outcome = match &came {
            Ok(_) => "done",
            Err(Error::NoSuchStore | Error::AccessDenied) => "denied",
            Err(Error::Other(_)) => "failed",
        };
        self.metrics.calls.with_label_values(&[self.job_type.as_str(), call, outcome]).inc();
        came
    }
}

/// An open bucket.
pub struct Open {
    bucket: Bucket,
    keeper: Arc<Keeper>,
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
    fn bucket(&self, open: &Resource<Open>) -> Result<(Bucket, Arc<Keeper>, Option<Instant>)> {
        let Open { bucket, keeper } = self.resources.get(open)?;
        Ok((bucket.clone(), keeper.clone(), self.patience()))
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
        let Some(keeper) = self.capabilities.keyvalue.clone() else {
            let message = "a bucket was refused: `keyvalue` is not granted to this job type".to_owned();
            let fields = serde_json::json!({"bucket": identifier, "grant": "keyvalue = {}"});
            self.logger.say(Level::Warn, message, fields.to_string());
            return Ok(Err(Error::AccessDenied));
        };
        let Keeper { job_type, grant, .. } = &*keeper;
        let identifier = if identifier.is_empty() { "default".to_owned() } else { identifier };
        if !grant.buckets.contains(&identifier) {
            return Ok(keeper.called("open", Err(Error::NoSuchStore)));
        }
        // What copies remember is kept apart from what jobs do: it begins empty.
        let copies = if self.context.shadow { "@shadow" } else { "" };
        let bucket = Bucket {
            name: format!("{job_type}{copies}:{identifier}"),
            bytes_max: grant.bytes_max,
            ttl_ms: grant.ttl_ms.get(),
        };
        let opened = self.resources.push(Open { bucket, keeper: keeper.clone() })?;
        Ok(keeper.called("open", Ok(opened)))
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
        let (bucket, keeper, end) = self.bucket(&open)?;
        let listed =
            kept((end, self.call(), &bucket), keeper.buckets.keys(&bucket, cursor.unwrap_or(0))).await;
        Ok(keeper.called("list", listed).map(|(keys, cursor)| KeyResponse { keys, cursor }))
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
        let (bucket, keeper, end) = self.bucket(&open)?;
        let found = kept((end, self.call(), &bucket), keeper.buckets.get(&bucket, &keys)).await;
        let found = keeper.called("get", found);
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
        let (bucket, keeper, end) = self.bucket(&open)?;
        let set = kept((end, self.call(), &bucket), keeper.buckets.set(&bucket, &values)).await;
        Ok(keeper.called("set", set.and_then(|fits| if fits { Ok(()) } else { Err(quota(&bucket)) })))
    }

    async fn delete_many(&mut self, open: Resource<Open>, keys: Vec<String>) -> Result<Result<(), Error>> {
        let (bucket, keeper, end) = self.bucket(&open)?;
        let deleted = kept((end, self.call(), &bucket), keeper.buckets.delete(&bucket, &keys)).await;
        Ok(keeper.called("delete", deleted))
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
        let (bucket, keeper, end) = self.bucket(&open)?;
        let sum = kept((end, self.call(), &bucket), keeper.buckets.increment(&bucket, &key, delta)).await;
        Ok(keeper.called("increment", sum.and_then(|sum| sum.ok_or_else(|| quota(&bucket)))))
    }
}
