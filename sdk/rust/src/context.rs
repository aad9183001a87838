//! All that the host offers to a running step.
//!
//! Three words say what a call does to the world outside, as in the contract (`wit/task.wit`):
//! *pure* (nothing), *buffered* (exactly once, with the commit of the step), *immediate* (at once, and
//! again if the step is run again after a crash).

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Failure, OrFailure, Progress};

/// Weight of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What the host knows of the running job.
#[derive(Debug, Clone, Default)]
pub struct JobContext {
    /// Id of the job.
    pub job_id: String,
    /// Id shared by all that belongs together, chosen by the caller.
    pub correlation_id: String,
    /// Attempts so far, this one included; from 1.
    pub attempt: u32,
    /// Commits so far; the number of the running step is one more.
    pub committed_steps: u64,
    /// Milliseconds left before the soft limit, where one is set.
    pub soft_limit_ms: Option<u64>,
    /// What the caller attached to the job.
    pub metadata: Value,
}

/// How a child job ended, in the order of spawning.
#[derive(Debug, Clone, PartialEq)]
pub struct Child<T> {
    /// The id that [`Context::spawn`] returned.
    pub id: String,
    /// The child's result, or one line saying why there is none.
    pub result: Result<T, String>,
}

/// The running step's way to the host. Cheap; lives as long as the call.
#[derive(Debug)]
pub struct Context {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) host: crate::testing::Host,
    #[cfg(target_arch = "wasm32")]
    pub(crate) _only_the_sdk_makes_one: (),
}

impl Context {
    /// What the host knows of the running job. *Pure.*
    pub fn job(&self) -> JobContext {
        self.raw_job()
    }

    /// True when the step should return soon: a pause, cancel or drain was asked, or the soft limit is
    /// reached. Cheap enough to ask once per item. *Pure.*
    pub fn should_yield(&self) -> bool {
        self.raw_should_yield()
    }

    /// The same text whenever the same step of the same job runs again: hand it to a service outside, so
    /// that it can drop repeats. *Pure.*
    pub fn idempotency_key(&self) -> String {
        self.raw_idempotency_key()
    }

    /// Writes a log line with fields (an object, as from `json!`). The host cuts long lines at 8 KiB and
    /// limits the rate. *Immediate.*
    pub fn log(&self, level: Level, message: &str, fields: &Value) {
        let fields = match fields {
            Value::Object(_) => fields.to_string(),
            _ => "{}".to_owned(),
        };
        self.raw_log(level, message, &fields);
    }

    /// [`Context::log`] at level debug, without fields.
    pub fn debug(&self, message: impl AsRef<str>) {
        self.raw_log(Level::Debug, message.as_ref(), "{}");
    }

    /// [`Context::log`] at level info, without fields.
    pub fn info(&self, message: impl AsRef<str>) {
        self.raw_log(Level::Info, message.as_ref(), "{}");
    }

    /// [`Context::log`] at level warn, without fields.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.raw_log(Level::Warn, message.as_ref(), "{}");
    }

    /// [`Context::log`] at level error, without fields.
    pub fn error(&self, message: impl AsRef<str>) {
        self.raw_log(Level::Error, message.as_ref(), "{}");
    }

    /// Appends one record to the job's output stream. *Buffered.*
    ///
    /// # Errors
    /// `Permanent` when the record cannot be written as JSON (a map whose keys are not text).
    pub fn emit<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), Failure> {
        let record = serde_json::to_string(record).or_permanent("writing an output record")?;
        self.raw_emit(record);
        Ok(())
    }

    /// Tells progress from within a long step; a step that returns tells it by its answer. *Buffered.*
    pub fn report(&mut self, progress: Progress) {
        self.raw_report(progress);
    }

    /// Starts a child job and returns its id, which is fixed at once. Answer [`Step::AwaitChildren`] to
    /// wait for it. *Buffered.*
    ///
    /// [`Step::AwaitChildren`]: crate::Step::AwaitChildren
    ///
    /// # Errors
    /// `Permanent` when the input cannot be written as JSON.
    pub fn spawn<T: Serialize + ?Sized>(&mut self, job_type: &str, input: &T) -> Result<String, Failure> {
        let input = serde_json::to_string(input).or_permanent("writing a child's input")?;
        Ok(self.raw_spawn(job_type, input))
    }

    /// The children's results in the order of spawning, once all have ended; empty before. *Pure.*
    ///
    /// # Errors
    /// `Permanent` when a child's result is not a `T`.
    pub fn children<T: DeserializeOwned>(&self) -> Result<Vec<Child<T>>, Failure> {
        self.raw_children()
            .into_iter()
            .map(|(id, result)| {
                let result = match result {
                    Ok(text) => Ok(serde_json::from_str(&text)
                        .or_permanent(&format!("reading the result of child {id}"))?),
                    Err(reason) => Err(reason),
                };
                Ok(Child { id, result })
            })
            .collect()
    }

    /// The payload of the awaited signal, if it has arrived. *Pure.*
    ///
    /// # Errors
    /// `Permanent` when the payload is not a `T`.
    pub fn signal<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.raw_signal(name)
            .map(|text| serde_json::from_str(&text).or_permanent(&format!("reading the signal {name}")))
            .transpose()
    }
}

#[cfg(target_arch = "wasm32")]
mod raw {
    //! The same calls as imports of the component.

    use super::{Context, JobContext, Level};
    use crate::Progress;
    use crate::bindings::waymark::task::job;

    impl Context {
        pub(super) fn raw_job(&self) -> JobContext {
            let context = job::context();
            JobContext {
                job_id: context.job_id,
                correlation_id: context.correlation_id,
                attempt: context.attempt,
                committed_steps: context.committed_steps,
                soft_limit_ms: context.soft_limit_ms,
                metadata: serde_json::from_str(&context.metadata).unwrap_or_default(),
            }
        }

        pub(super) fn raw_should_yield(&self) -> bool {
            job::should_yield()
        }

        pub(super) fn raw_idempotency_key(&self) -> String {
            job::idempotency_key()
        }

        pub(super) fn raw_log(&self, level: Level, message: &str, fields: &str) {
            let level = match level {
                Level::Trace => job::Level::Trace,
                Level::Debug => job::Level::Debug,
                Level::Info => job::Level::Info,
                Level::Warn => job::Level::Warn,
                Level::Error => job::Level::Error,
            };
            job::log(level, message, fields);
        }

        pub(super) fn raw_emit(&mut self, record: String) {
            job::emit(&record);
        }

        pub(super) fn raw_report(&mut self, progress: Progress) {
            job::report(&progress.into());
        }

        pub(super) fn raw_spawn(&mut self, job_type: &str, input: String) -> String {
            job::spawn(job_type, &input)
        }

        pub(super) fn raw_children(&self) -> Vec<(String, Result<String, String>)> {
            job::children()
        }

        pub(super) fn raw_signal(&self, name: &str) -> Option<String> {
            job::signal(name)
        }
    }
}
