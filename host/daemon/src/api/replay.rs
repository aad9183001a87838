//! `POST /jobs/{id}/replay`: a new job from one that ended, with changes.
//!
//! The old job is written down as somebody would have to submit it, the changes are laid over that, and the whole is
//! checked like any other submission.

use super::{
    Service,
    answer::Job,
    error::{Code, Problem, Violation},
    jobs::{Wait, label_header, make, wait_ms},
    request::{self, Id, Params, Shape},
    submission::Submission,
};
use crate::traces::of_headers;
use axum::{body::Body, extract::State as Shared, http::HeaderMap, response::Response};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
use waymark_job::{Spec, flow, record::UniqueUntil};

/// Fields of a submission that are to be different; `null` takes one away.
#[derive(Deserialize)]
#[serde(transparent)]
struct Changes<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Shape<'a> for Changes<'a> {
    const FIELDS: &'static [&'static str] = Submission::FIELDS;
}

/// The fields with which a job like this one is submitted now. A time before which it was not to start is over.
pub(crate) fn submitted(spec: &Spec) -> serde_json::Result<BTreeMap<Cow<'static, str>, Box<RawValue>>> {
    let json = |text: &str| RawValue::from_string(text.to_owned());
    let fields = [
        ("type", to_raw_value(&spec.job_type)?),
        ("input", json(&spec.input)?),
        ("queue", to_raw_value(spec.queue())?),
        ("priority", to_raw_value(&spec.priority)?),
        ("max_attempts", to_raw_value(&spec.max_attempts)?),
        ("retry", to_raw_value(&spec.retry)?),
        ("soft_limit_ms", to_raw_value(&spec.soft_limit_ms)?),
        ("hard_limit_ms", to_raw_value(&spec.hard_limit_ms)?),
        ("metadata", json(spec.metadata.as_deref().unwrap_or("null"))?),
        ("tags", to_raw_value(&spec.tags)?),
        ("correlation_id", to_raw_value(&spec.correlation_id)?),
        ("unique_key", to_raw_value(&spec.unique_key)?),
        ("unique_until", to_raw_value(&spec.unique_until.map(|UniqueUntil::Started| "started"))?),
        ("unique_for_ms", to_raw_value(&spec.unique_for_ms)?),
        ("flow_key", to_raw_value(&spec.key.as_deref().map(flow::decode_key))?),
        ("weight", to_raw_value(&spec.weight)?),
    ];
    Ok(fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
}

/// Makes a new job from one that ended. The body holds the fields that are to be different; it may be empty.
///
/// The new job names the old one as `replay_of`, and the old one lists it under `replays`.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/replay", tag = "jobs", operation_id = "replay_job",
    params(
        ("id" = String, Path, description = "The old job's id."),
        Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "As for a new job."),
    ),
    request_body(content = Object, description = "Any field of a submission but `type`."),
    responses(
        (status = 201, description = "The job was made.", body = Job, headers(("Location" = String, description = "Path of the new job."))),
        (status = 200, description = "The job stood already.", body = Job),
        (status = 400, description = "invalid-header"),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
        (status = 413, description = "input-too-large"),
        (status = 422, description = "unknown-field, invalid-field, unknown-job-type, invalid-input, idempotency-key-reused"),
        (status = 429, description = "limit-reached"),
        (status = 502, description = "key-missing"),
    ),
)]
pub(crate) async fn replay(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(wait): Params<Wait>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wait_ms = wait_ms(wait.wait_ms)?;
    let idempotency_key = label_header(&headers, "idempotency-key")?;
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let changes = if text.trim_ascii().is_empty() { Changes(BTreeMap::new()) } else { request::json(&text)? };
    if changes.0.contains_key("type") {
        let detail = "a replay is of the same type: submit a new job".to_owned();
        return Err(Problem::violations(
            Code::InvalidField,
            vec![Violation { pointer: "/type".into(), detail }],
        ));
    }
    let view = service.whole(&id).await?;
    if !view.state.is_ended() {
        let detail = format!("The job is {}: only an ended job is replayed.", view.state.name());
        return Err(Problem::new(Code::WrongState, detail).met(view.state));
    }
    if let Some(key) = &view.sealed {
        return Err(Problem::new(
            Code::KeyMissing,
            format!(
                "The job's input is encrypted with the key {key:?}, which this host does not have: add that key to \
                 [encryption] of its configuration."
            ),
        ));
    }
    let mut fields = submitted(&view.spec).map_err(Problem::internal)?;
    if changes.0.get("unique_key").is_some_and(|key| key.get() == "null") {
        // How long it held goes with it.
        fields.retain(|name, _| !name.starts_with("unique_"));
    }
    fields
        .extend(changes.0.into_iter().map(|(name, value)| (Cow::Owned(name.into_owned()), value.to_owned())));
    let text = serde_json::to_vec(&fields).map_err(Problem::internal)?;
    let mut job = request::json::<Submission<'_>>(&text)?.accept(&service).await?;
    // Somebody who was shown the old input did not see all of it.
    if let Some(input) = service.redaction.restored(&job.spec.job_type, &job.spec.input, &view.spec.input) {
        job.spec.input = input;
    }
    job.spec.replay_of = Some(id);
    job.spec.trace = of_headers(&headers);
    job.idempotency_key = idempotency_key;
    let (created, response) = make(&service, job, wait_ms).await?;
    service.store.replayed(&id, &created.id).await?;
    tracing::info!(job_id = %id, new = %created.id, "job replayed");
    Ok(response)
}
