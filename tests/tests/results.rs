//! What jobs leave behind: results, streams, groups of failures, and who is told of an end.

use crate::support::{configure, node_packages, not_run, scratch};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};
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

#[test]
fn a_reader_of_all_events_goes_on_at_another_host() {
    let world = World::new("");
    let start = || {
        let mut host = world.empty_host();
        configure(&host, |text| text.replace("[redis]\n", "[redis]\npartitions = 3\n"));
        guest::copy("counter", &host.plugins);
        host.start();
        host.wait_for_plugins(&["counter"]);
        host
    };
    let (mut first, second) = (start(), start());
    let mut shell = Command::new(binary());
    shell.args(["job", "watch", "--all", "--tag", "counted", "--json", "--url", &second.url]);
    let mut shell = shell.stdout(Stdio::piped()).spawn().expect("the program runs");
    let lines = BufReader::new(shell.stdout.take().expect("its output")).lines();
    let path = "/api/v1/events?tag=counted";
    let mut stream = first.events_at(path, None);
    let job = json!({"type": "counter", "input": {"steps": 3}, "tags": ["counted"]});
    // The command line has begun to listen when it tells of a job.
    let (began, begins) = mpsc::channel();
    let listener = thread::spawn(move || {
        let mut states: Vec<(String, String)> = Vec::new();
        for line in lines {
            let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            let text = |name: &str| event[name].as_str().expect("a text").to_owned();
            states.push((text("id"), text("status")));
            let _ = began.send(());
        }
        states
    });
    let mut ids = Vec::new();
    eventually("the command line tells of jobs", PATIENCE, || {
        ids.push(second.submit(&job));
        begins.recv_timeout(Duration::from_millis(300)).ok()
    });
    let jobs: Vec<_> = (0..60).map(|_| job.clone()).collect();
    ids.extend(second.submit_all(&jobs));
    let (mut last, mut seen) = (String::new(), Vec::new());
    let mut take = |event: waymark_tests::client::Event, last: &mut String| {
        assert_eq!(event.name, "job", "{:?}", event.data);
        seen.push((event.data["id"].clone(), event.data["status"].clone()));
        if !event.id.is_empty() {
            *last = event.id;
        }
        seen.iter().filter(|(_, status)| *status == "succeeded").count()
    };
    while take(stream.next().expect("an event"), &mut last) < 5 {}
    drop(stream);
    first.kill();
    let mut stream = second.events_at(path, Some(&last));
    ids.extend(second.submit_all(&jobs));
    for id in &ids {
        assert_eq!(second.ended(id)["status"], "succeeded");
    }
    // Jobs that changed at once are told again, at most, where the reader broke off among them.
    let all = |seen: &[(Value, Value)]| {
        ids.iter().all(|id| seen.iter().any(|(known, status)| known == id && status == "succeeded"))
    };
    while take(stream.next().expect("an event"), &mut last) < ids.len() {}
    eventually("every end is told", PATIENCE, || {
        if !all(&seen) {
            let event = stream.next().expect("an event");
            seen.push((event.data["id"].clone(), event.data["status"].clone()));
        }
        all(&seen).then_some(())
    });
    for id in &ids {
        let of: Vec<_> = seen.iter().filter(|(known, _)| known == id).map(|(_, status)| status).collect();
        assert!(of.contains(&&json!("queued")) && of.contains(&&json!("running")), "{id}: {of:?}");
    }
    // The command line stayed with its host and heard everything once.
    thread::sleep(Duration::from_millis(500));
    shell.kill().expect("it runs");
    shell.wait().expect("it ends");
    let states = listener.join().expect("it listens");
    for id in &ids[1..] {
        let of: Vec<_> = states.iter().filter(|(known, _)| known == id).map(|(_, status)| status).collect();
        assert_eq!(of.iter().filter(|status| **status == "succeeded").count(), 1, "{id}: {of:?}");
    }
}

/// A job type whose result is `["x…x"]` of so many bytes, and which emits it too.
fn long_result(name: &str, bytes: usize) -> Vec<u8> {
    // Brackets and quotes are 0x225b at the beginning and 0x5d22 at the end.
    let step = format!(
        "(memory.fill (i32.const 131072) (i32.const 120) (i32.const {bytes}))
         (i32.store16 (i32.const 131072) (i32.const 0x225b))
         (i32.store16 (i32.const {}) (i32.const 0x5d22))
         (call $emit (i32.const 131072) (i32.const {bytes}))
         (i32.store (i32.const 272) (i32.const 131072))
         (i32.store (i32.const 276) (i32.const {bytes}))",
        131_072 + bytes - 2
    );
    guest::text(name, &[("memory", "(memory (export \"memory\") 64)"), ("step", &step)])
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
        assert_eq!(job["result"][0].as_str().map(str::len), Some(299_996));
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

/// A message as its receiver sees it.
struct Message {
    headers: Vec<(String, String)>,
    body: String,
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Is it signed as the Standard Webhooks specification says?
    fn is_signed_with(&self, key: &[u8]) -> bool {
        let [id, time] = ["webhook-id", "webhook-timestamp"].map(|name| self.header(name));
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let signature = hmac::sign(&key, format!("{id}.{time}.{}", self.body).as_bytes());
        self.header("webhook-signature") == format!("v1,{}", BASE64.encode(signature))
    }
}

/// A receiver of webhooks: it answers with these statuses, the last one again and again.
struct Receiver {
    url: String,
    messages: mpsc::Receiver<Message>,
}

impl Receiver {
    fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://localhost:{}/hook?a=b", listener.local_addr().expect("an address").port());
        let (sender, messages) = mpsc::channel();
        // Both end when the test does.
        thread::spawn(move || {
            let statuses = statuses.iter().chain(std::iter::repeat(statuses.last().expect("a status")));
            for (stream, status) in listener.incoming().zip(statuses) {
                let mut stream = stream.expect("a connection");
                let message = read_message(&mut BufReader::new(&stream));
                write!(stream, "HTTP/1.1 {status} X\r\nlocation: /other\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .expect("an answer is sent");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { url, messages }
    }

    #[track_caller]
    fn next(&self) -> Message {
        self.messages.recv_timeout(PATIENCE).expect("a message arrives")
    }

    fn is_silent(&self) -> bool {
        self.messages.recv_timeout(Duration::from_millis(500)).is_err()
    }
}

fn read_message(stream: &mut impl BufRead) -> Message {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        match line.trim_end() {
            "" => break,
            text => lines.push(text.to_owned()),
        }
    }
    assert!(lines[0].starts_with("POST /hook?a=b "), "{lines:?}");
    let headers: Vec<_> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut message = Message { headers, body: String::new() };
    let length = message.header("content-length").parse().expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    message.body = String::from_utf8(body).expect("UTF-8");
    message
}

/// Deliveries that belong to a job, as soon as there are so many and all have ended.
#[track_caller]
fn deliveries(host: &Client, id: &str, number: usize) -> Vec<Value> {
    let path = format!("/api/v1/jobs?correlation_id={id}&type=waymark.webhook");
    let listed = || host.get(&path).expect(200)["jobs"].as_array().expect("jobs").clone();
    let all = eventually("the deliveries", PATIENCE, || Some(listed()).filter(|all| all.len() == number));
    all.iter().map(|job| host.ended(job["id"].as_str().expect("an id"))).collect()
}

const QUICK: &str =
    "[plugins.\"waymark.webhook\"]\nretry = { base_ms = 20, max_ms = 50, max_attempts = 3 }\n";

#[test]
fn the_end_of_a_job_is_told_by_a_signed_message_until_it_is_taken() {
    let receiver = Receiver::start(&[500, 200]);
    let world = World::new(&format!(
        "[delivery]\nprivate_addresses = true\n[webhooks.ops]\nsecret = \"whsec_{}\"\n{QUICK}",
        BASE64.encode("0123456789abcdef01234567")
    ));
    let host = world.host(&["counter"]);
    let webhook = json!({"url": receiver.url, "on": ["succeeded"], "secret": "ops"});
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 2}, "webhook": webhook}));
    let (first, second) = (receiver.next(), receiver.next());
    for message in [&first, &second] {
        assert!(
            message.is_signed_with(b"0123456789abcdef01234567"),
            "{}",
            message.header("webhook-signature")
        );
        assert_eq!(
            message.header("webhook-id"),
            first.header("webhook-id"),
            "what repeats bears the same id"
        );
        let told = message.json();
        assert_eq!(told["type"], "job.succeeded");
        assert!(told["timestamp"].is_string());
        assert_eq!((&told["data"]["id"], &told["data"]["status"]), (&json!(id), &json!("succeeded")));
        assert_eq!(told["data"].get("result"), None, "results stay where they are");
    }
    let sent = deliveries(&host, &id, 1);
    assert_eq!((&sent[0]["status"], &sent[0]["attempt"]), (&json!("succeeded"), &json!(2)), "{}", sent[0]);
    assert_eq!(sent[0]["id"], first.header("webhook-id"));
    assert!(!host.get("/api/v1/hosts").expect(200).to_string().contains("whsec_"));
    assert!(!host.job(&id).to_string().contains("whsec_"));
    let cancelled = host
        .submit(&json!({"type": "counter", "input": {"steps": 2}, "delay_ms": 60_000, "webhook": webhook}));
    assert_eq!(host.control(&cancelled, "cancel").status, 202);
    assert!(receiver.is_silent(), "only what was asked for is told");
    for (webhook, pointer) in [
        (json!({"url": "ftp://x"}), "/webhook/url"),
        (json!({"url": "https://x", "on": ["queued"]}), "/webhook/on"),
        (json!({"url": "https://x", "secret": "nobodys"}), "/webhook/secret"),
    ] {
        let refused =
            host.post("/api/v1/jobs", &json!({"type": "counter", "input": {"steps": 1}, "webhook": webhook}));
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
}

#[test]
fn a_correlation_id_goes_from_the_request_to_the_log_and_the_webhook() {
    let receiver = Receiver::start(&[204]);
    let world = World::new(&format!("[delivery]\nprivate_addresses = true\n{QUICK}"));
    let mut host = world.empty_host();
    host.environment.push(("WAYMARK_LOG".into(), "info,guest=trace".into()));
    guest::copy("counter", &host.plugins);
    host.start();
    host.wait_for_plugins(&["counter"]);
    let job = json!({
        "type": "counter", "input": {"steps": 2, "log": true}, "webhook": {"url": receiver.url, "on": ["succeeded"]},
    });
    let headers = [("content-type", "application/json"), ("x-correlation-id", "order-4711")];
    let made = host.request("POST", "/api/v1/jobs", &headers, job.to_string().as_bytes()).expect(201);
    let id = made["id"].as_str().expect("an id");
    let told: Vec<_> = host.events(id, None).filter(|event| event.name == "log").collect();
    let kept = host.get(&format!("/api/v1/jobs/{id}/logs")).expect(200);
    let kept = kept["lines"].as_array().expect("lines");
    assert_eq!((told.len(), kept.len()), (2, 2));
    for line in told.iter().map(|event| &event.data).chain(kept) {
        assert_eq!(line["correlation_id"], "order-4711", "{line}");
    }
    assert_eq!(receiver.next().json()["data"]["correlation_id"], "order-4711");
    // Whoever collects the logs of hosts finds the line by it, too.
    let said = eventually("the host logs it", PATIENCE, || {
        let log = host.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Some(lines.filter(|line| line["target"] == "guest").collect::<Vec<_>>())
            .filter(|said| said.len() == 2)
    });
    for line in said {
        assert_eq!((&line["job_id"], &line["correlation_id"]), (&json!(id), &json!("order-4711")), "{line}");
        assert!(line["line"].as_str().is_some_and(|text| text.contains("counted")), "{line}");
    }
}

#[test]
fn an_endpoint_of_the_configuration_is_told_of_the_ends_it_names() {
    let receiver = Receiver::start(&[204]);
    let world = World::new(&format!(
        "{EVERY_STEP}[delivery]\nprivate_addresses = true\n[webhooks.ops]\nurl = {:?}\nsecret = \"plain\"\n\
         events = [\"failed\", \"cancelled\"]\ntypes = [\"counter\"]\n{QUICK}",
        receiver.url
    ));
    let host = world.host(&["counter"]);
    let fine = host.submit(&json!({"type": "counter", "input": {"steps": 1}}));
    let failed = host.submit(&json!({"type": "counter", "input": {"steps": 3, "fail_at": 2}}));
    let message = receiver.next();
    assert!(message.is_signed_with(b"plain"));
    assert_eq!(
        (&message.json()["type"], &message.json()["data"]["id"]),
        (&json!("job.failed"), &json!(failed))
    );
    assert_eq!(message.json()["data"]["error"]["kind"], "permanent");
    let cancelled = host.submit(&json!({"type": "counter", "input": {"steps": 3}, "delay_ms": 60_000}));
    assert_eq!(host.control(&cancelled, "cancel").status, 202);
    assert_eq!(receiver.next().json()["data"]["id"], json!(cancelled));
    assert_eq!(host.ended(&fine)["status"], "succeeded");
    assert!(receiver.is_silent());
}

#[test]
fn a_webhook_does_not_reach_what_only_the_host_reaches_and_follows_no_redirect() {
    let receiver = Receiver::start(&[302]);
    let world = World::new(QUICK);
    let host = world.host(&["counter"]);
    let job = |url: &str| json!({"type": "counter", "input": {"steps": 1}, "webhook": {"url": url}});
    let literal = receiver.url.replace("localhost", "127.0.0.1");
    for url in [
        &receiver.url,
        &literal,
        &literal.replace("127.0.0.1", "[::1]"),
        &literal.replace("127.0.0.1", "2130706433"),
    ] {
        let id = host.submit(&job(url));
        assert_eq!(host.ended(&id)["status"], "succeeded", "the job itself is not disturbed");
        let sent = deliveries(&host, &id, 1);
        assert_eq!(sent[0]["status"], "failed", "{url}");
        let why = sent[0]["error"]["message"].as_str().expect("a message");
        assert!(why.contains("is no public address"), "{url}: {why}");
    }
    assert!(receiver.is_silent());

    let world = World::new(&format!("[delivery]\nprivate_addresses = true\n{QUICK}"));
    let host = world.host(&["counter"]);
    let id = host.submit(&job(&receiver.url));
    assert_eq!(deliveries(&host, &id, 1)[0]["error"]["kind"], "permanent");
    let _ = receiver.next();
    assert!(receiver.is_silent());
}
