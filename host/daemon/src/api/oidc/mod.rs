//! `/login/oidc`: sign-in through a provider of OpenID Connect, by the authorization code flow with PKCE.
//!
//! The way there leaves a [`ticket`] in the browser; the way back needs it. Whoever the provider vouches for gets a session
//! as any other person does, whose holder says what roles were theirs ([`settings`]). Whatever the [`provider`] does
//! wrong, or a [`token`] is, becomes a page that says what to do, and a line in the log that says why: no text of the provider
//! is shown, and nothing that it does is an error of this host.

mod provider;
pub mod settings;
mod ticket;
mod token;

use super::{
    Service,
    audit::{self, Entry},
    auth::{Actor, By},
    error::{Code, Problem},
    request, sign_in,
};
use crate::config::{self, Scope};
use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use cookie::Cookie;
use provider::{Provider, Trouble, told};
use settings::{CALLBACK, Settings, Unwelcome};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use ticket::{Sealer, TICKET_MS, Ticket};
use tokio::sync::Semaphore;

/// Time for all that one request asks of the provider.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests that ask the provider at once. Stops strangers from making this host ask a lot.
const TURNS: usize = 16;

/// Sign-in through the configured provider.
pub(super) struct SignIn {
    settings: Settings,
    provider: Provider,
    sealer: Sealer,
    turns: Semaphore,
    /// Shorter than a request may take, so that it is this module that gives up.
    patience: Duration,
    secure: bool,
}

/// Why somebody is not signed in.
#[derive(Debug)]
enum Failure {
    /// There is no ticket for this answer.
    NotBegun,
    /// The provider, or the person there, said no.
    Declined,
    /// The provider answered with another error, whose code and text these are.
    Error(String),
    /// Asking the provider, or verifying its answer, failed.
    Trouble(Trouble),
    /// The person may not sign in here.
    Unwelcome(Unwelcome),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Failure {
    /// For the person.
    fn page(&self, provider: &str) -> (StatusCode, String) {
        match self {
            Self::NotBegun => (
                StatusCode::BAD_REQUEST,
                "This sign-in was begun in another browser, took longer than ten minutes, or is over already. Please \
                 begin again."
                    .into(),
            ),
            Self::Declined => (StatusCode::UNAUTHORIZED, format!("The sign-in was declined at {provider}.")),
            Self::Trouble(Trouble::Away(_)) => (
                StatusCode::UNAUTHORIZED,
                format!("You are not signed in: {provider} does not answer at the moment. Please try again soon."),
            ),
            Self::Trouble(Trouble::Token(_)) => (
                StatusCode::UNAUTHORIZED,
                format!(
                    "You are not signed in: what {provider} says about you could not be verified. Please try again in \
                     a minute; if it stays so, the log of this host says why."
                ),
            ),
            Self::Error(_) | Self::Trouble(Trouble::Answer(_) | Trouble::Refused(_)) => (
                StatusCode::UNAUTHORIZED,
                format!(
                    "You are not signed in: {provider} did not answer as it should. Please try again; if it stays \
                     so, the log of this host says why."
                ),
            ),
            Self::Unwelcome(Unwelcome::NoRole) => (
                StatusCode::FORBIDDEN,
                format!(
                    "{provider} knows you, but you have no role on this host. Ask whoever runs it to give one to a \
                     group of yours."
                ),
            ),
            Self::Unwelcome(Unwelcome::Domain) => (
                StatusCode::FORBIDDEN,
                format!(
                    "{provider} knows you, but your e-mail address is of no domain that may sign in here, or is not \
                     verified there."
                ),
            ),
        }
    }

    fn log(&self) {
        match self {
            // Anybody can come with these as often as they like.
            Self::NotBegun => tracing::debug!("a sign-in came back to a browser without its ticket"),
            Self::Declined => tracing::info!("a sign-in was declined at the provider"),
            Self::Error(error) => tracing::warn!(error, "the provider answered a sign-in with an error"),
            Self::Trouble(error) => tracing::warn!(%error, "a sign-in through the provider failed"),
            // The audit log has it.
            Self::Unwelcome(_) => {}
        }
    }
}

impl SignIn {
    /// For the configured provider, which is not asked yet.
    ///
    /// # Errors
    /// The client secret cannot be read, or no HTTP client can be made.
    pub(super) fn new(api: &config::Api) -> anyhow::Result<Option<Self>> {
        let Some(settings) = api.oidc.clone() else { return Ok(None) };
        let secret = settings.secret()?;
        Ok(Some(Self {
            sealer: Sealer::new(&secret)?,
            provider: Provider::new(secret)?,
            turns: Semaphore::new(TURNS),
            patience: PATIENCE.min(Duration::from_millis(api.request_timeout_ms) / 2),
            secure: api.secure_cookies,
            settings,
        }))
    }

    /// See [`super::auth::Guard::cookie`].
    const fn cookie_name(&self) -> &'static str {
        if self.secure { "__Host-waymark-oidc" } else { "waymark-oidc" }
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        sign_in::cookie(self.cookie_name(), value, self.secure)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let in_turn = async {
            // It is never closed.
            let _turn = self.turns.acquire().await;
            work.await
        };
        let late = |_| Err(Trouble::Away(format!("it takes longer than {:?}", self.patience)));
        tokio::time::timeout(self.patience, in_turn).await.unwrap_or_else(late)
    }

    /// The ticket that goes with an answer of the provider.
    fn ticket(&self, headers: &HeaderMap, answer: &HashMap<String, String>) -> Option<Ticket> {
        let cookie = request::cookie(headers, self.cookie_name())?;
        let ticket = self.sealer.open(&cookie, now_ms())?;
        (answer.get("state") == Some(&ticket.state)).then_some(ticket)
    }

    async fn claims(
        &self,
        ticket: &Ticket,
        answer: &HashMap<String, String>,
    ) -> Result<settings::Claims, Failure> {
        // Another provider's answer, if it says so (RFC 9207).
        if let Some(issuer) = answer.get("iss").filter(|issuer| **issuer != self.settings.issuer) {
            return Err(Failure::Error(format!("it is an answer of {:?}", told(issuer))));
        }
        if let Some(error) = answer.get("error") {
            let more = answer.get("error_description").map(String::as_str).unwrap_or_default();
            return Err(match error.as_str() {
                "access_denied" => Failure::Declined,
                other => Failure::Error(format!("{} {}", told(other), told(more))),
            });
        }
        let Some(code) = answer.get("code") else {
            return Err(Failure::Error("it has neither a code nor an error".into()));
        };
        Ok(self.within(self.provider.claims(&self.settings, ticket, code)).await?)
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn configured(service: &Service) -> Result<&SignIn, Problem> {
    let missing = "This host has no sign-in through a provider: `api.oidc` is not configured.";
    service.oidc.as_ref().ok_or_else(|| Problem::new(Code::UnknownPath, missing))
}

/// `GET /login/oidc`: sends the browser to the provider. `next`: where to go on to afterwards.
pub(super) async fn begin(
    Shared(service): Shared<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    let oidc = configured(&service)?;
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let next = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
    let next = sign_in::own_path(next.as_ref().map(|(_, path)| &**path));
    let ticket = Ticket::new(next, now_ms()).map_err(Problem::internal)?;
    match oidc.within(oidc.provider.address(&oidc.settings, &ticket)).await {
        Ok(address) => {
            let sealed = oidc.sealer.seal(&ticket);
            let sealed = sealed.ok_or_else(|| Problem::internal("a ticket could not be sealed"))?;
            let mut cookie = oidc.cookie(sealed);
            cookie.set_max_age(time::Duration::seconds((TICKET_MS / 1_000) as i64));
            Ok(sign_in::with_cookie(Redirect::to(address.as_str()).into_response(), &cookie))
        }
        Err(trouble) => Ok(refused(&service, oidc, &parts.headers, next, &trouble.into())),
    }
}

/// `GET /login/oidc/callback`: begins a session for whoever the provider vouches for, and goes on to where they were going.
pub(super) async fn finish(
    Shared(service): Shared<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    let oidc = configured(&service)?;
    let nobody = Actor { name: String::new(), scope: Scope::Read, by: By::Session };
    let mut entry = Entry::of(&request, &nobody, "");
    // The query has the code.
    CALLBACK.clone_into(&mut entry.path);
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let answer: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let Some(ticket) = oidc.ticket(&parts.headers, &answer) else {
        return Ok(refused(&service, oidc, &parts.headers, "/", &Failure::NotBegun));
    };
    let mut done = oidc.cookie(String::new());
    done.make_removal();
    let refuse = |failure: &Failure| {
        let page = refused(&service, oidc, &parts.headers, &ticket.next, failure);
        sign_in::with_cookie(page, &done)
    };
    let claims = match oidc.claims(&ticket, &answer).await {
        Ok(claims) => claims,
        Err(failure) => return Ok(refuse(&failure)),
    };
    let person = match oidc.settings.person(&claims) {
        Ok(person) => person,
        Err(why) => return Ok(refuse(&Trouble::Answer(why.into()).into())),
    };
    entry.actor = person.name().to_owned();
    entry.body = Some(serde_json::json!({
        "issuer": oidc.settings.issuer, "sub": person.subject, "email": person.email, "groups": person.groups,
    }));
    let holder = match oidc.settings.admit(&person) {
        Ok(holder) => holder,
        Err(unwelcome) => {
            let failure = Failure::Unwelcome(unwelcome);
            entry.status = failure.page("").0.as_u16();
            entry.code = Some(Code::ScopeMissing.name().to_owned());
            audit::write(&service, &entry).await;
            return Ok(refuse(&failure));
        }
    };
    let holder = format!("oidc:{}", serde_json::to_string(&holder).map_err(Problem::internal)?);
    let actor = service.guard.holder(&holder);
    let actor =
        actor.ok_or_else(|| Problem::internal("somebody with a role was not known right afterwards"))?;
    let session = sign_in::session(&service, &holder).await?;
    (entry.scope, entry.status) = (actor.scope.name().to_owned(), 303);
    audit::write(&service, &entry).await;
    let response = sign_in::with_cookie(Redirect::to(&ticket.next).into_response(), &session);
    Ok(sign_in::with_cookie(response, &done))
}

/// The sign-in page, with why it did not work.
fn refused(service: &Service, oidc: &SignIn, headers: &HeaderMap, next: &str, failure: &Failure) -> Response {
    failure.log();
    let (status, message) = failure.page(&oidc.settings.name);
    sign_in::page(service, headers, status, next, Some(&message))
}
