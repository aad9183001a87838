//! The job type `execute_profiling_rules`: [`waymark_rules`] as a `.wasm` file.

pub use waymark_rules::Profiling;

waymark_sdk::export!(Profiling);
