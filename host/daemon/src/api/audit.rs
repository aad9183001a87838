//! The audit log: every change that somebody asked for over HTTP, with who, when, what, from where, and the answer.
//!
//! The guard writes an entry after the answer is known and before it is sent. New jobs are not in it: they are in
//! the list of jobs. Whoever asks for what is hidden is in it too. What is refused for want of a token is not in it either, so that strangers cannot fill it.
//!
//! Whoever asks may say why: in the query of any request that the log keeps, or as a field of a form. The guard takes it out
//! of the query, so that no handler needs a parameter for it.

use super::{
    Service,
    answer::Timestamp,
    auth::Actor,
    error::Problem,
    request::{self, Params, limit, reply},
};
use axum::{
    body::Body,
    extract::{Request, State as Shared},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};
use utoipa::{IntoParams, ToSchema};

/// Entries in a list unless more are asked for.
const LIST_DEFAULT: usize = 50;
/// Most entries in one list.
const LIST_MAX: usize = 1_000;
/// Entries that one request looks at for those it is asked for.
const LOOK_MAX: usize = 10_000;
/// Longest body that an entry keeps, bytes.
const BODY_BYTES_MAX: usize = 4 << 10;
/// Longest text of a header or path that an entry keeps, bytes.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// Longest reason that is taken, characters.
pub(crate) const WHY_CHARS_MAX: usize = 500;
/// What stands for a job's input, which the log does not keep.
const LEFT_OUT: &str = "(left out)";

/// The other end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Why a request asks for what it does, for histories besides the log; empty where it does not say. Every request that the
/// log keeps has it.
#[derive(Clone, Debug)]
pub(crate) struct Why(pub(crate) String);

/// A change that somebody asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// Name of the token or user; `local` where the host asks for neither.
    pub(crate) actor: String,
    /// Their scope: `read`, `operate` or `admin`.
    pub(crate) scope: String,
    /// `token`, `session` or `open`; `host` where the host did it by itself.
    pub(crate) by: String,
    /// Address of the other end of the connection; behind a proxy, the proxy's.
    pub(crate) from: Option<String>,
    /// The `X-Forwarded-For` header as it came: only as true as the proxy that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forwarded_for: Option<String>,
    /// Method of the request.
    pub(crate) method: String,
    /// Path and query, without `why`.
    pub(crate) path: String,
    /// Why they asked for it, where they said; of a change that the host made by itself, the figures that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// The body, where it is JSON of at most 4 KiB; inputs of jobs and payloads of signals are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Value>,
    /// HTTP status of the answer.
    pub(crate) status: u16,
    /// Code of the problem, if it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The request's id.
    pub(crate) request_id: String,
}

impl Entry {
    /// What is known before the answer. The answer's status is 0 until [`Self::answered`].
    pub(super) fn of(request: &Request, actor: &Actor, request_id: &str) -> Self {
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(cut(value).to_owned())
        };
        let path = request.uri().path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
        Self {
            actor: actor.name.clone(),
            scope: actor.scope.name().to_owned(),
            by: actor.by.name().to_owned(),
            from: request.extensions().get::<Peer>().map(|Peer(address)| address.ip().to_string()),
            forwarded_for: header("x-forwarded-for"),
            method: request.method().to_string(),
            path: cut(path).to_owned(),
            why: None,
            body: None,
            status: 0,
            code: None,
            request_id: request_id.to_owned(),
        }
    }

    /// A change that the host made by itself.
    pub(crate) fn own(actor: &str, path: &str, why: &str) -> Self {
        Self {
            actor: actor.to_owned(),
            scope: "admin".to_owned(),
            by: "host".to_owned(),
            from: None,
            forwarded_for: None,
            method: "POST".to_owned(),
            path: path.to_owned(),
            why: Some(cut(why).to_owned()),
            body: None,
            status: 200,
            code: None,
            request_id: String::new(),
        }
    }

    /// Takes over how the request was answered.
    pub(super) fn answered(mut self, response: &Response) -> Self {
        self.status = response.status().as_u16();
        let problem = response.extensions().get::<Problem>();
        if let Some(problem) = problem {
            self.status = problem.code().status().as_u16();
            self.code = Some(problem.code().name().to_owned());
        }
        self
    }
}

/// The longest head of a text that an entry keeps.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Is this request a change that the log keeps?
pub(crate) fn is_kept(method: &Method, path: &str) -> bool {
    let made = ["/api/v1/jobs", "/api/v1/jobs/batch", "/api/v1/workflows"];
    !method.is_safe() && path != "/theme" && !(*method == Method::POST && made.contains(&path))
}

/// Does this request ask for what is hidden?
pub(super) fn reveals(uri: &Uri) -> bool {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.into_iter().any(|(name, value)| name == "reveal" && value != "false")
}

/// Why somebody asks, as one line; `None` where they do not say.
fn reason(text: &str) -> Result<Option<String>, Problem> {
    let text = text.trim();
    if text.chars().count() > WHY_CHARS_MAX {
        return Err(request::invalid_query(format!("why: must have at most {WHY_CHARS_MAX} characters")));
    }
    let line: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    Ok((!line.is_empty()).then_some(line))
}

/// Takes `why` out of the query of a request; of several the last.
///
/// # Errors
/// `invalid-query`: it is too long.
pub(super) fn take_why(request: &mut Request) -> Result<Option<String>, Problem> {
    let Some(query) = request.uri().query() else { return Ok(None) };
    let is_why = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "why");
    let (reasons, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_why);
    let Some(last) = reasons.last() else { return Ok(None) };
    let text = form_urlencoded::parse(last.as_bytes()).map(|(_, value)| value.into_owned()).next();
    let mut path = request.uri().path().to_owned();
    if !others.is_empty() {
        path = format!("{path}?{}", others.join("&"));
    }
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path.parse().ok();
    // What was an address is one without a part of its query, too.
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    reason(&text.unwrap_or_default())
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"))
}

/// Gives the entry what the log keeps of a body that says it is short: JSON as it is, of a form why it was sent.
pub(super) async fn read_body(
    service: &Service,
    request: Request,
    entry: &mut Entry,
) -> Result<Request, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let path = request.uri().path();
    let is_secret = path.contains("/signals/") || path.ends_with("/replay");
    if is_secret || length.is_none_or(|length| !(1..=BODY_BYTES_MAX).contains(&length)) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let bytes = request::body(body, BODY_BYTES_MAX, service.body_timeout()).await?;
    if is_form(&parts.headers) {
        if let Some((_, text)) = form_urlencoded::parse(&bytes).find(|(name, _)| name == "why") {
            entry.why = reason(&text)?;
        }
    } else {
        entry.body = serde_json::from_slice(&bytes).ok();
        entry.body.iter_mut().for_each(leave_inputs_out);
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn leave_inputs_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "input" => *value = LEFT_OUT.into(),
                    _ => leave_inputs_out(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(leave_inputs_out),
        _ => {}
    }
}

/// Writes an entry. What cannot be written is said in the host's own log, whole.
pub(super) async fn write(service: &Service, entry: &Entry) {
    let text = serde_json::to_string(entry).unwrap_or_default();
    if let Err(error) = service.store.append_audit(&text, service.settings.audit_entries).await {
        tracing::error!(%error, entry = text, "an entry of the audit log could not be written");
    }
}

/// Parameters of `GET /audit`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Name of a token or user. Default: all.
    pub(crate) actor: Option<String>,
    /// A part of the path, such as the id of a job. Default: all.
    pub(crate) about: Option<String>,
    /// Most entries, 1 to 1,000. Default 50.
    pub(crate) limit: Option<usize>,
    /// `next_cursor` of the list before.
    pub(crate) cursor: Option<String>,
}

/// An entry and when it was written.
#[derive(Serialize, ToSchema)]
pub(crate) struct Listed {
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// The change.
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// Entries of the audit log.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditLog {
    /// Newest first. There may be fewer than asked for, or none, where a filter takes little.
    pub(crate) entries: Vec<Listed>,
    /// Where older ones begin; `null` at the end.
    pub(crate) next_cursor: Option<String>,
}

impl Service {
    /// Entries that the parameters take.
    ///
    /// # Errors
    /// `invalid-query`, `bad-cursor`, or the store does not answer.
    pub(crate) async fn audit(&self, which: &Which) -> Result<AuditLog, Problem> {
        let limit = limit(which.limit, LIST_DEFAULT, LIST_MAX)?;
        let takes = |entry: &Entry| {
            which.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
                && which.about.as_ref().is_none_or(|part| entry.path.contains(part.as_str()))
        };
        let (mut entries, mut cursor, mut looked) = (Vec::new(), which.cursor.clone(), 0);
        loop {
            let page = self.store.audit(cursor.as_deref(), LIST_MAX.min(limit.max(100))).await?;
            let Some(last) = page.last() else { return Ok(AuditLog { entries, next_cursor: None }) };
            (cursor, looked) = (Some(last.id.clone()), looked + page.len());
            for found in page {
                // What another version wrote and this one cannot read is left out.
                let Ok(entry) = serde_json::from_str::<Entry>(&found.text) else { continue };
                if takes(&entry) {
                    entries.push(Listed { at: Timestamp(found.at_ms), entry });
                }
                if entries.len() == limit {
                    return Ok(AuditLog { entries, next_cursor: Some(found.id) });
                }
            }
            if looked >= LOOK_MAX {
                return Ok(AuditLog { entries, next_cursor: cursor });
            }
        }
    }
}

/// Lists changes that somebody asked for, newest first. Needs the scope `admin`.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", operation_id = "list_audit", params(Which),
    responses((status = 200, description = "Entries.", body = AuditLog)),
)]
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    Ok(reply(StatusCode::OK, &service.audit(&which).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_left_out_wherever_they_are() {
        let mut body =
            serde_json::json!({"job": {"input": {"ssn": 1}, "queue": "q"}, "nodes": [{"input": 2}]});
        leave_inputs_out(&mut body);
        let kept =
            serde_json::json!({"job": {"input": LEFT_OUT, "queue": "q"}, "nodes": [{"input": LEFT_OUT}]});
        assert_eq!(body, kept);
    }

    #[test]
    fn whoever_asks_for_what_is_hidden_is_seen() {
        for asked in ["/x?reveal=true", "/x?a=b&reveal=true", "/x?re%76eal=%74rue", "/x?reveal"] {
            assert!(reveals(&asked.parse().unwrap()), "{asked}");
        }
        for asked in ["/x", "/reveal=true", "/x?reveal=false", "/x?a=reveal"] {
            assert!(!reveals(&asked.parse().unwrap()), "{asked}");
        }
    }

    #[test]
    fn a_reason_is_taken_out_of_the_query_as_one_line() {
        let taken = |uri: &str| {
            let mut request = axum::http::Request::builder().uri(uri).body(Body::empty()).unwrap();
            let why = take_why(&mut request).map_err(|problem| problem.code().name());
            (why, request.uri().to_string())
        };
        assert_eq!(
            taken("/x?a=b%20c&w%68y=it+smells%0A%C3%BC&d"),
            (Ok(Some("it smells ü".into())), "/x?a=b%20c&d".into())
        );
        assert_eq!(taken("/x?why=+&why="), (Ok(None), "/x".into()));
        assert_eq!(taken("http://host/x?why=a&why=b"), (Ok(Some("b".into())), "http://host/x".into()));
        assert_eq!(taken("/x?whyever=a"), (Ok(None), "/x?whyever=a".into()));
        assert_eq!(
            taken(&format!("/x?why={}", "w".repeat(WHY_CHARS_MAX))).0.unwrap().unwrap().len(),
            WHY_CHARS_MAX
        );
        assert_eq!(taken(&format!("/x?why={}", "w".repeat(WHY_CHARS_MAX + 1))).0, Err("invalid-query"));
    }

    #[test]
    fn changes_are_kept_and_new_jobs_are_not() {
        assert!(is_kept(&Method::POST, "/api/v1/jobs/X/pause"));
        assert!(is_kept(&Method::DELETE, "/api/v1/jobs/X"));
        assert!(is_kept(&Method::POST, "/api/v1/jobs/bulk/cancel"));
        assert!(!is_kept(&Method::GET, "/api/v1/jobs/X"));
        assert!(!is_kept(&Method::POST, "/api/v1/jobs"));
    }
}
