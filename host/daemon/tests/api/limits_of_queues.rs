//! Limits of queues, flow keys, and unique keys of every kind, as a caller meets them.

use crate::harness::{Answer, Host, TYPE};
use reqwest::Method;
use serde_json::{Value, json};

async fn put(host: &Host, path: &str, body: Value) -> Answer {
    host.send(host.request(Method::PUT, path).body(body.to_string())).await
}

async fn create(host: &Host, more: Value) -> Answer {
    let mut body = json!({"type": TYPE, "input": {"n": 1}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host.post("/api/v1/jobs", body.to_string()).await
}

#[tokio::test]
async fn limits_are_set_shown_and_taken_away() {
    let host = Host::start().await;
    let path = "/api/v1/queues/mail/limits";
    assert_eq!(host.get(path).await.json()["limits"], Value::Null);
    let limits = json!({
        "concurrency": 5, "rate": {"count": 10, "per_ms": 1000, "burst": 3}, "key": "/metadata/tenant",
        "per_key": {"concurrency": 2, "rate": null}, "when_full": "replace",
    });
    let answer = put(&host, path, limits.clone()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["limits"]), (200, &limits), "{}", answer.text);
    // The flow key is found where the limits point, and shown.
    let job =
        create(&host, json!({"queue": "mail", "metadata": {"tenant": "a/b"}, "weight": 3})).await.json();
    assert_eq!((&job["flow_key"], &job["weight"]), (&json!("a/b"), &json!(3)));
    let shown = host.get(path).await.json();
    assert_eq!(shown["keys"], json!([{"key": "a/b", "waiting": 1, "running": 0}]));
    assert_eq!(host.send(host.request(Method::DELETE, path)).await.status, 204);
    assert_eq!(host.get(path).await.json()["limits"], Value::Null);
}

#[tokio::test]
async fn wrong_limits_are_refused_by_field() {
    let host = Host::start().await;
    for (body, code, words) in [
        (json!({"concurency": 1}), "unknown-field", "concurency"),
        (json!({"concurrency": 0}), "invalid-field", "/concurrency"),
        (json!({"concurrency": 2_000_000}), "invalid-field", "/concurrency"),
        (json!({"rate": {"count": 1}}), "invalid-field", "per_ms"),
        (json!({"key": "tenant"}), "invalid-field", "/key"),
        (json!({"when_full": "reject"}), "invalid-field", "/when_full"),
        (json!({"concurrency": 1, "when_full": "explode"}), "invalid-field", "/when_full"),
    ] {
        let answer = put(&host, "/api/v1/queues/mail/limits", body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (422, code), "{body}: {}", answer.text);
        assert!(answer.text.contains(words), "{body}: {}", answer.text);
    }
    for more in [
        json!({"unique_until": "started"}),
        json!({"replace_input": true}),
        json!({"unique_key": "u", "unique_until": "ended", "unique_for_ms": 5}),
        json!({"unique_key": "u", "unique_for_ms": 0}),
        json!({"weight": 0}),
        json!({"flow_key": ""}),
    ] {
        let answer = create(&host, more.clone()).await;
        assert_eq!(answer.code(), "invalid-field", "{more}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_code_that_says_so() {
    let host = Host::start().await;
    put(&host, "/api/v1/queues/one/limits", json!({"concurrency": 1, "when_full": "reject"})).await;
    assert_eq!(create(&host, json!({"queue": "one"})).await.status, 201);
    let answer = create(&host, json!({"queue": "one"})).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "limit-reached"));
    assert_eq!(answer.headers["retry-after"], "1");
    let job = json!({"type": TYPE, "input": {"n": 1}});
    let mut limited = job.clone();
    limited["queue"] = "one".into();
    let batch = json!({"jobs": [job, limited, job]});
    let answer = host.post("/api/v1/jobs/batch", batch.to_string()).await;
    assert_eq!(answer.status, 207);
    let outcomes = answer.json();
    assert_eq!((&outcomes["created"], &outcomes["refused"]), (&json!(2), &json!(1)), "{}", answer.text);
    assert_eq!(outcomes["jobs"][1]["error"]["code"], "limit-reached");
    assert!(outcomes["jobs"][2]["id"].is_string());
    // A workflow is a job in a queue too.
    let limits = json!({"concurrency": 1, "when_full": "reject"});
    put(&host, "/api/v1/queues/waymark.workflow/limits", limits).await;
    let workflow = json!({"chain": [{"type": TYPE, "input": {"n": 1}}]});
    assert_eq!(host.post("/api/v1/workflows", workflow.to_string()).await.status, 201);
    let answer = host.post("/api/v1/workflows", workflow.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "limit-reached"));
}

#[tokio::test]
async fn the_newest_input_stands_and_the_caller_is_told_whose_it_is() {
    let host = Host::start().await;
    let wish =
        |n: u32| json!({"input": {"n": n}, "unique_key": "u", "replace_input": true, "delay_ms": 60_000});
    let first = create(&host, wish(1)).await;
    assert_eq!(first.status, 201);
    let second = create(&host, wish(2)).await;
    assert_eq!(second.status, 200, "{}", second.text);
    let (first, second) = (first.json(), second.json());
    assert_eq!((&second["id"], &second["input"]), (&first["id"], &json!({"n": 2})));
    let shown = host.get(&format!("/api/v1/jobs/{}", first["id"].as_str().unwrap())).await.json();
    assert_eq!(shown["input"], json!({"n": 2}));
}
