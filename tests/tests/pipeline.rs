//! The whole test cycle that `cargo xtask demo --pipeline` shows: the workflow of `plugins/pipeline`, with recorded answers.
//!
//! `UPDATE=1` records the answers of `plugins/pipeline/answers.json` anew, and writes down the result.

use serde_json::{Value, json};
use std::{env, fs, path::PathBuf};
use waymark_tests::{World, client::Client, endpoint::Endpoint, model::Model, root};

const TYPES: [&str; 7] = [
    "auto_map_pdes",
    "execute_profiling_rules",
    "execute_tests",
    "generate_profiling_rules",
    "generate_recommendations",
    "generate_test_attributes",
    "intelligent_sampling",
];

fn own(file: &str) -> PathBuf {
    root().join("plugins/pipeline").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(own(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn json_of(file: &str) -> Value {
    read(file).parse().unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The configuration that is shipped, from wherever a host runs; `more` goes into the provider.
fn config(more: &str) -> String {
    let here = root().display().to_string();
    let text = read("waymark.toml").replace("\"plugins/", &format!("\"{here}/plugins/"));
    text.replace("models.recorded", &format!("{more}\nmodels.recorded"))
}

fn run(host: &Client) -> Value {
    let id = host.post("/api/v1/workflows", &json_of("workflow.json")).expect(201)["id"].clone();
    let job = host.ended(id.as_str().expect("an id"));
    assert_eq!(job["status"], "succeeded", "{job}");
    job["result"].clone()
}

#[test]
fn the_pipeline_comes_to_its_result() {
    if env::var_os("UPDATE").is_some() {
        let model = Model::new(json_of("answers.json"));
        let endpoint = Endpoint::start(move |asked| model.reply(asked));
        fs::remove_dir_all(own("recordings")).ok();
        let world = World::new(&config(&format!("url = \"http://{}/v1\"\ncache_ms = 0", endpoint.address)));
        let result = run(&world.host(&TYPES));
        let text = serde_json::to_string_pretty(&result).expect("JSON");
        fs::write(own("result.json"), format!("{text}\n")).expect("the result is written");
    }
    let world = World::new(&config(""));
    let host = world.host(&TYPES);
    let result = run(&host);
    assert_eq!(result, json_of("result.json"), "UPDATE=1 records answers and result anew");
    let attributes = &json_of("workflow.json")["nodes"]["attributes"]["input"];
    assert_eq!(attributes["text"], json!(read("instructions.md")), "the workflow holds the instructions");
    // Planted: three wrong values, one illegible, two applications of which there is a letter alone.
    let tests = &result["tests"];
    assert_eq!((&tests["failed"], &tests["inconclusive"]), (&json!(3), &json!(1)), "{result}");
    assert!(result["exceptions"].as_array().is_some_and(|cases| cases.len() == 4));
}
