//! The Celery front, met by unmodified Celery clients of two versions, in virtual environments of their own.

mod support;

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::{configure, not_run, scratch};
use waymark_tests::{PATIENCE, World, eventually, host::Host, redis::free_port, root};

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
