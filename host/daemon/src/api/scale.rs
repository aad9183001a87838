//! `/scale`: what really waits, for autoscalers such as KEDA.

use super::{
    Service,
    error::Problem,
    request::{Params, invalid_query, reply},
    submission::{QUEUE_RULE, is_queue_pattern},
};
use crate::scale::{self, Chosen, Signal};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Longest time that a job may be allowed to wait: a day, milliseconds.
const TARGET_MS_MAX: u64 = 86_400_000;

/// What to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Queues to count, with commas between them: names, or patterns with `*`. Default: all.
    queue: Option<String>,
    /// How long a job may wait, milliseconds, 1 to 86,400,000. Default 10,000.
    target_ms: Option<u64>,
}

/// What really waits, and what it would need to begin within a time.
#[utoipa::path(
    get, path = "/api/v1/scale", tag = "hosts", operation_id = "scale", params(Which),
    responses((status = 200, description = "The signal.", body = Signal)),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let names: Vec<_> = which.queue.iter().flat_map(|names| names.split(',')).collect();
    if !names.iter().all(|name| is_queue_pattern(name)) {
        return Err(invalid_query(format!("queue: the name of a queue {QUEUE_RULE}")));
    }
    let target_ms = which.target_ms.unwrap_or(scale::TARGET_MS);
    if !(1..=TARGET_MS_MAX).contains(&target_ms) {
        return Err(invalid_query(format!("target_ms: must be 1 to {TARGET_MS_MAX}")));
    }
    let signal = scale::read(&service.store, &Chosen::new(names), target_ms).await?;
    Ok(reply(StatusCode::OK, &signal))
}
