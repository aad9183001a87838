//! Many hosts on one store: chosen queues, hosts that claim nothing, and jobs that move when a host stops.

use crate::support::{configure, observer};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use waymark_tests::{PATIENCE, World, eventually, guest, host::Host};

const CONFIG: &str = "[worker]\nslots = 200\nlease_ms = 5000\n";

/// Starts a host whose table of workers says this besides.
fn host(world: &World, worker: &str) -> Host {
    let mut host = world.empty_host();
    configure(&host, |text| text.replace("[worker]\n", &format!("[worker]\n{worker}\n")));
    guest::copy("counter", &host.plugins);
    host.start();
    host.wait_for_plugins(&["counter"]);
    host
}

fn job(queue: &str) -> Value {
    json!({"type": "counter", "queue": queue, "input": {"steps": 2}})
}

/// The host that answers, as the registry shows it.
fn registered(host: &Host) -> Option<Value> {
    let answer = host.get("/api/v1/hosts").expect(200);
    let hosts = answer["hosts"].as_array().expect("hosts");
    hosts.iter().find(|one| one["id"] == answer["this"]).cloned()
}

#[test]
fn a_queue_is_served_by_the_hosts_that_chose_it() {
    let world = World::new(CONFIG);
    let night = host(&world, "queues = [\"night\", \"gpu-*\"]");
    let day = host(&world, "queues = [\"day\"]");
    let ids = ["night", "gpu-1", "day"].map(|queue| day.submit(&job(queue)));
    let unserved = day.submit(&job("nobody"));
    let by = ids.each_ref().map(|id| {
        assert_eq!(day.result(id)["sum"], 3);
        day.job(id)["host"].as_str().expect("a host").to_owned()
    });
    let names = [&night, &night, &day].map(|host| {
        let answer = host.get("/api/v1/hosts").expect(200);
        answer["this"].as_str().expect("an id").to_owned()
    });
    for (by, name) in by.iter().zip(&names) {
        assert!(by.starts_with(name.as_str()), "{by} is a worker of {name}");
    }
    assert_eq!(day.job(&unserved)["status"], "queued", "no host serves its queue");
    let shown = eventually("the host is listed", PATIENCE, || registered(&night));
    assert_eq!(shown["queues"], json!(["night", "gpu-*"]));
    assert!(shown["load"]["memory"].as_f64().is_some_and(|share| share > 0.0), "{shown}");
}

#[test]
fn slots_follow_what_waits_and_come_back_when_it_is_calm() {
    let world = World::new("[worker]\nslots = 32\nlease_ms = 5000\n");
    let host = host(&world, "slots_min = 2\nslots_cpu_max = 1.0\nslots_memory_max = 1.0");
    let slots = || registered(&host).map(|shown| (shown["slots"].as_u64(), shown["slots_max"].as_u64()));
    eventually("it is listed", PATIENCE, || slots().filter(|slots| *slots == (Some(2), Some(32))));
    let ids =
        host.submit_all(&vec![json!({"type": "counter", "input": {"steps": 100_000, "work_us": 500}}); 60]);
    eventually("all slots are there", PATIENCE, || slots().filter(|slots| slots.0 == Some(32)));
    let scale = eventually("so many run", PATIENCE, || {
        let scale = host.get("/api/v1/scale").expect(200);
        (scale["running"] == 32).then_some(scale)
    });
    assert!(scale["waiting"].as_u64().is_some_and(|waiting| waiting > 0), "{scale}");
    assert!((host.metric("waymark_slots{") - 32.0).abs() < 0.5);
    assert!(host.metric("waymark_wanted_slots ") > 32.0);
    for id in &ids {
        let _ = host.delete(id);
    }
    eventually("slots are taken away", PATIENCE, || slots().filter(|slots| slots.0 < Some(32)));
    // Fewer slots are as good as those from the beginning.
    let ids = host.submit_all(&vec![job("counter"); 50]);
    for id in &ids {
        assert_eq!(host.result(id)["sum"], 3);
    }
}

#[test]
fn a_host_that_starts_paused_claims_nothing_until_it_is_resumed() {
    let world = World::new(CONFIG);
    let host = host(&world, "start_paused = true");
    let id = registered(&host).expect("it is listed")["id"].as_str().expect("an id").to_owned();
    let waiting = host.submit(&job("counter"));
    // A worker process that starts again stays paused.
    host.kill_one(host.workers()[0]);
    eventually("the worker is there again", PATIENCE, || {
        (host.metric("waymark_worker_crashes_total") > 0.0 && host.get("/readyz").status == 200).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(host.job(&waiting)["status"], "queued");
    assert_eq!(registered(&host).expect("it is listed")["paused"], true);
    assert_eq!(host.post(&format!("/api/v1/hosts/{id}/resume"), &Value::Null).expect(202)["paused"], false);
    assert_eq!(host.result(&waiting)["sum"], 3);
    // What runs goes on while the host is paused; what comes later waits.
    let long = host.submit(&json!({"type": "counter", "input": {"steps": 100, "work_us": 10_000}}));
    host.reaches(&long, "running");
    let _ = host.post(&format!("/api/v1/hosts/{id}/pause"), &Value::Null).expect(202);
    eventually("it is paused", PATIENCE, || {
        registered(&host).is_some_and(|shown| shown["paused"] == true).then_some(())
    });
    let late = host.submit(&job("counter"));
    assert_eq!(host.result(&long)["sum"], 5050);
    assert_eq!(host.job(&late)["status"], "queued");
    assert_eq!(host.get("/readyz").status, 200, "a paused host is well");
    let unknown = host.post("/api/v1/hosts/nobody/pause", &Value::Null);
    assert_eq!((unknown.status, unknown.code()), (404, "unknown-host"));
    let _ = host.post(&format!("/api/v1/hosts/{id}/resume"), &Value::Null).expect(202);
    assert_eq!(host.result(&late)["sum"], 3);
}

/// Jobs that move at once.
const MOVING: usize = 100;
/// Steps of each: enough to last until all have moved.
const STEPS: u64 = 100;
/// What is promised.
const MOVED_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_hundred_running_jobs_move_to_another_host_within_two_seconds() {
    let world = World::alone(&format!("{CONFIG}[plugins.counter]\ncheckpoint = {{ every_ms = 200 }}\n"));
    let watcher = observer(&world, &["counter"]);
    let first = host(&world, "");
    // The second host is there, and leaves all jobs to the first.
    let second = host(&world, "start_paused = true");
    let name = second.get("/api/v1/hosts").expect(200)["this"].as_str().expect("an id").to_owned();
    let long = json!({"type": "counter", "input": {"steps": STEPS, "work_us": 1_000, "emit": true}});
    let ids = watcher.submit_all(&vec![long; MOVING]);
    let held_by = |name: &str| {
        let list = watcher.get("/api/v1/jobs?limit=1000").expect(200);
        let held = list["jobs"].as_array().expect("jobs").iter().filter(|job| {
            job["status"] == "running" && job["host"].as_str().is_some_and(|host| host.starts_with(name))
        });
        held.count()
    };
    let source = first.get("/api/v1/hosts").expect(200)["this"].as_str().expect("an id").to_owned();
    eventually("all run on the first host", PATIENCE, || (held_by(&source) == MOVING).then_some(()));
    let _ = second.post(&format!("/api/v1/hosts/{name}/resume"), &Value::Null).expect(202);
    eventually("the second host claims", PATIENCE, || {
        registered(&second).is_some_and(|shown| shown["paused"] == false).then_some(())
    });
    assert_eq!(held_by(&source), MOVING, "all still run where they were");
    let from = Instant::now();
    first.ask_to_stop();
    eventually("all run on the second host", PATIENCE, || (held_by(&name) == MOVING).then_some(()));
    let took = from.elapsed();
    println!("{MOVING} running jobs moved to another host in {} ms", took.as_millis());
    assert!(took < MOVED_WITHIN, "{took:?}");
    for id in &ids {
        assert_eq!(watcher.result(id)["sum"], STEPS * (STEPS + 1) / 2);
        assert_eq!(watcher.outputs(id).len() as u64, STEPS, "every record once");
        assert_eq!(watcher.job(id)["attempt"], 1);
    }
}
