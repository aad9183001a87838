//! HTTP requests to where the operator allows (`wasi:http`).
//!
//! A key that the operator keeps as a secret is written `{{secret:name}}` in the value of a header; the host fills it in,
//! and only for the hosts that may have it. Redirects are not followed: they are answers with their status.
//!
//! ```no_run
//! # use waymark_sdk::{http::Request, prelude::*};
//! # fn step(context: &Context) -> Result<(), Failure> {
//! let answer = Request::post("https://api.example.com/orders", br#"{"id": 7}"#)
//!     .header("content-type", "application/json")
//!     .header("authorization", "Bearer {{secret:orders}}")
//!     .header("idempotency-key", context.idempotency_key())
//!     .send()?;
//! # Ok(()) }
//! ```
//!
//! Natively, in tests, requests are answered by a function given to [`answer_on_this_thread`].

use crate::Failure;
use std::fmt::{Display, Formatter};

#[cfg(not(target_arch = "wasm32"))]
pub use inner::answer_on_this_thread;

/// What is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET` and its like.
    pub method: String,
    /// `https://host:port/path?query`.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), ..Self::default() }
    }

    /// `GET`
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// `POST` of a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends it and reads the whole answer. *Immediate.*
    ///
    /// # Errors
    /// See [`Error`]. An answer with an unwelcome status is no error.
    pub fn send(&self) -> Result<Answer, Error> {
        inner::send(self)
    }
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case), if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request is none: its address, its method, a header that is the host's own.
    BadRequest(String),
    /// The operator does not allow it.
    Denied(String),
    /// A body is longer than the operator allows.
    TooLong(String),
    /// The other side did not answer, or not in time: may succeed later.
    Unavailable(String),
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadRequest(why) => write!(formatter, "HTTP: not a request: {why}"),
            Self::Denied(why) => write!(formatter, "HTTP: not allowed: {why}"),
            Self::TooLong(why) => write!(formatter, "HTTP: too long: {why}"),
            Self::Unavailable(why) => write!(formatter, "HTTP: no answer: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) => Self::transient(error),
            _ => Self::permanent(error),
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod inner {
    use super::{Answer, Error, Request};
    use wasip2::{
        http::{
            outgoing_handler,
            types::{
                ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
                OutgoingBody, OutgoingRequest, Scheme,
            },
        },
        io::streams::StreamError,
    };

    /// Bytes moved at once, within what a stream takes.
    const CHUNK_BYTES: usize = 4_096;
    const READ_BYTES: u64 = 64 << 10;

    pub(super) fn send(request: &Request) -> Result<Answer, Error> {
        let bad = |what: &str| Error::BadRequest(what.to_owned());
        let (scheme, rest) = request.url.split_once("://").ok_or_else(|| bad("the address has no scheme"))?;
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = path.split('#').next().unwrap_or_default();
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        let headers = Fields::from_list(&headers).map_err(|error| Error::BadRequest(format!("{error:?}")))?;
        let outgoing = OutgoingRequest::new(headers);
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => Scheme::Other(other.to_owned()),
        };
        outgoing.set_scheme(Some(&scheme)).map_err(|()| bad("the scheme"))?;
        outgoing.set_authority(Some(authority)).map_err(|()| bad("the host"))?;
        outgoing.set_path_with_query(Some(path)).map_err(|()| bad("the path"))?;
        outgoing.set_method(&method(&request.method)).map_err(|()| bad("the method"))?;
        let body = outgoing.body().map_err(|()| bad("the body"))?;
        let future = outgoing_handler::handle(outgoing, None).map_err(told)?;
        write(body, &request.body, &future)?;
        let answer = wait(&future)?;
        let headers = answer.headers().entries();
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Ok(Answer { status: answer.status(), headers, body: read(&answer)? })
    }

    fn method(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        }
    }

    fn write(body: OutgoingBody, bytes: &[u8], future: &FutureIncomingResponse) -> Result<(), Error> {
        if !bytes.is_empty() {
            let stream = body.write().map_err(|()| Error::BadRequest("the body".to_owned()))?;
            for chunk in bytes.chunks(CHUNK_BYTES) {
                if stream.blocking_write_and_flush(chunk).is_err() {
                    // Why nobody reads it any more, the answer says.
                    return wait(future).map(drop);
                }
            }
        }
        OutgoingBody::finish(body, None).map_err(told)
    }

    fn wait(future: &FutureIncomingResponse) -> Result<IncomingResponse, Error> {
        future.subscribe().block();
        match future.get() {
            Some(Ok(Ok(answer))) => Ok(answer),
            Some(Ok(Err(error))) => Err(told(error)),
            Some(Err(())) | None => Err(Error::Unavailable("the answer was taken already".to_owned())),
        }
    }

    fn read(answer: &IncomingResponse) -> Result<Vec<u8>, Error> {
        let gone = || Error::Unavailable("the answer's body was taken already".to_owned());
        let body: IncomingBody = answer.consume().map_err(|()| gone())?;
        let stream = body.stream().map_err(|()| gone())?;
        let mut bytes = Vec::new();
        loop {
            match stream.blocking_read(READ_BYTES) {
                Ok(more) => bytes.extend_from_slice(&more),
                Err(StreamError::Closed) => return Ok(bytes),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match wasip2::http::types::http_error_code(&error) {
                        Some(code) => told(code),
                        None => Error::Unavailable(error.to_debug_string()),
                    });
                }
            }
        }
    }

    fn told(error: ErrorCode) -> Error {
        let text = error.to_string();
        match error {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Error::Denied(text),
            ErrorCode::HttpRequestBodySize(_) | ErrorCode::HttpResponseBodySize(_) => Error::TooLong(text),
            ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong
            | ErrorCode::HttpRequestHeaderSectionSize(_)
            | ErrorCode::HttpRequestHeaderSize(_)
            | ErrorCode::ConfigurationError => Error::BadRequest(text),
            _ => Error::Unavailable(text),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use super::{Answer, Error, Request};
    use std::{cell::RefCell, rc::Rc};

    type Web = Rc<dyn Fn(&Request) -> Result<Answer, Error>>;

    thread_local! {
        static WEB: RefCell<Option<Web>> = const { RefCell::new(None) };
    }

    /// From now on this thread's requests are answered by this function. For tests.
    pub fn answer_on_this_thread(web: impl Fn(&Request) -> Result<Answer, Error> + 'static) {
        WEB.set(Some(Rc::new(web)));
    }

    pub(super) fn send(request: &Request) -> Result<Answer, Error> {
        let web = WEB.with_borrow(Clone::clone).ok_or_else(|| {
            Error::Denied("no web: give one to waymark_sdk::http::answer_on_this_thread".to_owned())
        })?;
        web(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_grant_a_request_is_a_permanent_failure() {
        let error = Request::get("https://a.example/").send().unwrap_err();
        assert!(matches!(Failure::from(error), Failure::Permanent(_)));
    }

    #[test]
    fn a_test_answers_requests_itself() {
        answer_on_this_thread(|request| {
            Ok(Answer { status: 200, body: request.body.clone(), ..Answer::default() })
        });
        assert_eq!(Request::post("https://a.example/", b"x").send().unwrap().body, b"x");
    }
}
