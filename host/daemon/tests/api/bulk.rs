//! One control for many jobs.

use crate::harness::Host;
use serde_json::{Value, json};
use waymark_job::JobError;
use waymark_store::Then;

async fn step(host: &Host, rest: &str) -> Value {
    let answer = host.post(&format!("/api/v1/jobs/bulk/{rest}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn count(host: &Host, query: &str) -> usize {
    host.get(&format!("/api/v1/jobs?{query}")).await.json()["jobs"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let host = Host::start().await;
    for tag in ["a", "a", "b"] {
        host.submit(&format!(r#","tags":["{tag}"]"#)).await;
    }
    assert_eq!(
        step(&host, "cancel?tag=a&dry_run=true").await,
        json!({"matched": 2, "done": 0, "refused": 0, "next_cursor": null})
    );
    assert_eq!(count(&host, "status=queued").await, 3);
}

#[tokio::test]
async fn steps_go_on_from_each_other_until_every_job_did_as_asked() {
    let host = Host::start().await;
    for _ in 0..25 {
        host.submit("").await;
    }
    let kept = host.submit(r#","tags":["kept"]"#).await;
    let (mut cursor, mut done, mut steps) = (String::new(), 0, 0);
    loop {
        let step = step(&host, &format!("pause?status=queued&type=elsewhere&limit=10{cursor}")).await;
        assert!(step["matched"].as_u64().unwrap() <= 10);
        done += step["done"].as_u64().unwrap();
        steps += 1;
        match step["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((done, steps >= 3), (26, true));
    assert_eq!(count(&host, "status=paused").await, 26);
    // The same again finds nothing, and a repeated control is no refusal.
    assert_eq!(step(&host, "pause?status=queued").await["matched"], 0);
    assert_eq!(step(&host, "pause?tag=kept").await["done"], 1);
    assert_eq!(step(&host, "resume?tag=kept").await["done"], 1);
    assert_eq!(host.get(&format!("/api/v1/jobs/{kept}")).await.json()["status"], "queued");
    assert_eq!(step(&host, "delete?status=paused").await["done"], 25);
    assert_eq!(count(&host, "").await, 1);
}

#[tokio::test]
async fn jobs_in_a_state_that_does_not_fit_are_counted_and_left_alone() {
    let host = Host::start().await;
    let cancelled = host.submit("").await;
    host.submit("").await;
    assert_eq!(host.post(&format!("/api/v1/jobs/{cancelled}/cancel"), "").await.status, 202);
    let step = step(&host, "restart?type=elsewhere").await;
    assert_eq!((&step["matched"], &step["done"], &step["refused"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(host.get(&format!("/api/v1/jobs/{cancelled}")).await.json()["run"], 2);
}

#[tokio::test]
async fn no_filter_and_no_such_action_are_refused() {
    let host = Host::start().await;
    host.submit("").await;
    for (path, status, code) in [
        ("cancel", 400, "invalid-query"),
        ("cancel?limit=5", 400, "invalid-query"),
        ("cancel?status=lost", 400, "invalid-query"),
        ("cancel?limit=1001&type=elsewhere", 400, "invalid-query"),
        ("cancel?colour=red", 400, "invalid-query"),
        ("cancel?type=elsewhere&cursor=x", 400, "bad-cursor"),
        ("cancel?created_since=yesterday", 400, "invalid-query"),
        ("cancel?type=elsewhere&to=x", 400, "invalid-query"),
        ("move?type=elsewhere", 400, "invalid-query"),
        ("move?type=elsewhere&to=a|b", 400, "invalid-query"),
        ("priority?type=elsewhere&to=10", 400, "invalid-query"),
        ("explode?type=elsewhere", 404, "unknown-path"),
    ] {
        let answer = host.post(&format!("/api/v1/jobs/bulk/{path}"), "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, code),
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(count(&host, "status=queued").await, 1);
}

#[tokio::test]
async fn jobs_are_moved_and_given_another_priority_by_filter() {
    let host = Host::start().await;
    for tag in ["a", "a", "b"] {
        host.submit(&format!(r#","tags":["{tag}"]"#)).await;
    }
    let ended = host.submit(r#","tags":["a"]"#).await;
    assert_eq!(host.post(&format!("/api/v1/jobs/{ended}/cancel"), "").await.status, 202);
    assert_eq!(
        step(&host, "move?tag=a&to=night").await,
        json!({"matched": 3, "done": 2, "refused": 1, "next_cursor": null})
    );
    assert_eq!(count(&host, "queue=night").await, 2);
    assert_eq!(step(&host, "priority?queue=night&to=9").await["done"], 2);
    let job = host.claim().await.job;
    assert_eq!((job.spec.queue(), job.spec.priority), ("night", 9));
}

#[tokio::test]
async fn failed_jobs_are_found_by_kind_and_time_and_retried() {
    let host = Host::start().await;
    for kind in ["transient", "guest-trap"] {
        host.submit("").await;
        let mut claim = host.claim().await;
        host.commit(&mut claim, Then::Failed, |commit| {
            let error = JobError { kind: kind.into(), message: "no".into(), trace: None };
            commit.record.attempt_failed(error, 1_000);
        })
        .await;
    }
    assert_eq!(count(&host, "status=failed&error_kind=guest-trap").await, 1);
    assert_eq!(count(&host, "status=failed&ended_until=2020-01-01T00:00:00Z").await, 0);
    assert_eq!(count(&host, "status=failed&ended_since=2020-01-01T00:00:00Z").await, 2);
    assert_eq!(count(&host, "created_since=2099-01-01T00:00:00Z").await, 0);
    let none = step(&host, "retry?error_kind=guest-trap&created_until=2020-01-01T00:00:00Z").await;
    assert_eq!(none["matched"], 0);
    let retried = step(&host, "retry?error_kind=guest-trap").await;
    assert_eq!((&retried["done"], count(&host, "status=queued").await), (&json!(1), 1));
    let job = &host.get("/api/v1/jobs?status=queued").await.json()["jobs"][0];
    assert_eq!((&job["run"], &job["failures"][0]["kind"]), (&json!(2), &json!("guest-trap")), "{job}");
}
