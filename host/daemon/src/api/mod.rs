//! The HTTP API: `/api/v1`, health, metrics.
//!
//! One file per resource, each with its handlers and the shapes of its answers. The rest, in the order a request
//! meets it:
//!
//! * [`server`]: connections and their limits.
//! * [`guard`]: request id, [`auth`], time limit, panics, metrics, problem documents; around every handler.
//! * [`request`]: reading path, query and body, with errors that name the field.
//! * [`submission`]: what a caller asks for becomes a job; [`answer`]: what a job looks like.
//! * [`jobs`], [`batch`], [`replay`], [`bulk`] and [`filter`], [`events`], [`changes`], [`output`], [`checkpoints`], [`plugins`],
//!   [`queues`], [`limits`], [`routes`], [`schedules`], [`hosts`], [`keys`], [`scale`], [`error_groups`], [`health`].
//! * [`celery`]: the Celery front.
//! * [`workflows`]: graphs of jobs.
//! * [`feed`]: one subscription to the store, shared by all who wait for a job; [`tail`]: the same for all who follow
//!   all jobs.
//! * [`openapi`]: the document, generated from the above.
//! * [`sign_in`] and [`oidc`]: sessions of people, by name and password or through a provider.
//! * [`error`]: problem documents and their codes.
//!
//! The API keeps nothing: any host answers for any job, and a caller may change hosts between two calls.

pub mod answer;
pub mod audit;
pub mod auth;
pub mod batch;
pub mod bulk;
pub mod celery;
pub mod changes;
pub mod checkpoints;
pub mod error;
pub mod error_groups;
pub mod events;
pub mod feed;
pub mod filter;
pub mod guard;
pub mod health;
pub mod hosts;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod oidc;
pub mod openapi;
pub mod output;
pub mod password;
pub mod plugins;
pub mod queues;
pub mod replay;
pub mod request;
pub mod routes;
pub mod scale;
pub mod schedules;
pub mod server;
pub mod sign_in;
pub mod submission;
mod tail;
pub mod workflows;

use crate::{
    config, directory, host::Readiness, metrics::Metrics, scheduler::Maintenance, sharing, traces::Tracer,
};
use axum::{
    Router,
    routing::{get, post},
};
use std::sync::Arc;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use waymark_job::redact::Rules;
use waymark_store::Store;

pub use error::{Code, Problem};

/// Who answers.
#[derive(Clone, Debug)]
pub struct HostInfo {
    /// The host's id, new for every start.
    pub id: String,
    /// Version of the program.
    pub version: String,
    /// When it started, Unix milliseconds.
    pub started_ms: u64,
}

/// All that the API needs of its host.
pub struct Context {
    /// The store.
    pub store: Store,
    /// The plugin directory.
    pub directory: directory::Handle,
    /// This host.
    pub host: HostInfo,
    /// Settings.
    pub api: config::Api,
    /// Settings of the Celery front.
    pub celery: Arc<crate::celery::config::Celery>,
    /// What `/metrics` serves.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` says.
    pub ready: watch::Receiver<Readiness>,
    /// Asks this host to drain.
    pub drain: mpsc::Sender<()>,
    /// What built-in schedules do.
    pub maintenance: Arc<Maintenance>,
    /// What all hosts are given.
    pub sharing: sharing::Handle,
    /// Takes spans of requests.
    pub tracer: Tracer,
    /// What people are not shown of jobs.
    pub redaction: Rules,
}

/// What every handler can reach.
pub struct Service {
    pub(crate) store: Store,
    pub(crate) directory: directory::Handle,
    pub(crate) host: HostInfo,
    pub(crate) settings: config::Api,
    pub(crate) celery: Arc<crate::celery::config::Celery>,
    pub(crate) metrics: Arc<Metrics>,
    ready: watch::Receiver<Readiness>,
    drain: mpsc::Sender<()>,
    pub(crate) maintenance: Arc<Maintenance>,
    pub(crate) sharing: sharing::Handle,
    pub(crate) guard: auth::Guard,
    /// Passwords that are checked at once.
    sign_ins: Semaphore,
    /// Sign-in through a provider, where there is one.
    oidc: Option<oidc::SignIn>,
    tracer: Tracer,
    redaction: Rules,
    counters: guard::Counters,
    request_ids: guard::RequestIds,
    feed: feed::Feed,
    tail: tail::Tail,
    /// Those who may read all events at once.
    readers: Arc<Semaphore>,
    types: submission::KnownTypes,
    /// Ends streams and long polls when the host stops.
    stopping: CancellationToken,
}

impl Service {
    /// Puts the parts together; nothing runs yet.
    ///
    /// # Errors
    /// A token is malformed, the secret of `api.oidc` cannot be read, or the API's counters are registered already.
    pub fn new(context: Context) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            guard: auth::Guard::new(&context.api)?,
            sign_ins: Semaphore::new(1),
            oidc: oidc::SignIn::new(&context.api)?,
            counters: guard::Counters::new(&context.metrics.registry)?,
            request_ids: guard::RequestIds::new()?,
            feed: feed::Feed::new(context.store.clone()),
            tail: tail::Tail::new(context.store.clone()),
            readers: Arc::new(Semaphore::new(changes::READERS_MAX)),
            types: submission::KnownTypes::default(),
            stopping: CancellationToken::new(),
            store: context.store,
            directory: context.directory,
            host: context.host,
            settings: context.api,
            celery: context.celery,
            metrics: context.metrics,
            ready: context.ready,
            drain: context.drain,
            maintenance: context.maintenance,
            sharing: context.sharing,
            tracer: context.tracer,
            redaction: context.redaction,
        }))
    }

    /// The routes, guarded.
    pub fn router(self: &Arc<Self>) -> Router {
        openapi::routes()
            .split_for_parts()
            .0
            .route("/sign-in", get(sign_in::show).post(sign_in::begin))
            .route("/sign-out", post(sign_in::end))
            .route("/login/oidc", get(oidc::begin))
            .route(oidc::settings::CALLBACK, get(oidc::finish))
            .merge(crate::dashboard::routes())
            .fallback(guard::unknown_path)
            .method_not_allowed_fallback(guard::method_not_allowed)
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::around))
            .with_state(self.clone())
    }
}

/// Serves the API on `listener` until `stopped` becomes true, then lets requests in flight end for a few seconds.
///
/// # Errors
/// A token is malformed.
pub async fn serve(
    context: Context,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let service = Service::new(context)?;
    let stop = service.stopping.clone();
    let asked = async move {
        // A sender that is gone means the same as a request to stop.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        stop.cancel();
    };
    server::run(listener, service.router(), &service.settings, asked).await;
    Ok(())
}
