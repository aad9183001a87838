//! `wasi:keyvalue` and `wasi:config`: what a job type remembers beyond its jobs, and what the operator tells it.

use serde_json::{Value, json};
use std::{fs, thread, time::Duration};
use waymark_tests::{World, client::Client, eventually};

fn run(host: &Client, calls: &Value) -> Vec<Value> {
    let id = host.submit(&json!({"type": "keeper", "input": calls}));
    let job = host.ended(&id);
    assert_eq!(job["status"], "succeeded", "{job}");
    host.outputs(&id)
}

#[test]
fn values_are_shared_by_all_hosts_until_they_expire_within_their_quota() {
    let config = "[plugins.keeper.grants]\nconfig = { a = \"b\" }\n\
                  [plugins.keeper.grants.keyvalue]\nbytes_max = 1000\nttl_ms = 1500\n";
    let world = World::new(config);
    let (first, second) = (world.host(&["keeper"]), world.host(&["keeper"]));
    let written = run(
        &first,
        &json!([
            {"set": {"key": "a", "bytes": 500}},
            {"set": {"key": "b", "bytes": 600}},
            {"set": {"key": "a", "bytes": 700}},
            {"increment": {"key": "n", "delta": 2}},
            {"increment": {"key": "n", "delta": 40}},
            {"increment": {"key": "a", "delta": 1}},
            {"open": {"bucket": "another"}},
            {"set": {"key": "k".repeat(1_024), "bytes": 0}},
        ]),
    );
    assert_eq!(written[0], true);
    assert!(written[1]["error"].as_str().is_some_and(|error| error.contains("bytes_max")), "{written:?}");
    assert_eq!((&written[2], &written[3], &written[4]), (&json!(true), &json!(2), &json!(42)));
    assert!(written[5]["error"].is_string(), "no number: {written:?}");
    assert_eq!(written[6], false, "a bucket that is not granted");
    assert!(written[7]["error"].is_string(), "names count: {written:?}");
    let read = run(
        &second,
        &json!([
            {"get": {"key": "a"}}, {"get": {"key": "b"}}, {"exists": {"key": "n"}}, {"keys": {}},
            {"delete": {"key": "a"}}, {"get": {"key": "a"}}, {"set": {"key": "b", "bytes": 600}},
        ]),
    );
    assert_eq!(read[..4], [json!(700), Value::Null, json!(true), json!(["a", "n"])]);
    assert_eq!(read[4..], [json!(true), Value::Null, json!(true)], "what was deleted makes room");
    thread::sleep(Duration::from_millis(1_600));
    let expired =
        run(&first, &json!([{"get": {"key": "b"}}, {"keys": {}}, {"increment": {"key": "n", "delta": 1}}]));
    assert_eq!(expired, [Value::Null, json!([]), json!(1)]);
    eventually("the metrics count", Duration::from_secs(5), || {
        // Either host may have run any of the jobs.
        let count = |labels: &str| {
            let name = format!("waymark_keyvalue_calls_total{{{labels},type=\"keeper\"");
            first.metric(&name) + second.metric(&name)
        };
        let counted = [
            "call=\"set\",outcome=\"done\"",
            "call=\"set\",outcome=\"failed\"",
            "call=\"open\",outcome=\"denied\"",
        ]
        .map(count);
        (counted == [3.0, 2.0, 1.0]).then_some(())
    });
}

#[test]
fn values_of_a_type_that_is_not_granted_buckets_are_out_of_its_reach() {
    let world = World::new("[plugins.keeper.grants]\nconfig = { a = \"b\" }\n");
    let mut host = world.empty_host();
    waymark_tests::guest::copy("keeper", &host.plugins);
    host.start();
    let plugin =
        host.plugin("keeper", "it is refused", Duration::from_secs(10), |plugin| plugin["error"].is_object());
    assert_eq!(plugin["error"]["code"], "import-not-granted");
    let message = plugin["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`keyvalue = {}` under `[plugins.keeper.grants]`"), "{message}");
}

#[test]
fn a_job_type_reads_the_configuration_and_the_secrets_that_it_is_granted() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "s3cret\n").expect("the secret");
    let config = format!(
        "[secrets]\napi = {{ file = {:?} }}\nother = {{ file = {:?} }}\n\
         [plugins.keeper.grants]\nkeyvalue = {{}}\nconfig = {{ threshold = \"0.5\", key = {{ secret = \"api\" }} }}\n",
        secret.path().display().to_string(),
        secret.path().display().to_string(),
    );
    let world = World::new(&config);
    let host = world.host(&["keeper"]);
    let read = run(
        &host,
        &json!([
            {"config": {"key": "threshold"}}, {"config": {"key": "key"}}, {"config": {"key": "other"}}, {"told": {}},
        ]),
    );
    let told = json!([["key", "s3cret"], ["threshold", "0.5"]]);
    assert_eq!(read, [json!("0.5"), json!("s3cret"), Value::Null, told]);
    let refusing = World::new("[plugins.keeper.grants]\nkeyvalue = {}\n");
    let mut host = refusing.empty_host();
    waymark_tests::guest::copy("keeper", &host.plugins);
    host.start();
    let plugin =
        host.plugin("keeper", "it is refused", Duration::from_secs(10), |plugin| plugin["error"].is_object());
    let message = plugin["error"]["message"].as_str().expect("a message");
    assert!(message.contains("`config = { KEY = \"...\" }` under `[plugins.keeper.grants]`"), "{message}");
}
