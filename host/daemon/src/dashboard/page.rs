//! The frame around every page.

use super::{
    assets,
    format::clock,
    viewer::{Form, THEME_COOKIE, Theme, Viewer},
};
use crate::api::{Code, Problem};
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

/// Nothing but what this host serves, and no text of a page is ever a script or a style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How often a page is asked for again that no events tell of, milliseconds.
const REFRESH_MS: u32 = 2_000;
/// The same where events tell of most changes: ages and the load of hosts have none.
const REFRESH_TOLD_MS: u32 = 10_000;

/// Where a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Overview,
    Jobs,
    Workflows,
    Schedules,
    Queues,
    Routes,
    Plugins,
    Hosts,
    Errors,
    Audit,
}

impl Section {
    const ALL: [(Self, &'static str, &'static str, &'static str); 10] = [
        (Self::Overview, "/", "Overview", "M3 13h4v5H3zM8 8h4v10H8zM13 3h4v15h-4z"),
        (Self::Jobs, "/jobs", "Jobs", "M3 4h14v2.5H3zM3 8.75h14v2.5H3zM3 13.5h14V16H3z"),
        (
            Self::Workflows,
            "/workflows",
            "Workflows",
            "M2 7h5v6H2zM13 2h5v6h-5zM13 12h5v6h-5zM7 9.5h3V5h3v1.2h-1.8v7.6H13V15h-3v-4.5H7z",
        ),
        (
            Self::Schedules,
            "/schedules",
            "Schedules",
            "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm0 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 10 3.8zM9.1 5.500h1.800v4.100l2.9 2.9-1.3 1.3-3.4-3.400z",
        ),
        (
            Self::Queues,
            "/queues",
            "Queues",
            "M2 6h3v8H2zM6.5 6h3v8h-3zM11 6h3v8h-3zM15.5 7.5 18.5 10l-3 2.500z",
        ),
        (
            Self::Routes,
            "/routes",
            "Routes",
            "M2 9h5l4-4h3V2l4 4-4 4V7h-2l-3 3 3 3h2v-3l4 4-4 4v-3h-3l-4-4H2z",
        ),
        (
            Self::Plugins,
            "/plugins",
            "Plugins",
            "M7 2h2v4h2V2h2v4h2v4a5 5 0 0 1-4 4.900V18H9v-3.100A5 5 0 0 1 5 10V6h2z",
        ),
        (Self::Hosts, "/hosts", "Hosts", "M3 3h14v6H3zM3 11h14v6H3zM5 5v2h2V5zM5 13v2h2v-2z"),
        (
            Self::Errors,
            "/errors",
            "Errors",
            "M10 2 19 17.500H1zM9.1 8v4.500h1.800V8zM9.1 13.700v1.800h1.800v-1.800z",
        ),
        (
            Self::Audit,
            "/audit",
            "Audit",
            "M4 2h9l3 3v13H4zM6.5 8h7v1.8h-7zM6.5 11.5h7v1.8h-7zM6.5 4.8h4v1.7h-4z",
        ),
    ];
}

/// How a page is kept fresh.
#[derive(Clone, Debug)]
pub(super) enum Fresh {
    /// Not at all.
    Never,
    /// It is asked for again.
    Polled,
    /// Events of a job, at this path, tell when to ask again.
    Told(String),
    /// Events of all jobs, at this path, tell when to ask again; it is asked for seldom besides.
    Live(String),
}

/// A page to be framed.
pub(super) struct Page<'a> {
    pub(super) section: Section,
    pub(super) title: &'a str,
    pub(super) fresh: Fresh,
    pub(super) body: Markup,
}

impl Page<'_> {
    /// The whole answer.
    pub(super) fn answer(self, viewer: &Viewer) -> Response {
        let who = html! {
            @if let Some(name) = viewer.name() { span.who { (name) } }
            @if viewer.has_session() { form.theme method="post" action="/sign-out" { button.quiet type="submit" { "Sign out" } } }
        };
        let switch = html! {
            form.theme method="post" action="/theme" {
                input type="hidden" name="back" value=(viewer.here);
                input type="hidden" name="to" value=(viewer.theme.next().name());
                button.quiet type="submit" title=(format!("Theme: {}. Choose {}", viewer.theme.name(), viewer.theme.next().name())) {
                    (icon("M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm0 2v12a6 6 0 0 1 0-12z"))
                    span { "Theme: " (viewer.theme.name()) }
                }
            }
        };
        let text = document(
            viewer.theme,
            Some(self.section),
            self.title,
            &self.fresh,
            viewer.may_audit(),
            html! { (who) (switch) },
            self.body,
        );
        html_response(StatusCode::OK, text)
    }
}

/// A small drawing beside words that say the same.
pub(super) fn icon(path: &str) -> Markup {
    html! { svg.icon viewBox="0 0 20 20" aria-hidden="true" focusable="false" { path d=(path) {} } }
}

fn html_response(status: StatusCode, text: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (status, headers, text.into_string()).into_response()
}

fn head(title: &str, script: bool) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Waymark" }
            link rel="icon" href=(assets::ICON.path) type="image/svg+xml";
            link rel="stylesheet" href=(assets::STYLE.path);
            @if script { script src=(assets::SCRIPT.path) defer {} }
        }
    }
}

fn document(
    theme: Theme,
    section: Option<Section>,
    title: &str,
    fresh: &Fresh,
    audits: bool,
    side: Markup,
    body: Markup,
) -> Markup {
    let (poll, events, changes) = match fresh {
        Fresh::Never => (None, None, None),
        Fresh::Polled => (Some(REFRESH_MS), None, None),
        Fresh::Told(path) => (None, Some(path), None),
        Fresh::Live(path) => (Some(REFRESH_TOLD_MS), None, Some(path)),
    };
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(theme.name()) {
            (head(title, true))
            body data-poll=[poll] data-events=[events] data-changes=[changes] {
                a.skip href="#main" { "Skip to the content" }
                header.side {
                    a.brand href="/" {
                        svg viewBox="0 0 32 32" aria-hidden="true" focusable="false" {
                            rect width="32" height="32" rx="7" {}
                            path d="M7 9l4.5 14L16 12l4.5 11L25 9" {}
                        }
                        span { "Waymark" }
                    }
                    nav aria-label="Pages" {
                        ul {
                            @for (at, path, name, drawing) in Section::ALL.into_iter().filter(|(at, ..)| *at != Section::Audit || audits) {
                                li {
                                    a href=(path) aria-current=[(section == Some(at)).then_some("page")] {
                                        (icon(drawing)) span { (name) }
                                    }
                                }
                            }
                        }
                    }
                    div.foot { (side) }
                }
                main #main tabindex="-1" { (body) }
                p #stale role="status" hidden { "This page is not fresh: the host does not answer." }
            }
        }
    }
}

/// A page for somebody who has not said who they are: no more than its middle.
pub(crate) fn bare_page(headers: &HeaderMap, status: StatusCode, title: &str, body: &Markup) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang="en" data-theme=(Theme::of(headers).name()) {
            (head(title, false))
            body.bare { main #main { (body) } }
        }
    };
    html_response(status, text)
}

/// What a problem page needs of its request.
#[derive(Clone, Copy)]
pub(crate) struct Frame(Theme);

impl Frame {
    /// Of a request that a person's browser made for a page; `None` for all others.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let machine = ["/api/", "/assets/", "/metrics", "/healthz", "/readyz"];
        let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_page = accepts.is_some_and(|accept| accept.contains("text/html"));
        (is_page && !machine.iter().any(|head| path.starts_with(head)))
            .then(|| Self(Theme::of(request.headers())))
    }
}

/// A problem, for a person.
pub(crate) fn problem_page(frame: Frame, problem: &Problem, request_id: &str) -> Response {
    let document_of = problem.document(Some(request_id));
    let advice = match problem.code() {
        Code::Unauthorized => html! { p { a.button href="/sign-in" { "Sign in" } } },
        Code::StoreUnavailable | Code::Timeout => html! {
            p { "The page may come back by itself: running jobs keep their place meanwhile." }
        },
        _ => html! {},
    };
    let body = html! {
        section.message.problem {
            p.code { (document_of.status) " · " (document_of.code) }
            h1 { (document_of.title) }
            p { (document_of.detail) }
            @if document_of.errors.len() > 1 {
                ul { @for one in document_of.errors { li { code { (one.pointer) } " " (one.detail) } } }
            }
            (advice)
            p.hint { "Request " code { (request_id) } " at " (clock_now()) " UTC." }
            p { a.button href="/" { "To the overview" } }
        }
    };
    let text = document(frame.0, None, document_of.title, &Fresh::Never, false, html! {}, body);
    let mut response = html_response(problem.code().status(), text);
    let machine = problem.response(request_id);
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = machine.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn clock_now() -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    clock(u64::try_from(now).unwrap_or(0) * 1_000)
}

/// Sends the browser on after a form.
pub(super) fn see(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => Problem::internal("a path cannot be written in a header").into_response(),
    }
}

/// `POST /theme`: keeps the chosen theme in a cookie.
pub(super) async fn theme(form: Form) -> Response {
    let chosen = Theme::named(form.get("to").unwrap_or_default());
    let mut response = see(form.back("/"));
    let cookie = format!("{THEME_COOKIE}={}; Path=/; SameSite=Strict; Max-Age=31536000", chosen.name());
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
