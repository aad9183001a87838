//! Samples equal to those that pandas draws by the same rules.

#[path = "../../support/mod.rs"]
mod support;

#[test]
fn samples_equal_those_of_an_independent_computation() {
    support::compare::<intelligent_sampling::Sampling>(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inputs"));
}
