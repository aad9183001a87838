//! A request that was checked, and the name under which its answer is kept.

use super::{Error, bindings::chat, config::Grant, config::Provider};
use crate::engine::hex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is asked of an endpoint; nothing in it depends on who asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) model: String,
    /// Role and content.
    pub(super) messages: Vec<(String, String)>,
    pub(super) max_tokens: u32,
    pub(super) temperature: f64,
    pub(super) seed: Option<i64>,
    pub(super) schema: Option<Value>,
}

const TEMPERATURE_MAX: f64 = 2.0;
/// Bytes of a prompt that surely hold a token; for estimates.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens around each message; for estimates.
const TOKENS_PER_MESSAGE: u64 = 8;

impl Question {
    /// Checks a guest's request against its grant.
    pub(super) fn of(request: chat::Request, grant: &Grant, provider: &Provider) -> Result<Self, Error> {
        let bad = |why: String| Err(Error::BadRequest(why));
        let only = || provider.models.keys().next().cloned();
        let Some(model) = request.model.or_else(|| grant.model.clone()).or_else(only) else {
            return bad("no model is configured".to_owned());
        };
        if !provider.models.contains_key(&model) {
            let known: Vec<_> = provider.models.keys().map(String::as_str).collect();
            return bad(format!("the model {model:?} is not among those allowed: {}", known.join(", ")));
        }
        if request.messages.is_empty() {
            return bad("a request has at least one message".to_owned());
        }
        let max_tokens = request.max_tokens.unwrap_or(grant.max_tokens.get());
        if !(1..=grant.max_tokens.get()).contains(&max_tokens) {
            return bad(format!("max-tokens must be 1 to {}, the grant's", grant.max_tokens));
        }
        // As it was written: a narrow number has long decimals when it is widened.
        let temperature = (f64::from(request.temperature.unwrap_or(0.0)) * 1e4).round() / 1e4;
        if !(0.0..=TEMPERATURE_MAX).contains(&temperature) {
            return bad(format!("the temperature must be 0 to {TEMPERATURE_MAX}"));
        }
        let schema = match request.schema.map(|text| serde_json::from_str::<Value>(&text)).transpose() {
            Ok(schema) => schema,
            Err(error) => return bad(format!("the schema is not JSON: {error}")),
        };
        let role = |role| match role {
            chat::Role::System => "system",
            chat::Role::User => "user",
            chat::Role::Assistant => "assistant",
        };
        let messages = request.messages.into_iter();
        let messages = messages.map(|message| (role(message.role).to_owned(), message.content)).collect();
        Ok(Self { model, messages, max_tokens, temperature, seed: request.seed, schema })
    }

    /// The same for equal questions, 64 hexadecimal digits.
    pub(super) fn key(&self) -> String {
        // A struct of texts and numbers always has a JSON form; maps of a schema are in the order of their keys.
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }

    /// Tokens of the prompt, rather too many than too few.
    pub(super) fn prompt_tokens(&self) -> u64 {
        let schema = self.schema.as_ref().map_or(0, |schema| schema.to_string().len());
        let bytes = schema + self.messages.iter().map(|(_, content)| content.len()).sum::<usize>();
        (bytes as u64).div_ceil(BYTES_PER_TOKEN) + TOKENS_PER_MESSAGE * (self.messages.len() as u64 + 1)
    }

    /// The same question once more, with an answer and what is wrong with it.
    pub(super) fn repair(&self, answer: &str, wrong: &str) -> Self {
        let mut question = self.clone();
        question.messages.push(("assistant".to_owned(), answer.to_owned()));
        let complaint =
            format!("This answer is not valid: {wrong}\nAnswer again, with the corrected JSON only.");
        question.messages.push(("user".to_owned(), complaint));
        question
    }
}
