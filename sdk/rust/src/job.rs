//! What an author writes: the [`Job`] trait, and the words in which a step answers.

use std::fmt::Display;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::Context;

/// A job type: a struct that holds everything needed to go on with one job.
///
/// The struct is the checkpoint. It is written as JSON, so that operators can read how far a job is; a
/// field marked `#[serde(skip)]` is empty after a restore and can be filled again in [`Job::restored`].
/// Floating point fields must be finite: JSON has no other numbers.
pub trait Job: Serialize + DeserializeOwned {
    /// What a caller sends. Add `#[serde(deny_unknown_fields)]`, so that a misspelt field is refused.
    type Input: DeserializeOwned + JsonSchema;
    /// What the job answers in the end.
    type Output: Serialize + JsonSchema;

    /// Name of the job type: 1 to 64 of a-z, 0-9, `_` and `-`.
    const NAME: &'static str;
    /// Semantic version of the plugin, mostly `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// One or two sentences for a person who chooses a job type.
    const DESCRIPTION: &'static str = "";
    /// Version of the struct's shape. Raise it when an older checkpoint no longer fits.
    const STATE_VERSION: u32 = 1;
    /// Oldest shape that [`Job::migrate`] still understands.
    const OLDEST_STATE_VERSION: u32 = Self::STATE_VERSION;
    /// Capabilities that the job can do without, by package, such as `waymark:llm`. Without the operator's grant the
    /// plugin is loaded all the same, and calls fail with an error that `is_absent`. What is imported and not named here
    /// must be granted.
    const OPTIONAL_IMPORTS: &'static [&'static str] = &[];

    /// Begins a job. Long work does not belong here but into [`Job::step`].
    ///
    /// # Errors
    /// Whatever the job itself cannot go on with; an input that does not parse never arrives here.
    fn start(input: Self::Input, context: &mut Context) -> Result<Self, Failure>;

    /// Does a bounded piece of work, some 10 to 500 ms. Must do the same again when it is run again from
    /// the same struct.
    ///
    /// # Errors
    /// A failed step leaves no trace: what it emitted is dropped, and a retry starts from the last commit.
    fn step(&mut self, context: &mut Context) -> Result<Step<Self::Output>, Failure>;

    /// Rewrites the JSON of an older checkpoint to the present shape. Called with each version between
    /// [`Job::OLDEST_STATE_VERSION`] and the one before [`Job::STATE_VERSION`], one at a time: `from` to
    /// `from + 1`.
    ///
    /// # Errors
    /// By default all: without this hook only the present version is read.
    fn migrate(from: u32, state: Value) -> Result<Value, Failure> {
        let _ = state;
        Err(Failure::permanent(format!("{} cannot read a checkpoint of state version {from}", Self::NAME)))
    }

    /// Called once after a checkpoint was read, before the next step: the place to fill skipped fields.
    ///
    /// # Errors
    /// As for [`Job::step`].
    fn restored(&mut self, context: &mut Context) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }
}

/// How far a job is, in units of its own choosing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Units finished. Never goes back.
    pub current: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// One line for a person.
    pub message: Option<String>,
}

impl Progress {
    /// `current` units of `total`; `None` where the total is not known.
    pub fn new(current: u64, total: impl Into<Option<u64>>) -> Self {
        Self { current, total: total.into(), message: None }
    }

    /// The same with a line for a person.
    #[must_use]
    pub fn saying(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }
}

/// What a step answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<O> {
    /// More work remains.
    Progress(Progress),
    /// The job is done; its result.
    Done(O),
    /// Park the job for this long (whole milliseconds), holding no slot and no memory.
    Sleep(Duration),
    /// Park the job until every job it spawned has ended; see [`Context::children`].
    AwaitChildren,
    /// Park the job until a signal of this name has arrived or the time is over; see [`Context::signal`].
    AwaitSignal {
        /// 1 to 64 of a-z, 0-9, `_` and `-`.
        name: String,
        /// Go on without it after this long; `None` waits for ever.
        timeout: Option<Duration>,
    },
}

impl<O> Step<O> {
    /// More work remains: `current` units of `total` are done.
    pub fn progress(current: u64, total: impl Into<Option<u64>>) -> Self {
        Self::Progress(Progress::new(current, total))
    }
}

/// Why a job could not go on. The kind, not the author, decides what the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// May succeed later: retried from the last commit under the job's retry policy.
    Transient(String),
    /// The other side said when to come back.
    RetryAfter(Duration, String),
    /// Never going to succeed: the job fails now.
    Permanent(String),
    /// The input does not fit: the job fails now, and the caller is told why.
    InvalidInput(String),
}

impl Failure {
    /// May succeed later.
    pub fn transient(message: impl Display) -> Self {
        Self::Transient(message.to_string())
    }

    /// The other side said when to come back.
    pub fn retry_after(delay: Duration, message: impl Display) -> Self {
        Self::RetryAfter(delay, message.to_string())
    }

    /// Never going to succeed.
    pub fn permanent(message: impl Display) -> Self {
        Self::Permanent(message.to_string())
    }

    /// The input does not fit.
    pub fn invalid_input(message: impl Display) -> Self {
        Self::InvalidInput(message.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transient(message) => write!(formatter, "transient: {message}"),
            Self::RetryAfter(delay, message) => write!(formatter, "retry after {delay:?}: {message}"),
            Self::Permanent(message) => write!(formatter, "permanent: {message}"),
            Self::InvalidInput(message) => write!(formatter, "invalid input: {message}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns any error into a [`Failure`] of a chosen kind, so that `?` can be used in a step.
pub trait OrFailure<T> {
    /// The error may go away: retried.
    ///
    /// # Errors
    /// The same error as [`Failure::Transient`], with `doing` before it.
    fn or_transient(self, doing: &str) -> Result<T, Failure>;
    /// The error will stay: the job fails.
    ///
    /// # Errors
    /// The same error as [`Failure::Permanent`], with `doing` before it.
    fn or_permanent(self, doing: &str) -> Result<T, Failure>;
    /// The caller's fault.
    ///
    /// # Errors
    /// The same error as [`Failure::InvalidInput`], with `doing` before it.
    fn or_invalid_input(self, doing: &str) -> Result<T, Failure>;
}

impl<T, E: Display> OrFailure<T> for Result<T, E> {
    fn or_transient(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::transient(format_args!("{doing}: {error}")))
    }

    fn or_permanent(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::permanent(format_args!("{doing}: {error}")))
    }

    fn or_invalid_input(self, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::invalid_input(format_args!("{doing}: {error}")))
    }
}
