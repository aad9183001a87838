//! One host, over HTTP.

use super::table::say;
use crate::api::audit;
use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{fmt, time::Duration};

/// Longest time to reach a host.
const CONNECT: Duration = Duration::from_secs(5);

/// Above these options in the help of every command, apart from those of its own.
const HEADING: &str = "Options of every command";

/// Which host, and how its answers are shown.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub struct Remote {
    /// Address of a host.
    #[arg(
        long,
        env = "WAYMARK_URL",
        default_value = "http://127.0.0.1:7420",
        global = true,
        value_name = "URL"
    )]
    pub url: String,
    /// Token, where the host asks for one.
    #[arg(long, env = "WAYMARK_TOKEN", hide_env_values = true, global = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Why, for the audit log of the host; of a change, or of looking at what is hidden.
    #[arg(long, global = true, value_name = "TEXT")]
    pub why: Option<String>,
    /// Print the API's answers as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// A host to ask.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    why: Option<String>,
    /// Print the API's answers as JSON.
    pub json: bool,
}

/// What a host says when it refuses.
#[derive(Debug, Deserialize)]
pub struct Refusal {
    /// Stable code.
    pub code: String,
    /// What happened.
    pub detail: String,
    /// The request's id, for the host's log.
    #[serde(default)]
    pub request_id: Option<String>,
    #[serde(default)]
    errors: Vec<Violation>,
}

#[derive(Debug, Deserialize)]
struct Violation {
    pointer: String,
    detail: String,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}", self.detail, self.code)?;
        if let Some(id) = &self.request_id {
            write!(formatter, ", request {id}")?;
        }
        formatter.write_str(")")?;
        // The first one is the detail.
        for error in self.errors.iter().skip(1) {
            write!(formatter, "\n  {}: {}", error.pointer, error.detail)?;
        }
        Ok(())
    }
}

impl Client {
    /// A client of one host; nothing is sent yet.
    ///
    /// # Errors
    /// The address or the token cannot be used.
    pub fn new(remote: &Remote) -> anyhow::Result<Self> {
        let base = remote.url.trim_end_matches('/').to_owned();
        let url =
            reqwest::Url::parse(&base).with_context(|| format!("{base:?} is not the address of a host"))?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("{base:?} is not the address of a host: it begins with http:// or https://");
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &remote.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .context("the token has characters that cannot be sent")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .default_headers(headers)
            // A host on this machine is never behind a proxy.
            .no_proxy()
            .user_agent(concat!("waymark/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base, why: remote.why.clone(), json: remote.json })
    }

    /// A request to `path`, which begins with `/`.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let is_kept = audit::is_kept(&method, path.split('?').next().unwrap_or_default());
        let request = self.http.request(method, format!("{}{path}", self.base));
        if is_kept { self.with_why(request) } else { request }
    }

    fn with_why(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.why {
            Some(why) => request.query(&[("why", why)]),
            None => request,
        }
    }

    /// Sends a request; a refusal becomes an error.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused: then the error is a [`Refusal`].
    pub async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| {
            let connect = error.is_connect();
            let error = anyhow::Error::new(error.without_url());
            if connect {
                error.context(format!(
                    "no host answers at {}: start one with `waymark host`, or name another with --url or WAYMARK_URL",
                    self.base
                ))
            } else {
                error.context(format!("the host at {} did not answer", self.base))
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(refusal.into()),
            Err(_) => bail!("{} answered {status}: is it a Waymark host?", self.base),
        }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer has another shape.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let mut request = self.request(Method::GET, path).query(query);
        if query.iter().any(|(name, _)| *name == "reveal") {
            request = self.with_why(request);
        }
        read(self.send(request).await?).await
    }

    /// Sends JSON, or nothing.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer has another shape.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let response = self.send(self.request(Method::POST, path).query(query)).await?;
        read(response).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)).await.map(drop)
    }

    /// Prints a document as JSON if that is wanted; answers whether it did.
    pub fn print(&self, document: &Value) -> bool {
        if self.json {
            say!("{}", pretty(document));
        }
        self.json
    }
}

/// Reads a JSON answer.
///
/// # Errors
/// The connection broke, or the answer has another shape.
pub async fn read<T: DeserializeOwned>(response: Response) -> anyhow::Result<T> {
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(serde_json::from_value(Value::Null)?);
    }
    let body = response.bytes().await.context("the answer broke off")?;
    serde_json::from_slice(&body).context("the answer is not what this version of waymark expects")
}

/// JSON for people.
pub fn pretty<T: Serialize>(document: &T) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// A path segment of a caller's text.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
