//! What is hidden from people, and what is encrypted in the store.

use crate::support::configure;
use serde_json::json;
use std::{fs, process::Command};
use waymark_tests::{PATIENCE, World, binary, eventually};

#[test]
fn what_is_hidden_does_not_come_out_through_errors() {
    let config =
        "[redaction]\nfields = [\"/fail_at\"]\n[plugins.counter]\ncheckpoint = { every_steps = 500 }\n";
    let world = World::new(config);
    let host = world.host(&["counter"]);
    // The guest has the true value: it fails there. Its number is 4321, and it says so.
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 4321, "fail_at": 4321}}));
    let job = host.ended(&id);
    assert_eq!(job["error"]["message"], "asked to fail at step •••", "{job}");
    assert_eq!(job["failures"][0]["message"], job["error"]["message"]);
    assert_eq!(job["input"]["fail_at"], "•••");
    let groups = host.get("/api/v1/errors").expect(200);
    assert_eq!(groups["errors"][0]["message"], "asked to fail at step •••", "{groups}");
    assert!(!host.log().contains("fail at step 4321"), "the host's own log");
    let revealed = host.get(&format!("/api/v1/jobs/{id}?reveal=true")).expect(200);
    assert_eq!(revealed["input"]["fail_at"], 4321);
    assert_eq!(
        revealed["error"]["message"], "asked to fail at step •••",
        "what is said for people is kept hidden"
    );
}

#[test]
fn a_key_is_rotated_and_a_job_whose_key_is_missing_waits_for_it() {
    let world = World::new("");
    let folder = world.folder();
    let key = |name: &str, byte: &str| {
        fs::write(folder.join(name), byte.repeat(32)).expect("a key");
        format!("{{ id = {name:?}, file = {:?} }}", folder.join(name).display().to_string())
    };
    let (k1, k2) = (key("k1", "11"), key("k2", "22"));
    let encryption =
        |keys: &str, active: &str| format!("[encryption]\nkeys = [{keys}]\nactive = {active:?}\n[redis]");
    let mut host = world.empty_host();
    waymark_tests::guest::copy("counter", &host.plugins);
    configure(&host, |text| text.replace("[redis]", &encryption(&k1, "k1")));
    host.start();
    host.wait_for_plugins(&["counter"]);
    let input = json!({"steps": 4, "await_signal": "go", "log": true});
    let job = json!({"type": "counter", "input": input, "metadata": {"order": 7}});
    let id = host.submit(&job);
    host.reaches(&id, "waiting");
    host.post(&format!("/api/v1/jobs/{id}/signals/no"), &json!("hunter22")).expect(202);

    host.stop();
    configure(&host, |text| text.replace(&encryption(&k1, "k1"), &encryption(&k2, "k2")));
    host.start();
    host.wait_for_plugins(&["counter"]);
    let job = host.job(&id);
    assert_eq!((&job["missing_key"], &job["input"]), (&json!("k1"), &json!(null)), "{job}");
    assert_eq!(host.get(&format!("/api/v1/jobs/{id}/logs")).code(), "key-missing");
    let paused = host.submit(&json!({"type": "counter", "input": {"steps": 1}}));
    assert_eq!(host.result(&paused)["sum"], 1, "new jobs run");
    host.post(&format!("/api/v1/jobs/{id}/signals/go"), &json!({"paid": true})).expect(202);
    eventually("the host says what is missing", PATIENCE, || {
        host.log().contains("encrypted with the key").then_some(())
    });

    host.stop();
    configure(&host, |text| text.replace(&encryption(&k2, "k2"), &encryption(&format!("{k1}, {k2}"), "k2")));
    host.start();
    assert_eq!(host.result(&id)["signal"], json!({"paid": true}));
    assert_eq!(host.job(&id)["metadata"], json!({"order": 7}));
    assert_eq!(host.log_messages(&id).len(), 4);
    // What the old key encrypted is encrypted with the new one: nothing needs the old one any more.
    let reencrypt = |dry: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["keys", "reencrypt", "--json", "--url", &host.url]).args(dry);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let before = reencrypt(&["--dry-run"]);
    assert!(before["values"]["k1"].as_u64() > Some(1) && before["reencrypted"] == 0, "{before}");
    let done = reencrypt(&[]);
    assert_eq!((&done["reencrypted"], &done["left"]), (&before["values"]["k1"], &json!(0)), "{done}");
    let after = reencrypt(&["--dry-run"]);
    assert_eq!(
        (&after["values"]["k1"], &after["active"], &after["left"]),
        (&json!(null), &json!("k2"), &json!(0))
    );
    assert_eq!(host.job(&id)["metadata"], json!({"order": 7}));
}
