//! `/errors`: failures of all jobs, folded by their fingerprint.

use super::{
    Service,
    answer::{Include, Job, Timestamp},
    error::{Code, Problem},
    request::{Name, Params, invalid_query, limit, reply, shorten},
};
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};
use waymark_job::JobId;
use waymark_store::{ErrorOrder, View};

/// Groups in a list unless more are asked for.
const LIST_DEFAULT: usize = 50;
/// Most groups in one list.
const LIST_MAX: usize = 1_000;

/// How often a version of the plugin failed so.
#[derive(Serialize, ToSchema)]
pub(super) struct Affected<'a> {
    /// Version of the plugin.
    version: &'a str,
    /// Failed attempts.
    attempts: u64,
}

/// Failures that have job type, kind, message and innermost calls in common.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorGroup<'a> {
    /// 16 hexadecimal digits.
    fingerprint: &'a str,
    /// Job type.
    #[serde(rename = "type")]
    job_type: &'a str,
    /// Stable code.
    kind: &'a str,
    /// The newest message.
    message: &'a str,
    /// The message with placeholders for what differs from job to job.
    pattern: &'a str,
    /// The innermost calls of the guest, where there is a back-trace.
    frames: &'a [String],
    /// Failed attempts.
    attempts: u64,
    /// Jobs that failed for good.
    failed: u64,
    /// When it was first seen.
    #[schema(value_type = String, format = DateTime)]
    first_seen: Timestamp,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    last_seen: Timestamp,
    /// Versions of the plugin that failed so.
    versions: Vec<Affected<'a>>,
    /// Ids of the jobs that failed so last, newest first, at most 10; some may be deleted by now.
    #[schema(value_type = Vec<String>)]
    job_ids: &'a [JobId],
}

impl<'a> ErrorGroup<'a> {
    fn new(group: &'a waymark_store::ErrorGroup) -> Self {
        let versions =
            group.versions.iter().map(|(version, attempts)| Affected { version, attempts: *attempts });
        Self {
            fingerprint: &group.fingerprint,
            job_type: &group.job_type,
            kind: &group.kind,
            message: &group.message,
            pattern: &group.pattern,
            frames: &group.frames,
            attempts: group.attempts,
            failed: group.failed,
            first_seen: Timestamp(group.first_ms),
            last_seen: Timestamp(group.last_ms),
            versions: versions.collect(),
            job_ids: &group.jobs,
        }
    }
}

/// Parameters of `GET /errors`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Job type. Default: all.
    #[serde(rename = "type")]
    job_type: Option<String>,
    /// Only groups that were seen at this time (RFC 3339) or later.
    since: Option<String>,
    /// `last_seen` (default) or `attempts`: what comes first.
    sort: Option<String>,
    /// Most groups, 1 to 1,000. Default 50.
    limit: Option<usize>,
}

/// Groups of failures.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorGroups<'a> {
    /// In the order asked for.
    errors: Vec<ErrorGroup<'a>>,
}

/// Lists groups of failures; at most 100 per job type are kept, those seen last.
#[utoipa::path(
    get, path = "/api/v1/errors", tag = "errors", operation_id = "list_errors", params(Which),
    responses((status = 200, description = "The groups.", body = ErrorGroups)),
)]
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit, LIST_DEFAULT, LIST_MAX)?;
    let since_ms = match which.since.as_deref().map(|text| OffsetDateTime::parse(text, &Rfc3339)) {
        None => 0,
        Some(Ok(time)) => u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
        Some(Err(_)) => {
            return Err(invalid_query("since: must be a time in RFC 3339, such as 2026-01-31T18:00:00Z"));
        }
    };
    let order = match which.sort.as_deref() {
        None | Some("last_seen") => ErrorOrder::LastSeen,
        Some("attempts") => ErrorOrder::Attempts,
        Some(other) => {
            let detail = format!("sort: there is no {:?}; there are last_seen, attempts", shorten(other));
            return Err(invalid_query(detail));
        }
    };
    let groups = service.store.error_groups(which.job_type.as_deref(), since_ms, order).await?;
    let errors = groups.iter().take(limit).map(ErrorGroup::new).collect();
    Ok(reply(StatusCode::OK, &ErrorGroups { errors }))
}

/// A group with the jobs that failed so last.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorGroupJobs<'a> {
    #[serde(flatten)]
    group: ErrorGroup<'a>,
    /// Those of `job_ids` that are still kept, without their inputs and results.
    jobs: Vec<Job<'a>>,
}

pub(crate) fn unknown(fingerprint: &str) -> Problem {
    let detail = format!(
        "There is no group of failures {:?}: it was forgotten, or its time was over.",
        shorten(fingerprint)
    );
    Problem::new(Code::UnknownErrorGroup, detail)
}

/// Shows a group of failures with the jobs that failed so last.
#[utoipa::path(
    get, path = "/api/v1/errors/{fingerprint}", tag = "errors", operation_id = "show_error",
    params(("fingerprint" = String, Path, description = "The fingerprint.")),
    responses(
        (status = 200, description = "The group.", body = ErrorGroupJobs),
        (status = 404, description = "unknown-error-group"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Name(fingerprint): Name,
) -> Result<Response, Problem> {
    let group = service.store.error_group(&fingerprint).await?.ok_or_else(|| unknown(&fingerprint))?;
    let mut views: Vec<View> = Vec::with_capacity(group.jobs.len());
    for id in &group.jobs {
        views.extend(service.store.get(id).await?);
    }
    for view in &mut views {
        service.hide(view);
    }
    let jobs = views.iter().map(|view| Job::new(view, Include::NONE)).collect();
    Ok(reply(StatusCode::OK, &ErrorGroupJobs { group: ErrorGroup::new(&group), jobs }))
}

/// Forgets a group of failures, as when its cause was mended. The next failure of its kind begins a new one.
#[utoipa::path(
    delete, path = "/api/v1/errors/{fingerprint}", tag = "errors", operation_id = "forget_error",
    params(("fingerprint" = String, Path, description = "The fingerprint.")),
    responses(
        (status = 204, description = "It is forgotten."),
        (status = 404, description = "unknown-error-group"),
    ),
)]
pub(crate) async fn forget(
    Shared(service): Shared<Arc<Service>>,
    Name(fingerprint): Name,
) -> Result<Response, Problem> {
    if service.store.forget_error_group(&fingerprint).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(unknown(&fingerprint))
    }
}
