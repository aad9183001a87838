//! Figures equal to those of pandas.

#[path = "../../support/mod.rs"]
mod support;

#[test]
fn figures_equal_those_of_an_independent_computation() {
    let inputs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inputs");
    support::compare::<execute_profiling_rules::Profiling>(inputs);
}
