//! The shipped `.wasm` file on all flights: the native result, within 64 MiB, from a fresh instance after every
//! step.

#[path = "../../support/sandbox.rs"]
mod sandbox;
#[path = "../../support/mod.rs"]
mod support;

use waymark_sdk::prelude::Value;

#[test]
fn all_flights_fit_into_64_mib_and_survive_a_crash_after_every_step() {
    let Some(wasm) = support::wasm("intelligent_sampling") else { return };
    let Some(python) = support::python() else { return };
    let folder = support::tables(&python);
    let input: Value = include_str!("inputs/flights_strata.json").parse().unwrap();
    let native = support::natively::<intelligent_sampling::Sampling>(&folder, &input);
    let sandbox = sandbox::Sandbox::new(&wasm, &folder);
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
