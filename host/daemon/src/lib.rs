//! The Waymark host: one binary that is daemon, worker and client.
//!
//! A *control process* serves the API, watches the plugin directory and supervises *worker processes*, which
//! claim, run and commit jobs. They share nothing but the store and the cache of compiled plugins, so a crash of
//! one costs no other job. In the order a job meets them:
//!
//! * [`config`]: every setting, its default and its unit.
//! * [`directory`]: files in a folder become job types. [`signature`]: which of them. [`sharing`]: on all hosts.
//!   [`swap`]: can a new version go on with what is running?
//! * [`api`]: the HTTP control API. `dashboard`: pages for people. [`history`]: what the last two days were like.
//! * [`host`]: the control process. [`embedded`]: its private Redis.
//! * `redaction`: what people are not shown of jobs.
//! * `routes`: which version, or who else, runs a type; canaries.
//! * [`celery`]: Celery's messages become jobs, their callers are told.
//! * [`scheduler`]: schedules, and what is done once for all hosts.
//! * [`worker`]: claim, run, commit. [`load`]: how busy the machine is. [`scale`]: what really waits.
//! * [`metrics`], [`telemetry`], [`traces`]: what operators see.
//! * `task`: tasks of the runtime.
//! * [`program`]: the command line of the binary. [`cli`], [`bench`]: its client side.

pub mod api;
pub mod bench;
pub mod celery;
pub mod cli;
pub mod config;
mod dashboard;
pub mod directory;
pub mod embedded;
pub mod history;
pub mod host;
pub mod load;
pub mod metrics;
pub mod program;
mod redaction;
mod routes;
pub mod scale;
pub mod scheduler;
pub mod sharing;
pub mod signature;
pub mod swap;
mod task;
pub mod telemetry;
pub mod traces;
pub mod worker;
