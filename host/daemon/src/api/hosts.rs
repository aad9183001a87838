//! `/hosts`: who is there; asking one to drain, to claim nothing, or to claim again.

use super::{
    Service,
    answer::Timestamp,
    error::{Code, Problem},
    request::{Name, reply, shorten},
};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A host that said within the last seconds that it is there.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what hosts write")]
pub(super) struct Host {
    /// New for every start.
    id: String,
    /// Version of the program.
    version: String,
    /// Address of its API.
    address: String,
    /// When it started.
    #[schema(format = DateTime)]
    started_at: String,
    /// It can take and run jobs.
    ready: bool,
    /// It claims nothing until it is resumed.
    paused: bool,
    /// It lets its jobs go and stops.
    draining: bool,
    /// Queues that it serves: names and patterns with `*`; empty: all.
    queues: Vec<String>,
    /// Jobs that may run at once now.
    slots: u32,
    /// Most jobs that may run at once; more than `slots` where slots follow the load.
    slots_max: u32,
    /// How long a job stays at present, microseconds; 0: none has ended yet.
    stay_us: u64,
    /// Jobs claimed now.
    used: u32,
    /// It does what is done once for all hosts: schedules and maintenance.
    leader: bool,
    /// How busy it is: shares from 0 to 1 in `cpu` (of the machine), `workers_cpu` and `memory` (of what it may use),
    /// and `workers_memory_bytes`.
    load: serde_json::Value,
    /// Its worker processes.
    workers: Vec<serde_json::Value>,
    /// Job types that it runs, each with `name`, `version` and `digest`.
    types: Vec<serde_json::Value>,
}

/// All hosts of the store.
#[derive(Serialize, ToSchema)]
pub(super) struct Hosts<'a> {
    /// The host that answers.
    this: &'a str,
    /// Its version.
    version: &'a str,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// By id.
    #[schema(value_type = Vec<Host>)]
    hosts: Vec<serde_json::Value>,
}

/// Lists the hosts.
#[utoipa::path(
    get, path = "/api/v1/hosts", tag = "hosts", operation_id = "list_hosts",
    responses((status = 200, description = "The hosts.", body = Hosts)),
)]
pub(super) async fn list(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let mut records = service.store.hosts().await?;
    records.sort();
    let leader = service.store.leader().await?;
    let answer = Hosts {
        this: &service.host.id,
        version: &service.host.version,
        started_at: Timestamp(service.host.started_ms),
        hosts: records.iter().map(|(id, record)| shown(record, leader.as_ref() == Some(id))).collect(),
    };
    Ok(reply(StatusCode::OK, &answer))
}

/// What a host says of itself, and what only the store knows.
fn shown(record: &str, leader: bool) -> serde_json::Value {
    // Text that is no JSON can only come of damage in the store.
    let mut host: serde_json::Value = serde_json::from_str(record).unwrap_or_default();
    if let Some(fields) = host.as_object_mut() {
        fields.insert("leader".into(), leader.into());
    }
    host
}

/// Answer to a request to drain.
#[derive(Serialize, ToSchema)]
pub(super) struct Draining<'a> {
    /// The host.
    id: &'a str,
    /// It was asked.
    draining: bool,
}

/// Asks a host to claim no more, to release its jobs at the end of their steps, and to stop.
#[utoipa::path(
    post, path = "/api/v1/hosts/{id}/drain", tag = "hosts", operation_id = "drain_host",
    params(("id" = String, Path, description = "The host's id.")),
    responses(
        (status = 202, description = "The host was asked.", body = Draining),
        (status = 404, description = "unknown-host"),
    ),
)]
pub(crate) async fn drain(
    Shared(service): Shared<Arc<Service>>,
    Name(id): Name,
) -> Result<Response, Problem> {
    if id == service.host.id {
        // A full channel holds a request that is not yet read: the host drains either way.
        let _ = service.drain.try_send(());
    } else {
        known(&service, &id).await?;
        service.store.publish_drain(&id).await?;
    }
    tracing::info!(host = id, "drain asked for");
    Ok(reply(StatusCode::ACCEPTED, &Draining { id: &id, draining: true }))
}

/// Refuses a host that nobody has heard of.
async fn known(service: &Service, id: &str) -> Result<(), Problem> {
    if id == service.host.id || service.store.hosts().await?.iter().any(|(known, _)| known == id) {
        return Ok(());
    }
    let detail = format!("No host {:?} has been heard of within the last seconds.", shorten(id));
    Err(Problem::new(Code::UnknownHost, detail))
}

/// The switch of a host.
#[derive(Serialize, ToSchema)]
pub(super) struct Claiming<'a> {
    /// The host.
    id: &'a str,
    /// It was asked to claim nothing.
    paused: bool,
}

async fn switch(service: &Service, id: &str, paused: bool) -> Result<Response, Problem> {
    known(service, id).await?;
    service.store.pause_host(id, paused).await?;
    tracing::info!(host = id, paused, "a host was switched");
    Ok(reply(StatusCode::ACCEPTED, &Claiming { id, paused }))
}

/// Asks a host to claim nothing more. What it holds goes on.
#[utoipa::path(
    post, path = "/api/v1/hosts/{id}/pause", tag = "hosts", operation_id = "pause_host",
    params(("id" = String, Path, description = "The host's id.")),
    responses(
        (status = 202, description = "The host was asked.", body = Claiming),
        (status = 404, description = "unknown-host"),
    ),
)]
pub(crate) async fn pause(
    Shared(service): Shared<Arc<Service>>,
    Name(id): Name,
) -> Result<Response, Problem> {
    switch(&service, &id, true).await
}

/// Asks a host to claim again.
#[utoipa::path(
    post, path = "/api/v1/hosts/{id}/resume", tag = "hosts", operation_id = "resume_host",
    params(("id" = String, Path, description = "The host's id.")),
    responses(
        (status = 202, description = "The host was asked.", body = Claiming),
        (status = 404, description = "unknown-host"),
    ),
)]
pub(crate) async fn resume(
    Shared(service): Shared<Arc<Service>>,
    Name(id): Name,
) -> Result<Response, Problem> {
    switch(&service, &id, false).await
}
