//! Creating, listing, controlling and deleting jobs.

use crate::harness::{Host, TYPE};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;
use waymark_job::JobError;
use waymark_store::Then;

#[tokio::test]
async fn a_job_is_shown_as_it_was_submitted() {
    let host = Host::start().await;
    let body = json!({
        "type": TYPE, "input": {"n": 1, "text": "ä"}, "queue": "night", "priority": 7, "max_attempts": 3,
        "soft_limit_ms": 1000, "hard_limit_ms": 2000, "metadata": {"who": "me"}, "tags": ["a", "b"],
        "correlation_id": "c-1", "unique_key": "u-1",
    });
    let answer = host.post("/api/v1/jobs", body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let job = answer.json();
    let id = job["id"].as_str().unwrap();
    assert_eq!(answer.headers["location"], format!("/api/v1/jobs/{id}"));
    let shown = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job, shown);
    for (name, value) in [
        ("type", json!(TYPE)),
        ("queue", json!("night")),
        ("status", json!("queued")),
        ("priority", json!(7)),
        ("progress", Value::Null),
        ("attempt", json!(0)),
        ("run", json!(1)),
        ("input", body["input"].clone()),
        ("result", Value::Null),
        ("error", Value::Null),
        ("metadata", json!({"who": "me"})),
        ("tags", json!(["a", "b"])),
        ("correlation_id", json!("c-1")),
        ("plugin_version", Value::Null),
        ("host", Value::Null),
        ("started_at", Value::Null),
        ("ended_at", Value::Null),
        ("not_before", Value::Null),
    ] {
        assert_eq!(shown[name], value, "{name}: {shown}");
    }
    let created = shown["created_at"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == 24, "{created}");
}

#[tokio::test]
async fn a_number_in_an_input_is_kept_to_the_last_digit() {
    let host = Host::start().await;
    let input = r#"{"n":123456789012345678901234567890.10}"#;
    let answer = host.post("/api/v1/jobs", format!(r#"{{"type":"{TYPE}","input":{input}}}"#)).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert!(host.get(&format!("/api/v1/jobs/{id}")).await.text.contains(input));
}

#[tokio::test]
async fn a_delayed_job_is_scheduled() {
    let host = Host::start().await;
    let id = host.submit(r#","delay_ms":3600000"#).await;
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["status"], "scheduled");
    assert!(job["not_before"].is_string(), "{job}");
    let id = host.submit(r#","not_before":"2099-01-01T01:00:00+01:00""#).await;
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["not_before"], "2099-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn an_idempotency_key_makes_one_job() {
    let host = Host::start().await;
    let send = |body: String| {
        host.send(host.request(Method::POST, "/api/v1/jobs").header("idempotency-key", "k1").body(body))
    };
    let body = format!(r#"{{"type":"{TYPE}","input":1}}"#);
    let first = send(body.clone()).await;
    let second = send(body.clone()).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    assert_eq!(first.json()["id"], second.json()["id"]);
    let other = send(format!(r#"{{"type":"{TYPE}","input":2}}"#)).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (422, "idempotency-key-reused"));
    let wrong = host.request(Method::POST, "/api/v1/jobs").header("idempotency-key", "").body(body);
    let wrong = host.send(wrong).await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (400, "invalid-header"));
}

#[tokio::test]
async fn a_unique_key_makes_one_job_until_it_has_ended() {
    let host = Host::start().await;
    let body = format!(r#"{{"type":"{TYPE}","input":1,"unique_key":"u"}}"#);
    let first = host.post("/api/v1/jobs", body.clone()).await;
    let second = host.post("/api/v1/jobs", body.clone()).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(second.json()["id"], id.as_str());
    assert_eq!(host.post(&format!("/api/v1/jobs/{id}/cancel"), "").await.status, 202);
    assert_eq!(host.post("/api/v1/jobs", body).await.status, 201);
}

#[tokio::test]
async fn the_correlation_id_may_come_as_a_header() {
    let host = Host::start().await;
    let body = format!(r#"{{"type":"{TYPE}","input":1}}"#);
    let request = host.request(Method::POST, "/api/v1/jobs").header("x-correlation-id", "h-1").body(body);
    assert_eq!(host.send(request).await.json()["correlation_id"], "h-1");
}

#[tokio::test]
async fn a_batch_makes_the_valid_jobs_and_refuses_the_others() {
    let host = Host::start().await;
    let body = format!(
        r#"{{"jobs":[{{"type":"{TYPE}","input":1}},{{"type":"nosuch","input":1}},{{"type":"{TYPE}","input":2,"x":1}},{{"type":"{TYPE}","input":3}}]}}"#
    );
    let answer = host.post("/api/v1/jobs/batch", body).await;
    assert_eq!(answer.status, 207, "{}", answer.text);
    let outcomes = answer.json();
    assert_eq!((&outcomes["created"], &outcomes["refused"]), (&json!(2), &json!(2)));
    let jobs = outcomes["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 4);
    assert_eq!(jobs[0]["status"], "queued");
    assert_eq!(jobs[1]["error"]["code"], "unknown-job-type");
    assert_eq!(jobs[2]["error"]["code"], "unknown-field");
    let third = host.get(&format!("/api/v1/jobs/{}", jobs[3]["id"].as_str().unwrap())).await.json();
    assert_eq!(third["input"], 3);
    let bare = host.post("/api/v1/jobs/batch", format!(r#"[{{"type":"{TYPE}","input":1}}]"#)).await;
    assert_eq!(bare.status, 201);
    assert_eq!(host.post("/api/v1/jobs/batch", "[]").await.status, 201);
}

#[tokio::test]
async fn a_list_is_walked_newest_first_and_filtered() {
    let host = Host::start().await;
    let mut ids = Vec::new();
    for index in 0..7 {
        let tag = if index % 2 == 0 { "even" } else { "odd" };
        ids.push(
            host.submit(&format!(r#","tags":["{tag}"],"correlation_id":"c{}""#, index / 3)).await.to_string(),
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/api/v1/jobs?limit=3".to_owned();
    loop {
        let page = host.get(&path).await.json();
        let jobs = page["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 3);
        seen.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        assert!(jobs.iter().all(|job| job.get("input").is_none()), "{page}");
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/jobs?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = async |query: &str| {
        host.get(&format!("/api/v1/jobs?{query}")).await.json()["jobs"].as_array().unwrap().len()
    };
    assert_eq!(count("tag=odd").await, 3);
    assert_eq!(count("correlation_id=c1").await, 3);
    assert_eq!(count(&format!("type={TYPE}&status=queued,running")).await, 7);
    assert_eq!(count("type=other").await, 0);
    assert_eq!(count("status=succeeded").await, 0);
    let page = host.get("/api/v1/jobs?include=input,result&limit=1").await.json();
    assert_eq!(page["jobs"][0]["input"], json!({"n": 1}));
}

#[tokio::test]
async fn controls_are_accepted_where_they_fit_and_refused_with_the_state_elsewhere() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let control = async |verb: &str| {
        let answer = host.post(&format!("/api/v1/jobs/{id}/{verb}"), "").await;
        let body = answer.json();
        let state = if answer.status == 202 { &body["status"] } else { &body["job_status"] };
        (answer.status.as_u16(), state.as_str().unwrap_or_default().to_owned())
    };
    let was = |status, state: &str| (status, state.to_owned());
    assert_eq!(control("restart").await, was(409, "queued"));
    assert_eq!(control("resume").await, was(202, "queued"));
    assert_eq!(control("pause").await, was(202, "paused"));
    assert_eq!(control("pause").await, was(202, "paused"));
    assert_eq!(control("resume").await, was(202, "queued"));
    assert_eq!(control("cancel").await, was(202, "cancelled"));
    assert_eq!(control("cancel").await, was(202, "cancelled"));
    assert_eq!(control("pause").await, was(409, "cancelled"));
    assert_eq!(control("resume").await, was(409, "cancelled"));
    assert_eq!(control("restart").await, was(202, "queued"));
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["run"], 2);
    control("cancel").await;
    let answer = host.post(&format!("/api/v1/jobs/{id}/restart?from=3"), "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "no-checkpoint"));
}

#[tokio::test]
async fn a_running_job_pauses_at_the_end_of_its_step() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let mut claim = host.claim().await;
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["status"], "running");
    assert!(job["host"].is_string(), "{job}");
    let answer = host.post(&format!("/api/v1/jobs/{id}/pause"), "").await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        (&answer.json()["status"], &answer.json()["pause_pending"]),
        (&json!("running"), &json!(true))
    );
    host.commit(&mut claim, Then::Continue, |_| {}).await;
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["status"], "paused");
}

#[tokio::test]
async fn a_deleted_job_is_gone() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let answer = host.send(host.request(Method::DELETE, &format!("/api/v1/jobs/{id}"))).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
    assert_eq!(host.get(&format!("/api/v1/jobs/{id}")).await.code(), "unknown-job");
    assert_eq!(host.send(host.request(Method::DELETE, &format!("/api/v1/jobs/{id}"))).await.status, 404);
}

#[tokio::test]
async fn a_long_poll_answers_when_the_job_ends() {
    let host = Host::start().await;
    let body = format!(r#"{{"type":"{TYPE}","input":1}}"#);
    let poll = host.post("/api/v1/jobs?wait_ms=20000", body);
    let work = async {
        // The job is claimed as soon as it is there.
        while host.store.counts().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut claim = host.claim().await;
        let result = r#"{"sum":3}"#.to_owned();
        let ended = Instant::now();
        host.commit(&mut claim, Then::Succeeded { result }, |_| {}).await;
        ended
    };
    let (answer, ended) = tokio::join!(poll, work);
    assert!(ended.elapsed() < Duration::from_millis(500), "{:?}", ended.elapsed());
    let job = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &job["status"], &job["result"]),
        (201, &json!("succeeded"), &json!({"sum": 3}))
    );
    assert_eq!((&job["attempt"], &job["plugin_version"]), (&json!(1), &json!("1.2.3")));
    assert!(job["started_at"].is_string() && job["ended_at"].is_string(), "{job}");
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let begin = Instant::now();
    let job = host.get(&format!("/api/v1/jobs/{id}?wait_ms=300")).await.json();
    assert_eq!(job["status"], "queued");
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_failed_job_says_why() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let mut claim = host.claim().await;
    claim.record.attempt = 1;
    claim.record.error = Some(JobError {
        kind: "guest-trap".into(),
        message: "unreachable".into(),
        trace: Some("at x".into()),
    });
    host.commit(&mut claim, Then::Failed, |_| {}).await;
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"], json!({"kind": "guest-trap", "message": "unreachable", "trace": "at x"}));
    assert_eq!(job["attempt"], 1);
}

#[tokio::test]
async fn a_hundred_controls_at_once_leave_one_legal_state() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let verbs = ["pause", "resume", "cancel", "restart"];
    let all = (0..100).map(|index| {
        let path = format!("/api/v1/jobs/{id}/{}", verbs[index % 4]);
        let host = &host;
        async move { host.post(&path, "").await }
    });
    let answers = futures_util::future::join_all(all).await;
    let statuses: BTreeSet<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert!(statuses.iter().all(|status| [202, 409].contains(status)), "{statuses:?}");
    let job = host.get(&format!("/api/v1/jobs/{id}")).await.json();
    let status = job["status"].as_str().unwrap();
    let listed = host.get("/api/v1/jobs").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(listed["jobs"][0]["status"], status);
    assert!(["queued", "paused", "cancelled"].contains(&status), "{status}");
}

#[tokio::test]
async fn a_signal_is_kept_until_the_job_asks_and_refused_after_its_end() {
    let host = Host::start().await;
    let id = host.submit("").await;
    let answer = host.post(&format!("/api/v1/jobs/{id}/signals/go"), r#"{"yes":true}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["delivered"]), (202, &json!(false)));
    host.post(&format!("/api/v1/jobs/{id}/cancel"), "").await;
    let answer = host.post(&format!("/api/v1/jobs/{id}/signals/go"), "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (409, "wrong-state"));
}
