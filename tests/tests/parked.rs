//! Jobs that wait cost their hosts nothing.

use serde_json::{Value, json};
use std::time::Duration;
use waymark_tests::{World, eventually, host::Host};

/// Jobs that fill every buffer of the hosts first.
const WARM_UP: usize = 10_000;
/// Jobs parked beside those.
const PARKED: usize = 100_000;
/// What the allocators of three processes may keep besides; 0.3 KiB for each parked job would be more.
const GROWTH_BYTES_MAX: u64 = 24 << 20;
/// The machine may be busy with other tests.
const PARKED_WITHIN: Duration = Duration::from_secs(120);

fn scheduled(host: &Host) -> u64 {
    let counts = host.get("/api/v1/counts").expect(200);
    let rows = counts["counts"].as_array().expect("counts").iter();
    rows.filter(|row| row["status"] == "scheduled").filter_map(|row| row["jobs"].as_u64()).sum()
}

/// Submits jobs that run one step and then sleep for an hour, and waits until all sleep.
fn park(host: &Host, jobs: usize) {
    let before = scheduled(host);
    let job = json!({"type": "counter", "input": {"steps": 2, "sleep_ms": 3_600_000}});
    for _ in 0..jobs / 1_000 {
        let ids = host.submit_all(&vec![job.clone(); 1_000]);
        assert_eq!(ids.len(), 1_000);
    }
    let all = before + jobs as u64;
    eventually("all jobs sleep", PARKED_WITHIN, || (scheduled(host) == all).then_some(()));
}

#[test]
fn a_hundred_thousand_sleeping_jobs_take_no_memory_of_the_host_and_each_can_still_be_asked_for() {
    let world = World::new("[worker]\nprocesses = 2\n");
    let host = world.host(&["counter"]);
    park(&host, WARM_UP);
    let before = host.resident_bytes();
    park(&host, PARKED);
    let after = host.resident_bytes();
    println!("{} MiB before, {} MiB after", before >> 20, after >> 20);
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes before, {after} after");
    let page = host.get("/api/v1/jobs?status=scheduled&limit=1").expect(200);
    let id = page["jobs"][0]["id"].as_str().expect("a job").to_owned();
    let _: Value = host.control(&id, "cancel").expect(202);
    assert_eq!(host.job(&id)["status"], "cancelled");
}
