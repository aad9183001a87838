//! The same jobs on every kind of store: Sentinel with a failover, Cluster with a lost master; and what is refused.

use crate::support::configure;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use waymark_job::JobId;
use waymark_tests::{
    PATIENCE, World, binary,
    cluster::Cluster,
    eventually, guest,
    host::Host,
    redis::{Redis, free_port},
};

/// Longest time without writes when a master dies.
const WRITES_WITHIN: Duration = Duration::from_secs(10);
/// Steps of each job.
const STEPS: u64 = 40;
const CONFIG: &str = "[worker]\nlease_ms = 3000\n[plugins.counter]\ncheckpoint = { every_ms = 100 }\n";

/// Output of `redis-cli`, whether it succeeded or not.
fn redis_cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output().expect("redis-cli is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a server says of itself in a line of `INFO`.
fn says(redis: &Redis, line: &str) -> bool {
    redis.try_command(&["INFO"]).is_ok_and(|text| text.lines().any(|one| one == line))
}

/// A process of a Sentinel.
struct Sentinel {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Sentinel {
    fn start(master_port: u16) -> Self {
        let (folder, port) = (TempDir::new().expect("a folder"), free_port());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\n\
             sentinel monitor main 127.0.0.1 {master_port} 2\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n",
            folder.path().display()
        );
        fs::write(&file, text).expect("a file");
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Self { port, child, _folder: folder }
    }

    fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        redis_cli(&[&["-p", port.as_str(), "SENTINEL"], words].concat())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a host on this store.
fn host(world: &World, partitions: u16) -> Host {
    let mut host = world.empty_host();
    configure(&host, |text| text.replace("[redis]\n", &format!("[redis]\npartitions = {partitions}\n")));
    guest::copy("counter", &host.plugins);
    host.start();
    host.wait_for_plugins(&["counter"]);
    host
}

/// Jobs of every kind: some are paused half-way and resumed after `disturb`, one sleeps, one awaits children, one a
/// signal; all end with the right result and every output record once. Answers their ids.
fn jobs_of_every_kind_end_well(host: &Host, disturb: impl FnOnce()) -> Vec<String> {
    let steady = json!({"steps": STEPS, "work_us": 10_000, "emit": true});
    let kind = |more: Value| {
        let mut input = steady.clone();
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"type": "counter", "input": input})
    };
    let ids = host.submit_all(&vec![kind(json!({})); 8]);
    let asleep = host.submit(&kind(json!({"sleep_ms": 500})));
    let parent = host.submit(&kind(json!({"children": 3})));
    let called = host.submit(&kind(json!({"await_signal": "go"})));
    let (paused, others) = ids.split_at(4);
    for id in paused {
        let _ = host.until(id, "begun", |job| job["step"].as_u64() > Some(0));
        let answer = host.control(id, "pause");
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    for id in paused {
        let job = host.reaches(id, "paused");
        assert!(job["step"].as_u64() < Some(STEPS), "the pause came too late: {job}");
    }
    disturb();
    for id in paused {
        assert_eq!(host.job(id)["status"], "paused");
        let answer = eventually("the store takes a resume", PATIENCE, || {
            let answer = host.control(id, "resume");
            (answer.status != 503).then_some(answer)
        });
        // A resume whose answer was lost has happened already.
        assert!(matches!(answer.status, 202 | 409), "{answer:?}");
    }
    host.reaches(&called, "waiting");
    let answer = host.post(&format!("/api/v1/jobs/{called}/signals/go"), &json!({"from": "a test"}));
    assert!(matches!(answer.status, 200..=204), "{answer:?}");
    let sum = STEPS * (STEPS + 1) / 2;
    let records: Vec<_> =
        (1..=STEPS).map(|step| json!({"step": step, "sum": step * (step + 1) / 2})).collect();
    let all: Vec<_> = paused.iter().chain(others).chain([&asleep, &parent, &called]).cloned().collect();
    for id in &all {
        let result = host.result(id);
        assert_eq!((&result["sum"], &result["steps"]), (&json!(sum), &json!(STEPS)), "{result}");
        assert_eq!(result["children_sum"], if *id == parent { 3 } else { 0 }, "{result}");
        assert_eq!(result["signal"], if *id == called { json!({"from": "a test"}) } else { Value::Null });
        assert_eq!(host.outputs(id), records, "output records of job {id}");
    }
    let listed = host.get("/api/v1/jobs?type=counter&status=succeeded&limit=1000").expect(200);
    let listed = listed["jobs"].as_array().expect("jobs").iter();
    let listed: BTreeSet<_> = listed.filter_map(|job| job["id"].as_str()).collect();
    assert!(all.iter().all(|id| listed.contains(id.as_str())), "every job is listed");
    all
}

#[test]
fn on_sentinel_a_failover_in_the_midst_costs_no_job() {
    let mut master = Redis::start();
    let replica = Redis::with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--replicaof",
        &format!("127.0.0.1 {}", master.port),
    ]);
    eventually("the replica has all data", PATIENCE, || {
        says(&replica, "master_link_status:up").then_some(())
    });
    let sentinels = [(); 3].map(|()| Sentinel::start(master.port));
    for sentinel in &sentinels {
        eventually("the sentinels know each other and the replica", PATIENCE, || {
            let agreed = sentinel.ask(&["CKQUORUM", "main"]).starts_with("OK 3 ");
            let replicas = sentinel.ask(&["REPLICAS", "main"]);
            (agreed && replicas.contains("master-link-status\nok")).then_some(())
        });
    }
    let addresses = sentinels.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).join(",");
    let world = World::new(CONFIG).at(&format!("redis-sentinel://{addresses}/main"));
    let host = host(&world, 1);
    jobs_of_every_kind_end_well(&host, || {
        let from = Instant::now();
        master.kill();
        let id = eventually("a new job is accepted", WRITES_WITHIN, || {
            let answer = host.post("/api/v1/jobs", &json!({"type": "counter", "input": {"steps": 3}}));
            (answer.status == 201).then(|| answer.body["id"].as_str().expect("an id").to_owned())
        });
        let took = from.elapsed();
        println!("writes resumed {} ms after the master was killed", took.as_millis());
        assert!(took < WRITES_WITHIN, "{took:?}");
        assert_eq!(host.result(&id)["sum"], 6);
        eventually("the replica is master", PATIENCE, || says(&replica, "role:master").then_some(()));
        eventually("the host is ready again", PATIENCE, || (host.get("/readyz").status == 200).then_some(()));
    });
    // The data are where the new master is, and new jobs run there.
    assert!(says(&replica, "role:master"));
    jobs_of_every_kind_end_well(&host, || {});
}

#[test]
fn on_a_cluster_jobs_spread_over_all_masters_and_survive_the_loss_of_one() {
    let mut cluster = Cluster::start(false);
    let world = World::new(CONFIG).at(&cluster.url());
    let masters = &mut cluster.masters;
    let host = host(&world, 12);
    let ids = jobs_of_every_kind_end_well(&host, || {
        masters[0].kill();
        let lost = ["CLUSTER", "INFO"];
        eventually("the cluster misses a master", PATIENCE, || {
            masters[1].command(&lost).contains("cluster_state:fail").then_some(())
        });
        masters[0].start_again();
        eventually("the cluster stands again", PATIENCE, || {
            masters.iter().all(|master| master.command(&lost).contains("cluster_state:ok")).then_some(())
        });
        eventually("the host is ready again", PATIENCE, || (host.get("/readyz").status == 200).then_some(()));
    });
    // The last two characters of an id name its partition.
    let partitions: BTreeSet<_> = ids.iter().map(|id| &id[24..]).collect();
    assert!(partitions.len() > 3, "jobs spread over partitions: {partitions:?}");
    for master in masters.iter() {
        assert_ne!(master.command(&["DBSIZE"]), ":0", "every master keeps something");
    }
    // On another host of the same cluster the same jobs are known.
    let other = self::host(&world, 12);
    for id in &ids {
        assert_eq!(other.job(id)["status"], "succeeded");
    }
}

/// The slot of a key.
fn slot(server: &Redis, key: &str) -> usize {
    server.command(&["CLUSTER", "KEYSLOT", key]).trim_start_matches(':').parse().expect("a slot")
}

#[test]
fn on_a_cluster_a_lost_master_stops_only_its_own_partitions() {
    const PARTITIONS: u16 = 12;
    /// How long a master is away and none takes over.
    const OUTAGE: Duration = Duration::from_secs(6);
    /// When new jobs are refused no more, because nobody asks the lost partitions for room.
    const SETTLED: Duration = Duration::from_secs(6);
    /// Longest time from asking for a job to its end, besides three times what it takes while all is well: other tests
    /// may have the processors.
    const ENDS_WITHIN: Duration = Duration::from_secs(2);
    let mut cluster = Cluster::start(true);
    for server in cluster.masters.iter().chain(&cluster.replicas) {
        for (name, value) in [("cluster-require-full-coverage", "no"), ("cluster-replica-no-failover", "yes")]
        {
            assert_eq!(server.command(&["CONFIG", "SET", name, value]), "+OK");
        }
    }
    let world = World::alone(CONFIG).at(&cluster.url());
    let host = host(&world, PARTITIONS);
    // `redis-cli` gives each master a third of the slots. What all partitions share stays, and so does the server whose
    // address the host has.
    let third = |key: &str| slot(&cluster.masters[1], key) * 3 / 16_384;
    let lost = [0, 2].into_iter().find(|at| *at != third("{wm}")).expect("another master");
    let is_lost: Vec<_> = (0..PARTITIONS).map(|at| third(&format!("{{wm{at}}}")) == lost).collect();
    let of = |id: &str| is_lost[usize::from(JobId::parse(id).expect("an id").partition())];
    assert!(is_lost.contains(&true) && is_lost.contains(&false));
    let long = json!({"type": "counter", "input": {"steps": STEPS, "work_us": 10_000, "emit": true}});
    let before = host.submit_all(&vec![long; 24]);
    for id in &before {
        let _ = host.until(id, "begun", |job| job["step"].as_u64() > Some(0));
    }
    // Asks for a job and waits for its end; `None`: refused.
    let run = || -> Option<(String, bool)> {
        let job = json!({"type": "counter", "input": {"steps": 2}});
        let answer = host.post("/api/v1/jobs?wait_ms=5000", &job);
        if answer.status == 503 {
            assert_eq!(answer.code(), "store-unavailable");
            return None;
        }
        let ended = answer.body["status"] == "succeeded";
        Some((answer.body["id"].as_str().expect("an id").to_owned(), ended))
    };
    let mut usual = Duration::ZERO;
    for _ in 0..5 {
        let began = Instant::now();
        assert!(run().is_some_and(|(_, ended)| ended));
        usual = usual.max(began.elapsed());
    }
    cluster.masters[lost].kill();
    let from = Instant::now();
    let (mut ended, mut refused, mut waiting, mut slowest) = (0, 0, Vec::new(), Duration::ZERO);
    while from.elapsed() < OUTAGE {
        let began = Instant::now();
        match run() {
            None => {
                refused += 1;
                assert!(from.elapsed() < SETTLED, "a job is refused {:?} after the loss", from.elapsed());
            }
            Some((id, false)) => {
                assert!(of(&id), "a job of a partition that is there did not end: {id}");
                assert!(from.elapsed() < SETTLED + Duration::from_secs(5), "{id} went to a lost partition");
                waiting.push(id);
            }
            Some((id, true)) => {
                assert!(!of(&id), "{id}");
                slowest = slowest.max(began.elapsed());
                ended += 1;
            }
        }
        assert_eq!(host.get("/readyz").status, 200);
    }
    println!(
        "with a master lost: {ended} jobs ended, the slowest after {} ms, before that {} ms; {refused} refused, {} wait",
        slowest.as_millis(),
        usual.as_millis(),
        waiting.len()
    );
    assert!(slowest < ENDS_WITHIN + 3 * usual, "{slowest:?}, {usual:?} before");
    assert!(ended > 1, "{ended}");
    for id in before.iter().filter(|id| !of(id)) {
        assert_eq!(host.ended(id)["status"], "succeeded");
    }

    // Its replica takes over, and what was lost comes back by itself.
    for replica in &cluster.replicas {
        assert_eq!(replica.command(&["CONFIG", "SET", "cluster-replica-no-failover", "no"]), "+OK");
    }
    let from = Instant::now();
    for id in before.iter().chain(&waiting) {
        let job = host.ended(id);
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    println!("all partitions were back {} ms after a replica might take over", from.elapsed().as_millis());
    for id in &before {
        assert_eq!(host.outputs(id).len() as u64, STEPS, "every record of {id} once");
    }
    eventually("new jobs go to the partitions that were lost", PATIENCE, || {
        run().is_some_and(|(id, ended)| ended && of(&id)).then_some(())
    });
}

/// Starts a host that must refuse to run, and returns its complaint.
fn refused(url: &str) -> String {
    let folder = TempDir::new().expect("a folder");
    let mut child = Command::new(binary())
        .args(["host", "--listen", "127.0.0.1:0", "--redis", url, "--data"])
        .arg(folder.path().join("data"))
        .arg("--plugins")
        .arg(folder.path().join("plugins"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the host starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the host ends", PATIENCE, || child.try_wait().expect("the host is our child"))
    }));
    if ended.is_err() {
        // It runs, which is what the test says below.
        let _ = kill_process(pid, Signal::KILL);
        let _ = child.wait();
    }
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    let status = ended.unwrap_or_else(|_| panic!("a host on {url} runs: {said}"));
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_redis_that_evicts_keys_is_refused_until_it_does_not() {
    let redis = Redis::with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let said = refused(&redis.url());
    assert!(said.contains("maxmemory-policy allkeys-lru"), "the message says what is wrong: {said}");
    assert!(said.contains("set maxmemory-policy noeviction"), "the message says what to do: {said}");
    assert_eq!(redis.command(&["DBSIZE"]), ":0", "nothing was written");
    assert_eq!(redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]), "+OK");
    let world = World::new(CONFIG).at(&redis.url());
    let host = world.host(&["counter"]);
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 3}}));
    assert_eq!(host.result(&id)["sum"], 6);
}

#[test]
fn a_replica_and_a_single_server_of_a_cluster_are_refused_by_name() {
    let master = Redis::start();
    let replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {}", master.port)]);
    let said = refused(&replica.url());
    assert!(said.contains("is a replica") && said.contains("redis-sentinel://"), "{said}");
    let member = Redis::with(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]);
    let said = refused(&member.url());
    assert!(said.contains("belongs to a Cluster") && said.contains("redis-cluster://"), "{said}");
}
