//! The dashboard, in a real browser and as others may try to misuse it.

use crate::support::{configure, done, not_run, scratch};
use serde_json::{Value, json};
use std::{env, fs, path::PathBuf, process::Command};
use waymark_tests::{PATIENCE, World, client::Client, eventually, guest, host::Host, root};

const CONFIG: &str = "[worker]\nslots = 20\n";
/// What a browser says that it wants.
const PAGE: (&str, &str) = ("accept", "text/html");
/// Shown as text wherever it is kept.
const MARKUP: &str = "<img src=x onerror=alert(1)><b>&amp;";
/// Jobs that wait in a paused queue.
const HELD: usize = 30;

/// The text of a page.
fn page(client: &Client, path: &str) -> (u16, String) {
    let answer = client.request("GET", path, &[PAGE], b"");
    (answer.status, answer.body.as_str().unwrap_or_default().to_owned())
}

/// The browser, where it is installed.
fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join("chromium")).find(|program| program.is_file())
}

/// Playwright and axe, set up where they are not yet.
fn tools() -> Result<PathBuf, String> {
    let (sources, work) = (root().join("tests/dashboard"), scratch("dashboard"));
    for name in ["package.json", "package-lock.json", "check.js"] {
        fs::copy(sources.join(name), work.join(name)).map_err(|error| error.to_string())?;
    }
    let (lock, ready) = (work.join("package-lock.json"), work.join("node_modules/.ready"));
    if fs::read(&ready).ok() != fs::read(&lock).ok() {
        done(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&work))?;
        fs::copy(&lock, &ready).map_err(|error| error.to_string())?;
    }
    Ok(work)
}

/// A host with something on every page; answers what the browser shall look at.
fn busy(host: &Host) -> Value {
    let counter = |input: Value| json!({"type": "counter", "input": input});
    let with = |mut job: Value, field: &str, value: Value| {
        job[field] = value;
        job
    };
    let slow = json!({"steps": 100_000, "work_us": 30_000, "log": true, "emit": true});
    let long = host.submit(&counter(slow.clone()));
    let paused = host.submit(&counter(slow));
    let small = counter(json!({"steps": 3, "log": true, "emit": true}));
    let finished = host.submit(&with(small.clone(), "tags", json!([MARKUP])));
    let labelled = with(with(small, "correlation_id", json!(MARKUP)), "metadata", json!({"note": MARKUP}));
    let labelled = host.submit(&labelled);
    let failed = host.submit(&with(counter(json!({"steps": 3, "panic_at": 2})), "max_attempts", json!(1)));
    let echo = host.submit(&json!({"type": "waymark.echo", "input": {"says": MARKUP}}));
    let _ = host.post("/api/v1/queues/held/pause", &Value::Null).expect(202);
    let held: Vec<_> =
        (0..HELD).map(|_| with(counter(json!({"steps": 1})), "queue", json!("held"))).collect();
    let _ = host.submit_all(&held);
    let schedule = json!({"cron": "30 2 * * *", "job": counter(json!({"steps": 1}))});
    let _ =
        host.request("PUT", "/api/v1/schedules/nightly", &[], schedule.to_string().as_bytes()).expect(201);
    let node = |needs: Value| with(counter(json!({"steps": 1})), "needs", needs);
    let graph = json!({"name": MARKUP, "nodes": {
        "first": node(json!([])), "left": node(json!(["first"])), "right": node(json!(["first"])),
        "last": node(json!(["left", "right"])),
    }});
    let workflow = host.post("/api/v1/workflows", &graph).expect(201);
    let workflow = workflow["id"].as_str().expect("an id").to_owned();
    let digest = host.get("/api/v1/plugins/counter").expect(200)["digest"].clone();
    let target = |arm: &str, weight: u8| json!({"arm": arm, "version": digest, "weight": weight});
    let steps = json!([{"percent": 10, "min_ms": 600_000}, {"percent": 100, "min_ms": 0}]);
    let route = json!({
        "targets": [target("old", 100), target("new", 0)], "canary": {"arm": "new", "steps": steps},
        "shadow": {"arm": "new", "percent": 0.01}, "sticky": "/metadata/tenant",
        "flags": [{"values": ["beta"], "arm": "new"}],
    });
    let _ = host.request("PUT", "/api/v1/routes/counter", &[], route.to_string().as_bytes()).expect(200);
    for id in [&finished, &labelled, &echo, &workflow] {
        host.reaches(id, "succeeded");
    }
    host.reaches(&failed, "failed");
    eventually("there are checkpoints to compare", PATIENCE, || {
        let kept = host.get(&format!("/api/v1/jobs/{paused}/checkpoints")).expect(200);
        (kept["checkpoints"].as_array().expect("checkpoints").len() > 2).then_some(())
    });
    let _ = host.control(&paused, "pause").expect(202);
    host.reaches(&paused, "paused");
    let errors = eventually("there is a group of failures", PATIENCE, || {
        let errors = host.get("/api/v1/errors").expect(200);
        errors["errors"][0]["fingerprint"].as_str().map(str::to_owned)
    });
    json!({
        "pages": [
            ["/", "Overview"], ["/?span=48h", "Overview"], ["/jobs", "Jobs"], ["/jobs?status=failed", "Jobs"],
            ["/jobs?type=nobody", "Jobs"], [format!("/jobs/{long}"), long], [format!("/jobs/{paused}"), paused],
            [format!("/jobs/{failed}"), failed], [format!("/jobs/{finished}"), finished],
            [format!("/jobs/{finished}/replay"), "replay"], [format!("/jobs/{paused}/checkpoints"), "Checkpoints"],
            ["/workflows", "Workflows"], [format!("/workflows/{workflow}"), "img"], ["/schedules", "Schedules"],
            ["/schedules/nightly", "nightly"], ["/queues", "Queues"], ["/routes", "Routes"], ["/routes/counter", "counter"], ["/plugins", "Plugins"], ["/hosts", "Hosts"],
            ["/audit", "Audit"], ["/errors", "Errors"], [format!("/errors/{errors}"), "trap"],
        ],
        "markup": [
            format!("/jobs/{finished}"), format!("/jobs/{labelled}"), format!("/jobs/{echo}"), "/jobs",
            "/workflows", format!("/workflows/{workflow}"),
        ],
        "long": long, "paused": paused, "done": finished, "held": HELD,
    })
}

#[test]
fn every_page_and_action_works_in_a_browser() {
    let Some(chromium) = chromium() else { return not_run("the dashboard: there is no chromium") };
    let tools = match tools() {
        Ok(tools) => tools,
        Err(error) => return not_run(&format!("the dashboard, whose tools cannot be had: {error}")),
    };
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let facts = tools.join(format!("facts-{}.json", std::process::id()));
    fs::write(&facts, busy(&host).to_string()).expect("a file");
    let mut check = Command::new("node");
    check.arg("check.js").arg(&host.url).arg(chromium).arg(&facts).current_dir(&tools);
    // A person who wants to see the pages names a folder.
    check.args(env::var_os("WAYMARK_SCREENSHOTS"));
    let said = done(&mut check);
    let _ = fs::remove_file(&facts);
    println!("{}", said.unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn a_first_visit_says_what_to_do_next() {
    let world = World::new(CONFIG);
    let mut host = world.empty_host();
    host.start();
    let (status, text) = page(&host, "/");
    assert_eq!(status, 200);
    assert!(text.contains("No job type is loaded yet") && text.contains("waymark plugin new"), "{text}");
    assert!(page(&host, "/plugins").1.contains("This host has no plugins"));
    let (status, text) = page(&host, "/nowhere");
    assert_eq!(status, 404);
    assert!(text.contains("unknown-path") && text.contains("To the overview"), "{text}");
    assert_eq!(host.get("/nowhere").code(), "unknown-path", "a program is told in JSON");
}

#[test]
fn what_is_stuck_is_named_with_its_cause() {
    let world = World::new(CONFIG);
    let host = world.host(&["counter"]);
    let waits = host.submit(&json!({"type": "counter", "input": {"steps": 4, "await_signal": "go"}}));
    let _ = host.reaches(&waits, "waiting");
    eventually("what nothing wakes is named", PATIENCE, || {
        page(&host, "/").1.contains("they wait for a signal").then_some(())
    });
    let _ = host.post("/api/v1/queues/held/pause", &Value::Null).expect(202);
    for (queue, limits) in [
        ("narrow", json!({"concurrency": 1})),
        ("rated", json!({"rate": {"count": 1, "per_ms": 3_600_000}})),
        ("keyed", json!({"per_key": {"concurrency": 1}})),
    ] {
        let path = format!("/api/v1/queues/{queue}/limits");
        let _ = host.request("PUT", &path, &[], limits.to_string().as_bytes()).expect(200);
    }
    let job = |queue: &str| json!({"type": "counter", "queue": queue, "input": {"steps": 10_000, "work_us": 50_000}});
    for queue in ["held", "narrow", "narrow", "rated", "rated"] {
        let _ = host.submit(&job(queue));
    }
    for _ in 0..2 {
        let mut keyed = job("keyed");
        keyed["flow_key"] = json!("tenant");
        let _ = host.submit(&keyed);
    }
    eventually("each cause is named", PATIENCE, || {
        let text = page(&host, "/").1;
        let causes = [
            "The queue is paused.",
            "Its limit is reached: 1 of 1 run.",
            "Its rate is used up: 1 may start in",
            "1 of its keys are at their limit.",
        ];
        causes.iter().all(|cause| text.contains(cause)).then_some(())
    });
}

#[test]
fn the_history_survives_a_restart_and_marks_new_versions() {
    let world = World::new(CONFIG);
    let mut host = world.host(&["counter"]);
    for _ in 0..5 {
        let id = host.submit(&json!({"type": "counter", "input": {"steps": 1}}));
        host.reaches(&id, "succeeded");
    }
    let counted = |host: &Host| {
        let text = page(host, "/").1;
        (text.contains("succeeded: 5") && text.contains("counter 0.1.0 came into service")).then_some(())
    };
    eventually("five jobs are in the chart", PATIENCE, || counted(&host));
    host.kill();
    host.start();
    // A minute may have passed; the bar is as high as before.
    eventually("they are there after a restart", PATIENCE, || counted(&host));
    guest::copy("noop", &host.plugins);
    eventually("a new plugin is marked", PATIENCE, || {
        page(&host, "/").1.contains("noop 0.1.0 came into service").then_some(())
    });
}

#[test]
fn a_form_of_another_site_changes_nothing() {
    let world = World::new(CONFIG);
    let mut host = world.empty_host();
    host.start();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let send = |headers: &[(&str, &str)]| host.request("POST", "/queues/night/pause", headers, b"").status;
    let own = host.url.as_str();
    for headers in [
        vec![form],
        vec![form, ("origin", "http://evil.example")],
        vec![form, ("origin", "null")],
        vec![form, ("sec-fetch-site", "cross-site")],
        vec![form, ("sec-fetch-site", "same-site")],
        vec![form, ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")],
        vec![form, ("origin", own), ("host", "evil.example")],
    ] {
        assert_eq!(send(&headers), 403, "{headers:?}");
    }
    assert_eq!(host.get("/api/v1/queues").expect(200)["queues"], json!([]), "nothing was paused");
    // The client follows to the page.
    assert_eq!(send(&[form, ("origin", own), ("sec-fetch-site", "same-origin")]), 200);
    assert_eq!(host.get("/api/v1/queues").expect(200)["queues"][0]["paused"], true);
}

#[test]
fn a_host_with_tokens_shows_pages_to_their_holders_only() {
    let world = World::new(CONFIG);
    let mut host = world.empty_host();
    // Of the word "secret".
    let read = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    configure(&host, |text| {
        format!("{text}\n[[api.tokens]]\nname = \"look\"\nsha256 = \"{read}\"\nscopes = [\"read\"]\n")
    });
    host.start();
    for path in ["/", "/jobs", "/hosts"] {
        let (status, text) = page(&host, path);
        assert_eq!(status, 200, "{path}");
        assert!(
            text.contains("Sign in") && !text.contains("</nav>"),
            "{path}: a browser is led to sign in: {text}"
        );
    }
    let holder = ("authorization", "Bearer secret");
    let answer = host.request("GET", "/hosts", &[PAGE, holder], b"");
    let text = answer.body.as_str().unwrap_or_default();
    assert_eq!(answer.status, 200);
    assert!(
        text.contains("look") && !text.contains("Drain"),
        "who may only look is offered no switch: {text}"
    );
    assert_eq!(host.request("POST", "/queues/night/pause", &[holder], b"").code(), "scope-missing");
}
