//! How long the rules take on 336,776 flights: natively, in the sandbox, in plain Python. On demand, on a quiet machine:
//! `cargo test --release -p execute_profiling_rules --test speed -- --ignored --nocapture`.

#[path = "../../support/sandbox.rs"]
mod sandbox;
#[path = "../../support/mod.rs"]
mod support;

use execute_profiling_rules::Profiling;
use waymark_sdk::prelude::*;

#[test]
#[ignore = "it measures"]
fn rules_on_all_flights() {
    let mut input: Value = include_str!("inputs/flights_rules.json").parse().unwrap();
    // Python computes no profile.
    input["profile"] = json!(false);
    sandbox::speed::<Profiling>(&input.to_string(), |result, figures| {
        for rule in result["results"].as_array().unwrap() {
            let id = rule["id"].as_str().unwrap();
            if figures[id].is_array() {
                assert_eq!(json!([rule["rows_passed"], rule["rows_failed"]]), figures[id], "{id}");
            }
        }
    });
}
