//! Who looks at a page, and whether a form was one of ours.
//!
//! The guard has found out who asks before a page is made. A form is taken when it carries the secret of the
//! browser's cookie, which no other site can read, and does not come from another origin. The secret is no host's own,
//! so that any host takes a form that another one wrote.

use crate::{
    api::{
        Code, Problem, Service,
        auth::{Actor, By},
        request::{self, shorten},
    },
    config::Scope,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// Cookie with the secret that forms carry.
pub(super) const SECRET_COOKIE: &str = "waymark_form";
/// Name of the field that carries it.
pub(super) const SECRET_FIELD: &str = "form_secret";
/// Cookie with the chosen theme.
pub(super) const THEME_COOKIE: &str = "waymark_theme";
/// Longest form, bytes: an input to replay may have 1 MiB, and grows by its escapes.
const FORM_BYTES_MAX: usize = 4 << 20;

/// Light, dark, or as the system says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the system says.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// Its name in cookies and style sheets.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// What the switch chooses next.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Auto => Self::Dark,
            Self::Dark => Self::Light,
            Self::Light => Self::Auto,
        }
    }

    /// The theme of this name; `auto` for any other.
    pub(super) fn named(name: &str) -> Self {
        match name {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    /// The one that the browser's cookie says.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        cookie(headers, THEME_COOKIE).map_or(Self::Auto, Self::named)
    }
}

/// A cookie of a request.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// A secret as it was made here.
fn is_secret(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Who looks.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    /// Who the guard found that they are.
    actor: Actor,
    /// The host changes nothing.
    read_only: bool,
    /// What forms carry.
    pub(super) secret: String,
    /// The browser has not got the secret yet.
    pub(super) is_new: bool,
    /// Chosen theme.
    pub(super) theme: Theme,
    /// Path and query of the page.
    pub(super) here: String,
    /// `http://HOST`, as the browser knows this host.
    pub(super) origin: String,
}

impl Viewer {
    /// Their name, where the host asks for one.
    pub(super) fn name(&self) -> Option<&str> {
        (self.actor.by != By::Open).then_some(self.actor.name.as_str())
    }

    /// Their name for histories.
    pub(super) fn actor_name(&self) -> &str {
        &self.actor.name
    }

    /// Did they sign in, so that they may sign out?
    pub(super) fn has_session(&self) -> bool {
        self.actor.by == By::Session
    }

    /// May they control jobs, queues and schedules?
    pub(super) fn may_operate(&self) -> bool {
        !self.read_only && self.actor.scope >= Scope::Operate
    }

    /// May they control hosts and plugins?
    pub(super) fn may_admin(&self) -> bool {
        !self.read_only && self.actor.scope >= Scope::Admin
    }

    /// May they see the audit log?
    pub(super) fn may_audit(&self) -> bool {
        self.actor.scope >= Scope::Admin
    }
}

impl FromRequestParts<Arc<Service>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let actor = parts.extensions.get::<Actor>().cloned();
        let actor = actor.ok_or_else(|| Problem::internal("a page was asked for past the guard"))?;
        let known = cookie(&parts.headers, SECRET_COOKIE).filter(|text| is_secret(text));
        let (secret, is_new) = match known {
            Some(secret) => (secret.to_owned(), false),
            None => {
                let mut random = [0; 16];
                getrandom::fill(&mut random).map_err(Problem::internal)?;
                (hex::encode(random), true)
            }
        };
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(|host| host.as_str()));
        let proto = parts.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        let proto = if proto == Some("https") { "https" } else { "http" };
        Ok(Self {
            actor,
            read_only: service.settings.read_only,
            secret,
            is_new,
            theme: Theme::of(&parts.headers),
            here: here.to_owned(),
            origin: format!("{proto}://{}", host.unwrap_or("localhost")),
        })
    }
}

/// The fields of a form that is one of ours.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// The first field of this name; blanks around it and empty ones do not count.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim());
        found.filter(|value| !value.is_empty())
    }

    /// Where to go afterwards: a path of this host, `or` where none is given.
    pub(super) fn back<'a>(&'a self, or: &'a str) -> &'a str {
        let is_ours = |path: &&str| {
            path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        };
        self.get("back").filter(is_ours).unwrap_or(or)
    }
}

fn refused(why: &str) -> Problem {
    Problem::new(
        Code::ForeignOrigin,
        format!("The form was not taken because {why}. Load the page again and repeat what you did."),
    )
}

/// Keeps forms of other sites out.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| !matches!(site, "same-origin" | "none"))
    {
        return Err(refused("another site sent it"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
        let host = text(header::HOST);
        if site.is_none()
            || host.is_some_and(|host| !site.is_some_and(|site| site.eq_ignore_ascii_case(host)))
        {
            return Err(refused("its Origin is another site"));
        }
    }
    Ok(())
}

impl FromRequest<Arc<Service>> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        same_origin(&parts.headers)?;
        let kind =
            parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            let kind = shorten(kind).into_owned();
            return Err(Problem::new(Code::InvalidHeader, format!("content-type: {kind:?} is no form.")));
        }
        let text = request::body(body, FORM_BYTES_MAX, service.body_timeout()).await?;
        let form = Self(form_urlencoded::parse(&text).into_owned().collect());
        let known = cookie(&parts.headers, SECRET_COOKIE).filter(|text| is_secret(text));
        let (Some(known), Some(sent)) = (known, form.get(SECRET_FIELD)) else {
            return Err(refused("it does not carry the secret of this browser's cookie"));
        };
        if !bool::from(known.as_bytes().ct_eq(sent.as_bytes())) {
            return Err(refused("its secret is not that of this browser's cookie"));
        }
        Ok(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        for ours in [
            &[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")][..],
            &[("host", "h:1"), ("origin", "https://H:1")],
            &[("host", "h:1")],
        ] {
            assert!(same_origin(&headers(ours)).is_ok(), "{ours:?}");
        }
        for theirs in [
            &[("host", "h:1"), ("origin", "http://h:2")][..],
            &[("host", "h:1"), ("origin", "null")],
            &[("host", "h:1"), ("sec-fetch-site", "cross-site")],
            &[("host", "h:1"), ("sec-fetch-site", "same-site")],
        ] {
            assert!(same_origin(&headers(theirs)).is_err(), "{theirs:?}");
        }
    }

    #[test]
    fn cookies_are_read_by_their_whole_names() {
        let headers = headers(&[("cookie", "xwaymark_theme=light; waymark_theme=dark; other=1")]);
        assert_eq!(cookie(&headers, THEME_COOKIE), Some("dark"));
        assert_eq!(Theme::of(&headers), Theme::Dark);
        assert_eq!(cookie(&headers, "waymark"), None);
    }

    #[test]
    fn a_form_leads_back_to_a_path_of_this_host_only() {
        let form = |back: &str| Form(vec![("back".into(), back.into())]);
        assert_eq!(form("/jobs?status=failed").back("/"), "/jobs?status=failed");
        for foreign in ["//evil.example", "https://evil.example", "/\\evil.example", "jobs", "/a b", ""] {
            assert_eq!(form(foreign).back("/x"), "/x", "{foreign}");
        }
    }
}
