//! What went wrong in a call into a guest, and whose fault it was.

use crate::{meter::BudgetUsedUp, state::State};
use std::fmt::Write;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use waymark_job::Failure;

/// Why a call into a guest did not return a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The guest said so.
    Failure(Failure),
    /// The guest broke a rule; the instance is dead.
    Trap {
        /// Stable code:
        ///
        /// * `guest-trap`: a trap of the guest's own making, such as a panic.
        /// * `guest-exit`: the guest ended itself.
        /// * `out-of-memory`: it needed more than its limit.
        /// * `stack-overflow`: its calls nested too deep.
        /// * `step-timeout`: one call took longer than its hard limit.
        /// * `oversized`: a result, checkpoint, output record, message or input beyond its limit.
        /// * `bad-value`: a value that the contract does not allow, such as a result that is not JSON.
        kind: &'static str,
        /// One sentence.
        message: String,
        /// Where the guest was, innermost call first, one a line.
        trace: Option<String>,
    },
    /// The host has no memory or no place left now: try again later. Not the job's fault.
    Busy,
    /// The host could not do its part.
    Host(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failure(Failure::Transient(message)) => write!(f, "transient failure: {message}"),
            Self::Failure(Failure::RetryAfter(ms, message)) => write!(f, "retry after {ms} ms: {message}"),
            Self::Failure(Failure::Permanent(message)) => write!(f, "permanent failure: {message}"),
            Self::Failure(Failure::InvalidInput(message)) => write!(f, "invalid input: {message}"),
            Self::Trap { kind, message, .. } => write!(f, "{kind}: {message}"),
            Self::Busy => f.write_str("the host has no memory or no place left now"),
            Self::Host(message) => write!(f, "host error: {message}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Ends a guest from within a host function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the call took longer than {0} ms")]
    Timeout(u64),
    #[error("{0}")]
    Oversized(String),
    #[error("{0}")]
    BadValue(String),
}

impl Stop {
    /// A value beyond its limit; `setting` is what an operator raises.
    pub(crate) fn oversized(what: &str, bytes: u64, limit: u64, setting: &str) -> Self {
        Self::Oversized(format!(
            "{what}: {bytes} bytes are more than the limit of {limit} (setting {setting})"
        ))
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "step-timeout",
            Self::Oversized(_) => "oversized",
            Self::BadValue(_) => "bad-value",
        }
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::Trap { kind: stop.kind(), message: stop.to_string(), trace: None }
    }
}

/// Frames shown of a back-trace; a stack overflow has thousands.
pub(crate) const FRAMES_MAX: usize = 32;
/// Longest name shown, in characters: names are the guest's.
const NAME_CHARS_MAX: usize = 200;
const MESSAGE_CHARS_MAX: usize = 2_000;
/// Wasmtime 48 keeps the type of this error to itself; a test watches the words.
const FUEL_WORDS: &str = "fuel allocated for hostcalls has been exhausted";

impl Fault {
    /// Sorts the error of a call into a guest.
    pub(crate) fn of_call(error: &wasmtime::Error, state: &State) -> Self {
        if error.is::<BudgetUsedUp>() || error.is::<PoolConcurrencyLimitError>() {
            return Self::Busy;
        }
        let trace = error.downcast_ref::<WasmBacktrace>().and_then(trace);
        let traced = trace.is_some();
        let trap = |kind, message: String| Self::Trap { kind, message, trace };
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return trap(stop.kind(), stop.to_string());
        }
        if state.meter.refused {
            let limit = state.meter.limit();
            return trap(
                "out-of-memory",
                format!("the job needed more memory than its limit of {limit} bytes"),
            );
        }
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            return trap("guest-exit", format!("the guest ended itself with exit code {code}"));
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => {
                return trap("stack-overflow", "the guest's calls nested too deep".into());
            }
            Some(reason) => {
                let reason = reason.to_string();
                return trap("guest-trap", reason.strip_prefix("wasm trap: ").unwrap_or(&reason).to_owned());
            }
            None => {}
        }
        let root = shorten(&error.root_cause().to_string(), MESSAGE_CHARS_MAX);
        if root.contains(FUEL_WORDS) {
            return trap("oversized", "a value was larger than any limit of the job allows".into());
        }
        if error.is::<std::io::Error>() && !traced {
            return Self::Host(root);
        }
        trap("guest-trap", root)
    }
}

fn shorten(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn trace(backtrace: &WasmBacktrace) -> Option<String> {
    let mut text = String::new();
    for frame in backtrace.frames().iter().take(FRAMES_MAX) {
        let name = match frame.func_name() {
            Some(name) => shorten(&demangled(name), NAME_CHARS_MAX),
            None => format!("function {}", frame.func_index()),
        };
        let at = frame.func_offset().map(|offset| format!(" + {offset:#x}")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{at}");
    }
    (!text.is_empty()).then(|| text.trim_end().to_owned())
}

/// Rust's legacy and v0 manglings, without the hash.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
