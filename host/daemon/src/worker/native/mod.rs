//! Job types that the worker runs by itself, without a sandbox.
//!
//! Their names begin with `waymark.`, which no plugin's can: a plugin's name has no dot. They live on the same claims
//! and commits as any other job: they are paused, moved, retried and taken back like jobs of plugins, and their
//! limits and retries are set under `[plugins."waymark.…"]`. What differs: each of their steps is committed, and
//! children that they spawn are not listed in their record.
//!
//! A new one is a file here that implements [`Native`], a name in [`TYPES`] and an arm in [`run`].

mod call;
mod echo;
mod webhook;
mod workflow;

pub(crate) use workflow::{GRAPH_BYTES_MAX, NAME as WORKFLOW};

pub(super) use workflow::Graphs;

use super::{
    run::{Effects, Instance, Job, Next, Stop},
    shared::Shared,
};
use std::{sync::Arc, time::Duration};
use waymark_job::{JobId, Record, Spec, Trace};
use waymark_sandbox::{Fault, calls::Calls};
use waymark_store::{Error, NewCheckpoint};

/// Every one of them. A worker serves them all, whatever plugins it has.
pub(super) const TYPES: [&str; 3] = [echo::NAME, webhook::NAME, workflow::NAME];
/// What no plugin's name begins with.
const PREFIX: &str = "waymark.";

/// Is this a job type that workers run by themselves?
pub(crate) fn is_native(job_type: &str) -> bool {
    job_type.starts_with(PREFIX)
}

/// May anybody make such jobs? Others are made by the host on somebody's behalf.
pub(crate) fn is_open(job_type: &str) -> bool {
    job_type == echo::NAME
}

/// What a job must know of itself and of its worker.
pub(super) struct Context<'a> {
    pub(super) id: JobId,
    pub(super) spec: Arc<Spec>,
    /// As it was when the worker took the job.
    pub(super) record: Record,
    pub(super) shared: &'a Shared,
    /// What jobs that it makes are told of the trace.
    pub(super) trace: Option<Trace>,
    /// Who is told of calls to others.
    pub(super) calls: Option<Arc<dyn Calls>>,
}

/// How long a job waits before it asks a store again that is away.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Context<'_> {
    /// Asks the store until it answers: a store that is away costs no attempt. Cancel-safe.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Fault> {
        patiently(&self.id, ask).await
    }
}

/// The same for a job that is not this module's.
pub(super) async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    id: &JobId,
    ask: impl Fn() -> F,
) -> Result<T, Fault> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_passing() => {
                tracing::warn!(job_id = %id, %error, "the store does not answer");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(Fault::Host(error.to_string())),
        }
    }
}

/// A job type in Rust. One value runs one job until it leaves the worker.
pub(super) trait Native: Sized {
    /// At the beginning (no state), or from the last checkpoint.
    fn begin(context: &Context<'_>, state: Option<&[u8]>) -> Result<Self, Fault>;

    /// A bounded piece of work. It may be dropped at any await, when the job is taken away or its time is over; what
    /// it did outside is then repeated. Failures carry their kind, as those of plugins do.
    async fn step(&mut self, context: &Context<'_>) -> Result<Next, Fault>;

    /// The state after the last step, JSON.
    fn checkpoint(&self) -> Vec<u8>;

    /// What takes effect with the commit of the last step; it is handed over once. By default nothing.
    fn take_effects(&mut self) -> Effects {
        Effects::default()
    }
}

/// Runs a job of one of [`TYPES`].
pub(super) async fn run(job: &mut Job<'_>) -> Result<(), Stop> {
    match job.spec.job_type.as_str() {
        echo::NAME => drive::<echo::Echo>(job).await,
        webhook::NAME => drive::<webhook::Delivering>(job).await,
        workflow::NAME => drive::<workflow::Workflow>(job).await,
        // A newer host's: this worker did not ask for it.
        _ => Err(Stop::Release(None)),
    }
}

/// Runs a job whose route sends it to an endpoint.
pub(super) async fn call(job: &mut Job<'_>) -> Result<(), Stop> {
    drive::<call::Calling>(job).await
}

async fn drive<N: Native>(job: &mut Job<'_>) -> Result<(), Stop> {
    job.set_policy(Arc::new(job.shared.config.policy(&job.spec.job_type)));
    let state =
        if job.base.step == 0 { None } else { Some(job.load().await?.checkpoint.ok_or(Stop::Expired)?) };
    let context = Context {
        id: job.id,
        spec: job.spec.clone(),
        record: job.base.clone(),
        shared: job.shared,
        trace: job.trace.handed_on().cloned(),
        calls: job.trace.calls(),
    };
    let native = N::begin(&context, state.as_ref().map(|checkpoint| checkpoint.state.as_slice()));
    job.work(Running { native: native.map_err(Stop::Fault)?, context }).await
}

/// A native job as the worker's loop sees it.
struct Running<'a, N> {
    native: N,
    context: Context<'a>,
}

impl<N: Native> Instance for Running<'_, N> {
    async fn step(&mut self) -> Result<Next, Fault> {
        self.native.step(&self.context).await
    }

    async fn checkpoint(&mut self) -> Result<NewCheckpoint, Fault> {
        Ok(NewCheckpoint {
            mime_type: "application/json".to_owned(),
            state_version: 1,
            state: self.native.checkpoint(),
            plugin_version: env!("CARGO_PKG_VERSION").to_owned(),
            plugin_digest: String::new(),
        })
    }

    fn take_effects(&mut self) -> Effects {
        self.native.take_effects()
    }

    fn wants_commit(&self) -> bool {
        true
    }

    fn ended_step(&mut self, _: u64) {}
}
