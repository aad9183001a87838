//! Who may ask for what.
//!
//! With tokens configured, every call below `/api/v1` and `/metrics` needs one that has the scope of the call.
//! Without tokens the host listens on loopback only, and what has to be kept out is a web page in a browser on the
//! same machine: a request whose `Host` is not a loopback name (DNS rebinding) or whose `Origin` is another site's
//! is refused. No CORS header is ever sent.

use super::error::{Code, Problem};
use crate::config::{Scope, Token};
use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use subtle::{Choice, ConstantTimeEq};

struct Known {
    sha256: [u8; 32],
    name: String,
    scope: Scope,
}

/// The configured tokens.
pub struct Guard {
    tokens: Vec<Known>,
}

impl Guard {
    /// Reads the configured tokens.
    ///
    /// # Errors
    /// A digest is not 64 hexadecimal characters, or a token has no scope.
    pub fn new(tokens: &[Token]) -> anyhow::Result<Self> {
        let tokens = tokens
            .iter()
            .map(|token| {
                let sha256 = digest(&token.sha256).ok_or_else(|| {
                    anyhow::anyhow!("token {:?}: sha256 must be 64 hexadecimal characters", token.name)
                })?;
                let scope = token.scopes.iter().max().copied();
                let scope = scope.ok_or_else(|| anyhow::anyhow!("token {:?} has no scope", token.name))?;
                Ok(Known { sha256, name: token.name.clone(), scope })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { tokens })
    }

    /// May this request go on? Answers the name of the token's holder, where there is one.
    ///
    /// # Errors
    /// `unauthorized`, `scope-missing` or `foreign-origin`.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Option<&str>, Problem> {
        if self.tokens.is_empty() {
            return local(uri, headers).map(|()| None);
        }
        let Some(needed) = scope(method, uri.path()) else { return Ok(None) };
        let known = self.identify(headers)?;
        if known.scope < needed {
            return Err(Problem::new(
                Code::ScopeMissing,
                format!(
                    "This call needs the scope {:?}; the token {:?} does not have it.",
                    needed.name(),
                    known.name
                ),
            ));
        }
        Ok(Some(&known.name))
    }

    fn identify(&self, headers: &HeaderMap) -> Result<&Known, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(Problem::new(
                Code::Unauthorized,
                "This host asks for a token: send it as `Authorization: Bearer TOKEN`.",
            ));
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
        let presented: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        // Every token is compared in full, so that time tells nothing.
        let mut found = None;
        for known in &self.tokens {
            let equal: Choice = known.sha256.ct_eq(&presented);
            if bool::from(equal) {
                found = Some(known);
            }
        }
        found.ok_or_else(wrong)
    }
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
    if path == "/metrics" {
        return Some(Scope::Read);
    }
    let rest = path.strip_prefix("/api/v1")?;
    if rest == "/openapi.json" {
        return None;
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Some(Scope::Read);
    }
    let admin = ["/plugins", "/hosts"].iter().any(|folder| rest.starts_with(folder));
    Some(if admin { Scope::Admin } else { Scope::Operate })
}

/// Keeps web pages of other sites out of a host that needs no token.
fn local(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => match headers.get(header::HOST) {
            Some(value) => Some(value.to_str().map_err(|_| foreign("its Host header is not text"))?),
            None => None,
        },
    };
    // Browsers always name a host; a client that does not is none.
    let Some(host) = host else { return Ok(()) };
    if !is_loopback(host) {
        return Err(foreign("its Host is not a loopback name"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !site.is_some_and(|site| site.eq_ignore_ascii_case(host)) {
            return Err(foreign("its Origin is another site"));
        }
    }
    Ok(())
}

fn foreign(why: &str) -> Problem {
    Problem::new(
        Code::ForeignOrigin,
        format!(
            "The request was refused because {why}. A host without tokens answers only requests to localhost, \
             127.0.0.1 or [::1] that no foreign web page sent."
        ),
    )
}

fn is_loopback(host: &str) -> bool {
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

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn ask(guard: &Guard, method: Method, path: &str, pairs: &[(header::HeaderName, &str)]) -> Option<Code> {
        guard.check(&method, &path.parse().unwrap(), &headers(pairs)).err().map(|problem| problem.code())
    }

    #[test]
    fn a_foreign_name_or_site_is_kept_out_of_a_host_without_tokens() {
        let guard = Guard::new(&[]).unwrap();
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
        let token = |text: &str, scope| Token {
            name: text.into(),
            sha256: Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
            scopes: vec![scope],
        };
        let guard = Guard::new(&[
            token("look", Scope::Read),
            token("run", Scope::Operate),
            token("own", Scope::Admin),
        ]);
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
        assert_eq!(code(Method::POST, "/api/v1/hosts/x/drain", "run"), Some(Code::ScopeMissing));
        assert_eq!(code(Method::PUT, "/api/v1/plugins/x", "own"), None);
    }
}
