//! Headers of a request: what a guest may not say, and secrets that the host says for it.

use super::config::Target;
use crate::secrets::Secrets;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error};
use waymark_job::Trace;

/// Headers about the connection, beyond those that the library refuses: they say where a request ends and who reads
/// it, and a server behind another might believe them.
const FORBIDDEN: [HeaderName; 4] = [header::TE, header::TRAILER, header::EXPECT, header::VIA];
/// Headers of one request, in all.
const BYTES_MAX: usize = 32 << 10;
/// Where a secret belongs: `{{secret:name}}`.
const OPEN: &str = "{{secret:";
const CLOSE: &str = "}}";

/// May a guest not set it?
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || FORBIDDEN.contains(name)
}

/// Tells where in a trace the request stands, unless the guest says so itself.
pub(super) fn trace(headers: &mut HeaderMap, trace: &Trace) {
    if headers.contains_key("traceparent") {
        return;
    }
    let state = (!trace.state.is_empty()).then_some(&trace.state);
    for (name, value) in [("traceparent", Some(&trace.parent())), ("tracestate", state)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Fills secrets in, and refuses what may not be sent. `host` is the only header of the host's own.
///
/// # Errors
/// The request is not to be sent; nothing in the error tells a secret.
pub(super) fn prepare(headers: &mut HeaderMap, target: &Target, secrets: &Secrets) -> Result<(), Error> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > BYTES_MAX {
        return Err(Error::HttpRequestHeaderSectionSize(u32::try_from(BYTES_MAX).ok()));
    }
    let one = |name: HeaderName| headers.get_all(name).iter().count() <= 1;
    if !one(header::CONTENT_LENGTH) || !one(header::HOST) {
        return Err(Error::HttpRequestDenied);
    }
    for (name, value) in headers.iter_mut() {
        if *name != header::HOST && is_forbidden(name) {
            return Err(Error::HttpRequestDenied);
        }
        let Ok(text) = value.to_str() else { continue };
        if text.contains(OPEN) {
            let filled = fill(text, target, secrets).ok_or(Error::HttpRequestDenied)?;
            *value = HeaderValue::from_str(&filled).map_err(|_| Error::ConfigurationError)?;
            value.set_sensitive(true);
        }
    }
    Ok(())
}

/// `None`: a secret that this target may not have.
fn fill(text: &str, target: &Target, secrets: &Secrets) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, after) = after.split_once(CLOSE)?;
        filled.push_str(before);
        filled
            .push_str(target.secrets.iter().find(|known| *known == name).and_then(|name| secrets.get(name))?);
        rest = after;
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Source;
    use std::collections::BTreeMap;

    fn prepared(pairs: &[(&str, &str)]) -> Result<HeaderMap, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret").unwrap();
        let broken = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(broken.path(), "a\r\nb: c").unwrap();
        let source = |file: &tempfile::NamedTempFile| Source::File(file.path().to_owned());
        let sources = [("key", source(&file)), ("other", source(&file)), ("broken", source(&broken))];
        let sources: BTreeMap<_, _> = sources.map(|(name, source)| (name.to_owned(), source)).into();
        let target = Target {
            host: "a".into(),
            schemes: vec![],
            ports: vec![],
            private: false,
            secrets: vec!["key".into(), "broken".into()],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        prepare(&mut headers, &target, &Secrets::read(&sources).unwrap()).map(|()| headers)
    }

    #[test]
    fn a_secret_is_filled_in_where_its_target_may_have_it() {
        let headers = prepared(&[("authorization", "Bearer {{secret:key}}"), ("x", "{{other}}")]).unwrap();
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x"], "{{other}}");
        for value in ["{{secret:other}}", "{{secret:none}}", "{{secret:key", "{{secret:{{secret:key}}}}"] {
            assert!(matches!(prepared(&[("x", value)]), Err(Error::HttpRequestDenied)), "{value}");
        }
        assert!(matches!(prepared(&[("x", "{{secret:broken}}")]), Err(Error::ConfigurationError)));
    }

    #[test]
    fn headers_that_would_smuggle_a_request_are_refused() {
        let smuggled = [
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("expect", "100-continue"),
            ("keep-alive", "1"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
        ];
        for pair in smuggled {
            assert!(prepared(&[pair]).is_err(), "{pair:?}");
        }
        assert!(prepared(&[("content-length", "1"), ("content-length", "2")]).is_err());
        assert!(prepared(&[("host", "a"), ("host", "b")]).is_err());
        assert!(prepared(&[("x", &"y".repeat(40_000))]).is_err());
    }
}
