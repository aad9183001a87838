//! Scratch directories: what a guest may write is bounded, its own, and gone with its instance.

mod support;

use prometheus::{Registry, TextEncoder};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use support::{BUDGET_BYTES, Bench, begin, limits};
use tempfile::TempDir;
use waymark_sandbox::{Engine, EngineOptions, FileGrant, Grants, Limits, Offer, Plugin, scratch::Grant};

const IMPORTS: &str = r#"
    (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
    (import "wasi:filesystem/types@0.2.0" "filesystem-error-code" (func $code (param i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[resource-drop]descriptor" (func $close (param i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
      (func $open_at (param i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.write-via-stream"
      (func $write_via_stream (param i32 i64 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.append-via-stream"
      (func $append_via_stream (param i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.set-size" (func $set_size (param i32 i64 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.write" (func $write_at (param i32 i32 i32 i64 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.create-directory-at"
      (func $create_directory_at (param i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.link-at"
      (func $link_at (param i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.remove-directory-at"
      (func $remove_directory_at (param i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.rename-at"
      (func $rename_at (param i32 i32 i32 i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.symlink-at"
      (func $symlink_at (param i32 i32 i32 i32 i32 i32)))
    (import "wasi:filesystem/types@0.2.0" "[method]descriptor.unlink-file-at"
      (func $unlink_file_at (param i32 i32 i32 i32)))
    (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $close_stream (param i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
      (func $write_stream (param i32 i32 i32 i32)))"#;

/// Every operation emits 0, or 100 and the error's place in `error-code`. Names are one letter long, from 3000 on; what is
/// written stands from 8192 on; answers of the host from 4200 on.
const FUNCTIONS: &str = r#"
    (data (i32.const 3000) "abcdefg")
    (data (i32.const 3020) "/etc/passwd")
    (data (i32.const 3040) "../x")
    (global $listed (mut i32) (i32.const 0))
    (global $root (mut i32) (i32.const 0))
    (func $begin
      (call $directories (i32.const 4096))
      (global.set $listed (i32.load (i32.const 4096)))
      (global.set $root (i32.load (global.get $listed))))
    (func $say (param $number i32)
      (i32.store8 (i32.const 4300) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 100))))
      (i32.store8 (i32.const 4301)
        (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $number) (i32.const 10)) (i32.const 10))))
      (i32.store8 (i32.const 4302) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (call $emit (i32.const 4300) (select (i32.const 3) (i32.const 1) (local.get $number))))
    (func $tell (param $error i32)
      (call $say (select
        (i32.add (i32.const 100) (i32.load8_u (local.get $error))) (i32.const 0) (i32.load8_u (i32.const 4200)))))
    (func $open_in (param $directory i32) (param $name i32) (param $length i32) (param $how i32) (result i32)
      (call $open_at (local.get $directory) (i32.const 1) (local.get $name) (local.get $length) (local.get $how)
        (i32.const 3) (i32.const 4200))
      (call $tell (i32.const 4204))
      (i32.load (i32.const 4204)))
    (func $open (param $name i32) (param $how i32) (result i32)
      (call $open_in (global.get $root) (local.get $name) (i32.const 1) (local.get $how)))
    (func $write (param $file i32) (param $length i32) (param $at i64)
      (call $write_at (local.get $file) (i32.const 8192) (local.get $length) (local.get $at) (i32.const 4200))
      (call $tell (i32.const 4208)))
    (func $resize (param $file i32) (param $bytes i64)
      (call $set_size (local.get $file) (local.get $bytes) (i32.const 4200))
      (call $tell (i32.const 4201)))
    (func $pour (param $stream i32) (param $length i32)
      (call $write_stream (local.get $stream) (i32.const 8192) (local.get $length) (i32.const 4200))
      (if (i32.load8_u (i32.const 4200))
        (then
          ;; It is no end of the stream, but an error of the file system.
          (call $code (i32.load (i32.const 4208)) (i32.const 4240))
          (call $say (i32.add (i32.const 100) (i32.load8_u (i32.const 4241)))))
        (else (call $say (i32.const 0))))
      (call $close_stream (local.get $stream)))
    (func $append (param $file i32) (param $length i32)
      (call $append_via_stream (local.get $file) (i32.const 4200))
      (call $pour (i32.load (i32.const 4204)) (local.get $length)))
    (func $stream (param $file i32) (param $length i32) (param $at i64)
      (call $write_via_stream (local.get $file) (local.get $at) (i32.const 4200))
      (call $pour (i32.load (i32.const 4204)) (local.get $length)))
    (func $unlink (param $name i32)
      (call $unlink_file_at (global.get $root) (local.get $name) (i32.const 1) (i32.const 4200))
      (call $tell (i32.const 4201)))
    (func $mkdir (param $name i32)
      (call $create_directory_at (global.get $root) (local.get $name) (i32.const 1) (i32.const 4200))
      (call $tell (i32.const 4201)))
    (func $rmdir (param $name i32)
      (call $remove_directory_at (global.get $root) (local.get $name) (i32.const 1) (i32.const 4200))
      (call $tell (i32.const 4201)))
    (func $rename (param $from i32) (param $name i32) (param $to i32) (param $new i32) (param $length i32)
      (call $rename_at (local.get $from) (local.get $name) (i32.const 1) (local.get $to) (local.get $new)
        (local.get $length) (i32.const 4200))
      (call $tell (i32.const 4201)))"#;

const INTERFACES: [&str; 3] =
    ["wasi:filesystem/types@0.2.0", "wasi:filesystem/preopens@0.2.0", "wasi:io/streams@0.2.0"];

/// What a guest answers where there is no more room.
const FULL: &str = "123";
const NOT_PERMITTED: &str = "131";

/// A place for scratch files, and who makes some.
struct Setting {
    bench: Bench,
    place: TempDir,
    registry: Registry,
}

impl Setting {
    fn new() -> Self {
        let (place, registry) = (TempDir::new().unwrap(), Registry::new());
        let offer =
            Offer { scratch: Some(place.path().to_owned()), registry: registry.clone(), ..Offer::default() };
        let options = EngineOptions { memory_budget_bytes: BUDGET_BYTES, instances_max: 8, pooling: true };
        let engine = Engine::offering(&options, &offer).unwrap();
        let bench = Bench { engine, directory: TempDir::new().unwrap() };
        Self { bench, place, registry }
    }

    fn plugin(&self, step: &str, grant: Option<Grant>, files: Vec<FileGrant>) -> Plugin {
        let step = format!("(local $a i32) (local $b i32) (call $begin)\n{step}");
        let parts = [("imports", IMPORTS), ("functions", FUNCTIONS), ("step", step.as_str())];
        let digest = self.bench.compile(&support::guest_importing(&parts, &INTERFACES)).unwrap();
        let grants = Grants { scratch: grant, files, ..Grants::default() };
        // What is tested waits for a disk.
        let limits = Limits { step_hard_ms: Some(20_000), ..limits() };
        self.bench.engine.load(&self.bench.cache(), &digest, limits, grants).unwrap()
    }

    /// The scratch directories that there are now.
    fn directories(&self) -> Vec<PathBuf> {
        let below = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        below(self.place.path()).iter().flat_map(|process| below(process)).collect()
    }

    /// They are removed on a thread of their own.
    async fn emptied(&self) {
        let from = Instant::now();
        while !self.directories().is_empty() {
            assert!(from.elapsed() < Duration::from_secs(10), "left: {:?}", self.directories());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn metric(&self, series: &str) -> Option<String> {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
    }
}

fn grant(blocks: u64, files_max: u32) -> Option<Grant> {
    Some(Grant { bytes_max: blocks * 4_096, files_max })
}

#[tokio::test]
async fn the_quota_holds_whatever_way_a_file_grows() {
    let setting = Setting::new();
    let step = "
        (local.set $a (call $open (i32.const 3000) (i32.const 1)))         ;; 0, one block
        (call $write (local.get $a) (i32.const 4096) (i64.const 0))        ;; 0, two
        (call $write (local.get $a) (i32.const 1) (i64.const 0x10000000000)) ;; sparse
        (call $stream (local.get $a) (i32.const 1) (i64.const 0x10000000000))
        (call $resize (local.get $a) (i64.const 0x40000000))
        (call $resize (local.get $a) (i64.const 28672))                    ;; 0, all eight
        (call $append (local.get $a) (i32.const 1))
        (local.set $b (call $open (i32.const 3001) (i32.const 1)))         ;; no block for the name
        (call $resize (local.get $a) (i64.const 4096))                     ;; 0, two
        (local.set $b (call $open (i32.const 3001) (i32.const 1)))         ;; 0, three
        (call $stream (local.get $b) (i32.const 4096) (i64.const 0))       ;; 0, four
        (call $append (local.get $b) (i32.const 4096))                     ;; 0, five
        (call $unlink (i32.const 3000))                                    ;; 0, still open: five
        (call $resize (local.get $b) (i64.const 24576))                    ;; nine
        (call $close (local.get $a))                                       ;; three
        (call $resize (local.get $b) (i64.const 24576))                    ;; 0, seven
        (local.set $a (call $open (i32.const 3001) (i32.const 8)))         ;; 0, truncated: one
        (call $resize (local.get $b) (i64.const 28672))                    ;; 0, eight
        ";
    let plugin = setting.plugin(step, grant(8, 10), Vec::new());
    let mut instance = begin(&plugin).await.unwrap();
    instance.step().await.unwrap();
    let expected =
        ["0", "0", FULL, FULL, FULL, "0", FULL, FULL, "0", "0", "0", "0", "0", FULL, "0", "0", "0"];
    assert_eq!(instance.take_effects().outputs, expected);
    let directories = setting.directories();
    assert_eq!(directories.len(), 1);
    let names: Vec<_> =
        std::fs::read_dir(&directories[0]).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["b"]);
    assert_eq!(std::fs::metadata(directories[0].join("b")).unwrap().len(), 28_672);
    assert_eq!(setting.metric("waymark_scratch_bytes{type=\"hostile\"}").as_deref(), Some("32768"));
    let refusals = setting.metric("waymark_scratch_refusals_total{limit=\"bytes\",type=\"hostile\"}");
    assert_eq!(refusals.as_deref(), Some("6"));
    drop(instance);
    setting.emptied().await;
    assert_eq!(setting.metric("waymark_scratch_bytes{type=\"hostile\"}").as_deref(), Some("0"));
}

#[tokio::test]
async fn files_are_counted_and_links_and_ways_out_are_refused() {
    let setting = Setting::new();
    let step = "
        (local.set $a (call $open (i32.const 3000) (i32.const 1)))         ;; 0, one
        (call $mkdir (i32.const 3003))                                     ;; 0, two
        (call $symlink_at (global.get $root) (i32.const 3020) (i32.const 11) (i32.const 3004) (i32.const 1)
          (i32.const 4200))
        (call $tell (i32.const 4201))
        (call $link_at (global.get $root) (i32.const 0) (i32.const 3000) (i32.const 1) (global.get $root)
          (i32.const 3004) (i32.const 1) (i32.const 4200))
        (call $tell (i32.const 4201))
        (local.set $b (call $open_in (global.get $root) (i32.const 3040) (i32.const 4) (i32.const 1)))
        (call $rename (global.get $root) (i32.const 3000) (global.get $root) (i32.const 3040) (i32.const 4))
        (local.set $b (call $open (i32.const 3001) (i32.const 1)))         ;; 0, three
        (drop (call $open (i32.const 3002) (i32.const 1)))                 ;; four
        (call $mkdir (i32.const 3004))                                     ;; four
        (drop (call $open (i32.const 3001) (i32.const 5)))                 ;; it exists
        (call $close (local.get $a))
        (call $rename (global.get $root) (i32.const 3001) (global.get $root) (i32.const 3000) (i32.const 1)) ;; 0, two
        (drop (call $open (i32.const 3002) (i32.const 1)))                 ;; 0, three
        (call $rename (global.get $root) (i32.const 3002) (global.get $root) (i32.const 3002) (i32.const 1)) ;; 0, three
        (call $mkdir (i32.const 3004))                                     ;; four
        (call $rmdir (i32.const 3003))                                     ;; 0, two
        (call $mkdir (i32.const 3004))                                     ;; 0, three
        (call $unlink (i32.const 3005))                                    ;; there is none
        ";
    let plugin = setting.plugin(step, grant(100, 3), Vec::new());
    let mut instance = begin(&plugin).await.unwrap();
    instance.step().await.unwrap();
    let (exists, no_entry) = ("107", "120");
    let expected = [
        "0",
        "0",
        NOT_PERMITTED,
        NOT_PERMITTED,
        NOT_PERMITTED,
        NOT_PERMITTED,
        "0",
        FULL,
        FULL,
        exists,
        "0",
        "0",
        "0",
        FULL,
        "0",
        "0",
        no_entry,
    ];
    assert_eq!(instance.take_effects().outputs, expected);
    let refusals = setting.metric("waymark_scratch_refusals_total{limit=\"files\",type=\"hostile\"}");
    assert_eq!(refusals.as_deref(), Some("3"));
    assert_eq!(
        std::fs::read_dir(setting.directories()[0].parent().unwrap()).unwrap().count(),
        2,
        "and the lock"
    );
    drop(instance);
    setting.emptied().await;
}

#[tokio::test]
async fn every_instance_has_its_own_and_nothing_is_written_elsewhere() {
    let setting = Setting::new();
    let data = setting.bench.directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("g"), "kept").unwrap();
    // The granted files come first, the scratch directory second.
    let step = "
        (local.set $b (i32.load offset=12 (global.get $listed)))
        (local.set $a (call $open_in (local.get $b) (i32.const 3000) (i32.const 1) (i32.const 5)))
        (call $write (local.get $a) (i32.const 5) (i64.const 0))
        (call $rename (local.get $b) (i32.const 3000) (global.get $root) (i32.const 3000) (i32.const 1))
        (call $rename (global.get $root) (i32.const 3006) (local.get $b) (i32.const 3006) (i32.const 1))
        (drop (call $open (i32.const 3000) (i32.const 1)))
        (drop (call $open (i32.const 3006) (i32.const 8)))
        (call $unlink (i32.const 3006))
        ";
    let files = vec![FileGrant { guest: "/data".into(), host: data.clone() }];
    let plugin = setting.plugin(step, grant(100, 10), files);
    let mut instances = Vec::new();
    for _ in 0..2 {
        let mut instance = begin(&plugin).await.unwrap();
        instance.step().await.unwrap();
        let outputs = instance.take_effects().outputs;
        assert_eq!(outputs[..2], ["0", "0"]);
        assert_eq!(outputs[2..], [NOT_PERMITTED; 5]);
        instances.push(instance);
    }
    assert_eq!(setting.directories().len(), 2);
    assert_eq!(std::fs::read_to_string(data.join("g")).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    drop(instances);
    setting.emptied().await;
    // The job type begins anew with nothing in it, and without a grant there is none.
    let alone = setting.plugin("(call $say (i32.load (i32.const 4100)))", None, Vec::new());
    let mut instance = begin(&alone).await.unwrap();
    instance.step().await.unwrap();
    assert_eq!(instance.take_effects().outputs, ["0"]);
    assert_eq!(setting.directories().len(), 0);
}

#[tokio::test]
async fn a_full_directory_is_said_once_in_the_job_s_log() {
    let setting = Setting::new();
    let step = "
        (local.set $a (call $open (i32.const 3000) (i32.const 1)))
        (call $resize (local.get $a) (i64.const 1000000))
        (call $resize (local.get $a) (i64.const 1000000))
        ";
    let plugin = setting.plugin(step, grant(2, 10), Vec::new());
    let (context, lines) = support::logged();
    let mut instance = plugin.start(context, "{}").await.unwrap();
    instance.step().await.unwrap();
    let lines = lines.lock().unwrap();
    let told: Vec<_> =
        lines.iter().filter(|line| line.message.contains("grants.scratch.bytes_max")).collect();
    assert_eq!(told.len(), 1, "{lines:?}");
}
