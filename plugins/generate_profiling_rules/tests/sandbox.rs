//! The shipped `.wasm` file on its sample input: the native result, from a fresh instance after every step.

#[path = "../../support/sandbox.rs"]
mod sandbox;
#[path = "../../support/mod.rs"]
mod support;

#[test]
fn the_sample_comes_to_the_native_result_and_survives_a_crash_after_every_step() {
    sandbox::on_the_shipped_data::<generate_profiling_rules::Generating>(include_str!("../input.json"));
}
