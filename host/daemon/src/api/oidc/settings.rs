//! The table `[api.oidc]`, and what it makes of the claims about a person.

use crate::{api::auth::is_loopback, config::Scope};
use anyhow::Context as _;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Where the provider sends browsers back to.
pub(crate) const CALLBACK: &str = "/login/oidc/callback";
/// Shortest client secret, bytes. The cookie of a sign-in is encrypted with it, and anybody can get such a cookie to guess at.
const SECRET_BYTES_MIN: usize = 16;
/// Longest name, subject or address that is taken from a provider, bytes. OpenID Connect allows 255 for a subject.
const TEXT_BYTES_MAX: usize = 255;

/// What a provider says about a person: the claims of the ID token, and those of the userinfo endpoint that it lacks.
pub(super) type Claims = Map<String, Value>;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Sign-in through a provider of OpenID Connect.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The provider, as it calls itself: `https://`, or `http://` to loopback. Its discovery document lies below it.
    pub issuer: String,
    /// What the provider calls this deployment.
    pub client_id: String,
    /// The secret that goes with it, at least 16 bytes. This or the file is needed.
    #[serde(default)]
    pub client_secret: Option<Hidden>,
    /// File that holds it; white space at its end does not belong to it.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Where the provider sends browsers back to, as it is registered there: how people reach this deployment, and
    /// `/login/oidc/callback`.
    pub redirect_url: String,
    /// What the button on the sign-in page says after "Sign in with". Default `single sign-on`.
    #[serde(default = "name")]
    pub name: String,
    /// What is asked for. Default `openid`, `profile`, `email`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim, a text or a list of texts, whose values have roles: its whole name, or names with dots between them
    /// that lead into objects, such as `realm_access.roles`. Default `groups`.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// Roles by values of that claim; the greatest holds.
    #[serde(default)]
    pub roles: BTreeMap<String, Scope>,
    /// The role of people without such a value. Default: none, they cannot sign in.
    #[serde(default)]
    pub default_role: Option<Scope>,
    /// Domains of e-mail addresses that may sign in. Default: none, which takes all.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// Take e-mail addresses that the provider does not say it verified. Default false.
    #[serde(default)]
    pub trust_email: bool,
}

fn name() -> String {
    "single sign-on".into()
}

fn scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(str::to_owned).to_vec()
}

fn role_claim() -> String {
    "groups".into()
}

/// Somebody whom the provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// Who they are to the provider, for good.
    pub(super) subject: String,
    /// Their address, if it may be believed.
    pub(super) email: Option<String>,
    /// Those values of the claim of roles that have roles here.
    pub(super) groups: Vec<String>,
}

/// Why somebody whom the provider vouches for may not sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// They have no role.
    NoRole,
    /// Their address is of no domain that may, is not verified, or is not told.
    Domain,
}

/// Whose session it is, as the store keeps it. What they may do is looked up with every request.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    issuer: String,
    name: String,
    groups: Vec<String>,
}

impl Settings {
    /// Checks all but the provider itself. `secure`: session cookies travel over TLS, or to loopback, only.
    ///
    /// # Errors
    /// A value is out of its bounds; the message begins with the key.
    pub fn check(&self, secure: bool) -> anyhow::Result<()> {
        let issuer = safe_url(&self.issuer).map_err(|why| anyhow::anyhow!("issuer: {why}"))?;
        anyhow::ensure!(
            issuer.query().is_none() && issuer.fragment().is_none(),
            "issuer: {:?} has a query or fragment",
            self.issuer
        );
        anyhow::ensure!(!self.client_id.is_empty(), "client_id is empty");
        self.secret()?;
        let back = Url::parse(&self.redirect_url).context("redirect_url")?;
        anyhow::ensure!(
            matches!(back.scheme(), "http" | "https")
                && back.path() == CALLBACK
                && back.query().is_none()
                && back.fragment().is_none(),
            "redirect_url: {:?} must be how browsers reach this deployment, and {CALLBACK}: \
             https://waymark.example.com{CALLBACK}",
            self.redirect_url
        );
        anyhow::ensure!(
            back.scheme() == "https" || is_loopback(back.authority()) || !secure,
            "redirect_url: browsers keep no session over plain HTTP: use https://, or set api.secure_cookies = false \
             in a network that is trusted"
        );
        anyhow::ensure!(!self.name.is_empty(), "name is empty");
        anyhow::ensure!(
            self.scopes.iter().any(|scope| scope == "openid"),
            "scopes: without \"openid\" the provider does not say who signs in"
        );
        anyhow::ensure!(
            self.scopes
                .iter()
                .all(|scope| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic())),
            "scopes: one is empty, or has a space in it: each is a text of its own"
        );
        anyhow::ensure!(!self.role_claim.is_empty(), "role_claim is empty");
        anyhow::ensure!(
            !self.roles.is_empty() || self.default_role.is_some(),
            "roles: nobody could sign in: give roles to values of the claim {:?} \
             (roles = {{ \"waymark-admins\" = \"admin\" }}), or set default_role",
            self.role_claim
        );
        for domain in &self.allowed_domains {
            anyhow::ensure!(
                !domain.is_empty() && !domain.contains('@'),
                "allowed_domains: {domain:?} is no domain, such as \"example.com\""
            );
        }
        Ok(())
    }

    /// The client secret. Its file is read now.
    ///
    /// # Errors
    /// There is none, there are two, it is too short, or its file cannot be read; the message does not show it.
    pub(super) fn secret(&self) -> anyhow::Result<String> {
        let (key, secret) = match (&self.client_secret, &self.client_secret_file) {
            (Some(Hidden(secret)), None) => ("client_secret", secret.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("client_secret_file: {} cannot be read", file.display()))?;
                ("client_secret_file", text.trim_end().to_owned())
            }
            _ => anyhow::bail!("client_secret: either it or client_secret_file is needed"),
        };
        anyhow::ensure!(
            secret.len() >= SECRET_BYTES_MIN,
            "{key}: it must have at least {SECRET_BYTES_MIN} bytes, as those that providers make have"
        );
        Ok(secret)
    }

    /// Who the claims are about.
    ///
    /// # Errors
    /// They lack a usable `sub`; the message says so.
    pub(super) fn person(&self, claims: &Claims) -> Result<Person, &'static str> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| is_usable(text));
        let subject = text("sub").ok_or("the claim sub is missing, too long, or has control characters")?;
        // Some providers send the word.
        let verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)))
            || claims.get("email_verified").is_some_and(|value| value == "true");
        let email = text("email").filter(|_| verified || self.trust_email);
        let values = claim(claims, &self.role_claim);
        let has = |wanted: &String| match values {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        };
        Ok(Person {
            subject: subject.to_owned(),
            email: email.map(str::to_owned),
            groups: self.roles.keys().filter(|value| has(value)).cloned().collect(),
        })
    }

    /// Do these claims say all that there is to ask for?
    pub(super) fn are_enough(&self, claims: &Claims) -> bool {
        claims.contains_key("email") && (self.roles.is_empty() || claim(claims, &self.role_claim).is_some())
    }

    /// Whose session somebody's sign-in begins.
    ///
    /// # Errors
    /// They may not sign in.
    pub(super) fn admit(&self, person: &Person) -> Result<Holder, Unwelcome> {
        let domain =
            person.email.as_deref().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain);
        let takes = |own: &String| domain.is_some_and(|domain| domain.eq_ignore_ascii_case(own));
        if !self.allowed_domains.is_empty() && !self.allowed_domains.iter().any(takes) {
            return Err(Unwelcome::Domain);
        }
        self.scope_of(&person.groups).ok_or(Unwelcome::NoRole)?;
        Ok(Holder {
            issuer: self.issuer.clone(),
            name: person.name().to_owned(),
            groups: person.groups.clone(),
        })
    }

    /// Who holds a session and what they may do now: roles that were taken out of the configuration are gone.
    pub(crate) fn known(&self, holder: Holder) -> Option<(String, Scope)> {
        let scope = self.scope_of(&holder.groups).filter(|_| holder.issuer == self.issuer)?;
        Some((holder.name, scope))
    }

    fn scope_of(&self, groups: &[String]) -> Option<Scope> {
        groups.iter().filter_map(|value| self.roles.get(value)).max().copied().or(self.default_role)
    }
}

impl Person {
    /// What the audit log calls them: an address says more to people than a subject does.
    pub(super) fn name(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.subject)
    }
}

/// Names end up in logs, terminals and headers.
fn is_usable(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The claim of this name, or at this path.
fn claim<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        let mut names = path.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

/// An address that nobody on the way can read or change: over TLS, or on this machine.
pub(super) fn safe_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?}: {error}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(url.authority()) => Ok(url),
        _ => Err(format!("{text:?} must begin with https:// (http:// is for loopback)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "issuer = \"https://id.example.com\"\nclient_id = \"waymark\"\n\
                         client_secret = \"0123456789abcdef\"\n\
                         redirect_url = \"https://waymark.example.com/login/oidc/callback\"\n";

    fn settings(more: &str) -> Settings {
        toml::from_str(&format!("{TABLE}{more}\n")).unwrap()
    }

    fn claims(value: Value) -> Claims {
        let Value::Object(claims) = value else { panic!("claims are an object") };
        claims
    }

    #[test]
    fn what_cannot_work_is_refused_by_key() {
        let roles = "roles = { ops = \"operator\" }";
        settings(roles).check(true).unwrap();
        for (from, to, key) in [
            ("https://id.", "http://id.", "issuer"),
            ("id.example.com", "id.example.com?a=b", "issuer"),
            ("\"waymark\"", "\"\"", "client_id"),
            ("0123456789abcdef", "short", "client_secret"),
            ("client_secret = \"0123456789abcdef\"", "", "client_secret"),
            ("client_secret =", "client_secret_file = \"/absent/secret\"\nclient_secret =", "client_secret"),
            (
                "client_secret = \"0123456789abcdef\"",
                "client_secret_file = \"/absent/secret\"",
                "client_secret_file",
            ),
            ("/login/oidc/callback", "/elsewhere", "redirect_url"),
            ("https://waymark.", "http://waymark.", "redirect_url"),
            ("roles = { ops", "scopes = [\"email\"]\nroles = { ops", "scopes"),
            ("roles = { ops", "scopes = [\"openid email\", \"openid\"]\nroles = { ops", "scopes"),
            ("roles = { ops = \"operator\" }", "", "roles"),
            ("roles = { ops", "allowed_domains = [\"@example.com\"]\nroles = { ops", "allowed_domains"),
        ] {
            let text = format!("{TABLE}{roles}\n").replace(from, to);
            let error = toml::from_str::<Settings>(&text).unwrap().check(true).unwrap_err();
            assert!(format!("{error:#}").starts_with(key), "{key}: {error:#}");
            assert!(!format!("{error:#}").contains("0123456789"), "{error:#}");
        }
        assert!(!format!("{:?}", settings(roles)).contains("0123456789"));
        let plain = format!("{TABLE}{roles}").replace("https://waymark.", "http://waymark.");
        toml::from_str::<Settings>(&plain).unwrap().check(false).unwrap();
        assert!(toml::from_str::<Settings>(&format!("{TABLE}rolse = {{}}\n")).is_err());
    }

    #[test]
    fn the_greatest_role_of_a_claim_holds_wherever_the_claim_is() {
        let roles = "roles = { ops = \"operator\", boss = \"admin\", all = \"viewer\" }\n";
        let scope = |more: &str, about: Value| {
            let settings = settings(&format!("{roles}{more}"));
            let person = settings.person(&claims(about)).unwrap();
            settings.admit(&person).ok().and_then(|holder| settings.known(holder)).map(|(_, scope)| scope)
        };
        assert_eq!(scope("", json!({"sub": "1", "groups": ["all", "boss", "ops", 3]})), Some(Scope::Admin));
        assert_eq!(scope("", json!({"sub": "1", "groups": "ops"})), Some(Scope::Operate));
        assert_eq!(scope("", json!({"sub": "1", "groups": ["ops2"], "roles": ["boss"]})), None);
        for odd in [json!(null), json!({"boss": true}), json!([["boss"]]), json!("ops boss")] {
            assert_eq!(scope("", json!({"sub": "1", "groups": odd})), None);
        }
        assert_eq!(scope("default_role = \"viewer\"", json!({"sub": "1"})), Some(Scope::Read));
        let nested = "role_claim = \"realm_access.roles\"";
        assert_eq!(
            scope(nested, json!({"sub": "1", "realm_access": {"roles": ["ops"]}})),
            Some(Scope::Operate)
        );
        assert_eq!(scope(nested, json!({"sub": "1", "realm_access": "ops"})), None);
        let url = "role_claim = \"https://example.com/roles\"";
        assert_eq!(scope(url, json!({"sub": "1", "https://example.com/roles": ["all"]})), Some(Scope::Read));
    }

    #[test]
    fn a_session_outlives_neither_its_role_nor_its_provider() {
        let before = settings("roles = { ops = \"operator\" }");
        let about = claims(
            json!({"sub": "7", "groups": ["ops"], "email": "Anna@Example.com", "email_verified": true}),
        );
        let holder = || before.admit(&before.person(&about).unwrap()).unwrap();
        assert_eq!(before.known(holder()), Some(("Anna@Example.com".into(), Scope::Operate)));
        assert_eq!(settings("roles = { ops = \"viewer\" }").known(holder()).unwrap().1, Scope::Read);
        assert_eq!(settings("roles = { others = \"viewer\" }").known(holder()), None);
        let mut moved = before.clone();
        moved.issuer = "https://other.example.com".into();
        assert_eq!(moved.known(holder()), None);
    }

    #[test]
    fn an_address_counts_only_where_it_was_verified() {
        let of = |more: &str, about: Value| {
            let settings = settings(&format!("default_role = \"viewer\"\n{more}"));
            let person = settings.person(&claims(about)).unwrap();
            settings.admit(&person).map(|holder| holder.name)
        };
        let own = "allowed_domains = [\"example.com\"]";
        let told =
            |email: &str, verified: Value| json!({"sub": "7", "email": email, "email_verified": verified});
        assert_eq!(of(own, told("a@EXAMPLE.com", json!(true))), Ok("a@EXAMPLE.com".into()));
        assert_eq!(of(own, told("a@example.com", json!("true"))), Ok("a@example.com".into()));
        for (email, verified) in [
            ("a@example.com", json!(false)),
            ("a@example.com", json!(null)),
            ("a@evil-example.com", json!(true)),
            ("a@example.com@evil.com", json!(true)),
            ("example.com", json!(true)),
            ("a@sub.example.com", json!(true)),
        ] {
            assert_eq!(of(own, told(email, verified)), Err(Unwelcome::Domain), "{email}");
        }
        let trusting = format!("{own}\ntrust_email = true");
        assert_eq!(of(&trusting, json!({"sub": "7", "email": "a@example.com"})), Ok("a@example.com".into()));
        assert_eq!(of("", told("a@example.com", json!(false))), Ok("7".into()), "the subject names them");
        assert_eq!(of("", told("a\u{1b}[2J@example.com", json!(true))), Ok("7".into()));
        let settings = settings("default_role = \"viewer\"");
        for subject in [json!(""), json!(7), json!("a\nb"), json!("x".repeat(256)), json!(null)] {
            assert!(settings.person(&claims(json!({"sub": subject}))).is_err());
        }
    }
}
