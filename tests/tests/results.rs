//! What jobs leave behind: results, streams, groups of failures, and who is told of an end.

mod support;

use serde_json::{Value, json};
use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};
use support::{node_packages, not_run, scratch};
use waymark_tests::{PATIENCE, World, binary, client::Client, eventually, guest, redis::free_port, root};

/// Commits after every step and does not wait between attempts.
const EVERY_STEP: &str = "
[plugins.counter]
checkpoint = { every_steps = 1 }
retry = { max_attempts = 2, base_ms = 1, max_ms = 1 }
";

/// What `waymark … --json` answers.
#[track_caller]
fn cli(host: &Client, arguments: &[&str]) -> Value {
    let output = Command::new(binary()).args(arguments).args(["--json", "--url", &host.url]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn failures_of_the_same_kind_are_one_group_until_it_is_forgotten() {
    let world = World::new(EVERY_STEP);
    let host = world.host(&["counter"]);
    let failing = |input: Value| host.submit(&json!({"type": "counter", "input": input}));
    let ids: Vec<_> = (2..5).map(|step| failing(json!({"steps": 9, "fail_at": step}))).collect();
    let trapped = failing(json!({"steps": 9, "panic_at": 3}));
    for id in ids.iter().chain([&trapped]) {
        assert_eq!(host.ended(id)["status"], "failed");
    }
    let listed = host.get("/api/v1/errors?type=counter&sort=attempts").expect(200);
    let groups = listed["errors"].as_array().expect("groups");
    assert_eq!(groups.len(), 2, "{listed}");
    let said = &groups[0];
    assert_eq!(said["pattern"], "asked to fail at step <number>");
    assert_eq!(
        (&said["kind"], &said["attempts"], &said["failed"]),
        (&json!("permanent"), &json!(3), &json!(3))
    );
    assert_eq!(said["versions"], json!([{"version": host.job(&ids[0])["plugin_version"], "attempts": 3}]));
    let crashed = &groups[1];
    assert_eq!(
        (&crashed["kind"], &crashed["attempts"], &crashed["failed"]),
        (&json!("guest-trap"), &json!(2), &json!(1))
    );
    let frames = crashed["frames"].as_array().expect("frames");
    assert!(frames[0].as_str().is_some_and(|frame| frame.contains("counter::Counter")), "{frames:?}");

    let fingerprint = said["fingerprint"].as_str().expect("a fingerprint");
    let path = format!("/api/v1/errors/{fingerprint}");
    let shown = host.get(&path).expect(200);
    let jobs = shown["jobs"].as_array().expect("jobs");
    assert!(jobs.iter().all(|job| job["error"]["kind"] == "permanent"), "{shown}");
    assert_eq!(jobs.len(), 3);
    assert_eq!(cli(&host, &["errors", "show", fingerprint]), shown);
    let since = shown["last_seen"].as_str().expect("a time").replace("20", "21");
    let later = host.get(&format!("/api/v1/errors?since={since}")).expect(200);
    assert_eq!(later["errors"], json!([]), "since {since}");

    cli(&host, &["errors", "forget", fingerprint]);
    assert_eq!(host.get(&path).code(), "unknown-error-group");
    assert_eq!(host.request("DELETE", &path, &[], b"").status, 404);
    assert_eq!(cli(&host, &["errors", "list"])["errors"].as_array().map(Vec::len), Some(1));
    assert_eq!(host.ended(&failing(json!({"steps": 9, "fail_at": 7})))["status"], "failed");
    assert_eq!(host.get(&path).expect(200)["attempts"], 1, "it begins anew");
}

#[test]
fn a_reader_of_events_goes_on_at_another_host_without_loss_or_repetition() {
    let world = World::new(EVERY_STEP);
    let first = world.host(&["counter"]);
    let second = world.host(&["counter"]);
    let input = json!({"steps": 200, "work_us": 3_000, "emit": true, "log": true});
    let id = first.submit(&json!({"type": "counter", "input": input}));
    let (mut outputs, mut logs) = (Vec::new(), Vec::new());
    let mut take = |event: &waymark_tests::client::Event| match event.name.as_str() {
        "output" => outputs.push(event.data["step"].clone()),
        "log" => logs.push(event.data["fields"]["step"].clone()),
        _ => {}
    };
    let mut last = None;
    for event in first.events(&id, None) {
        take(&event);
        let begun = event.name == "output" && event.data["step"].as_u64() > Some(20);
        last = Some(event.id);
        if begun {
            break;
        }
    }
    // Output is there while the job runs, at any host, and a follower of it sees it grow.
    let seen = eventually("more output", PATIENCE, || {
        let seen = second.outputs(&id).len();
        (seen > 25).then_some(seen)
    });
    assert_eq!(second.job(&id)["status"], "running", "after {seen} records");
    for event in second.events(&id, last.as_deref()) {
        take(&event);
    }
    let all: Vec<_> = (1..=200).map(Value::from).collect();
    assert_eq!(outputs, all);
    assert_eq!(logs, all);
}

/// A job type whose result is a JSON string of so many bytes, and which emits it too.
fn long_result(name: &str, bytes: usize) -> Vec<u8> {
    let parts = [
        ("memory", "(memory (export \"memory\") 64)"),
        (
            "step",
            &format!(
                "(memory.fill (i32.const 131072) (i32.const 120) (i32.const {bytes}))
                 (i32.store8 (i32.const 131072) (i32.const 34))
                 (i32.store8 (i32.const {}) (i32.const 34))
                 (call $emit (i32.const 131072) (i32.const {bytes}))
                 (i32.store (i32.const 264) (i32.const 131072))
                 (i32.store (i32.const 268) (i32.const {bytes}))",
                131_072 + bytes - 1
            ),
        ),
    ];
    guest::text(name, &parts)
}

#[test]
fn a_result_beyond_its_limit_names_the_setting() {
    let world = World::new("[plugins.long]\nresult_bytes_max = 1000\n");
    let host = world.host(&[]);
    guest::put(&host.plugins, "long.wasm", &long_result("long", 1_001));
    host.wait_for_plugins(&["long"]);
    let job = host.ended(&host.submit(&json!({"type": "long", "input": {}})));
    assert_eq!(job["error"]["kind"], "oversized", "{job}");
    let message = "the result: 1001 bytes are more than the limit of 1000 (setting result_bytes_max)";
    assert_eq!(job["error"]["message"], message);
}

fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Results of 300,000 bytes that any host reads and that go with their job.
#[track_caller]
fn results_lie_elsewhere(world: &World, objects: impl Fn() -> usize) {
    let hosts = [world.host(&[]), world.host(&[])];
    for host in &hosts {
        guest::put(&host.plugins, "long.wasm", &long_result("long", 300_000));
        host.wait_for_plugins(&["long"]);
    }
    let id = hosts[0].submit(&json!({"type": "long", "input": {}}));
    assert_eq!(hosts[0].ended(&id)["status"], "succeeded");
    assert_eq!(objects(), 2, "the result and the output record");
    assert!(world.redis.command(&["HGET", "{wm0}:res", &id]).len() < 400);
    for host in &hosts {
        let job = host.job(&id);
        assert_eq!(job["result"].as_str().map(str::len), Some(299_998));
        assert_eq!(host.outputs(&id), [job["result"].clone()]);
        let listed = host.get("/api/v1/jobs?type=long&include=result").expect(200);
        assert_eq!(listed["jobs"][0]["result"], job["result"]);
        let told = host.events(&id, None).last().expect("an event");
        assert_eq!(told.data["result"], job["result"]);
    }
    assert_eq!(hosts[1].delete(&id).status, 204);
    eventually("the objects are gone", PATIENCE, || (objects() == 0).then_some(()));
}

#[test]
fn long_results_lie_in_a_directory_and_are_read_at_any_host() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let config = format!("[results]\nstorage = \"file://{}\"\n", folder.path().display());
    results_lie_elsewhere(&World::new(&config), || files(folder.path()));
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn long_results_lie_in_an_s3_compatible_storage() {
    let (folder, port) = (scratch("s3"), free_port());
    for file in ["package.json", "package-lock.json"] {
        fs::copy(root().join("tests/s3").join(file), folder.join(file)).expect("a copy");
    }
    if let Err(why) = node_packages(&folder) {
        return not_run(&format!("results in an S3-compatible storage: {why}"));
    }
    let objects = tempfile::TempDir::new().expect("a folder");
    let server = Command::new("node")
        .arg(folder.join("node_modules/s3rver/bin/s3rver.js"))
        .args(["--address", "127.0.0.1", "--port", &port.to_string(), "--silent"])
        .args(["--configure-bucket", "results", "--directory"])
        .arg(objects.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Server(server.expect("the server starts"));
    eventually("the S3 server answers", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok());
    let endpoint = format!("http://127.0.0.1:{port}");
    let bucket = format!("{endpoint}/results");
    let config = format!(
        "[results]\nstorage = \"s3://results/deep\"\ns3 = {{ endpoint = {endpoint:?}, region = \"us-east-1\", \
         access_key_id = \"S3RVER\", secret_access_key = \"S3RVER\", allow_http = \"true\" }}\n"
    );
    results_lie_elsewhere(&World::new(&config), || {
        let list = ureq::get(&bucket).call().expect("a list").body_mut().read_to_string().expect("text");
        list.matches("<Key>deep/").count()
    });
}
