//! `waymark.webhook`: tells somebody of the end of a job, by a signed message (<https://www.standardwebhooks.com>).
//!
//! Such a job is made by the script call that ends the job it tells of. It is tried again like any other, so a message
//! may arrive more than once: its `webhook-id`, which is the id of this job, is the same each time.

use super::{Context, Native};
use crate::{
    api::answer::{Include, Job, Timestamp},
    config::{Config, Delivery},
    redaction::hide,
    traces::to_headers,
    worker::run::Next,
};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{
    StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use waymark_job::{Failure, JobId, Webhook};
use waymark_sandbox::{Fault, calls::Call};
use waymark_store::View;

/// The job type.
pub(super) const NAME: &str = Webhook::JOB_TYPE;
/// What a secret in the standard's own form begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Longest wait that a receiver may ask for, seconds.
const RETRY_AFTER_MAX_S: u64 = 86_400;

/// What the script wrote down.
#[derive(Deserialize)]
struct Input {
    job: JobId,
    #[serde(rename = "type")]
    job_type: String,
    run: u32,
    status: String,
    /// Unix milliseconds.
    at: u64,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
}

pub(super) struct Delivering(Input);

impl Native for Delivering {
    fn begin(context: &Context<'_>, _: Option<&[u8]>) -> Result<Self, Fault> {
        let input = serde_json::from_str(&context.spec.input);
        input.map(Self).map_err(|error| Fault::Failure(Failure::InvalidInput(error.to_string())))
    }

    async fn step(&mut self, context: &Context<'_>) -> Result<Next, Fault> {
        let Self(input) = self;
        let (config, store) = (&context.shared.config, &context.shared.store);
        let (url, secret) = target(input, config).map_err(permanent)?;
        let ids = [input.job];
        let mut view = context.patiently(|| store.views(input.job.partition(), &ids)).await?.pop();
        if let Some(view) = &mut view {
            hide(&context.shared.redaction, view);
        }
        let body = message(input, view).to_string();
        let now_ms = context.patiently(|| store.now_ms()).await?;
        let (id, seconds) = (context.id.to_string(), (now_ms / 1_000).to_string());
        let to = url.host_str().unwrap_or_default().to_owned();
        let mut request = client(config.delivery)?
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", &seconds);
        if let Some(secret) = secret {
            request = request.header("webhook-signature", sign(&secret, &id, &seconds, &body));
        }
        let trace = context.calls.as_ref().map(|calls| calls.begin());
        if let Some(trace) = &trace {
            let mut headers = HeaderMap::new();
            to_headers(trace, &mut headers);
            request = request.headers(headers);
        }
        let began = Instant::now();
        // The body of the answer is not read.
        let answer = request.body(body).send().await;
        if let Some((calls, trace)) = context.calls.as_ref().zip(trace) {
            let failed = !answer.as_ref().is_ok_and(|answer| answer.status().is_success());
            let error = failed.then_some("not-delivered");
            calls.end(trace, Call { capability: "http", to, began, took: began.elapsed(), error });
        }
        let answer = answer.map_err(|error| unsent(&error))?;
        judge(answer.status(), answer.headers())?;
        Ok(Next::Completed(json!({"status": answer.status().as_u16()}).to_string()))
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

pub(super) fn permanent(message: String) -> Fault {
    Fault::Failure(Failure::Permanent(message))
}

fn transient(message: String) -> Fault {
    Fault::Failure(Failure::Transient(message))
}

/// The address is not one that this host may send to.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no public address, and delivery.private_addresses is not set")]
pub(super) struct Refused(String);

/// Why nothing was sent, or no answer came. The outermost error says only that; the causes say more.
pub(super) fn unsent(error: &reqwest::Error) -> Fault {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<Refused>() {
            return permanent(inner.to_string());
        }
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    transient(text)
}

/// The address, and the key that signs.
fn target(input: &Input, config: &Config) -> Result<(Url, Option<Vec<u8>>), String> {
    let endpoint = match &input.endpoint {
        Some(name) => Some(config.webhooks.get(name).ok_or_else(|| {
            format!("this host has no endpoint {name:?} under [webhooks] of its configuration")
        })?),
        None => None,
    };
    let url = input.url.as_deref().or(endpoint.and_then(|endpoint| endpoint.url.as_deref()));
    let url = address(url.unwrap_or_default(), config.delivery)?;
    let secret = endpoint.and_then(|endpoint| endpoint.secret.as_deref()).map(key).transpose()?;
    Ok((url, secret))
}

/// An address that may be sent to, as far as it can be told before names are resolved.
pub(super) fn address(text: &str, delivery: Delivery) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the address: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    if !delivery.private_addresses && literal.is_some_and(|ip| !is_public(ip)) {
        return Err(Refused(host.to_owned()).to_string());
    }
    Ok(url)
}

fn key(secret: &str) -> Result<Vec<u8>, String> {
    match secret.strip_prefix(SECRET_PREFIX) {
        Some(text) => BASE64.decode(text).map_err(|error| format!("the secret is not base64: {error}")),
        None => Ok(secret.as_bytes().to_vec()),
    }
}

/// `v1,` and the HMAC-SHA256 of id, time and body with dots between them, in base64.
fn sign(key: &[u8], id: &str, seconds: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signature = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64.encode(signature))
}

/// What happened, and the job as it is now, unless it began another run or is gone.
fn message(input: &Input, view: Option<View>) -> Value {
    let view = view.filter(|view| view.record.run == input.run && view.state.name() == input.status);
    let job = match &view {
        Some(view) => serde_json::to_value(Job::new(view, Include::NONE)).unwrap_or_default(),
        None => {
            json!({"id": input.job, "type": input.job_type, "run": input.run, "status": input.status})
        }
    };
    json!({
        "type": format!("job.{}", input.status),
        "timestamp": Timestamp(input.at).to_string(),
        "data": job,
    })
}

pub(super) fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Fault> {
    let message = format!("the receiver answered {status}");
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() || status == StatusCode::GONE {
        return Err(permanent(message));
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    Err(match seconds {
        Some(seconds) => Fault::Failure(Failure::RetryAfter(seconds.min(RETRY_AFTER_MAX_S) * 1_000, message)),
        None => transient(message),
    })
}

/// One for all deliveries of this process; its settings never change.
pub(super) fn client(delivery: Delivery) -> Result<&'static reqwest::Client, Fault> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(Duration::from_millis(delivery.timeout_ms))
        // A kept connection belongs to the thread that made it.
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Resolver { private: delivery.private_addresses }))
        .user_agent(concat!("waymark/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Fault::Host(error.to_string()))?;
    Ok(CLIENT.get_or_init(|| client))
}

/// Names lead to public addresses only; the connection goes to the very address that was looked at.
struct Resolver {
    private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| private || is_public(address.ip()))
                .collect();
            if found.is_empty() {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Addresses that anybody on the Internet could reach as well (RFC 6890). Of IPv6 only the global unicast block, without
/// those parts that carry IPv4 addresses.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || a == 0
                || a >= 224
                || (a == 100 && (64..128).contains(&b))
                || (a, b, c) == (192, 0, 0)
                || (a == 198 && (18..20).contains(&b)))
        }
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public(IpAddr::V4(ip));
    }
    let [first, second, ..] = ip.segments();
    let carries_ipv4 = first == 0x2002 || (first, second) == (0x2001, 0);
    let documentation = (first, second) == (0x2001, 0x0db8);
    (0x2000..0x4000).contains(&first) && !carries_ipv4 && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of the specification's own libraries.
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn only_what_anybody_could_reach_is_public() {
        for ip in ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_answer_decides_about_another_attempt() {
        let none = HeaderMap::new();
        assert!(judge(StatusCode::NO_CONTENT, &none).is_ok());
        let fault = |status, headers| match judge(status, headers) {
            Err(Fault::Failure(failure)) => failure,
            other => panic!("{other:?}"),
        };
        assert!(matches!(fault(StatusCode::FOUND, &none), Failure::Permanent(_)));
        assert!(matches!(fault(StatusCode::GONE, &none), Failure::Permanent(_)));
        assert!(matches!(fault(StatusCode::NOT_FOUND, &none), Failure::Transient(_)));
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]);
        assert!(matches!(fault(StatusCode::SERVICE_UNAVAILABLE, &headers), Failure::RetryAfter(7_000, _)));
    }
}
