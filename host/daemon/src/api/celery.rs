//! `/celery`: the Celery front, and the messages that it could not take.

use super::{
    Service,
    answer::Timestamp,
    error::Problem,
    request::{Params, invalid_query, reply},
};
use crate::celery::broker;
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use utoipa::{IntoParams, ToSchema};

/// Messages of the dead list that are shown.
const SHOWN_MAX: usize = 50;
/// Bytes of each that are shown.
const SHOWN_BYTES_MAX: usize = 2_000;
/// Most messages that are put back by one call.
const REQUEUE_MAX: u64 = 10_000;

/// The Celery front as this host is configured.
#[derive(Serialize, ToSchema)]
pub(super) struct Front<'a> {
    /// It takes messages.
    enabled: bool,
    /// The name under which it shows itself to Celery's clients.
    node: &'a str,
    /// Queues that it owns, with the number of messages that wait there.
    queues: BTreeMap<&'a str, u64>,
    /// Job types by the names of tasks.
    tasks: BTreeMap<&'a str, &'a str>,
    /// Queues of tasks that others run.
    routes: &'a BTreeMap<String, String>,
    /// Messages that could not be taken.
    dead: Dead,
}

/// The dead list.
#[derive(Serialize, ToSchema)]
pub(super) struct Dead {
    /// How many there are.
    count: u64,
    /// The newest, up to 50.
    newest: Vec<DeadMessage>,
}

/// A message that could not be taken.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadMessage {
    /// The list of Redis that it came from.
    list: String,
    /// Why: `not-registered`, `serializer`, `protocol-1`, `compression`, `malformed`, `too-large` or `limit-reached`.
    reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The beginning of its text.
    message: String,
}

/// Shows the Celery front.
#[utoipa::path(
    get, path = "/api/v1/celery", tag = "queues", operation_id = "show_celery",
    responses((status = 200, description = "The front.", body = Front)),
)]
pub(super) async fn show(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let settings = &service.celery;
    let at = broker(settings, &service.store);
    let mut queues = BTreeMap::new();
    if settings.enabled {
        for queue in &settings.queues {
            let lists = crate::celery::lists(settings, queue);
            queues.insert(queue.as_str(), service.store.celery_length(at, &lists).await?);
        }
    }
    let (count, newest) = service.store.celery_dead(SHOWN_MAX).await?;
    let newest = newest.into_iter().map(|one| {
        let mut message = one.message;
        let mut end = message.len().min(SHOWN_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        DeadMessage { list: one.list, reason: one.why, at: Timestamp(one.at_ms), message }
    });
    let front = Front {
        enabled: settings.enabled,
        node: &settings.node_name,
        queues,
        tasks: settings
            .tasks
            .iter()
            .map(|(task, mapping)| (task.as_str(), mapping.job_type.as_str()))
            .collect(),
        routes: &settings.routes,
        dead: Dead { count, newest: newest.collect() },
    };
    Ok(reply(StatusCode::OK, &front))
}

/// How many messages to put back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// 1 to 10,000. Default 1,000.
    limit: Option<u64>,
}

/// What a requeue did.
#[derive(Serialize, ToSchema)]
pub(super) struct Requeued {
    /// Messages that are in their queues again.
    requeued: u64,
    /// Messages that are still on the dead list.
    left: u64,
}

/// Puts messages of the dead list back into their Celery queues, the oldest first. Mend first what they died of: those
/// that still cannot be taken come back.
#[utoipa::path(
    post, path = "/api/v1/celery/dead/requeue", tag = "queues", operation_id = "requeue_celery", params(Which),
    responses((status = 202, description = "They are back.", body = Requeued)),
)]
pub(super) async fn requeue(
    Shared(service): Shared<Arc<Service>>,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let limit = which.limit.unwrap_or(1_000);
    if !(1..=REQUEUE_MAX).contains(&limit) {
        return Err(invalid_query("limit must be 1 to 10000"));
    }
    let at = broker(&service.celery, &service.store);
    let (requeued, left) = service.store.celery_requeue(at, limit).await?;
    tracing::info!(requeued, left, "messages of the Celery dead list were put back");
    Ok(reply(StatusCode::ACCEPTED, &Requeued { requeued, left }))
}
