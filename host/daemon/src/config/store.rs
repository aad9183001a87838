//! `redis`, `results`, `encryption`: where everything is kept.

use super::Config;
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Where the store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://`, `rediss://`, `redis+unix://`, `redis-sentinel://` or `redis-cluster://`.
    /// Default: none, which starts a private `redis-server` in the data directory.
    pub url: Option<String>,
    /// First part of every key. Default `wm`.
    pub prefix: String,
    /// Slices of all keys, 1 to 1,024. Fixed by the first host that uses the store. Default 1.
    pub partitions: u16,
    /// Certificates (PEM file) of the authorities that are trusted. Default: those of the well-known authorities.
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate chain (PEM file), for servers that ask for one. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM file).
    pub tls_key: Option<PathBuf>,
    /// A second server, or another database, for long results and output records and for logs; an address like `url`, with
    /// the same prefix and certificates. Default: none, the first has everything.
    pub results_url: Option<String>,
    /// Results and output records longer than this go there, bytes, at least 512. Default 1,024.
    pub results_above_bytes: usize,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "wm".into(),
            partitions: 1,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            results_url: None,
            results_above_bytes: 1_024,
        }
    }
}

impl Redis {
    /// # Errors
    /// A value is out of its bounds, or one of two that go together is missing; the message names the key.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=waymark_job::id::PARTITIONS_MAX).contains(&self.partitions),
            "redis.partitions must be 1 to {}",
            waymark_job::id::PARTITIONS_MAX
        );
        anyhow::ensure!(
            self.tls_cert.is_some() == self.tls_key.is_some(),
            "redis.tls_cert and redis.tls_key go together"
        );
        anyhow::ensure!(self.results_above_bytes >= 512, "redis.results_above_bytes must be at least 512");
        Ok(())
    }
}

/// Where long results and output records are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// `file:///directory`, `s3://bucket` or `s3://bucket/prefix`; the same for all hosts. Default: none, everything
    /// stays in Redis.
    pub storage: Option<String>,
    /// Results and output records longer than this go to the storage, bytes, at least 1,024. Default 256 KiB.
    pub spill_above_bytes: usize,
    /// Settings of an S3-compatible storage: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http`
    /// and others of the crate `object_store`. Default: those of the environment, such as `AWS_REGION`.
    pub s3: BTreeMap<String, String>,
}

impl Default for Results {
    fn default() -> Self {
        Self { storage: None, spill_above_bytes: 256 << 10, s3: BTreeMap::new() }
    }
}

impl Results {
    /// # Errors
    /// A value is out of its bounds, or `redis` has another place for results; the message names the key.
    pub(super) fn check(&self, redis: &Redis) -> anyhow::Result<()> {
        anyhow::ensure!(self.spill_above_bytes >= 1_024, "results.spill_above_bytes must be at least 1024");
        anyhow::ensure!(
            redis.results_url.is_none() || self.storage.is_none(),
            "redis.results_url and results.storage are two places for the same values: give one of them"
        );
        Ok(())
    }
}

/// Encryption of what callers and plugins put into the store. The same for all hosts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encryption {
    /// Keys, the old ones included as long as anything is kept that they encrypt. Default: none.
    pub keys: Vec<EncryptionKey>,
    /// Id of the key that new values are encrypted with. Default: none, which keeps new values as they are.
    pub active: Option<String>,
}

/// A key; `file` or `env` says where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionKey {
    /// Its name, which stands in every value that it encrypts; 1 to 64 bytes.
    pub id: String,
    /// File that holds 32 bytes as 64 hexadecimal characters or in base64 (`openssl rand -hex 32`).
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Environment variable that holds the same.
    #[serde(default)]
    pub env: Option<String>,
}

impl EncryptionKey {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let text = match (&self.file, &self.env) {
            (Some(file), None) => std::fs::read_to_string(file)
                .with_context(|| format!("the file {} cannot be read", file.display()))?,
            (None, Some(name)) => {
                std::env::var(name).with_context(|| format!("the environment variable {name}"))?
            }
            _ => anyhow::bail!("it needs either file or env"),
        };
        let text = text.trim();
        let bytes = hex::decode(text).ok().or_else(|| BASE64.decode(text).ok());
        bytes
            .filter(|bytes| bytes.len() == waymark_store::KEY_BYTES)
            .context("it must be 32 bytes, as 64 hexadecimal characters or in base64 (openssl rand -hex 32)")
    }
}

impl Config {
    /// What the store needs to know. Certificates are read now.
    ///
    /// # Errors
    /// A certificate or key cannot be read.
    pub fn store(&self, url: &str) -> anyhow::Result<waymark_store::Options> {
        let read = |file: &Option<PathBuf>| {
            let read = |file: &PathBuf| {
                std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
            };
            file.as_ref().map(read).transpose()
        };
        let tls = waymark_store::Tls {
            ca: read(&self.redis.tls_ca)?,
            identity: read(&self.redis.tls_cert)?.zip(read(&self.redis.tls_key)?),
        };
        Ok(waymark_store::Options {
            url: url.to_owned(),
            tls,
            prefix: self.redis.prefix.clone(),
            partitions: self.redis.partitions,
            checkpoint_keep: self.retention.checkpoints,
            checkpoint_ttl_ms: self.retention.checkpoint_ms,
            crashes_max: self.worker.crashes_max,
            log_lines_max: self.retention.log_lines,
            objects: self.results.storage.as_ref().map(|url| waymark_store::ObjectOptions {
                url: url.clone(),
                above_bytes: self.results.spill_above_bytes,
                settings: self.results.s3.clone(),
            }),
            results: self.redis.results_url.as_ref().map(|url| waymark_store::ResultsOptions {
                url: url.clone(),
                above_bytes: self.redis.results_above_bytes,
            }),
            webhooks: self.webhook_rules(),
            encryption: self.keyring()?,
        })
    }

    /// The keys that values in the store are encrypted with. They are read now.
    ///
    /// # Errors
    /// A key cannot be read; the message names it.
    pub fn keyring(&self) -> anyhow::Result<waymark_store::Keyring> {
        let read = |key: &EncryptionKey| {
            Ok((key.id.clone(), key.read().with_context(|| format!("encryption.keys: {:?}", key.id))?))
        };
        let keys = self.encryption.keys.iter().map(read).collect::<anyhow::Result<_>>()?;
        waymark_store::Keyring::new(keys, self.encryption.active.clone())
            .map_err(|why| anyhow::anyhow!("encryption: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    #[test]
    fn long_results_have_one_place() {
        let error = load("[redis]\nresults_url = \"redis://b\"\n[results]\nstorage = \"file:///a\"\n");
        assert!(error.unwrap_err().to_string().contains("give one of them"));
        assert!(load("[redis]\nresults_url = \"redis://b\"\nresults_above_bytes = 100\n").is_err());
        let config = load("[redis]\nresults_url = \"redis://b/1\"\n").unwrap();
        let results = config.store("redis://a").unwrap().results.unwrap();
        assert_eq!((results.url.as_str(), results.above_bytes), ("redis://b/1", 1_024));
    }

    #[test]
    fn keys_are_read_where_they_lie() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "07".repeat(32) + "\n").unwrap();
        let key = format!("keys = [{{ id = \"k1\", file = {:?} }}]\n", file.path().display().to_string());
        let config = load(&format!("[encryption]\n{key}active = \"k1\"\n")).unwrap();
        assert!(config.keyring().unwrap().seals() && !format!("{config:?}").contains("0707"));
        assert!(!load(&format!("[encryption]\n{key}")).unwrap().keyring().unwrap().seals());
        let error = load("[encryption]\nactive = \"k2\"\n").unwrap_err().to_string();
        assert_eq!(error, "encryption: active: there is no key \"k2\"");
        std::fs::write(file.path(), BASE64.encode([7; 31])).unwrap();
        let error = format!("{:#}", load(&format!("[encryption]\n{key}")).unwrap_err());
        assert!(error.starts_with("encryption.keys: \"k1\": it must be 32 bytes"), "{error}");
        assert!(load("[encryption]\nkeys = [{ id = \"k1\" }]\n").is_err());
    }
}
