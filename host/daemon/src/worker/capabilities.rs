//! What the sandbox needs for what is granted to jobs: the configuration, and the parts that all hosts share.

use crate::config::Config;
use async_trait::async_trait;
use prometheus::Registry;
use std::sync::Arc;
use waymark_job::{
    bucket::{Bucket, Keys},
    llm::{Spent, Take, Taken},
};
use waymark_sandbox::{Offer, keyvalue::Buckets, llm::ledger::Ledger, secrets::Secrets};
use waymark_store::{Error, Store};

/// # Errors
/// A secret cannot be read.
pub(super) fn offer(config: &Config, store: &Store, registry: &Registry) -> anyhow::Result<Offer> {
    Ok(Offer {
        secrets: Secrets::read(&config.secrets).map_err(anyhow::Error::msg)?,
        llm: config.llm.clone(),
        sql: config.sql.clone(),
        ledger: Some(Arc::new(Shared(store.clone()))),
        buckets: Some(Arc::new(Shared(store.clone()))),
        scratch: Some(config.scratch_dir()),
        registry: registry.clone(),
    })
}

/// The store, in the sandbox's words.
struct Shared(Store);

fn told(error: Error) -> String {
    format!("the store does not answer: {error}")
}

#[async_trait]
impl Ledger for Shared {
    async fn cached(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        self.0.llm_cached(key).await.map_err(told)
    }

    async fn keep(&self, key: &str, answer: &[u8], ttl_ms: u64) -> Result<(), String> {
        self.0.llm_keep(key, answer, ttl_ms).await.map_err(told)
    }

    async fn take_off(&self, key: &str, asker: &str, ttl_ms: u64) -> Result<bool, String> {
        self.0.llm_take_off(key, asker, ttl_ms).await.map_err(told)
    }

    async fn land(&self, key: &str, asker: &str) -> Result<(), String> {
        self.0.llm_land(key, asker).await.map_err(told)
    }

    async fn take(&self, take: &Take) -> Result<Taken, String> {
        self.0.llm_take(take).await.map_err(told)
    }

    async fn settle(&self, take: &Take, day: u64, spent: Spent) -> Result<(), String> {
        self.0.llm_settle(take, day, spent).await.map_err(told)
    }
}

#[async_trait]
impl Buckets for Shared {
    async fn get(&self, bucket: &Bucket, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, String> {
        self.0.kv_get(bucket, names).await.map_err(told)
    }

    async fn set(&self, bucket: &Bucket, values: &[(String, Vec<u8>)]) -> Result<bool, String> {
        self.0.kv_set(bucket, values).await.map_err(told)
    }

    async fn delete(&self, bucket: &Bucket, names: &[String]) -> Result<(), String> {
        self.0.kv_delete(bucket, names).await.map_err(told)
    }

    async fn keys(&self, bucket: &Bucket, from: u64) -> Result<Keys, String> {
        self.0.kv_keys(bucket, from).await.map_err(told)
    }

    async fn increment(&self, bucket: &Bucket, name: &str, delta: u64) -> Result<Option<u64>, String> {
        self.0.kv_increment(bucket, name, delta).await.map_err(told)
    }
}
