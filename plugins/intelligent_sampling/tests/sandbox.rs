//! The shipped `.wasm` file on all flights: the native result, within 64 MiB, from a fresh instance after every
//! step.

#[path = "../../support/sandbox.rs"]
mod sandbox;
#[path = "../../support/mod.rs"]
mod support;

#[test]
fn all_flights_fit_into_64_mib_and_survive_a_crash_after_every_step() {
    sandbox::on_all_flights::<intelligent_sampling::Sampling>(include_str!("inputs/flights_strata.json"));
}
