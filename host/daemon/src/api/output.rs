//! `GET /jobs/{id}/output` and `/logs`.

use super::{
    Service,
    answer::{LogLine, one_line},
    error::Problem,
    request::{Id, Params, limit, reply},
};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use waymark_job::redact::Mask;

/// Records read from the store at once. Bounds the memory of one request: the whole output may be large.
const CHUNK: u64 = 500;
/// Most log lines in one page.
const LOGS_MAX: usize = 1_000;

/// Position of the record after the last one in the answer.
const NEXT_FROM: HeaderName = HeaderName::from_static("waymark-next-from");
/// Committed records in all.
const TOTAL: HeaderName = HeaderName::from_static("waymark-total");

/// Parameters of `GET /jobs/{id}/output`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Slice {
    /// Position of the first record, from 0. Default 0.
    from: Option<u64>,
    /// Most records. Default: all that are committed.
    limit: Option<u64>,
    /// Show what `[redaction]` hides. Needs the scope `admin`. Default false.
    #[serde(default)]
    #[param(required = false)]
    reveal: bool,
}

/// The committed output records of the job's present run, one JSON text per line.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/output", tag = "jobs", operation_id = "job_output",
    params(("id" = String, Path, description = "The job's id."), Slice),
    responses(
        (
            status = 200, description = "The records.", content_type = "application/x-ndjson", body = String,
            headers(
                ("Waymark-Next-From" = u64, description = "`from` of the next request."),
                ("Waymark-Total" = u64, description = "Records committed so far."),
            ),
        ),
        (status = 404, description = "unknown-job"),
        (status = 502, description = "key-missing"),
        (status = 503, description = "storage-unavailable"),
    ),
)]
pub(super) async fn output(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(slice): Params<Slice>,
) -> Result<Response, Problem> {
    let (view, mask) = service.masked(&id).await?;
    let mask = if slice.reveal { Mask::default() } else { mask };
    let total = view.record.outputs;
    let from = slice.from.unwrap_or(0).min(total);
    let end = slice.limit.map_or(total, |limit| from.saturating_add(limit).min(total));
    // What is wrong with the first ones can still be said.
    let first = service.store.outputs(&id, from, CHUNK.min(end - from)).await?;
    let lines =
        stream::unfold((service, mask, from, Some(first)), move |(service, mask, at, first)| async move {
            if at >= end {
                return None;
            }
            let read = match first {
                Some(first) => Ok(first),
                None => service.store.outputs(&id, at, CHUNK.min(end - at)).await,
            };
            let records = match read {
                Ok(records) if records.is_empty() => return None,
                Ok(records) => records,
                Err(error) => {
                    // The head is sent: only a broken body can say that something is missing.
                    tracing::warn!(job_id = %id, %error, "output was cut off");
                    return Some((Err(std::io::Error::other(error)), (service, mask, end, None)));
                }
            };
            let next = at + records.len() as u64;
            let mut text = String::with_capacity(records.iter().map(|record| record.len() + 1).sum());
            for record in records {
                text.push_str(&one_line(mask.json(&record).into_owned()));
                text.push('\n');
            }
            Some((Ok(Bytes::from(text)), (service, mask, next, None)))
        });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (NEXT_FROM, end.to_string()),
        (TOTAL, total.to_string()),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Parameters of `GET /jobs/{id}/logs`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogSlice {
    /// Number of the first line; 0 is the first that the job ever wrote. Default 0.
    from: Option<u64>,
    /// Most lines, 1 to 1,000. Default 1,000.
    limit: Option<usize>,
}

/// A page of log lines.
#[derive(Serialize, ToSchema)]
pub(super) struct Logs<'a> {
    /// Oldest first.
    lines: Vec<LogLine<'a>>,
    /// `from` of the next request.
    next_from: u64,
    /// Lines from `from` on that are no longer kept.
    dropped: u64,
}

/// Lines that were kept before a rule came hide its values too.
pub(crate) fn mask_lines(mask: &Mask, lines: &mut [String]) {
    if !mask.is_empty() {
        lines.iter_mut().for_each(|line| *line = mask.json(line).into_owned());
    }
}

/// Log lines that the job wrote; the newest 1,000 or 1 MiB are kept.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/logs", tag = "jobs", operation_id = "job_logs",
    params(("id" = String, Path, description = "The job's id."), LogSlice),
    responses(
        (status = 200, description = "One page.", body = Logs),
        (status = 404, description = "unknown-job"),
        (status = 502, description = "key-missing"),
        (status = 503, description = "storage-unavailable"),
    ),
)]
pub(super) async fn logs(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(slice): Params<LogSlice>,
) -> Result<Response, Problem> {
    let limit = limit(slice.limit, LOGS_MAX, LOGS_MAX)?;
    let (view, mask) = service.masked(&id).await?;
    let correlation_id = view.spec.correlation_id.as_deref();
    let from = slice.from.unwrap_or(0);
    let mut page = service.store.logs(&id, from, limit as u64).await?;
    mask_lines(&mask, &mut page.lines);
    let logs = Logs {
        lines: page.lines.iter().filter_map(|line| LogLine::read(line, correlation_id)).collect(),
        next_from: page.first + page.lines.len() as u64,
        dropped: page.first.saturating_sub(from),
    };
    Ok(reply(StatusCode::OK, &logs))
}
