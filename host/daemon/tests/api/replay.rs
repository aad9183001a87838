//! Jobs made from jobs that ended, and jobs moved to where they shall wait.

use crate::harness::{Host, TYPE};
use reqwest::Method;
use serde_json::{Value, json};

/// A cancelled job with everything that a submission can hold.
async fn dead(host: &Host) -> (String, Value) {
    let body = json!({
        "type": TYPE, "input": {"n": 1}, "queue": "night", "priority": 7, "max_attempts": 3,
        "retry": {"kinds": {"transient": {"base_ms": 5}}}, "soft_limit_ms": 1000, "hard_limit_ms": 2000,
        "metadata": {"who": "me"}, "tags": ["a"], "correlation_id": "c-1", "unique_key": "u-1",
    });
    let job = host.post("/api/v1/jobs", body.to_string()).await.json();
    let id = job["id"].as_str().unwrap().to_owned();
    assert_eq!(host.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.status, 202);
    (id, body)
}

#[tokio::test]
async fn a_replay_is_the_old_job_with_what_was_changed() {
    let host = Host::start().await;
    let (old, body) = dead(&host).await;
    let path = format!("/api/v1/jobs/{old}/replay");
    let answer = host.post(&path, "").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let same = answer.json();
    for name in
        ["type", "input", "queue", "priority", "retry", "metadata", "tags", "correlation_id", "unique_key"]
    {
        assert_eq!(same[name], body[name], "{name}: {same}");
    }
    assert_eq!((&same["replay_of"], &same["status"]), (&json!(old), &json!("queued")));
    // The first one stands for the unique key now.
    assert_eq!(host.post(&path, "").await.status, 200);
    let changes = r#"{"input":{"n":2.50},"queue":"day","priority":0,"unique_key":null,"delay_ms":60000}"#;
    let answer = host.post(&path, changes).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(answer.text.contains("2.50"), "{}", answer.text);
    let other = answer.json();
    assert_eq!(
        (&other["queue"], &other["priority"], &other["status"], &other["unique_key"]),
        (&json!("day"), &json!(0), &json!("scheduled"), &Value::Null)
    );
    let shown = host.get(&format!("/api/v1/jobs/{old}")).await.json();
    assert_eq!(shown["replays"], json!([same["id"], other["id"]]), "{shown}");
}

#[tokio::test]
async fn a_replay_is_checked_like_a_submission() {
    let host = Host::start().await;
    let (old, _) = dead(&host).await;
    let live = host.submit("").await.to_string();
    for (id, body, status, code) in [
        (old.as_str(), r#"{"priority":10}"#, 422, "invalid-field"),
        (&old, r#"{"type":"noop"}"#, 422, "invalid-field"),
        (&old, r#"{"colour":"red"}"#, 422, "unknown-field"),
        (&old, "[]", 422, "invalid-field"),
        (&old, "{", 400, "malformed-json"),
        (&live, "", 409, "wrong-state"),
        ("nosuch", "", 404, "unknown-job"),
    ] {
        let answer = host.post(&format!("/api/v1/jobs/{id}/replay"), body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}: {}",
            answer.text
        );
    }
    assert_eq!(host.get("/api/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_job_that_waits_is_moved_and_one_that_ended_is_not() {
    let host = Host::start().await;
    let id = host.submit("").await.to_string();
    let (old, _) = dead(&host).await;
    let change = |id: &str, body: &'static str| {
        host.send(host.request(Method::PATCH, &format!("/api/v1/jobs/{id}")).body(body))
    };
    let answer = change(&id, r#"{"queue":"night","priority":4}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((&answer.json()["queue"], &answer.json()["priority"]), (&json!("night"), &json!(4)));
    for (id, body, status, code) in [
        (old.as_str(), r#"{"priority":1}"#, 409, "wrong-state"),
        (&id, r#"{"priority":11}"#, 422, "invalid-field"),
        (&id, r#"{"queue":"a b"}"#, 422, "invalid-field"),
        (&id, "{}", 422, "invalid-field"),
        (&id, r#"{"tags":[]}"#, 422, "unknown-field"),
        ("nosuch", r#"{"priority":1}"#, 404, "unknown-job"),
    ] {
        let answer = change(id, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{body}: {}",
            answer.text
        );
    }
    let queues = host.get("/api/v1/queues").await.json();
    let night = queues["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "night");
    assert_eq!(night.unwrap()["depth"], 1, "{queues}");
}

#[tokio::test]
async fn only_a_failed_job_is_retried() {
    let host = Host::start().await;
    let (old, _) = dead(&host).await;
    let answer = host.post(&format!("/api/v1/jobs/{old}/retry"), "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "wrong-state"), "{}", answer.text);
}
