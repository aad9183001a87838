//! `POST /jobs/bulk/{action}`: one control for all jobs that a filter takes, a bounded step per request.
//!
//! A step looks at jobs newest first, as the list does, and answers where the next one begins. Nothing is kept about
//! it: a step that is repeated finds that the controls hold already. `dry_run` counts what a run would find.

use super::{
    Service,
    auth::Actor,
    error::{Code, Problem},
    filter::{Filtered, Which},
    request::{Name, invalid_query, limit, reply, shorten},
    submission::{QUEUE_RULE, is_queue},
};
use crate::worker::WORKFLOW;
use axum::{Extension, extract::State as Shared, http::StatusCode, response::Response};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use waymark_job::{Control, record::PRIORITY_MAX};
use waymark_store::{ControlAnswer, Filter, Store, View};

/// Most jobs in one step. Bounds the time of one request.
pub(crate) const STEP_MAX: usize = 1_000;
/// Controls under way at once: they travel to the store together.
const AT_ONCE: usize = 64;

/// How many jobs in this step, and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Step {
    /// Where `move` and `priority` go to: a queue, or 0 to 9.
    to: Option<String>,
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

/// Names of the actions.
const ACTIONS: &str = "pause, resume, restart, retry, cancel, delete, move and priority";

/// What is asked for.
pub(crate) enum Action {
    /// A control of a job.
    Control(Control),
    /// Forget it.
    Delete,
    /// Let it wait elsewhere.
    Move {
        /// This queue.
        queue: Option<String>,
        /// This priority.
        priority: Option<u8>,
    },
}

impl Action {
    /// Reads its name, and where it goes to.
    ///
    /// # Errors
    /// `invalid-query` or `unknown-path`.
    pub(crate) fn read(name: &str, to: Option<String>) -> Result<Self, Problem> {
        if to.is_some() && !matches!(name, "move" | "priority") {
            return Err(invalid_query("to: only move and priority go anywhere"));
        }
        let to = to.unwrap_or_default();
        match name {
            "pause" => Ok(Self::Control(Control::Pause)),
            "resume" => Ok(Self::Control(Control::Resume)),
            "restart" => Ok(Self::Control(Control::Restart)),
            "retry" => Ok(Self::Control(Control::Retry)),
            "cancel" => Ok(Self::Control(Control::Cancel)),
            "delete" => Ok(Self::Delete),
            "move" if is_queue(&to) => Ok(Self::Move { queue: Some(to), priority: None }),
            "move" => Err(invalid_query(format!("to: the name of a queue {QUEUE_RULE}"))),
            "priority" => match to.parse() {
                Ok(priority) if priority <= PRIORITY_MAX => {
                    Ok(Self::Move { queue: None, priority: Some(priority) })
                }
                _ => Err(invalid_query("to: must be 0 to 9")),
            },
            _ => Err(Problem::new(
                Code::UnknownPath,
                format!("There is no action {:?}; there are {ACTIONS}.", shorten(name)),
            )),
        }
    }

    /// Does it to these jobs, as `who` asks; answers how many did as asked.
    pub(crate) async fn apply(
        &self,
        store: &Store,
        jobs: &[View],
        who: &str,
    ) -> Result<usize, waymark_store::Error> {
        let is_done =
            |answer: &ControlAnswer| matches!(answer, ControlAnswer::Done(_) | ControlAnswer::Pending);
        match self {
            Self::Control(control) => {
                let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
                let asked =
                    ids.into_iter().map(|id| async move { store.control_by(&id, *control, None, who).await });
                let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
                Ok(answers.iter().filter(|answer| is_done(answer)).count())
            }
            Self::Delete => {
                let ids: Vec<_> = jobs.iter().map(|job| (job.id, job.spec.job_type == WORKFLOW)).collect();
                let asked = ids.into_iter().map(|(id, is_workflow)| async move {
                    // A workflow goes with its nodes.
                    if is_workflow { store.delete_workflow(&id).await } else { store.delete(&id).await }
                });
                let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
                Ok(answers.iter().filter(|gone| **gone).count())
            }
            Self::Move { queue, priority } => {
                let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
                let answers = store.move_jobs(&ids, queue.as_deref(), *priority).await?;
                Ok(answers.iter().filter(|answer| is_done(answer)).count())
            }
        }
    }
}

/// Pauses, resumes, restarts, retries, cancels, deletes or moves the jobs that the filter takes, newest first.
///
/// At least one parameter of the filter is given.
#[utoipa::path(
    post, path = "/api/v1/jobs/bulk/{action}", tag = "jobs", operation_id = "bulk_jobs",
    params(("action" = String, Path, description = "`pause`, `resume`, `restart`, `retry`, `cancel`, `delete`, `move` or `priority`."), Which, Step),
    responses((status = 200, description = "One step.", body = Stepped)),
)]
pub(super) async fn step(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Name(action): Name,
    Filtered(filter, step): Filtered<Step>,
) -> Result<Response, Problem> {
    let action = Action::read(&action, step.to)?;
    if filter == Filter::default() {
        return Err(invalid_query(
            "name at least one parameter of the filter, such as status or type: all jobs at once would be a dangerous \
             default",
        ));
    }
    let limit = limit(step.limit, STEP_MAX, STEP_MAX)?;
    let page = service.store.list(&filter, limit, step.cursor.as_deref()).await?;
    let matched = page.jobs.len();
    let (mut done, mut refused) = (0, 0);
    if !step.dry_run {
        done = action.apply(&service.store, &page.jobs, &actor.name).await?;
        refused = matched - done;
    }
    Ok(reply(StatusCode::OK, &Stepped { matched, done, refused, next_cursor: page.cursor.as_deref() }))
}
