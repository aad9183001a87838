//! Who looks at a page, and the forms that they send.
//!
//! The guard has found out who asks before a page is made. A form is taken where the browser says that it comes from a page of
//! this host.

use crate::{
    api::{
        Problem, Service,
        auth::{Actor, By},
        request,
    },
    config::Scope,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use std::sync::Arc;

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
        request::cookie(headers, THEME_COOKIE).map_or(Self::Auto, |name| Self::named(&name))
    }
}

/// Who looks.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    /// Who the guard found that they are.
    actor: Actor,
    /// The host changes nothing.
    read_only: bool,
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
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(|host| host.as_str()));
        let proto = parts.headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
        let proto = if proto == Some("https") { "https" } else { "http" };
        Ok(Self {
            actor,
            read_only: service.settings.read_only,
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

impl FromRequest<Arc<Service>> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        service.guard.own_page(&parts.uri, &parts.headers)?;
        request::form(&parts.headers, body, FORM_BYTES_MAX, service.body_timeout()).await.map(Self)
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
    fn cookies_are_read_by_their_whole_names() {
        let headers = headers(&[("cookie", "xwaymark_theme=light; waymark_theme=dark; other=1")]);
        assert_eq!(request::cookie(&headers, THEME_COOKIE).as_deref(), Some("dark"));
        assert_eq!(Theme::of(&headers), Theme::Dark);
        assert_eq!(request::cookie(&headers, "waymark"), None);
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
