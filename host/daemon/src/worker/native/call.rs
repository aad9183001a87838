//! A job whose route sends it to an endpoint: its input is posted, the JSON of the answer is its result.
//!
//! Who may be called is what holds for webhooks. An answer that says so, or none, is tried again like any other
//! failure, so an endpoint may get the same job more than once: `idempotency-key` is the same each time.

use super::{
    Context, Native,
    webhook::{address, client, judge, permanent, unsent},
};
use crate::worker::run::Next;
use reqwest::header::CONTENT_TYPE;
use serde::de::IgnoredAny;
use std::time::Duration;
use waymark_job::Failure;
use waymark_sandbox::{Fault, bounded};

/// The address.
pub(super) struct Calling(String);

impl Native for Calling {
    fn begin(context: &Context<'_>, _: Option<&[u8]>) -> Result<Self, Fault> {
        let routed = context.record.route.as_ref();
        routed
            .map(|routed| Self(routed.target.clone()))
            .ok_or_else(|| Fault::Host("the job is routed to nobody".to_owned()))
    }

    async fn step(&mut self, context: &Context<'_>) -> Result<Next, Fault> {
        let config = &context.shared.config;
        let policy = config.policy(&context.spec.job_type);
        let url = address(&self.0, config.delivery).map_err(permanent)?;
        let answer = client(config.delivery)?
            .post(url)
            .timeout(Duration::from_millis(policy.step_limit_ms))
            .header(CONTENT_TYPE, "application/json")
            .header("waymark-job", context.id.as_str())
            .header("waymark-type", &context.spec.job_type)
            .header("waymark-attempt", context.record.attempt + 1)
            .header("idempotency-key", format!("{}.{}", context.id, context.record.run))
            .body(context.spec.input.clone())
            .send()
            .await
            .map_err(|error| unsent(&error))?;
        if matches!(answer.status().as_u16(), 400 | 404 | 405 | 410 | 413 | 415 | 422) {
            return Err(permanent(format!("the endpoint answered {}", answer.status())));
        }
        judge(answer.status(), answer.headers())?;
        let bytes_max = usize::try_from(policy.result_bytes_max).unwrap_or(usize::MAX);
        let body = bounded::whole(answer.bytes_stream(), bytes_max).await.map_err(|error| unsent(&error))?;
        let body = body.ok_or_else(|| {
            permanent(format!("the endpoint's answer is longer than result_bytes_max = {bytes_max}"))
        })?;
        result(body).map(Next::Completed)
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// The result in one line; an empty answer is `null`.
fn result(body: Vec<u8>) -> Result<String, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok("null".to_owned());
    }
    let wrong =
        |why: String| Fault::Failure(Failure::Permanent(format!("the endpoint's answer is no JSON: {why}")));
    let text = String::from_utf8(body).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(&text).map_err(|error| wrong(error.to_string()))?;
    // Inside of strings line breaks are escaped.
    Ok(text.replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_or_nothing() {
        assert_eq!(result(b" \n".to_vec()).unwrap(), "null");
        assert_eq!(result(b"{\"a\":\n1}".to_vec()).unwrap(), "{\"a\": 1}");
        assert!(matches!(result(b"<html>".to_vec()), Err(Fault::Failure(Failure::Permanent(_)))));
        assert!(result(vec![0xff]).is_err());
    }
}
