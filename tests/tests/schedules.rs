//! Schedules: once per planned time, whatever happens to hosts.

use crate::support::{configure, done};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};
use waymark_tests::{PATIENCE, World, binary, client::Client, eventually, host::Host};

const CONFIG: &str = "
[worker]
lease_ms = 2000
slots = 16
";

const PATH: &str = "/api/v1/schedules";

#[track_caller]
fn put(client: &Client, name: &str, schedule: &Value) -> Value {
    let body = schedule.to_string();
    let headers = [("content-type", "application/json")];
    let answer = client.request("PUT", &format!("{PATH}/{name}"), &headers, body.as_bytes());
    assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
    answer.body
}

fn show(client: &Client, name: &str) -> Value {
    client.get(&format!("{PATH}/{name}")).expect(200)
}

/// Asks for `pause`, `resume` or `run`.
fn ask(client: &Client, name: &str, verb: &str) -> waymark_tests::client::Answer {
    client.request("POST", &format!("{PATH}/{name}/{verb}"), &[], b"")
}

/// All jobs that a schedule made.
fn made(client: &Client, name: &str) -> Vec<Value> {
    let page = client.get(&format!("/api/v1/jobs?tag=schedule:{name}&limit=1000")).expect(200);
    page["jobs"].as_array().expect("jobs").clone()
}

/// Seconds of the planned times of jobs.
fn planned(jobs: &[Value]) -> Vec<u64> {
    let second = |job: &Value| {
        let text = job["schedule"]["planned_at"].as_str().expect("a planned time");
        let clock: Vec<u64> = text[11..19].split(':').map(|part| part.parse().expect("a number")).collect();
        clock[0] * 3_600 + clock[1] * 60 + clock[2]
    };
    jobs.iter().map(second).collect()
}

fn every_second() -> Value {
    json!({"cron": "* * * * * *", "overlap": "allow", "catch_up": "all",
           "job": {"type": "noop", "input": {}}})
}

fn leader(client: &Client) -> Option<String> {
    let hosts = client.get("/api/v1/hosts").body;
    let leads = |host: &&Value| host["leader"] == true;
    hosts["hosts"].as_array()?.iter().find(leads)?["id"].as_str().map(str::to_owned)
}

#[test]
fn a_schedule_fires_once_per_planned_time_while_the_leading_host_is_killed() {
    let world = World::new(CONFIG);
    let mut hosts: Vec<Host> = (0..3).map(|_| world.host(&["noop"])).collect();
    put(&hosts[0], "tick", &every_second());
    let mut takeovers = Vec::new();
    for _ in 0..3 {
        sleep(Duration::from_secs(3));
        let leads = eventually("a host leads", PATIENCE, || leader(&hosts[0]));
        let index = hosts.iter().position(|host| host.get("/api/v1/hosts").body["this"] == leads.as_str());
        let index = index.expect("the host that leads is one of ours");
        hosts[index].kill();
        let from = Instant::now();
        let other = &hosts[(index + 1) % 3];
        eventually("another host leads", PATIENCE, || leader(other).filter(|now| *now != leads));
        takeovers.push(from.elapsed());
        hosts[index].start();
        hosts[index].wait_for_plugins(&["noop"]);
    }
    println!("another host led after {takeovers:?}");
    assert!(takeovers.iter().all(|after| *after < Duration::from_secs(8)), "{takeovers:?}");
    sleep(Duration::from_secs(2));
    ask(&hosts[0], "tick", "pause").expect(202);
    let jobs = made(&hosts[0], "tick");
    let mut times = planned(&jobs);
    times.sort_unstable();
    println!("{} planned times", times.len());
    assert!(times.len() > 10, "{times:?}");
    for pair in times.windows(2) {
        assert!(pair[1] == pair[0] + 1 || pair[0] == 86_399, "a time is missing or came twice: {pair:?}");
    }
    for job in &jobs {
        hosts[0].reaches(job["id"].as_str().expect("an id"), "succeeded");
    }
}

#[test]
fn what_was_missed_while_no_host_was_there_follows_the_policy() {
    let world = World::new(CONFIG);
    let mut host = world.host(&["noop"]);
    for policy in ["skip", "last", "all"] {
        put(
            &host,
            policy,
            &json!({"every_ms": 2_000, "catch_up": policy, "overlap": "allow",
                                   "job": {"type": "noop", "input": {}}}),
        );
    }
    put(
        &host,
        "once",
        &json!({"at": show(&host, "all")["upcoming"][2], "job": {"type": "noop", "input": {}}}),
    );
    host.stop();
    // Longer than what counts as a host that is a little late.
    sleep(Duration::from_secs(22));
    host.start();
    let caught_up = eventually("missed times fire", PATIENCE, || {
        let jobs = made(&host, "all");
        (jobs.len() >= 10 && !made(&host, "once").is_empty()).then_some(jobs)
    });
    let times: BTreeSet<_> = planned(&caught_up).into_iter().collect();
    assert_eq!(times.len(), caught_up.len(), "each once");
    let missed = |name: &str| show(&host, name)["missed"].as_u64().expect("a number");
    assert_eq!(missed("all"), 0);
    assert!(missed("skip") >= 1 && missed("last") >= missed("skip"), "{} {}", missed("skip"), missed("last"));
    assert!(made(&host, "last").len() < made(&host, "all").len());
    assert_eq!(made(&host, "once").len(), 1);
    assert_eq!(show(&host, "once")["status"], "ended");
}

#[test]
fn overlapping_runs_are_skipped_queued_allowed_or_cancelled() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let long = json!({"type": "counter", "input": {"steps": 100_000, "work_us": 500}});
    for policy in ["skip", "queue_one", "allow", "cancel_running"] {
        put(&host, policy, &json!({"every_ms": 3_600_000, "overlap": policy, "job": long}));
        let first = ask(&host, policy, "run").expect(202)["job"].as_str().expect("a job").to_owned();
        host.reaches(&first, "running");
        let second = ask(&host, policy, "run");
        match policy {
            "skip" => assert_eq!((second.status, second.code()), (409, "schedule-busy")),
            "queue_one" => {
                assert_eq!(second.expect(202)["waiting"], true);
                assert_eq!(ask(&host, policy, "run").code(), "schedule-busy");
                assert_eq!(made(&host, policy).len(), 1);
                host.control(&first, "cancel").expect(202);
                eventually("the run that waited begins", PATIENCE, || {
                    (made(&host, policy).len() == 2).then_some(())
                });
                assert_eq!(show(&host, policy)["waiting_at"], Value::Null);
            }
            "allow" => {
                let second = second.expect(202)["job"].as_str().expect("a job").to_owned();
                host.reaches(&second, "running");
                assert_eq!(host.job(&first)["status"], "running");
            }
            _ => {
                let second = second.expect(202)["job"].as_str().expect("a job").to_owned();
                assert_eq!(host.job(&first)["status"], "cancelled");
                host.reaches(&second, "running");
            }
        }
    }
}

#[test]
fn built_in_maintenance_runs_and_stops_when_it_is_paused() {
    let world = World::new("[retention]\nsucceeded_ms = 100\n");
    let host = world.host(&["noop"]);
    let name = "waymark.expire-results";
    let fired = || show(&host, name)["fired"].as_u64().expect("a number");
    eventually("expired jobs are removed", PATIENCE, || (fired() > 0).then_some(()));
    let ended = |id: &str| host.get(&format!("/api/v1/jobs/{id}")).status == 404;
    ask(&host, name, "pause").expect(202);
    let id = host.submit(&json!({"type": "noop", "input": {}}));
    let _ = host.result(&id);
    sleep(Duration::from_secs(11));
    assert!(!ended(&id), "it is kept while the schedule is paused");
    for name in [name, "waymark.expire-keys", "waymark.reconcile-indexes"] {
        ask(&host, name, "run").expect(202);
        let one = eventually("it ran", PATIENCE, || {
            let one = show(&host, name);
            (one["took_ms"].is_u64() && one["history"][0]["note"].is_string()).then_some(one)
        });
        assert_eq!((&one["source"], &one["error"]), (&json!("built-in"), &Value::Null));
        println!("{name}: {} in {} ms", one["did"], one["took_ms"]);
    }
    eventually("the job is forgotten", PATIENCE, || ended(&id).then_some(()));
    assert_eq!(host.request("DELETE", &format!("{PATH}/{name}"), &[], b"").code(), "schedule-held");
}

#[test]
fn the_configuration_file_holds_its_schedules() {
    let world = World::new(CONFIG);
    let mut host = world.empty_host();
    configure(&host, |text| {
        text + "\n[schedules.nightly]\ncron = \"30 2 * * *\"\ntimezone = \"Europe/Berlin\"\n\
                job = { type = \"noop\", input = { a = 1 } }\n"
    });
    host.start();
    let kept = eventually("the schedule is written", PATIENCE, || {
        let answer = host.get(&format!("{PATH}/nightly"));
        (answer.status == 200).then_some(answer.body)
    });
    assert_eq!((&kept["source"], &kept["job"]["input"]["a"]), (&json!("file"), &json!(1)));
    assert_eq!(kept["upcoming"].as_array().map(Vec::len), Some(10));
    let body = every_second().to_string();
    waymark_tests::guest::copy("noop", &host.plugins);
    host.wait_for_plugins(&["noop"]);
    let refused = host.request(
        "PUT",
        &format!("{PATH}/nightly"),
        &[("content-type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!((refused.status, refused.code()), (409, "schedule-held"));
    // The switch is the operator's, over restarts too.
    ask(&host, "nightly", "pause").expect(202);
    host.stop();
    host.start();
    assert_eq!(show(&host, "nightly")["status"], "paused");
}

#[test]
fn the_command_line_does_all_that_the_api_does() {
    let world = World::new(CONFIG);
    let host = world.host(&["noop"]);
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        done(command.arg("schedule").args(arguments).args(["--url", &host.url]))
    };
    let when = ["--cron", "0 3 * * *", "--timezone", "Europe/Berlin"];
    let what =
        ["--tag", "x", "--unique-key", "k", "--unique-for", "1h", "--flow-key", "a b", "--weight", "2"];
    cli(&[&["put", "s", "noop", "{}"][..], &when[..], &what[..]].concat()).unwrap();
    assert!(cli(&["list"]).unwrap().contains("0 3 * * * (Europe/Berlin)"));
    assert!(cli(&["pause", "s"]).unwrap().contains("paused"));
    assert!(cli(&["run", "s"]).unwrap().starts_with("job "));
    assert!(cli(&["resume", "s"]).unwrap().contains("active"));
    let shown: Value = serde_json::from_str(&cli(&["show", "s", "--json"]).unwrap()).unwrap();
    assert_eq!((&shown["fired"], &shown["job"]["tags"]), (&json!(1), &json!(["x"])));
    for (field, value) in [
        ("unique_key", json!("k")),
        ("unique_for_ms", json!(3_600_000)),
        ("flow_key", json!("a b")),
        ("weight", json!(2)),
    ] {
        assert_eq!(shown["job"][field], value, "{field}");
    }
    // The key is taken for an hour: the job that has it is answered.
    let ran = cli(&["run", "s"]).unwrap();
    assert_eq!(ran, format!("job {}\n", shown["last_job"].as_str().unwrap()));
    let shown: Value = serde_json::from_str(&cli(&["show", "s", "--json"]).unwrap()).unwrap();
    assert_eq!(shown["history"][0]["note"], "unique");
    let wrong = cli(&["put", "s", "noop", "--every", "1h", "--replace-input"]).unwrap_err();
    assert!(wrong.contains("--unique-key"), "{wrong}");
    assert_eq!(cli(&["next", "--every", "1h", "--limit", "3"]).unwrap().lines().count(), 3);
    let wrong = cli(&["put", "s", "noop", "--cron", "0 3 * *"]).unwrap_err();
    assert!(wrong.contains("/cron"), "{wrong}");
    cli(&["delete", "s"]).unwrap();
    assert!(cli(&["show", "s"]).unwrap_err().contains("unknown-schedule"));
}

/// Schedules that are due at once.
const MANY: usize = 10_000;

#[test]
fn ten_thousand_schedules_that_are_due_at_once_fire_without_a_slow_script() {
    let world = World::alone("[worker]\nprocesses = 0\n");
    let host = world.host(&["noop"]);
    // Far enough for all to be put before; the preview knows the store's clock and how a time is written.
    let preview = host.get(&format!("{PATH}/preview?every_ms=1000&limit=60")).expect(200);
    let due = preview["upcoming"][59].clone();
    let from = Instant::now();
    let names: Vec<_> = (0..MANY).map(|number| format!("n{number}")).collect();
    waymark_tests::at_once(&names, 4, |name| {
        put(&host, name, &json!({"at": due, "job": {"type": "noop", "input": {}}}));
    });
    println!("{MANY} schedules put in {:?}", from.elapsed());
    world.redis.command(&["SLOWLOG", "RESET"]);
    world.redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
    let queued = || {
        let queues = host.get("/api/v1/queues").expect(200);
        queues["queues"].as_array().and_then(|all| all.first()?["depth"].as_u64()).unwrap_or(0)
    };
    eventually("the first fires", Duration::from_secs(90), || (queued() > 0).then_some(()));
    let from = Instant::now();
    eventually("all have fired", Duration::from_secs(60), || (queued() == MANY as u64).then_some(()));
    println!("{MANY} schedules fired in {:?}", from.elapsed());
    let slow = world.redis.command(&["SLOWLOG", "LEN"]);
    assert_eq!(slow, ":0", "commands above 10 ms");
}
