//! Every refusal has the right status, a stable code and a sentence that helps.

use crate::harness::{Host, TYPE};
use reqwest::Method;
use serde_json::Value;

/// What the document says of a call; `None` if it has no such call.
fn call<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let path: Vec<_> = path.split('?').next()?.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<_> = template.split('/').collect();
        let same = |(part, is): (&&str, &&str)| part == is || (part.starts_with('{') && !is.is_empty());
        parts.len() == path.len() && parts.iter().zip(&path).all(same)
    };
    // A path that is written out goes before one with a name in its place.
    let mut found: Vec<_> = document["paths"].as_object()?.iter().filter(|(path, _)| fits(path)).collect();
    found.sort_by_key(|(path, _)| path.matches('{').count());
    found.first()?.1.get(method.to_lowercase())
}

#[tokio::test]
async fn every_bad_request_is_refused_with_its_code_and_a_helpful_sentence() {
    let host = Host::start().await;
    let jobs = "/api/v1/jobs";
    let missing = "/api/v1/jobs/01K0Q5Z3V6T4S8W2R9YBXNC000";
    let table: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("POST", jobs, "", 400, "malformed-json", "empty"),
        ("POST", jobs, "{\"type\":", 400, "malformed-json", "EOF"),
        ("POST", jobs, "{'type':'x'}", 400, "malformed-json", "line 1"),
        ("POST", jobs, "\u{1}", 400, "malformed-json", "line 1"),
        ("POST", jobs, "[]", 422, "invalid-field", "object"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"inptu":2}"#, 422, "unknown-field", "inptu"),
        ("POST", jobs, r#"{"type":"elsewhere"}"#, 422, "invalid-field", "/input: is missing"),
        ("POST", jobs, r#"{"input":1}"#, 422, "invalid-field", "/type: is missing"),
        ("POST", jobs, r#"{"type":5,"input":1}"#, 422, "invalid-field", "/type: invalid type"),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"priority":"high"}"#,
            422,
            "invalid-field",
            "/priority",
        ),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"priority":10}"#, 422, "invalid-field", "0 to 9"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"priority":-1}"#, 422, "invalid-field", "/priority"),
        ("POST", jobs, r#"{"type":"Else Where","input":1}"#, 422, "invalid-field", "/type"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"queue":"a|b"}"#, 422, "invalid-field", "/queue"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"tags":["a",""]}"#, 422, "invalid-field", "/tags/1"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"tags":"a"}"#, 422, "invalid-field", "/tags"),
        ("POST", jobs, r#"{"type":"elsewhere","input":1,"metadata":[]}"#, 422, "invalid-field", "/metadata"),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"not_before":"soon"}"#,
            422,
            "invalid-field",
            "RFC 3339",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"delay_ms":1,"not_before":"2030-01-01T00:00:00Z"}"#,
            422,
            "invalid-field",
            "together",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"delay_ms":99999999999999}"#,
            422,
            "invalid-field",
            "ten years",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"max_attempts":0}"#,
            422,
            "invalid-field",
            "1 to 1000",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"retry":{"kinds":{"bad-luck":{}}}}"#,
            422,
            "invalid-field",
            "/retry/kinds: there is no such kind",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"retry":{"tries":3}}"#,
            422,
            "invalid-field",
            "tries",
        ),
        (
            "POST",
            jobs,
            r#"{"type":"elsewhere","input":1,"soft_limit_ms":9,"hard_limit_ms":5}"#,
            422,
            "invalid-field",
            "hard_limit_ms",
        ),
        ("POST", jobs, r#"{"type":"elsewhere","type":"x","input":1}"#, 422, "invalid-field", "duplicate"),
        ("POST", jobs, r#"{"type":"nosuch","input":1}"#, 422, "unknown-job-type", "nosuch"),
        ("POST", "/api/v1/jobs?wait_ms=x", "{}", 400, "invalid-query", "wait_ms"),
        ("POST", "/api/v1/jobs?wait_ms=99999999", "{}", 400, "invalid-query", "300000"),
        ("POST", "/api/v1/jobs?wiat_ms=1", "{}", 400, "invalid-query", "wiat_ms"),
        ("POST", "/api/v1/jobs/batch", "{", 400, "malformed-json", "JSON"),
        ("POST", "/api/v1/jobs/batch", r#"{"job":[]}"#, 422, "unknown-field", "job"),
        ("POST", "/api/v1/jobs/batch", r#"{"jobs":{}}"#, 422, "invalid-field", "/jobs"),
        ("GET", "/api/v1/jobs?cursor=nonsense", "", 400, "bad-cursor", "next_cursor"),
        ("GET", "/api/v1/jobs?limit=0", "", 400, "invalid-query", "1 to 1000"),
        ("GET", "/api/v1/jobs?limit=many", "", 400, "invalid-query", "whole number"),
        ("GET", "/api/v1/jobs?limit=1000&include=input", "", 400, "invalid-query", "1 to 100"),
        ("GET", "/api/v1/jobs?status=done", "", 400, "invalid-query", "succeeded"),
        ("GET", "/api/v1/jobs?include=everything", "", 400, "invalid-query", "input, result"),
        ("GET", "/api/v1/jobs?state=queued", "", 400, "invalid-query", "state"),
        ("GET", missing, "", 404, "unknown-job", "01K0Q5Z3V6T4S8W2R9YBXNC000"),
        ("GET", "/api/v1/jobs/17", "", 404, "unknown-job", "26 characters"),
        ("DELETE", missing, "", 404, "unknown-job", "no job"),
        ("POST", &format!("{missing}/pause"), "", 404, "unknown-job", "no job"),
        ("POST", &format!("{missing}/restart?from=x"), "", 400, "invalid-query", "from"),
        ("POST", &format!("{missing}/signals/go"), "", 404, "unknown-job", "no job"),
        ("POST", &format!("{missing}/signals/GO"), "", 422, "invalid-field", "signal"),
        ("POST", &format!("{missing}/signals/go"), "{", 400, "malformed-json", "payload"),
        ("GET", &format!("{missing}/events"), "", 404, "unknown-job", "no job"),
        ("GET", &format!("{missing}/events?only=everything"), "", 400, "invalid-query", "progress"),
        ("GET", &format!("{missing}/output"), "", 404, "unknown-job", "no job"),
        ("GET", &format!("{missing}/logs"), "", 404, "unknown-job", "no job"),
        ("GET", &format!("{missing}/checkpoint"), "", 404, "unknown-job", "no job"),
        ("GET", "/api/v1/plugins/nosuch", "", 404, "unknown-plugin", "nosuch"),
        ("DELETE", "/api/v1/plugins/nosuch", "", 404, "unknown-plugin", "nosuch"),
        ("PUT", "/api/v1/plugins/UPPER", "x", 422, "plugin-refused", "a-z"),
        ("PUT", "/api/v1/plugins/garbage", "no wasm", 422, "plugin-refused", ""),
        ("POST", "/api/v1/queues/a%7Cb/pause", "", 422, "invalid-field", "queue"),
        ("POST", "/api/v1/hosts/nosuch/drain", "", 404, "unknown-host", "nosuch"),
        ("GET", "/api/v1/nosuch", "", 404, "unknown-path", "openapi.json"),
        ("GET", "/api/v1/jobs/", "", 404, "unknown-path", ""),
        ("GET", "/api/v1/jobs/%FF", "", 404, "unknown-path", "UTF-8"),
        ("POST", "/api/v1/jobs/%FF/signals/go", "", 404, "unknown-path", "UTF-8"),
        ("POST", "/api/v1/routes/noop/%FF", "", 404, "unknown-path", "UTF-8"),
        ("PATCH", jobs, "", 405, "method-not-allowed", "PATCH"),
        ("PUT", jobs, "", 405, "method-not-allowed", "PUT"),
    ];
    let document = host.get("/api/v1/openapi.json").await.json();
    let mut described = 0;
    for (method, path, body, status, code, words) in table {
        let method: Method = method.parse().unwrap();
        let answer = host.send(host.request(method.clone(), path).body((*body).to_owned())).await;
        let what = format!("{method} {path} {body}: {} {}", answer.status, answer.text);
        assert_eq!(answer.status.as_u16(), *status, "{what}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
        let problem = answer.json();
        assert_eq!(problem["code"], *code, "{what}");
        assert_eq!(problem["status"], *status, "{what}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{what}");
        assert!(problem["type"].as_str().unwrap().ends_with(&format!("docs/errors/{code}.md")), "{what}");
        assert_eq!(problem["request_id"].as_str().unwrap(), answer.headers["x-request-id"], "{what}");
        if let Some(call) = call(&document, method.as_str(), path) {
            let reference = call["responses"][status.to_string()]["$ref"].as_str().unwrap_or_default();
            let codes = reference.rsplit('/').next().unwrap_or_default();
            assert!(codes.split('.').any(|named| named == *code), "{what}: the document says {codes:?}");
            described += 1;
        }
    }
    assert!(described > 50, "the document has only {described} of these calls");
    let list = host.get(jobs).await.json();
    assert_eq!(list["jobs"].as_array().unwrap().len(), 0, "a refused request made a job: {list}");
}

#[tokio::test]
async fn a_method_that_a_path_lacks_is_answered_with_those_it_has() {
    let host = Host::start().await;
    let answer = host.send(host.request(Method::PATCH, "/api/v1/jobs")).await;
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let host = Host::start().await;
    let body = format!(r#"{{"type":"{TYPE}","input":1,"priority":11,"queue":"","max_attempts":0}}"#);
    let problem = host.post("/api/v1/jobs", body).await.json();
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|one| one["pointer"].clone()).collect();
    assert_eq!(pointers, ["/queue", "/priority", "/max_attempts"]);
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused_and_the_answer_arrives() {
    let host = Host::start().await;
    let body = format!(r#"{{"type":"{TYPE}","input":"{}"}}"#, "x".repeat(10 << 20));
    let answer = host.post("/api/v1/jobs", body).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body-too-large"));
    let answer =
        host.post("/api/v1/jobs", format!(r#"{{"type":"{TYPE}","input":"{}"}}"#, "x".repeat(2 << 20))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "input-too-large"));
    let jobs = vec![format!(r#"{{"type":"{TYPE}","input":1}}"#); 10_001].join(",");
    let answer = host.post("/api/v1/jobs/batch", format!("[{jobs}]")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "batch-too-large"));
}

#[tokio::test]
async fn the_callers_request_id_is_kept_if_it_is_fit_to_be_logged() {
    let host = Host::start().await;
    let ask = |id: &'static str| host.send(host.request(Method::GET, "/healthz").header("x-request-id", id));
    assert_eq!(ask("abc-123").await.headers["x-request-id"], "abc-123");
    let answer = ask("two words").await;
    assert_eq!(answer.headers["x-request-id"].len(), 16);
    assert_ne!(answer.headers["x-request-id"], ask("two words").await.headers["x-request-id"]);
}

#[tokio::test]
async fn a_redis_that_is_away_is_said_to_be_away() {
    let mut host = Host::start().await;
    host.kill_redis();
    let answer = host.get("/api/v1/queues").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "store-unavailable"),
        "{}",
        answer.text
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.text.contains("redis.sock"), "{}", answer.text);
    assert_eq!(host.get("/healthz").await.status, 200);
    assert_eq!(host.get("/metrics").await.status, 200);
}
