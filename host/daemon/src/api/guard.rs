//! What happens around every handler: request id, access, time limit, panics, counting, problem documents.

use super::{
    Service,
    audit::{self, Entry, Why},
    auth::Actor,
    error::{Code, Problem},
    sign_in,
};
use crate::{
    dashboard,
    traces::{self, Span},
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use opentelemetry::trace::SpanKind;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// Carries the request's id both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a caller, characters.
const REQUEST_ID_MAX: usize = 128;
/// Time for an upload: sending it and compiling it, which may take two minutes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Requests by route.
pub struct Counters {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Counters {
    /// Registers the counters.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> anyhow::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("waymark_http_requests_total", "Requests answered, by method, route and status."),
            &["method", "route", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "waymark_http_request_seconds",
                "Time from a request's head to its answer's head.",
            )
            .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0]),
            &["method", "route"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { requests, seconds })
    }
}

/// Makes ids for requests that bring none: unique, cheap, no secret.
pub struct RequestIds {
    base: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// A new random series.
    ///
    /// # Errors
    /// The operating system's random generator failed.
    pub fn new() -> anyhow::Result<Self> {
        let base = getrandom::u64().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self { base, next: AtomicU64::new(0) })
    }

    /// The caller's id if it is usable, else a new one.
    fn of(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(value) = headers.get(REQUEST_ID) {
            let bytes = value.as_bytes();
            if (1..=REQUEST_ID_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic) {
                return value.clone();
            }
        }
        // An odd multiplier keeps all of a series apart and its members unlike each other.
        let index = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        HeaderValue::from_str(&format!("{:016x}", self.base.wrapping_add(index)))
            .unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// How long a handler may take; `None` where it waits or streams and keeps its own time.
fn time_limit(service: &Service, request: &Request) -> Option<Duration> {
    let uri = request.uri();
    if request.method() == Method::PUT {
        return Some(UPLOAD_TIMEOUT);
    }
    if uri.path().ends_with("/events") || uri.query().is_some_and(|query| query.contains("wait_ms=")) {
        return None;
    }
    Some(Duration::from_millis(service.settings.request_timeout_ms))
}

/// The middleware around every route.
pub async fn around(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = service.request_ids.of(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let limit = time_limit(&service, &request);
    let span = span(&service, &mut request, route.as_ref());
    let frame = dashboard::Frame::of(&request);
    let text = id.to_str().unwrap_or_default();
    let wants_page = method == Method::GET
        && !path.starts_with("/api/")
        && request
            .headers()
            .get(header::ACCEPT)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let mut response = match admit(&service, &method, request.uri(), request.headers()).await {
        Err(problem) if wants_page && problem.code() == Code::Unauthorized => {
            sign_in::redirect(request.uri().path_and_query().map_or("/", PathAndQuery::as_str))
        }
        Err(problem) => problem.into_response(),
        Ok(actor) => changed(&service, request, next, actor, text, limit).await,
    };
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        match problem.log_message() {
            Some(error) => tracing::error!(request_id = text, %method, path, error, "a request failed"),
            None => {
                tracing::debug!(request_id = text, %method, path, code = problem.code().name(), "a request was refused");
            }
        }
        let extra = std::mem::take(response.headers_mut());
        response = match frame {
            Some(frame) => dashboard::problem_page(frame, problem, text),
            None => problem.response(text),
        };
        // What the router knows and a problem does not: the methods that a path has.
        if let Some(allow) = extra.get(header::ALLOW) {
            response.headers_mut().insert(header::ALLOW, allow.clone());
        }
    }
    let status = response.status();
    let elapsed = started.elapsed();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let method = if matches!(method, Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD)
    {
        method.as_str()
    } else {
        "other"
    };
    service.counters.requests.with_label_values(&[method, route, status.as_str()]).inc();
    service.counters.seconds.with_label_values(&[method, route]).observe(elapsed.as_secs_f64());
    if let Some(mut span) = span {
        span.set("http.response.status_code", i64::from(status.as_u16()));
        span.set("waymark.request_id", text.to_owned());
        let error = status.is_server_error().then(|| status.to_string());
        let ended = span.began + elapsed;
        service.tracer.end(span, ended, error);
    }
    tracing::debug!(request_id = text, method, path, status = status.as_u16(), ?elapsed, "request");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The span of a request that changes something, or whose caller keeps the trace. From then on the request's headers name
/// the span itself, for whoever makes jobs of it.
fn span(service: &Service, request: &mut Request, route: Option<&MatchedPath>) -> Option<Span> {
    let caller = traces::of_headers(request.headers());
    let looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if looks && !caller.as_ref().is_some_and(|trace| trace.sampled) {
        return None;
    }
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let name = format!("{} {route}", request.method());
    let mut span = service.tracer.span(caller.as_ref(), name, SpanKind::Server, SystemTime::now())?;
    span.set("http.request.method", request.method().to_string());
    span.set("http.route", route);
    traces::to_headers(&span.trace, request.headers_mut());
    Some(span)
}

/// Who asks, if they may.
async fn admit(
    service: &Service,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Actor>, Problem> {
    let secret = match headers.contains_key(header::AUTHORIZATION) || service.guard.is_open() {
        true => None,
        false => service.guard.session_secret(headers),
    };
    let holder = match secret {
        Some(secret) => service.store.session(&sign_in::session_digest(&secret)).await?,
        None => None,
    };
    service.guard.check(method, uri, headers, holder.as_deref())
}

/// The handler's answer to somebody who may ask for it, with an entry in the audit log where the request is a change.
async fn changed(
    service: &Service,
    mut request: Request,
    next: Next,
    actor: Option<Actor>,
    request_id: &str,
    limit: Option<Duration>,
) -> Response {
    let Some(actor) = actor else { return answer(next.run(request), limit).await };
    let path = request.uri().path();
    let reveals = audit::reveals(request.uri());
    let permitted = service.guard.permit(&actor, request.method(), path, reveals);
    if !reveals && !audit::is_kept(request.method(), path) {
        request.extensions_mut().insert(actor);
        return match permitted {
            Ok(()) => answer(next.run(request), limit).await,
            Err(problem) => problem.into_response(),
        };
    }
    let why = audit::take_why(&mut request);
    let mut entry = Entry::of(&request, &actor, request_id);
    request.extensions_mut().insert(actor);
    let taken = why.map(|why| entry.why = why);
    let response = match permitted.and(taken) {
        Err(problem) => problem.into_response(),
        Ok(()) => match audit::read_body(service, request, &mut entry).await {
            Err(problem) => problem.into_response(),
            Ok(mut request) => {
                request.extensions_mut().insert(Why(entry.why.clone().unwrap_or_default()));
                answer(next.run(request), limit).await
            }
        },
    };
    audit::write(service, &entry.answered(&response)).await;
    response
}

async fn answer(handler: impl Future<Output = Response>, limit: Option<Duration>) -> Response {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    let outcome = match limit {
        Some(limit) => tokio::time::timeout(limit, handler).await,
        None => Ok(handler.await),
    };
    let problem = match outcome {
        Ok(Ok(response)) => return response,
        Ok(Err(panic)) => {
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Problem::internal(format_args!("a handler panicked: {}", message.unwrap_or_default()))
        }
        Err(_) => Problem::new(
            Code::Timeout,
            "The host did not finish this request in time. A change it asked for may or may not have happened: \
             look before you repeat it, or repeat it with an Idempotency-Key.",
        )
        .retry_after(1),
    };
    problem.into_response()
}

/// No route has this path.
pub async fn unknown_path(request: Request) -> Problem {
    Problem::new(
        Code::UnknownPath,
        format!("There is nothing at {}; GET /api/v1/openapi.json lists every path.", request.uri().path()),
    )
}

/// The path has other methods; the `Allow` header names them.
pub async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not answer to {}; the Allow header names its methods.",
            request.uri().path(),
            request.method()
        ),
    )
}
