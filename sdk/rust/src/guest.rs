//! The five exports in terms of a [`Job`]. Authors do not call these: [`export!`](crate::export) does on
//! wasm32, and [`testing`](crate::testing) elsewhere.

use serde_json::Value;

use crate::{Failure, Job, OrFailure};

/// Media type of every checkpoint that the SDK writes.
pub const STATE_MIME_TYPE: &str = "application/json";

/// JSON Schema (draft 2020-12) of `T`.
pub fn schema<T: schemars::JsonSchema>() -> String {
    schemars::schema_for!(T).as_value().to_string()
}

/// Annotation of the input schema in which a plugin says which imports it can do without.
const OPTIONAL_IMPORTS: &str = "x-waymark-optional-imports";

/// JSON Schema of the input of `J`, with what the host is to know besides.
pub fn input_schema<J: Job>() -> String {
    let mut schema = schemars::schema_for!(J::Input);
    if !J::OPTIONAL_IMPORTS.is_empty() {
        schema.insert(OPTIONAL_IMPORTS.to_owned(), J::OPTIONAL_IMPORTS.into());
    }
    schema.as_value().to_string()
}

/// Reads a caller's input.
///
/// # Errors
/// `InvalidInput`, naming the field that is wrong.
pub fn parse_input<J: Job>(input: &str) -> Result<J::Input, Failure> {
    let mut reader = serde_json::Deserializer::from_str(input);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match path.as_str() {
            "." | "?" => Failure::invalid_input(inner),
            path => Failure::invalid_input(format_args!("{path}: {inner}")),
        }
    })?;
    reader.end().or_invalid_input("after the end of the input")?;
    Ok(parsed)
}

/// Writes a job as the bytes of a checkpoint.
///
/// # Errors
/// `Permanent` when the struct cannot be written as JSON.
pub fn encode<J: Job>(job: &J) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(job).or_permanent("writing the checkpoint")
}

/// Reads a checkpoint of this or an older version.
///
/// # Errors
/// `Permanent` when its type, version or contents do not fit.
pub fn decode<J: Job>(mime_type: &str, version: u32, state: &[u8]) -> Result<J, Failure> {
    if mime_type != STATE_MIME_TYPE {
        return Err(Failure::permanent(format_args!(
            "the checkpoint is {mime_type}; {} reads {STATE_MIME_TYPE}",
            J::NAME
        )));
    }
    if version == J::STATE_VERSION {
        return serde_json::from_slice(state).or_permanent("reading the checkpoint");
    }
    if version > J::STATE_VERSION || version < J::OLDEST_STATE_VERSION {
        return Err(Failure::permanent(format_args!(
            "the checkpoint has state version {version}; {} {} reads {} to {}",
            J::NAME,
            J::VERSION,
            J::OLDEST_STATE_VERSION,
            J::STATE_VERSION
        )));
    }
    let mut value: Value = serde_json::from_slice(state).or_permanent("reading the checkpoint")?;
    for from in version..J::STATE_VERSION {
        value = J::migrate(from, value)?;
    }
    serde_json::from_value(value).or_permanent("reading the migrated checkpoint")
}

#[cfg(target_arch = "wasm32")]
pub use wasm::{Slot, checkpoint, describe, restore, start, step};

#[cfg(target_arch = "wasm32")]
mod wasm {
    //! The exports' bodies. One instance runs one job, so one slot holds it.

    use std::cell::RefCell;

    use super::{STATE_MIME_TYPE, decode, encode, input_schema, parse_input, schema};
    use crate::bindings::waymark::task::{job as host, types};
    use crate::{Context, Failure, Job, OrFailure, Progress, Step};

    /// Holds the one job of this instance.
    #[derive(Debug)]
    pub struct Slot<J>(RefCell<Option<J>>);

    impl<J> Slot<J> {
        /// Empty: neither started nor restored.
        pub const fn new() -> Self {
            Self(RefCell::new(None))
        }
    }

    impl<J> Default for Slot<J> {
        fn default() -> Self {
            Self::new()
        }
    }

    impl From<Failure> for types::Failure {
        fn from(failure: Failure) -> Self {
            match failure {
                Failure::Transient(message) => Self::Transient(message),
                Failure::RetryAfter(delay, message) => Self::RetryAfter((millis(delay), message)),
                Failure::Permanent(message) => Self::Permanent(message),
                Failure::InvalidInput(message) => Self::InvalidInput(message),
            }
        }
    }

    impl From<Progress> for types::Progress {
        fn from(progress: Progress) -> Self {
            let Progress { current, total, message } = progress;
            Self { current, total, message }
        }
    }

    fn millis(duration: std::time::Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// A panic traps, and a trap carries no text: the log line is where its message survives.
    fn log_panics() {
        std::panic::set_hook(Box::new(|panic| {
            host::log(host::Level::Error, &panic.to_string(), "{}");
        }));
    }

    fn context() -> Context {
        Context { _only_the_sdk_makes_one: () }
    }

    fn not_begun() -> types::Failure {
        types::Failure::Permanent("neither started nor restored".to_owned())
    }

    /// What the plugin says of itself.
    pub fn describe<J: Job>() -> types::Descriptor {
        types::Descriptor {
            name: J::NAME.to_owned(),
            version: J::VERSION.to_owned(),
            description: J::DESCRIPTION.to_owned(),
            input_schema: input_schema::<J>(),
            result_schema: schema::<J::Output>(),
            state_version: J::STATE_VERSION,
            oldest_state_version: J::OLDEST_STATE_VERSION,
        }
    }

    /// Begins a job.
    ///
    /// # Errors
    /// `InvalidInput` for an input that does not parse; whatever the job answers.
    pub fn start<J: Job>(slot: &Slot<J>, input: &str) -> Result<(), types::Failure> {
        log_panics();
        let job = J::start(parse_input::<J>(input)?, &mut context())?;
        slot.0.replace(Some(job));
        Ok(())
    }

    /// One step.
    ///
    /// # Errors
    /// Whatever the job answers; `Permanent` without a job.
    pub fn step<J: Job>(slot: &Slot<J>) -> Result<types::Outcome, types::Failure> {
        let mut job = slot.0.borrow_mut();
        let job = job.as_mut().ok_or_else(not_begun)?;
        Ok(match job.step(&mut context())? {
            Step::Progress(progress) => types::Outcome::Progressed(progress.into()),
            Step::Done(output) => {
                types::Outcome::Completed(serde_json::to_string(&output).or_permanent("writing the result")?)
            }
            Step::Sleep(delay) => types::Outcome::Sleep(millis(delay)),
            Step::AwaitChildren => types::Outcome::AwaitChildren,
            Step::AwaitSignal { name, timeout } => {
                types::Outcome::AwaitSignal(types::SignalWait { name, timeout_ms: timeout.map(millis) })
            }
        })
    }

    /// Writes the job down.
    ///
    /// # Errors
    /// `Permanent` without a job, or when it cannot be written as JSON.
    pub fn checkpoint<J: Job>(slot: &Slot<J>) -> Result<types::Snapshot, types::Failure> {
        let job = slot.0.borrow();
        let state = encode(job.as_ref().ok_or_else(not_begun)?)?;
        Ok(types::Snapshot { mime_type: STATE_MIME_TYPE.to_owned(), state_version: J::STATE_VERSION, state })
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// `Permanent` when the checkpoint does not fit; whatever the job answers.
    pub fn restore<J: Job>(slot: &Slot<J>, snapshot: types::Snapshot) -> Result<(), types::Failure> {
        log_panics();
        let mut job: J = decode(&snapshot.mime_type, snapshot.state_version, &snapshot.state)?;
        drop(snapshot);
        job.restored(&mut context())?;
        slot.0.replace(Some(job));
        Ok(())
    }
}
