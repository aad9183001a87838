//! A job in the sandbox that the host uses, from the `.wasm` file that is shipped.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::path::Path;
use std::time::{Duration, Instant};

use waymark_sandbox::{
    Engine, EngineOptions, FileGrant, Grants, JobContext, Limits, Outcome, Plugin, compile_file,
};
use waymark_sdk::prelude::*;

use crate::support;

/// What a run in the sandbox came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Value,
    pub(crate) outputs: Vec<Value>,
    pub(crate) steps: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) checkpoint_bytes_max: usize,
    pub(crate) step_max: Duration,
    pub(crate) total: Duration,
}

/// An engine with one plugin.
pub(crate) struct Sandbox {
    _directory: tempfile::TempDir,
    plugin: Plugin,
}

impl Sandbox {
    /// Compiles and loads the plugin; it may read below `folder` and use 64 MiB.
    pub(crate) fn new(wasm: &Path, folder: &Path) -> Self {
        let options = EngineOptions { memory_budget_bytes: 1 << 30, instances_max: 4, pooling: false };
        let engine = Engine::new(&options).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let compiled = compile_file(&engine, wasm, directory.path()).unwrap();
        let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
        let grants = Grants {
            files: vec![FileGrant { guest: "data".to_owned(), host: folder.to_owned() }],
            ..Grants::default()
        };
        let plugin = engine.load(directory.path(), &compiled.digest, limits, grants).unwrap();
        Self { _directory: directory, plugin }
    }

    /// Runs a job to its end; with `crash`, each step in an instance of its own.
    pub(crate) fn run(&self, input: &Value, crash: bool) -> Ran {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(self.run_to_end(input, crash))
    }

    async fn run_to_end(&self, input: &Value, crash: bool) -> Ran {
        let mut ran = Ran {
            result: Value::Null,
            outputs: Vec::new(),
            steps: 0,
            memory_bytes_max: 0,
            checkpoint_bytes_max: 0,
            step_max: Duration::ZERO,
            total: Duration::ZERO,
        };
        let begun = Instant::now();
        let mut instance = self.plugin.start(context(0), &input.to_string()).await.unwrap();
        loop {
            let began = Instant::now();
            let outcome = instance.step().await.unwrap();
            ran.step_max = ran.step_max.max(began.elapsed());
            ran.steps += 1;
            let effects = instance.take_effects();
            ran.outputs.extend(effects.outputs.iter().map(|text| text.parse::<Value>().unwrap()));
            if let Outcome::Completed(result) = outcome {
                ran.memory_bytes_max = ran.memory_bytes_max.max(instance.memory_bytes());
                ran.result = result.parse().unwrap();
                ran.total = begun.elapsed();
                return ran;
            }
            instance.committed(ran.steps);
            if crash {
                let snapshot = instance.checkpoint().await.unwrap();
                ran.memory_bytes_max = ran.memory_bytes_max.max(instance.memory_bytes());
                ran.checkpoint_bytes_max = ran.checkpoint_bytes_max.max(snapshot.state.len());
                instance = self.plugin.restore(context(ran.steps), snapshot).await.unwrap();
            }
            ran.memory_bytes_max = ran.memory_bytes_max.max(instance.memory_bytes());
        }
    }
}

/// The shipped `.wasm` file on all flights: see [`like_natively`].
pub(crate) fn on_all_flights<J: Job>(input: &str) {
    let Some(python) = support::python() else { return };
    like_natively::<J>(&support::tables(&python), input);
}

/// The shipped `.wasm` file on the shipped data: see [`like_natively`].
pub(crate) fn on_the_shipped_data<J: Job>(input: &str) {
    like_natively::<J>(&support::root().join("plugins/data"), input);
}

/// The native result and output records, within 64 MiB, from one instance and from a fresh one after every step.
fn like_natively<J: Job>(folder: &Path, input: &str) {
    let Some(wasm) = support::wasm(J::NAME) else { return };
    let input: Value = input.parse().unwrap();
    let native = support::natively::<J>(folder, &input);
    let sandbox = Sandbox::new(&wasm, folder);
    for crash in [false, true] {
        let ran = sandbox.run(&input, crash);
        println!(
            "crash {crash}: {} steps in {:?}, the longest {:?}; memory {} MiB, checkpoint {} bytes",
            ran.steps,
            ran.total,
            ran.step_max,
            ran.memory_bytes_max >> 20,
            ran.checkpoint_bytes_max
        );
        assert_eq!(native.result.as_ref(), Ok(&ran.result));
        assert_eq!(native.outputs, ran.outputs);
        assert!(ran.memory_bytes_max <= 64 << 20);
    }
}

/// Rounds of a comparison of times.
const ROUNDS: usize = 5;

/// All flights, in turn natively, in the sandbox, and by plain Python: prints the times, and the least of each as ratios. `same`
/// compares what a job says with what Python says.
pub(crate) fn speed<J: Job>(input: &str, same: impl Fn(&Value, &Value)) {
    let (Some(python), Some(wasm)) = (support::python(), support::wasm(J::NAME)) else { return };
    let folder = support::tables(&python);
    let parsed: Value = input.parse().unwrap();
    let file = support::target().join(format!("speed-{}.json", J::NAME));
    std::fs::write(&file, input).unwrap();
    let script = support::root().join("tests/independent/plain.py");
    let sandbox = Sandbox::new(&wasm, &folder);
    let mut least = [f64::MAX; 3];
    for round in 0..ROUNDS {
        let began = Instant::now();
        let native = support::natively::<J>(&folder, &parsed).result.unwrap();
        let natively = began.elapsed().as_secs_f64();
        let ran = sandbox.run(&parsed, false);
        assert_eq!(native, ran.result);
        let output =
            std::process::Command::new("python3").arg(&script).arg(&folder).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let plain: Value = String::from_utf8_lossy(&output.stdout).parse().unwrap();
        same(&native, &plain["figures"]);
        let times = [natively, ran.total.as_secs_f64(), plain["seconds"].as_f64().unwrap()];
        println!(
            "round {round}: native {:.3} s, sandbox {:.3} s, Python {:.3} s",
            times[0], times[1], times[2]
        );
        for (least, time) in least.iter_mut().zip(times) {
            *least = least.min(time);
        }
    }
    let [native, sandboxed, plain] = least;
    println!("sandbox / native {:.2}, Python / sandbox {:.2}", sandboxed / native, plain / sandboxed);
}

fn context(committed_steps: u64) -> JobContext {
    JobContext {
        job_id: "job".to_owned(),
        correlation_id: String::new(),
        attempt: 1,
        run: 1,
        committed_steps,
        soft_limit: None,
        metadata: "{}".to_owned(),
        children: Vec::new(),
        signals: std::collections::HashMap::new(),
        shadow: false,
        calls: None,
        yield_flag: std::sync::Arc::default(),
        logs: Box::new(|line| println!("{line:?}")),
        child_id: Box::new(|step, index| format!("child-{step}-{index}")),
    }
}
