//! What jobs leave behind: results, streams, groups of failures, and who is told of an end.

use serde_json::{Value, json};
use std::process::Command;
use waymark_tests::{PATIENCE, World, binary, client::Client, eventually};

/// Commits after every step and does not wait between attempts.
const EVERY_STEP: &str = "
[plugins.counter]
checkpoint = { every_steps = 1 }
retry = { max_attempts = 2, base_ms = 1, max_ms = 1 }
";

/// What `waymark … --json` answers.
#[track_caller]
fn cli(host: &Client, arguments: &[&str]) -> Value {
    let output = Command::new(binary()).args(arguments).args(["--json", "--url", &host.url]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn failures_of_the_same_kind_are_one_group_until_it_is_forgotten() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let failing = |input: Value| host.submit(&json!({"type": "counter", "input": input}));
    let ids: Vec<_> = (2..5).map(|step| failing(json!({"steps": 9, "fail_at": step}))).collect();
    let trapped = failing(json!({"steps": 9, "panic_at": 3}));
    for id in ids.iter().chain([&trapped]) {
        assert_eq!(host.ended(id)["status"], "failed");
    }
    let listed = host.get("/api/v1/errors?type=counter&sort=attempts").expect(200);
    let groups = listed["errors"].as_array().expect("groups");
    assert_eq!(groups.len(), 2, "{listed}");
    let said = &groups[0];
    assert_eq!(said["pattern"], "asked to fail at step <number>");
    assert_eq!(
        (&said["kind"], &said["attempts"], &said["failed"]),
        (&json!("permanent"), &json!(3), &json!(3))
    );
    assert_eq!(said["versions"], json!([{"version": host.job(&ids[0])["plugin_version"], "attempts": 3}]));
    let crashed = &groups[1];
    assert_eq!(
        (&crashed["kind"], &crashed["attempts"], &crashed["failed"]),
        (&json!("guest-trap"), &json!(2), &json!(1))
    );
    let frames = crashed["frames"].as_array().expect("frames");
    assert!(frames[0].as_str().is_some_and(|frame| frame.contains("counter::Counter")), "{frames:?}");

    let fingerprint = said["fingerprint"].as_str().expect("a fingerprint");
    let path = format!("/api/v1/errors/{fingerprint}");
    let shown = host.get(&path).expect(200);
    let jobs = shown["jobs"].as_array().expect("jobs");
    assert!(jobs.iter().all(|job| job["error"]["kind"] == "permanent"), "{shown}");
    assert_eq!(jobs.len(), 3);
    assert_eq!(cli(&host, &["errors", "show", fingerprint]), shown);
    let since = shown["last_seen"].as_str().expect("a time").replace("20", "21");
    let later = host.get(&format!("/api/v1/errors?since={since}")).expect(200);
    assert_eq!(later["errors"], json!([]), "since {since}");

    cli(&host, &["errors", "forget", fingerprint]);
    assert_eq!(host.get(&path).code(), "unknown-error-group");
    assert_eq!(host.request("DELETE", &path, &[], b"").status, 404);
    assert_eq!(cli(&host, &["errors", "list"])["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(host.ended(&failing(json!({"steps": 9, "fail_at": 7})))["status"], "failed");
    assert_eq!(host.get(&path).expect(200)["attempts"], 1, "it begins anew");
}

#[test]
fn a_reader_of_events_goes_on_at_another_host_without_loss_or_repetition() {
    let world = World::new(EVERY_STEP);
    let first = world.host(&["counter"]);
    let second = world.host(&["counter"]);
    let input = json!({"steps": 200, "work_us": 3_000, "emit": true, "log": true});
    let id = first.submit(&json!({"type": "counter", "input": input}));
    let (mut outputs, mut logs) = (Vec::new(), Vec::new());
    let mut take = |event: &waymark_tests::client::Event| match event.name.as_str() {
        "output" => outputs.push(event.data["step"].clone()),
        "log" => logs.push(event.data["fields"]["step"].clone()),
        _ => {}
    };
    let mut last = None;
    for event in first.events(&id, None) {
        take(&event);
        let begun = event.name == "output" && event.data["step"].as_u64() > Some(20);
        last = Some(event.id);
        if begun {
            break;
        }
    }
    // Output is there while the job runs, at any host, and a follower of it sees it grow.
    let seen = eventually("more output", PATIENCE, || {
        let seen = second.outputs(&id).len();
        (seen > 25).then_some(seen)
    });
    assert_eq!(second.job(&id)["status"], "running", "after {seen} records");
    for event in second.events(&id, last.as_deref()) {
        take(&event);
    }
    let all: Vec<_> = (1..=200).map(Value::from).collect();
    assert_eq!(outputs, all);
    assert_eq!(logs, all);
}
