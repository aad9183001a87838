//! What the sandbox costs: `cargo bench -p waymark-sandbox`.
//!
//! Prints one line of JSON per figure: `{"figure", "ns", "per_second", ...}`. Times are the median of rounds, of one
//! thread that does nothing else; the last figures are those of two processes at once. The guest is
//! `tests/guests/noop`, built beforehand with `cargo xtask guests`, or named by `WAYMARK_NOOP_WASM`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use waymark_sandbox::{
    Engine, EngineOptions, Grants, Instance, JobContext, Limits, Outcome, Plugin, compile_file,
};

/// Set in the processes of the last figures: how long to run jobs, milliseconds.
const FOR_MS: &str = "WAYMARK_BENCH_FOR_MS";
const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only wants to know that it compiles.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let wasm = std::env::var_os("WAYMARK_NOOP_WASM").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/guests/wasm32-unknown-unknown/guest/noop.wasm")
        },
        PathBuf::from,
    );
    if !wasm.is_file() {
        eprintln!(
            "{} is missing: build it with `cargo xtask guests`, or set WAYMARK_NOOP_WASM",
            wasm.display()
        );
        std::process::exit(1);
    }
    let cache = std::env::temp_dir().join(format!("waymark-bench-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    if let Ok(ms) = std::env::var(FOR_MS) {
        let (_, plugin) = load(&wasm, &cache, true);
        let end = Instant::now() + Duration::from_millis(ms.parse().expect("a number"));
        let mut jobs = 0_u64;
        while Instant::now() < end {
            runtime.block_on(async {
                for _ in 0..100 {
                    whole_job(&plugin).await;
                }
            });
            jobs += 100;
        }
        println!("{jobs}");
    } else {
        runtime.block_on(measure(&wasm, &cache));
        two_processes();
    }
    let _ = fs::remove_dir_all(cache);
}

fn load(wasm: &Path, cache: &Path, pooling: bool) -> (Engine, Plugin) {
    let options = EngineOptions { memory_budget_bytes: 1 << 30, instances_max: 64, pooling };
    let engine = Engine::new(&options).expect("an engine");
    let compiled = compile_file(&engine, wasm, cache).expect("the guest");
    let limits = Limits { checkpoint_bytes_max: 16 << 20, ..Limits::default() };
    let plugin = engine.load(cache, &compiled.digest, limits, Grants::default()).expect("the plugin");
    (engine, plugin)
}

fn context() -> JobContext {
    JobContext { job_id: "01980000-0000-7000-8000-000000000000".into(), ..JobContext::default() }
}

async fn start(plugin: &Plugin, input: &str) -> Instance {
    plugin.start(context(), input).await.expect("start")
}

async fn whole_job(plugin: &Plugin) {
    let mut instance = start(plugin, "{}").await;
    assert_eq!(instance.step().await.expect("step"), Outcome::Completed("null".into()));
}

fn report(figure: &str, median: Duration) {
    let ns = median.as_nanos() as f64;
    println!("{{\"figure\":\"{figure}\",\"ns\":{ns:.0},\"per_second\":{:.0}}}", 1e9 / ns);
}

/// The median over rounds of the mean over `calls`.
macro_rules! median {
    ($figure:expr, $calls:expr, $call:block) => {{
        let calls: u32 = $calls;
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let from = Instant::now();
            for _ in 0..calls {
                $call
            }
            rounds.push(from.elapsed() / calls);
        }
        rounds.sort();
        report($figure, rounds[ROUNDS / 2]);
    }};
}

async fn measure(wasm: &Path, cache: &Path) {
    let from = Instant::now();
    let (_engine, plugin) = load(wasm, cache, true);
    report("engine, compile and load", from.elapsed());
    median!("whole one-step job", 2_000, { whole_job(&plugin).await });
    median!("instance with start, and its end", 2_000, { drop(start(&plugin, "{}").await) });
    let mut instance = start(&plugin, "{\"steps\":4000000000}").await;
    median!("step", 20_000, { drop(instance.step().await.expect("step")) });
    for (figure, bytes, calls) in
        [("checkpoint of 1 KiB", 1 << 10, 20_000), ("checkpoint of 1 MiB", 1 << 20, 500)]
    {
        let mut instance = start(&plugin, &format!("{{\"steps\":9,\"state_bytes\":{bytes}}}")).await;
        median!(figure, calls, { drop(instance.checkpoint().await.expect("checkpoint")) });
        let snapshot = instance.checkpoint().await.expect("checkpoint");
        median!(&format!("restore from a {figure}"), 500, {
            drop(plugin.restore(context(), snapshot.clone()).await.expect("restore"));
        });
    }
    let (_engine, plugin) = load(wasm, cache, false);
    median!("whole one-step job, without a pool", 1_000, { whole_job(&plugin).await });
}

fn two_processes() {
    const MS: u64 = 2_000;
    let exe = std::env::current_exe().expect("this program");
    let start = |_| {
        Command::new(&exe)
            .env(FOR_MS, MS.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("another process")
    };
    let children: Vec<_> = (0..2).map(start).collect();
    let jobs: u64 = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("another process");
            String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number")
        })
        .sum();
    let per_second = jobs * 1_000 / MS;
    println!("{{\"figure\":\"whole one-step jobs, two processes\",\"per_second\":{per_second}}}");
}
