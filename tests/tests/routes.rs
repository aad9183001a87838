//! Routes: which version of a plugin, or who else, runs the jobs of a type; canaries that go on and back by themselves,
//! copies without effects, and versions that take over from one another.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use waymark_tests::{
    World,
    client::Client,
    endpoint::{Endpoint, Reply},
    eventually, guest,
    host::Host,
};

/// Time for a version to come into service.
const SOON: Duration = Duration::from_secs(20);
/// Longest time from enough evidence to the end of a bad canary.
const BACK_WITHIN: Duration = Duration::from_secs(30);

fn put(host: &Client, job_type: &str, route: &Value) -> Value {
    let path = format!("/api/v1/routes/{job_type}");
    let body = route.to_string();
    host.request("PUT", &path, &[("content-type", "application/json")], body.as_bytes()).expect(200)
}

fn act(host: &Client, job_type: &str, verb: &str) -> Value {
    host.request("POST", &format!("/api/v1/routes/{job_type}/{verb}"), &[], b"").expect(200)
}

fn route(host: &Client, job_type: &str) -> Value {
    host.get(&format!("/api/v1/routes/{job_type}")).expect(200)
}

/// Puts another version of the guest `counter` into service and returns its digest.
fn replace(host: &Host, bytes: &[u8]) -> String {
    let before = host.get("/api/v1/plugins/counter").expect(200)["digest"].clone();
    guest::put(&host.plugins, "counter.wasm", bytes);
    let plugin = host.plugin("counter", "replaced", SOON, |plugin| plugin["digest"] != before);
    plugin["digest"].as_str().expect("a digest").to_owned()
}

fn digest(host: &Client) -> String {
    host.get("/api/v1/plugins/counter").expect(200)["digest"].as_str().expect("a digest").to_owned()
}

fn target(arm: &str, version: &str, weight: u8) -> Value {
    json!({"arm": arm, "version": version, "weight": weight})
}

/// A canary of `new` beside `old`, with steps of a second.
fn canary(old: &str, new: &str) -> Value {
    let steps: Vec<_> =
        [10, 25, 50, 100].map(|percent| json!({"percent": percent, "min_ms": 1_000})).to_vec();
    json!({
        "targets": [target("old", old, 100), target("new", new, 0)],
        // 1 of 20 jobs fails in a bad version: a sample in which that shows.
        "canary": {"arm": "new", "steps": steps, "guards": {
            "error_rate": {"min_samples": 250}, "latency": {"min_samples": 100},
        }},
    })
}

/// Jobs come until the canary has ended; returns the route, and how long that took since the arm under trial had 100
/// attempts behind it, which is less than the guard of errors asks for.
fn watched(host: &Client, input: &Value) -> (Value, Duration) {
    let jobs: Vec<_> = (0..100).map(|_| json!({"type": "counter", "input": input})).collect();
    let (began, mut enough, mut tried) = (Instant::now(), None, 0);
    loop {
        // No more wait than run soon: what is queued is behind what is asked.
        let queues = host.get("/api/v1/queues").expect(200);
        let queue =
            queues["queues"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "counter"));
        if queue.is_none_or(|queue| queue["depth"].as_u64() < Some(200)) {
            drop(host.submit_all(&jobs));
        }
        let now = route(host, "counter");
        if now["canary"]["step"] == 1 {
            tried = tried.max(now["arms"][1]["attempts"].as_u64().unwrap_or(0));
        }
        if enough.is_none() && (tried >= 100 || now["canary"]["step"] != 1) {
            enough = Some(Instant::now());
        }
        let standing = now["canary"]["standing"].as_str().expect("a standing");
        if standing != "running" {
            host.post("/api/v1/queues/counter/purge", &Value::Null).expect(202);
            return (now, enough.map_or(Duration::ZERO, |at| at.elapsed()));
        }
        assert!(began.elapsed() < Duration::from_secs(150), "the canary never ends: {now}");
        std::thread::sleep(Duration::from_millis(150));
    }
}

#[test]
fn a_bad_canary_goes_back_by_itself_and_a_good_one_is_promoted() {
    let world = World::new("[plugins.counter.retry]\nmax_attempts = 1\n");
    let host = world.host(&["counter"]);
    let old = digest(&host);
    let all_old = json!({"targets": [target("old", &old, 100)]});
    put(&host, "counter", &all_old);

    for (what, bytes, guard) in [
        ("5 % of errors", guest::counter(5, 1, 1), "error_rate"),
        ("doubled times", guest::counter(0, 2, 1), "latency"),
    ] {
        let bad = replace(&host, &bytes);
        put(&host, "counter", &canary(&old, &bad));
        let (ended, took) = watched(&host, &json!({"steps": 1, "work_us": 1_000}));
        println!("{what}: rolled back {took:?} after 100 attempts: {}", ended["history"][0]["why"]);
        assert_eq!(ended["canary"]["standing"], "rolled back", "{what}: {ended}");
        assert!(took < BACK_WITHIN, "{what}: {took:?}");
        let last = &ended["history"][0];
        assert_eq!((&last["who"], &last["what"]), (&json!("waymark"), &json!("rollback")));
        let why = last["why"].as_str().expect("figures");
        assert!(why.contains(guard) && why.contains("p = "), "{why}");
        assert_eq!(ended["route"]["targets"][0]["weight"], 100);
        let audit = host.get("/api/v1/audit?actor=waymark&limit=1").expect(200);
        assert_eq!(audit["entries"][0]["path"], "/api/v1/routes/counter/rollback", "{audit}");
        // What has not begun goes to the old version.
        let id = eventually("new jobs run on the old version", SOON, || {
            let id = host.submit(&json!({"type": "counter", "input": {"steps": 1}}));
            let job = host.ended(&id);
            (job["plugin_digest"] == old).then_some(id)
        });
        assert_eq!(host.job(&id)["route"], json!({"arm": "old", "kind": "version", "target": old}));
        let refused = host.request("POST", "/api/v1/routes/counter/promote", &[], b"");
        assert_eq!((refused.status, refused.code()), (409, "wrong-standing"));
    }

    let good = replace(&host, &guest::relabelled(&guest::counter(0, 1, 1), "good"));
    put(&host, "counter", &canary(&old, &good));
    let (ended, _) = watched(&host, &json!({"steps": 1, "work_us": 1_000}));
    assert_eq!(ended["canary"]["standing"], "promoted", "{ended}");
    assert_eq!(ended["route"]["targets"][1]["weight"], 100);
    let advances =
        ended["history"].as_array().expect("changes").iter().filter(|one| one["what"] == "advance");
    assert!(advances.count() >= 3, "{}", ended["history"]);
    assert!(host.metric("waymark_route_changes_total{type=\"counter\",what=\"rollback\"}") >= 2.0);
}

#[test]
fn a_rollback_reaches_jobs_that_are_queued_and_can_be_undone() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let old = digest(&host);
    put(&host, "counter", &json!({"targets": [target("old", &old, 100)]}));
    let new = replace(&host, &guest::relabelled(&guest::counter(0, 1, 1), "new"));
    put(&host, "counter", &canary(&old, &new));
    let full = act(&host, "counter", "promote?full=true");
    assert_eq!(full["canary"]["standing"], "promoted");
    let job = json!({"type": "counter", "input": {"steps": 2}});
    eventually("jobs run on the new version", SOON, || {
        (host.ended(&host.submit(&job))["plugin_digest"] == new).then_some(())
    });
    host.post("/api/v1/queues/counter/pause", &Value::Null).expect(202);
    let waiting = host.submit_all(&vec![job.clone(); 30]);
    let back = act(&host, "counter", "rollback?why=it%20smells");
    assert_eq!(back["canary"]["standing"], "rolled back");
    // Workers hear of it at once, or within two seconds.
    std::thread::sleep(Duration::from_secs(3));
    host.post("/api/v1/queues/counter/resume", &Value::Null).expect(202);
    for id in &waiting {
        let job = host.ended(id);
        assert_eq!((&job["status"], &job["plugin_digest"]), (&json!("succeeded"), &json!(old)), "{job}");
        assert_eq!(job["route"]["arm"], "old");
    }
    let history = route(&host, "counter")["history"].clone();
    assert_eq!((&history[0]["what"], &history[0]["why"]), (&json!("rollback"), &json!("it smells")));

    let again = act(&host, "counter", "undo");
    assert_eq!(
        (&again["canary"]["standing"], &again["route"]["targets"][1]["weight"]),
        (&json!("promoted"), &json!(100))
    );
    eventually("jobs run on the new version again", SOON, || {
        (host.ended(&host.submit(&job))["plugin_digest"] == new).then_some(())
    });

    // A version that nobody holds is no target, and a route that is wrong changes nothing.
    let before = route(&host, "counter")["revision"].clone();
    for (bad, field) in [
        (json!({"targets": [target("old", "9.9.9", 100)]}), "/targets/0/version"),
        (json!({"targets": [target("old", &old, 90)]}), "/targets"),
        (json!({"targets": [target("old", &old, 100)], "sticky": "tenant"}), "/sticky"),
    ] {
        let refused = host.request(
            "PUT",
            "/api/v1/routes/counter",
            &[("content-type", "application/json")],
            bad.to_string().as_bytes(),
        );
        assert_eq!((refused.status, refused.code()), (422, "invalid-field"), "{}", refused.body);
        assert_eq!(refused.body["errors"][0]["pointer"], field, "{}", refused.body);
    }
    assert_eq!(route(&host, "counter")["revision"], before);
    host.request("DELETE", "/api/v1/routes/counter", &[], b"").expect(204);
    assert_eq!(host.get("/api/v1/routes/counter").code(), "unknown-route");
}

#[test]
fn a_key_stays_with_its_target_and_a_flag_sends_it_elsewhere() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let old = digest(&host);
    let new = replace(&host, &guest::relabelled(&guest::counter(0, 1, 1), "new"));
    let mut wanted = json!({
        "targets": [target("old", &old[..12], 80), target("new", &new, 20)],
        "sticky": "/metadata/tenant",
        "flags": [{"values": ["beta"], "arm": "new"}],
    });
    put(&host, "counter", &wanted);
    std::thread::sleep(Duration::from_secs(3));
    let arms = |tenants: &[String]| -> Vec<Value> {
        let job = |tenant: &String| json!({"type": "counter", "input": {"steps": 1}, "metadata": {"tenant": tenant}});
        let ids = host.submit_all(&tenants.iter().map(job).collect::<Vec<_>>());
        ids.iter().map(|id| host.ended(id)["route"]["arm"].clone()).collect()
    };
    let tenants: Vec<_> = (0..60).map(|number| format!("tenant-{number}")).collect();
    let first = arms(&tenants);
    assert!(first.contains(&json!("old")) && first.contains(&json!("new")), "{first:?}");
    assert_eq!(arms(&tenants), first, "the same key goes the same way");
    assert_eq!(arms(&["beta".to_owned()]), ["new"]);
    // A target that grows keeps its keys.
    wanted["targets"][0]["weight"] = json!(40);
    wanted["targets"][1]["weight"] = json!(60);
    put(&host, "counter", &wanted);
    std::thread::sleep(Duration::from_secs(3));
    let grown = arms(&tenants);
    assert!(
        first.iter().zip(&grown).all(|(before, now)| before == now || now == "new"),
        "{first:?} {grown:?}"
    );
    assert_ne!(first, grown);
    let shown = eventually("workers told what they counted", SOON, || {
        let shown = route(&host, "counter");
        (shown["arms"][1]["attempts"].as_u64() > Some(0)).then_some(shown)
    });
    assert!(
        shown["arms"][1]["p95_ms"].as_f64() > Some(0.0)
            && shown["arms"][1]["result_bytes"].as_u64() > Some(10)
    );
}

#[test]
fn copies_have_no_effects_and_what_differs_is_kept() {
    let endpoint = Endpoint::start(|_| Reply::new(200, "ok"));
    let hook = Endpoint::start(|_| Reply::new(200, ""));
    let host_name = endpoint.address.ip();
    let world = World::new(&format!(
        "[plugins.fetcher.grants.http]\nallow = [{{ host = \"{host_name}\", ports = [{}], schemes = [\"http\"], private = true }}]\n\
         [plugins.keeper.grants]\nkeyvalue = {{}}\nconfig = {{ A = \"b\" }}\n\
         [webhooks.all]\nurl = \"http://{}/\"\n[delivery]\nprivate_addresses = true\n",
        endpoint.address.port(),
        hook.address
    ));
    let host = world.host(&["fetcher", "keeper", "counter"]);
    let digest_of = |name: &str| {
        let plugin = host.get(&format!("/api/v1/plugins/{name}")).expect(200);
        plugin["digest"].as_str().expect("a digest").to_owned()
    };
    for name in ["fetcher", "keeper"] {
        let own = digest_of(name);
        put(
            &host,
            name,
            &json!({
                "targets": [target("live", &own, 100), target("copy", &own, 0)],
                "shadow": {"arm": "copy", "percent": 100},
            }),
        );
    }
    let old = digest_of("counter");
    let bad = replace(&host, &guest::counter(99, 1, 1));
    put(
        &host,
        "counter",
        &json!({
            "targets": [target("live", &old, 100), target("copy", &bad, 0)],
            "shadow": {"arm": "copy", "percent": 100, "compare": {"absolute": 0.5}},
        }),
    );
    std::thread::sleep(Duration::from_secs(3));

    let copy_of = |id: &str| {
        let found = eventually("the job has a copy that ended", SOON, || {
            let all = host.get(&format!("/api/v1/jobs?correlation_id={id}&tag=shadow")).expect(200);
            let one = all["jobs"][0]["id"].as_str()?.to_owned();
            let job = host.job(&one);
            ["succeeded", "failed"].contains(&job["status"].as_str().unwrap_or("")).then_some(job)
        });
        assert_eq!(found["shadow_of"], id);
        found
    };
    let url = format!("http://{}/", endpoint.address);
    let id = host.submit(&json!({"type": "fetcher", "input": [
        {"method": "POST", "url": format!("{url}post"), "body_bytes": 3}, {"url": format!("{url}get")},
    ]}));
    let _ = host.ended(&id);
    let copy = copy_of(&id);
    let asked: Vec<_> = endpoint.asked().into_iter().map(|one| one.line).collect();
    assert_eq!(asked.iter().filter(|line| line.starts_with("POST")).count(), 1, "{asked:?}");
    assert_eq!(asked.iter().filter(|line| line.starts_with("GET")).count(), 2, "{asked:?}");
    let output = host.get(&format!("/api/v1/jobs/{}/output", copy["id"].as_str().expect("an id")));
    let output = output.body.to_string();
    assert!(output.contains("error") && output.contains("200"), "{output}");

    // What the copy would add to a number is added to one of its own.
    let id = host.submit(&json!({"type": "keeper", "input": [
        {"open": {"bucket": ""}}, {"increment": {"key": "n", "delta": 1}},
    ]}));
    let _ = host.ended(&id);
    copy_of(&id);
    let id = host.submit(&json!({"type": "keeper", "input": [
        {"open": {"bucket": ""}}, {"increment": {"key": "n", "delta": 1}},
    ]}));
    let _ = host.ended(&id);
    let output = host.get(&format!("/api/v1/jobs/{id}/output")).body.to_string();
    assert!(output.contains('2') && !output.contains('3'), "{output}");
    copy_of(&id);

    // 99 of 100 copies fail: the pair is kept with both sides, and the job is none the worse.
    let ids: Vec<_> =
        (0..5).map(|_| host.submit(&json!({"type": "counter", "input": {"steps": 3}}))).collect();
    for id in &ids {
        assert_eq!(host.result(id)["sum"], 6);
        copy_of(id);
    }
    let pairs = eventually("pairs that differ are kept", SOON, || {
        let found = host.get("/api/v1/routes/counter/mismatches").expect(200);
        found["mismatches"].as_array().filter(|pairs| pairs.len() >= 3).cloned()
    });
    assert_eq!(pairs[0]["left"]["succeeded"]["sum"], 6, "{}", pairs[0]);
    assert_eq!(pairs[0]["right"], json!({"failed": "permanent"}));
    assert_eq!(pairs[0]["differences"][0]["pointer"], "");
    let shown = eventually("pairs are counted", SOON, || {
        let shown = route(&host, "counter");
        (shown["compared"] == 5).then_some(shown)
    });
    assert!(shown["mismatched"].as_u64() >= Some(3), "{shown}");
    // Copies count for no target, and nobody is told of them.
    assert_eq!((&shown["arms"][0]["attempts"], &shown["arms"][1]["attempts"]), (&json!(5), &json!(0)));
    let told = eventually("every end of a job is told", SOON, || {
        let told = hook.asked();
        (told.len() >= 8).then_some(told)
    });
    let shadows = told.iter().filter(|one| String::from_utf8_lossy(&one.body).contains("shadow_of"));
    assert_eq!((told.len(), shadows.count()), (8, 0));
    assert_eq!(host.get("/api/v1/errors").expect(200)["errors"].as_array().map_or(0, Vec::len), 0);
}

#[test]
fn an_endpoint_runs_jobs_where_no_plugin_does() {
    let endpoint = Endpoint::start(|asked| match serde_json::from_slice::<Value>(&asked.body) {
        Ok(input) if input["n"].is_u64() => {
            Reply::new(200, json!({"doubled": input["n"].as_u64().unwrap_or(0) * 2}).to_string())
        }
        _ => Reply::new(422, ""),
    });
    let world = World::new("[delivery]\nprivate_addresses = true\n");
    let mut host = world.empty_host();
    host.start();
    let job = |input: Value| json!({"type": "outside", "input": input});
    assert_eq!(host.post("/api/v1/jobs", &job(json!({"n": 1}))).code(), "unknown-job-type");
    let url = format!("http://{}/run", endpoint.address);
    put(&host, "outside", &json!({"targets": [{"arm": "old", "weight": 100, "http": {"url": url}}]}));
    let id = eventually("the type is known", SOON, || {
        let made = host.post("/api/v1/jobs", &job(json!({"n": 21})));
        (made.status == 201).then(|| made.body["id"].as_str().expect("an id").to_owned())
    });
    assert_eq!(host.result(&id), json!({"doubled": 42}));
    assert_eq!(host.job(&id)["route"], json!({"arm": "old", "kind": "http", "target": url}));
    let asked = endpoint.asked();
    assert_eq!((asked[0].line.as_str(), asked[0].header("waymark-job")), ("POST /run", id.as_str()));
    let refused = host.ended(&host.submit(&job(json!({"n": "x"}))));
    assert_eq!((&refused["status"], &refused["error"]["kind"]), (&json!("failed"), &json!("permanent")));
    assert_eq!(endpoint.asked().len(), 2, "it is not tried again");
}

/// The trials of the active version, by job.
fn verdict(host: &Client, id: &str) -> String {
    let plugin = host.get("/api/v1/plugins/counter").expect(200);
    let versions = plugin["versions"].as_array().expect("versions").clone();
    let active = versions.into_iter().find(|version| version["active"] == true).expect("one is active");
    let trials = active["swap"]["trials"].as_array().expect("trials").clone();
    let trial = trials.into_iter().find(|trial| trial["of"] == id);
    trial.unwrap_or_else(|| panic!("{id} was tried"))["verdict"].as_str().expect("a verdict").to_owned()
}

#[test]
fn a_version_takes_over_only_what_it_can_read_and_gives_it_back() {
    let world =
        World::new("[plugins.counter]\non_new_version = \"migrate\"\ncheckpoint = { every_steps = 1 }\n");
    let host = world.host(&["counter"]);
    let first = digest(&host);
    let long = json!({"type": "counter", "input": {"steps": 2_000, "work_us": 3_000}});
    let running = host.submit(&long);
    let parked = host.submit(&json!({"type": "counter", "input": {"steps": 6, "await_signal": "go"}}));
    let _ = host.until(&running, "under way", |job| job["step"].as_u64() > Some(2));
    host.reaches(&parked, "waiting");

    // One that cannot read their state takes over nothing.
    let other = replace(&host, &guest::counter(0, 1, 2));
    for id in [&running, &parked] {
        assert_eq!(verdict(&host, id), "refuse");
    }
    let fresh = host.submit(&json!({"type": "counter", "input": {"steps": 2_000, "work_us": 3_000}}));
    let _ = host.until(&fresh, "under way", |job| job["step"].as_u64() > Some(2));
    assert_eq!(host.job(&fresh)["plugin_digest"], other, "new jobs begin with it");
    let step = host.job(&running)["step"].as_u64();
    let later = host.until(&running, "further on", |job| job["step"].as_u64() > step.map(|step| step + 5));
    assert_eq!((&later["plugin_digest"], &later["attempt"]), (&json!(first), &json!(1)), "{later}");

    // Back: what the withdrawn version began cannot be read by the one before, and says so.
    let back = host.request("POST", "/api/v1/plugins/counter/rollback", &[], b"").expect(200);
    assert_eq!(back["digest"], first);
    let stuck = host.reaches(&fresh, "paused");
    assert_eq!(stuck["error"]["kind"], "version-withdrawn", "{stuck}");
    let message = stuck["error"]["message"].as_str().expect("a sentence");
    assert!(message.contains("shape 2") && message.contains("Restart"), "{message}");
    assert_eq!(host.job(&running)["plugin_digest"], first);
    let again = host.request("POST", "/api/v1/plugins/counter/rollback", &[], b"");
    assert_eq!((again.status, &again.body["reason"]), (422, &json!("no-version-before")));
    host.control(&fresh, "cancel").expect(202);

    // One that reads it takes over while the job runs, without an attempt lost, and gives it back.
    let third = replace(&host, &guest::relabelled(&guest::counter(0, 1, 1), "third"));
    assert_eq!(verdict(&host, &running), "migrate");
    let moved = host.until(&running, "moved", |job| job["plugin_digest"] == third);
    assert_eq!((&moved["attempt"], &moved["run"]), (&json!(1), &json!(1)), "{moved}");
    assert!(moved["step"].as_u64() > later["step"].as_u64(), "it goes on from where it was: {moved}");
    host.request("POST", "/api/v1/plugins/counter/rollback", &[], b"").expect(200);
    let returned = host.until(&running, "back", |job| job["plugin_digest"] == first);
    assert!(returned["step"].as_u64() >= moved["step"].as_u64(), "{returned}");
    host.post(&format!("/api/v1/jobs/{parked}/signals/go"), &json!(1)).expect(202);
    assert_eq!(host.result(&parked)["signal"], 1);
    host.control(&running, "cancel").expect(202);
}
