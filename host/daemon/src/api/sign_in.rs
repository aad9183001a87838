//! `/sign-in` and `/sign-out`: sessions for people with a browser.
//!
//! A session is a random secret in a cookie; the store knows its digest and whose it is, so that every host takes
//! it, and what its holder may do is looked up anew with each request.

use super::{
    Service,
    audit::{self, Entry},
    auth::{Actor, By},
    error::{Code, Problem},
    request,
};
use crate::{config::Scope, dashboard};
use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use cookie::{Cookie, SameSite};
use maud::html;
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, sync::Arc};

/// Longest form, bytes.
const FORM_BYTES_MAX: usize = 8 << 10;

/// The digest under which the store knows a session.
pub(super) fn session_digest(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

/// A path of this host, whatever a link says.
pub(super) fn own_path(next: Option<&str>) -> &str {
    match next {
        Some(path)
            if path.starts_with('/')
                && !path.starts_with("//")
                && !path.contains('\\')
                && !path.chars().any(char::is_control) =>
        {
            path
        }
        _ => "/",
    }
}

/// The sign-in page, with what this host takes.
pub(super) fn page(
    service: &Service,
    headers: &HeaderMap,
    status: StatusCode,
    next: &str,
    message: Option<&str>,
) -> Response {
    let settings = &service.settings;
    let (has_users, has_tokens) = (!settings.users.is_empty(), !settings.tokens.is_empty());
    let there: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    let body = html! {
        h1 { "Waymark" }
        @if let Some(message) = message {
            p role="alert" { (message) }
        }
        @if let Some(provider) = &settings.oidc {
            a.button.primary href={ "/login/oidc?next=" (there) } { "Sign in with " (provider.name) }
            @if has_users || has_tokens { p.or { "or" } }
        }
        @if has_users || has_tokens {
            form method="post" action="/sign-in" {
                input type="hidden" name="next" value=(next);
                @if has_users {
                    label for="name" { "Name" }
                    input #name name="name" autocomplete="username" autofocus maxlength="200";
                    label for="password" { "Password" }
                    input #password name="password" type="password" autocomplete="current-password" maxlength="1024";
                    @if has_tokens {
                        details {
                            summary { "Use a token instead" }
                            label for="token" { "Token" }
                            input #token name="token" type="password" autocomplete="off";
                        }
                    }
                } @else {
                    label for="token" { "Token" }
                    input #token name="token" type="password" autocomplete="off" autofocus required;
                }
                button.primary[settings.oidc.is_none()] type="submit" { "Sign in" }
            }
        }
    };
    dashboard::bare_page(headers, status, "Sign in", &body)
}

/// `GET /sign-in`: the form. A host that asks nobody who they are sends on at once.
pub(super) async fn show(Shared(service): Shared<Arc<Service>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let next = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
    let next = own_path(next.as_ref().map(|(_, path)| &**path));
    if service.guard.is_open() {
        return Redirect::to(next).into_response();
    }
    page(&service, request.headers(), StatusCode::OK, next, None)
}

/// `POST /sign-in`: begins a session for `name` and `password`, or for `token`, and goes on to `next`.
pub(super) async fn begin(
    Shared(service): Shared<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    service.guard.own_page(request.uri(), request.headers())?;
    let nobody = Actor { name: String::new(), scope: Scope::Read, by: By::Session };
    let mut entry = Entry::of(&request, &nobody, "");
    let (parts, body) = request.into_parts();
    let form = request::form(&parts.headers, body, FORM_BYTES_MAX, service.body_timeout()).await?;
    let form: HashMap<String, String> = form.into_iter().collect();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let next = own_path(form.get("next").map(String::as_str));
    let found = if field("token").is_empty() {
        let (guard, name, password) =
            (service.clone(), field("name").to_owned(), field("password").to_owned());
        // A password costs a tenth of a second of a core: one at a time, and beside the other requests.
        let turn = service.sign_ins.acquire().await.map_err(Problem::internal)?;
        let checked = tokio::task::spawn_blocking(move || guard.guard.sign_in(&name, &password)).await;
        drop(turn);
        match checked.map_err(Problem::internal)? {
            Ok(found) => found,
            Err(problem) => {
                let detail = problem.document(None).detail.to_owned();
                let status = StatusCode::TOO_MANY_REQUESTS;
                return Ok(page(&service, &parts.headers, status, next, Some(&detail)));
            }
        }
    } else {
        service.guard.sign_in_with_token(field("token"))
    };
    let Some((holder, actor)) = found else {
        if service.guard.has_user(field("name")) {
            entry.actor = field("name").to_owned();
            (entry.status, entry.code) = (401, Some(Code::Unauthorized.name().to_owned()));
            audit::write(&service, &entry).await;
        }
        let message = "That name and password, or that token, are not known to this host.";
        return Ok(page(&service, &parts.headers, StatusCode::UNAUTHORIZED, next, Some(message)));
    };
    let cookie = session(&service, &holder).await?;
    (entry.actor, entry.scope, entry.status) = (actor.name, actor.scope.name().to_owned(), 303);
    audit::write(&service, &entry).await;
    Ok(with_cookie(Redirect::to(next).into_response(), &cookie))
}

/// Begins a session of `holder`, and answers the cookie that it travels in.
///
/// # Errors
/// The store does not answer, or the operating system's random generator failed.
pub(super) async fn session(service: &Service, holder: &str) -> Result<Cookie<'static>, Problem> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(Problem::internal)?;
    let secret = hex::encode(secret);
    service.store.put_session(&session_digest(&secret), holder, service.settings.session_ms).await?;
    Ok(cookie(service.guard.cookie(), secret, service.guard.is_secure()))
}

/// A cookie for all of this host that scripts of its pages cannot read. It comes along when a page elsewhere leads here.
pub(super) fn cookie(name: &'static str, value: String, secure: bool) -> Cookie<'static> {
    let mut cookie = Cookie::new(name, value);
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_secure(secure);
    cookie.set_same_site(SameSite::Lax);
    cookie
}

/// `POST /sign-out`: ends the session.
pub(super) async fn end(
    Shared(service): Shared<Arc<Service>>,
    request: Request,
) -> Result<Response, Problem> {
    if let Some(secret) = service.guard.session_secret(request.headers()) {
        service.store.end_session(&session_digest(&secret)).await?;
    }
    let mut cookie = Cookie::new(service.guard.cookie(), "");
    cookie.set_path("/");
    cookie.set_secure(service.guard.is_secure());
    cookie.make_removal();
    Ok(with_cookie(Redirect::to("/sign-in").into_response(), &cookie))
}

pub(super) fn with_cookie(mut response: Response, cookie: &Cookie<'_>) -> Response {
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Where a browser that asked for `path` without a session is sent.
pub(super) fn redirect(path: &str) -> Response {
    let next: String = form_urlencoded::byte_serialize(own_path(Some(path)).as_bytes()).collect();
    Redirect::to(&format!("/sign-in?next={next}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_host_are_gone_on_to() {
        for (asked, path) in [
            ("/jobs?state=failed", "/jobs?state=failed"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nSet-Cookie: x", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_path(Some(asked)), path, "{asked}");
        }
        assert_eq!(own_path(None), "/");
    }
}
