//! What is said to the provider: its discovery document and keys, codes for tokens, and its userinfo.
//!
//! The document and the keys are kept for an hour, and fetched again once a minute at most when a token names a key that is not
//! among them. A failure is kept for a few seconds, so that a provider that is away is not asked by everybody at once.

use super::{
    settings::{Claims, Settings, safe_url},
    ticket::Ticket,
    token::{Expected, Keys, Refusal},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{
    RequestBuilder, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use waymark_sandbox::bounded;

/// How long the document and the keys are kept.
const KEPT: Duration = Duration::from_secs(3_600);
/// How long a failure to fetch them is.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Time between two fetches because of keys that are not known. Stops tokens that name random ones from making us ask.
const REFETCH_EVERY: Duration = Duration::from_secs(60);
/// Time for a connection, and for a whole answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// Longest text of the provider that goes into the log, characters.
const TOLD_MAX: usize = 200;

/// What went wrong at or with the provider. Its text is for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the provider does not answer: {0}")]
    Away(String),
    #[error("the provider's answer is not what it should be: {0}")]
    Answer(String),
    #[error("the provider does not take the code: {0}")]
    Refused(String),
    #[error("the ID token is not taken: {0}")]
    Token(#[from] Refusal),
}

/// What is read of the discovery document (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// What is known of the provider.
struct Facts {
    document: Document,
    keys: Keys,
    fetched: Instant,
}

#[derive(Default)]
struct Known {
    facts: Option<Arc<Facts>>,
    failed: Option<Instant>,
    refetched: Option<Instant>,
}

/// A token or an error, as the token endpoint answers.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    access_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The provider.
pub(super) struct Provider {
    http: reqwest::Client,
    secret: String,
    known: Mutex<Known>,
}

impl Provider {
    /// Asks nothing yet. `secret`: the client secret.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub(super) fn new(secret: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("waymark/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, secret, known: Mutex::default() })
    }

    /// Where a browser is sent to sign in.
    ///
    /// # Errors
    /// The provider is away, or its document is wrong.
    pub(super) async fn address(&self, settings: &Settings, ticket: &Ticket) -> Result<Url, Trouble> {
        let facts = self.facts(settings).await?;
        let mut url = safe_url(&facts.document.authorization_endpoint).map_err(Trouble::Answer)?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", settings.client_id.as_str()),
            ("redirect_uri", settings.redirect_url.as_str()),
            ("scope", settings.scopes.join(" ").as_str()),
            ("state", ticket.state.as_str()),
            ("nonce", ticket.nonce.as_str()),
            ("code_challenge", ticket.challenge().as_str()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(url)
    }

    /// What the provider says about whoever it gave this code.
    ///
    /// # Errors
    /// It is away, does not take the code, or its token is not what it should be.
    pub(super) async fn claims(
        &self,
        settings: &Settings,
        ticket: &Ticket,
        code: &str,
    ) -> Result<Claims, Trouble> {
        let facts = self.facts(settings).await?;
        let answer = self.redeem(settings, &facts.document, ticket, code).await?;
        let token = answer.id_token.ok_or_else(|| Trouble::Answer("it has no id_token".into()))?;
        let verify = |facts: &Facts| {
            facts.keys.verify(
                &token,
                &Expected {
                    issuer: &settings.issuer,
                    client_id: &settings.client_id,
                    nonce: &ticket.nonce,
                    offered: &facts.document.id_token_signing_alg_values_supported,
                },
            )
        };
        let mut claims = match verify(&facts) {
            Err(unknown @ Refusal::UnknownKey(_)) => {
                let Some(newer) = self.newer(settings, &facts).await? else { return Err(unknown.into()) };
                verify(&newer)?
            }
            verified => verified?,
        };
        if !settings.are_enough(&claims)
            && let (Some(endpoint), Some(access)) = (&facts.document.userinfo_endpoint, &answer.access_token)
        {
            self.add_userinfo(endpoint, access, &mut claims).await?;
        }
        Ok(claims)
    }

    /// Gives the code for tokens (RFC 6749, 4.1.3; RFC 7636, 4.5).
    async fn redeem(
        &self,
        settings: &Settings,
        document: &Document,
        ticket: &Ticket,
        code: &str,
    ) -> Result<TokenAnswer, Trouble> {
        let url = safe_url(&document.token_endpoint).map_err(Trouble::Answer)?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &settings.redirect_url),
            ("code_verifier", &ticket.verifier),
        ];
        let mut request = self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        // Who does not say how it wants the secret wants it in the header.
        let methods = document.token_endpoint_auth_methods_supported.as_ref();
        if methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic")) {
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&settings.client_id), encoded(&self.secret));
            request = request.header(AUTHORIZATION, format!("Basic {}", BASE64.encode(pair)));
        } else {
            fields.extend([("client_id", settings.client_id.as_str()), ("client_secret", &self.secret)]);
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let (status, answer) = read::<TokenAnswer>("the token endpoint", request.body(form)).await?;
        if let Some(error) = &answer.error {
            let more = answer.error_description.as_deref().unwrap_or_default();
            return Err(Trouble::Refused(format!("{status}: {} {}", told(error), told(more))));
        }
        if !status.is_success() {
            return Err(Trouble::Answer(format!("the token endpoint answers {status}")));
        }
        Ok(answer)
    }

    /// Adds what the ID token does not say (OpenID Connect Core 1.0, 5.3).
    async fn add_userinfo(&self, endpoint: &str, access: &str, claims: &mut Claims) -> Result<(), Trouble> {
        let url = safe_url(endpoint).map_err(Trouble::Answer)?;
        let request = self.http.get(url).bearer_auth(access);
        let (status, more) = read::<Claims>("the userinfo endpoint", request).await?;
        if !status.is_success() {
            return Err(Trouble::Answer(format!("the userinfo endpoint answers {status}")));
        }
        if more.get("sub") != claims.get("sub") {
            return Err(Trouble::Answer("the userinfo endpoint tells of somebody else".into()));
        }
        // An address goes with what the same answer says of it.
        let has_email = claims.contains_key("email");
        if !has_email {
            claims.remove("email_verified");
        }
        for (name, value) in more {
            if !(has_email && name == "email_verified") {
                claims.entry(name).or_insert(value);
            }
        }
        Ok(())
    }

    async fn facts(&self, settings: &Settings) -> Result<Arc<Facts>, Trouble> {
        let mut known = self.known.lock().await;
        if let Some(facts) = known.facts.as_ref().filter(|facts| facts.fetched.elapsed() < KEPT) {
            return Ok(facts.clone());
        }
        if known.failed.is_some_and(|failed| failed.elapsed() < FAILURE_KEPT) {
            return Err(Trouble::Away("it did not answer a moment ago".into()));
        }
        self.fetch(settings, &mut known).await
    }

    /// Newer facts than these; `None` where it is too early to ask for them.
    async fn newer(&self, settings: &Settings, than: &Arc<Facts>) -> Result<Option<Arc<Facts>>, Trouble> {
        let mut known = self.known.lock().await;
        if let Some(facts) = known.facts.as_ref().filter(|facts| !Arc::ptr_eq(facts, than)) {
            return Ok(Some(facts.clone()));
        }
        if known.refetched.is_some_and(|before| before.elapsed() < REFETCH_EVERY) {
            return Ok(None);
        }
        known.refetched = Some(Instant::now());
        self.fetch(settings, &mut known).await.map(Some)
    }

    /// What was known stays known if this fails.
    async fn fetch(&self, settings: &Settings, known: &mut Known) -> Result<Arc<Facts>, Trouble> {
        let fetched = self.ask(settings).await;
        known.failed = fetched.is_err().then(Instant::now);
        let facts = Arc::new(fetched?);
        known.facts = Some(facts.clone());
        Ok(facts)
    }

    async fn ask(&self, settings: &Settings) -> Result<Facts, Trouble> {
        let at = format!("{}/.well-known/openid-configuration", settings.issuer.trim_end_matches('/'));
        let document: Document = self.get(&at).await?;
        if document.issuer != settings.issuer {
            return Err(Trouble::Answer(format!(
                "{at}: it calls itself {:?}, and api.oidc.issuer is {:?}: they must be the same",
                told(&document.issuer),
                settings.issuer
            )));
        }
        let set: KeySet = self.get(&document.jwks_uri).await?;
        Ok(Facts { document, keys: Keys::read(&set.keys), fetched: Instant::now() })
    }

    async fn get<T: DeserializeOwned>(&self, at: &str) -> Result<T, Trouble> {
        let url = safe_url(at).map_err(Trouble::Answer)?;
        let (status, value) = read::<Value>(at, self.http.get(url)).await?;
        if !status.is_success() {
            return Err(Trouble::Answer(format!("{at} answers {status}")));
        }
        serde_json::from_value(value).map_err(|error| Trouble::Answer(format!("{at}: {error}")))
    }
}

/// An answer in JSON, of whatever status.
async fn read<T: DeserializeOwned>(what: &str, request: RequestBuilder) -> Result<(StatusCode, T), Trouble> {
    let away = |error: reqwest::Error| {
        Trouble::Away(format!("{what}: {:#}", anyhow::Error::new(error.without_url())))
    };
    let answer = request.header(ACCEPT, "application/json").send().await.map_err(away)?;
    let status = answer.status();
    let text = bounded::whole(answer.bytes_stream(), ANSWER_BYTES_MAX).await.map_err(away)?;
    let text = text
        .ok_or_else(|| Trouble::Answer(format!("{what} answers with more than {ANSWER_BYTES_MAX} bytes")))?;
    let value = serde_json::from_slice(&text);
    value.map(|value| (status, value)).map_err(|error| {
        // Bodies of errors need not be JSON, and there the status says more.
        Trouble::Answer(format!("{what} answers {status}, and not in JSON that is expected here: {error}"))
    })
}

/// A text of the provider as it may stand in a log: a part of it, without what moves a terminal's cursor.
pub(super) fn told(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(TOLD_MAX).collect()
}
