//! The Celery front, met by unmodified Celery clients of two versions, in virtual environments of their own; and workers of
//! Celery that run a part of a type's jobs.

use crate::support::{self, Random, between_ms, configure, done, not_run, scratch};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use waymark_tests::{PATIENCE, World, binary, eventually, host::Host, redis::free_port, root};

/// Tasks of the application, each run by the guest `tasks`.
const TASKS: &[&str] = &["add", "mul", "boom", "again", "slow", "echo"];
/// Longest time of all calls of a client, on a busy machine.
const CALLS_WITHIN: Duration = Duration::from_secs(300);

fn configuration(more: &str) -> String {
    let mut text = format!(
        "[worker]\nlease_ms = 2000\n[plugins.tasks.retry]\nbase_ms = 400\njitter = false\n\
         [celery]\nenabled = true\nnode_name = \"waymark@test\"\n{more}\n"
    );
    for name in TASKS {
        text += &format!(
            "[celery.tasks.\"proj.{name}\"]\ntype = \"tasks\"\n\
             input = {{ op = \"{name}\", args = \"$/args\", kwargs = \"$/kwargs\" }}\n"
        );
    }
    text + "[celery.tasks.\"proj.limited\"]\ntype = \"tasks\"\nqueue = \"limited\"\ninput = { op = \"add\" }\n"
}

/// A Python with Celery of this version.
fn python(version: &str) -> Result<PathBuf, String> {
    let requirements = root().join(format!("tests/celery/requirements-{version}.txt"));
    support::python(&scratch(&format!("celery-{version}")), &requirements)
}

/// A client's script, in the folder of the application.
fn client(python: &Path, world: &World, databases: (u8, u8), arguments: &[&str]) -> Command {
    let url = |database: u8| format!("{}/{database}", world.redis.url());
    let mut command = Command::new(python);
    command
        .args(arguments)
        .current_dir(root().join("tests/celery"))
        .env("BROKER", url(databases.0))
        .env("BACKEND", url(databases.1))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}

/// Waits for a script and returns what it printed.
#[track_caller]
fn output(mut child: Child, within: Duration) -> String {
    let status = eventually("the client ends", within, || child.try_wait().expect("it is our child"));
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(status.success(), "{said}\n{errors}");
    said
}

fn every_call_of_the_contract(version: &str) {
    let python = match python(version) {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery {version}: {why}")),
    };
    let world = World::new(&configuration("result_db = 1"));
    let _host = world.host(&["tasks"]);
    let child = client(&python, &world, (0, 1), &["clients.py"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let said = output(child, CALLS_WITHIN);
    println!("{said}");
    assert!(said.contains("failed 0"), "{said}");
}

#[test]
fn every_call_of_the_contract_works_from_celery_5_2() {
    every_call_of_the_contract("5.2");
}

#[test]
fn every_call_of_the_contract_works_from_celery_5_7() {
    every_call_of_the_contract("5.7");
}

#[test]
fn flower_shows_the_host_and_its_tasks() {
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Flower: {why}")),
    };
    let world = World::new(&configuration("result_db = 1"));
    let host = world.host(&["tasks"]);
    let port = free_port();
    let arguments =
        ["-m", "celery", "-A", "application", "flower", "--address=127.0.0.1", &format!("--port={port}")];
    let mut flower = Stopped(
        client(&python, &world, (0, 1), &arguments)
            .env("FLOWER_UNAUTHENTICATED_API", "true")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Flower starts"),
    );
    let ask = |path: &str| {
        let mut agent = ureq::get(format!("http://127.0.0.1:{port}{path}")).call().ok()?;
        agent.body_mut().read_json::<Value>().ok()
    };
    eventually("Flower knows the host", PATIENCE, || {
        ask("/api/workers?refresh=1")?
            .get("waymark@test")
            .filter(|worker| worker["stats"].is_object())
            .cloned()
    });
    // Flower has asked for events by now, or does so soon.
    let script = "from application import app; print(app.send_task('proj.add', args=(1, 2)).get(timeout=30))";
    let tasks = eventually("Flower knows a task", PATIENCE, || {
        let run = client(&python, &world, (0, 1), &["-c", script]).output().ok()?;
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let tasks = ask("/api/tasks")?;
        // One that began before Flower's request was heard has no name: it is told of from there on.
        let whole = |task: &&Value| task["state"] == "SUCCESS" && task["name"].is_string();
        tasks.as_object()?.values().find(whole).cloned()
    });
    assert_eq!((&tasks["name"], &tasks["result"]), (&json!("proj.add"), &json!("3")), "{tasks}");
    assert!(tasks["worker"].as_str().is_some_and(|worker| worker.contains("waymark@test")), "{tasks}");
    drop(flower.0.kill());
    drop(host);
}

/// A process that is stopped when it is dropped.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_task_ends_once_for_its_caller_however_often_hosts_are_killed() {
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.7: {why}")),
    };
    // Databases of their own, and a prefix of the broker's keys.
    let world = World::new(&configuration("broker_db = 2\nresult_db = 3\nkey_prefix = \"app:\""));
    let mut hosts: Vec<Host> = (0..2).map(|_| world.host(&["tasks"])).collect();
    let mut producer = client(&python, &world, (2, 3), &["many.py", "2400", "100", "100"]);
    let child = producer
        .env("KEY_PREFIX", "app:")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    for turn in 0..6 {
        std::thread::sleep(Duration::from_millis(700));
        let host = &mut hosts[turn % 2];
        host.kill();
        host.launch();
    }
    let said = output(child, CALLS_WITHIN);
    // 2,400 tasks, 100 chains of three, 100 chords of five with a body.
    let told: HashMap<String, u64> =
        serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(told["ended"], 2_400 + 300 + 600, "{said}");
    assert_eq!((told["twice"], told["wrong"]), (0, 0), "{said}");
    let counts = hosts[0].get("/api/v1/counts").expect(200);
    let of = |status: &str| {
        let all = counts["counts"].as_array().expect("counts");
        all.iter()
            .filter(|one| one["type"] == "tasks" && one["status"] == status)
            .filter_map(|one| one["jobs"].as_u64())
            .sum::<u64>()
    };
    assert_eq!((of("succeeded"), of("queued"), of("running"), of("failed")), (3_300, 0, 0, 0), "{counts}");
}

#[test]
fn what_cannot_be_taken_lies_on_the_dead_list_until_it_is_put_back() {
    let python = match python("5.2") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.2: {why}")),
    };
    let world = World::new(&configuration("result_db = 1\n[celery.routes]\n\"proj.old.*\" = \"old\""));
    let mut host = world.host(&["tasks"]);
    let script = "from application import app\n\
                  try:\n    app.send_task('proj.late', args=(2, 3), task_id='late').get(timeout=30)\n\
                  except Exception as error:\n    print(type(error).__name__)\n\
                  app.send_task('proj.old.x', args=(1,), task_id='forwarded', priority=5)\n";
    let run = client(&python, &world, (0, 1), &["-c", script]).output().expect("Python runs");
    assert_eq!(
        String::from_utf8_lossy(&run.stdout).trim(),
        "NotRegistered",
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let script =
        "from application import app\napp.conf.task_protocol = 1\napp.send_task('proj.add', args=(1,))";
    let run = client(&python, &world, (0, 1), &["-c", script]).output().expect("Python runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let dead = eventually("both are dead", PATIENCE, || {
        let dead = host.get("/api/v1/celery").expect(200)["dead"].clone();
        (dead["count"] == 2).then_some(dead)
    });
    let mut reasons: Vec<_> =
        dead["newest"].as_array().expect("a list").iter().map(|one| one["reason"].clone()).collect();
    reasons.sort_by_key(Value::to_string);
    assert_eq!(reasons, ["not-registered", "protocol-1"]);
    // A task of others went to their queue, with its priority.
    let waits = || world.redis.command(&["LLEN", "old\u{6}\u{16}3"]);
    eventually("it was forwarded", PATIENCE, || (waits() == ":1").then_some(()));
    let metrics = host.get("/metrics").body;
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("waymark_celery_messages_total{became=\"dead\"} 2"), "{metrics}");
    // The cause is mended, and the messages are put back.
    host.stop();
    configure(&host, |text| {
        let added = "[celery.tasks.\"proj.late\"]\ntype = \"tasks\"\ninput = { op = \"add\", args = \"$/args\" }\n[redis]";
        text.replace("[redis]", added)
    });
    host.start();
    host.wait_for_plugins(&["tasks"]);
    assert_eq!(host.post("/api/v1/celery/dead/requeue?limit=0", &json!({})).code(), "invalid-query");
    let back = host.post("/api/v1/celery/dead/requeue", &json!({})).expect(202);
    assert_eq!(back["requeued"], 2, "{back}");
    let read = "from application import app\nprint(app.AsyncResult('late').get(timeout=30))";
    let mended = eventually("the task succeeds", PATIENCE, || {
        let run = client(&python, &world, (0, 1), &["-c", read]).output().ok()?;
        Some(String::from_utf8_lossy(&run.stdout).trim().to_owned()).filter(|said| said == "5")
    });
    assert_eq!(mended, "5");
    eventually("what cannot be mended is dead again", PATIENCE, || {
        (host.get("/api/v1/celery").expect(200)["dead"]["count"] == 1).then_some(())
    });
}

/// A worker of Celery with all its processes, which die when it is dropped.
struct Workers(Child);

impl Workers {
    fn start(python: &Path, world: &World) -> Self {
        let arguments = [
            "-m", "celery", "-A", "worker", "worker", "-Q", "old", "-P", "prefork", "-c", "2", "-l", "ERROR",
        ];
        let mut command = client(python, world, (0, 1), &arguments);
        command.env("VISIBILITY_S", "1").process_group(0);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Python starts"))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // A group that has ended needs no signal.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.0.wait();
    }
}

/// What a worker wrote of the task that runs in place of a job, which says in its log which one that is.
fn task_of(host: &Host, world: &World, id: &str) -> (String, Value) {
    let task = eventually("the task was sent", PATIENCE, || {
        let page = host.get(&format!("/api/v1/jobs/{id}/logs")).expect(200);
        let task = &page["lines"].as_array()?.first()?["fields"]["task_id"];
        task.as_str().map(str::to_owned)
    });
    let read = "redis.call('SELECT', 1) return redis.call('GET', 'celery-task-meta-' .. ARGV[1])";
    let text = world.redis.command(&["EVAL", read, "0", &task]);
    (task, serde_json::from_str(&text).unwrap_or_default())
}

#[test]
fn old_workers_run_a_part_of_a_type_and_nothing_is_sent_twice() {
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.7: {why}")),
    };
    // The front is off: nobody takes messages.
    let world = World::new(&configuration("result_db = 1").replace("enabled = true", "enabled = false"));
    let mut host = world.host(&["tasks"]);
    let put = |host: &Host, job_type: &str, targets: Value| {
        let body = json!({"targets": targets}).to_string();
        let path = format!("/api/v1/routes/{job_type}");
        host.request("PUT", &path, &[("content-type", "application/json")], body.as_bytes())
    };
    let celery = |celery: Value, weight: u8| json!({"arm": "old", "weight": weight, "celery": celery});
    let work = celery(json!({"queue": "old", "task": "proj.work"}), 100);
    put(&host, "work", json!([work])).expect(200);
    let unclear = put(&host, "tasks", json!([celery(json!({"queue": "old"}), 100)]));
    assert_eq!(
        (unclear.status, unclear.body["errors"][0]["pointer"].as_str()),
        (422, Some("/targets/0/celery/task"))
    );
    let digest = host.get("/api/v1/plugins/tasks").expect(200)["digest"].clone();
    let plugin = json!({"arm": "plugin", "weight": 50, "version": digest});
    let add = celery(json!({"queue": "old", "task": "proj.add"}), 50);
    let halves = put(&host, "tasks", json!([add, plugin])).expect(200);
    let template = json!({"op": "add", "args": "$/args", "kwargs": "$/kwargs"});
    assert_eq!(halves["route"]["targets"][0]["celery"]["input"], template, "{halves}");

    // Nobody serves the old queue yet.
    let job =
        |op: &str, value: Value| json!({"type": "work", "input": {"args": [op], "kwargs": {"value": value}}});
    let slow = eventually("the type is known", PATIENCE, || {
        let made = host.post("/api/v1/jobs", &job("slow", json!(80)));
        (made.status == 201).then(|| made.body["id"].as_str().expect("an id").to_owned())
    });
    std::thread::sleep(Duration::from_secs(2));
    let jobs: Vec<_> = (0..40)
        .map(|number| json!({"type": "tasks", "input": {"op": "add", "args": [number, 1], "kwargs": {"y": 5}}}))
        .collect();
    let ids = host.submit_all(&jobs);
    let arms =
        |host: &Host| -> Vec<Value> { ids.iter().map(|id| host.job(id)["route"]["arm"].clone()).collect() };
    let first = eventually("every job is with somebody", PATIENCE, || {
        let arms = arms(&host);
        arms.iter().all(Value::is_string).then_some(arms)
    });
    let old = first.iter().filter(|arm| *arm == "old").count();
    assert!((5..=35).contains(&old), "{old} of 40");
    let waits = || world.redis.command(&["LLEN", "old\u{6}\u{16}9"]);
    let sent = format!(":{}", old + 1);
    eventually("all of them are sent", PATIENCE, || (waits() == sent).then_some(()));
    host.kill();
    host.start();
    // Its jobs are taken over, and looked after.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((waits(), arms(&host)), (sent, first), "nothing is sent twice");
    // It holds no slot.
    host.reaches(&slow, "scheduled");

    let workers = Workers::start(&python, &world);
    let told = host.until(&slow, "told of its progress", |job| job["progress"]["current"].as_u64() > Some(0));
    assert_eq!((&told["progress"]["total"], &told["progress"]["message"]), (&json!(80), &json!("rows")));
    for (number, id) in ids.iter().enumerate() {
        // Whoever ran it, it comes to the same.
        assert_eq!(host.result(id), json!(number + 6));
        assert_eq!(host.job(id)["attempt"], 1);
    }
    // What a worker of Celery has noted that it has, the next one runs.
    drop(workers);
    std::thread::sleep(Duration::from_secs(1));
    let workers = Workers::start(&python, &world);
    assert_eq!(host.result(&slow), json!(["slow", 80, 0]));
    let shown = eventually("workers told what they counted", PATIENCE, || {
        let shown = host.get("/api/v1/routes/tasks").expect(200);
        (shown["arms"][0]["attempts"] == old).then_some(shown)
    });
    assert_eq!((&shown["arms"][0]["errors"], &shown["arms"][0]["kind"]), (&json!(0), &json!("celery")));
    let asked = host.submit(&job("slow", json!(600)));
    let revoked = host.submit(&job("slow", json!(600)));
    for id in [&asked, &revoked] {
        let _ = host.until(id, "under way", |job| job["progress"]["current"].as_u64() > Some(0));
    }
    host.control(&asked, "cancel").expect(202);
    eventually("the task is revoked with its job", PATIENCE, || {
        (task_of(&host, &world, &asked).1["status"] == "REVOKED").then_some(())
    });
    let (task, _) = task_of(&host, &world, &revoked);
    let script = format!("from application import app\napp.control.revoke('{task}', terminate=True)");
    done(&mut client(&python, &world, (0, 1), &["-c", &script])).expect("the client revokes");
    host.reaches(&revoked, "cancelled");

    let mut limited = job("slow", json!(600));
    limited["hard_limit_ms"] = json!(1_500);
    let limited = host.submit(&limited);
    let (boom, again) = (host.submit(&job("boom", json!(2))), host.submit(&job("again", Value::Null)));
    let strange = host.submit(&json!({"type": "work", "input": {"n": 1}}));
    let error = |id: &str| {
        let job = host.ended(id);
        assert_eq!(job["status"], "failed", "{job}");
        job["error"].clone()
    };
    assert_eq!(host.result(&again), json!(["again", null, 1]), "a retry of Celery's is the same task");
    let failed = error(&boom);
    assert_eq!((&failed["kind"], &failed["message"]), (&json!("permanent"), &json!("ValueError: bad 2")));
    assert!(failed["trace"].as_str().is_some_and(|trace| trace.contains("Traceback")), "{failed}");
    assert_eq!(error(&strange)["kind"], "invalid-input");
    assert_eq!(error(&limited)["kind"], "hard-limit");
    drop(workers);

    // Over to the plugin, and back.
    let waymark = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        done(command.args(arguments).env("WAYMARK_URL", &host.url))
    };
    let add = json!({"type": "tasks", "input": {"op": "add", "args": [1, 1]}});
    let runs = |arm: &str| {
        eventually(&format!("jobs go to {arm}"), PATIENCE, || {
            let id = host.submit(&add);
            let job = host.until(&id, "with somebody", |job| job["route"]["arm"].is_string());
            (job["route"]["arm"] == arm).then_some(id)
        })
    };
    let said = waymark(&["migrate", "celery", "cutover", "tasks", "--dry-run"]).expect("it is said");
    assert_eq!(said, "tasks: old 50 %, plugin 50 % would become old 0 %, plugin 100 %\n");
    assert_eq!(host.get("/api/v1/routes/tasks").expect(200)["route"]["targets"][0]["weight"], 50);
    let said = waymark(&["migrate", "celery", "cutover", "tasks", "--json"]).expect("it moves");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said["changed"], &said["after"]["route"]["targets"][1]["weight"]),
        (&json!(true), &json!(100))
    );
    assert_eq!(host.result(&runs("plugin")), 2);
    let said = waymark(&["migrate", "celery", "back", "tasks"]).expect("it moves back");
    assert!(said.starts_with("tasks: old 0 %, plugin 100 % became old 100 %, plugin 0 %\n"), "{said}");
    runs("old");
    waymark(&["route", "undo", "tasks"]).expect("it is undone");
    runs("plugin");
    let said = waymark(&["migrate", "celery", "cutover", "tasks"]).expect("it is there");
    assert!(said.ends_with("nothing to do\n"), "{said}");
    waymark(&["migrate", "celery", "back", "tasks"]).expect("it moves back");
    let said = waymark(&["migrate", "celery", "cutover", "tasks", "--canary", "--steps", "20,100"])
        .expect("it begins");
    assert!(
        said.contains("became old 80 %, plugin 20 %") && said.contains("canary of plugin: 20 %, 100 %"),
        "{said}"
    );
    let refused = waymark(&["migrate", "celery", "cutover", "work"]).unwrap_err();
    assert!(refused.contains("no plugin work"), "{refused}");
    let audit = host.get("/api/v1/audit?limit=1").expect(200);
    assert_eq!(
        (&audit["entries"][0]["method"], &audit["entries"][0]["path"]),
        (&json!("PUT"), &json!("/api/v1/routes/tasks"))
    );
}

/// By looks alone an end is seen up to a quarter of its task's time late: these are old when they end, and their jobs look
/// at different times.
#[test]
fn the_end_of_a_task_of_old_workers_is_seen_at_once() {
    const JOBS: usize = 12;
    const APART: Duration = Duration::from_millis(250);
    const AGE: Duration = Duration::from_secs(12);
    /// Two of them may be seen later than that, on a machine that has other things to do; by looks alone eight would be.
    const LATE_MS: i64 = 1_000;
    const LATE_MAX: usize = 2;
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.7: {why}")),
    };
    let world = World::alone(&configuration("result_db = 1").replace("enabled = true", "enabled = false"));
    let host = world.host(&["tasks"]);
    let celery = json!({"queue": "old", "task": "proj.work"});
    let route = json!({"targets": [{"arm": "old", "weight": 100, "celery": celery}]}).to_string();
    let json = [("content-type", "application/json")];
    host.request("PUT", "/api/v1/routes/work", &json, route.as_bytes()).expect(200);
    let job = json!({"type": "work", "input": {"args": ["fast"], "kwargs": {}}});
    let submit = || {
        std::thread::sleep(APART);
        eventually("the type is known", PATIENCE, || {
            let made = host.post("/api/v1/jobs", &job);
            (made.status == 201).then(|| made.body["id"].as_str().expect("an id").to_owned())
        })
    };
    let ids: Vec<_> = (0..JOBS).map(|_| submit()).collect();
    // Nobody serves the old queue yet.
    std::thread::sleep(AGE);
    let _workers = Workers::start(&python, &world);
    let late: Vec<_> = ids
        .iter()
        .map(|id| {
            let ended = host.ended(id)["ended_at"].clone();
            let (_, told) = task_of(&host, &world, id);
            between_ms(&told["date_done"], &ended)
        })
        .collect();
    assert!(late.iter().filter(|late| **late > LATE_MS).count() <= LATE_MAX, "{late:?} ms");
}

/// A steady load of tasks, chains and chords for `WAYMARK_MIXED_SECONDS`, 24 by default, while their type is moved to and
/// fro and hosts and workers are killed; `cargo xtask mixed --minutes 60` is the long run.
#[test]
fn callers_notice_nothing_while_a_type_moves_between_old_workers_and_its_plugin_and_both_are_killed() {
    /// How much of the type the plugin runs, each for a quarter of the time, percent.
    const SHARES: [u8; 4] = [10, 100, 0, 100];
    const TASKS_PER_SECOND: &str = "20";
    /// Somebody is killed so often: whoever starts must have some time to work, on a busy machine too.
    const EVERY: Duration = Duration::from_secs(4);
    const EVERY_IN_LONG_RUNS: Duration = Duration::from_secs(15);
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.7: {why}")),
    };
    let seconds: u32 = env::var("WAYMARK_MIXED_SECONDS")
        .map_or(24, |text| text.parse().expect("WAYMARK_MIXED_SECONDS is a number"));
    let every = if seconds > 60 { EVERY_IN_LONG_RUNS } else { EVERY };
    let mut random = Random::announced();
    // Workers of Celery that are killed lose what they have taken from Redis and not noted yet: it is sent once more.
    let again =
        "[plugins.tasks]\nhard_limit_ms = 30000\n[plugins.tasks.retry.kinds.hard-limit]\nretry = true";
    let world = World::new(&configuration(&format!("result_db = 1\n{again}")));
    let mut hosts: Vec<Host> = (0..2).map(|_| world.host(&["tasks"])).collect();
    let digest = hosts[0].get("/api/v1/plugins/tasks").expect(200)["digest"].clone();
    let route = |host: &Host, share: u8| {
        let old =
            json!({"arm": "old", "weight": 100 - share, "celery": {"queue": "old", "task": "proj.add"}});
        let targets = json!([old, {"arm": "plugin", "weight": share, "version": digest}]);
        let body = json!({"targets": targets}).to_string();
        let json = [("content-type", "application/json")];
        host.request("PUT", "/api/v1/routes/tasks", &json, body.as_bytes()).expect(200);
    };
    let mut arms = BTreeSet::new();
    let mut ran = |host: &Host| {
        let page = host.get("/api/v1/jobs?type=tasks&limit=200").expect(200);
        let newest = page["jobs"].as_array().expect("jobs").iter();
        arms.extend(newest.filter_map(|job| job["route"]["arm"].as_str().map(str::to_owned)));
    };
    route(&hosts[0], SHARES[0]);
    let mut workers = Workers::start(&python, &world);
    let child = client(&python, &world, (0, 1), &["mixed.py", &seconds.to_string(), TASKS_PER_SECOND])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let (begun, quarter) = (Instant::now(), Duration::from_secs(seconds.into()) / 4);
    let (mut killed, mut shares) = ([0; 3], SHARES[1..].iter());
    for turn in 1.. {
        if begun.elapsed() >= 4 * quarter {
            break;
        }
        let spent = SHARES.len() - shares.len();
        if begun.elapsed() >= quarter * u32::try_from(spent).expect("a few")
            && let Some(share) = shares.next()
        {
            ran(&hosts[0]);
            route(&hosts[0], *share);
        }
        let whom = random.below(3);
        killed[whom] += 1;
        if let Some(host) = hosts.get_mut(whom) {
            host.kill();
            host.start();
        } else {
            drop(workers);
            workers = Workers::start(&python, &world);
        }
        std::thread::sleep((begun + turn * every).saturating_duration_since(Instant::now()));
    }
    let said = output(child, Duration::from_secs(seconds.into()) + CALLS_WITHIN);
    println!("{killed:?} killed: two hosts, workers; {said}");
    let told: HashMap<String, u64> =
        serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert!(told["sent"] > u64::from(seconds) * 10, "{said}");
    let open: Vec<_> = ["queued", "running", "scheduled", "waiting", "failed"]
        .map(|status| hosts[0].get(&format!("/api/v1/jobs?status={status}")).body["jobs"].clone())
        .into();
    assert_eq!((told["twice"], told["wrong"], told["open"]), (0, 0, 0), "{said}{open:?}");
    assert_eq!(told["heard"], told["sent"], "{said}");
    assert_eq!(arms, ["old", "plugin"].map(str::to_owned).into(), "both ran some");
}

#[test]
fn a_part_that_an_old_worker_adds_to_a_chord_is_waited_for() {
    let python = match python("5.7") {
        Ok(python) => python,
        Err(why) => return not_run(&format!("Celery 5.7: {why}")),
    };
    let world = World::new(&configuration("result_db = 1\n[celery.routes]\n\"proj.old.*\" = \"old\""));
    let _host = world.host(&["tasks"]);
    let _workers = Workers::start(&python, &world);
    let script = "from application import sig\nfrom celery import chord\n\
                  print(chord([sig('add', 1, 1), sig('old.more', 5)])(sig('add')).get(timeout=60))";
    let said = done(&mut client(&python, &world, (0, 1), &["-c", script])).expect("the chord ends");
    assert_eq!(said.trim(), "17");
}

#[test]
fn a_sentinel_leads_clients_to_the_broker() {
    let world = World::new(&configuration("result_db = 1"));
    let port = free_port();
    let file = world.folder().join("sentinel.conf");
    let monitored = format!("sentinel monitor main 127.0.0.1 {} 1\n", world.redis.port);
    std::fs::write(&file, format!("bind 127.0.0.1\nport {port}\n{monitored}")).expect("a file");
    let mut sentinel = Command::new("redis-server");
    sentinel.arg(&file).arg("--sentinel").current_dir(world.folder()).stdout(Stdio::null());
    let _sentinel = Stopped(sentinel.spawn().expect("redis-server is installed"));
    let world = world.at(&format!("redis-sentinel://127.0.0.1:{port}/main"));
    let _host = world.host(&["tasks"]);
    for version in ["5.2", "5.7"] {
        let python = match python(version) {
            Ok(python) => python,
            Err(why) => return not_run(&format!("Celery {version} with a Sentinel: {why}")),
        };
        let calls = [
            "clients.py",
            "keyword_arguments",
            "failure_is_raised",
            "chain_of_three",
            "chord_of_five",
            "ping",
            "revoked_before_it_came",
        ];
        let mut command = client(&python, &world, (0, 1), &calls);
        let url = |database: u8| format!("sentinel://127.0.0.1:{port}/{database}");
        command.env("BROKER", url(0)).env("BACKEND", url(1)).env("MASTER", "main");
        let said = done(&mut command).unwrap_or_else(|why| panic!("{version}: {why}"));
        assert!(said.contains("failed 0") && said.matches("ok ").count() == 6, "{said}");
    }
}

/// `cargo xtask celery` runs it: it measures, and needs the machine for itself.
#[test]
#[ignore = "measures; cargo xtask celery"]
fn the_front_is_ten_times_as_fast_as_a_worker_of_celery() {
    let python = python("5.7").expect("Celery is installed");
    let world = World::alone(&configuration("result_db = 1"));
    let _host = world.host(&["tasks"]);
    let measure = |who: &str, tasks: &str| {
        let child = client(&python, &world, (0, 1), &["throughput.py", who, tasks])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let said = output(child, CALLS_WITHIN);
        let line = said.lines().last().expect("a line").to_owned();
        println!("{line}");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        told["per_second"].as_f64().expect("a number")
    };
    let (front, stock) = (measure("front", "40000"), measure("stock", "4000"));
    println!("{:.1} times", front / stock);
    assert!(front >= 10.0 * stock, "{front} against {stock} tasks a second");
}
