//! Limits of queues and their keys over several hosts, with workers that die under them.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use waymark_tests::{World, client::Client, host::Host};

const CONFIG: &str = "
[worker]
lease_ms = 1000
[queues.limited]
concurrency = 4
per_key = { concurrency = 2 }
";

fn jobs(key: &str, number: usize) -> Vec<Value> {
    let job = json!({
        "type": "counter", "queue": "limited", "flow_key": key, "input": {"steps": 3, "work_us": 5_000},
    });
    vec![job; number]
}

/// Most jobs that ran at one time, of those given.
fn most_at_once<'a>(jobs: impl Iterator<Item = &'a Value>) -> i32 {
    let mut changes = BTreeMap::<String, i32>::new();
    for job in jobs {
        let time = |name: &str| job[name].as_str().expect("a time").to_owned();
        *changes.entry(time("started_at")).or_default() += 1;
        *changes.entry(time("ended_at")).or_default() -= 1;
    }
    let mut running = 0;
    changes
        .into_values()
        .map(|change| {
            running += change;
            running
        })
        .max()
        .unwrap_or(0)
}

fn until_all_ended(host: &Client, ids: &[String]) -> Vec<Value> {
    ids.iter().map(|id| host.ended(id)).collect()
}

#[test]
fn limits_hold_over_hosts_and_keys_take_turns() {
    let world = World::new(CONFIG);
    let (first, second) = (world.host(&["counter"]), world.host(&["counter"]));
    first.post("/api/v1/queues/limited/pause", &Value::Null).expect(202);
    let big = first.submit_all(&jobs("big", 60));
    let small = first.submit_all(&jobs("small", 3));
    first.post("/api/v1/queues/limited/resume", &Value::Null).expect(202);
    let small = until_all_ended(&second, &small);
    // The three of the small key are done long before the sixty of the big one.
    let left = second.get("/api/v1/queues/limited/limits").expect(200);
    assert!(left["keys"][0]["waiting"].as_u64() > Some(30), "{left}");
    let big = until_all_ended(&second, &big);
    let all: Vec<_> = big.iter().chain(&small).collect();
    assert!(all.iter().all(|job| job["status"] == "succeeded"));
    for (jobs, most) in [(&big[..], 2), (&small[..], 2)] {
        assert!(most_at_once(jobs.iter()) <= most, "{}", most_at_once(jobs.iter()));
    }
    assert!(most_at_once(all.into_iter()) <= 4);
    let idle = second.get("/api/v1/queues/limited/limits").expect(200);
    assert_eq!((&idle["running"], &idle["keys"]), (&json!(0), &json!([])));
}

#[test]
fn places_of_a_host_that_died_are_free_again() {
    let world = World::new(CONFIG);
    let mut first: Host = world.host(&["counter"]);
    let second = world.host(&["counter"]);
    let ids = first.submit_all(&jobs("a", 40).into_iter().chain(jobs("b", 40)).collect::<Vec<_>>());
    let _ = second.until(&ids[4], "a few are done", |job| job["status"] != "queued");
    first.kill();
    let ended = until_all_ended(&second, &ids);
    assert!(ended.iter().all(|job| job["status"] == "succeeded"));
    let idle = second.get("/api/v1/queues/limited/limits").expect(200);
    assert_eq!((&idle["running"], &idle["keys"]), (&json!(0), &json!([])));
}
