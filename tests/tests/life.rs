//! What a caller can do with a job, from its submission to its end.

use crate::support::{at_ms, between_ms};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};
use waymark_tests::{
    World, at_once,
    client::{Client, is_ended},
    guest,
    host::Host,
};

/// Commits after every step and retries at once.
const EVERY_STEP: &str = "
[plugins.counter]
checkpoint = { every_steps = 1 }
[plugins.counter.retry]
max_attempts = 3
base_ms = 20
max_ms = 100
";

fn sum(steps: u64) -> u64 {
    steps * (steps + 1) / 2
}

fn counter(input: Value) -> Value {
    json!({"type": "counter", "input": input})
}

/// The `step` of every output record.
fn steps(outputs: &[Value]) -> Vec<u64> {
    outputs.iter().map(|record| record["step"].as_u64().expect("a step")).collect()
}

/// The `step` of every line that the counter logs once per step.
#[track_caller]
fn logged(host: &Client, id: &str, lines: usize) -> Vec<u64> {
    let from = Instant::now();
    loop {
        let page = host.get(&format!("/api/v1/jobs/{id}/logs")).expect(200);
        let all = page["lines"].as_array().expect("lines");
        let counted = all.iter().filter(|line| line["message"] == "counted");
        let steps: Vec<_> = counted.map(|line| line["fields"]["step"].as_u64().expect("a step")).collect();
        // Lines of a job that has just failed for now may still be on their way.
        if steps.len() >= lines {
            return steps;
        }
        assert!(from.elapsed() < Duration::from_secs(2), "{} of {lines} lines: {steps:?}", steps.len());
    }
}

fn hold(host: &Client, queue: &str) {
    host.post(&format!("/api/v1/queues/{queue}/pause"), &Value::Null).expect(202);
}

fn release(host: &Client, queue: &str) {
    host.post(&format!("/api/v1/queues/{queue}/resume"), &Value::Null).expect(202);
}

fn signal(host: &Client, id: &str, name: &str, payload: &Value) -> Value {
    host.post(&format!("/api/v1/jobs/{id}/signals/{name}"), payload).expect(202)["delivered"].clone()
}

/// The id under which a host writes into jobs.
fn name_of(host: &Host) -> String {
    host.get("/api/v1/hosts").expect(200)["this"].as_str().expect("an id").to_owned()
}

fn runs_on(job: &Value, host: &str) -> bool {
    job["host"].as_str().is_some_and(|worker| worker.starts_with(host))
}

#[test]
fn a_submitted_job_runs_and_its_result_is_kept() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let request = json!({
        "type": "counter", "input": {"steps": 10}, "metadata": {"why": [1, 2.50]}, "tags": ["a", "b"],
        "correlation_id": "the whole", "priority": 3,
    });
    let answer = host.post("/api/v1/jobs", &request);
    let location = answer.location.clone().expect("a location");
    let created = answer.expect(201);
    let id = created["id"].as_str().expect("an id").to_owned();
    assert_eq!(location, format!("/api/v1/jobs/{id}"));
    assert_eq!(
        (&created["status"], &created["attempt"], &created["run"]),
        (&json!("queued"), &json!(0), &json!(1))
    );
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["result"], json!({"sum": 55, "steps": 10, "children_sum": 0, "signal": null}));
    for (field, value) in [
        ("type", json!("counter")),
        ("queue", json!("counter")),
        ("priority", json!(3)),
        ("attempt", json!(1)),
        ("run", json!(1)),
        ("error", Value::Null),
        ("input", json!({"steps": 10})),
        ("metadata", json!({"why": [1, 2.50]})),
        ("tags", json!(["a", "b"])),
        ("correlation_id", json!("the whole")),
    ] {
        assert_eq!(job[field], value, "{field}");
    }
    assert_eq!(job["progress"]["percent"], 100.0);
    assert_eq!(job["plugin_version"], host.get("/api/v1/plugins/counter").body["version"]);
    assert!(runs_on(&job, &name_of(&host)), "{job}");
    assert!(
        at_ms(&job["created_at"]) <= at_ms(&job["started_at"])
            || between_ms(&job["created_at"], &job["started_at"]) < 60_000
    );
    assert!(between_ms(&job["started_at"], &job["ended_at"]) < 30_000, "{job}");
    assert_eq!(host.job(&id), job, "it is kept");
}

#[test]
fn a_delayed_job_starts_no_sooner_than_asked() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let mut late = counter(json!({"steps": 1}));
    late["delay_ms"] = json!(900);
    let first = host.post("/api/v1/jobs", &late).expect(201);
    assert_eq!(first["status"], "scheduled");
    assert_eq!(between_ms(&first["created_at"], &first["not_before"]) / 100, 9);
    let mut as_late = counter(json!({"steps": 1}));
    as_late["not_before"] = first["not_before"].clone();
    let second = host.submit(&as_late);
    let soon = host.submit(&counter(json!({"steps": 1})));
    assert_eq!(host.result(&soon)["sum"], 1);
    let first_id = first["id"].as_str().expect("an id");
    assert_eq!(host.job(first_id)["status"], "scheduled", "a job without a delay does not wait for it");
    for id in [first_id, &second] {
        assert_eq!(host.result(id)["sum"], 1);
        let started = host.job(id)["started_at"].clone();
        let waited = between_ms(&first["created_at"], &started);
        assert!((900..2_500).contains(&waited), "started after {waited} ms");
    }
}

#[test]
fn a_job_that_sleeps_is_scheduled_and_goes_on_where_it_was() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let id = host.submit(&counter(json!({"steps": 10, "sleep_ms": 700, "emit": true, "log": true})));
    let asleep = host.reaches(&id, "scheduled");
    assert_eq!((&asleep["progress"]["current"], &asleep["outputs"]), (&json!(5), &json!(5)));
    assert!(asleep["not_before"].is_string());
    assert_eq!(host.result(&id)["sum"], sum(10));
    let job = host.job(&id);
    assert!(between_ms(&job["started_at"], &job["ended_at"]) >= 700, "{job}");
    assert_eq!(job["attempt"], 1, "sleeping costs no attempt");
    assert_eq!(steps(&host.outputs(&id)), (1..=10).collect::<Vec<_>>());
    assert_eq!(logged(&host, &id, 10), (1..=10).collect::<Vec<_>>(), "no step ran twice");
}

/// Positions of the jobs in the order in which they ended.
fn order(host: &Client, ids: &[String]) -> Vec<usize> {
    let mut ended: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let job = host.ended(id);
            assert_eq!(job["status"], "succeeded", "{job}");
            (job["ended_at"].as_str().expect("a time").to_owned(), index)
        })
        .collect();
    ended.sort();
    ended.into_iter().map(|(_, index)| index).collect()
}

#[test]
fn higher_priorities_go_first_and_lower_ones_do_not_starve() {
    let world = World::new("[worker]\nslots = 1\n");
    let host = world.host(&["counter"]);
    let job = |priority: u64| json!({"type": "counter", "priority": priority, "input": {"steps": 1, "work_us": 12_000}});
    // The average stay must be known before the line is opened: short jobs are claimed ahead.
    let warm = host.submit_all(&vec![job(0); 20]);
    order(&host, &warm);

    hold(&host, "counter");
    let priorities: Vec<u64> = (0..30).map(|index| [0, 9, 5][index % 3]).collect();
    let ids = host.submit_all(&priorities.iter().map(|priority| job(*priority)).collect::<Vec<_>>());
    release(&host, "counter");
    let mean = |priority: u64, order: &[usize]| {
        let places = order.iter().enumerate().filter(|(_, index)| priorities[**index] == priority);
        places.map(|(place, _)| place).sum::<usize>() / 10
    };
    let ended = order(&host, &ids);
    let means = [9, 5, 0].map(|priority| mean(priority, &ended));
    assert!(
        means[0] < 9 && (11..19).contains(&means[1]) && means[2] > 20,
        "mean places of 9, 5, 0: {means:?}"
    );

    hold(&host, "counter");
    let mut line = vec![job(9); 79];
    line.insert(0, job(0));
    let ids = host.submit_all(&line);
    release(&host, "counter");
    let place = order(&host, &ids).iter().position(|index| *index == 0).expect("it ended");
    assert!(place < 60, "the job of priority 0 ended at place {place} of 80, behind all others");
}

#[test]
fn a_retry_goes_on_from_the_last_commit() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let input = json!({"steps": 10, "transient_at": 6, "transient_attempts": 2, "emit": true, "log": true});
    let id = host.submit(&counter(input));
    assert_eq!(host.result(&id)["sum"], sum(10));
    let job = host.job(&id);
    assert_eq!((&job["attempt"], &job["run"], &job["error"]), (&json!(3), &json!(1), &Value::Null));
    assert_eq!(steps(&host.outputs(&id)), (1..=10).collect::<Vec<_>>());
    assert_eq!(logged(&host, &id, 10), (1..=10).collect::<Vec<_>>(), "no committed step ran again");
}

#[test]
fn a_retry_without_a_commit_begins_again_and_emits_nothing_twice() {
    let world =
        World::new("[plugins.counter]\ncheckpoint = { every_ms = 60000 }\nretry = { base_ms = 20 }\n");
    let host = world.host(&["counter"]);
    let input = json!({"steps": 10, "transient_at": 6, "emit": true, "log": true});
    let id = host.submit(&counter(input));
    assert_eq!(host.result(&id)["sum"], sum(10));
    assert_eq!(host.job(&id)["attempt"], 2);
    assert_eq!(steps(&host.outputs(&id)), (1..=10).collect::<Vec<_>>());
    let twice = (1..=5).chain(1..=10).collect::<Vec<_>>();
    assert_eq!(logged(&host, &id, 15), twice, "log lines are immediate: a step that ran twice says so twice");
}

#[test]
fn attempts_come_to_an_end() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let input = json!({"steps": 10, "transient_at": 4, "transient_attempts": 100, "emit": true});
    let policy = host.submit(&counter(input.clone()));
    let own = host.submit(&json!({"type": "counter", "input": input, "max_attempts": 5}));
    for (id, attempts) in [(policy, 3), (own, 5)] {
        let job = host.ended(&id);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(attempts)), "{job}");
        assert_eq!(job["error"]["kind"], "transient");
        assert_eq!(job["error"]["message"], "asked to fail for now at step 4");
        assert_eq!((&job["result"], job["ended_at"].is_string()), (&Value::Null, true));
        assert_eq!(steps(&host.outputs(&id)), [1, 2, 3], "what was committed stays readable");
    }
}

#[test]
fn a_permanent_failure_is_not_tried_again() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let id = host.submit(&counter(json!({"steps": 10, "fail_at": 4, "emit": true, "log": true})));
    let job = host.ended(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job}");
    assert_eq!(
        job["error"],
        json!({"kind": "permanent", "message": "asked to fail at step 4", "trace": null})
    );
    assert_eq!(job["progress"]["current"], 3);
    assert_eq!(steps(&host.outputs(&id)), [1, 2, 3]);
    assert_eq!(logged(&host, &id, 3), [1, 2, 3]);
}

#[test]
fn a_panic_is_an_error_with_its_kind_and_a_readable_trace() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let id =
        host.submit(&json!({"type": "counter", "max_attempts": 2, "input": {"steps": 5, "panic_at": 3}}));
    let job = host.ended(&id);
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(2)), "{job}");
    assert_eq!(job["error"]["kind"], "guest-trap");
    let trace = job["error"]["trace"].as_str().expect("a trace");
    assert!(trace.lines().count() > 2, "{trace}");
    assert!(
        trace.contains("counter::Counter") && trace.contains("step"),
        "it names the author's own code: {trace}"
    );
    assert!(trace.contains("panic"), "{trace}");
    assert!(!trace.contains("_ZN") && !trace.contains("_R"), "names are readable: {trace}");
    let message = host.log_messages(&id).into_iter().find(|line| line.contains("asked to panic at step 3"));
    let message = message.expect("the log has the panic's message");
    assert!(message.contains("src/lib.rs:"), "and its place: {message}");
    let good = host.submit(&counter(json!({"steps": 5})));
    assert_eq!(host.result(&good)["sum"], 15, "the next job of the type is not disturbed");
}

#[test]
fn output_and_log_lines_come_in_the_order_in_which_they_were_written() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let many = host.submit(&counter(json!({"steps": 3_000, "emit": true})));
    let some = host.submit(&counter(json!({"steps": 100, "log": true})));
    assert_eq!(host.result(&many)["sum"], sum(3_000));
    let records = host.outputs(&many);
    assert_eq!(steps(&records), (1..=3_000).collect::<Vec<_>>());
    assert!(
        records.iter().all(|record| record["sum"] == json!(sum(record["step"].as_u64().expect("a step"))))
    );
    let page = host.get(&format!("/api/v1/jobs/{many}/output?from=1234&limit=600")).expect(200);
    let lines = page.as_str().expect("lines").lines().map(|line| serde_json::from_str(line).expect("JSON"));
    assert_eq!(steps(&lines.collect::<Vec<_>>()), (1_235..=1_834).collect::<Vec<_>>());
    assert_eq!(host.result(&some)["sum"], sum(100));
    assert_eq!(logged(&host, &some, 100), (1..=100).collect::<Vec<_>>());
}

#[test]
fn the_log_of_a_job_is_whole_when_the_job_has_ended() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    for _ in 0..5 {
        let id = host.submit(&counter(json!({"steps": 20, "log": true})));
        let told = host.events(&id, None).filter(|event| event.name == "log").count();
        assert_eq!((told, host.log_messages(&id).len()), (20, 20), "lines are missing right after the end");
    }
}

#[test]
fn the_cadence_of_the_defaults_holds_for_every_type() {
    let world = World::new("[defaults]\ncheckpoint = { every_steps = 2 }\n");
    let host = world.host(&["counter"]);
    let id = host.submit(&counter(json!({"steps": 7})));
    assert_eq!(host.result(&id)["sum"], sum(7));
    let kept: Vec<_> = host.checkpoints(&id).iter().map(|one| one["step"].clone()).collect();
    assert_eq!(kept, [6, 4, 2], "every second step, and none at the end");
}

#[test]
fn a_batch_has_one_answer_per_job() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let good: Vec<_> = (1..=200).map(|steps| counter(json!({"steps": steps}))).collect();
    let ids = host.submit_all(&good);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 200);
    for (steps, id) in (1..).zip(&ids) {
        assert_eq!(host.result(id)["sum"], sum(steps), "answers are in the order of the jobs");
    }
    let mixed = json!({"jobs": [
        counter(json!({"steps": 2})),
        counter(json!({"steps": "two"})),
        {"type": "nobody-has-this", "input": {}},
        {"type": "counter", "input": {"steps": 3}, "unknown": 1},
        counter(json!({"steps": 4})),
    ]});
    let answer = host.post("/api/v1/jobs/batch", &mixed).expect(207);
    assert_eq!((&answer["created"], &answer["refused"]), (&json!(2), &json!(3)));
    let codes: Vec<_> =
        answer["jobs"].as_array().expect("jobs").iter().map(|job| job["error"]["code"].clone()).collect();
    assert_eq!(
        codes,
        [Value::Null, json!("invalid-input"), json!("unknown-job-type"), json!("unknown-field"), Value::Null]
    );
    for (index, steps) in [(0, 2), (4, 4)] {
        let id = answer["jobs"][index]["id"].as_str().expect("an id");
        assert_eq!(host.result(id)["sum"], sum(steps));
    }
}

#[test]
fn a_request_repeated_with_its_idempotency_key_makes_one_job() {
    let world = World::new("");
    let (first, second) = (world.host(&["counter"]), world.host(&["counter"]));
    let send = |host: &Client, steps: u64| {
        let headers = [("content-type", "application/json"), ("idempotency-key", "order 66")];
        host.request(
            "POST",
            "/api/v1/jobs",
            &headers,
            counter(json!({"steps": steps})).to_string().as_bytes(),
        )
    };
    let turns: Vec<_> = (0..40).collect();
    let answers = at_once(&turns, 20, |turn| send(if turn % 2 == 0 { &first } else { &second }, 9));
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.body["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[39]), (200, 201));
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "one of them made it");
    let id = ids.first().expect("an id");
    assert_eq!(first.result(id)["sum"], 45);
    let again = send(&second, 9).expect(200);
    assert_eq!((&again["id"], &again["status"]), (&json!(id), &json!("succeeded")), "also after its end");
    assert_eq!(send(&first, 10).expect(422)["code"], "idempotency-key-reused");
}

#[test]
fn a_unique_key_stands_for_one_job_until_it_has_ended() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let job = |steps: u64| json!({"type": "counter", "unique_key": "one", "queue": "held", "input": {"steps": steps}});
    hold(&host, "held");
    let turns: Vec<_> = (1..=20).collect();
    let answers = at_once(&turns, 10, |steps| host.post("/api/v1/jobs", &job(*steps)));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 19);
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.body["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let first = ids.first().expect("an id");
    release(&host, "held");
    assert_eq!(host.ended(first)["status"], "succeeded");
    let next = host.submit(&job(7));
    assert_ne!(next, *first, "the key is free after the end");
    assert_eq!(host.result(&next)["sum"], 28);
}

#[test]
fn a_parent_waits_for_all_its_children() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    // Children go to the queue of their type; the parents have one of their own.
    hold(&host, "counter");
    let parent = |children: u64| json!({"type": "counter", "queue": "parents", "correlation_id": "family", "input": {"steps": 4, "children": children}});
    let id = host.submit(&parent(5));
    let waiting = host.reaches(&id, "waiting");
    let children: Vec<_> = waiting["children"].as_array().expect("children").clone();
    assert_eq!(children.len(), 5);
    for child in &children {
        let child = host.job(child.as_str().expect("an id"));
        assert_eq!((&child["status"], &child["parent"]), (&json!("queued"), &json!(id)), "{child}");
        assert_eq!(child["correlation_id"], "family");
    }
    let depth = |name: &str| {
        let queues = host.get("/api/v1/queues").expect(200);
        let queues = queues["queues"].as_array().expect("queues").clone();
        queues
            .iter()
            .find(|queue| queue["name"] == name)
            .map_or(0, |queue| queue["depth"].as_u64().expect("a depth"))
    };
    assert_eq!(depth("counter"), 5);
    let other = host.submit(&parent(3));
    let others = host.reaches(&other, "waiting")["children"].as_array().expect("children").clone();
    assert_eq!((others.len(), depth("counter")), (3, 8));
    host.control(others[1].as_str().expect("an id"), "cancel").expect(202);
    release(&host, "counter");
    let result = host.result(&id);
    assert_eq!((&result["sum"], &result["children_sum"]), (&json!(sum(4)), &json!(5)));
    let failed = host.ended(&other);
    assert_eq!(
        (&failed["status"], &failed["error"]["kind"]),
        (&json!("failed"), &json!("permanent")),
        "{failed}"
    );
    assert_eq!(
        failed["error"]["message"], "the job was cancelled",
        "the parent learns what became of its child"
    );
    assert_eq!(depth("counter"), 0);
}

#[test]
fn a_job_waits_for_its_signal() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let id = host.submit(&counter(json!({"steps": 6, "await_signal": "go"})));
    let waiting = host.reaches(&id, "waiting");
    assert_eq!((&waiting["awaited_signal"], &waiting["progress"]["current"]), (&json!("go"), &json!(3)));
    assert_eq!(signal(&host, &id, "stop", &json!(1)), false, "another signal is kept");
    assert_eq!(host.job(&id)["status"], "waiting");
    assert_eq!(signal(&host, &id, "go", &json!({"approved": ["by", null]})), true);
    let result = host.result(&id);
    assert_eq!((&result["sum"], &result["signal"]), (&json!(21), &json!({"approved": ["by", null]})));
    let late = host.post(&format!("/api/v1/jobs/{id}/signals/go"), &json!(1));
    assert_eq!((late.status, late.code()), (409, "wrong-state"));

    hold(&host, "held");
    let early = json!({"type": "counter", "queue": "held", "input": {"steps": 6, "await_signal": "go"}});
    let early = host.submit(&early);
    assert_eq!(signal(&host, &early, "go", &json!("before")), false);
    release(&host, "held");
    assert_eq!(host.result(&early)["signal"], "before", "a signal that came first is not lost");
}

#[test]
fn a_job_goes_on_without_its_signal_when_the_time_is_over() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let id = host.submit(&counter(json!({"steps": 6, "await_signal": "go", "signal_timeout_ms": 600})));
    let waiting = host.reaches(&id, "waiting");
    assert_eq!(waiting["awaited_signal"], "go");
    let result = host.result(&id);
    assert_eq!((&result["sum"], &result["signal"]), (&json!(21), &Value::Null));
    let job = host.job(&id);
    let took = between_ms(&job["started_at"], &job["ended_at"]);
    assert!((600..5_000).contains(&took), "{took} ms: {job}");
    assert_eq!(job["attempt"], 1);
}

#[test]
fn a_long_poll_answers_at_the_end_or_when_its_time_is_over() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let mut waited = Vec::new();
    for _ in 0..15 {
        let from = Instant::now();
        let job = host.post("/api/v1/jobs?wait_ms=20000", &counter(json!({"steps": 3}))).expect(201);
        assert_eq!((&job["status"], &job["result"]["sum"]), (&json!("succeeded"), &json!(6)));
        waited.push(from.elapsed());
    }
    waited.sort();
    println!(
        "submit and wait for the end of a job of three steps: median {:?}, longest {:?}",
        waited[7], waited[14]
    );
    assert!(waited[7] < Duration::from_millis(500), "the end is not told: {waited:?}");

    let id = host.submit(&counter(json!({"steps": 2, "await_signal": "go"})));
    host.reaches(&id, "waiting");
    let from = Instant::now();
    let job = host.get(&format!("/api/v1/jobs/{id}?wait_ms=400")).expect(200);
    assert_eq!(job["status"], "waiting");
    assert!((400..2_000).contains(&from.elapsed().as_millis()), "{:?}", from.elapsed());
    let answer = std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            let job = host.get(&format!("/api/v1/jobs/{id}?wait_ms=20000")).expect(200);
            (job, Instant::now())
        });
        signal(&host, &id, "go", &json!(null));
        let asked = Instant::now();
        let (job, answered) = poll.join().expect("an answer");
        assert!(answered.saturating_duration_since(asked) < Duration::from_secs(3), "it waited on");
        job
    });
    assert_eq!(answer["status"], "succeeded", "{answer}");
    let refused = host.get(&format!("/api/v1/jobs/{id}?wait_ms=300001"));
    assert_eq!((refused.status, refused.code()), (400, "invalid-query"));
}

#[test]
fn a_reader_that_comes_back_hears_every_state_record_and_line_once() {
    let world = World::new(EVERY_STEP);
    let (first, second) = (world.host(&["counter"]), world.host(&["counter"]));
    hold(&first, "held");
    let id = first.submit(&json!({
        "type": "counter", "queue": "held",
        "input": {"steps": 20, "work_us": 15_000, "emit": true, "log": true, "await_signal": "go"},
    }));
    let (mut seen, mut last): (Vec<waymark_tests::client::Event>, Option<String>) = (Vec::new(), None);
    let mut readers = 0;
    while seen.last().is_none_or(|event| event.name != "state" || !is_ended(&event.data)) {
        readers += 1;
        assert!(readers < 200, "the stream tells nothing new: {seen:?}");
        // Every reader hears three events at most and goes on at the other host.
        let host = if readers % 2 == 0 { &first } else { &second };
        for event in host.events(&id, last.as_deref()).take(3) {
            last = Some(event.id.clone());
            if event.name == "state" && event.data["status"] == "queued" && seen.is_empty() {
                release(&first, "held");
            }
            if event.name == "state" && event.data["status"] == "waiting" {
                signal(&second, &id, "go", &json!(true));
            }
            seen.push(event);
        }
    }
    assert!(readers > 15, "only {readers} readers");
    let path = format!("/api/v1/jobs/{id}/events");
    let over = first.request("GET", &path, &[("last-event-id", last.as_deref().expect("an id"))], b"");
    assert_eq!(over.status, 204, "whoever has heard everything is told to stay away");

    let told = |name: &str| {
        seen.iter().filter(|event| event.name == name).map(|event| &event.data).collect::<Vec<_>>()
    };
    let states = told("state");
    for (index, state) in states.iter().enumerate() {
        assert!(!states[..index].contains(state), "told twice: {state}");
    }
    let mut names: Vec<_> = states.iter().map(|state| state["status"].as_str().expect("a state")).collect();
    names.dedup();
    // Between the signal and its next start the job is queued for a moment that a reader may miss.
    if names.get(3) == Some(&"queued") {
        names.remove(3);
    }
    assert_eq!(names, ["queued", "running", "waiting", "running", "succeeded"]);
    let numbers = |events: Vec<&Value>, of: fn(&Value) -> &Value| {
        events.into_iter().map(|event| of(event).as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(numbers(told("output"), |record| &record["step"]), (1..=20).collect::<Vec<_>>());
    let currents = numbers(told("progress"), |progress| &progress["current"]);
    assert!(currents.is_sorted() && currents.last() == Some(&20), "{currents:?}");
    assert_eq!(numbers(told("log"), |line| &line["fields"]["step"]), (1..=20).collect::<Vec<_>>());
}

/// Goes on for ever in steps of no length; with `should-yield` it ends instead.
const POLITE: &str = "(if (i32.eqz (call $should_yield)) (then (return (i32.const 320))))";
/// The same within one step.
const LONG: &str = "(loop $more (br_if $more (i32.eqz (call $should_yield))))";

#[test]
fn at_its_soft_limit_a_job_is_asked_to_finish() {
    let world = World::new("[plugins.limited]\nsoft_limit_ms = 300\n");
    let mut host = world.empty_host();
    for (name, step) in [("polite", POLITE), ("long", LONG), ("limited", POLITE)] {
        guest::put(&host.plugins, &format!("{name}.wasm"), &guest::text(name, &[("step", step)]));
    }
    host.start();
    host.wait_for_plugins(&["polite", "long", "limited"]);
    let own = |name: &str| json!({"type": name, "input": {}, "soft_limit_ms": 300, "hard_limit_ms": 20_000});
    let jobs = [own("polite"), own("long"), json!({"type": "limited", "input": {}})];
    for id in jobs.map(|job| host.submit(&job)) {
        assert_eq!(host.result(&id), json!({}));
        let job = host.job(&id);
        let took = between_ms(&job["started_at"], &job["ended_at"]);
        assert!((280..3_000).contains(&took), "{took} ms: {job}");
        assert_eq!(job["attempt"], 1);
    }
}

#[test]
fn at_its_hard_limit_a_job_fails() {
    let world = World::new(&format!("{EVERY_STEP}\n[plugins.limited]\nhard_limit_ms = 400\n"));
    let mut host = world.empty_host();
    guest::copy("counter", &host.plugins);
    guest::put(
        &host.plugins,
        "limited.wasm",
        &guest::text("limited", &[("step", "(return (i32.const 320))")]),
    );
    host.start();
    host.wait_for_plugins(&["counter", "limited"]);
    let own = |steps: u64, work_us: u64| json!({"type": "counter", "hard_limit_ms": 400, "input": {"steps": steps, "work_us": work_us, "emit": true}});
    let jobs = [
        ("many short steps", own(100_000, 5_000)),
        ("one long step", own(1, 20_000_000)),
        ("the type's own limit", json!({"type": "limited", "input": {}})),
    ];
    for (what, job) in jobs {
        let id = host.submit(&job);
        let job = host.ended(&id);
        assert_eq!(
            (&job["status"], &job["error"]["kind"]),
            (&json!("failed"), &json!("hard-limit")),
            "{what}: {job}"
        );
        assert_eq!(job["attempt"], 1, "{what}: it is not tried again");
        let took = between_ms(&job["started_at"], &job["ended_at"]);
        assert!((350..3_000).contains(&took), "{what}: {took} ms");
        let outputs = steps(&host.outputs(&id));
        assert_eq!(
            outputs,
            (1..=outputs.len() as u64).collect::<Vec<_>>(),
            "{what}: what was committed is whole"
        );
    }
    // Time spent in a pause does not count, time before it does.
    let id = host.submit(&own(100_000, 5_000));
    let _ = host.until(&id, "under way", |job| job["progress"]["current"].as_u64() > Some(3));
    host.control(&id, "pause").expect(202);
    let paused = host.reaches(&id, "paused");
    let before = Instant::now();
    while before.elapsed() < Duration::from_millis(500) {
        assert_eq!(host.job(&id)["status"], "paused");
    }
    host.control(&id, "resume").expect(202);
    let job = host.ended(&id);
    assert_eq!(job["error"]["kind"], "hard-limit", "{job}");
    assert!(job["progress"]["current"].as_u64() > paused["progress"]["current"].as_u64(), "it had time left");
}

#[test]
fn an_attempt_after_the_hard_limit_has_as_much_time_again() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    // It takes three attempts at least, each from where the last one was.
    let retry = json!({"max_attempts": 50, "base_ms": 0, "kinds": {"hard-limit": {"retry": true}}});
    let input = json!({"steps": 60, "work_us": 20_000, "emit": true});
    let id = host.submit(&json!({"type": "counter", "hard_limit_ms": 400, "retry": retry, "input": input}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert!(job["attempt"].as_u64() >= Some(3), "{job}");
    assert_eq!(steps(&host.outputs(&id)), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_host_asked_to_stop_hands_its_jobs_over_within_seconds() {
    let world = World::alone("");
    let mut first = world.host(&["counter"]);
    let input = json!({"steps": 150, "work_us": 10_000, "emit": true, "log": true});
    let ids = first.submit_all(&vec![counter(input.clone()); 6]);
    for id in &ids {
        let _ = first.until(id, "under way", |job| job["outputs"].as_u64() > Some(0));
    }
    let second = world.host(&["counter"]);
    let name = name_of(&second);
    let from = Instant::now();
    first.ask_to_stop();
    for id in &ids {
        let _ = second.until(id, "taken over", |job| {
            job["status"] == "running" && runs_on(job, &name) || is_ended(job)
        });
    }
    let moved = from.elapsed();
    let (status, _) = first.stop();
    assert!(status.success(), "{status}");
    println!("a host with 6 running jobs asked to stop: all of them go on elsewhere after {moved:?}");
    assert!(moved < Duration::from_secs(8), "{moved:?}");
    for id in &ids {
        assert_eq!(second.result(id)["sum"], sum(150));
        let job = second.job(id);
        assert!(runs_on(&job, &name), "{job}");
        assert_eq!((&job["attempt"], &job["run"]), (&json!(1), &json!(1)), "moving costs no attempt");
        assert_eq!(steps(&second.outputs(id)), (1..=150).collect::<Vec<_>>());
        assert_eq!(logged(&second, id, 150), (1..=150).collect::<Vec<_>>(), "no step ran twice");
    }
}

#[test]
fn a_job_whose_type_a_host_lacks_is_left_for_another() {
    let world = World::new("");
    let first = world.host(&["noop"]);
    let refused = first.post("/api/v1/jobs", &counter(json!({"steps": 5})));
    assert_eq!((refused.status, refused.code()), (422, "unknown-job-type"));
    let mut second = world.host(&["counter"]);
    let types = || {
        let hosts = first.get("/api/v1/hosts").expect(200);
        let hosts = hosts["hosts"].as_array().expect("hosts").clone();
        hosts
            .iter()
            .flat_map(|host| host["types"].as_array().expect("types").clone())
            .map(|one| one["name"].as_str().expect("a name").to_owned())
            .collect::<BTreeSet<_>>()
    };
    let both = BTreeSet::from(["counter".to_owned(), "noop".to_owned()]);
    waymark_tests::eventually("both types are announced", Duration::from_secs(10), || {
        (types() == both).then_some(())
    });
    let elsewhere = first.get("/api/v1/plugins").expect(200)["elsewhere"].clone();
    assert_eq!(elsewhere[0]["name"], "counter", "{elsewhere}");
    hold(&first, "held");
    let moved = first.submit(&json!({"type": "counter", "queue": "held", "input": {"steps": 5}}));
    let done = first.submit(&counter(json!({"steps": 5})));
    assert_eq!(first.result(&done)["sum"], 15, "the other host has it");
    let (status, _) = second.stop();
    assert!(status.success());

    release(&first, "held");
    let later = first.submit(&counter(json!({"steps": 6})));
    // The first host goes on claiming what it has, and passes over what it lacks.
    for _ in 0..20 {
        let id = first.submit(&json!({"type": "noop", "input": {}}));
        assert_eq!(first.result(&id), Value::Null);
    }
    for id in [&moved, &later] {
        let job = first.job(id);
        assert_eq!(
            (&job["status"], &job["attempt"], &job["error"]),
            (&json!("queued"), &json!(0), &Value::Null)
        );
    }
    assert!(!types().contains("counter"), "no host has it, and that is to be seen");
    guest::put(&first.plugins, "counter.wasm", &fs::read(guest::path("counter")).expect("a file"));
    assert_eq!(first.result(&moved)["sum"], 15);
    assert_eq!(first.result(&later)["sum"], 21);
}

#[test]
fn a_job_that_is_too_old_is_not_tried_again() {
    let world = World::new(
        "[plugins.counter.retry]\nmax_attempts = 1000\nbackoff = \"fixed\"\nbase_ms = 50\njitter = false\nmax_age_ms = 1000\n",
    );
    let host = world.host(&["counter"]);
    let input = json!({"steps": 2, "transient_at": 1, "transient_attempts": 1_000_000});
    let id = host.submit(&json!({"type": "counter", "input": input}));
    let job = host.ended(&id);
    assert_eq!((&job["status"], &job["error"]["kind"]), (&json!("failed"), &json!("transient")), "{job}");
    // One every 50 ms in one second; less on a busy machine.
    let attempts = job["attempt"].as_u64().expect("a number");
    assert!((3..=21).contains(&attempts), "{job}");
}
