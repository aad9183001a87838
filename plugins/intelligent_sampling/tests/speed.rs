//! How long a stratified sample of 336,776 flights takes: natively, in the sandbox, in plain Python. On demand, on a quiet
//! machine: `cargo test --release -p intelligent_sampling --test speed -- --ignored --nocapture`.

#[path = "../../support/sandbox.rs"]
mod sandbox;
#[path = "../../support/mod.rs"]
mod support;

use intelligent_sampling::Sampling;
use waymark_sdk::prelude::*;

#[test]
#[ignore = "it measures"]
fn a_sample_of_all_flights() {
    let mut input: Value = include_str!("inputs/flights_strata.json").parse().unwrap();
    // Python looks for no edges.
    input.as_object_mut().unwrap().remove("edge_cases");
    sandbox::speed::<Sampling>(&input.to_string(), |result, figures| {
        assert_eq!(result["population"]["rows"], figures["rows"]);
        assert_eq!(
            result["sample"].as_array().map(Vec::len),
            figures["drawn"].as_u64().map(|rows| rows as usize)
        );
    });
}
