//! `webhooks` and `delivery`: who is told of the ends of jobs, and how.

use super::Config;
use serde::{Deserialize, Serialize};
use waymark_job::State;

/// Somebody who is told of the ends of jobs, or whose secret signs what is sent to addresses of callers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Address, `https://` or `http://`. Without it the name only stands for its secret.
    pub url: Option<String>,
    /// Signs every message: `whsec_` and base64 of 24 to 64 bytes, or any other text as it is. Default: unsigned.
    pub secret: Option<String>,
    /// Which ends: `succeeded`, `failed`, `cancelled`. Default: all three.
    pub events: Option<Vec<State>>,
    /// Of which job types. Default: of all.
    pub types: Vec<String>,
}

impl Endpoint {
    /// Letters of the ends that it is told by itself.
    fn letters(&self) -> String {
        let all = [State::Succeeded, State::Failed, State::Cancelled];
        let events = self.events.as_deref().unwrap_or(&all);
        self.url.iter().flat_map(|_| events).map(|state| state.letter()).collect()
    }

    /// # Errors
    /// A value is not what it can be; the message begins with its key.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let url = self.url.as_deref().unwrap_or("https://example.com");
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err("url must begin with https:// or http://");
        }
        if !self.events.iter().flatten().all(|state| state.is_ended()) {
            return Err("events: there are succeeded, failed and cancelled");
        }
        Ok(())
    }
}

/// How webhooks are sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Allow addresses of loopback, private and other networks that are not public. Default false: callers name
    /// addresses, and must not reach what only this host reaches.
    pub private_addresses: bool,
    /// Longest time of one delivery, milliseconds. Default 10,000.
    pub timeout_ms: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { private_addresses: false, timeout_ms: 10_000 }
    }
}

impl Config {
    /// The endpoints, in the words of the store.
    pub(super) fn webhook_rules(&self) -> Vec<waymark_store::WebhookRule> {
        let rules = self.webhooks.iter().map(|(name, endpoint)| waymark_store::WebhookRule {
            name: name.clone(),
            on: endpoint.letters(),
            types: endpoint.types.clone(),
        });
        rules.collect()
    }
}
