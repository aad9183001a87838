//! What an operator writes about language models: providers under `[llm.<name>]`, grants under
//! `[plugins.<type>.grants.llm]`.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

/// An endpoint that speaks OpenAI's chat completions, or recordings of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Where `/chat/completions` is, such as `https://api.openai.com/v1`. Default: none, which needs `replay`.
    pub url: Option<String>,
    /// Name of the secret that is sent as bearer token. Default: none.
    pub key: Option<String>,
    /// The models that may be asked for, with their prices. Default: none.
    pub models: BTreeMap<String, Price>,
    /// How an answer that must fit a schema is asked for. Default `schema`.
    pub json: JsonMode,
    /// Longest wait for one answer, milliseconds. Default 60,000.
    pub timeout_ms: u64,
    /// Tries of one request, 1 to 10. Default 3.
    pub attempts: u32,
    /// Requests of one worker process at once. Default 8.
    pub concurrency: NonZeroU32,
    /// Requests of all hosts in a minute. Default: no limit.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens of all hosts in a minute, prompts and answers. Default: no limit.
    pub tokens_per_minute: Option<NonZeroU64>,
    /// How long answers are kept for equal requests, milliseconds; 0 keeps none. Default one day.
    pub cache_ms: u64,
    /// Directory of recordings. With `url`, a request that is not recorded is asked and recorded; without, it is
    /// refused. Default: none.
    pub replay: Option<PathBuf>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            url: None,
            key: None,
            models: BTreeMap::new(),
            json: JsonMode::default(),
            timeout_ms: 60_000,
            attempts: 3,
            concurrency: NonZeroU32::new(8).unwrap_or(NonZeroU32::MIN),
            requests_per_minute: None,
            tokens_per_minute: None,
            cache_ms: 86_400_000,
            replay: None,
        }
    }
}

/// How an answer that must fit a schema is asked for; endpoints differ in what they know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonMode {
    /// `response_format` with the schema.
    #[default]
    Schema,
    /// `response_format` `json_object`, and the schema in a message.
    Object,
    /// The schema in a message.
    Prompt,
}

/// What a model costs, in the operator's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// A million tokens of prompts. Default 0.
    pub input_per_million: f64,
    /// A million tokens of answers. Default 0.
    pub output_per_million: f64,
}

impl Price {
    /// In millionths of the currency, rounded up.
    pub(crate) fn micros(&self, prompt_tokens: u64, completion_tokens: u64) -> u64 {
        let cost = prompt_tokens as f64 * self.input_per_million
            + completion_tokens as f64 * self.output_per_million;
        cost.max(0.0).ceil() as u64
    }
}

/// What a job type may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Name of a provider. Default: none, with which every call fails as `not-configured`.
    pub provider: Option<String>,
    /// Model of a request that names none. Default: the provider's, where it has just one.
    pub model: Option<String>,
    /// Longest answer of one request, in tokens. Default 4,096.
    pub max_tokens: NonZeroU32,
    /// Tokens that one job may use. Default: no limit.
    pub job_tokens: Option<NonZeroU64>,
    /// Money that one job may use. Default: no limit.
    pub job_cost: Option<f64>,
    /// Tokens that all jobs of the type may use in one day (UTC). Default: no limit.
    pub day_tokens: Option<NonZeroU64>,
    /// Money that all jobs of the type may use in one day (UTC). Default: no limit.
    pub day_cost: Option<f64>,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            provider: None,
            model: None,
            max_tokens: NonZeroU32::new(4_096).unwrap_or(NonZeroU32::MIN),
            job_tokens: None,
            job_cost: None,
            day_tokens: None,
            day_cost: None,
        }
    }
}

const ATTEMPTS_MAX: u32 = 10;

impl Provider {
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn check(&self) -> Result<(), String> {
        if self.url.is_none() && self.replay.is_none() {
            return Err("url: a provider has an address, or recordings (replay)".to_owned());
        }
        if let Some(url) = &self.url {
            let parsed = reqwest::Url::parse(url).map_err(|error| format!("url: {error}"))?;
            if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                return Err("url: it begins with http:// or https:// and a host".to_owned());
            }
        }
        if self.models.is_empty() {
            return Err("models: name at least one, such as models.\"gpt-4o-mini\" = {}".to_owned());
        }
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            return Err(format!("attempts: 1 to {ATTEMPTS_MAX}"));
        }
        let legal = |price: f64| price.is_finite() && price >= 0.0;
        match self
            .models
            .iter()
            .find(|(_, price)| !legal(price.input_per_million) || !legal(price.output_per_million))
        {
            Some((model, _)) => Err(format!("models.{model:?}: a price is a number of at least 0")),
            None => Ok(()),
        }
    }
}

impl Grant {
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn check(&self, providers: &BTreeMap<String, Provider>) -> Result<(), String> {
        let Some(name) = &self.provider else { return Ok(()) };
        let Some(provider) = providers.get(name) else {
            return Err(format!("provider: there is no [llm.{name}]"));
        };
        match &self.model {
            Some(model) if !provider.models.contains_key(model) => {
                Err(format!("model: {model:?} is not among llm.{name}.models"))
            }
            None if provider.models.len() != 1 => {
                Err(format!("model: llm.{name} has more than one, so say which is asked by default"))
            }
            _ => Ok(()),
        }
    }
}
