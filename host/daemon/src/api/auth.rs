//! Who may ask for what.
//!
//! With tokens, users or a provider configured, every call but a few needs a token, or the session of somebody who signed in,
//! whose scope is that of the call. Without them the host listens on loopback only, and what has to be kept out is a
//! web page in a browser on the same machine: a request whose `Host` is not a loopback name (DNS rebinding) or whose
//! `Origin` is another site's is refused. A session travels in a cookie, which a browser adds to the requests of any
//! page, so the same holds for changes that a session asks for. No CORS header is ever sent.

use super::{
    error::{Code, Problem},
    oidc,
    password::Password,
    request,
};
use crate::config::{self, Scope};
use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use sha2::{Digest, Sha256};
use std::{net::IpAddr, num::NonZeroU32, time::Duration};
use subtle::{Choice, ConstantTimeEq};

/// Tries to sign in with one name: so many at once, and again one in so long. Stops guessing.
const TRIES: (u32, Duration) = (10, Duration::from_secs(6));

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Name of the token or user; `local` where a host asks for neither.
    pub name: String,
    /// What they may do.
    pub scope: Scope,
    /// How they said who they are.
    pub by: By,
}

/// How somebody said who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// They did not need to.
    Open,
    /// A token with the request.
    Token,
    /// They signed in before.
    Session,
}

impl By {
    /// The name used in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Token => "token",
            Self::Session => "session",
        }
    }
}

struct Known {
    sha256: [u8; 32],
    name: String,
    scope: Scope,
    rate: Option<DefaultDirectRateLimiter>,
}

struct User {
    name: String,
    password: Password,
    scope: Scope,
    tries: DefaultDirectRateLimiter,
}

/// The configured tokens and users, and what holds for all.
pub struct Guard {
    tokens: Vec<Known>,
    users: Vec<User>,
    /// Compared with when a name is unknown, so that time does not tell.
    nobody: Option<Password>,
    /// Roles of people who sign in through a provider.
    oidc: Option<oidc::settings::Settings>,
    hosts: Vec<String>,
    read_only: bool,
    secure: bool,
}

impl Guard {
    /// Reads the configured tokens and users.
    ///
    /// # Errors
    /// A digest or password is malformed, or a token has no scope.
    pub fn new(api: &config::Api) -> anyhow::Result<Self> {
        let token = |token: &config::Token| {
            let sha256 = digest(&token.sha256).ok_or_else(|| {
                anyhow::anyhow!("token {:?}: sha256 must be 64 hexadecimal characters", token.name)
            })?;
            let scope = token.scopes.iter().max().copied();
            let scope = scope.ok_or_else(|| anyhow::anyhow!("token {:?} has no scope", token.name))?;
            let rate = token.rate.map(|rate| limiter(rate.count, Duration::from_millis(rate.per_ms.get())));
            Ok(Known { sha256, name: token.name.clone(), scope, rate })
        };
        let user = |user: &config::User| {
            let password = Password::read(&user.password)
                .map_err(|error| anyhow::anyhow!("user {:?}: password: {error}", user.name))?;
            let tries = NonZeroU32::new(TRIES.0).unwrap_or(NonZeroU32::MIN);
            let tries = limiter(tries, TRIES.1 * TRIES.0);
            Ok(User { name: user.name.clone(), password, scope: user.role, tries })
        };
        let users = api.users.iter().map(user).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            tokens: api.tokens.iter().map(token).collect::<anyhow::Result<_>>()?,
            nobody: users.first().map(|user| user.password.clone()),
            users,
            oidc: api.oidc.clone(),
            hosts: api.hosts.clone(),
            read_only: api.read_only,
            secure: api.secure_cookies,
        })
    }

    /// Does this host ask nobody who they are?
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && self.oidc.is_none()
    }

    /// Who asks; `None` where nobody is asked. `session` is the holder of the session that came with the request.
    ///
    /// # Errors
    /// `unauthorized`, `foreign-origin` or `rate-limited`.
    pub fn check(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        session: Option<&str>,
    ) -> Result<Option<Actor>, Problem> {
        let host = named_host(uri, headers)?;
        if self.is_open() {
            local(host.as_deref())?;
            same_site(host.as_deref(), headers, false)?;
        } else if !self.hosts.is_empty() && !host.as_deref().is_some_and(|host| self.is_mine(host)) {
            return Err(foreign("its Host is none of `api.hosts`"));
        }
        if scope(method, uri.path()).is_none() {
            return Ok(None);
        }
        let actor = if self.is_open() {
            Actor { name: "local".into(), scope: Scope::Admin, by: By::Open }
        } else {
            self.identify(headers, session)?
        };
        if actor.by == By::Session && !method.is_safe() {
            same_site(host.as_deref(), headers, true)?;
        }
        Ok(Some(actor))
    }

    /// May they do this? `reveals`: they ask for what is hidden.
    ///
    /// # Errors
    /// `scope-missing` or `read-only`.
    pub fn permit(&self, actor: &Actor, method: &Method, path: &str, reveals: bool) -> Result<(), Problem> {
        let needed = if reveals { Scope::Admin } else { scope(method, path).unwrap_or(Scope::Read) };
        if actor.scope < needed {
            return Err(Problem::new(
                Code::ScopeMissing,
                format!("This call needs the scope {:?}; {:?} does not have it.", needed.name(), actor.name),
            ));
        }
        if self.read_only && needed > Scope::Read && !method.is_safe() {
            let detail = "This host is set to `api.read_only`: it shows and changes nothing.";
            return Err(Problem::new(Code::ReadOnly, detail));
        }
        Ok(())
    }

    fn identify(&self, headers: &HeaderMap, session: Option<&str>) -> Result<Actor, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return session.and_then(|holder| self.holder(holder)).ok_or_else(|| {
                Problem::new(
                    Code::Unauthorized,
                    "This host asks who you are: send a token as `Authorization: Bearer TOKEN`, or sign in at \
                     /sign-in.",
                )
            });
        };
        let wrong = || {
            Problem::new(
                Code::Unauthorized,
                "The token is not known to this host. `Authorization: Bearer TOKEN` is expected.",
            )
        };
        let value = value.as_bytes();
        let (scheme, token) = value.split_at_checked(7).ok_or_else(wrong)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(wrong());
        }
        let known = self.token(token.trim_ascii()).ok_or_else(wrong)?;
        if let Some(Err(not_until)) = known.rate.as_ref().map(DefaultDirectRateLimiter::check) {
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
            let detail = format!("The token {:?} asks more often than it may.", known.name);
            return Err(Problem::new(Code::RateLimited, detail).retry_after(seconds.max(1)));
        }
        Ok(Actor { name: known.name.clone(), scope: known.scope, by: By::Token })
    }

    fn token(&self, presented: &[u8]) -> Option<&Known> {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        // Every token is compared in full, so that time tells nothing.
        let mut found = None;
        for known in &self.tokens {
            let equal: Choice = known.sha256.ct_eq(&presented);
            if bool::from(equal) {
                found = Some(known);
            }
        }
        found
    }

    /// Whom a session belongs to now; nobody once they are taken out of the configuration.
    pub(super) fn holder(&self, holder: &str) -> Option<Actor> {
        let (kind, name) = holder.split_once(':')?;
        let (name, scope) = match kind {
            "user" => {
                let user = self.users.iter().find(|user| user.name == name)?;
                (user.name.clone(), user.scope)
            }
            "oidc" => self.oidc.as_ref()?.known(serde_json::from_str(name).ok()?)?,
            _ => {
                let known = self.tokens.iter().find(|known| hex::encode(known.sha256) == name)?;
                (known.name.clone(), known.scope)
            }
        };
        Some(Actor { name, scope, by: By::Session })
    }

    /// Whose session a token begins, and who that is.
    #[must_use]
    pub fn sign_in_with_token(&self, token: &str) -> Option<(String, Actor)> {
        let known = self.token(token.trim().as_bytes())?;
        let holder = format!("token:{}", hex::encode(known.sha256));
        self.holder(&holder).map(|actor| (holder, actor))
    }

    /// Whose session a name and a password begin, and who that is. Takes a tenth of a second of one core.
    ///
    /// # Errors
    /// `rate-limited`: the name was tried too often.
    pub fn sign_in(&self, name: &str, password: &str) -> Result<Option<(String, Actor)>, Problem> {
        let user = self.users.iter().find(|user| user.name == name);
        let Some(user) = user else {
            // The answer takes as long as for a known name.
            let _ = self.nobody.as_ref().is_some_and(|nobody| nobody.is(password));
            return Ok(None);
        };
        if user.tries.check().is_err() {
            let detail = "There were too many tries to sign in with this name; wait a minute.";
            return Err(Problem::new(Code::RateLimited, detail).retry_after(60));
        }
        if !user.password.is(password) {
            return Ok(None);
        }
        let holder = format!("user:{name}");
        Ok(self.holder(&holder).map(|actor| (holder, actor)))
    }

    /// Does somebody have this name?
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.users.iter().any(|user| user.name == name)
    }

    /// Name of the cookie that a session travels in. The prefix makes browsers hold to what the cookie says of
    /// itself (RFC 6265bis, 4.1.3.2).
    #[must_use]
    pub const fn cookie(&self) -> &'static str {
        if self.secure { "__Host-waymark" } else { "waymark" }
    }

    /// May the cookie travel over TLS only?
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The secret of the session that came with a request.
    #[must_use]
    pub fn session_secret(&self, headers: &HeaderMap) -> Option<String> {
        request::cookie(headers, self.cookie())
    }

    /// A form must come from this host's own page: browsers say so with every form that they send.
    ///
    /// # Errors
    /// `foreign-origin`.
    pub fn own_page(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        same_site(named_host(uri, headers)?.as_deref(), headers, true)
    }

    fn is_mine(&self, host: &str) -> bool {
        let name = host.parse::<Authority>().map_or_else(|_| host.to_owned(), |it| it.host().to_owned());
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host) || own.eq_ignore_ascii_case(&name))
    }
}

/// `count` at once, and so many again in each `per`.
fn limiter(count: NonZeroU32, per: Duration) -> DefaultDirectRateLimiter {
    let one = (per / count.get()).max(Duration::from_nanos(1));
    let quota = Quota::with_period(one).unwrap_or_else(|| Quota::per_second(count));
    RateLimiter::direct(quota.allow_burst(count))
}

impl Scope {
    /// The name used in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// The scope that a call needs; `None` is open to everybody who can connect.
fn scope(method: &Method, path: &str) -> Option<Scope> {
    if matches!(path, "/healthz" | "/readyz" | "/sign-in" | "/login/oidc" | "/api/v1/openapi.json")
        || path == oidc::settings::CALLBACK
        || path.starts_with("/assets/")
    {
        return None;
    }
    // The dashboard's paths begin with the same words.
    let rest = path.strip_prefix("/api/v1").unwrap_or(path);
    if matches!(rest, "/sign-out" | "/theme") {
        return Some(Scope::Read);
    }
    let within =
        |folder: &str| rest.strip_prefix(folder).is_some_and(|more| more.is_empty() || more.starts_with('/'));
    if within("/audit") {
        return Some(Scope::Admin);
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Some(Scope::Read);
    }
    // Whoever operates takes a canary on or back; where jobs can go at all is for others to say.
    let puts_route = within("/routes") && *method != Method::POST;
    let admin = within("/plugins") || within("/hosts") || within("/keys") || puts_route;
    Some(if admin { Scope::Admin } else { Scope::Operate })
}

/// The name that the request calls this host by.
fn named_host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match uri.authority() {
        Some(authority) => Ok(Some(authority.to_string())),
        None => match headers.get(header::HOST) {
            Some(value) => {
                let text = value.to_str().map_err(|_| foreign("its Host header is not text"))?;
                Ok(Some(text.to_owned()))
            }
            None => Ok(None),
        },
    }
}

/// Keeps names of other sites out of a host that asks nobody who they are.
fn local(host: Option<&str>) -> Result<(), Problem> {
    // Browsers always name a host; a client that does not is none.
    match host {
        Some(host) if !is_loopback(host) => Err(foreign("its Host is not a loopback name")),
        _ => Ok(()),
    }
}

/// Keeps pages of other sites out. A browser says whose page it is with every change that a page asks for; where that
/// is `needed`, silence is no answer.
fn same_site(host: Option<&str>, headers: &HeaderMap, needed: bool) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let own = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
        return if own || !needed { Ok(()) } else { Err(foreign("it does not say which page sent it")) };
    };
    let origin = origin.to_str().unwrap_or_default();
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if site.zip(host).is_some_and(|(site, host)| site.eq_ignore_ascii_case(host)) {
        Ok(())
    } else {
        Err(foreign("its Origin is another site"))
    }
}

fn foreign(why: &str) -> Problem {
    Problem::new(
        Code::ForeignOrigin,
        format!(
            "The request was refused because {why}. A host without tokens and users answers only requests to \
             localhost, 127.0.0.1 or [::1]; no host takes changes that a foreign web page sent."
        ),
    )
}

/// Is a host, with or without a port, this machine by its name?
pub(crate) fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn digest(hexadecimal: &str) -> Option<[u8; 32]> {
    let bytes = hexadecimal.as_bytes();
    let mut digest = [0; 32];
    if bytes.len() != 64 {
        return None;
    }
    for (slot, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_form_comes_from_a_page_of_this_host() {
        let own_page = |pairs: &[(&'static str, &str)]| {
            let guard = Guard::new(&config::Api::default()).unwrap();
            let pairs: Vec<_> =
                pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), *value)).collect();
            guard.own_page(&Uri::from_static("/theme"), &headers(&pairs)).is_ok()
        };
        for ours in [
            &[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")][..],
            &[("host", "h:1"), ("origin", "https://H:1")],
            &[("host", "h:1"), ("sec-fetch-site", "same-origin")],
        ] {
            assert!(own_page(ours), "{ours:?}");
        }
        for theirs in [
            &[("host", "h:1"), ("origin", "http://h:2")][..],
            &[("host", "h:1"), ("origin", "null")],
            &[("host", "h:1"), ("sec-fetch-site", "cross-site")],
            &[("host", "h:1"), ("sec-fetch-site", "same-site")],
            &[("host", "h:1")],
        ] {
            assert!(!own_page(theirs), "{theirs:?}");
        }
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn ask(guard: &Guard, method: Method, path: &str, pairs: &[(header::HeaderName, &str)]) -> Option<Code> {
        let uri: Uri = path.parse().unwrap();
        let permitted = guard
            .check(&method, &uri, &headers(pairs), None)
            .and_then(|actor| actor.map_or(Ok(()), |actor| guard.permit(&actor, &method, uri.path(), false)));
        permitted.err().map(|problem| problem.code())
    }

    fn token(text: &str, scope: Scope) -> config::Token {
        config::Token {
            name: text.into(),
            sha256: hex::encode(Sha256::digest(text)),
            scopes: vec![scope],
            rate: None,
        }
    }

    #[test]
    fn a_foreign_name_or_site_is_kept_out_of_a_host_without_tokens() {
        let guard = Guard::new(&config::Api::default()).unwrap();
        for host in ["localhost:7420", "127.0.0.1:7420", "[::1]:7420", "LOCALHOST"] {
            assert_eq!(ask(&guard, Method::POST, "/api/v1/jobs", &[(header::HOST, host)]), None, "{host}");
        }
        for host in ["evil.example", "evil.example:7420", "10.0.0.1", "localhost.evil.example", "a b"] {
            let code = ask(&guard, Method::GET, "/api/v1/jobs", &[(header::HOST, host)]);
            assert_eq!(code, Some(Code::ForeignOrigin), "{host}");
        }
        let from = |origin| [(header::HOST, "localhost:7420"), (header::ORIGIN, origin)];
        assert_eq!(ask(&guard, Method::POST, "/api/v1/jobs", &from("http://localhost:7420")), None);
        for origin in
            ["http://localhost:3000", "https://evil.example", "null", "http://localhost:7420.evil.example"]
        {
            let code = ask(&guard, Method::POST, "/api/v1/jobs", &from(origin));
            assert_eq!(code, Some(Code::ForeignOrigin), "{origin}");
        }
    }

    #[test]
    fn a_token_needs_the_scope_of_the_call() {
        let guard = Guard::new(&config::Api {
            tokens: vec![
                token("look", Scope::Read),
                token("run", Scope::Operate),
                token("own", Scope::Admin),
            ],
            ..config::Api::default()
        });
        let guard = guard.unwrap();
        let code = |method, path, token: &str| {
            ask(&guard, method, path, &[(header::AUTHORIZATION, format!("Bearer {token}").as_str())])
        };
        assert_eq!(ask(&guard, Method::GET, "/api/v1/jobs", &[]), Some(Code::Unauthorized));
        assert_eq!(ask(&guard, Method::GET, "/metrics", &[]), Some(Code::Unauthorized));
        assert_eq!(ask(&guard, Method::GET, "/healthz", &[]), None);
        assert_eq!(code(Method::GET, "/api/v1/jobs", "wrong"), Some(Code::Unauthorized));
        assert_eq!(code(Method::GET, "/api/v1/jobs", "look"), None);
        assert_eq!(code(Method::POST, "/api/v1/jobs", "look"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::POST, "/api/v1/jobs", "run"), None);
        assert_eq!(code(Method::PUT, "/api/v1/plugins/x", "run"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::PUT, "/api/v1/routes/x", "run"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::POST, "/api/v1/keys/reencrypt", "run"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::POST, "/api/v1/routes/x/rollback", "run"), None);
        assert_eq!(code(Method::POST, "/api/v1/hosts/x/drain", "run"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::PUT, "/api/v1/plugins/x", "own"), None);
    }

    #[test]
    fn a_session_needs_a_page_of_this_host_for_every_change() {
        let own = token("own", Scope::Admin);
        let holder = format!("token:{}", own.sha256);
        let guard = Guard::new(&config::Api { tokens: vec![own], ..config::Api::default() }).unwrap();
        let ask = |method: Method, pairs: &[(header::HeaderName, &str)]| {
            let path = "/api/v1/jobs".parse().unwrap();
            guard.check(&method, &path, &headers(pairs), Some(&holder)).map_err(|problem| problem.code())
        };
        let from = |origin| [(header::HOST, "waymark.example"), (header::ORIGIN, origin)];
        assert!(ask(Method::GET, &[]).unwrap().is_some_and(|actor| actor.by == By::Session));
        assert!(ask(Method::POST, &from("https://waymark.example")).is_ok());
        assert_eq!(ask(Method::POST, &from("https://evil.example")), Err(Code::ForeignOrigin));
        assert_eq!(ask(Method::POST, &from("null")), Err(Code::ForeignOrigin));
        assert_eq!(ask(Method::POST, &[(header::HOST, "waymark.example")]), Err(Code::ForeignOrigin));
        let gone = guard.check(&Method::GET, &"/jobs".parse().unwrap(), &HeaderMap::new(), Some("user:gone"));
        assert_eq!(gone.map_err(|problem| problem.code()), Err(Code::Unauthorized));
    }

    #[test]
    fn a_session_through_a_provider_lasts_as_long_as_the_provider_is_configured() {
        let table = "issuer = \"https://id.example.com\"\nclient_id = \"waymark\"\n\
                     redirect_url = \"https://waymark.example.com/login/oidc/callback\"\n\
                     roles = { ops = \"operator\" }\n";
        let api = config::Api { oidc: Some(toml::from_str(table).unwrap()), ..config::Api::default() };
        let guard = Guard::new(&api).unwrap();
        assert_eq!(ask(&guard, Method::GET, "/login/oidc", &[]), None);
        assert_eq!(ask(&guard, Method::GET, "/login/oidc/callback?code=x", &[]), None);
        assert_eq!(ask(&guard, Method::GET, "/login/oidc/else", &[]), Some(Code::Unauthorized));
        assert_eq!(ask(&guard, Method::GET, "/jobs", &[]), Some(Code::Unauthorized), "it asks who you are");
        let holder = r#"oidc:{"issuer":"https://id.example.com","name":"anna","groups":["ops"]}"#;
        let expected = Actor { name: "anna".into(), scope: Scope::Operate, by: By::Session };
        assert_eq!(guard.holder(holder), Some(expected));
        assert_eq!(guard.holder(&holder.replace("[\"ops\"]", "[]")), None);
        assert_eq!(guard.holder("oidc:anna"), None);
        assert_eq!(Guard::new(&config::Api::default()).unwrap().holder(holder), None);
    }

    #[test]
    fn a_token_with_a_rate_is_told_when_to_ask_again() {
        let mut hasty = token("hasty", Scope::Admin);
        hasty.rate = Some(config::CallRate {
            count: NonZeroU32::new(3).unwrap(),
            per_ms: std::num::NonZeroU64::new(60_000).unwrap(),
        });
        let guard = Guard::new(&config::Api { tokens: vec![hasty], ..config::Api::default() }).unwrap();
        let ask = || ask(&guard, Method::GET, "/api/v1/jobs", &[(header::AUTHORIZATION, "Bearer hasty")]);
        assert_eq!([ask(), ask(), ask(), ask()], [None, None, None, Some(Code::RateLimited)]);
    }

    #[test]
    fn a_host_answers_to_its_own_names_only_and_changes_nothing_when_it_is_read_only() {
        let api = config::Api {
            tokens: vec![token("own", Scope::Admin)],
            hosts: vec!["waymark.example".into()],
            read_only: true,
            ..config::Api::default()
        };
        let guard = Guard::new(&api).unwrap();
        let by = |host, method| {
            ask(
                &guard,
                method,
                "/api/v1/jobs",
                &[(header::HOST, host), (header::AUTHORIZATION, "Bearer own")],
            )
        };
        assert_eq!(by("waymark.example:443", Method::GET), None);
        assert_eq!(by("evil.example", Method::GET), Some(Code::ForeignOrigin));
        assert_eq!(by("waymark.example", Method::POST), Some(Code::ReadOnly));
    }
}
