//! Guests that misbehave: each meets its limit, is told so with a stable code, and costs nobody else anything.

mod support;

use std::time::{Duration, Instant};
use support::{BUDGET_BYTES, Bench, begin, context, guest, kind, limits, logged, resident_bytes};
use waymark_sandbox::{EngineOptions, Fault, Limits, Outcome, Snapshot};

const LOOP: &str = "(loop $for_ever (br $for_ever))";

fn snapshot() -> Snapshot {
    Snapshot { mime_type: "a/b".into(), state_version: 1, state: b"{}".to_vec() }
}

#[tokio::test]
async fn an_endless_loop_ends_in_every_export() {
    let bench = Bench::new();
    let from = Instant::now();
    let started = begin(&bench.plugin(&[("start", LOOP)], limits())).await;
    assert_eq!(kind(&started.unwrap_err()), "step-timeout");
    let restored = bench.plugin(&[("restore", LOOP)], limits()).restore(context(), snapshot()).await;
    assert_eq!(kind(&restored.unwrap_err()), "step-timeout");
    let mut instance = begin(&bench.plugin(&[("step", LOOP)], limits())).await.unwrap();
    let fault = instance.step().await.unwrap_err();
    let Fault::Trap { kind: "step-timeout", trace: Some(trace), .. } = &fault else { panic!("{fault:?}") };
    assert!(trace.contains("step"), "the trace says where it was: {trace}");
    let mut instance = begin(&bench.plugin(&[("checkpoint", LOOP)], limits())).await.unwrap();
    assert_eq!(kind(&instance.checkpoint().await.unwrap_err()), "step-timeout");
    assert!(from.elapsed() < Duration::from_secs(4), "each within its limit of 300 ms");
    let again = instance.step().await.unwrap_err();
    assert!(matches!(again, Fault::Host(_)), "a dead instance stays dead: {again:?}");
}

#[tokio::test]
async fn an_endless_loop_in_describe_or_initialisation_refuses_the_file() {
    let bench = Bench::new();
    let initialisation = [("functions", "(func $init (loop $for_ever (br $for_ever))) (start $init)")];
    for parts in [[("describe", LOOP)], initialisation] {
        let error = bench.compile(&guest(&parts)).unwrap_err();
        assert_eq!(error.code(), "describe-failed");
        assert!(error.to_string().contains("step-timeout"), "{error}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn guests_that_compute_starve_nobody() {
    let bench = Bench::new();
    let greedy = bench.plugin(&[("step", LOOP)], limits());
    let modest = bench.plugin(&[], limits());
    let mut computing = Vec::new();
    for _ in 0..5 {
        let mut instance = begin(&greedy).await.unwrap();
        computing.push(tokio::spawn(async move { instance.step().await }));
    }
    let mut delays = Vec::new();
    while computing.iter().any(|one| !one.is_finished()) {
        let from = Instant::now();
        begin(&modest).await.unwrap().step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        delays.push(from.elapsed());
    }
    for one in computing {
        assert_eq!(kind(&one.await.unwrap().unwrap_err()), "step-timeout");
    }
    delays.sort();
    assert!(delays.len() > 20, "only {} jobs beside them", delays.len());
    let median = delays[delays.len() / 2];
    assert!(
        median < Duration::from_millis(40),
        "a job and a timer waited {median:?}, longer than for one guest's turn"
    );
}

#[tokio::test]
async fn a_memory_bomb_meets_the_limit() {
    let bench = Bench::new();
    let bomb = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let mut instance = begin(&bench.plugin(&[("step", bomb)], limits())).await.unwrap();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "out-of-memory");
    assert!(instance.memory_bytes() <= limits().memory_bytes);
    drop(instance);
    assert_eq!(bench.engine.memory_used_bytes(), 0);
}

#[tokio::test]
async fn a_table_bomb_meets_the_limit() {
    let bench =
        Bench::with(&EngineOptions { memory_budget_bytes: BUDGET_BYTES, instances_max: 8, pooling: false });
    let bomb = "(loop $more (br_if $more (i32.ne
        (table.grow $table (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable";
    let mut instance = begin(&bench.plugin(&[("step", bomb)], limits())).await.unwrap();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "out-of-memory");
    assert!(instance.memory_bytes() <= limits().memory_bytes, "tables count as memory");
    let bench = Bench::new();
    let mut instance = begin(&bench.plugin(&[("step", bomb)], limits())).await.unwrap();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "out-of-memory", "so they do in a pool");
}

#[tokio::test]
async fn memory_is_the_sum_over_all_memories() {
    let bench = Bench::new();
    let memories = "(memory (export \"memory\") 2) (memory $second 200)";
    let grow = "(if (i32.eq (memory.grow $second (i32.const 100)) (i32.const -1)) (then unreachable))";
    let mut instance = begin(&bench.plugin(&[("memory", memories), ("step", grow)], limits())).await.unwrap();
    assert!(instance.memory_bytes() >= 202 * 65_536);
    assert_eq!(kind(&instance.step().await.unwrap_err()), "out-of-memory");
}

#[tokio::test]
async fn more_memory_than_allowed_from_the_start_is_refused() {
    let bench = Bench::new();
    let plugin = bench.plugin(&[("memory", "(memory (export \"memory\") 300)")], limits());
    assert_eq!(kind(&begin(&plugin).await.unwrap_err()), "out-of-memory");
    let error = bench.compile(&guest(&[("memory", "(memory (export \"memory\") 65536)")])).unwrap_err();
    assert_eq!(error.code(), "describe-failed");
    assert!(error.to_string().contains("out-of-memory"), "{error}");
}

#[tokio::test]
async fn a_full_host_makes_jobs_wait() {
    let bench = Bench::with(&EngineOptions { memory_budget_bytes: 8 << 20, instances_max: 8, pooling: true });
    let parts = [
        ("memory", "(memory (export \"memory\") 80)"),
        ("step", "(if (i32.eq (memory.grow (i32.const 40)) (i32.const -1)) (then unreachable))"),
    ];
    let plugin = bench.plugin(&parts, limits());
    let mut first = begin(&plugin).await.unwrap();
    assert_eq!(begin(&plugin).await.unwrap_err(), Fault::Busy);
    let small = bench.plugin(&[("memory", "(memory (export \"memory\") 40)")], limits());
    let second = begin(&small).await.unwrap();
    assert_eq!(first.step().await.unwrap_err(), Fault::Busy, "growing is no fault of its own either");
    drop(second);
    drop(first);
    assert_eq!(bench.engine.memory_used_bytes(), 0);
    begin(&plugin).await.unwrap().step().await.unwrap();
}

#[tokio::test]
async fn more_instances_than_places_make_jobs_wait() {
    let bench =
        Bench::with(&EngineOptions { memory_budget_bytes: BUDGET_BYTES, instances_max: 2, pooling: true });
    assert!(bench.engine.is_pooling());
    let plugin = bench.plugin(&[], limits());
    let (first, _second) = (begin(&plugin).await.unwrap(), begin(&plugin).await.unwrap());
    assert_eq!(begin(&plugin).await.unwrap_err(), Fault::Busy);
    drop(first);
    begin(&plugin).await.unwrap();
}

#[tokio::test]
async fn a_stack_overflow_is_a_trap_with_a_trace() {
    let bench = Bench::new();
    let parts = [("functions", "(func $down (call $down) (call $down))"), ("step", "(call $down)")];
    let mut instance = begin(&bench.plugin(&parts, limits())).await.unwrap();
    let fault = instance.step().await.unwrap_err();
    let Fault::Trap { kind: "stack-overflow", trace: Some(trace), .. } = &fault else { panic!("{fault:?}") };
    assert!(trace.starts_with("down"), "{trace}");
    assert!(trace.lines().count() <= 32);
}

#[tokio::test]
async fn a_trap_is_told_with_the_names_of_functions() {
    let bench = Bench::new();
    let parts = [("functions", "(func $deeper unreachable)"), ("step", "(call $deeper)")];
    let mut instance = begin(&bench.plugin(&parts, limits())).await.unwrap();
    let fault = instance.step().await.unwrap_err();
    let Fault::Trap { kind: "guest-trap", message, trace: Some(trace) } = fault else { panic!("{fault:?}") };
    assert_eq!(message, "wasm `unreachable` instruction executed");
    let names: Vec<_> = trace.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["deeper", "step"]);
}

/// ok(completed(1 GiB of spaces)) and ok(snapshot with 1 GiB), in memory that the guest has or only claims.
const HUGE: [(&str, &str); 2] = [
    ("step", "(i32.store (i32.const 272) (i32.const 0)) (i32.store (i32.const 276) (i32.const 0x40000000))"),
    (
        "checkpoint",
        "(i32.store (i32.const 148) (i32.const 0)) (i32.store (i32.const 152) (i32.const 0x40000000))",
    ),
];

#[tokio::test]
async fn a_gigabyte_that_is_not_there_is_refused() {
    let bench = Bench::new();
    let plugin = bench.plugin(&HUGE, limits());
    let fault = begin(&plugin).await.unwrap().step().await.unwrap_err();
    assert!(["guest-trap", "oversized"].contains(&kind(&fault)), "{fault:?}");
    let fault = begin(&plugin).await.unwrap().checkpoint().await.unwrap_err();
    assert!(["guest-trap", "oversized"].contains(&kind(&fault)), "{fault:?}");
}

#[tokio::test]
async fn a_gigabyte_is_never_copied() {
    let options = EngineOptions { memory_budget_bytes: 4 << 30, instances_max: 2, pooling: true };
    let bench = Bench::with(&options);
    let grow = "(drop (memory.grow (i32.const 16400)))";
    let emit = "(call $emit (i32.const 0) (i32.const 0x40000000))";
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 0x40000000) (i32.const 0) (i32.const 0))";
    let limits = Limits { memory_bytes: 2 << 30, ..limits() };
    let before = resident_bytes();
    let plugin = bench.plugin(&[("start", grow), HUGE[0], HUGE[1]], limits.clone());
    assert_eq!(kind(&begin(&plugin).await.unwrap().step().await.unwrap_err()), "oversized");
    assert_eq!(kind(&begin(&plugin).await.unwrap().checkpoint().await.unwrap_err()), "oversized");
    for call in [emit, log] {
        let plugin = bench.plugin(&[("start", grow), ("step", call)], limits.clone());
        assert_eq!(kind(&begin(&plugin).await.unwrap().step().await.unwrap_err()), "oversized");
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
}

#[tokio::test]
async fn values_a_little_too_large_are_told_with_their_limit() {
    let bench = Bench::new();
    let limits = Limits {
        memory_bytes: 4 << 20,
        result_bytes_max: 100,
        checkpoint_bytes_max: 100,
        output_item_bytes_max: 100,
        input_bytes_max: 100,
        ..limits()
    };
    let result = "(i32.store (i32.const 276) (i32.const 101))";
    let state = "(i32.store (i32.const 152) (i32.const 101))";
    let plugin = bench.plugin(&[("step", result), ("checkpoint", state)], limits.clone());
    let fault = begin(&plugin).await.unwrap().step().await.unwrap_err();
    assert_eq!(kind(&fault), "oversized");
    assert!(fault.to_string().contains("101 bytes are more than the limit of 100"), "{fault}");
    assert_eq!(kind(&begin(&plugin).await.unwrap().checkpoint().await.unwrap_err()), "oversized");
    let emit = "(call $emit (i32.const 2070) (i32.const 101))";
    let plugin = bench.plugin(&[("step", emit)], limits);
    assert_eq!(kind(&begin(&plugin).await.unwrap().step().await.unwrap_err()), "oversized");
    let fault = plugin.start(context(), &format!("\"{}\"", "x".repeat(99))).await.unwrap_err();
    assert_eq!(kind(&fault), "oversized");
}

#[tokio::test]
async fn floods_of_output_and_children_end() {
    let bench = Bench::new();
    let limits =
        Limits { effects_bytes_max: 1 << 20, children_max: 50, step_hard_ms: Some(20_000), ..limits() };
    let emit = "(loop $more (call $emit (i32.const 2070) (i32.const 2)) (br $more))";
    let mut instance = begin(&bench.plugin(&[("step", emit)], limits.clone())).await.unwrap();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "oversized");
    assert!(instance.effects_bytes() <= 1 << 20);
    let spawn = "(loop $more
        (call $spawn (i32.const 2048) (i32.const 7) (i32.const 2070) (i32.const 2) (i32.const 4096)) (br $more))";
    let mut instance = begin(&bench.plugin(&[("step", spawn)], limits)).await.unwrap();
    assert_eq!(kind(&instance.step().await.unwrap_err()), "oversized");
    let effects = instance.take_effects();
    assert_eq!(effects.children.len(), 50);
    assert_eq!(effects.children[49].id, "child-5-49");
}

#[tokio::test]
async fn a_flood_of_lines_is_cut_dropped_and_counted() {
    let bench = Bench::new();
    let flood = "(local $left i32) (local.set $left (i32.const 10000))
        (loop $more
          (call $log (i32.const 2) (i32.const 2048) (i32.const 20000) (i32.const 2070) (i32.const 2))
          (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let plugin = bench.plugin(&[("step", flood)], Limits { step_hard_ms: Some(20_000), ..limits() });
    let (context, lines) = logged();
    let mut instance = plugin.start(context, "{}").await.unwrap();
    assert_eq!(instance.step().await.unwrap(), Outcome::Completed("{}".into()));
    drop(instance);
    let lines = lines.lock().unwrap();
    assert!(lines.iter().all(|line| line.message.len() <= 8 << 10));
    let dropped: u64 = lines
        .iter()
        .filter_map(|line| {
            line.fields.as_deref()?.strip_prefix("{\"dropped\":")?.strip_suffix('}')?.parse::<u64>().ok()
        })
        .sum();
    let said = lines.iter().filter(|line| line.message.starts_with("hostile")).count() as u64;
    assert_eq!(said + dropped, 10_000, "no line is lost without being counted");
    assert!(said < 5_000);
}

#[tokio::test]
async fn what_is_not_json_is_a_bad_value() {
    let bench = Bench::new();
    let result = "(i32.store (i32.const 272) (i32.const 2090)) (i32.store (i32.const 276) (i32.const 8))";
    for body in [result, "(call $emit (i32.const 2090) (i32.const 8))"] {
        let fault =
            begin(&bench.plugin(&[("step", body)], limits())).await.unwrap().step().await.unwrap_err();
        assert_eq!(kind(&fault), "bad-value");
    }
    let spawn =
        "(call $spawn (i32.const 2090) (i32.const 8) (i32.const 2070) (i32.const 2) (i32.const 4096))";
    let fault = begin(&bench.plugin(&[("step", spawn)], limits())).await.unwrap().step().await.unwrap_err();
    assert_eq!(kind(&fault), "bad-value", "a job type has no spaces");
}

#[tokio::test]
async fn many_dead_instances_leave_nothing_behind() {
    let bench = Bench::new();
    let bomb = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 65536))
        (drop (memory.grow (i32.const 100)))
        (memory.fill (i32.const 131072) (i32.const 1) (i32.const 6553600)) unreachable";
    // The machine may be busy: here it is not the time that counts.
    let plugin = bench.plugin(&[("step", bomb)], Limits { step_hard_ms: Some(30_000), ..limits() });
    let mut before = 0;
    for round in 0..400 {
        assert_eq!(kind(&begin(&plugin).await.unwrap().step().await.unwrap_err()), "guest-trap");
        if round == 50 {
            before = resident_bytes();
        }
    }
    assert!(resident_bytes() < before + (8 << 20));
    assert_eq!(bench.engine.memory_used_bytes(), 0);
}
