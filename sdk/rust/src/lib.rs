//! Job types for [Waymark](https://github.com/waymark-rs/waymark), in Rust.
//!
//! A job type is a serialisable struct with two functions: [`Job::start`] makes it from the input, and
//! [`Job::step`] does a bounded piece of the work and says how far it is. Between two steps the host may
//! save the struct, throw the instance away, and go on from the saved one later, on another machine. What
//! is not in the struct is lost then; everything else is taken care of here.
//!
//! ```
//! use waymark_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Mean { #[serde(flatten)] numbers: Items<f64>, sum: f64 }
//!
//! impl Job for Mean {
//!     type Input = Vec<f64>;
//!     type Output = f64;
//!     const NAME: &str = "mean";
//!     const VERSION: &str = "0.1.0";
//!     fn start(input: Vec<f64>, _: &mut Context) -> Result<Self, Failure> {
//!         Ok(Self { numbers: Items::new(input), sum: 0.0 })
//!     }
//!     fn step(&mut self, context: &mut Context) -> Result<Step<f64>, Failure> {
//!         let more = self.numbers.each(context, |number, _| Ok(self.sum += number))?;
//!         Ok(more.unwrap_or_else(|| Step::Done(self.sum / self.numbers.total() as f64)))
//!     }
//! }
//! waymark_sdk::export!(Mean);
//! # fn main() {
//! # let run = waymark_sdk::testing::run_restoring_every_step::<Mean>(&[1.0, 2.0, 6.0]);
//! # assert_eq!(run.result.unwrap(), 3.0);
//! # }
//! ```
//!
//! In the order in which a job meets them: [`job`] (the trait, steps, failures), [`context`] (all that the
//! host offers to a running step), [`items`] (work on a list or a stream in batches), `files` (granted
//! files, with the feature of that name), `http`, `llm` and `sql` (requests, language models and databases, likewise),
//! `keyvalue` and `config` (values beyond a job, and what the operator says), [`guest`] (the exports, written by [`export!`]) and [`testing`]
//! (a host for `cargo test`).
//!
//! Nothing here reads a clock or draws random numbers: a step that runs again after a crash must do the
//! same again. A seed belongs in the input.

#[cfg(feature = "config")]
pub mod config;
pub mod context;
#[cfg(feature = "files")]
pub mod files;
pub mod guest;
#[cfg(feature = "http")]
pub mod http;
pub mod items;
pub mod job;
#[cfg(feature = "keyvalue")]
pub mod keyvalue;
#[cfg(feature = "llm")]
pub mod llm;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "task",
        pub_export_macro: true,
        export_macro_name: "export_task",
        default_bindings_module: "waymark_sdk::bindings",
    });
}

pub use context::{Child, Context, JobContext, Level};
pub use items::{Cursor, Items};
pub use job::{Failure, Job, OrFailure, Progress, Step};

pub use serde_json;

/// What a job type's file needs, in one line.
pub mod prelude {
    pub use crate::{Context, Cursor, Failure, Items, Job, Level, OrFailure, Progress, Step};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
}

/// Makes a [`Job`] the job type of this crate's `.wasm` file. Used once, in the crate's root.
///
/// On wasm32 it writes the exports of the world `waymark:task/task`; on other targets nothing, so that the
/// same crate is tested natively.
#[macro_export]
macro_rules! export {
    ($job:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static SLOT: $crate::guest::Slot<$job> = const { $crate::guest::Slot::new() };
            }

            struct Exports;

            impl $crate::bindings::exports::waymark::task::lifecycle::Guest for Exports {
                fn describe() -> $crate::bindings::waymark::task::types::Descriptor {
                    $crate::guest::describe::<$job>()
                }
                fn start(input: String) -> Result<(), $crate::bindings::waymark::task::types::Failure> {
                    SLOT.with(|slot| $crate::guest::start(slot, &input))
                }
                fn step() -> Result<
                    $crate::bindings::waymark::task::types::Outcome,
                    $crate::bindings::waymark::task::types::Failure,
                > {
                    SLOT.with($crate::guest::step)
                }
                fn checkpoint() -> Result<
                    $crate::bindings::waymark::task::types::Snapshot,
                    $crate::bindings::waymark::task::types::Failure,
                > {
                    SLOT.with($crate::guest::checkpoint)
                }
                fn restore(
                    snapshot: $crate::bindings::waymark::task::types::Snapshot,
                ) -> Result<(), $crate::bindings::waymark::task::types::Failure> {
                    SLOT.with(|slot| $crate::guest::restore(slot, snapshot))
                }
            }

    $crate::bindings::export_task!(Exports with_types_in $crate::bindings);
        };
    };
}
