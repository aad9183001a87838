//! Random jobs, controls and faults for a while; then every accepted job has ended once, or is exactly where its state says.
//!
//! `WAYMARK_SOAK_SECONDS` says how long, 20 by default; `cargo xtask soak --minutes 30` is the long run.

use crate::support::{Random, observer};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    thread::sleep,
    time::{Duration, Instant},
};
use waymark_tests::{World, at_once, client::is_ended, eventually, host::Host};

/// Short leases, so that a frozen host loses its jobs; a death under a job is nothing special here.
const CONFIG: &str = "
[worker]
lease_ms = 1500
crashes_max = 100000
processes = 1
[defaults.retry]
base_ms = 50
max_ms = 500
[plugins.counter]
checkpoint = { every_ms = 100 }
";
/// Time between two disturbances.
const PAUSE: Duration = Duration::from_millis(150);
/// Jobs that have not ended; with more of them nothing is submitted.
const OPEN_MAX: usize = 400;
/// The jobs that have not ended.
const OPEN: &str = "/api/v1/jobs?status=queued,running,scheduled,waiting,paused&limit=1000";
/// How long everything may take to end when nothing disturbs it any more.
const REST: Duration = Duration::from_secs(300);

/// What is known about an accepted job.
struct Accepted {
    steps: u64,
    /// It was seen ended.
    is_over: bool,
}

struct Soak {
    random: Random,
    hosts: Vec<Host>,
    observer: Host,
    accepted: BTreeMap<String, Accepted>,
    /// Jobs whose deletion was asked for: they may be gone.
    deleted: BTreeSet<String>,
    done: BTreeMap<&'static str, usize>,
    // Dropped after the hosts.
    world: World,
}

impl Soak {
    fn new() -> Self {
        let random = Random::announced();
        let world = World::new(CONFIG);
        let observer = observer(&world, &["counter"]);
        let hosts = vec![world.host(&["counter"]), world.host(&["counter"])];
        Self {
            random,
            hosts,
            observer,
            accepted: BTreeMap::new(),
            deleted: BTreeSet::new(),
            done: BTreeMap::new(),
            world,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn job(&mut self) -> (u64, Value) {
        let steps = 1 + self.random.below(40) as u64;
        let mut input = json!({"steps": steps, "work_us": self.random.below(4_000), "emit": true});
        match self.random.below(8) {
            0 => input["sleep_ms"] = json!(self.random.below(2_000)),
            1 => {
                input["await_signal"] = json!("go");
                input["signal_timeout_ms"] = json!(1 + self.random.below(3_000));
            }
            2 => input["transient_at"] = json!(1 + self.random.below(steps as usize)),
            3 => input["children"] = json!(1 + self.random.below(4)),
            4 => input["state_bytes"] = json!(self.random.below(20_000)),
            _ => {}
        }
        let mut job = json!({"type": "counter", "input": input, "priority": self.random.below(10)});
        if self.random.below(4) == 0 {
            job["queue"] = json!(["day", "night"][self.random.below(2)]);
        }
        if self.random.below(5) == 0 {
            job["delay_ms"] = json!(self.random.below(2_000));
        }
        (steps, job)
    }

    fn submit(&mut self) {
        let jobs: Vec<_> = (0..=self.random.below(20)).map(|_| self.job()).collect();
        let bodies: Vec<_> = jobs.iter().map(|(_, job)| job.clone()).collect();
        let answer = self.observer.post("/api/v1/jobs/batch", &json!({"jobs": bodies}));
        // Without an answer nobody knows; such jobs are not counted among those that were accepted.
        if answer.status == 201 {
            let made = answer.body["jobs"].as_array().expect("jobs");
            for ((steps, _), job) in jobs.iter().zip(made) {
                let id = job["id"].as_str().expect("an id").to_owned();
                self.accepted.insert(id, Accepted { steps: *steps, is_over: false });
                self.count("jobs accepted");
            }
        }
    }

    fn any_job(&mut self) -> Option<String> {
        let open: Vec<_> = self.accepted.iter().filter(|(_, one)| !one.is_over).map(|(id, _)| id).collect();
        if open.is_empty() { None } else { Some(open[self.random.below(open.len())].clone()) }
    }

    fn control(&mut self) {
        let Some(id) = self.any_job() else { return };
        match self.random.below(12) {
            0..=2 => drop(self.observer.control(&id, "pause")),
            3..=5 => drop(self.observer.control(&id, "resume")),
            6 => drop(self.observer.control(&id, "restart")),
            7 => drop(self.observer.control(&id, "cancel")),
            8 => drop(self.observer.control(&id, "retry")),
            9 => {
                let _ = self.observer.delete(&id);
                self.deleted.insert(id);
            }
            _ => {
                let body = json!({"queue": "night", "priority": self.random.below(10)}).to_string();
                let _ = self.observer.request("PATCH", &format!("/api/v1/jobs/{id}"), &[], body.as_bytes());
            }
        }
        self.count("controls");
    }

    fn disturb(&mut self) {
        let at = self.random.below(self.hosts.len());
        match self.random.below(100) {
            0..=44 => self.control(),
            45..=79 => {
                self.look();
                if self.accepted.values().filter(|one| !one.is_over).count() < OPEN_MAX {
                    self.submit();
                }
            }
            80..=84 => {
                self.hosts[at].kill();
                self.hosts[at].launch();
                self.count("hosts killed");
            }
            85..=88 => {
                let workers = self.hosts[at].workers();
                if let Some(worker) = workers.first() {
                    self.hosts[at].kill_one(*worker);
                    self.count("workers killed");
                }
            }
            89..=91 => {
                self.hosts[at].freeze();
                sleep(Duration::from_millis(500 + self.random.below(2_500) as u64));
                self.hosts[at].wake();
                self.count("hosts frozen");
            }
            92..=93 => {
                let _ = self.hosts[at].stop();
                self.hosts[at].launch();
                self.count("hosts drained");
            }
            94..=95 => {
                self.world.redis.kill();
                sleep(Duration::from_millis(self.random.below(1_500) as u64));
                self.world.redis.start_again();
                self.count("Redis killed");
            }
            _ => {
                let queue = ["day", "night", "counter"][self.random.below(3)];
                for verb in ["pause", "resume"] {
                    let _ = self.observer.post(&format!("/api/v1/queues/{queue}/{verb}"), &Value::Null);
                    sleep(Duration::from_millis(100));
                }
                self.count("queues paused");
            }
        }
    }

    /// Notes which jobs have ended or are gone: nothing more is asked of them.
    fn look(&mut self) {
        let page = self.observer.get(OPEN);
        // Redis may be away for a moment.
        let Some(open) = page.body["jobs"].as_array() else { return };
        let open: BTreeSet<_> = open.iter().filter_map(|job| job["id"].as_str()).collect();
        for (id, one) in &mut self.accepted {
            one.is_over = !open.contains(id.as_str());
        }
    }

    /// Nothing disturbs any more: whatever was stopped goes on, and comes to its end.
    fn rest(&mut self) {
        for queue in ["day", "night", "counter"] {
            self.observer.post(&format!("/api/v1/queues/{queue}/resume"), &Value::Null).expect(202);
        }
        eventually("every job has ended", REST, || {
            // A pause that was asked of a running job may come after an earlier resume.
            let _ = self.observer.post("/api/v1/jobs/bulk/resume?status=paused", &Value::Null);
            sleep(Duration::from_millis(200));
            let page = self.observer.get(OPEN);
            (page.status == 200 && page.body["jobs"] == json!([])).then_some(())
        });
    }

    /// Every accepted job has ended, with the output of an undisturbed one where it succeeded; and all that the store
    /// keeps agrees.
    fn check(mut self) {
        for host in &mut self.hosts {
            let _ = host.stop();
        }
        let jobs: Vec<_> = self.accepted.iter().collect();
        let succeeded = at_once(&jobs, 4, |(id, one)| {
            let answer = self.observer.get(&format!("/api/v1/jobs/{id}"));
            if answer.status == 404 {
                assert!(self.deleted.contains(*id), "job {id} was accepted and is lost");
                return 0;
            }
            let job = answer.expect(200);
            assert!(is_ended(&job), "{job}");
            if job["status"] != "succeeded" {
                // A job is cancelled by an operator, or fails with a child that was.
                assert_ne!(job["error"]["kind"], "poisonous", "{job}");
                return 0;
            }
            assert_eq!(job["result"]["sum"], one.steps * (one.steps + 1) / 2, "{job}");
            let told = self.observer.outputs(id);
            let steps: Vec<_> = told.iter().map(|record| record["step"].as_u64().expect("a step")).collect();
            assert_eq!(steps, (1..=one.steps).collect::<Vec<_>>(), "output records of job {id}");
            1
        });
        let succeeded: usize = succeeded.iter().sum();
        println!("{:?}; {succeeded} of {} accepted jobs succeeded", self.done, jobs.len());
        assert!(succeeded * 2 > jobs.len(), "most of what was accepted succeeds");
        let client = redis::Client::open(self.world.redis.url()).expect("an address");
        crate::store::check_ledger(&mut client.get_connection().expect("a connection"), "wm", 1);
    }
}

#[test]
fn every_accepted_job_ends_once_or_is_where_its_state_says() {
    let seconds = env::var("WAYMARK_SOAK_SECONDS").map_or(20, |text| text.parse().expect("a number"));
    let mut soak = Soak::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        soak.disturb();
        sleep(PAUSE);
    }
    soak.rest();
    soak.check();
}
