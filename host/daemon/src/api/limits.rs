//! `/queues/{queue}/limits`: how many jobs of a queue run at once and start in a time, and how its keys share it.

use super::{
    Service,
    error::{Code, Problem, Violation},
    queues,
    request::{self, Name, Shape, reply},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};
use utoipa::ToSchema;
use waymark_job::flow::{self, WhenFull};

/// So many jobs in a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many, 1 to 1,000,000; a job counts by its weight.
    #[schema(value_type = u32, minimum = 1)]
    count: NonZeroU32,
    /// In so many milliseconds, up to a day.
    #[schema(value_type = u64, minimum = 1)]
    per_ms: NonZeroU64,
    /// Given: a token bucket of this size that `count` tokens fall into every `per_ms`, evenly. Left away: a sliding
    /// window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, required = false)]
    burst: Option<NonZeroU32>,
}

/// What holds for each flow key by itself.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Most jobs of one key that run at once.
    #[schema(value_type = Option<u32>, minimum = 1)]
    concurrency: Option<NonZeroU32>,
    /// Most jobs of one key that start in a time.
    rate: Option<Rate>,
}

/// What becomes of a new job when the concurrency limit of its key, or else of the queue, is reached.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Full {
    /// It waits.
    #[default]
    Wait,
    /// It is refused with `limit-reached`.
    Reject,
    /// The newest job that waits is cancelled for it.
    Replace,
    /// The oldest job that runs is cancelled for it.
    CancelRunning,
}

/// Limits of a queue; what is left away is not limited.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most jobs of the queue that run at once, 1 to 1,000,000; a job counts by its weight.
    #[schema(value_type = Option<u32>, minimum = 1)]
    concurrency: Option<NonZeroU32>,
    /// Most jobs of the queue that start in a time.
    rate: Option<Rate>,
    /// Where the flow key of a job is found that names none: a JSON Pointer that begins with `/input` or `/metadata`.
    #[schema(example = "/input/tenant")]
    key: Option<String>,
    /// What holds for each flow key by itself.
    per_key: KeyLimits,
    /// What becomes of a new job when a concurrency limit is reached. Default `wait`.
    when_full: Full,
}

impl Shape<'_> for Limits {
    const FIELDS: &'static [&'static str] = &["concurrency", "rate", "key", "per_key", "when_full"];
}

fn rate(rate: Rate) -> flow::Rate {
    flow::Rate { count: rate.count, per_ms: rate.per_ms, burst: rate.burst }
}

fn told(rate: flow::Rate) -> Rate {
    Rate { count: rate.count, per_ms: rate.per_ms, burst: rate.burst }
}

impl From<Limits> for flow::Limits {
    fn from(limits: Limits) -> Self {
        Self {
            concurrency: limits.concurrency,
            rate: limits.rate.map(rate),
            key: limits.key,
            per_key: flow::KeyLimits {
                concurrency: limits.per_key.concurrency,
                rate: limits.per_key.rate.map(rate),
            },
            when_full: match limits.when_full {
                Full::Wait => WhenFull::Wait,
                Full::Reject => WhenFull::Reject,
                Full::Replace => WhenFull::Replace,
                Full::CancelRunning => WhenFull::CancelRunning,
            },
        }
    }
}

impl From<flow::Limits> for Limits {
    fn from(limits: flow::Limits) -> Self {
        Self {
            concurrency: limits.concurrency,
            rate: limits.rate.map(told),
            key: limits.key,
            per_key: KeyLimits {
                concurrency: limits.per_key.concurrency,
                rate: limits.per_key.rate.map(told),
            },
            when_full: match limits.when_full {
                WhenFull::Wait => Full::Wait,
                WhenFull::Reject => Full::Reject,
                WhenFull::Replace => Full::Replace,
                WhenFull::CancelRunning => Full::CancelRunning,
            },
        }
    }
}

/// A flow key with jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    /// The key.
    key: String,
    /// Its jobs that are queued.
    waiting: u64,
    /// Weight of its jobs that run and were claimed under a limit.
    running: u64,
}

/// A queue's limits, and how it stands against them.
#[derive(Serialize, ToSchema)]
pub(super) struct Standing<'a> {
    /// The queue.
    name: &'a str,
    /// `null` if it has none.
    limits: Option<Limits>,
    /// Weight of its jobs that run and were claimed under a limit.
    running: u64,
    /// Its flow keys with jobs, by name, at most 1,000.
    keys: Vec<Key>,
}

async fn standing(service: &Service, name: &str) -> Result<Response, Problem> {
    let limits = service.store.all_limits().await?.remove(name).map(Limits::from);
    let flow = service.store.flow(name).await?;
    let keys = flow.keys.into_iter().map(|(key, waiting, running)| Key { key, waiting, running }).collect();
    Ok(reply(StatusCode::OK, &Standing { name, limits, running: flow.running, keys }))
}

/// Shows the limits of a queue, what runs under them, and its flow keys.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}/limits", tag = "queues", operation_id = "show_limits",
    params(("queue" = String, Path, description = "The queue.")),
    responses(
        (status = 200, description = "The limits.", body = Standing),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    queues::check(&name)?;
    standing(&service, &name).await
}

/// Sets the limits of a queue, all of them: what the body leaves away is not limited any more. They hold at once;
/// jobs that run already count from their next claim on.
#[utoipa::path(
    put, path = "/api/v1/queues/{queue}/limits", tag = "queues", operation_id = "set_limits",
    params(("queue" = String, Path, description = "The queue.")),
    request_body = Limits,
    responses(
        (status = 200, description = "They hold.", body = Standing),
        (status = 422, description = "unknown-field, invalid-field"),
    ),
)]
pub(super) async fn put(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
    body: Body,
) -> Result<Response, Problem> {
    queues::check(&name)?;
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let limits = flow::Limits::from(request::json::<Limits>(&text)?);
    limits.check().map_err(|(pointer, detail)| {
        Problem::violations(Code::InvalidField, vec![Violation { pointer: pointer.to_owned(), detail }])
    })?;
    service.store.set_limits(&name, Some(&limits)).await?;
    tracing::info!(queue = name, ?limits, "limits set");
    standing(&service, &name).await
}

/// Takes the limits of a queue away.
#[utoipa::path(
    delete, path = "/api/v1/queues/{queue}/limits", tag = "queues", operation_id = "delete_limits",
    params(("queue" = String, Path, description = "The queue.")),
    responses(
        (status = 204, description = "The queue has no limits."),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(super) async fn delete(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    queues::check(&name)?;
    service.store.set_limits(&name, None).await?;
    tracing::info!(queue = name, "limits taken away");
    Ok(StatusCode::NO_CONTENT.into_response())
}
