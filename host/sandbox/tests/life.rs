//! A job's life in the sandbox: what a guest is told, what it says, and what is left of it.

mod support;

use std::sync::{Arc, atomic::Ordering::Relaxed};
use support::{Bench, begin, context, kind, limits, logged};
use waymark_job::Progress;
use waymark_sandbox::{Effects, Fault, FileGrant, Outcome, Snapshot, Spawn};

#[tokio::test]
async fn a_job_of_one_step_completes() {
    let bench = Bench::new();
    let plugin = bench.plugin(&[], limits());
    assert_eq!(plugin.descriptor().name, "hostile");
    assert_eq!(plugin.digest().len(), 64);
    let mut instance = begin(&plugin).await.unwrap();
    assert_eq!(instance.step().await.unwrap(), Outcome::Completed("{}".into()));
    assert_eq!(instance.take_effects(), Effects::default());
    assert_eq!(instance.memory_bytes(), bench.engine.memory_used_bytes());
    drop(instance);
    assert_eq!(bench.engine.memory_used_bytes(), 0);
}

/// Counts the steps in the first byte of the state, which stands at 2070 and is two bytes long.
const COUNTER: [(&str, &str); 3] = [
    (
        "step",
        "(i32.store8 (i32.const 2070) (i32.add (i32.load8_u (i32.const 2070)) (i32.const 1)))
         (i32.store8 (i32.const 336) (i32.load8_u (i32.const 2070)))
         (return (i32.const 320))",
    ),
    ("restore", "(i32.store8 (i32.const 2070) (i32.load8_u (local.get 3)))"),
    ("start", "(i32.store8 (i32.const 2070) (i32.const 0))"),
];

#[tokio::test]
async fn a_fresh_instance_goes_on_from_a_checkpoint() {
    let bench = Bench::new();
    let plugin = bench.plugin(&COUNTER, limits());
    let at = |current| Outcome::Progressed(Progress { current, total: None, message: None });
    let mut instance = begin(&plugin).await.unwrap();
    assert_eq!(instance.step().await.unwrap(), at(1));
    assert_eq!(instance.step().await.unwrap(), at(2));
    let snapshot = instance.checkpoint().await.unwrap();
    assert_eq!(snapshot, Snapshot { mime_type: "a/b".into(), state_version: 1, state: vec![2, b'}'] });
    assert_eq!(instance.step().await.unwrap(), at(3), "a checkpoint changes nothing");
    let mut other = plugin.restore(context(), snapshot).await.unwrap();
    assert_eq!(other.step().await.unwrap(), at(3));
    assert_eq!(begin(&plugin).await.unwrap().step().await.unwrap(), at(1), "nothing is left of the others");
}

#[tokio::test]
async fn effects_are_buffered_until_they_are_taken() {
    let bench = Bench::new();
    let body = "
        (call $emit (i32.const 2070) (i32.const 2))
        (call $spawn (i32.const 2048) (i32.const 7) (i32.const 2070) (i32.const 2) (i32.const 4096))
        (call $spawn (i32.const 2048) (i32.const 7) (i32.const 2070) (i32.const 2) (i32.const 4096))
        ;; What spawn returned is emitted as a JSON string.
        (i32.store8 (i32.const 4200) (i32.const 34))
        (memory.copy (i32.const 4201) (i32.load (i32.const 4096)) (i32.load (i32.const 4100)))
        (i32.store8 (i32.add (i32.const 4201) (i32.load (i32.const 4100))) (i32.const 34))
        (call $emit (i32.const 4200) (i32.add (i32.load (i32.const 4100)) (i32.const 2)))";
    let mut instance = begin(&bench.plugin(&[("step", body)], limits())).await.unwrap();
    let before = instance.memory_bytes();
    instance.step().await.unwrap();
    assert!(instance.effects_bytes() > 0);
    assert_eq!(instance.memory_bytes(), before + instance.effects_bytes(), "they are the job's memory");
    let child =
        |index| Spawn { id: format!("child-5-{index}"), job_type: "hostile".into(), input: "{}".into() };
    let effects = instance.take_effects();
    assert_eq!(effects.outputs, ["{}", "\"child-5-1\""]);
    assert_eq!(effects.children, [child(0), child(1)]);
    assert_eq!((instance.effects_bytes(), instance.memory_bytes()), (0, before));
    instance.committed(5);
    instance.step().await.unwrap();
    assert_eq!(instance.take_effects().children[0].id, "child-6-0", "each step counts its own children");
}

#[tokio::test]
async fn the_idempotency_key_is_that_of_the_step() {
    let bench = Bench::new();
    let body = "
        (call $key (i32.const 4096))
        (i32.store8 (i32.const 4200) (i32.const 34))
        (memory.copy (i32.const 4201) (i32.load (i32.const 4096)) (i32.load (i32.const 4100)))
        (i32.store8 (i32.add (i32.const 4201) (i32.load (i32.const 4100))) (i32.const 34))
        (call $emit (i32.const 4200) (i32.add (i32.load (i32.const 4100)) (i32.const 2)))
        (return (i32.const 320))";
    let plugin = bench.plugin(&[("step", body)], limits());
    let keys = async |commits: bool| {
        let mut instance = begin(&plugin).await.unwrap();
        instance.step().await.unwrap();
        if commits {
            instance.committed(5);
        }
        instance.step().await.unwrap();
        instance.take_effects().outputs
    };
    assert_eq!(keys(true).await, ["\"job-1.2.5\"", "\"job-1.2.6\""]);
    assert_eq!(keys(false).await, keys(true).await, "whether or not there was a commit in between");
}

#[tokio::test]
async fn a_guest_sees_that_it_should_yield() {
    let bench = Bench::new();
    let body = "(if (call $should_yield) (then (return (i32.const 320))))";
    let plugin = bench.plugin(&[("step", body)], limits());
    let context = context();
    let flag = Arc::clone(&context.yield_flag);
    let mut instance = plugin.start(context, "{}").await.unwrap();
    assert!(matches!(instance.step().await.unwrap(), Outcome::Completed(_)));
    flag.store(true, Relaxed);
    assert!(matches!(instance.step().await.unwrap(), Outcome::Progressed(_)));
    let mut late = support::context();
    late.soft_limit = Some(std::time::Instant::now());
    let mut instance = plugin.start(late, "{}").await.unwrap();
    assert!(matches!(instance.step().await.unwrap(), Outcome::Progressed(_)), "after its soft limit as well");
}

#[tokio::test]
async fn failures_keep_their_kind() {
    let bench = Bench::new();
    // err(case("hostile")) at 600, the second with a delay of 7 ms before the text.
    let failure = |case: u8| {
        let text = if case == 1 { 624 } else { 616 };
        format!(
            "(i32.store8 (i32.const 600) (i32.const 1)) (i32.store8 (i32.const 608) (i32.const {case}))
             (i64.store (i32.const 616) (i64.const 7))
             (i32.store (i32.const {text}) (i32.const 2048)) (i32.store (i32.const {}) (i32.const 7))
             (return (i32.const 600))",
            text + 4
        )
    };
    use waymark_job::Failure::{InvalidInput, Permanent, RetryAfter, Transient};
    let said = || "hostile".to_owned();
    let expected = [Transient(said()), RetryAfter(7, said()), Permanent(said()), InvalidInput(said())];
    for (case, expected) in (0..).zip(expected) {
        let mut instance = begin(&bench.plugin(&[("step", &failure(case))], limits())).await.unwrap();
        assert_eq!(instance.step().await.unwrap_err(), Fault::Failure(expected));
    }
}

const STDOUT: &str = r#"
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))"#;

#[tokio::test]
async fn standard_output_is_the_job_s_log() {
    let bench = Bench::new();
    let step = "(call $write (call $stdout) (i32.const 2048) (i32.const 7) (i32.const 4096))";
    let wasm = support::guest_importing(
        &[("imports", STDOUT), ("step", step)],
        &["wasi:cli/stdout@0.2.0", "wasi:io/streams@0.2.0"],
    );
    let digest = bench.compile(&wasm).unwrap();
    let plugin = bench.engine.load(&bench.cache(), &digest, limits(), Default::default()).unwrap();
    let (context, lines) = logged();
    let mut instance = plugin.start(context, "{}").await.unwrap();
    instance.step().await.unwrap();
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].message, "hostile");
}

#[tokio::test]
async fn files_are_those_that_were_granted() {
    let bench = Bench::new();
    // Emits the number of directories that it is given, one digit.
    let imports =
        r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))"#;
    let step = "
        (call $directories (i32.const 4096))
        (i32.store8 (i32.const 4200) (i32.add (i32.const 48) (i32.load (i32.const 4100))))
        (call $emit (i32.const 4200) (i32.const 1))";
    let wasm = support::guest_importing(
        &[("imports", imports), ("step", step)],
        &["wasi:filesystem/preopens@0.2.0"],
    );
    let digest = bench.compile(&wasm).unwrap();
    let load = |files| {
        let grants = waymark_sandbox::Grants { files, ..Default::default() };
        bench.engine.load(&bench.cache(), &digest, limits(), grants).unwrap()
    };
    let mut instance = begin(&load(Vec::new())).await.unwrap();
    instance.step().await.unwrap();
    assert_eq!(instance.take_effects().outputs, ["0"], "none without a grant");
    let data = FileGrant { guest: "/data".into(), host: bench.directory.path().to_owned() };
    let mut instance = begin(&load(vec![data])).await.unwrap();
    instance.step().await.unwrap();
    assert_eq!(instance.take_effects().outputs, ["1"]);
    let gone = FileGrant { guest: "/data".into(), host: bench.directory.path().join("gone") };
    let fault = begin(&load(vec![gone])).await.unwrap_err();
    let Fault::Host(message) = fault else { panic!("{fault:?}") };
    assert!(message.contains("gone"), "{message}");
}

#[tokio::test]
async fn granted_files_can_be_read_and_nothing_else() {
    let bench = Bench::new();
    let directory = bench.directory.path().join("data");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("table"), "kept").unwrap();
    std::fs::write(bench.directory.path().join("secret"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.join("link")).unwrap();
    let imports = r#"
        (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
        (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
          (func $open (param i32 i32 i32 i32 i32 i32 i32)))"#;
    // Each call emits 0 if the file was opened, 1 if not.
    let functions = r#"
        (data (i32.const 3000) "table")
        (data (i32.const 3010) "new")
        (data (i32.const 3020) "../secret")
        (data (i32.const 3030) "link")
        (data (i32.const 3040) "/etc/passwd")
        (func $try (param $path i32) (param $length i32) (param $how i32) (param $flags i32)
          (call $directories (i32.const 4096))
          (call $open (i32.load (i32.load (i32.const 4096))) (i32.const 1)
            (local.get $path) (local.get $length) (local.get $how) (local.get $flags) (i32.const 4200))
          (i32.store8 (i32.const 4300) (i32.add (i32.const 48) (i32.load8_u (i32.const 4200))))
          (call $emit (i32.const 4300) (i32.const 1)))"#;
    let step = "
        (call $try (i32.const 3000) (i32.const 5) (i32.const 0) (i32.const 1)) ;; to read
        (call $try (i32.const 3000) (i32.const 5) (i32.const 0) (i32.const 2)) ;; to write
        (call $try (i32.const 3000) (i32.const 5) (i32.const 8) (i32.const 1)) ;; truncated
        (call $try (i32.const 3010) (i32.const 3) (i32.const 1) (i32.const 1)) ;; created
        (call $try (i32.const 3020) (i32.const 9) (i32.const 0) (i32.const 1)) ;; outside
        (call $try (i32.const 3030) (i32.const 4) (i32.const 0) (i32.const 1)) ;; outside, by a link
        (call $try (i32.const 3040) (i32.const 11) (i32.const 0) (i32.const 1)) ;; outside, by its full name
        ";
    let interfaces = ["wasi:filesystem/types@0.2.0", "wasi:filesystem/preopens@0.2.0"];
    let parts = [("imports", imports), ("functions", functions), ("step", step)];
    let digest = bench.compile(&support::guest_importing(&parts, &interfaces)).unwrap();
    let files = vec![FileGrant { guest: "/data".into(), host: directory.clone() }];
    let grants = waymark_sandbox::Grants { files, ..Default::default() };
    let plugin = bench.engine.load(&bench.cache(), &digest, limits(), grants).unwrap();
    let mut instance = begin(&plugin).await.unwrap();
    instance.step().await.unwrap();
    assert_eq!(instance.take_effects().outputs, ["0", "1", "1", "1", "1", "1", "1"]);
    assert_eq!(std::fs::read_to_string(directory.join("table")).unwrap(), "kept");
    assert!(!directory.join("new").exists());
}

#[tokio::test]
async fn a_guest_that_hangs_in_the_host_is_given_up() {
    let bench = Bench::new();
    let imports = r#"
        (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
        (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#;
    let step = "(call $block (call $after (i64.const 3600000000000)))";
    let interfaces = ["wasi:io/poll@0.2.0", "wasi:clocks/monotonic-clock@0.2.0"];
    let wasm = support::guest_importing(&[("imports", imports), ("step", step)], &interfaces);
    let digest = bench.compile(&wasm).unwrap();
    let plugin = bench.engine.load(&bench.cache(), &digest, limits(), Default::default()).unwrap();
    let mut instance = begin(&plugin).await.unwrap();
    let from = std::time::Instant::now();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "step-timeout");
    assert!(from.elapsed() < std::time::Duration::from_secs(2));
    drop(instance);
    assert_eq!(bench.engine.memory_used_bytes(), 0);
}

#[tokio::test]
async fn versions_live_side_by_side() {
    let bench = Bench::new();
    let first = bench.plugin(&[], limits());
    let second = bench.plugin(&[("step", "(return (i32.const 320))")], limits());
    assert_ne!(first.digest(), second.digest());
    assert!(matches!(begin(&first).await.unwrap().step().await.unwrap(), Outcome::Completed(_)));
    assert!(matches!(begin(&second).await.unwrap().step().await.unwrap(), Outcome::Progressed(_)));
}

#[tokio::test]
async fn a_dropped_call_leaves_a_dead_instance_and_no_memory() {
    let bench = Bench::new();
    let plugin = bench.plugin(&[("step", "(loop $for_ever (br $for_ever))")], limits());
    let mut instance = begin(&plugin).await.unwrap();
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), instance.step()).await;
    assert!(given_up.is_err());
    assert!(matches!(instance.step().await.unwrap_err(), Fault::Host(_)));
    drop(instance);
    assert_eq!(bench.engine.memory_used_bytes(), 0);
}

#[tokio::test]
async fn a_plugin_too_large_for_a_slot_runs_all_the_same() {
    let bench = Bench::new();
    assert!(bench.plugin(&[], limits()).is_pooled());
    let plugin = bench.plugin(&[("functions", "(table $large 100000 funcref)")], limits());
    assert!(!plugin.is_pooled());
    let mut instance = begin(&plugin).await.unwrap();
    assert!(instance.memory_bytes() > 800_000, "and its table counts");
    instance.step().await.unwrap();
}

#[tokio::test]
async fn a_broken_checkpoint_is_the_guest_s_failure_or_trap() {
    let bench = Bench::new();
    let plugin = bench.plugin(&[("restore", "unreachable")], limits());
    let fault = plugin.restore(context(), Snapshot::default()).await.unwrap_err();
    assert_eq!(kind(&fault), "guest-trap");
}
