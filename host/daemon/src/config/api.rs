//! `api`: where calls are answered, and who may make them.

use crate::api::{oidc, password::Password};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
};

/// The HTTP API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address to listen on. Default `127.0.0.1:7420`. Another than loopback needs tokens.
    pub listen: SocketAddr,
    /// Bearer tokens. Default: none; a host with neither tokens nor users listens on loopback only.
    pub tokens: Vec<Token>,
    /// People who sign in with a name and a password. Default: none.
    pub users: Vec<User>,
    /// A provider of OpenID Connect through which people sign in. Default: none.
    pub oidc: Option<oidc::settings::Settings>,
    /// How long somebody stays signed in, milliseconds. Default 12 hours.
    pub session_ms: u64,
    /// Session cookies travel over TLS (or to localhost) only. Default true; false is for plain HTTP in a network
    /// that is trusted.
    pub secure_cookies: bool,
    /// Names by which this host may be called (the `Host` header, with or without a port), for hosts with tokens or
    /// users. Default: none, which takes any.
    pub hosts: Vec<String>,
    /// Show, and change nothing. Default false.
    pub read_only: bool,
    /// Entries that the audit log keeps, about. Default 100,000.
    pub audit_entries: u64,
    /// Longest request body, bytes. Default 8 MiB.
    pub body_bytes_max: usize,
    /// Longest input of one job, bytes. Default 1 MiB.
    pub input_bytes_max: usize,
    /// Longest plugin that may be uploaded, bytes. Default 64 MiB.
    pub upload_bytes_max: usize,
    /// Time to send the request's head, milliseconds. Default 10,000.
    pub header_timeout_ms: u64,
    /// Time for a whole request that neither waits nor streams, milliseconds. Default 30,000.
    pub request_timeout_ms: u64,
    /// Connections at once. Default 2,000.
    pub connections_max: usize,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)),
            tokens: Vec::new(),
            users: Vec::new(),
            oidc: None,
            session_ms: 12 * 3_600_000,
            secure_cookies: true,
            hosts: Vec::new(),
            read_only: false,
            audit_entries: 100_000,
            body_bytes_max: 8 << 20,
            input_bytes_max: 1 << 20,
            upload_bytes_max: 64 << 20,
            header_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            connections_max: 2_000,
        }
    }
}

impl Api {
    /// # Errors
    /// A value is out of its bounds, or anybody could make calls; the message names the key.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.listen.ip().is_loopback()
                || !self.tokens.is_empty()
                || !self.users.is_empty()
                || self.oidc.is_some(),
            "listening on {} without tokens would let anybody run jobs: add [[api.tokens]] to the configuration, \
             or listen on 127.0.0.1",
            self.listen
        );
        for token in &self.tokens {
            anyhow::ensure!(
                token.sha256.len() == 64 && token.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "api.tokens: the sha256 of token {:?} must be 64 hexadecimal characters \
                 (printf %s TOKEN | sha256sum)",
                token.name
            );
        }
        for (index, user) in self.users.iter().enumerate() {
            let at = format!("api.users: {:?}", user.name);
            anyhow::ensure!(!user.name.is_empty(), "api.users: a user has no name");
            anyhow::ensure!(
                self.users[..index].iter().all(|other| other.name != user.name),
                "{at} is there twice"
            );
            Password::read(&user.password).with_context(|| format!("{at}: password"))?;
        }
        if let Some(provider) = &self.oidc {
            let checked = provider.check(self.secure_cookies);
            checked.map_err(|why| anyhow::anyhow!("api.oidc.{why:#}"))?;
        }
        anyhow::ensure!(
            (60_000..=30 * 86_400_000).contains(&self.session_ms),
            "api.session_ms must be one minute to 30 days"
        );
        Ok(())
    }
}

/// A bearer token of the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who holds it, for logs.
    pub name: String,
    /// SHA-256 of the token, 64 hexadecimal characters.
    pub sha256: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How often it may ask. Default: as often as it likes.
    #[serde(default)]
    pub rate: Option<CallRate>,
}

/// So many calls at once, and as many again in every `per_ms`, evenly. Each host counts for itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRate {
    /// How many.
    pub count: NonZeroU32,
    /// In so many milliseconds.
    pub per_ms: NonZeroU64,
}

/// Somebody who signs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name they sign in with, which the audit log has too.
    pub name: String,
    /// What `waymark password` prints for their password.
    pub password: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: Scope,
}

/// What a token or user may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look. As a role: `viewer`.
    #[serde(alias = "viewer")]
    Read,
    /// Submit and control jobs and queues. As a role: `operator`.
    #[serde(alias = "operator")]
    Operate,
    /// Change plugins and hosts, and read the audit log.
    Admin,
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn a_provider_is_checked_by_name_and_its_secret_is_not_shown() {
        let text = "[api]\nlisten = \"0.0.0.0:7420\"\n[api.oidc]\nissuer = \"https://id.example.com\"\n\
                    client_id = \"waymark\"\nclient_secret = \"0123456789abcdef\"\n\
                    redirect_url = \"https://waymark.example.com/login/oidc/callback\"\n\
                    roles = { ops = \"operator\" }\n";
        let config = load(text).unwrap();
        assert!(!format!("{config:?}").contains("0123456789"), "{config:?}");
        let error = load(&text.replace("https://id", "http://id")).unwrap_err().to_string();
        assert!(error.starts_with("api.oidc.issuer: "), "{error}");
        let error = load(&text.replace("operator", "owner")).unwrap_err().to_string();
        assert!(error.starts_with("api.oidc.roles.ops: "), "{error}");
    }

    #[test]
    fn listening_beyond_loopback_needs_a_token() {
        let error = load("[api]\nlisten = \"0.0.0.0:7420\"\n").unwrap_err().to_string();
        assert!(error.contains("without tokens"), "{error}");
    }
}
