//! What goes wrong, as RFC 9457 problem documents.
//!
//! Every code is stable, has one status, and has a page `docs/errors/<code>.md` that says what to do. A
//! [`Problem`] carries two messages: `detail` for the caller, and `internal` for the log alone. Handlers return
//! a `Problem`; the guard adds the request's id and writes the document.

use crate::directory;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{borrow::Cow, fmt};
use utoipa::ToSchema;
use waymark_job::State;

/// Where the pages are read.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/errors/");

macro_rules! codes {
    ($($name:ident $text:literal $status:ident $title:literal;)*) => {
        /// A stable code for everything that a caller can meet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $(#[doc = $title] $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it is written, and the name of its page.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that always goes with it.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The same few words every time.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    MalformedJson "malformed-json" BAD_REQUEST "The body is not JSON";
    BadCursor "bad-cursor" BAD_REQUEST "The cursor is not one of this listing";
    InvalidQuery "invalid-query" BAD_REQUEST "A query parameter is unknown or has a wrong value";
    InvalidHeader "invalid-header" BAD_REQUEST "A header has a wrong value";
    Unauthorized "unauthorized" UNAUTHORIZED "A valid token is needed";
    ScopeMissing "scope-missing" FORBIDDEN "The token may not do this";
    ReadOnly "read-only" FORBIDDEN "This host changes nothing";
    ForeignOrigin "foreign-origin" FORBIDDEN "The request comes from a foreign web page or name";
    UnknownPath "unknown-path" NOT_FOUND "There is nothing at this path";
    UnknownJob "unknown-job" NOT_FOUND "There is no such job";
    UnknownPlugin "unknown-plugin" NOT_FOUND "There is no such plugin on this host";
    UnknownHost "unknown-host" NOT_FOUND "There is no such host";
    UnknownErrorGroup "unknown-error-group" NOT_FOUND "There is no such group of failures";
    UnknownSchedule "unknown-schedule" NOT_FOUND "There is no such schedule";
    UnknownRoute "unknown-route" NOT_FOUND "The job type has no route";
    NoCheckpoint "no-checkpoint" NOT_FOUND "That checkpoint is not kept";
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "This path has other methods";
    RequestTimeout "request-timeout" REQUEST_TIMEOUT "The body did not arrive in time";
    ScheduleHeld "schedule-held" CONFLICT "The schedule is not this call's to change";
    ScheduleBusy "schedule-busy" CONFLICT "The schedule does not run now";
    WrongStanding "wrong-standing" CONFLICT "The change does not fit the route's canary";
    RouteChanged "route-changed" CONFLICT "Others changed the route at the same time";
    WrongState "wrong-state" CONFLICT "The control does not fit the job's state";
    RateLimited "rate-limited" TOO_MANY_REQUESTS "Too many requests";
    LimitReached "limit-reached" TOO_MANY_REQUESTS "The queue takes no more jobs now";
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE "The body is too large";
    InputTooLarge "input-too-large" PAYLOAD_TOO_LARGE "The input of a job is too large";
    BatchTooLarge "batch-too-large" PAYLOAD_TOO_LARGE "The batch has too many jobs";
    UnknownField "unknown-field" UNPROCESSABLE_ENTITY "The body has a field that does not exist";
    InvalidField "invalid-field" UNPROCESSABLE_ENTITY "A field is missing or has a wrong value";
    UnknownJobType "unknown-job-type" UNPROCESSABLE_ENTITY "No host knows this job type";
    InvalidInput "invalid-input" UNPROCESSABLE_ENTITY "The input does not fit the job type";
    IdempotencyKeyReused "idempotency-key-reused" UNPROCESSABLE_ENTITY "The idempotency key stands for another job";
    PluginRefused "plugin-refused" UNPROCESSABLE_ENTITY "The plugin was refused";
    ObjectMissing "object-missing" BAD_GATEWAY "A long value is not in the object storage";
    KeyMissing "key-missing" BAD_GATEWAY "A value is encrypted with a key that is not there";
    StorageUnavailable "storage-unavailable" SERVICE_UNAVAILABLE "The storage of long values does not answer";
    Internal "internal" INTERNAL_SERVER_ERROR "A bug in the host";
    StoreFull "store-full" INSUFFICIENT_STORAGE "Redis has no memory left";
    StoreUnavailable "store-unavailable" SERVICE_UNAVAILABLE "Redis does not answer";
    Timeout "timeout" SERVICE_UNAVAILABLE "The host did not answer in time";
    NotReady "not-ready" SERVICE_UNAVAILABLE "The host is not ready";
    TooManyReaders "too-many-readers" SERVICE_UNAVAILABLE "The host has all the readers of events it allows";
    TooManyConnections "too-many-connections" SERVICE_UNAVAILABLE "The host has all the connections it allows";
}

/// One thing that is wrong with a request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// Where: a JSON pointer (RFC 6901) into the body; empty is the whole body.
    pub pointer: String,
    /// What.
    pub detail: String,
}

/// A refused or failed request.
#[derive(Clone, Debug)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    detail: Cow<'static, str>,
    internal: Option<String>,
    errors: Vec<Violation>,
    status: Option<State>,
    reason: Option<String>,
    retry_after_s: Option<u32>,
}

/// The document (RFC 9457) that answers every refused or failed request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct Document<'a> {
    /// Address of the page that explains the code.
    #[serde(rename = "type")]
    pub page: String,
    /// The same few words for every problem of this code.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: &'a str,
    /// Stable code.
    pub code: &'static str,
    /// The request's id, which is also in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// Each thing that is wrong with the body.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub errors: &'a [Violation],
    /// The state that a control met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_status: Option<&'static str>,
    /// Why a plugin was refused: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

impl Problem {
    /// A problem; `detail` is one or two sentences for the caller.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            internal: None,
            errors: Vec::new(),
            status: None,
            reason: None,
            retry_after_s: None,
        }))
    }

    /// A bug or a broken promise of somebody behind the host: the caller learns no more than that.
    pub fn internal(message: impl fmt::Display) -> Self {
        let mut problem =
            Self::new(Code::Internal, "The host met an error of its own; its log has the details.");
        problem.0.internal = Some(message.to_string());
        problem
    }

    /// Things that are wrong with the body; the first one becomes the detail.
    #[must_use]
    pub fn violations(code: Code, errors: Vec<Violation>) -> Self {
        let detail = match errors.as_slice() {
            [] => String::new(),
            [first, ..] if first.pointer.is_empty() => first.detail.clone(),
            [first, ..] => format!("{}: {}", first.pointer, first.detail),
        };
        let mut problem = Self::new(code, detail);
        problem.0.errors = errors;
        problem
    }

    /// The same for a body that is a part of another one, at `pointer`.
    #[must_use]
    pub fn within(self, pointer: &str) -> Self {
        if self.0.errors.is_empty() {
            return self;
        }
        let put = |Violation { pointer: at, detail }| Violation { pointer: format!("{pointer}{at}"), detail };
        Self::violations(self.0.code, self.0.errors.into_iter().map(put).collect())
    }

    /// The state that a control met.
    #[must_use]
    pub fn met(mut self, state: State) -> Self {
        self.0.status = Some(state);
        self
    }

    /// When to try again, seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_s = Some(seconds);
        self
    }

    /// No such job.
    pub fn unknown_job(id: impl fmt::Display) -> Self {
        Self::new(Code::UnknownJob, format!("There is no job {id}, or it was deleted."))
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What is for the log alone.
    #[must_use]
    pub fn log_message(&self) -> Option<&str> {
        self.0.internal.as_deref()
    }

    /// The document.
    #[must_use]
    pub fn document<'a>(&'a self, request_id: Option<&'a str>) -> Document<'a> {
        let code = self.0.code;
        Document {
            page: format!("{PAGES}{}.md", code.name()),
            title: code.title(),
            status: code.status().as_u16(),
            detail: &self.0.detail,
            code: code.name(),
            request_id,
            errors: &self.0.errors,
            job_status: self.0.status.map(State::name),
            reason: self.0.reason.as_deref(),
        }
    }

    /// The whole answer.
    #[must_use]
    pub fn response(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&self.document(Some(request_id))).unwrap_or_default();
        let mut response = (self.0.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.0.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"waymark\""));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// Only the status and the problem itself: the guard writes the document, because it knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.0.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<waymark_store::Error> for Problem {
    fn from(error: waymark_store::Error) -> Self {
        use waymark_store::Error;
        match error {
            Error::BadCursor => Self::new(
                Code::BadCursor,
                "The cursor is damaged: take `next_cursor` of the previous page \
                 as it is, with the same filters, or leave it away to begin again.",
            ),
            Error::Schedule(invalid) => {
                let pointer = format!("/{}", invalid.field);
                let errors = vec![Violation { pointer, detail: invalid.detail }];
                Self::violations(Code::InvalidField, errors)
            }
            Error::Redis(_) => {
                let mut problem = if error.is_full() {
                    Self::new(
                        Code::StoreFull,
                        "Redis has no memory left and takes nothing new; deleting jobs makes room.",
                    )
                } else if error.is_passing() {
                    Self::new(Code::StoreUnavailable, "Redis does not answer at the moment; try again soon.")
                        .retry_after(1)
                } else {
                    Self::new(
                        Code::StoreUnavailable,
                        "Redis refuses this host; trying again does not help. The host's log has the details.",
                    )
                };
                problem.0.internal = Some(error.to_string());
                problem
            }
            Error::Object { .. } => Self::new(Code::ObjectMissing, format!("{error}.")),
            Error::KeyMissing(_) => Self::new(Code::KeyMissing, format!("{error}.")),
            Error::Storage(_) => {
                let mut problem = Self::new(
                    Code::StorageUnavailable,
                    "What is asked for lies in a storage that does not answer at the moment; try again soon.",
                )
                .retry_after(1);
                problem.0.internal = Some(error.to_string());
                problem
            }
            other => Self::internal(other),
        }
    }
}

impl From<directory::Error> for Problem {
    fn from(error: directory::Error) -> Self {
        let mut problem = Self::new(Code::PluginRefused, error.message);
        problem.0.reason = Some(error.code);
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_code_has_a_page() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let pages: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        let codes: BTreeSet<_> = Code::ALL.iter().map(|code| format!("{}.md", code.name())).collect();
        assert_eq!(pages.intersection(&codes).count(), codes.len(), "missing: {:?}", &codes - &pages);
    }
}
