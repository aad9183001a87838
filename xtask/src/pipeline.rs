//! A whole test cycle on the shipped mortgage data: the workflow of `plugins/pipeline`, with recorded answers of a language model.

use crate::{
    demo::{self, Host},
    prepare, root, target,
};
use anyhow::Context as _;
use serde_json::Value;
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// Longest wait for the workflow.
const PATIENCE: Duration = Duration::from_secs(120);
/// Job types of the workflow.
const TYPES: [&str; 7] = [
    "auto_map_pdes",
    "execute_profiling_rules",
    "execute_tests",
    "generate_profiling_rules",
    "generate_recommendations",
    "generate_test_attributes",
    "intelligent_sampling",
];

/// Runs the workflow.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = target().join("pipeline");
    demo::make(&folder, &prepare()?, &TYPES)?;
    let own = root().join("plugins/pipeline");
    fs::copy(own.join("waymark.toml"), folder.join("waymark.toml"))?;
    let workflow: Value = serde_json::from_str(&fs::read_to_string(own.join("workflow.json"))?)?;

    let host = Host::start(&folder)?;
    println!("\nA host with {} job types: {}", TYPES.len(), host.url);
    let id = host.post("/api/v1/workflows", &workflow)?;
    let id = id["id"].as_str().context("the workflow has no id")?.to_owned();
    println!("Workflow {id}: {}\n", workflow["name"].as_str().unwrap_or_default());
    let (began, mut told) = (Instant::now(), Vec::new());
    let job = loop {
        let shown = host.get(&format!("/api/v1/workflows/{id}"))?;
        for node in shown["nodes"].as_array().into_iter().flatten() {
            let name = node["name"].as_str().unwrap_or_default().to_owned();
            let ended =
                matches!(node["state"].as_str(), Some("succeeded" | "failed" | "cancelled" | "skipped"));
            if ended && !told.contains(&name) {
                let (state, kind) =
                    (node["state"].as_str().unwrap_or("?"), node["type"].as_str().unwrap_or("?"));
                println!("  {name:<12} {kind:<26} {state}");
                told.push(name);
            }
        }
        if shown["job"]["ended_at"].is_string() {
            break shown["job"].clone();
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "the workflow does not end: {shown}");
        sleep(Duration::from_millis(50));
    };
    anyhow::ensure!(job["status"] == "succeeded", "the workflow did not succeed: {job}");
    println!(
        "\nResult, after {:.1} s:\n{}",
        began.elapsed().as_secs_f64(),
        serde_json::to_string_pretty(&job["result"])?
    );
    host.stop()?;
    println!("\nTo try it yourself, in the folder of the repository:");
    println!(
        "  target/quick/waymark host --config plugins/pipeline/waymark.toml --plugins target/pipeline/plugins --data target/pipeline/data"
    );
    println!("  target/quick/waymark workflow submit plugins/pipeline/workflow.json");
    Ok(())
}
