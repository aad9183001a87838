//! What an operator configured for all capabilities of a process, made ready once; a job type's part of it follows
//! from its grants.

use crate::{
    limits::Grants,
    llm::{self, config::Provider, ledger::Ledger},
    secrets::Secrets,
};
use prometheus::Registry;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What there is to be granted.
#[derive(Default)]
pub struct Offer {
    /// Passwords and keys.
    pub secrets: Secrets,
    /// Language models, by name.
    pub llm: BTreeMap<String, Provider>,
    /// What all hosts share about calls to language models; none: no cache, no limits, no budgets.
    pub ledger: Option<Arc<dyn Ledger>>,
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
    llm: Arc<llm::Metrics>,
}

/// What one job type may use, made ready.
#[derive(Clone, Default)]
pub(crate) struct Capabilities {
    pub(crate) llm: Option<Arc<llm::Chat>>,
}

impl Services {
    pub(crate) fn new(offer: &Offer) -> Result<Self, Error> {
        let endpoint = |(name, provider): (&String, &Provider)| {
            let endpoint = llm::Endpoint::new(name, provider, &offer.secrets).map_err(Error)?;
            Ok((name.clone(), Arc::new(endpoint)))
        };
        let twice = |error: prometheus::Error| Error(format!("metrics: {error}"));
        Ok(Self {
            endpoints: offer.llm.iter().map(endpoint).collect::<Result<_, _>>()?,
            ledger: offer.ledger.clone(),
            llm: Arc::new(llm::Metrics::new(&offer.registry).map_err(twice)?),
        })
    }

    pub(crate) fn capabilities(&self, job_type: &str, grants: &Grants) -> Capabilities {
        let chat = |grant: &llm::config::Grant| {
            let endpoint = grant.provider.as_ref().and_then(|name| self.endpoints.get(name)).cloned();
            Arc::new(llm::Chat::new(job_type, grant, endpoint, self.ledger.clone(), self.llm.clone()))
        };
        Capabilities { llm: grants.llm.as_ref().map(chat) }
    }
}
