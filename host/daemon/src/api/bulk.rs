//! `POST /jobs/bulk/{action}`: one control for all jobs that a filter takes, a bounded step per request.
//!
//! A step looks at jobs newest first, as the list does, and answers where the next one begins. Nothing is kept about
//! it: a step that is repeated finds that the controls hold already. `dry_run` counts what a run would find.

use super::{
    Service,
    error::{Code, Problem},
    jobs::states,
    request::{Name, Params, invalid_query, limit, reply, shorten},
};
use axum::{extract::State as Shared, http::StatusCode, response::Response};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use waymark_job::{Control, JobId};
use waymark_store::{ControlAnswer, Filter};

/// Most jobs in one step. Bounds the time of one request.
const STEP_MAX: usize = 1_000;
/// Controls under way at once: they travel to the store together.
const AT_ONCE: usize = 64;

/// Which jobs, and how many in this step. At least one of the filters is given.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// States, with commas between them.
    status: Option<String>,
    /// Job type.
    #[serde(rename = "type")]
    job_type: Option<String>,
    /// Queue.
    queue: Option<String>,
    /// A label.
    tag: Option<String>,
    /// The caller's id for the larger whole.
    correlation_id: Option<String>,
    /// Count only. Default false.
    #[serde(default)]
    dry_run: bool,
    /// Jobs in this step, 1 to 1,000. Default 1,000.
    limit: Option<usize>,
    /// `next_cursor` of the step before.
    cursor: Option<String>,
}

/// What a step did.
#[derive(Serialize, ToSchema)]
pub(super) struct Stepped<'a> {
    /// Jobs that the filter took in this step.
    matched: usize,
    /// Of these, jobs that did as asked, or had done so already; 0 in a dry run.
    done: usize,
    /// Of these, jobs in whose state the control does not fit, or that were deleted meanwhile.
    refused: usize,
    /// Where the next step begins; `null` after the last one.
    next_cursor: Option<&'a str>,
}

#[derive(Clone, Copy)]
enum Action {
    Control(Control),
    Delete,
}

impl Action {
    fn read(name: &str) -> Result<Self, Problem> {
        match name {
            "pause" => Ok(Self::Control(Control::Pause)),
            "resume" => Ok(Self::Control(Control::Resume)),
            "restart" => Ok(Self::Control(Control::Restart)),
            "cancel" => Ok(Self::Control(Control::Cancel)),
            "delete" => Ok(Self::Delete),
            _ => Err(Problem::new(
                Code::UnknownPath,
                format!(
                    "There is no action {:?}; there are pause, resume, restart, cancel and delete.",
                    shorten(name)
                ),
            )),
        }
    }

    async fn apply(self, service: &Service, id: JobId) -> Result<bool, Problem> {
        match self {
            Self::Control(control) => {
                let answer = service.store.control(&id, control, None).await?;
                Ok(matches!(answer, ControlAnswer::Done(_) | ControlAnswer::Pending))
            }
            Self::Delete => Ok(service.store.delete(&id).await?),
        }
    }
}

/// Pauses, resumes, restarts, cancels or deletes the jobs that the filter takes, newest first.
#[utoipa::path(
    post, path = "/api/v1/jobs/bulk/{action}", tag = "jobs", operation_id = "bulk_jobs",
    params(("action" = String, Path, description = "`pause`, `resume`, `restart`, `cancel` or `delete`."), Which),
    responses((status = 200, description = "One step.", body = Stepped)),
)]
pub(super) async fn step(
    Shared(service): Shared<Arc<Service>>,
    Name(action): Name,
    Params(which): Params<Which>,
) -> Result<Response, Problem> {
    let action = Action::read(&action)?;
    let filter = Filter {
        states: states(which.status.as_deref())?,
        job_type: which.job_type,
        queue: which.queue,
        tag: which.tag,
        correlation_id: which.correlation_id,
    };
    if filter == Filter::default() {
        return Err(invalid_query(
            "name at least one of status, type, queue, tag and correlation_id: all jobs at once would be a \
             dangerous default",
        ));
    }
    let limit = limit(which.limit, STEP_MAX, STEP_MAX)?;
    let page = service.store.list(&filter, limit, which.cursor.as_deref()).await?;
    let matched = page.jobs.len();
    let (mut done, mut refused) = (0, 0);
    if !which.dry_run {
        let ids: Vec<_> = page.jobs.iter().map(|view| view.id).collect();
        let controls = ids.into_iter().map(|id| {
            let service = service.clone();
            async move { action.apply(&service, id).await }
        });
        let answers: Vec<_> = stream::iter(controls).buffer_unordered(AT_ONCE).try_collect().await?;
        done = answers.iter().filter(|done| **done).count();
        refused = matched - done;
    }
    Ok(reply(StatusCode::OK, &Stepped { matched, done, refused, next_cursor: page.cursor.as_deref() }))
}
