//! The domain of Waymark: identifiers, states, what a job is made of, and the rules between them.
//!
//! No I/O and no clock of its own: time is always passed in, in milliseconds since the Unix epoch
//! as the store's server tells it. The modules in the order a job meets them:
//!
//! * [`id`]: job identifiers, which carry their creation time and their partition.
//! * [`state`]: the states, the controls, and which control is legal in which state.
//! * [`record`]: the immutable [`record::Spec`] and the mutable [`record::Record`] of a job.
//! * [`redact`]: what people are not shown of a job.
//! * [`flow`]: limits of a queue and its flow keys.
//! * [`bucket`]: values that a job type remembers beyond its jobs.
//! * [`llm`]: requests to language models, as limits and budgets see them.
//! * [`retry`]: failures, the retry policy and its back-off.
//! * [`fingerprint`]: what failures have in common.
//! * [`route`]: which version of a job type, or who else, runs a job; canaries and their guards.
//! * [`workflow`]: graphs of jobs, and what to start next.
//! * [`schedule`]: at which times jobs are made.
//! * [`scale`]: how many slots there should be.
//! * [`trace`]: where in a distributed trace a job stands.

pub mod bucket;
pub mod fingerprint;
pub mod flow;
pub mod id;
pub mod llm;
pub mod record;
pub mod redact;
pub mod retry;
pub mod route;
pub mod scale;
pub mod schedule;
pub mod state;
pub mod trace;
pub mod workflow;

pub use fingerprint::Fingerprint;
pub use id::JobId;
pub use record::{FailedAttempt, Firing, JobError, Past, Progress, Record, SentTask, Spec, Webhook};
pub use retry::{Backoff, Failure, RetryPolicy};
pub use schedule::Schedule;
pub use state::{Control, State};
pub use trace::Trace;
