//! Reading a request: path, query, body. Whatever is wrong is answered with a problem that names it.

use super::error::{Code, Problem, Violation};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};
use waymark_job::JobId;

/// A body that is too large is read on and thrown away up to this size, so that the caller gets to read the answer
/// instead of a broken connection. More than that is cut off.
const DISCARD_BYTES_MAX: usize = 128 << 20;

/// A job's id from the path.
pub struct Id(pub JobId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Name::from_request_parts(parts, state).await?.0;
        // Text that is no id names no job: one answer for both, with the reason.
        let id = JobId::parse(&text).map_err(|error| {
            Problem::new(Code::UnknownJob, format!("There is no job {}: {error}.", shorten(&text)))
        })?;
        Ok(Self(id))
    }
}

/// Any other name from the path.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        from_path(parts, state).await.map(Self)
    }
}

/// The two names of a path that has two.
pub struct Names(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (first, second) = from_path(parts, state).await?;
        Ok(Self(first, second))
    }
}

async fn from_path<T: DeserializeOwned + Send, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<T, Problem> {
    match Path::<T>::from_request_parts(parts, state).await {
        Ok(Path(found)) => Ok(found),
        Err(_) => Err(Problem::new(Code::UnknownPath, "The path is not UTF-8 text.")),
    }
}

/// Query parameters; unknown ones are refused.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query string.
///
/// # Errors
/// `invalid-query`.
pub fn read_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|error| invalid_query(error.to_string()))?;
    match Query::try_from_uri(&uri) {
        Ok(Query(params)) => Ok(params),
        Err(error) => {
            let text = error.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Err(invalid_query(plain(text)))
        }
    }
}

/// A query parameter that is well-formed but wrong.
pub fn invalid_query(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Code::InvalidQuery, detail)
}

/// The number of a `limit` parameter: `default` when absent, refused outside 1 to `max`.
///
/// # Errors
/// `invalid-query`.
pub fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match asked.unwrap_or(default) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        _ => Err(invalid_query(format!("limit: must be 1 to {max}"))),
    }
}

/// Id of the last event that a reader of a stream has seen: the header, or the parameter of clients that cannot set it.
pub(super) fn last_event_id<'a>(headers: &'a HeaderMap, parameter: Option<&'a str>) -> Option<&'a str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok()).or(parameter)
}

/// A cookie of a request.
#[must_use]
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = lines.flat_map(cookie::Cookie::split_parse).filter_map(Result::ok);
    cookies.filter(|cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned()).next()
}

/// The fields of a form, in their order.
///
/// # Errors
/// `invalid-header`: it is no form; `body-too-large` or `request-timeout`.
pub async fn form(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Vec<(String, String)>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        let detail = format!("content-type: {:?} is no form.", shorten(kind));
        return Err(Problem::new(Code::InvalidHeader, detail));
    }
    let text = self::body(body, bytes_max, timeout).await?;
    Ok(form_urlencoded::parse(&text).into_owned().collect())
}

/// A whole body, at most `bytes_max` long, within `timeout`.
///
/// # Errors
/// `body-too-large`, `request-timeout`, or the connection broke.
pub async fn body(body: Body, bytes_max: usize, timeout: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("The body is longer than the {bytes_max} bytes that this host accepts for this call."),
        )
    };
    let read = async {
        let mut frames = body.into_data_stream();
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut length = 0;
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(|_| {
                Problem::new(Code::RequestTimeout, "The connection broke before the whole body had arrived.")
            })?;
            length += frame.len();
            if length > bytes_max {
                if length > DISCARD_BYTES_MAX {
                    break;
                }
                rest = BytesMut::new();
            } else if first.is_empty() {
                first = frame;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&frame);
            }
        }
        if length > bytes_max {
            return Err(too_large());
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    };
    tokio::time::timeout(timeout, read).await.unwrap_or_else(|_| {
        Err(Problem::new(
            Code::RequestTimeout,
            "The body did not arrive within the time that this host allows.",
        ))
    })
}

/// A shape that a body is read into.
pub trait Shape<'a>: Deserialize<'a> {
    /// Every field.
    const FIELDS: &'static [&'static str];
}

/// Reads a JSON body. Only a wrong one is looked at twice, to say what is wrong with it.
///
/// # Errors
/// `malformed-json`, `unknown-field` or `invalid-field`.
pub fn json<'a, T: Shape<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    // A struct could also be read from a list of its values; nobody means that.
    if text.trim_ascii_start().first() != Some(&b'{') && serde_json::from_slice::<IgnoredAny>(text).is_ok() {
        let detail = "a JSON object is expected".to_owned();
        return Err(Problem::violations(
            Code::InvalidField,
            vec![Violation { pointer: String::new(), detail }],
        ));
    }
    serde_json::from_slice(text).map_err(|error| explain::<T>(text, &error))
}

fn explain<'a, T: Shape<'a>>(text: &'a [u8], error: &serde_json::Error) -> Problem {
    if text.trim_ascii().is_empty() {
        return Problem::new(Code::MalformedJson, "The body is empty; a JSON object is expected.");
    }
    if error.classify() != serde_json::error::Category::Data {
        return Problem::new(Code::MalformedJson, format!("The body is not well-formed JSON: {error}."));
    }
    if let Ok(fields) = serde_json::from_slice::<BTreeMap<Cow<'_, str>, IgnoredAny>>(text) {
        let unknown: Vec<_> = fields
            .keys()
            .filter(|name| !T::FIELDS.contains(&name.as_ref()))
            .map(|name| Violation {
                pointer: pointer(name),
                detail: format!("there is no field {:?}; there are {}", shorten(name), T::FIELDS.join(", ")),
            })
            .take(20)
            .collect();
        if !unknown.is_empty() {
            return Problem::violations(Code::UnknownField, unknown);
        }
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let (at, message) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(found) => (found.path().to_string(), found.inner().to_string()),
        Ok(_) => (String::new(), error.to_string()),
    };
    let message = message.split(" at line ").next().unwrap_or_default();
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let (at, message) = match missing {
        Some(name) => (pointer(name), "is missing".to_owned()),
        None if at == "." => (String::new(), plain(message)),
        None => (at.split('.').map(pointer).collect(), plain(message)),
    };
    Problem::violations(Code::InvalidField, vec![Violation { pointer: at, detail: message }])
}

/// A JSON pointer of one step.
fn pointer(name: &str) -> String {
    format!("/{}", shorten(name).replace('~', "~0").replace('/', "~1"))
}

/// The words of the libraries, for people who do not write Rust.
fn plain(message: &str) -> String {
    let mut text = message.to_owned();
    for (theirs, ours) in [
        ("expected u8", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected usize", "expected a whole number"),
        ("expected a borrowed string", "expected a string"),
        ("invalid digit found in string", "a whole number is expected"),
        ("cannot parse integer from empty string", "a whole number is expected"),
    ] {
        text = text.replace(theirs, ours);
    }
    text
}

/// A caller's text in a message: at most 64 characters of it.
pub fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(64) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// An answer in JSON.
pub fn reply<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut body = Vec::with_capacity(512);
    match serde_json::to_writer(&mut body, value) {
        Ok(()) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            Problem::internal(format_args!("an answer could not be written: {error}")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Sample<'a> {
        name: String,
        #[serde(borrow)]
        any: &'a RawValue,
        #[serde(default)]
        number: Option<u8>,
        #[serde(default)]
        tags: Vec<String>,
    }

    impl<'a> Shape<'a> for Sample<'a> {
        const FIELDS: &'static [&'static str] = &["name", "any", "number", "tags"];
    }

    #[test]
    fn a_wrong_body_is_explained() {
        for (text, code, words) in [
            ("", "malformed-json", "empty"),
            ("{", "malformed-json", "EOF"),
            ("{\"name\": }", "malformed-json", "line 1"),
            ("[1]", "invalid-field", "object"),
            ("3", "invalid-field", "object"),
            (r#"{"name": "a", "any": 1, "nmae": 2}"#, "unknown-field", "nmae"),
            (r#"{"name": "a"}"#, "invalid-field", "/any: is missing"),
            (
                r#"{"name": 5, "any": 1}"#,
                "invalid-field",
                "/name: invalid type: integer `5`, expected a string",
            ),
            (r#"{"name": "a", "any": 1, "number": "x"}"#, "invalid-field", "/number: invalid type: string"),
            (r#"{"name": "a", "any": 1, "number": 300}"#, "invalid-field", "/number: invalid value"),
            (r#"{"name": "a", "any": 1, "tags": ["a", 2]}"#, "invalid-field", "/tags"),
        ] {
            let problem = json::<Sample>(text.as_bytes()).unwrap_err();
            let detail = problem.document(None).detail.to_owned();
            assert_eq!(problem.code().name(), code, "{text}: {detail}");
            assert!(detail.contains(words), "{text}: {detail}");
        }
    }
}
