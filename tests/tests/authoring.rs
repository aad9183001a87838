//! What an author does before there is a host: begin a job type, build it, check it, and run it.

use crate::support::{done, scratch};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;
use waymark_tests::{World, binary, guest, root};

/// Runs `waymark plugin …` in a folder.
fn waymark<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Output {
    let mut command = Command::new(binary());
    command.arg("plugin").args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", scratch("authoring"));
    // None of this asks a host.
    command.env("WAYMARK_URL", "http://127.0.0.1:1").output().expect("waymark starts")
}

/// What a command wrote to standard output; it must have succeeded.
#[track_caller]
fn said<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> String {
    let output = waymark(folder, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a command wrote to standard error; it must have failed as a refusal does.
#[track_caller]
fn refused<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> String {
    let output = waymark(folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Runs the guest `counter` on an input, with more arguments; answers the JSON document and the exit code.
fn counted(input: &Value, more: &[&str]) -> (Value, Option<i32>) {
    let folder = TempDir::new().expect("a folder");
    let (file, input) = (guest::path("counter"), input.to_string());
    let mut arguments = vec!["run", file.to_str().expect("UTF-8"), "--json", "--input", &input];
    arguments.extend(more);
    let output = waymark(folder.path(), &arguments);
    let document = serde_json::from_slice(&output.stdout);
    (document.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code())
}

#[test]
fn a_job_type_goes_from_new_to_a_host_without_a_line_being_written() {
    let folder = TempDir::new().expect("a folder");
    let sdk = root().join("sdk/rust");
    let next = said(folder.path(), &["new", "word-sum", "--sdk", sdk.to_str().expect("UTF-8")]);
    assert!(next.contains("waymark plugin run target/word-sum.wasm --input @input.json"), "{next}");
    let work = folder.path().join("word-sum");
    // The versions that this workspace was tested with, so that the registry need not be asked.
    fs::copy(root().join("Cargo.lock"), work.join("Cargo.lock")).expect("a copy");

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tested = Command::new(cargo);
    tested.arg("test").current_dir(&work).env("CARGO_TARGET_DIR", scratch("authoring"));
    let tested = done(&mut tested).expect("its own test passes");
    assert!(tested.contains("1 passed"), "{tested}");

    let built: Value = serde_json::from_str(&said(&work, &["build", "--json"])).expect("JSON");
    let file = work.join(built["file"].as_str().expect("a file"));
    assert_eq!(file.file_name(), Some(OsStr::new("word-sum.wasm")));
    let bytes = fs::metadata(&file).expect("the file is there").len();
    assert_eq!(built["bytes"], bytes);
    assert!(bytes < 400_000, "a small job type has {bytes} bytes");
    let elsewhere = folder.path().join("elsewhere.wasm");
    said(folder.path(), &[OsStr::new("build"), "word-sum".as_ref(), "--out".as_ref(), elsewhere.as_os_str()]);
    assert_eq!(fs::read(&elsewhere).expect("a file"), fs::read(&file).expect("a file"));

    let file = file.to_str().expect("UTF-8");
    let checked: Value = serde_json::from_str(&said(&work, &["check", file, "--json"])).expect("JSON");
    assert_eq!((&checked["name"], &checked["version"]), (&json!("word-sum"), &json!("0.1.0")));
    assert_eq!(checked["state_version"], 1);
    assert_eq!(checked["input_schema"]["required"], json!(["numbers"]));
    assert_eq!(checked["imports"], json!(["waymark:task/types@0.1.0", "waymark:task/job@0.1.0"]));
    assert!(said(&work, &["check", file]).starts_with("word-sum 0.1.0\nAdds up numbers.\n"));

    let run = ["run", file, "--input", "@input.json"];
    let output = waymark(&work, &run);
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let expected = "{\"number\":1.0,\"sum\":1.0}\n{\"number\":2.0,\"sum\":3.0}\n{\"number\":6.0,\"sum\":9.0}\n{\"sum\":9.0}\n";
    assert_eq!(lines, expected);
    let aside = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(aside.contains("info 3 numbers to add up"), "{aside}");
    assert!(aside.contains("2 of 3"), "{aside}");
    assert_eq!(said(&work, &[&run[..], &["--crash-every", "1"]].concat()), lines);
    let complaint = refused(&work, &["run", file, "--input", "{\"numbers\": [1, \"2\"]}"]);
    assert!(complaint.contains("/input/numbers/1") && complaint.contains("(invalid-input)"), "{complaint}");

    let world = World::new("");
    let mut host = world.empty_host();
    host.start();
    guest::put(&host.plugins, "word-sum.wasm", &fs::read(file).expect("a file"));
    host.wait_for_plugins(&["word-sum"]);
    let id = host.submit(&json!({"type": "word-sum", "input": {"numbers": [1, 2, 6]}}));
    assert_eq!(host.result(&id), json!({"sum": 9.0}));
    let records: Vec<_> = host.outputs(&id).iter().map(Value::to_string).collect();
    assert_eq!(records, lines.lines().take(3).collect::<Vec<_>>());
}

#[test]
fn check_refuses_what_a_host_refuses_with_the_same_code() {
    let folder = TempDir::new().expect("a folder");
    let counter = fs::read(guest::path("counter")).expect("the guest is read");
    let files: [(&str, &[u8], &str); 3] = [
        ("garbage.wasm", b"this is no WebAssembly", "not-wasm"),
        ("half.wasm", &counter[..counter.len() / 2], "truncated"),
        ("empty.wasm", b"\0asm\x01\0\0\0", "no-world"),
    ];
    for (name, bytes, code) in files {
        fs::write(folder.path().join(name), bytes).expect("a file");
        let complaint = refused(folder.path(), &["check", name]);
        assert!(complaint.contains(&format!("({code})")) && complaint.contains(name), "{complaint}");
        let output = waymark(folder.path(), &["check", name, "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&document["error"]["code"], output.status.code()), (&json!(code), Some(1)));
        assert!(refused(folder.path(), &["run", name]).contains(&format!("({code})")));
    }
    assert!(refused(folder.path(), &["check", "absent.wasm"]).contains("absent.wasm is not a file"));
}

#[test]
fn new_refuses_a_name_that_is_no_job_type_and_a_folder_that_exists() {
    let folder = TempDir::new().expect("a folder");
    for name in ["", "Upper", "a.b", "../out", "ö", &"x".repeat(65)] {
        let complaint = refused(folder.path(), &["new", name]);
        assert!(complaint.contains("1 to 64 of a-z"), "{name}: {complaint}");
    }
    let kept = folder.path().join("taken");
    fs::create_dir(&kept).expect("a folder");
    assert!(refused(folder.path(), &["new", "taken"]).contains("taken cannot be made"));
    assert_eq!(fs::read_dir(&kept).expect("a folder").count(), 0, "the folder is left alone");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing else was made");
    let longest = "x".repeat(64);
    said(folder.path(), &["new", &longest]);
    let manifest = fs::read_to_string(folder.path().join(longest).join("Cargo.toml")).expect("a file");
    assert!(manifest.contains("waymark-sdk = { git = \"https://"), "{manifest}");
}

#[test]
fn build_says_what_is_missing() {
    let folder = TempDir::new().expect("a folder");
    assert!(refused(folder.path(), &["build"]).contains("no Cargo.toml"));
    fs::create_dir(folder.path().join("src")).expect("a folder");
    fs::write(folder.path().join("src/lib.rs"), "").expect("a file");
    let manifest = "[package]\nname = \"plain\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
    let complaint = refused(folder.path(), &["build"]);
    assert!(complaint.contains("gives no .wasm file") && complaint.contains("cdylib"), "{complaint}");
    fs::write(folder.path().join("src/lib.rs"), "let").expect("a file");
    let complaint = refused(folder.path(), &["build"]);
    assert!(complaint.contains("src/lib.rs:1") && complaint.contains("cargo build failed"), "{complaint}");
}

#[test]
fn run_restores_sleeps_and_signals_as_a_host_does() {
    let input = json!({"steps": 6, "emit": true, "sleep_ms": 5, "await_signal": "go"});
    let signal = ["--signal", "go={\"by\":\"me\"}"];
    let (plain, code) = counted(&input, &signal);
    assert_eq!((&plain["status"], code), (&json!("succeeded"), Some(0)), "{plain}");
    assert_eq!((&plain["result"]["sum"], &plain["result"]["signal"]), (&json!(21), &json!({"by": "me"})));
    assert_eq!(plain["output"].as_array().map(Vec::len), Some(6));
    let (crashed, _) = counted(&input, &[&signal[..], &["--crash-every", "1"]].concat());
    assert_eq!((&crashed["result"], &crashed["output"]), (&plain["result"], &plain["output"]));
    assert_eq!(crashed["steps"], plain["steps"]);
    let restores = |run: &Value| run["restores"].as_u64().expect("a number");
    assert_eq!(restores(&crashed), crashed["steps"].as_u64().expect("a number") - 1);
    assert!(restores(&plain) < restores(&crashed), "{plain}");
    // An hour is cut short, whether slept or waited for a signal that does not come.
    let hours =
        json!({"steps": 2, "sleep_ms": 3_600_000, "await_signal": "go", "signal_timeout_ms": 3_600_000});
    let (cut, _) = counted(&hours, &["--max-sleep", "10ms"]);
    assert_eq!((&cut["status"], &cut["result"]["signal"]), (&json!("succeeded"), &Value::Null), "{cut}");
}

#[test]
fn run_says_why_a_job_failed_or_cannot_go_on() {
    let failures = [
        (json!({"steps": 3, "fail_at": 2}), &[][..], "permanent", 1),
        (json!({"steps": 3, "transient_at": 2}), &[], "transient", 1),
        (json!({"steps": 3, "panic_at": 3}), &[], "guest-trap", 2),
        (json!({"steps": 3}), &["--max-steps", "2"], "max-steps", 2),
        (json!({"steps": 3, "await_signal": "go"}), &[], "needs-host", 2),
        (json!({"steps": 3, "children": 2}), &[], "needs-host", 1),
        (json!({"steps": "three"}), &[], "invalid-input", 0),
    ];
    for (input, more, kind, steps) in failures {
        let (document, code) = counted(&input, more);
        assert_eq!((&document["error"]["kind"], code), (&json!(kind), Some(1)), "{input}: {document}");
        assert_eq!(
            (&document["status"], &document["steps"]),
            (&json!("failed"), &json!(steps)),
            "{document}"
        );
        let trace = document["error"]["trace"].as_str().unwrap_or_default();
        assert_eq!(trace.contains("step"), kind == "guest-trap", "{document}");
    }
}

#[test]
fn run_grants_files_by_the_directory() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("numbers.csv"), "id,n\na,1\nb,2\nc,3\n").expect("a file");
    let plugin: PathBuf = guest::path("intelligent_sampling");
    let input = json!({
        "data_set": {"file": "numbers.csv"}, "key": "id", "sample_size": 3, "strategy": {"kind": "random"}
    });
    let input = input.to_string();
    let run = ["run", plugin.to_str().expect("UTF-8"), "--input", &input];
    assert!(refused(folder.path(), &run).contains("no directory granted"));
    let granted = said(folder.path(), &[&run[..], &["--grant", "/=."]].concat());
    assert!(granted.lines().last().is_some_and(|result| result.contains("\"sample_size\":3")), "{granted}");
}

/// What the conformance run says of a job of a guest: the document and the complaint.
fn conforms(name: &str, more: &[&str]) -> (Value, String) {
    let folder = TempDir::new().expect("a folder");
    let file = guest::path(name);
    let output =
        waymark(folder.path(), &[&["check", file.to_str().expect("UTF-8"), "--json"], more].concat());
    let document = serde_json::from_slice(&output.stdout);
    let complaint = String::from_utf8(output.stderr).expect("UTF-8");
    (document.unwrap_or_else(|error| panic!("{error}: {complaint}")), complaint)
}

#[test]
fn check_catches_the_four_mistakes_and_says_what_to_do() {
    let mistakes = [
        ("forgets", "checkpoint-forgets", "write everything that the next step needs"),
        ("ignores", "restore-ignores", "`/ignored` was 1 and is 0"),
        ("goes_back", "progress-goes-back", "step 5 reports 1 units done after 4"),
        ("reads_clock", "not-deterministic", "not from a clock"),
    ];
    for (mistake, code, says) in mistakes {
        let input = json!({"mistake": mistake}).to_string();
        let (document, complaint) = conforms("wrong", &["--input", &input]);
        let findings = document["conformance"]["findings"].as_array().expect("findings");
        assert_eq!(findings.len(), 1, "{mistake}: {document}");
        assert_eq!(findings[0]["code"], code, "{document}");
        assert!(complaint.contains("does not conform") && complaint.contains(says), "{complaint}");
    }
    let (document, _) = conforms("wrong", &["--input", "{\"mistake\": \"none\"}"]);
    assert_eq!(document["conformance"]["findings"], json!([]), "{document}");
    assert_eq!(document["conformance"]["runs"], 4);
    assert_eq!(document["conformance"]["checkpoints"], 5);
}

#[test]
fn every_shipped_job_type_conforms() {
    let plugins = root().join("plugins");
    let grant = format!("/data={}", plugins.join("data").display());
    let mut tried = 0;
    for entry in fs::read_dir(&plugins).expect("a folder") {
        let folder = entry.expect("an entry").path();
        let input = folder.join("input.json");
        if !input.is_file() {
            continue;
        }
        let name = folder.file_name().and_then(OsStr::to_str).expect("UTF-8").to_owned();
        let mut input: Value =
            serde_json::from_str(&fs::read_to_string(&input).expect("a file")).expect("JSON");
        if ["intelligent_sampling", "execute_profiling_rules"].contains(&name.as_str()) {
            // Small as the tables are, there is to be something between the steps.
            input["pace"] = json!({"rows_per_step": 400});
        }
        if name == "generate_test_attributes" {
            // There is no model to ask.
            input["fallback"] = json!("rules");
        }
        let input = input.to_string();
        let (document, complaint) = conforms(&name, &["--grant", &grant, "--input", &input]);
        assert_eq!(document["conformance"]["findings"], json!([]), "{name}: {complaint}");
        assert!(document["conformance"]["checkpoints"].as_u64() > Some(0), "{name} has one step: {document}");
        tried += 1;
    }
    assert!(tried >= 2, "no job types in {}", plugins.display());
}

#[test]
fn a_later_version_is_checked_against_what_an_earlier_one_recorded() {
    let folder = TempDir::new().expect("a folder");
    let file = guest::path("counter");
    let file = file.to_str().expect("UTF-8");
    let input = json!({"steps": 6, "emit": true, "await_signal": "go"}).to_string();
    let run = ["run", file, "--input", &input, "--signal", "go=7", "--record", "recorded"];
    assert!(said(folder.path(), &run).contains("\"sum\":21"));
    assert!(refused(folder.path(), &run).contains("recorded exists"), "a recording is not written over");

    let check = ["check", file, "--json", "--recorded", "recorded"];
    let document: Value = serde_json::from_str(&said(folder.path(), &check)).expect("JSON");
    assert_eq!(document["conformance"]["recorded"], 6, "five steps and the wait");
    // What the earlier version would have written, had it counted otherwise, or written another shape.
    let state = folder.path().join("recorded/step-000002.json");
    let text = fs::read_to_string(&state).expect("a file");
    let spoil = |text: &str| fs::write(&state, text).expect("a file");
    assert!(text.contains("\"sum\":3"), "{text}");
    spoil(&text.replace("\"sum\":3", "\"sum\":4"));
    let complaint = refused(folder.path(), &check);
    assert!(
        complaint.contains("wrote after step 2") && complaint.contains("reads every field"),
        "{complaint}"
    );
    spoil(&text.replace("\"sum\":3", "\"total\":3"));
    let complaint = refused(folder.path(), &check);
    assert!(complaint.contains("missing field `sum`") && complaint.contains("STATE_VERSION"), "{complaint}");
}

#[test]
fn replay_runs_a_hosts_job_here_from_its_checkpoint_or_its_input() {
    let world = World::new("[plugins.counter]\ncheckpoint = { every_steps = 1 }\n");
    let host = world.host(&["counter"]);
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 5, "emit": true}}));
    assert_eq!(host.result(&id)["sum"], 15);
    let folder = TempDir::new().expect("a folder");
    let file = guest::path("counter");
    let replay = |more: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["plugin", "replay", &id]).arg(&file).args(["--json"]).args(more);
        let output =
            command.current_dir(folder.path()).env("WAYMARK_URL", &host.url).output().expect("it starts");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (document, String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let (document, said) = replay(&[]);
    assert!(said.contains("from the checkpoint of step 4"), "{said}");
    assert_eq!(
        (&document["result"]["sum"], &document["output"]),
        (&json!(15), &json!([{"step": 5, "sum": 15}]))
    );
    let (document, _) = replay(&["--from", "2"]);
    assert_eq!(document["output"].as_array().map(Vec::len), Some(3));
    let (document, said) = replay(&["--from-input"]);
    assert!(said.contains("from the input"), "{said}");
    assert_eq!(document["output"].as_array().map(Vec::len), Some(5));
    assert_eq!(host.job(&id)["status"], "succeeded", "the host's job is left alone");
}
