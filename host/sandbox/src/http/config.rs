//! What an operator writes about outbound HTTP: a grant under `[plugins.<type>.grants.http]`.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32};

/// What a job type may send, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Where requests may go. Default: nowhere.
    pub allow: Vec<Target>,
    /// Longest wait for a connection, and for the head of an answer, milliseconds. Default 30,000.
    pub timeout_ms: u64,
    /// Longest body of a request, bytes. Default 1 MiB.
    pub request_bytes_max: u64,
    /// Longest body of an answer, bytes. Default 16 MiB.
    pub response_bytes_max: u64,
    /// Requests of all jobs of the type in one worker process at once; more wait. Default 16.
    pub concurrency: NonZeroU32,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            timeout_ms: 30_000,
            request_bytes_max: 1 << 20,
            response_bytes_max: 16 << 20,
            concurrency: NonZeroU32::new(16).unwrap_or(NonZeroU32::MIN),
        }
    }
}

/// Where requests may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A name, `*.` and a name for all below it, or an address.
    pub host: String,
    /// Default `["https"]`.
    #[serde(default = "https")]
    pub schemes: Vec<Scheme>,
    /// Default: the scheme's, 443 or 80.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// It may be inside: a private, loopback or link-local address and their like. Default false.
    #[serde(default)]
    pub private: bool,
    /// Secrets that the host fills into headers, and only for this target. Default: none.
    #[serde(default)]
    pub secrets: Vec<String>,
}

fn https() -> Vec<Scheme> {
    vec![Scheme::Https]
}

/// How it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

const NAME_BYTES_MAX: usize = 253;

impl Grant {
    /// # Errors
    /// What is wrong, beginning with the key.
    pub fn check<T>(&self, secrets: &BTreeMap<String, T>) -> Result<(), String> {
        for target in &self.allow {
            target.check(secrets).map_err(|why| format!("allow: {:?}: {why}", target.host))?;
        }
        Ok(())
    }

    /// The first target that a request fits.
    pub(super) fn target(&self, scheme: Scheme, host: &str, port: u16) -> Option<&Target> {
        self.allow.iter().find(|target| target.is(scheme, host, port))
    }
}

impl Target {
    fn check<T>(&self, secrets: &BTreeMap<String, T>) -> Result<(), String> {
        let name = self.host.strip_prefix("*.").unwrap_or(&self.host);
        let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(legal);
        if !is_name && self.host.parse::<IpAddr>().is_err() {
            return Err("a host is a name in lower case, `*.` and a name, or an address".to_owned());
        }
        if self.private && self.host.starts_with("*.") {
            return Err("what is private is allowed by its whole name".to_owned());
        }
        match self.secrets.iter().find(|name| !secrets.contains_key(*name)) {
            Some(name) => Err(format!("there is no secrets.{name}")),
            None => Ok(()),
        }
    }

    fn is(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        let of_name = match self.host.strip_prefix("*.") {
            Some(domain) => {
                host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            None => match (self.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
                (Ok(allowed), Ok(asked)) => allowed == asked,
                _ => self.host == host,
            },
        };
        let of_port = if self.ports.is_empty() { port == scheme.port() } else { self.ports.contains(&port) };
        of_name && of_port && self.schemes.contains(&scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> Target {
        Target { host: host.into(), schemes: https(), ports: vec![], private: false, secrets: vec![] }
    }

    #[test]
    fn a_target_is_a_name_a_domain_or_an_address_with_its_scheme_and_port() {
        let grant = Grant { allow: vec![target("a.example"), target("*.b.example")], ..Grant::default() };
        let allowed = |scheme, host, port| grant.target(scheme, host, port).is_some();
        assert!(allowed(Scheme::Https, "a.example", 443));
        assert!(!allowed(Scheme::Http, "a.example", 80));
        assert!(!allowed(Scheme::Https, "a.example", 8443));
        assert!(!allowed(Scheme::Https, "x.a.example", 443));
        assert!(allowed(Scheme::Https, "x.y.b.example", 443));
        for outside in ["b.example", "ab.example", "xb.example", ".b.example", "b.example.evil", "a.example."]
        {
            assert!(!allowed(Scheme::Https, outside, 443), "{outside}");
        }
        let ports = Target { ports: vec![8080], schemes: vec![Scheme::Http], ..target("::1") };
        assert!(ports.is(Scheme::Http, "0:0:0:0:0:0:0:1", 8080) && !ports.is(Scheme::Http, "::1", 80));
    }

    #[test]
    fn a_wrong_target_is_named() {
        let check = |target: Target| {
            Grant { allow: vec![target], ..Grant::default() }
                .check(&BTreeMap::<String, ()>::new())
                .unwrap_err()
        };
        for host in ["", "*.", "*", "A.example", "http://a", "a:80", "a/b", "a b"] {
            assert!(check(target(host)).contains("a host is"), "{host}");
        }
        assert!(check(Target { private: true, ..target("*.corp") }).contains("whole name"));
        assert!(check(Target { secrets: vec!["k".into()], ..target("a") }).contains("secrets.k"));
    }
}
