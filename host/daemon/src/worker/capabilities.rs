//! What the sandbox needs for what is granted to jobs: the configuration, and the parts that all hosts share.

use crate::config::Config;
use async_trait::async_trait;
use prometheus::Registry;
use std::sync::Arc;
use waymark_job::llm::{Spent, Take, Taken};
use waymark_sandbox::{Offer, llm::ledger::Ledger, secrets::Secrets};
use waymark_store::{Error, Store};

/// # Errors
/// A secret cannot be read.
pub(super) fn offer(config: &Config, store: &Store, registry: &Registry) -> anyhow::Result<Offer> {
    Ok(Offer {
        secrets: Secrets::read(&config.secrets).map_err(anyhow::Error::msg)?,
        llm: config.llm.clone(),
        sql: config.sql.clone(),
        ledger: Some(Arc::new(Shared(store.clone()))),
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

    async fn take(&self, take: &Take) -> Result<Taken, String> {
        self.0.llm_take(take).await.map_err(told)
    }

    async fn settle(&self, take: &Take, day: u64, spent: Spent) -> Result<(), String> {
        self.0.llm_settle(take, day, spent).await.map_err(told)
    }
}
