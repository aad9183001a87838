//! Everything Waymark says to Wasmtime: compiling plugins, running them, and keeping them within their limits.
//!
//! The modules in the order a plugin meets them:
//!
//! * [`compile`]: a `.wasm` file becomes checked, compiled code in a private cache; [`child`] does so in a process
//!   with limits of its own.
//! * [`engine`]: Wasmtime's settings, the allocator, the clock that interrupts guests.
//! * [`plugin`]: compiled code is loaded, its imports are checked against what was granted.
//! * [`instance`]: one job in one fresh instance: `start` or `restore`, `step`, `checkpoint`.
//! * `services` makes ready what an operator configured, [`secrets`] included; each capability is a module of its own:
//!   [`http`], [`keyvalue`], [`llm`], [`scratch`], [`sql`]; `wasi:config` is in `services`.
//! * [`calls`] tells of calls that leave the sandbox; [`bounded`] reads answers to those of the host.
//! * `turns` says who runs next when guests compute for long.
//! * `state` holds what the host functions of the contract need, `log` and `wasi` the rest of what a guest can
//!   reach, `meter` counts its memory, [`limits`] names every bound.
//! * [`fault`] says what went wrong and whose fault it was.
//!
//! This crate knows nothing of the store, of HTTP or of plugin directories.

mod bindings;
pub mod bounded;
pub mod calls;
pub mod child;
pub mod compile;
mod descriptor;
pub mod engine;
mod error;
pub mod fault;
pub mod http;
pub mod instance;
pub mod keyvalue;
pub mod limits;
pub mod llm;
mod log;
mod meter;
pub mod plugin;
pub mod scratch;
pub mod secrets;
mod services;
pub mod sql;
mod state;
mod turns;
mod wasi;

pub use child::{compile_in_child, compile_main};
pub use compile::{Compiled, compile_file, imports};
pub use descriptor::Descriptor;
pub use engine::{Engine, EngineOptions};
pub use error::LoadError;
pub use fault::Fault;
pub use instance::{Instance, Outcome, Snapshot};
pub use limits::{FileGrant, Grants, Limits};
pub use log::{Level, LogLine, LogSink};
pub use plugin::Plugin;
pub use services::{Error as OfferError, Offer, Setting};
pub use state::{Effects, JobContext, Spawn};
