//! Guests that misbehave, through the whole host: each fails with a stable code, the host's memory stays within its
//! budget, its API answers all the while, and nobody else is disturbed.

use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use waymark_tests::{World, eventually, guest, host::Host};

const MIB: u64 = 1 << 20;
/// Memory of all guests of the host.
const GUESTS_BYTES: u64 = 256 * MIB;
/// What the host's two processes may need besides.
const HOST_BYTES: u64 = 160 * MIB;
/// A caller should not notice what a guest does: this many milliseconds for 95 of 100 answers.
const ANSWER_MS: u128 = 100;

/// A hundred traps are no reason to take a plugin out of service here.
const CONFIG: &str = "
[worker]
slots = 16
memory_bytes = 268435456
quarantine_traps = 1000
[defaults]
memory_bytes = 33554432
step_limit_ms = 1000
[defaults.retry]
max_attempts = 1
[plugins.counter]
step_limit_ms = 10000
[plugins.loop-checkpoint]
checkpoint = { every_steps = 1 }
[plugins.loop-restore]
checkpoint = { every_ms = 20 }
[plugins.state-claimed]
checkpoint = { every_steps = 1 }
";

const LOOP: &str = "(loop $for_ever (br $for_ever))";
/// The job goes on.
const GO_ON: &str = "(return (i32.const 320))";
/// Every page is written to, so that it costs what it seems to.
const MEMORY_BOMB: &str = "
    (loop $more
      (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then
        (memory.fill (i32.mul (i32.sub (memory.size) (i32.const 16)) (i32.const 65536)) (i32.const 7) (i32.const 1048576))
        (br $more))))
    unreachable";
const TABLE_BOMB: &str = "
    (loop $more (br_if $more (i32.ne (table.grow $table (ref.null func) (i32.const 10000)) (i32.const -1))))
    unreachable";
const LOG_FLOOD: &str = "
    (loop $more
      (call $log (i32.const 2) (i32.const 2048) (i32.const 8192) (i32.const 2120) (i32.const 2))
      (br $more))";
const EMIT_FLOOD: &str = "(loop $more (call $emit (i32.const 2120) (i32.const 2)) (br $more))";
/// ok(completed(1 GiB)), of which the guest has not a page.
const RESULT: &str = "
    (i32.store (i32.const 272) (i32.const 0)) (i32.store (i32.const 276) (i32.const 0x40000000))";
/// ok(snapshot of 1 GiB).
const STATE: &str = "
    (i32.store (i32.const 148) (i32.const 0)) (i32.store (i32.const 152) (i32.const 0x40000000))";

/// A job type, its parts, and the code with which its jobs fail.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

const CASES: [Case; 12] = [
    ("loop-start", &[("start", LOOP)], "step-timeout"),
    ("loop-step", &[("step", LOOP)], "step-timeout"),
    ("loop-checkpoint", &[("step", GO_ON), ("checkpoint", LOOP)], "step-timeout"),
    ("loop-restore", &[("step", GO_ON), ("restore", LOOP)], "step-timeout"),
    ("memory-bomb", &[("step", MEMORY_BOMB)], "out-of-memory"),
    ("memory-bomb-at-start", &[("start", MEMORY_BOMB)], "out-of-memory"),
    ("table-bomb", &[("step", TABLE_BOMB)], "out-of-memory"),
    (
        "stack-overflow",
        &[("functions", "(func $down (call $down) (call $down))"), ("step", "(call $down)")],
        "stack-overflow",
    ),
    ("log-flood", &[("step", LOG_FLOOD)], "step-timeout"),
    ("emit-flood", &[("step", EMIT_FLOOD)], "oversized"),
    ("result-claimed", &[("step", RESULT)], "guest-trap"),
    ("state-claimed", &[("step", GO_ON), ("checkpoint", STATE)], "guest-trap"),
];

/// What was seen of a host while something happened.
struct Seen {
    answers: Vec<Duration>,
    /// Most memory in use by its processes, without compilers, bytes.
    peak_bytes: u64,
}

/// As many answers make a share of 95 in 100 worth saying.
const ANSWERS: usize = 100;

/// Asks the host for its health and for a job again and again while `work` goes on, and after a
/// short work until there are [`ANSWERS`].
fn watched<T>(host: &Host, job: &str, work: impl FnOnce() -> T) -> (T, Seen) {
    let (over, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let path = format!("/api/v1/jobs/{job}");
            let mut answers = Vec::new();
            while !over.load(Relaxed) || answers.len() < ANSWERS {
                for path in ["/healthz", &path] {
                    let from = Instant::now();
                    let answer = host.get(path);
                    answers.push(from.elapsed());
                    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                }
                thread::sleep(Duration::from_millis(2));
            }
            answers
        });
        scope.spawn(|| {
            while !over.load(Relaxed) {
                peak.fetch_max(host.serving_bytes(), Relaxed);
                thread::sleep(Duration::from_millis(10));
            }
        });
        // The threads end whatever becomes of the work.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        let answers = asking.join().expect("the host answers");
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (done, Seen { answers, peak_bytes: peak.load(Relaxed) })
    })
}

impl Seen {
    /// Says what was seen, and that it is within the bounds.
    #[track_caller]
    fn assert_calm(mut self, what: &str, bytes_max: u64) {
        self.answers.sort();
        let at = |share: usize| self.answers[(self.answers.len() - 1) * share / 100];
        println!(
            "{what}: {} answers, median {:?}, 95 % within {:?}, longest {:?}; memory of the host at most {} MiB",
            self.answers.len(),
            at(50),
            at(95),
            at(100),
            self.peak_bytes / MIB
        );
        assert!(at(95).as_millis() < ANSWER_MS, "{what}: 95 of 100 answers took up to {:?}", at(95));
        assert!(
            self.peak_bytes < bytes_max,
            "{what}: {} MiB in use, the budget is {}",
            self.peak_bytes / MIB,
            bytes_max / MIB
        );
    }
}

/// A host with the guests of some cases, and the counter.
fn host_of(world: &World, cases: &[Case]) -> Host {
    let mut host = world.empty_host();
    guest::copy("counter", &host.plugins);
    for (name, parts, _) in cases {
        guest::put(&host.plugins, &format!("{name}.wasm"), &guest::text(name, parts));
    }
    host.start();
    host.wait_for_plugins(&["counter"]);
    host.wait_for_plugins(&cases.iter().map(|(name, _, _)| *name).collect::<Vec<_>>());
    host
}

fn counter(steps: u64) -> Value {
    json!({"type": "counter", "input": {"steps": steps, "work_us": 500, "emit": true}})
}

/// Jobs of a hostile type, as many at once as asked for, fail with the code that they should.
fn fail_at_once(host: &Host, (name, parts, code): &Case, jobs: usize) {
    let ids = host.submit_all(&vec![json!({"type": name, "input": {}}); jobs]);
    if parts.iter().any(|(part, _)| *part == "restore") {
        for id in &ids {
            // There must be a checkpoint to go on from.
            let _ = host.until(id, "under way", |job| job["step"].as_u64() > Some(0));
            host.control(id, "pause").expect(202);
            host.reaches(id, "paused");
            host.control(id, "resume").expect(202);
        }
    }
    for id in &ids {
        let job = host.ended(id);
        assert_eq!(
            (&job["status"], &job["error"]["kind"]),
            (&json!("failed"), &json!(code)),
            "{name}: {job}"
        );
        assert!(job["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{name}: {job}");
        assert_eq!(job["attempt"], 1, "{name}: {job}");
    }
}

#[test]
fn every_hostile_guest_fails_with_its_code_and_disturbs_nobody() {
    let world = World::alone(CONFIG);
    let host = host_of(&world, &CASES);
    let workers = host.workers();
    for case in &CASES {
        let modest = host.submit_all(&vec![counter(40); 3]);
        let ((), seen) = watched(&host, &modest[0], || {
            fail_at_once(&host, case, 4);
            for id in &modest {
                assert_eq!(host.result(id)["sum"], 40 * 41 / 2, "beside {}", case.0);
                assert_eq!(host.job(id)["attempt"], 1, "beside {}", case.0);
                assert_eq!(host.outputs(id).len(), 40, "beside {}", case.0);
            }
        });
        seen.assert_calm(case.0, GUESTS_BYTES + HOST_BYTES);
    }
    assert_eq!(host.workers(), workers, "no worker process ended");
    for (name, _, code) in &CASES {
        let plugin = host.get(&format!("/api/v1/plugins/{name}")).expect(200);
        assert_eq!(plugin["state"], "loaded", "{name}: {plugin}");
        // Workers tell their figures every second.
        eventually(&format!("the traps of {name} are counted"), Duration::from_secs(5), || {
            let samples = format!("waymark_traps_total{{kind=\"{code}\",type=\"{name}\"");
            (host.metric(&samples) >= 4.0).then_some(())
        });
    }
}

#[test]
fn all_hostile_guests_at_once_disturb_nobody_either() {
    let world = World::alone(CONFIG);
    let host = host_of(&world, &CASES);
    let workers = host.workers();
    let modest = host.submit_all(&vec![counter(40); 10]);
    let ((), seen) = watched(&host, &modest[0], || {
        thread::scope(|scope| {
            for case in &CASES {
                scope.spawn(|| fail_at_once(&host, case, 2));
            }
            for id in &modest {
                assert_eq!(host.result(id)["sum"], 40 * 41 / 2);
            }
        });
    });
    assert_eq!(host.workers(), workers, "no worker process ended");
    seen.assert_calm("all at once", GUESTS_BYTES + HOST_BYTES);
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let world = World::alone(CONFIG);
    let cases: [Case; 1] = [("log-flood", &[("step", LOG_FLOOD)], "step-timeout")];
    let host = host_of(&world, &cases);
    let modest = host.submit(&counter(10));
    let stored = || -> u64 {
        let info = world.redis.command(&["INFO", "memory"]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
        line.trim().parse().expect("a number")
    };
    let before = stored();
    let (ids, seen) = watched(&host, &modest, || {
        let ids = host.submit_all(&vec![json!({"type": "log-flood", "input": {}}); 32]);
        for id in &ids {
            assert_eq!(host.ended(id)["error"]["kind"], "step-timeout");
        }
        ids
    });
    let kept = stored().saturating_sub(before);
    println!("32 floods of log lines: {} MiB are kept in the store", kept / MIB);
    seen.assert_calm("32 floods of log lines", GUESTS_BYTES + HOST_BYTES);
    assert!(kept < 32 * 8 * MIB, "a job keeps 1,000 lines of 8 KiB at most, these keep {} MiB", kept / MIB);
    let mut told = 0;
    for id in &ids {
        let page = host.get(&format!("/api/v1/jobs/{id}/logs")).expect(200);
        let lines = page["lines"].as_array().expect("lines");
        assert!(lines.len() <= 1_000, "{} lines of one job are kept", lines.len());
        assert!(
            lines.iter().all(|line| line["message"].as_str().is_some_and(|message| message.len() <= 8 << 10))
        );
        told += lines.iter().filter(|line| line["fields"]["dropped"].as_u64() > Some(1_000)).count();
    }
    assert!(told >= ids.len() / 2, "{told} of {} jobs say how many lines were dropped", ids.len());
}

#[test]
fn a_gigabyte_is_never_copied() {
    // Here a guest may have the gigabyte that it hands over.
    let grow = "(if (i32.eq (memory.grow (i32.const 16400)) (i32.const -1)) (then unreachable))";
    let emit = "(call $emit (i32.const 0) (i32.const 0x40000000))";
    let line =
        "(call $log (i32.const 2) (i32.const 0) (i32.const 0x40000000) (i32.const 2120) (i32.const 2))";
    let fields =
        "(call $log (i32.const 2) (i32.const 2120) (i32.const 2) (i32.const 0) (i32.const 0x40000000))";
    // err(permanent(1 GiB))
    let failure = "(i32.store (i32.const 256) (i32.const 1)) (i32.store (i32.const 264) (i32.const 2))
        (i32.store (i32.const 272) (i32.const 0)) (i32.store (i32.const 276) (i32.const 0x40000000))";
    // ok(progressed { 0, none, some(1 GiB) })
    let progress = "(i32.store (i32.const 360) (i32.const 1)) (i32.store (i32.const 364) (i32.const 0))
        (i32.store (i32.const 368) (i32.const 0x40000000)) (return (i32.const 320))";
    let cases: [Case; 7] = [
        ("giant-result", &[("start", grow), ("step", RESULT)], "oversized"),
        ("giant-state", &[("start", grow), ("step", GO_ON), ("checkpoint", STATE)], "oversized"),
        ("giant-record", &[("start", grow), ("step", emit)], "oversized"),
        ("giant-line", &[("start", grow), ("step", line)], "oversized"),
        ("giant-fields", &[("start", grow), ("step", fields)], "oversized"),
        ("giant-failure", &[("start", grow), ("step", failure)], "oversized"),
        ("giant-progress", &[("start", grow), ("step", progress)], "oversized"),
    ];
    let world = World::alone(
        "[worker]\nslots = 4\nquarantine_traps = 1000\n
        [defaults]\nmemory_bytes = 2147483648\nstep_limit_ms = 2000\n[defaults.retry]\nmax_attempts = 1\n
        [plugins.giant-state]\ncheckpoint = { every_steps = 1 }\n",
    );
    let host = host_of(&world, &cases);
    let modest = host.submit(&counter(40));
    let ((), seen) = watched(&host, &modest, || {
        for case in &cases {
            fail_at_once(&host, case, 4);
        }
    });
    assert_eq!(host.result(&modest)["sum"], 40 * 41 / 2);
    // Their memory is never written to, so it is not there: what is in use is the host's own.
    seen.assert_calm("gigabytes handed over", HOST_BYTES);
}

#[test]
fn many_dead_guests_leave_no_memory_behind() {
    let world = World::alone(CONFIG);
    let cases: [Case; 1] = [("memory-bomb", &[("step", MEMORY_BOMB)], "out-of-memory")];
    let host = host_of(&world, &cases);
    // As many at once as the host has memory for.
    let bombs = |times: usize| {
        for _ in 0..times {
            fail_at_once(&host, &cases[0], 6);
        }
        host.serving_bytes()
    };
    let (before, after) = (bombs(8), bombs(32));
    println!("memory of the host after 48 bombs {} MiB, after 240 {} MiB", before / MIB, after / MIB);
    assert!(after < before + 32 * MIB, "{} MiB more", after.saturating_sub(before) / MIB);
}

#[test]
fn guests_that_do_not_fit_into_the_host_wait_and_lose_no_attempt() {
    let grow = "
        (if (i32.eqz (global.get $count)) (then
          (if (i32.eq (memory.grow (i32.const 480)) (i32.const -1)) (then unreachable))))";
    // Ten steps of a few milliseconds, so that neighbours meet.
    let steps = "
        (local $left i32)
        (local.set $left (i32.const 3000000))
        (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (if (i32.lt_u (global.get $count) (i32.const 10)) (then (return (i32.const 320))))";
    let in_step =
        steps.replace("(local.set $left (i32.const", &format!("{grow}\n(local.set $left (i32.const"));
    let cases: [Case; 2] = [
        ("grows-at-start", &[("start", grow), ("step", steps)], ""),
        ("grows-in-step", &[("step", &in_step)], ""),
    ];
    let world = World::new(
        "[worker]\nslots = 8\nmemory_bytes = 75497472\n[defaults]\nmemory_bytes = 41943040\n
        [defaults.retry]\nmax_attempts = 1\n",
    );
    let host = host_of(&world, &cases);
    for (name, _, _) in &cases {
        // Two of them fit.
        let ids = host.submit_all(&vec![json!({"type": name, "input": {}}); 12]);
        let jobs: Vec<_> = ids.iter().map(|id| host.ended(id)).collect();
        let failed: Vec<_> = jobs.iter().filter(|job| job["status"] != "succeeded").collect();
        assert!(failed.is_empty(), "{name}: {} of 12 failed, such as {}", failed.len(), failed[0]);
        assert!(jobs.iter().all(|job| job["attempt"] == 1), "{name}");
    }
}

#[test]
fn a_plugin_that_does_not_answer_when_it_is_described_is_refused() {
    let world = World::alone(CONFIG);
    let host = host_of(&world, &[]);
    let modest = host.submit(&counter(10));
    assert_eq!(host.result(&modest)["sum"], 55);
    // The first costs ten seconds, which is what the host grants to `describe`.
    let bombs: [(&str, &[(&str, &str)]); 3] = [
        ("loop-describe", &[("describe", LOOP)]),
        ("bomb-describe", &[("describe", MEMORY_BOMB)]),
        (
            "deep-describe",
            &[("functions", "(func $down (call $down) (call $down))"), ("describe", "(call $down)")],
        ),
    ];
    let ((), seen) = watched(&host, &modest, || {
        for (name, parts) in bombs {
            guest::put(&host.plugins, &format!("{name}.wasm"), &guest::text(name, parts));
        }
        for ((name, _), reason) in bombs.iter().zip(["step-timeout", "out-of-memory", "stack-overflow"]) {
            let plugin =
                host.plugin(name, "refused", Duration::from_secs(60), |plugin| plugin["state"] == "failed");
            assert_eq!(plugin["error"]["code"], "describe-failed", "{name}: {plugin}");
            let message = plugin["error"]["message"].as_str().expect("a sentence");
            assert!(message.contains(reason), "{name}: {message}");
        }
        let job = host.submit(&counter(10));
        assert_eq!(host.result(&job)["sum"], 55, "what is in service stays in service");
    });
    seen.assert_calm("describe that never returns", HOST_BYTES);
}

/// One function with so many values alive across so many blocks that the compiler's memory grows with their product.
fn compile_bomb() -> String {
    let mut body = String::new();
    for number in 0..50_000 {
        body.push_str(&format!("(local $l{number} i64)"));
    }
    for number in 0..250_000_u64 {
        let (from, to) = (number * 7919 % 50_000, number * 104_729 % 50_000);
        body.push_str(&format!(
            "(if (i32.load8_u (i32.const {})) (then
               (local.set $l{to} (i64.add (local.get $l{from}) (i64.const {number})))))",
            number % 60_000
        ));
    }
    format!("(func $bomb (export \"bomb\") {body})")
}

#[test]
fn a_compile_bomb_is_refused_and_costs_the_host_nothing() {
    let world = World::alone(CONFIG);
    let host = host_of(&world, &[]);
    let bomb = guest::text("compile-bomb", &[("functions", &compile_bomb())]);
    let modest = host.submit(&counter(2_000));
    let ((), seen) = watched(&host, &modest, || {
        let from = Instant::now();
        guest::put(&host.plugins, "compile-bomb.wasm", &bomb);
        let plugin = host.plugin("compile-bomb", "refused", Duration::from_secs(240), |plugin| {
            plugin["state"] == "failed"
        });
        assert_eq!(plugin["error"]["code"], "compile-limit", "{plugin}");
        println!("a compile bomb of {} MiB is refused after {:?}", bomb.len() as u64 / MIB, from.elapsed());
        let job = host.submit(&counter(10));
        assert_eq!(host.result(&job)["sum"], 55);
    });
    assert_eq!(host.result(&modest)["sum"], 2_000 * 2_001 / 2, "a job that ran beside it is whole");
    seen.assert_calm("compile bomb", HOST_BYTES);
}
