//! One request to an endpoint that speaks OpenAI's chat completions.

use super::{
    config::{JsonMode, Provider},
    question::Question,
};
use crate::bounded;
use reqwest::{StatusCode, header::HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// What an endpoint answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) content: String,
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) truncated: bool,
}

/// Why it did not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It asks to be left alone for so long, where it says how long.
    Busy(Option<Duration>),
    /// It may answer the same request later.
    Passing(String),
    /// It will never answer this request.
    Refused(String),
}

/// Longest answer that is read, bytes: some hundred thousand tokens.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How much of a refusal is shown, characters: it may repeat the prompt.
const REFUSAL_CHARS_MAX: usize = 300;
const SCHEMA_WORDS: &str = "Answer with JSON only, without any other text. It must fit this JSON Schema: ";

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The body of a request.
pub(super) fn body(question: &Question, mode: JsonMode) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    if let (Some(schema), true) = (&question.schema, mode != JsonMode::Schema) {
        messages.push(json!({"role": "system", "content": format!("{SCHEMA_WORDS}{schema}")}));
    }
    let said = question.messages.iter();
    messages.extend(said.map(|(role, content)| json!({"role": role, "content": content})));
    let mut body = json!({
        "model": question.model,
        "messages": messages,
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
    });
    if let Some(seed) = question.seed {
        body["seed"] = json!(seed);
    }
    match (&question.schema, mode) {
        (Some(schema), JsonMode::Schema) => {
            body["response_format"] =
                json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
        }
        (Some(_), JsonMode::Object) => body["response_format"] = json!({"type": "json_object"}),
        _ => {}
    }
    body
}

/// Asks once.
pub(super) async fn ask(
    client: &reqwest::Client,
    url: &str,
    key: Option<&str>,
    provider: &Provider,
    question: &Question,
) -> Result<Reply, Trouble> {
    let passing = |error: reqwest::Error| Trouble::Passing(error.without_url().to_string());
    let mut request = client
        .post(format!("{}/chat/completions", url.trim_end_matches('/')))
        .timeout(Duration::from_millis(provider.timeout_ms))
        .json(&body(question, provider.json));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let answer = request.send().await.map_err(passing)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = bounded::whole(answer.bytes_stream(), ANSWER_BYTES_MAX).await.map_err(passing)?;
    let bytes = bytes
        .ok_or_else(|| Trouble::Refused(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")))?;
    if status.is_success() { read(&bytes) } else { Err(trouble(status, &headers, &bytes)) }
}

fn read(bytes: &[u8]) -> Result<Reply, Trouble> {
    let completion: Completion = serde_json::from_slice(bytes)
        .map_err(|error| Trouble::Passing(format!("the answer is no chat completion: {error}")))?;
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err(Trouble::Passing("the answer holds no choice".to_owned()));
    };
    if let Some(refusal) = choice.message.refusal.filter(|refusal| !refusal.is_empty()) {
        return Err(Trouble::Refused(format!("the model refused: {}", shorten(&refusal))));
    }
    let (prompt_tokens, completion_tokens) =
        completion.usage.map_or((None, None), |usage| (usage.prompt_tokens, usage.completion_tokens));
    Ok(Reply {
        content: choice.message.content.unwrap_or_default(),
        prompt_tokens,
        completion_tokens,
        truncated: choice.finish_reason.as_deref() == Some("length"),
    })
}

fn trouble(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
    let told = serde_json::from_slice::<Value>(body).ok();
    let told = told.as_ref().and_then(|body| body["error"]["message"].as_str());
    let text = format!("HTTP {}: {}", status.as_u16(), shorten(told.unwrap_or_default()));
    match status {
        StatusCode::TOO_MANY_REQUESTS => Trouble::Busy(retry_after(headers)),
        StatusCode::SERVICE_UNAVAILABLE if retry_after(headers).is_some() => {
            Trouble::Busy(retry_after(headers))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Trouble::Passing(text),
        status if status.is_server_error() => Trouble::Passing(text),
        status if status.is_redirection() => Trouble::Refused(format!("{text} (redirects are not followed)")),
        _ => Trouble::Refused(text),
    }
}

/// `retry-after-ms`, or `retry-after` in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|text| text.parse().ok()) {
        return Some(Duration::from_millis(ms));
    }
    let after = text("retry-after")?;
    if let Ok(seconds) = after.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = time::OffsetDateTime::parse(after, &time::format_description::well_known::Rfc2822).ok()?;
    Duration::try_from(date - time::OffsetDateTime::now_utc()).ok()
}

fn shorten(text: &str) -> String {
    text.chars().take(REFUSAL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(retry_after(&headers(&[("retry-after", "1")])), second);
        assert_eq!(retry_after(&headers(&[("retry-after-ms", "1000"), ("retry-after", "9")])), second);
        assert_eq!(retry_after(&headers(&[("retry-after", "-3")])), None);
        let date = retry_after(&headers(&[("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT")]));
        assert!(date.is_some_and(|date| date > Duration::from_secs(86_400)));
        assert_eq!(retry_after(&headers(&[])), None);
    }

    #[test]
    fn a_status_says_whether_to_come_back() {
        let of = |status: u16| trouble(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), b"{}");
        assert_eq!(of(429), Trouble::Busy(None));
        assert!(matches!(of(500), Trouble::Passing(_)));
        assert!(matches!(of(401), Trouble::Refused(_)));
        assert!(matches!(of(302), Trouble::Refused(text) if text.contains("not followed")));
    }
}
