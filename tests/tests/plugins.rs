//! The plugin directory of a running host: files that come, change and go, and files that are no plugins.

use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use waymark_tests::{
    World,
    client::{Answer, Client, is_ended},
    eventually, guest,
    host::Host,
};

/// Time for something that the host does by itself when a file changes.
const SOON: Duration = Duration::from_secs(10);

fn built(name: &str) -> Vec<u8> {
    fs::read(guest::path(name)).expect("the plugin is read")
}

fn counter(steps: u64, work_us: u64) -> Value {
    json!({"type": "counter", "input": {"steps": steps, "work_us": work_us, "emit": true}})
}

fn sum(steps: u64) -> u64 {
    steps * (steps + 1) / 2
}

fn upload(host: &Client, name: &str, bytes: &[u8]) -> Answer {
    host.request("PUT", &format!("/api/v1/plugins/{name}"), &[("content-type", "application/wasm")], bytes)
}

/// The entry of a file, which may be one of several with the same name.
fn entry(host: &Client, file: &str) -> Option<Value> {
    let all = host.get("/api/v1/plugins").expect(200)["plugins"].as_array().expect("plugins").clone();
    all.into_iter().find(|plugin| plugin["file"] == file)
}

/// A component in text.
fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A component that imports something and exports an instance by the name of the contract.
fn importing(import: &str) -> Vec<u8> {
    component(&format!(
        "(component
           (import \"{import}\" (instance))
           (instance $empty)
           (export \"waymark:task/lifecycle@0.1.0\" (instance $empty)))"
    ))
}

/// What the host itself compiled from a plugin.
fn compiled(host: &Host, name: &str) -> Vec<u8> {
    let digest = host.get(&format!("/api/v1/plugins/{name}")).expect(200)["digest"].clone();
    let file = format!("{}.cwasm", digest.as_str().expect("a digest"));
    let cache = host.plugins.parent().expect("a folder").join("data/cache");
    let engines = fs::read_dir(cache).expect("the cache").flatten().map(|entry| entry.path());
    let path = engines.filter(|path| path.is_dir()).map(|path| path.join(&file)).find(|path| path.is_file());
    fs::read(path.expect("compiled code")).expect("compiled code")
}

#[test]
fn a_file_dropped_into_the_folder_is_listed_within_two_seconds_and_its_jobs_run() {
    let world = World::alone("");
    let mut host = world.empty_host();
    host.start();
    assert_eq!(host.get("/api/v1/plugins").expect(200)["plugins"], json!([]));
    for (name, input, result) in [
        ("noop", json!({}), Value::Null),
        ("counter", json!({"steps": 4}), json!({"sum": 10, "steps": 4, "children_sum": 0, "signal": null})),
    ] {
        let unknown = host.post("/api/v1/jobs", &json!({"type": name, "input": input}));
        assert_eq!((unknown.status, unknown.code()), (422, "unknown-job-type"));
        let from = Instant::now();
        guest::copy(name, &host.plugins);
        let plugin = host.plugin(name, "loaded", SOON, |plugin| plugin["state"] == "loaded");
        let listed = from.elapsed();
        let id = host.submit(&json!({"type": name, "input": input}));
        assert_eq!(host.result(&id), result);
        println!(
            "{name}: listed {listed:?} after its file was there, a job of it done {:?} after",
            from.elapsed()
        );
        assert!(listed < Duration::from_secs(2), "{listed:?}");
        assert_eq!(host.job(&id)["plugin_digest"], plugin["digest"]);
        assert_eq!((&plugin["error"], &plugin["bytes"]), (&Value::Null, &json!(built(name).len())));
        assert_eq!(plugin["versions"].as_array().expect("versions").len(), 1);
    }
}

#[test]
fn a_file_that_is_written_slowly_is_loaded_when_it_is_whole() {
    let world = World::new("");
    let mut host = world.empty_host();
    host.start();
    let whole = built("counter");
    let path = host.plugins.join("counter.wasm");
    for part in 1..4 {
        fs::write(&path, &whole[..whole.len() * part / 4]).expect("a file");
        host.plugin("counter", "refused as truncated", SOON, |plugin| plugin["error"]["code"] == "truncated");
    }
    fs::write(&path, &whole).expect("a file");
    let plugin = host.plugin("counter", "loaded", SOON, |plugin| plugin["state"] == "loaded");
    assert_eq!(plugin["error"], Value::Null, "the earlier errors are forgotten");
    let id = host.submit(&counter(3, 0));
    assert_eq!(host.result(&id)["sum"], 6);
}

#[test]
fn a_file_that_is_no_plugin_is_refused_with_its_reason_and_disturbs_nothing() {
    let world = World::new("[plugins.counter]\ncheckpoint = { every_steps = 1 }\n");
    let host = world.host(&["counter"]);
    let good = host.get("/api/v1/plugins/counter").expect(200);
    let workers = host.workers();
    let running = host.submit(&counter(400, 5_000));
    host.reaches(&running, "running");
    let code = compiled(&host, "counter");
    let other = component(
        "(component
           (core module $m (func (export \"f\")))
           (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i \"f\")))
           (export \"f\" (func $f)))",
    );
    let mut damaged = built("counter");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let bad_name = "(i32.store8 (i32.const 2048) (i32.const 72))";
    // File, content, code, words of the reason.
    let files: [(&str, Vec<u8>, &str, &str); 14] = [
        ("garbage.wasm", b"#!/bin/sh\necho no\n".repeat(1000), "not-wasm", "WebAssembly"),
        ("empty.wasm", Vec::new(), "truncated", "ends"),
        ("truncated.wasm", built("counter")[..built("counter").len() / 2].to_vec(), "truncated", "ends"),
        ("damaged.wasm", damaged, "invalid-wasm", ""),
        (
            "module.wasm",
            wat::parse_str("(module (func (export \"add\")))").expect("a module"),
            "no-world",
            "waymark:task",
        ),
        ("other.wasm", other, "no-world", "waymark:task/lifecycle"),
        ("code.cwasm", code.clone(), "precompiled", ".wasm"),
        ("renamed.wasm", code, "precompiled", ".wasm"),
        ("http.wasm", built("fetcher"), "import-not-granted", "write `http = "),
        (
            "missiles.wasm",
            importing("acme:missiles/launcher@1.0.0"),
            "unknown-import",
            "acme:missiles/launcher@1.0.0",
        ),
        ("hollow.wasm", importing("waymark:task/job@0.1.0"), "no-world", "waymark:task"),
        (
            "trapping.wasm",
            guest::text("trapping", &[("describe", "unreachable")]),
            "describe-failed",
            "unreachable",
        ),
        ("misnamed.wasm", guest::text("misnamed", &[("describe", bad_name)]), "bad-descriptor", "name"),
        ("copy.wasm", built("counter"), "duplicate-type", "counter.wasm"),
    ];
    for (file, bytes, _, _) in &files {
        guest::put(&host.plugins, file, bytes);
    }
    for (file, _, code, words) in &files {
        let refused = eventually(&format!("{file} is refused"), Duration::from_secs(30), || {
            entry(&host, file).filter(|plugin| plugin["state"] == "failed")
        });
        assert_eq!(refused["error"]["code"], *code, "{file}: {refused}");
        let message = refused["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains(words) && message.len() > 20, "{file}: {message}");
        assert!((&refused["digest"], &refused["loaded_at"]) == (&Value::Null, &Value::Null), "{refused}");
        let line = host.log().lines().any(|line| line.contains(file) && line.contains(code));
        assert!(line, "{file}: the log says it too");
        let name = file.split('.').next().expect("a name");
        if name != "copy" {
            let job = host.post("/api/v1/jobs", &json!({"type": name, "input": {}}));
            assert_eq!((job.status, job.code()), (422, "unknown-job-type"), "{file} gives no job type");
        }
    }
    let refused = host.metric("waymark_plugin_loads_total{outcome=\"refused\"}");
    assert!(refused >= files.len() as f64, "{refused}");

    // Nothing that ran before was disturbed.
    assert_eq!(host.get("/api/v1/plugins/counter").expect(200), good);
    assert_eq!(host.workers(), workers, "the worker process is the same one");
    let job = host.job(&running);
    assert!(job["status"] == "running" || is_ended(&job), "{job}");
    let id = host.submit(&counter(3, 0));
    assert_eq!(host.result(&id)["sum"], 6);
    assert_eq!(host.result(&running)["sum"], sum(400));
    let job = host.job(&running);
    assert_eq!((&job["attempt"], &job["plugin_digest"]), (&json!(1), &good["digest"]));

    // What is taken away again is not listed any more.
    for (file, _, _, _) in &files {
        fs::remove_file(host.plugins.join(file)).expect("the file is there");
    }
    eventually("no refused file is listed", SOON, || {
        let all = host.get("/api/v1/plugins").expect(200)["plugins"].clone();
        (all == json!([good])).then_some(())
    });
}

#[test]
fn a_plugin_that_is_slow_to_load_holds_up_no_other() {
    let world = World::alone("");
    let mut host = world.empty_host();
    host.start();
    // The host waits ten seconds for an answer of `describe`.
    guest::put(
        &host.plugins,
        "a.wasm",
        &guest::text("a", &[("describe", "(loop $for_ever (br $for_ever))")]),
    );
    eventually("its compiler runs", SOON, || {
        (host.processes().len() > 1 + host.workers().len()).then_some(())
    });
    let from = Instant::now();
    guest::copy("noop", &host.plugins);
    host.plugin("noop", "loaded", Duration::from_secs(30), |plugin| plugin["state"] == "loaded");
    let waited = from.elapsed();
    println!("noop: listed after {waited:?} beside a plugin whose describe never returns");
    host.plugin("a", "refused", Duration::from_secs(60), |plugin| {
        plugin["error"]["code"] == "describe-failed"
    });
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[test]
fn files_are_read_only_where_the_operator_granted_a_directory() {
    let table = "id,amount\n1,10\n2,20\n3,30\n4,40\n";
    let job = |file: &str| {
        json!({"type": "intelligent_sampling", "input": {
            "data_set": {"file": file}, "key": "id", "sample_size": 2, "strategy": {"kind": "random"},
        }})
    };
    let plain = World::new("");
    let host = plain.host(&["intelligent_sampling"]);
    let refused = host.ended(&host.submit(&job("table.csv")));
    assert_eq!((&refused["status"], &refused["error"]["kind"]), (&json!("failed"), &json!("invalid-input")));
    let message = refused["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("no directory granted"), "it says what is missing: {message}");
    drop(host);
    drop(plain);

    let folder = tempfile::TempDir::new().expect("a folder");
    let granted = folder.path().join("granted");
    fs::create_dir(&granted).expect("a folder");
    fs::write(granted.join("table.csv"), table).expect("a file");
    fs::write(folder.path().join("secret.csv"), table).expect("a file");
    std::os::unix::fs::symlink(folder.path().join("secret.csv"), granted.join("link.csv")).expect("a link");
    let grant = format!("files = [{{ guest = \"/\", host = {granted:?} }}]");
    let world = World::new(&format!("[plugins.intelligent_sampling.grants]\n{grant}\n"));
    let host = world.host(&["intelligent_sampling"]);
    let result = host.result(&host.submit(&job("table.csv")));
    assert_eq!(result["sample_size"], 2, "{result}");
    for path in ["../secret.csv", "link.csv", "/etc/passwd"] {
        let job = host.ended(&host.submit(&job(path)));
        assert_eq!(job["status"], "failed", "{path} is outside of the granted directory: {job}");
    }
}

#[test]
fn a_new_version_serves_new_jobs_and_begun_ones_keep_theirs() {
    let world = World::new("[plugins.counter]\ncheckpoint = { every_steps = 1 }\n");
    let mut host = world.host(&["counter"]);
    let old = host.get("/api/v1/plugins/counter").expect(200)["digest"].clone();
    let running = host.submit(&counter(250, 10_000));
    let parked = host.submit(&json!({"type": "counter", "input": {"steps": 6, "await_signal": "go"}}));
    host.reaches(&running, "running");
    host.reaches(&parked, "waiting");
    let second = guest::relabelled(&built("counter"), "second");
    guest::put(&host.plugins, "counter.wasm", &second);
    let plugin = host.plugin("counter", "replaced", SOON, |plugin| plugin["digest"] != old);
    let new = plugin["digest"].clone();
    assert_eq!(plugin["state"], "loaded");
    let versions = plugin["versions"].as_array().expect("versions");
    let versions: Vec<_> = versions.iter().map(|version| (&version["digest"], &version["active"])).collect();
    assert_eq!(versions, [(&old, &json!(false)), (&new, &json!(true))]);
    let fresh = host.submit(&counter(3, 0));
    assert_eq!(host.result(&fresh)["sum"], 6);
    assert_eq!(host.job(&fresh)["plugin_digest"], new, "a new job begins with the new version");

    // The old one goes on with its own, also after a pause.
    host.control(&running, "pause").expect(202);
    let paused = host.reaches(&running, "paused");
    assert!(paused["step"].as_u64() > Some(0), "{paused}");
    host.control(&running, "resume").expect(202);
    assert_eq!(host.result(&running)["sum"], sum(250));
    assert_eq!(host.job(&running)["plugin_digest"], old);

    // And after a restart of the host, which does not find the old file any more.
    host.kill();
    host.start();
    host.wait_for_plugins(&["counter"]);
    host.post(&format!("/api/v1/jobs/{parked}/signals/go"), &json!(1)).expect(202);
    assert_eq!(host.result(&parked)["signal"], 1);
    assert_eq!(host.job(&parked)["plugin_digest"], old);

    host.control(&parked, "restart").expect(202);
    host.post(&format!("/api/v1/jobs/{parked}/signals/go"), &json!(2)).expect(202);
    assert_eq!(host.result(&parked)["signal"], 2);
    assert_eq!(host.job(&parked)["plugin_digest"], new, "a run from the beginning takes the active version");
}

/// The file of a retired type is gone, what ran ends, and what waits waits where it is seen.
fn retires(host: &Client, folder: &Path, remove: impl FnOnce()) {
    let running = host.submit(&counter(60, 10_000));
    let _ = host.until(&running, "under way", |job| job["status"] == "running");
    host.post("/api/v1/queues/held/pause", &Value::Null).expect(202);
    let held = host.submit(&json!({"type": "counter", "queue": "held", "input": {"steps": 3}}));
    remove();
    assert!(!folder.join("counter.wasm").exists());
    let retired = host.plugin("counter", "retired", SOON, |plugin| plugin["state"] == "retired");
    assert!(
        retired["versions"].as_array().expect("versions").iter().all(|version| version["active"] == false)
    );
    host.post("/api/v1/queues/held/resume", &Value::Null).expect(202);
    assert_eq!(host.result(&running)["sum"], sum(60), "a running job ends");
    let late = host.submit(&counter(4, 0));
    // The host works on what it has, and passes over what it has no more.
    for _ in 0..10 {
        let id = host.submit(&json!({"type": "noop", "input": {}}));
        assert_eq!(host.result(&id), Value::Null);
    }
    let waiting = host.get("/api/v1/jobs?status=queued&type=counter").expect(200)["jobs"].clone();
    let waiting: Vec<_> = waiting.as_array().expect("jobs").iter().map(|job| job["id"].clone()).collect();
    assert_eq!(waiting, [json!(late), json!(held)], "they wait where they are seen");
    guest::copy("counter", folder);
    assert_eq!(host.result(&held)["sum"], 6);
    assert_eq!(host.result(&late)["sum"], 10);
    let back = host.get("/api/v1/plugins/counter").expect(200);
    assert_eq!((&back["state"], back["versions"].as_array().expect("versions").len()), (&json!("loaded"), 1));
}

#[test]
fn a_removed_file_retires_its_type_and_its_return_brings_it_back() {
    let world = World::new("");
    let host = world.host(&["counter", "noop"]);
    let folder = host.plugins.clone();
    retires(&host, &folder, || fs::remove_file(folder.join("counter.wasm")).expect("the file is there"));
}

#[test]
fn a_type_is_retired_over_the_api_too() {
    let world = World::new("");
    let host = world.host(&["counter", "noop"]);
    retires(&host, &host.plugins, || {
        drop(host.request("DELETE", "/api/v1/plugins/counter", &[], b"").expect(204))
    });
    let unknown = host.request("DELETE", "/api/v1/plugins/nothing", &[], b"");
    assert_eq!((unknown.status, unknown.code()), (404, "unknown-plugin"));
}

#[test]
fn an_upload_is_answered_when_it_is_in_service() {
    let world = World::new("");
    let mut host = world.empty_host();
    host.start();
    let first = built("counter");
    let answer = upload(&host, "counter", &first).expect(201);
    assert_eq!((&answer["state"], &answer["file"]), (&json!("loaded"), &json!("counter.wasm")));
    assert_eq!(fs::read(host.plugins.join("counter.wasm")).expect("a file"), first);
    let id = host.submit(&counter(4, 0));
    assert_eq!(host.result(&id)["sum"], 10);
    let second = guest::relabelled(&first, "second");
    let replaced = upload(&host, "counter", &second).expect(200);
    assert_ne!(replaced["digest"], answer["digest"]);
    let id = host.submit(&counter(5, 0));
    assert_eq!(host.result(&id)["sum"], 15);
    assert_eq!(host.job(&id)["plugin_digest"], replaced["digest"]);
    let same = upload(&host, "counter", &second).expect(200);
    assert_eq!(same["digest"], replaced["digest"], "the same again is no error");
}

#[test]
fn a_refused_upload_keeps_the_version_before_it() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let path = host.plugins.join("counter.wasm");
    let before = (host.get("/api/v1/plugins/counter").expect(200)["digest"].clone(), built("counter"));
    let half = &before.1[..before.1.len() / 2];
    let empty = component("(component)");
    for (name, bytes, reason) in [
        ("counter", b"nonsense".as_slice(), "not-wasm"),
        ("counter", half, "truncated"),
        ("counter", &empty, "no-world"),
        ("counter", b"", "truncated"),
        ("noop", &guest::relabelled(&before.1, "elsewhere"), "duplicate-type"),
        ("new", b"nonsense", "not-wasm"),
        ("counter", &built("noop"), "wrong-name"),
        ("Counter", &before.1, "bad-name"),
    ] {
        let refused = upload(&host, name, bytes);
        assert_eq!((refused.status, refused.code()), (422, "plugin-refused"), "{reason}: {}", refused.body);
        assert_eq!(refused.body["reason"], reason, "{}", refused.body);
        assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{}", refused.body);
        assert_eq!(fs::read(&path).expect("the file is there"), before.1, "{reason}: the file is as it was");
        let plugin = host.plugin("counter", "in service without an error", SOON, |plugin| {
            plugin["state"] == "loaded" && plugin["error"].is_null()
        });
        assert_eq!(plugin["digest"], before.0, "{reason}");
        let id = host.submit(&counter(4, 0));
        assert_eq!(host.result(&id)["sum"], 10, "{reason}");
        assert_eq!(host.job(&id)["plugin_digest"], before.0, "{reason}");
    }
    let names: Vec<_> =
        fs::read_dir(&host.plugins).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["counter.wasm"], "nothing is left behind");
    eventually("only the good one is listed", SOON, || {
        let all = host.get("/api/v1/plugins").expect(200)["plugins"].as_array().expect("plugins").clone();
        (all.iter().filter(|plugin| plugin["state"] != "retired").count() == 1).then_some(())
    });
}

#[test]
fn a_plugin_that_keeps_trapping_is_quarantined_and_its_jobs_wait_for_a_mended_one() {
    let world = World::new("[worker]\nquarantine_traps = 3\n[plugins.counter.retry]\nmax_attempts = 1\n");
    let host = world.host(&["counter", "noop"]);
    let job = |input: Value| host.submit(&json!({"type": "counter", "input": input}));
    let trap = || {
        let job = host.ended(&job(json!({"steps": 2, "panic_at": 1})));
        assert_eq!(job["error"]["kind"], "guest-trap", "{job}");
    };
    let state = || host.get("/api/v1/plugins/counter").expect(200)["state"].clone();
    // Failures that a plugin tells of are no traps, and a job that ends well between two traps forgives the first.
    for _ in 0..5 {
        let job = host.ended(&job(json!({"steps": 2, "fail_at": 1})));
        assert_eq!(job["error"]["kind"], "permanent", "{job}");
    }
    for _ in 0..3 {
        trap();
        trap();
        let id = job(json!({"steps": 2}));
        assert_eq!(host.result(&id)["sum"], 3);
    }
    assert_eq!(state(), "loaded");

    for _ in 0..3 {
        trap();
    }
    let plugin = host.plugin("counter", "quarantined", SOON, |plugin| plugin["state"] == "quarantined");
    assert_eq!(plugin["error"]["code"], "quarantined");
    let message = plugin["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("3 traps") && message.contains("guest-trap"), "{message}");
    let held = job(json!({"steps": 7}));
    let noop = host.submit(&json!({"type": "noop", "input": {}}));
    assert_eq!(host.result(&noop), Value::Null, "other types go on");
    assert_eq!(host.job(&held)["status"], "queued");

    guest::put(&host.plugins, "counter.wasm", &guest::relabelled(&built("counter"), "mended"));
    assert_eq!(host.result(&held)["sum"], 28);
    let mended = host.get("/api/v1/plugins/counter").expect(200);
    assert_eq!((&mended["state"], &mended["error"]), (&json!("loaded"), &Value::Null));
    assert_eq!(host.job(&held)["plugin_digest"], mended["digest"]);

    for _ in 0..3 {
        trap();
    }
    let again = host.plugin("counter", "quarantined", SOON, |plugin| plugin["state"] == "quarantined");
    let message = again["error"]["message"].as_str().expect("a sentence");
    let first = plugin["digest"].as_str().expect("a digest");
    assert!(message.contains("in service before") && message.contains(&first[..12]), "{message}");
}
