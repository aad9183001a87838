//! `GET /jobs/{id}/checkpoint` and `/checkpoints`.

use super::{
    Service,
    answer::{Timestamp, text},
    error::{Code, Problem},
    request::{Id, Params, reply},
};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use waymark_job::{
    JobId,
    redact::{HIDDEN, Mask},
};
use waymark_store::Checkpoint;

/// The saved place of a job.
#[derive(Serialize, ToSchema)]
pub(super) struct Saved<'a> {
    /// The job's id.
    #[schema(value_type = String)]
    task_id: JobId,
    /// Job type.
    task_name: &'a str,
    /// Where the job was.
    checkpoint_data: Place<'a>,
    /// When it was committed.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it is forgotten; null while the job waits without a time-out.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Run of the job.
    run: u32,
    /// Committed steps at that time; `restart?from=` takes this number.
    step: u64,
    /// Version of the plugin that wrote it.
    plugin_version: &'a str,
    /// SHA-256 of that plugin.
    plugin_digest: &'a str,
    /// SHA-256 of the state.
    digest: &'a str,
    /// Length of the state, bytes.
    bytes: u64,
}

/// Where a job was.
#[derive(Serialize, ToSchema)]
struct Place<'a> {
    /// Units of work finished.
    current_index: u64,
    /// Units of work in all, where known.
    total_items: Option<u64>,
    /// Output records committed.
    outputs: u64,
    /// Media type of the state.
    mime_type: &'a str,
    /// Version of the state's shape.
    state_version: u32,
    /// `json` or `base64`: how `state` is written here; `hidden`: it is no JSON, and the job has values that are not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    encoding: Option<&'static str>,
    /// What the plugin saved. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    state: Option<Box<RawValue>>,
}

/// The kept checkpoints.
#[derive(Serialize, ToSchema)]
pub(super) struct SavedList<'a> {
    /// Newest first, without their states.
    checkpoints: Vec<Saved<'a>>,
}

fn encode(checkpoint: &Checkpoint, mask: &Mask) -> Result<(&'static str, Box<RawValue>), serde_json::Error> {
    if checkpoint.mime_type.contains("json")
        && let Ok(state) = serde_json::from_slice::<&RawValue>(&checkpoint.state)
    {
        return Ok(("json", RawValue::from_string(mask.json(state.get()).into_owned())?));
    }
    if !mask.is_empty() {
        // Nobody knows where in it the values are.
        return Ok(("hidden", RawValue::from_string(text(&HIDDEN))?));
    }
    Ok(("base64", RawValue::from_string(text(&BASE64.encode(&checkpoint.state)))?))
}

impl<'a> Saved<'a> {
    fn new(id: JobId, job_type: &'a str, checkpoint: &'a Checkpoint) -> Self {
        let progress = checkpoint.progress.as_ref();
        Self {
            task_id: id,
            task_name: job_type,
            checkpoint_data: Place {
                current_index: progress.map_or(0, |progress| progress.current),
                total_items: progress.and_then(|progress| progress.total),
                outputs: checkpoint.outputs,
                mime_type: &checkpoint.mime_type,
                state_version: checkpoint.state_version,
                encoding: None,
                state: None,
            },
            created_at: Timestamp(checkpoint.created_ms),
            expires_at: checkpoint.expires_ms.map(Timestamp),
            run: checkpoint.run,
            step: checkpoint.step,
            plugin_version: &checkpoint.plugin_version,
            plugin_digest: &checkpoint.plugin_digest,
            digest: &checkpoint.digest,
            bytes: checkpoint.bytes,
        }
    }
}

/// Parameters of `GET /jobs/{id}/checkpoint`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Step of a kept checkpoint. Default: the newest.
    step: Option<u64>,
    /// Show what `[redaction]` hides. Needs the scope `admin`. Default false.
    #[serde(default)]
    #[param(required = false)]
    reveal: bool,
}

/// The newest checkpoint, or that of a step.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/checkpoint", tag = "jobs", operation_id = "job_checkpoint",
    params(("id" = String, Path, description = "The job's id."), Which),
    responses(
        (status = 200, description = "The checkpoint, with its state.", body = Saved),
        (status = 404, description = "unknown-job, no-checkpoint"),
        (status = 502, description = "key-missing"),
    ),
)]
pub(super) async fn newest(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let (view, mask) = service.masked(&id).await?;
    let mask = if which.reveal { Mask::default() } else { mask };
    let kept = service.store.checkpoints(&id).await?;
    let found = kept.iter().find(|checkpoint| which.step.is_none_or(|step| step == checkpoint.step));
    let Some(checkpoint) = found else {
        let detail = match which.step {
            Some(step) => format!("The job keeps no checkpoint of step {step}."),
            None => "The job has saved no checkpoint, or it has expired.".to_owned(),
        };
        return Err(Problem::new(Code::NoCheckpoint, detail));
    };
    let mut saved = Saved::new(id, &view.spec.job_type, checkpoint);
    let (encoding, state) = encode(checkpoint, &mask).map_err(Problem::internal)?;
    saved.checkpoint_data.encoding = Some(encoding);
    saved.checkpoint_data.state = Some(state);
    Ok(reply(StatusCode::OK, &saved))
}

/// All kept checkpoints, without their states.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/checkpoints", tag = "jobs", operation_id = "job_checkpoints",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "Newest first.", body = SavedList),
        (status = 404, description = "unknown-job"),
        (status = 502, description = "key-missing"),
    ),
)]
pub(super) async fn list(Shared(service): Shared<Arc<Service>>, Id(id): Id) -> Result<Response, Problem> {
    let view = service.view(&id).await?;
    let kept = service.store.checkpoints(&id).await?;
    let checkpoints = kept.iter().map(|one| Saved::new(id, &view.spec.job_type, one)).collect();
    Ok(reply(StatusCode::OK, &SavedList { checkpoints }))
}
