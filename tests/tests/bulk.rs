//! What becomes of jobs that failed, and what an operator can do with many jobs.

use serde_json::{Value, json};
use waymark_tests::World;

fn counter(input: Value) -> Value {
    json!({"type": "counter", "input": input})
}

/// A counter with something to say about its retries.
fn retrying(input: Value, retry: Value) -> Value {
    json!({"type": "counter", "input": input, "retry": retry})
}

#[test]
fn a_job_and_its_type_have_their_own_word_about_each_kind_of_failure() {
    let world = World::new(
        "[defaults.retry]\nbase_ms = 10\nmax_attempts = 3\n\
         [plugins.counter.retry.kinds]\nguest-trap = { max_attempts = 2 }\npermanent = { retry = true }\n",
    );
    let host = world.host(&["counter"]);
    let transient = json!({"steps": 2, "transient_at": 1, "transient_attempts": 1_000_000});
    let panics = json!({"steps": 2, "panic_at": 1});
    let permanent = json!({"steps": 2, "fail_at": 1});
    for (job, kind, attempts) in [
        (counter(transient.clone()), "transient", 3),
        (counter(panics.clone()), "guest-trap", 2),
        (counter(permanent.clone()), "permanent", 3),
        (retrying(transient.clone(), json!({"max_attempts": 2})), "transient", 2),
        (retrying(transient.clone(), json!({"kinds": {"transient": {"retry": false}}})), "transient", 1),
        (retrying(panics.clone(), json!({"max_attempts": 4, "backoff": "fixed"})), "guest-trap", 4),
        (retrying(permanent, json!({"retry": false})), "permanent", 1),
        (
            retrying(
                transient,
                json!({"base_ms": 3_600_000, "max_ms": 3_600_000, "jitter": false, "max_age_ms": 60_000}),
            ),
            "transient",
            1,
        ),
    ] {
        let id = host.submit(&job);
        let ended = host.ended(&id);
        assert_eq!(
            (&ended["status"], &ended["error"]["kind"], &ended["attempt"]),
            (&json!("failed"), &json!(kind), &json!(attempts)),
            "{job}: {ended}"
        );
        let failures = ended["failures"].as_array().expect("the failed attempts");
        assert_eq!(failures.len(), attempts, "{ended}");
        for (at, failure) in failures.iter().enumerate() {
            assert_eq!((&failure["kind"], &failure["attempt"]), (&json!(kind), &json!(at + 1)), "{ended}");
        }
    }
}

#[test]
fn a_pause_a_stop_and_a_lost_lease_cost_no_attempt() {
    let world = World::new("[worker]\nlease_ms = 1000\n[defaults.retry]\nmax_attempts = 1\n");
    let mut first = world.host(&["counter"]);
    let id = first.submit(&counter(json!({"steps": 100, "work_us": 10_000})));
    let _ = first.reaches(&id, "running");
    first.control(&id, "pause").expect(202);
    let _ = first.reaches(&id, "paused");
    first.control(&id, "resume").expect(202);
    let _ = first.reaches(&id, "running");
    let _ = first.stop();
    let mut second = world.host(&["counter"]);
    let _ = second.reaches(&id, "running");
    second.kill();
    let third = world.host(&["counter"]);
    assert_eq!(third.result(&id)["sum"], 5_050);
    let job = third.job(&id);
    assert_eq!(
        (&job["attempt"], &job["run"], &job["failures"]),
        (&json!(1), &json!(1), &Value::Null),
        "{job}"
    );
    // Each host where it was is told, and who asked for what.
    let history = job["history"].as_array().expect("a history");
    let what: Vec<_> = history.iter().map(|one| one["what"].as_str().expect("a word")).collect();
    assert_eq!(what, ["paused", "pause", "resume", "released", "lost", "succeeded"], "{job}");
    let by: Vec<_> = history.iter().map(|one| one["by"].as_str().expect("a name")).collect();
    assert_eq!((by[1], by[2], by[0] == by[3]), ("local", "local", true), "{by:?}");
    assert!(by[3] != by[4] && by[4] != by[5] && job["host"] == by[5], "{by:?}");
    for one in history {
        assert!(one["since"].is_null() || one["since"].as_str() <= one["at"].as_str(), "{one}");
    }
    let page = third.request("GET", &format!("/jobs/{id}"), &[("accept", "text/html")], b"");
    assert!(page.status == 200 && page.body.to_string().contains("Resumed by"), "{}", page.body);
}
