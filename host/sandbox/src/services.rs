//! What an operator configured for all capabilities of a process, made ready once; a job type's part of it follows
//! from its grants.

use crate::{
    http,
    keyvalue::{self, Buckets, Keeper},
    limits::Grants,
    llm::{self, config::Provider, ledger::Ledger},
    scratch,
    secrets::Secrets,
    sql::{self, config::Connection},
};
use prometheus::Registry;
use rustls_platform_verifier::ConfigVerifierExt as _;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};
use wasmtime_wasi_config::WasiConfigVariables;

/// What there is to be granted.
#[derive(Default)]
pub struct Offer {
    /// Passwords and keys.
    pub secrets: Secrets,
    /// Language models, by name.
    pub llm: BTreeMap<String, Provider>,
    /// Databases, by name.
    pub sql: BTreeMap<String, Connection>,
    /// What all hosts share about calls to language models; none: no cache, no limits, no budgets.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Buckets that all hosts share; none: nothing is kept.
    pub buckets: Option<Arc<dyn Buckets>>,
    /// Directory below which scratch files lie, on a disk of this machine; none: there are none. What earlier processes
    /// left there is removed.
    pub scratch: Option<PathBuf>,
    /// Where capabilities count.
    pub registry: Registry,
}

/// Why an offer cannot be made ready: one sentence that begins with the key of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// An offer, made ready.
pub(crate) struct Services {
    endpoints: HashMap<String, Arc<llm::Endpoint>>,
    ledger: Option<Arc<dyn Ledger>>,
    buckets: Option<Arc<dyn Buckets>>,
    keyvalue: Arc<keyvalue::Metrics>,
    llm: Arc<llm::Metrics>,
    http: Arc<http::Metrics>,
    scratch: Arc<scratch::Metrics>,
    place: Option<Arc<scratch::Place>>,
    databases: HashMap<String, Arc<sql::Database>>,
    sql: Arc<sql::Metrics>,
    secrets: Secrets,
    tls: Arc<rustls::ClientConfig>,
}

/// What an operator tells a job type under a key: a text, or a secret that the job type may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// The text itself.
    Text(String),
    /// The name of a secret.
    Secret {
        /// Its name under `[secrets]`.
        secret: String,
    },
}

impl Setting {
    fn value(&self, secrets: &Secrets) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Secret { secret } => secrets.get(secret).map(str::to_owned),
        }
    }
}

/// What one job type may use, made ready.
#[derive(Clone, Default)]
pub(crate) struct Capabilities {
    pub(crate) config: Arc<WasiConfigVariables>,
    pub(crate) http: Option<Arc<http::Outbound>>,
    pub(crate) keyvalue: Option<Arc<Keeper>>,
    pub(crate) llm: Option<Arc<llm::Chat>>,
    pub(crate) scratch: Option<Arc<scratch::Room>>,
    pub(crate) sql: Option<Arc<sql::Sql>>,
}

impl Services {
    pub(crate) fn new(offer: &Offer) -> Result<Self, Error> {
        let endpoint = |(name, provider): (&String, &Provider)| {
            let endpoint = llm::Endpoint::new(name, provider, &offer.secrets).map_err(Error)?;
            Ok((name.clone(), Arc::new(endpoint)))
        };
        let tls = tls().map_err(|error| Error(format!("TLS: {error}")))?;
        let database = |(name, connection): (&String, &Connection)| {
            let database = sql::Database::new(name, connection, &offer.secrets, &tls).map_err(Error)?;
            Ok((name.clone(), Arc::new(database)))
        };
        let twice = |error: prometheus::Error| Error(format!("metrics: {error}"));
        Ok(Self {
            endpoints: offer.llm.iter().map(endpoint).collect::<Result<_, _>>()?,
            ledger: offer.ledger.clone(),
            buckets: offer.buckets.clone(),
            keyvalue: Arc::new(keyvalue::Metrics::new(&offer.registry).map_err(twice)?),
            llm: Arc::new(llm::Metrics::new(&offer.registry).map_err(twice)?),
            http: Arc::new(http::Metrics::new(&offer.registry).map_err(twice)?),
            scratch: Arc::new(scratch::Metrics::new(&offer.registry).map_err(twice)?),
            place: offer.scratch.as_deref().map(|root| Arc::new(scratch::Place::new(root))),
            secrets: offer.secrets.clone(),
            databases: offer.sql.iter().map(database).collect::<Result<_, _>>()?,
            sql: Arc::new(sql::Metrics::new(&offer.registry).map_err(twice)?),
            tls: Arc::new(tls),
        })
    }

    pub(crate) fn capabilities(&self, job_type: &str, grants: &Grants) -> Capabilities {
        let chat = |grant: &llm::config::Grant| {
            let endpoint = grant.provider.as_ref().and_then(|name| self.endpoints.get(name)).cloned();
            Arc::new(llm::Chat::new(job_type, grant, endpoint, self.ledger.clone(), self.llm.clone()))
        };
        let outbound = |grant: &http::config::Grant| {
            let (secrets, tls) = (&self.secrets, self.tls.clone());
            Arc::new(http::Outbound::new(job_type, grant, secrets, tls, self.http.clone()))
        };
        let database = |(name, grant): (&String, &sql::config::Grant)| {
            let database = self.databases.get(name)?.clone();
            Some((name.clone(), (grant.clone(), database)))
        };
        let databases = || {
            let granted = grants.sql.iter().filter_map(database).collect();
            Arc::new(sql::Sql::new(job_type, granted, self.sql.clone()))
        };
        let keeper = |grant: &keyvalue::Grant| {
            let buckets = self.buckets.clone()?;
            let metrics = self.keyvalue.clone();
            Some(Arc::new(Keeper { job_type: job_type.to_owned(), grant: grant.clone(), buckets, metrics }))
        };
        let room = |grant: &scratch::Grant| {
            let (place, metrics) = (self.place.clone()?, self.scratch.clone());
            Some(Arc::new(scratch::Room {
                job_type: job_type.to_owned(),
                grant: grant.clone(),
                place,
                metrics,
            }))
        };
        let told = |(key, setting): (&String, &Setting)| Some((key.clone(), setting.value(&self.secrets)?));
        Capabilities {
            config: Arc::new(grants.config.iter().filter_map(told).collect()),
            keyvalue: grants.keyvalue.as_ref().and_then(keeper),
            // Also for a plugin that runs without the grant: calls are to fail in words that say what would grant them.
            http: Some(outbound(&grants.http.clone().unwrap_or_default())),
            llm: Some(chat(&grants.llm.clone().unwrap_or_default())),
            scratch: grants.scratch.as_ref().and_then(room),
            sql: Some(databases()),
        }
    }
}

/// The authorities that this machine trusts.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::with_platform_verifier()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
