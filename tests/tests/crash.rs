//! What dies, and what that costs: nothing that was committed, and no other job.

use crate::support::{Random, configure, done, observer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    process::Command,
    thread::{self, JoinHandle, available_parallelism, sleep},
    time::{Duration, Instant},
};
use waymark_tests::{
    PATIENCE, World, at_once,
    client::{Client, is_ended},
    eventually, guest,
    host::Host,
    redis::Redis,
};

/// Jobs of the long tests, and steps of each.
const JOBS: usize = 200;
const STEPS: u64 = 50;
/// Time between two kills.
const KILL_EVERY: Duration = Duration::from_secs(2);

/// Hosts of the long tests: a short lease, so that the dead are missed soon, and few slots, so that jobs move
/// between hosts in all states. A host dies so often that some job would meet three deaths between two commits and
/// be called poisonous, which is right and has a test of its own.
const KILLED_HOSTS: &str = "
[worker]
lease_ms = 2000
slots = 16
crashes_max = 100
[plugins.counter]
checkpoint = { every_ms = 200 }
";

#[test]
fn a_host_killed_every_2_s_for_a_minute_costs_no_job_and_no_output_record() {
    let mut trial = Trial::new(Duration::from_secs(60));
    let events = Events::listen(&trial.world.redis);
    trial.kill_hosts(&[]);
    let ids = trial.ids.clone();
    trial.all_ended_well();
    let events = events.told();
    for id in &ids {
        let ends: String = events[id].chars().filter(|letter| "SFC".contains(*letter)).collect();
        assert_eq!(ends, "S", "job {id} ended once, and well: {}", events[id]);
    }
}

#[test]
fn redis_killed_twice_while_hosts_are_killed_costs_no_job_and_no_output_record() {
    let mut trial = Trial::new(Duration::from_secs(20));
    let outages = [1 + trial.random.below(3), 5 + trial.random.below(4)];
    trial.kill_hosts(&outages);
    trial.all_ended_well();
}

/// 200 jobs on three hosts, and a fourth that only answers questions.
struct Trial {
    hosts: Vec<Host>,
    observer: Host,
    random: Random,
    length: Duration,
    ids: Vec<String>,
    /// Result and output records of an undisturbed run.
    undisturbed: (Value, Vec<Value>),
    /// When each job was first seen to have ended.
    ended: HashMap<String, Value>,
    // Dropped after the hosts.
    world: World,
}

impl Trial {
    fn new(length: Duration) -> Self {
        let random = Random::announced();
        let world = World::new(KILLED_HOSTS);
        let observer = observer(&world, &["counter"]);
        let hosts = vec![world.host(&["counter"]), world.host(&["counter"]), world.host(&["counter"])];
        let step = json!({"type": "counter", "input": {"steps": STEPS, "emit": true}});
        let id = observer.submit(&step);
        let undisturbed = (observer.result(&id), observer.outputs(&id));
        assert_eq!(undisturbed.1.len() as u64, STEPS);
        // What all processors together can do in that time if nothing is lost, so that it lasts longer.
        let processors = available_parallelism().map_or(2, usize::from).min(hosts.len());
        let steps = JOBS as u64 * STEPS;
        let budget_ns = length.as_nanos() as u64 * processors as u64;
        let work_us = budget_ns / steps / ns_per_work_us(&hosts[0]);
        println!("work_us = {work_us}");
        let job = |index: usize| {
            // Small checkpoints, and such as are compressed.
            let state_bytes = [0, 500, 20_000][index % 3];
            json!({
                "type": "counter",
                "input": {"steps": STEPS, "emit": true, "work_us": work_us, "state_bytes": state_bytes},
            })
        };
        let ids = observer.submit_all(&(0..JOBS).map(job).collect::<Vec<_>>());
        Self { hosts, observer, random, length, ids, undisturbed, ended: HashMap::new(), world }
    }

    /// Kills a host every 2 s and starts it again at once; at the kills of these numbers Redis as well, which comes
    /// back a second later.
    fn kill_hosts(&mut self, outages: &[usize]) {
        let begun = Instant::now();
        let (mut kills, mut hits) = (0, 0_u64);
        while begun.elapsed() < self.length {
            let victim = self.random.below(self.hosts.len());
            self.hosts[victim].kill();
            if outages.contains(&kills) {
                self.world.redis.kill();
                sleep(KILL_EVERY / 2);
                self.world.redis.start_again();
            }
            self.hosts[victim].launch();
            kills += 1;
            self.look();
            hits += u64::from(self.ended.len() < JOBS);
            let next = KILL_EVERY * u32::try_from(kills).expect("few kills");
            sleep(next.saturating_sub(begun.elapsed()));
        }
        println!(
            "{kills} kills, {hits} before the last end, {} of {JOBS} jobs ended meanwhile",
            self.ended.len()
        );
        // One every 2 s; a machine that is much faster than it was a moment ago may be done somewhat early.
        assert!(hits >= self.length.as_secs() / 3, "too few of {kills} kills hit anything: {hits}");
    }

    /// Notes which jobs have ended, and that no job ended again.
    fn look(&mut self) {
        let path = format!("/api/v1/jobs?type=counter&status=succeeded,failed,cancelled&limit={}", JOBS * 2);
        let page = self.observer.get(&path);
        // Redis may be away for a moment.
        for job in page.body["jobs"].as_array().into_iter().flatten() {
            let id = job["id"].as_str().expect("an id");
            if self.ids.iter().any(|ours| ours == id) {
                let known = self.ended.entry(id.to_owned()).or_insert_with(|| job["ended_at"].clone());
                assert_eq!(*known, job["ended_at"], "job {id} ended again");
            }
        }
    }

    /// Waits for all ends and compares each with the undisturbed run.
    fn all_ended_well(mut self) {
        let begun = Instant::now();
        let observer: &Client = &self.observer;
        let jobs: BTreeMap<_, _> = self.ids.iter().map(|id| (id.clone(), observer.ended(id))).collect();
        println!("the last job ended {:?} after the last kill", begun.elapsed());
        assert_eq!(jobs.len(), JOBS);
        let (result, records) = &self.undisturbed;
        at_once(&self.ids, 4, |id| {
            let job = &jobs[id];
            assert_eq!(job["status"], "succeeded", "{job}");
            assert_eq!(&job["result"], result, "{job}");
            assert_eq!(
                (&job["run"], &job["step"], &job["attempt"]),
                (&json!(1), &json!(STEPS), &json!(1)),
                "{job}"
            );
            assert_eq!(&observer.outputs(id), records, "output records of job {id}");
            // The API shows as many records as the job's state says; this is what is there.
            assert_eq!(
                self.world.redis.command(&["LLEN", &format!("{{wm0}}:out:{id}")]),
                format!(":{STEPS}")
            );
        });
        self.look();
        assert_eq!(self.ended.len(), JOBS, "all jobs are listed among the ended");
        for status in ["queued", "running", "scheduled", "waiting", "paused"] {
            let left = self.observer.get(&format!("/api/v1/jobs?status={status}")).expect(200);
            assert_eq!(left["jobs"], json!([]), "{status}");
        }
    }
}

/// Nanoseconds of processor time for one unit of a counter's `work_us`, on this machine.
fn ns_per_work_us(host: &Host) -> u64 {
    const WORK_US: u64 = 250_000;
    /// Clock ticks are 10 ms on every Linux.
    const TICK_NS: u64 = 10_000_000;
    let ticks = |pid: i32| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker runs");
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        // After the name: user time is the 12th value, system time the 13th.
        rest.split(' ').skip(11).take(2).map(|value| value.parse::<u64>().expect("a number")).sum()
    };
    let [worker] = host.workers()[..] else { panic!("one worker process") };
    let mut measured = Vec::new();
    // Another host may take the job: then this one spends next to nothing. The least of three is the machine's own
    // speed, the rest is what others do to it.
    eventually("the host runs some jobs", PATIENCE, || {
        let before = ticks(worker);
        let _ =
            host.result(&host.submit(&json!({"type": "counter", "input": {"steps": 1, "work_us": WORK_US}})));
        measured.extend(Some(ticks(worker) - before).filter(|spent| *spent > 10));
        (measured.len() == 3).then_some(())
    });
    let spent = measured.into_iter().min().unwrap_or_default();
    spent * TICK_NS / WORK_US
}

/// Everything that the store published: per job, the letters of the states it came to, in their order.
struct Events {
    stream: TcpStream,
    listener: JoinHandle<BTreeMap<String, String>>,
}

impl Events {
    fn listen(redis: &Redis) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).expect("Redis listens");
        stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$8\r\n{wm0}:ev\r\n").expect("Redis listens");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        // The confirmation: an array of three, the last its number of subscriptions.
        lines.by_ref().map_while(Result::ok).find(|line| line == ":1").expect("Redis confirms");
        let listener = thread::spawn(move || {
            let mut events: BTreeMap<String, String> = BTreeMap::new();
            for line in lines.map_while(Result::ok) {
                for (id, letter) in line.split(' ').filter_map(|event| event.split_once(':')) {
                    events.entry(id.to_owned()).or_default().push_str(letter);
                }
            }
            events
        });
        Self { stream, listener }
    }

    fn told(self) -> BTreeMap<String, String> {
        self.stream.shutdown(Shutdown::Both).expect("Redis listens");
        self.listener.join().expect("the listener reads")
    }
}

/// Records that a counter emits.
fn records(steps: u64) -> Vec<Value> {
    (1..=steps).map(|step| json!({"step": step, "sum": step * (step + 1) / 2})).collect()
}

/// What a counter answers.
fn output(steps: u64) -> Value {
    json!({"sum": steps * (steps + 1) / 2, "steps": steps, "children_sum": 0, "signal": null})
}

/// The job ended well, with everything exactly once.
#[track_caller]
fn is_whole(client: &Client, id: &str, steps: u64) {
    assert_eq!(client.result(id), output(steps), "result of job {id}");
    assert_eq!(client.outputs(id), records(steps), "output records of job {id}");
}

/// The id under which a host speaks of itself.
fn name(host: &Host) -> String {
    let hosts = host.get("/api/v1/hosts").expect(200);
    hosts["this"].as_str().expect("a name").to_owned()
}

/// The worker that last committed a job belongs to this host.
fn is_held_by(job: &Value, host: &str) -> bool {
    job["host"].as_str().is_some_and(|worker| worker.starts_with(&format!("{host}.")))
}

#[test]
fn a_host_frozen_beyond_its_lease_overwrites_nothing_when_it_wakes() {
    const SHORT: u64 = 600;
    const LONG: u64 = 4000;
    const ROUNDS_MAX: usize = 5;
    let world = World::alone(
        "[worker]\nlease_ms = 1000\nprocesses = 2\n[plugins.counter]\ncheckpoint = { every_steps = 1 }\n",
    );
    let observer = observer(&world, &["counter"]);
    let frozen = world.host(&["counter"]);
    let frozen_name = name(&frozen);
    let job = |steps| json!({"type": "counter", "input": {"steps": steps, "work_us": 100, "emit": true}});
    let mut refused = 0;
    // Whether the frozen host wakes with a commit on its way is luck, and hearing of its lost lease first is right
    // too: as many rounds as it takes until a commit was refused.
    for round in 1..=ROUNDS_MAX {
        // It has no plugin yet, so that all jobs are the other's.
        let mut other = world.empty_host();
        other.start();
        let other_name = name(&other);
        let short = observer.submit_all(&vec![job(SHORT); 4]);
        let long = observer.submit_all(&vec![job(LONG); 4]);
        for id in &long {
            let begun = observer.until(id, "begun", |job| job["step"].as_u64() > Some(2));
            assert!(is_held_by(&begun, &frozen_name), "{begun}");
        }
        frozen.freeze();
        for id in short.iter().chain(&long) {
            assert_ne!(observer.job(id)["status"], "succeeded", "the host was frozen too late");
        }
        guest::copy("counter", &other.plugins);
        for id in &short {
            is_whole(&observer, id, SHORT);
        }
        for id in &long {
            let taken = observer.until(id, "taken over", |job| is_held_by(job, &other_name));
            assert_eq!(taken["status"], "running", "the host wakes too late: {taken}");
        }
        let ended: Vec<_> = short.iter().map(|id| observer.job(id)).collect();
        frozen.wake();
        eventually("both frozen workers hear that their leases are gone", PATIENCE, || {
            (frozen.log().matches("the lease had run out").count() >= 2 * round).then_some(())
        });
        for id in &long {
            is_whole(&observer, id, LONG);
        }
        for id in short.iter().chain(&long) {
            assert!(is_held_by(&observer.job(id), &other_name), "{}", observer.job(id));
        }
        let after: Vec<_> = short.iter().map(|id| observer.job(id)).collect();
        assert_eq!(ended, after, "what ended elsewhere stays as it is");
        short.iter().for_each(|id| is_whole(&observer, id, SHORT));
        let (status, _) = other.stop();
        assert!(status.success(), "{status}");
        // With the other gone, new jobs are the woken one's.
        let id = observer.submit(&job(SHORT));
        is_whole(&observer, &id, SHORT);
        assert!(is_held_by(&observer.job(&id), &frozen_name), "{}", observer.job(&id));
        refused = frozen.log().matches("the claim was lost").count();
        println!("{refused} commits refused after {round} rounds");
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "the frozen host never tried to write anything");
}

#[test]
fn a_job_under_which_three_workers_die_fails_as_poisonous_and_one_of_two_deaths_ends_well() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    // One step that takes many seconds: nothing is committed before the worker dies.
    let poison = host.submit(&json!({"type": "counter", "input": {"steps": 1, "work_us": 10_000_000}}));
    for death in 1..=3 {
        host.reaches(&poison, "running");
        kill_worker(&host);
        if death < 3 {
            host.reaches(&poison, "queued");
        }
    }
    let job = host.reaches(&poison, "failed");
    assert_eq!(job["error"]["kind"], "poisonous", "{job}");
    assert!(job["error"]["message"].as_str().is_some_and(|text| text.contains('3')), "{job}");
    let unlucky =
        host.submit(&json!({"type": "counter", "input": {"steps": 2, "work_us": 500_000, "emit": true}}));
    for _ in 1..=2 {
        host.reaches(&unlucky, "running");
        kill_worker(&host);
        host.reaches(&unlucky, "queued");
    }
    is_whole(&host, &unlucky, 2);
}

/// Kills the one worker process of a host.
#[track_caller]
fn kill_worker(host: &Host) {
    let worker = eventually("one worker process", PATIENCE, || match host.workers()[..] {
        [worker] => Some(worker),
        _ => None,
    });
    host.kill_one(worker);
}

#[test]
fn a_killed_worker_process_costs_no_other_job_and_is_started_again() {
    const STEPS: u64 = 60;
    // A lease longer than the test: the control process gives the dead worker's jobs back, not the lease.
    let world = World::new(
        "[worker]\nprocesses = 2\nslots = 4\nlease_ms = 600000\n\
         [plugins.counter]\ncheckpoint = { every_steps = 1 }\n",
    );
    let host = world.host(&["counter"]);
    let before = host.workers();
    assert_eq!(before.len(), 2);
    let workers = eventually("the host tells which worker is which process", PATIENCE, || {
        let hosts = host.get("/api/v1/hosts").expect(200);
        let workers = hosts["hosts"][0]["workers"].as_array()?.clone();
        (workers.len() == 2).then_some(workers)
    });
    let victim = &workers[0];
    let victim_pid = i32::try_from(victim["pid"].as_i64().expect("a process id")).expect("a process id");
    assert!(before.contains(&victim_pid));
    let events = Events::listen(&world.redis);
    let job = json!({"type": "counter", "input": {"steps": STEPS, "work_us": 10_000, "emit": true}});
    let ids = host.submit_all(&vec![job; 8]);
    let holders = eventually("both workers have committed something", PATIENCE, || {
        let holders: BTreeMap<_, _> = ids.iter().map(|id| (id, host.job(id)["host"].clone())).collect();
        let known: BTreeSet<_> = holders.values().filter_map(Value::as_str).collect();
        (known.len() == 2).then_some(holders)
    });
    host.kill_one(victim_pid);
    for id in &ids {
        is_whole(&host, id, STEPS);
    }
    let events = events.told();
    // Every job was queued once when it was submitted.
    let returned = |id: &String| events[id].matches('q').count() - 1;
    assert!(ids.iter().any(|id| returned(id) == 1), "the victim held a job: {events:?}");
    for id in &ids {
        let others = holders[id].is_string() && holders[id] != victim["id"];
        assert!(returned(id) <= usize::from(!others), "job {id} of {}: {}", holders[id], events[id]);
    }
    let after = eventually("two worker processes", PATIENCE, || {
        let workers = host.workers();
        (workers.len() == 2).then_some(workers)
    });
    assert!(!after.contains(&victim_pid));
    assert!(after.iter().any(|pid| before.contains(pid)), "the other worker runs on: {before:?}, {after:?}");
    assert!((host.metric("waymark_worker_crashes_total") - 1.0).abs() < 0.5);
}

/// The private Redis of a host, which outlives it; ended with the test.
struct Private {
    folder: PathBuf,
}

impl Private {
    fn of(host: &Host) -> Self {
        Self { folder: host.plugins.with_file_name("data").join("redis") }
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.folder.join("redis.pid")).ok()?;
        // The file outlives a server that was killed.
        let command = fs::read_to_string(format!("/proc/{}/cmdline", text.trim())).ok()?;
        Pid::from_raw(text.trim().parse().ok()?).filter(|_| command.contains("redis-server"))
    }

    fn kill(&self) {
        let Some(pid) = self.pid() else { return };
        kill_process(pid, Signal::KILL).expect("it runs");
        eventually("the private Redis is gone", PATIENCE, || self.pid().is_none().then_some(()));
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_host_on_its_private_redis_goes_on_after_both_were_killed_in_turn_and_together() {
    const STEPS: u64 = 80;
    let world =
        World::new("[worker]\nlease_ms = 1000\n[plugins.counter]\ncheckpoint = { every_steps = 1 }\n");
    let mut host = world.empty_host();
    configure(&host, |text| text.split("[redis]").next().unwrap_or_default().to_owned());
    guest::copy("counter", &host.plugins);
    let redis = Private::of(&host);
    host.start();
    host.wait_for_plugins(&["counter"]);
    let job = json!({"type": "counter", "input": {"steps": STEPS, "work_us": 5000, "emit": true}});
    for together in [false, true] {
        let first = redis.pid().expect("the private Redis runs");
        let ids = host.submit_all(&vec![job.clone(); 6]);
        for id in &ids {
            let _ = host.until(id, "begun", |job| job["step"].as_u64() > Some(2));
        }
        host.kill();
        if together {
            redis.kill();
        }
        host.start();
        let second = redis.pid().expect("the private Redis runs");
        assert_eq!(first == second, !together, "a server that lives is found, not started again");
        for id in &ids {
            let job = host.ended(id);
            assert_eq!(job["run"], 1, "{job}");
            is_whole(&host, id, STEPS);
        }
    }
    let (status, _) = host.stop();
    assert!(status.success(), "{status}");
    eventually("the private Redis ends with its host", PATIENCE, || redis.pid().is_none().then_some(()));
}

/// The file to which a server appends every write.
fn appended(redis: &Redis) -> PathBuf {
    let port = redis.port.to_string();
    let asked =
        done(Command::new("redis-cli").args(["-p", &port, "CONFIG", "GET", "dir"])).expect("redis-cli");
    let folder = PathBuf::from(asked.lines().nth(1).expect("a folder"));
    // From Redis 7 on a folder of files, of which the increment grows; before that one file.
    let files = fs::read_dir(folder.join("appendonlydir")).into_iter().flatten();
    let increment = files.map(|file| file.expect("a file").path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(".incr.aof"))
    });
    increment.unwrap_or_else(|| folder.join("appendonly.aof"))
}

#[test]
fn a_redis_that_lost_its_last_writes_leaves_no_gap_and_no_repetition_in_any_output() {
    const SHORT: u64 = 60;
    const LONG: u64 = 300;
    /// A worker compares the store with its own jobs every 10 s, and acts on what it sees twice.
    const NOTICED_WITHIN: Duration = Duration::from_secs(60);
    let mut world =
        World::new("[worker]\nlease_ms = 3000\n[plugins.counter]\ncheckpoint = { every_steps = 1 }\n");
    let host = world.host(&["counter"]);
    let job = |steps| json!({"type": "counter", "input": {"steps": steps, "work_us": 3000, "emit": true}});
    let short = host.submit_all(&vec![job(SHORT); 3]);
    let long = host.submit_all(&vec![job(LONG); 3]);
    for id in short.iter().chain(&long) {
        let _ = host.until(id, "begun", |job| job["step"].as_u64() > Some(4));
    }
    let file = appended(&world.redis);
    let kept_bytes = fs::metadata(&file).expect("the file is there").len();
    for id in short.iter().chain(&long) {
        assert_eq!(host.job(id)["status"], "running", "the loss must hit running jobs");
    }
    for id in &short {
        is_whole(&host, id, SHORT);
    }
    // What came after that moment is lost: the ends of the short jobs, and many commits of the long ones.
    world.redis.kill();
    fs::OpenOptions::new().write(true).open(&file).expect("a file").set_len(kept_bytes).expect("it is cut");
    world.redis.start_again();
    for id in short.iter().chain(&long) {
        let steps = if short.contains(id) { SHORT } else { LONG };
        let job = eventually("the job ends", NOTICED_WITHIN, || {
            let job = host.get(&format!("/api/v1/jobs/{id}")).body;
            is_ended(&job).then_some(job)
        });
        assert_eq!(job["run"], 1, "{job}");
        is_whole(&host, id, steps);
        assert_eq!(world.redis.command(&["LLEN", &format!("{{wm0}}:out:{id}")]), format!(":{steps}"));
    }
}
