//! `/healthz`, `/readyz`, `/metrics`.

use super::{
    Service,
    error::{Code, Problem},
    request::reply,
};
use axum::{
    extract::State as Shared,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A host that is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health<'a> {
    /// `ok` or `ready`.
    status: &'a str,
    /// The host's id.
    host: &'a str,
    /// Version of the program.
    version: &'a str,
    /// What is wrong although jobs run: the Redis for results does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    warning: Option<&'a str>,
}

/// Does the process answer? Says nothing of Redis: a restart would not bring that back.
#[utoipa::path(
    get, path = "/healthz", tag = "health", operation_id = "health", security(()),
    responses((status = 200, description = "It answers.", body = Health)),
)]
pub(super) async fn alive(Shared(service): Shared<Arc<Service>>) -> Response {
    let version = &service.host.version;
    reply(StatusCode::OK, &Health { status: "ok", host: &service.host.id, version, warning: None })
}

/// Can the host take and run jobs?
#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "ready", security(()),
    responses(
        (status = 200, description = "It can.", body = Health),
        (status = 503, description = "not-ready"),
    ),
)]
pub(super) async fn ready(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let readiness = service.ready.borrow().clone();
    if service.stopping.is_cancelled() {
        return Err(Problem::new(Code::NotReady, "The host is not ready: it is stopping."));
    }
    if !readiness.ready {
        return Err(Problem::new(Code::NotReady, format!("The host is not ready: {}.", readiness.reason)));
    }
    let version = &service.host.version;
    let warning = Some(readiness.reason.as_str()).filter(|reason| *reason != "ready");
    Ok(reply(StatusCode::OK, &Health { status: "ready", host: &service.host.id, version, warning }))
}

/// Figures in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, description = "The figures.", content_type = "text/plain", body = String)),
)]
pub(super) async fn metrics(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    if let Err(error) = service.metrics.read_store(&service.store).await {
        // The rest is all the more wanted when Redis is away.
        tracing::debug!(%error, "metrics are served without those of the store");
    }
    let text = service.metrics.render().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
