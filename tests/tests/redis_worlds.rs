//! Redis as it is out there: full, read-only, silent, behind TLS, with users that may do little.

use crate::support::{configure, done};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use waymark_tests::{
    PATIENCE, World, binary,
    cluster::Cluster,
    eventually, guest,
    host::Host,
    redis::{Redis, free_port},
};

/// Steps of a job that is under way while Redis is away.
const STEPS: u64 = 200;
const CONFIG: &str = "[worker]\nlease_ms = 3000\n[plugins.counter]\ncheckpoint = { every_ms = 100 }\n";
/// Readiness tells the truth after so long.
const TOLD_WITHIN: Duration = Duration::from_secs(6);

fn long() -> Value {
    json!({"type": "counter", "input": {"steps": STEPS, "work_us": 10_000, "emit": true}})
}

fn short() -> Value {
    json!({"type": "counter", "input": {"steps": 3}})
}

/// A long job that has begun, and one that waits on purpose.
fn jobs(host: &Host) -> [String; 2] {
    let running = host.submit(&long());
    let later = host.submit(&json!({"type": "counter", "input": {"steps": 3}, "delay_ms": 3_600_000}));
    let _ = host.until(&running, "begun", |job| job["step"].as_u64() > Some(0));
    [running, later]
}

fn ends_well(host: &Host, id: &str) {
    assert_eq!(host.result(id)["sum"], STEPS * (STEPS + 1) / 2);
    assert_eq!(host.outputs(id).len() as u64, STEPS, "every record once");
    assert_eq!(host.job(id)["attempt"], 1);
}

/// Waits until `/readyz` says this, and says how long that took.
fn readiness(host: &Host, status: u16, what: &str) -> String {
    let from = Instant::now();
    let detail = eventually(&format!("/readyz answers {status}: {what}"), TOLD_WITHIN, || {
        let answer = host.get("/readyz");
        (answer.status == status).then(|| answer.body["detail"].to_string())
    });
    println!("{what}: /readyz answers {status} after {} ms", from.elapsed().as_millis());
    detail
}

#[test]
fn a_full_redis_takes_nothing_new_and_loses_nothing() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let [running, later] = jobs(&host);
    let claims_lost = host.metric("waymark_claims_lost_total");
    assert_eq!(world.redis.command(&["CONFIG", "SET", "maxmemory", "1mb"]), "+OK");
    let refused = host.post("/api/v1/jobs", &short());
    assert_eq!((refused.status, refused.code()), (507, "store-full"), "{refused:?}");
    let why = readiness(&host, 503, "memory is full");
    assert!(why.contains("OOM"), "{why}");
    // Longer than the lease: the job stays this worker's all the time.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(host.job(&running)["status"], "running");
    assert_eq!(host.control(&later, "pause").status, 202, "controls work");
    assert_eq!(host.control(&later, "cancel").status, 202);
    assert_eq!(host.delete(&later).status, 204, "so does deleting");
    assert_eq!(host.request("POST", "/api/v1/queues/counter/pause", &[], b"").status, 202);
    assert_eq!(host.request("POST", "/api/v1/queues/counter/resume", &[], b"").status, 202);
    assert_eq!(world.redis.command(&["CONFIG", "SET", "maxmemory", "0"]), "+OK");
    readiness(&host, 200, "memory is free again");
    ends_well(&host, &running);
    assert_eq!(host.metric("waymark_claims_lost_total"), claims_lost, "no claim was lost");
    assert_eq!(host.result(&host.submit(&short()))["sum"], 6);
}

#[test]
fn a_read_only_redis_makes_jobs_wait() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let nobody = free_port().to_string();
    for (stale, name) in [("yes", "READONLY"), ("no", "MASTERDOWN")] {
        let [running, _] = jobs(&host);
        assert_eq!(world.redis.command(&["CONFIG", "SET", "replica-serve-stale-data", stale]), "+OK");
        assert_eq!(world.redis.command(&["REPLICAOF", "127.0.0.1", &nobody]), "+OK");
        let refused = host.post("/api/v1/jobs", &short());
        assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{name}: {refused:?}");
        readiness(&host, 503, name);
        assert_eq!(world.redis.command(&["REPLICAOF", "NO", "ONE"]), "+OK");
        readiness(&host, 200, &format!("no more {name}"));
        ends_well(&host, &running);
    }
}

#[test]
fn a_silent_redis_is_known_soon_and_costs_no_job() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let [running, _] = jobs(&host);
    world.redis.freeze();
    let why = readiness(&host, 503, "Redis is frozen");
    assert!(why.contains("does not answer"), "{why}");
    std::thread::sleep(Duration::from_secs(4));
    world.redis.wake();
    readiness(&host, 200, "Redis is awake again");
    assert_eq!(host.result(&running)["sum"], STEPS * (STEPS + 1) / 2);
    assert_eq!(host.outputs(&running).len() as u64, STEPS, "every record once");
}

#[test]
fn a_redis_that_still_loads_makes_jobs_wait_and_loses_none() {
    // It reads a key in a millisecond at least, and answers in between.
    let mut redis = Redis::with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--enable-debug-command",
        "yes",
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let world = World::new(CONFIG).at(&redis.url());
    let host = world.host(&["counter"]);
    let [running, later] = jobs(&host);
    assert_eq!(redis.command(&["DEBUG", "POPULATE", "2000", "filler", "100"]), "+OK");
    let _ = redis.command(&["BGREWRITEAOF"]);
    eventually("the file is written anew", PATIENCE, || {
        let info = redis.command(&["INFO", "persistence"]);
        let idle = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
        idle.iter().all(|line| info.contains(line)).then_some(())
    });
    redis.kill();
    redis.launch();
    eventually("it loads", PATIENCE, || {
        redis.try_command(&["DBSIZE"]).is_ok_and(|answer| answer.starts_with("-LOADING")).then_some(())
    });
    let why = eventually("the host says so", TOLD_WITHIN, || {
        let answer = host.get("/readyz");
        let why = answer.body["detail"].to_string();
        (answer.status == 503 && why.to_lowercase().contains("loading")).then_some(why)
    });
    println!("while Redis loads: {why}");
    eventually("it has loaded", PATIENCE, || (redis.try_command(&["PING"]).ok()? == "+PONG").then_some(()));
    readiness(&host, 200, "Redis has loaded");
    assert_eq!(host.result(&running)["sum"], STEPS * (STEPS + 1) / 2);
    assert_eq!(host.outputs(&running).len() as u64, STEPS, "every record once");
    assert_eq!(host.job(&later)["status"], "scheduled");
}

#[test]
fn a_wrong_password_is_named_and_costs_no_job() {
    let world = World::new(CONFIG);
    let port = world.redis.port;
    let change = |redis: &Redis, password: &str| {
        let secret = format!(">{password}");
        let words = ["ACL", "SETUSER", "waymark", "on", "resetpass", &secret, "~*", "&*", "+@all"];
        assert_eq!(redis.command(&words), "+OK");
    };
    change(&world.redis, "right");
    let folder = world.folder();
    let wrong = Command::new(binary())
        .args([
            "host",
            "--listen",
            "127.0.0.1:0",
            "--redis",
            &format!("redis://waymark:wrong@127.0.0.1:{port}"),
        ])
        .arg("--plugins")
        .arg(&folder)
        .arg("--data")
        .arg(folder.join("data"))
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.to_lowercase().contains("authentication failed"), "{said}");
    assert!(!said.contains("wrong@"), "passwords stay out of messages: {said}");

    let world = world.at(&format!("redis://waymark:right@127.0.0.1:{port}"));
    let host = world.host(&["counter"]);
    let [running, later] = jobs(&host);
    change(&world.redis, "other");
    let _ = world.redis.command(&["CLIENT", "KILL", "USER", "waymark"]);
    let why = readiness(&host, 503, "the password was changed");
    println!("with a wrong password: {why}");
    change(&world.redis, "right");
    readiness(&host, 200, "the password is right again");
    assert_eq!(host.result(&running)["sum"], STEPS * (STEPS + 1) / 2);
    assert_eq!(host.outputs(&running).len() as u64, STEPS, "every record once");
    assert_eq!(host.job(&later)["status"], "scheduled");
}

/// An authority, and certificates of a server and a client that it signed, in `folder`.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(folder);
        done(&mut command).unwrap_or_else(|error| panic!("{error}"));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"));
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let names = folder.join(format!("{name}.names"));
        std::fs::write(names, "subjectAltName=IP:127.0.0.1,DNS:localhost").expect("a file");
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 2 -extfile {name}.names"
        ));
    }
}

/// Starts a host that trusts the authority of a folder and shows its client's certificate; `more` goes into `[redis]`.
fn host_with_certificates(world: &World, folder: &Path, more: &str) -> Host {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut host = world.empty_host();
    let keys = format!(
        "[redis]\ntls_ca = {:?}\ntls_cert = {:?}\ntls_key = {:?}\n{more}",
        file("ca.crt"),
        file("client.crt"),
        file("client.key")
    );
    configure(&host, |text| text.replace("[redis]\n", &keys));
    guest::copy("counter", &host.plugins);
    host.start();
    host.wait_for_plugins(&["counter"]);
    host
}

/// What a server is told so that it takes TLS on this port, from clients with a certificate.
fn server_with_certificates(folder: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let words = [
        ("--tls-port", port.to_string()),
        ("--tls-cert-file", file("server.crt")),
        ("--tls-key-file", file("server.key")),
        ("--tls-ca-cert-file", file("ca.crt")),
        ("--tls-auth-clients", "yes".to_owned()),
        ("--tls-replication", "yes".to_owned()),
    ];
    words.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

#[test]
fn over_tls_a_private_authority_and_a_client_certificate_are_enough() {
    let world = World::new(CONFIG);
    let folder = world.folder();
    certificates(&folder);
    let port = free_port();
    let words = server_with_certificates(&folder, port);
    let server = Redis::with(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let world = world.at(&format!("rediss://127.0.0.1:{port}"));
    let host = host_with_certificates(&world, &folder, "");
    assert_eq!(host.result(&host.submit(&short()))["sum"], 6);
    assert_ne!(server.command(&["DBSIZE"]), ":0", "the jobs are there");
}

#[test]
fn over_tls_a_sentinel_names_the_master_and_its_successor() {
    let world = World::new(CONFIG);
    let folder = world.folder();
    certificates(&folder);
    let (port, replica_port, sentinel_port) = (free_port(), free_port(), free_port());
    let words = server_with_certificates(&folder, port);
    let master = Redis::with(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let (words, of) = (server_with_certificates(&folder, replica_port), format!("127.0.0.1 {port}"));
    let words: Vec<_> = words.iter().map(String::as_str).chain(["--replicaof", &of]).collect();
    let replica = Redis::with(&words);
    let is = |server: &Redis, line: &str| {
        server.command(&["INFO", "replication"]).lines().any(|one| one == line).then_some(())
    };
    eventually("the replica has all data", PATIENCE, || is(&replica, "master_link_status:up"));
    let file = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "bind 127.0.0.1\nport 0\ntls-port {sentinel_port}\ndir {}\ntls-cert-file {}\ntls-key-file {}\n\
         tls-ca-cert-file {}\ntls-auth-clients yes\ntls-replication yes\n\
         sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 3000\n",
        folder.display(),
        file("server.crt"),
        file("server.key"),
        file("ca.crt")
    );
    std::fs::write(folder.join("sentinel.conf"), text).expect("a file");
    let sentinel = Command::new("redis-server")
        .arg(folder.join("sentinel.conf"))
        .arg("--sentinel")
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let _sentinel = Ends(sentinel);
    let ask = |words: &[&str]| {
        let files = [file("ca.crt"), file("client.crt"), file("client.key"), sentinel_port.to_string()];
        let [ca, cert, key, port] = files.each_ref().map(String::as_str);
        let tls = ["-p", port, "--tls", "--cacert", ca, "--cert", cert, "--key", key, "SENTINEL"];
        let output =
            Command::new("redis-cli").args(tls).args(words).output().expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    eventually("the sentinel knows the replica", PATIENCE, || {
        ask(&["REPLICAS", "main"]).contains("master-link-status\nok").then_some(())
    });
    let world = world.at(&format!("rediss-sentinel://127.0.0.1:{sentinel_port}/main"));
    let host = host_with_certificates(&world, &folder, "");
    let [running, later] = jobs(&host);
    assert!(is(&master, "role:master").is_some());
    eventually("the sentinel lets the replica take over", PATIENCE, || {
        ask(&["FAILOVER", "main"]);
        is(&replica, "role:master")
    });
    ends_well(&host, &running);
    let new = eventually("a new job is accepted", PATIENCE, || {
        let answer = host.post("/api/v1/jobs", &short());
        (answer.status == 201).then(|| answer.body["id"].as_str().expect("an id").to_owned())
    });
    assert_eq!(host.result(&new)["sum"], 6);
    assert_eq!(host.job(&later)["status"], "scheduled");
}

#[test]
fn over_tls_a_cluster_has_its_jobs_on_all_masters() {
    let world = World::new(CONFIG);
    let folder = world.folder();
    certificates(&folder);
    let (cluster, url) = Cluster::over_tls(&folder);
    let world = world.at(&url);
    let host = host_with_certificates(&world, &folder, "partitions = 12\n");
    let ids = host.submit_all(&vec![short(); 24]);
    for id in &ids {
        assert_eq!(host.result(id)["sum"], 6);
    }
    for master in &cluster.masters {
        assert_ne!(master.command(&["DBSIZE"]), ":0", "every master keeps something");
    }
}

/// A process that ends with its test.
struct Ends(std::process::Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rules that the manual gives.
fn rules() -> Vec<String> {
    let manual =
        std::fs::read_to_string(waymark_tests::root().join("docs/operating.md")).expect("the manual");
    let line = manual.lines().find(|line| line.starts_with("ACL SETUSER waymark ")).expect("the rules");
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn a_user_with_the_rights_of_the_manual_can_run_everything_and_see_nothing_else() {
    let world = World::new(CONFIG);
    let rules = rules();
    let words: Vec<_> = rules.iter().map(String::as_str).collect();
    assert_eq!(world.redis.command(&words), "+OK");
    let password = rules.iter().find_map(|rule| rule.strip_prefix('>')).expect("a password");
    let world = {
        let port = world.redis.port;
        world.at(&format!("redis://waymark:{password}@127.0.0.1:{port}"))
    };
    let host = world.host(&["counter"]);
    let [running, later] = jobs(&host);
    assert_eq!(host.control(&running, "pause").status, 202);
    host.reaches(&running, "paused");
    assert_eq!(host.control(&running, "resume").status, 202);
    ends_well(&host, &running);
    let called = host.submit(&json!({"type": "counter", "input": {"steps": 4, "await_signal": "go"}}));
    host.reaches(&called, "waiting");
    assert!(host.post(&format!("/api/v1/jobs/{called}/signals/go"), &json!(1)).status < 300);
    assert_eq!(host.result(&called)["sum"], 10);
    assert_eq!(host.delete(&later).status, 204);
    for path in ["/api/v1/hosts", "/api/v1/queues", "/api/v1/counts", "/api/v1/jobs?limit=10", "/metrics"] {
        let _ = host.get(path).expect(200);
    }
    let often = json!({"every_ms": 1000, "job": {"type": "counter", "input": {"steps": 1}}});
    let put = host.request("PUT", "/api/v1/schedules/often", &[], often.to_string().as_bytes());
    assert!(put.status < 300, "{}", put.body);
    eventually("the schedule has fired", PATIENCE, || {
        let schedule = host.get("/api/v1/schedules/often").expect(200);
        schedule["history"].as_array().is_some_and(|fired| !fired.is_empty()).then_some(())
    });
    assert_eq!(host.request("POST", "/api/v1/queues/counter/purge", &[], b"").status, 202);
    assert!(host.metric("waymark_redis_ping_seconds") > 0.0);
    let log = world.redis.command(&["ACL", "LOG"]);
    assert_eq!(log, "*0", "nothing was refused");
}

#[test]
fn deployments_with_different_prefixes_do_not_see_each_other() {
    let world = World::new(CONFIG);
    let [one, other] = ["one", "other"].map(|prefix| {
        let mut host = world.empty_host();
        configure(&host, |text| text.replace("[redis]\n", &format!("[redis]\nprefix = {prefix:?}\n")));
        guest::copy("counter", &host.plugins);
        host.start();
        host.wait_for_plugins(&["counter"]);
        host
    });
    let id = one.submit(&short());
    assert_eq!(one.result(&id)["sum"], 6);
    assert_eq!(other.get(&format!("/api/v1/jobs/{id}")).status, 404);
    let jobs = other.get("/api/v1/jobs?limit=10").expect(200);
    assert_eq!(jobs["jobs"], json!([]));
    for host in [&one, &other] {
        eventually("each sees itself alone", PATIENCE, || {
            let hosts = host.get("/api/v1/hosts").expect(200);
            (hosts["hosts"].as_array().map(Vec::len) == Some(1)).then_some(())
        });
    }
}

#[test]
fn a_second_redis_that_is_away_holds_up_no_job() {
    let mut second = Redis::start();
    let world = World::new(CONFIG);
    let mut host = world.empty_host();
    let results = format!("[redis]\nresults_url = {:?}\nresults_above_bytes = 512\n", second.url());
    configure(&host, |text| text.replace("[redis]\n", &results));
    guest::copy("counter", &host.plugins);
    host.start();
    host.wait_for_plugins(&["counter"]);
    let up = |host: &Host| host.metric("waymark_results_redis_up");
    assert_eq!((up(&host), &host.get("/readyz").body["warning"]), (1.0, &Value::Null));

    // Results above the bound, and logs, are on the second.
    let says = "x".repeat(2_000);
    let echo = || host.submit(&json!({"type": "waymark.echo", "input": {"says": says}}));
    let early = echo();
    assert_eq!(host.result(&early)["says"], says);
    let logging =
        json!({"type": "counter", "input": {"steps": STEPS, "work_us": 5_000, "emit": true, "log": true}});
    let running = host.submit(&logging);
    eventually("it logs", PATIENCE, || (host.log_messages(&running).len() > 3).then_some(()));
    assert!(second.command(&["DBSIZE"]) != ":0");
    assert_eq!(world.redis.command(&["EXISTS", &format!("{{wm0}}:log:{running}")]), ":0");

    second.kill();
    let from = Instant::now();
    eventually("/readyz warns", TOLD_WITHIN, || {
        let answer = host.get("/readyz");
        let warns = answer.body["warning"].as_str().is_some_and(|text| text.contains("for results"));
        assert_eq!(answer.status, 200, "{answer:?}");
        warns.then_some(())
    });
    assert_eq!(up(&host), 0.0);
    let mut slowest = Duration::ZERO;
    let mut meanwhile = Vec::new();
    while from.elapsed() < Duration::from_secs(4) {
        let began = Instant::now();
        let id = echo();
        assert_eq!(host.result(&id)["says"], says, "a result that stays on the first");
        slowest = slowest.max(began.elapsed());
        meanwhile.push(id);
    }
    println!(
        "{} jobs without the second Redis, the slowest took {} ms",
        meanwhile.len(),
        slowest.as_millis()
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let job = host.job(&early);
    assert_eq!((&job["status"], &job["result"]), (&json!("succeeded"), &Value::Null));
    assert!(job["result_error"].as_str().is_some_and(|why| why.contains("for results")), "{job}");
    assert_eq!(host.get(&format!("/api/v1/jobs/{running}/logs")).code(), "storage-unavailable");
    let page = host.request("GET", &format!("/jobs/{running}"), &[("accept", "text/html")], b"");
    assert_eq!(page.status, 200, "the job's page is there without its log");

    second.start_again();
    eventually("nothing is wrong any more", TOLD_WITHIN, || {
        host.get("/readyz").body["warning"].is_null().then_some(())
    });
    assert_eq!(host.result(&early)["says"], says);
    for id in &meanwhile {
        assert_eq!(host.result(id)["says"], says);
    }
    ends_well(&host, &running);
    // Lines waited. The write under way when the server died may have happened without an answer.
    eventually("every line is written", PATIENCE, || {
        let page = host.get(&format!("/api/v1/jobs/{running}/logs?limit=1000")).expect(200);
        let lines = page["lines"].as_array().expect("lines");
        let steps: BTreeSet<_> = lines.iter().filter_map(|line| line["fields"]["step"].as_u64()).collect();
        (steps == (1..=STEPS).collect()).then_some(())
    });
}
