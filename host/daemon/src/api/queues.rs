//! `/queues`: what waits, and the switches of a queue; `/counts`: jobs by type and state.

use super::{
    Service,
    answer::Timestamp,
    error::{Code, Problem, Violation},
    request::{Name, reply},
    submission::{QUEUE_RULE, is_queue},
};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A queue.
#[derive(Serialize, ToSchema)]
pub(super) struct Queue<'a> {
    /// Its name.
    name: &'a str,
    /// Jobs in its lines.
    depth: u64,
    /// When the oldest of them was accepted.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<Timestamp>,
    /// Nothing is claimed from it.
    paused: bool,
}

/// All queues that hold jobs or are paused.
#[derive(Serialize, ToSchema)]
pub(super) struct Queues<'a> {
    /// By name.
    queues: Vec<Queue<'a>>,
}

/// Lists the queues.
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "queues", operation_id = "list_queues",
    responses((status = 200, description = "The queues.", body = Queues)),
)]
pub(super) async fn list(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let mut queues = service.store.queues().await?;
    queues.sort_by(|left, right| left.name.cmp(&right.name));
    let queues = queues
        .iter()
        .map(|queue| Queue {
            name: &queue.name,
            depth: queue.depth,
            oldest_at: queue.oldest_ms.map(Timestamp),
            paused: queue.paused,
        })
        .collect();
    Ok(reply(StatusCode::OK, &Queues { queues }))
}

pub(super) fn check(name: &str) -> Result<(), Problem> {
    if is_queue(name) {
        return Ok(());
    }
    let detail = format!("the name of a queue {QUEUE_RULE}");
    Err(Problem::violations(Code::InvalidField, vec![Violation { pointer: String::new(), detail }]))
}

/// The switch of a queue.
#[derive(Serialize, ToSchema)]
pub(super) struct Switch<'a> {
    /// The queue.
    name: &'a str,
    /// Nothing is claimed from it.
    paused: bool,
}

/// Stops claims from a queue; running jobs go on. A queue that holds nothing yet can be paused too.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/pause", tag = "queues", operation_id = "pause_queue",
    params(("queue" = String, Path, description = "The queue.")),
    responses(
        (status = 202, description = "Paused.", body = Switch),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(crate) async fn pause(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    check(&name)?;
    service.store.pause_queue(&name).await?;
    tracing::info!(queue = name, "queue paused");
    Ok(reply(StatusCode::ACCEPTED, &Switch { name: &name, paused: true }))
}

/// Allows claims from a queue again.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/resume", tag = "queues", operation_id = "resume_queue",
    params(("queue" = String, Path, description = "The queue.")),
    responses(
        (status = 202, description = "Resumed.", body = Switch),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(crate) async fn resume(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    check(&name)?;
    service.store.resume_queue(&name).await?;
    tracing::info!(queue = name, "queue resumed");
    Ok(reply(StatusCode::ACCEPTED, &Switch { name: &name, paused: false }))
}

/// What a purge did.
#[derive(Serialize, ToSchema)]
pub(super) struct Purged<'a> {
    /// The queue.
    name: &'a str,
    /// Jobs cancelled.
    cancelled: u64,
}

/// Cancels every job that is queued in a queue. Running and scheduled jobs stay.
#[utoipa::path(
    post, path = "/api/v1/queues/{queue}/purge", tag = "queues", operation_id = "purge_queue",
    params(("queue" = String, Path, description = "The queue.")),
    responses(
        (status = 202, description = "Purged.", body = Purged),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(crate) async fn purge(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    check(&name)?;
    let cancelled = service.store.purge_queue(&name).await?;
    tracing::info!(queue = name, cancelled, "queue purged");
    Ok(reply(StatusCode::ACCEPTED, &Purged { name: &name, cancelled }))
}

/// Number of jobs of one type in one state.
#[derive(Serialize, ToSchema)]
pub(super) struct Count {
    /// Job type.
    #[serde(rename = "type")]
    job_type: String,
    /// State.
    #[schema(value_type = super::answer::Status)]
    status: &'static str,
    /// Jobs kept.
    jobs: u64,
}

/// Jobs kept, by type and state.
#[derive(Serialize, ToSchema)]
pub(super) struct Counts {
    /// Those above zero.
    counts: Vec<Count>,
}

/// Counts the jobs kept, by type and state.
#[utoipa::path(
    get, path = "/api/v1/counts", tag = "queues", operation_id = "count_jobs",
    responses((status = 200, description = "The counts.", body = Counts)),
)]
pub(super) async fn counts(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let counts = service.store.counts().await?.into_iter();
    let counts = counts
        .filter(|(_, _, jobs)| *jobs > 0)
        .map(|(job_type, state, jobs)| Count { job_type, status: state.name(), jobs })
        .collect();
    Ok(reply(StatusCode::OK, &Counts { counts }))
}
