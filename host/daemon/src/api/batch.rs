//! `POST /jobs/batch`: many jobs in one request, one answer for each.
//!
//! Every job stands for itself: those that are valid are made even if others are refused.

use super::{
    Service,
    error::{Code, Document, Problem},
    jobs::limit_reached,
    request::{self, Shape, reply},
    submission::Submission,
};
use crate::traces::of_headers;
use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;
use waymark_job::JobId;

/// Most jobs in one batch. Bounds the memory and the time of one request.
const BATCH_MAX: usize = 10_000;

/// Jobs to be made. A bare list of jobs is accepted too.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch<'a> {
    /// 1 to 10,000 jobs.
    #[serde(borrow)]
    #[schema(value_type = Vec<Submission>, min_items = 1, max_items = 10000)]
    jobs: Vec<&'a RawValue>,
}

impl<'a> Shape<'a> for Batch<'a> {
    const FIELDS: &'static [&'static str] = &["jobs"];
}

/// What became of one job: `id` and `status`, or `error`.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome<'a> {
    /// The job's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    id: Option<JobId>,
    /// Where the job stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::answer::Status>)]
    status: Option<&'static str>,
    /// The job stood already for its unique key.
    #[serde(skip_serializing_if = "Option::is_none")]
    existing: Option<bool>,
    /// Why the job was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Document<'a>>,
}

/// One answer per job, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcomes<'a> {
    /// Jobs made.
    created: usize,
    /// Jobs that stood already.
    existing: usize,
    /// Jobs refused.
    refused: usize,
    /// One answer per job.
    jobs: Vec<Outcome<'a>>,
}

/// Makes many jobs. 201 if none was refused, else 207.
#[utoipa::path(
    post, path = "/api/v1/jobs/batch", tag = "jobs", operation_id = "create_jobs",
    request_body = Batch,
    responses(
        (status = 201, description = "No job was refused.", body = Outcomes),
        (status = 207, description = "Some or all jobs were refused; the others were made.", body = Outcomes),
        (status = 413, description = "batch-too-large"),
        (status = 422, description = "unknown-field, invalid-field"),
    ),
)]
pub(super) async fn create(
    Shared(service): Shared<Arc<Service>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let trace = of_headers(&headers);
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let batch = if text.trim_ascii_start().first() == Some(&b'[') {
        let jobs = serde_json::from_slice(&text).map_err(|error| {
            Problem::new(Code::MalformedJson, format!("The body is not well-formed JSON: {error}."))
        })?;
        Batch { jobs }
    } else {
        request::json(&text)?
    };
    if batch.jobs.len() > BATCH_MAX {
        return Err(Problem::new(
            Code::BatchTooLarge,
            format!(
                "The batch has {} jobs; at most {BATCH_MAX} go into one. Send several.",
                batch.jobs.len()
            ),
        ));
    }
    let mut jobs = Vec::with_capacity(batch.jobs.len());
    let mut refused = Vec::new();
    for (index, text) in batch.jobs.iter().enumerate() {
        let job = match request::json::<Submission<'_>>(text.get().as_bytes()) {
            Ok(submission) => submission.accept(&service).await,
            Err(problem) => Err(problem),
        };
        match job {
            Ok(mut job) => {
                job.spec.trace.clone_from(&trace);
                jobs.push(job);
            }
            // Not the caller's fault: the whole batch is to be repeated.
            Err(problem) if problem.code().status().is_server_error() => return Err(problem),
            Err(problem) => refused.push((index, problem)),
        }
    }
    let queues: Vec<_> = jobs.iter().map(|job| job.spec.queue().to_owned()).collect();
    let created = if jobs.is_empty() { Vec::new() } else { service.store.create(jobs).await? };
    let existing = created.iter().filter(|created| created.existing).count();
    let full =
        created.iter().zip(&queues).map(|(created, queue)| created.refused.then(|| limit_reached(queue)));
    let full: Vec<_> = full.collect();
    let over = full.iter().flatten().count();
    let mut answers = Vec::with_capacity(batch.jobs.len());
    let mut made = created.iter().zip(&full).peekable();
    let mut wrong = refused.iter().peekable();
    for index in 0..batch.jobs.len() {
        let problem = match wrong.next_if(|(at, _)| *at == index) {
            Some((_, problem)) => Some(problem),
            None => made.next_if(|(_, full)| full.is_some()).and_then(|(_, full)| full.as_ref()),
        };
        if let Some(problem) = problem {
            answers.push(Outcome {
                id: None,
                status: None,
                existing: None,
                error: Some(problem.document(None)),
            });
        } else if let Some((created, _)) = made.next() {
            answers.push(Outcome {
                id: Some(created.id),
                status: Some(created.state.name()),
                existing: created.existing.then_some(true),
                error: None,
            });
        }
    }
    let refused = refused.len() + over;
    let status = if refused == 0 { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
    let outcomes = Outcomes { created: created.len() - existing - over, existing, refused, jobs: answers };
    Ok(reply(status, &outcomes))
}
