//! `/jobs`: create, list, show, control, delete.

use super::{
    Service,
    answer::{Include, Job},
    auth::Actor,
    error::{Code, Problem, Violation},
    feed::LOOK_AGAIN,
    filter::{Filtered, Which},
    request::{self, Id, Names, Params, invalid_query, limit, reply, shorten},
    submission::{QUEUE_RULE, Submission, is_label, is_queue},
};
use crate::{redaction, traces::of_headers, worker::WORKFLOW};
use axum::{
    Extension,
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use waymark_job::{Control, JobId, Record, Spec, State, Webhook, record::PRIORITY_MAX, redact::Mask};
use waymark_store::{ControlAnswer, Created, NewJob, Page, SignalAnswer, View};

/// Longest wait of a long poll, milliseconds. Below the idle limits of common proxies' operators, not of proxies.
const WAIT_MS_MAX: u64 = 300_000;
/// Jobs in a list unless more are asked for.
const LIST_DEFAULT: usize = 50;
/// Most jobs in one list.
const LIST_MAX: usize = 1_000;
/// Most jobs in one list with their inputs or results, which may have 1 MiB each.
const LIST_FULL_MAX: usize = 100;

impl Service {
    /// The job as people are shown it, or `unknown-job`.
    pub(crate) async fn view(&self, id: &JobId) -> Result<View, Problem> {
        self.masked(id).await.map(|(view, _)| view)
    }

    /// The same, with what hides the rest of what the job says.
    pub(crate) async fn masked(&self, id: &JobId) -> Result<(View, Mask), Problem> {
        let mut view = self.whole(id).await?;
        let mask = self.hide(&mut view);
        Ok((view, mask))
    }

    /// The job with all that people are not shown, or `unknown-job`.
    pub(super) async fn whole(&self, id: &JobId) -> Result<View, Problem> {
        self.store.get(id).await?.ok_or_else(|| Problem::unknown_job(id))
    }

    /// Hides what people are not shown of a job; answers what hides the rest of what it says.
    pub(crate) fn hide(&self, view: &mut View) -> Mask {
        redaction::hide(&self.redaction, view)
    }

    /// The input of a job that is to be made, as people are shown it.
    pub(crate) fn shown_input(&self, spec: &Spec) -> String {
        let mask = self.redaction.mask(&spec.job_type, &spec.input);
        mask.input().unwrap_or(&spec.input).to_owned()
    }

    /// The job when it has ended, or as it is when the time is over or the host stops.
    async fn wait(&self, id: &JobId, wait_ms: u64) -> Result<View, Problem> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut watcher = self.feed.watch(*id);
        loop {
            let view = self.view(id).await?;
            if view.state.is_ended() || Instant::now() >= deadline || self.stopping.is_cancelled() {
                return Ok(view);
            }
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            loop {
                tokio::select! {
                    state = watcher.changed() => if state.is_none_or(State::is_ended) { break },
                    () = tokio::time::sleep_until(look_again) => break,
                    () = self.stopping.cancelled() => break,
                }
            }
        }
    }

    /// The settings' time for a body.
    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.request_timeout_ms)
    }
}

/// Reads `wait_ms`.
pub(super) fn wait_ms(asked: Option<u64>) -> Result<u64, Problem> {
    match asked.unwrap_or(0) {
        wait if wait <= WAIT_MS_MAX => Ok(wait),
        _ => Err(invalid_query(format!("wait_ms: must be at most {WAIT_MS_MAX}"))),
    }
}

/// A header of the caller that becomes part of a job.
pub(super) fn label_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if is_label(text) => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            Code::InvalidHeader,
            format!("{name}: must be 1 to 128 characters of printable ASCII."),
        )),
    }
}

/// The queue's limits refuse a new job.
pub(super) fn limit_reached(queue: &str) -> Problem {
    Problem::new(
        Code::LimitReached,
        format!("Queue {queue} runs as many jobs as its limits allow, and lets none wait; try again later."),
    )
    .retry_after(1)
}

/// What the caller asked for, without what the configuration added.
pub(super) fn asked(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.webhooks.retain(Webhook::is_callers);
    spec.trace = None;
    spec
}

/// The idempotency key stands for something else.
pub(super) fn key_reused(id: &JobId) -> Problem {
    Problem::new(
        Code::IdempotencyKeyReused,
        format!("This Idempotency-Key was used for the job {id} with another body."),
    )
}

/// What a new job looks like, without asking the store for what was just told to it.
pub(super) fn fresh(
    created: &Created,
    spec: Spec,
    delay_ms: Option<u64>,
    not_before_ms: Option<u64>,
) -> View {
    let not_before_ms = not_before_ms.or_else(|| delay_ms.map(|delay| created.created_ms + delay));
    let record = Record { not_before_ms, ..Record::default() };
    View {
        id: created.id,
        spec,
        state: created.state,
        record,
        result: None,
        result_error: None,
        sealed: None,
        pause_pending: false,
    }
}

/// Parameters of `POST /jobs`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wait {
    /// Answer when the job has ended, or after so many milliseconds, whichever is first. At most 300,000.
    pub(crate) wait_ms: Option<u64>,
}

/// Parameters of `GET /jobs/{id}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Shown {
    /// Answer when the job has ended, or after so many milliseconds, whichever is first. At most 300,000.
    wait_ms: Option<u64>,
    /// Show what `[redaction]` hides. Needs the scope `admin`; the audit log keeps that it was asked for. Default false.
    #[serde(default)]
    #[param(required = false)]
    reveal: bool,
}

/// Makes a job.
///
/// 201 with a new job; 200 with the one that stands already for its unique key or its idempotency key.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "jobs", operation_id = "create_job",
    params(
        Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "A request repeated with the same key within 24 hours answers the first one's job instead of making another. 1 to 128 characters."),
        ("X-Correlation-Id" = Option<String>, Header, description = "Taken as `correlation_id` if the body has none."),
    ),
    request_body = Submission,
    responses(
        (status = 201, description = "The job was made.", body = Job, headers(("Location" = String, description = "Path of the job."))),
        (status = 200, description = "The job stood already.", body = Job),
        (status = 400, description = "invalid-header"),
        (status = 404, description = "unknown-job"),
        (status = 413, description = "input-too-large"),
        (status = 422, description = "unknown-field, invalid-field, unknown-job-type, invalid-input, idempotency-key-reused"),
        (status = 429, description = "limit-reached"),
    ),
)]
pub(super) async fn create(
    Shared(service): Shared<Arc<Service>>,
    Params(wait): Params<Wait>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wait_ms = wait_ms(wait.wait_ms)?;
    let idempotency_key = label_header(&headers, "idempotency-key")?;
    let correlation_id = label_header(&headers, "x-correlation-id")?;
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let mut job = request::json::<Submission<'_>>(&text)?.accept(&service).await?;
    drop(text);
    if job.spec.correlation_id.is_none() {
        job.spec.correlation_id = correlation_id;
    }
    job.spec.trace = of_headers(&headers);
    job.idempotency_key = idempotency_key;
    make(&service, job, wait_ms).await.map(|(_, response)| response)
}

/// Makes a job, and answers it or the one that stands for it.
pub(super) async fn make(
    service: &Service,
    job: NewJob,
    wait_ms: u64,
) -> Result<(Created, Response), Problem> {
    let keyed = job.idempotency_key.is_some();
    let mut jobs = vec![job];
    service.store.settle(&mut jobs).await?;
    let NewJob { spec, delay_ms, not_before_ms, .. } = jobs[0].clone();
    let created = service.store.create(jobs).await?;
    let Some(created) = created.into_iter().next() else {
        return Err(Problem::internal("the store answered nothing for a new job"));
    };
    if created.refused {
        return Err(limit_reached(spec.queue()));
    }
    let (status, view) = if created.existing {
        let view = service.store.get(&created.id).await?.ok_or_else(|| {
            Problem::new(
                Code::UnknownJob,
                format!("The job {} that this key stood for was deleted; use another key.", created.id),
            )
        })?;
        let by_unique_key = spec.unique_key.is_some() && spec.unique_key == view.spec.unique_key;
        // An operator may have moved it meanwhile.
        let (queue, priority) = (view.spec.queue.clone(), view.spec.priority);
        if keyed && !by_unique_key && asked(&Spec { queue, priority, ..spec }) != asked(&view.spec) {
            return Err(key_reused(&created.id));
        }
        (StatusCode::OK, view)
    } else {
        (StatusCode::CREATED, fresh(&created, spec, delay_ms, not_before_ms))
    };
    let mut view =
        if wait_ms > 0 && !view.state.is_ended() { service.wait(&created.id, wait_ms).await? } else { view };
    service.hide(&mut view);
    let mut response = reply(status, &Job::new(&view, Include::ALL));
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/jobs/{}", created.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok((created, response))
}

/// Parameters of `GET /jobs`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Jobs per page, 1 to 1,000; with `include` at most 100. Default 50.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// `input`, `result`, or both with a comma between them.
    include: Option<String>,
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage<'a> {
    /// Newest first.
    jobs: Vec<Job<'a>>,
    /// Where the next page begins; `null` on the last one.
    next_cursor: Option<&'a str>,
}

impl<'a> JobPage<'a> {
    /// The page as the store knows it.
    pub(super) fn new(page: &'a Page, include: Include) -> Self {
        let jobs = page.jobs.iter().map(|view| Job::new(view, include)).collect();
        Self { jobs, next_cursor: page.cursor.as_deref() }
    }
}

/// Lists jobs, newest first.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(Which, List),
    responses((status = 200, description = "One page.", body = JobPage)),
)]
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    Filtered(filter, query): Filtered<List>,
) -> Result<Response, Problem> {
    let mut include = Include::NONE;
    for name in query.include.iter().flat_map(|names| names.split(',')) {
        match name {
            "input" => include.input = true,
            "result" => include.result = true,
            _ => {
                return Err(invalid_query(format!(
                    "include: there is no {:?}; there are input, result",
                    shorten(name)
                )));
            }
        }
    }
    let most = if include == Include::NONE { LIST_MAX } else { LIST_FULL_MAX };
    let limit = limit(query.limit, LIST_DEFAULT, most)?;
    let mut page = service.store.list(&filter, limit, query.cursor.as_deref()).await?;
    if include.result {
        service.store.fetch_results(&mut page.jobs).await;
    }
    for view in &mut page.jobs {
        service.hide(view);
    }
    Ok(reply(StatusCode::OK, &JobPage::new(&page, include)))
}

/// Shows a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "show_job",
    params(("id" = String, Path, description = "The job's id."), Shown),
    responses(
        (status = 200, description = "The job.", body = Job),
        (status = 404, description = "unknown-job"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    Params(Shown { wait_ms: asked, reveal }): Params<Shown>,
) -> Result<Response, Problem> {
    let view = match wait_ms(asked)? {
        0 if reveal => service.whole(&id).await?,
        0 => service.view(&id).await?,
        wait_ms => match service.wait(&id, wait_ms).await? {
            _ if reveal => service.whole(&id).await?,
            view => view,
        },
    };
    Ok(reply(StatusCode::OK, &Job::new(&view, Include::ALL)))
}

/// Cancels a job if it has not ended, and forgets it with all it kept.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "delete_job",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "unknown-job"),
    ),
)]
pub(crate) async fn delete(Shared(service): Shared<Arc<Service>>, Id(id): Id) -> Result<Response, Problem> {
    let spec = service.view(&id).await?.spec;
    let correlation_id = spec.correlation_id;
    let deleted = if spec.job_type == WORKFLOW {
        service.store.delete_workflow(&id).await?
    } else {
        service.store.delete(&id).await?
    };
    if deleted {
        tracing::info!(job_id = %id, correlation_id, "job deleted");
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::unknown_job(id))
    }
}

pub(crate) async fn control(
    service: &Service,
    id: JobId,
    control: Control,
    from: Option<u64>,
    who: &str,
) -> Result<Response, Problem> {
    let answer = service.store.control_by(&id, control, from, who).await?;
    match answer {
        ControlAnswer::Done(_) | ControlAnswer::Pending => {
            // What is left unfinished here the control process of any host finishes.
            service.store.spread(id.partition()).await?;
            let view = service.view(&id).await?;
            let correlation_id = view.spec.correlation_id.as_deref();
            tracing::info!(job_id = %id, correlation_id, control = control.name(), "control accepted");
            Ok(reply(StatusCode::ACCEPTED, &Job::new(&view, Include::ALL)))
        }
        ControlAnswer::Refused(state) => {
            Err(Problem::new(Code::WrongState, format!("The job is {}: {}.", state.name(), fitting(control)))
                .met(state))
        }
        ControlAnswer::NoCheckpoint => Err(Problem::new(
            Code::NoCheckpoint,
            format!(
                "The job keeps no checkpoint of step {}; GET /api/v1/jobs/{id}/checkpoints lists those it keeps.",
                from.unwrap_or(0)
            ),
        )),
        ControlAnswer::KeyTaken(holder) => Err(Problem::new(
            Code::WrongState,
            format!("Job {holder} has this job's unique key by now: wait for its end, or cancel it."),
        )),
        ControlAnswer::Missing => Err(Problem::unknown_job(id)),
    }
}

/// What to do instead.
fn fitting(control: Control) -> &'static str {
    match control {
        Control::Pause | Control::Cancel => "it has ended, there is nothing left to stop",
        Control::Resume => "only a paused job resumes; restart runs an ended job again",
        Control::Retry => "only a failed job is tried again; restart runs any ended job again",
        Control::Restart => "pause or cancel it first; only a paused or ended job restarts",
    }
}

/// Stops the job: a running one at the end of its step, any other at once. It keeps its place. While it is paused, the time
/// until which it sleeps goes on, and signals and ends of children that it waits for are kept.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/pause", tag = "jobs", operation_id = "pause_job",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "Paused, or about to be: `pause_pending`.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
    ),
)]
pub(super) async fn pause(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
) -> Result<Response, Problem> {
    control(&service, id, Control::Pause, None, &actor.name).await
}

/// Lets a paused job go on from its last checkpoint: it goes back to its queue. One that slept or waited sleeps or waits
/// again, unless its time, its signal or the end of its children has come meanwhile. A job that is not paused stays as it
/// is.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/resume", tag = "jobs", operation_id = "resume_job",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "Queued, scheduled or waiting again; or as it was.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
    ),
)]
pub(super) async fn resume(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
) -> Result<Response, Problem> {
    control(&service, id, Control::Resume, None, &actor.name).await
}

/// Parameters of `POST /jobs/{id}/restart`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Restart {
    /// Step of a kept checkpoint to go on from. Default: from the beginning.
    from: Option<u64>,
}

/// Runs a paused or ended job again, from the beginning or from a kept checkpoint, as its next run.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/restart", tag = "jobs", operation_id = "restart_job",
    params(("id" = String, Path, description = "The job's id."), Restart),
    responses(
        (status = 202, description = "Queued again.", body = Job),
        (status = 404, description = "unknown-job, no-checkpoint"),
        (status = 409, description = "wrong-state"),
    ),
)]
pub(super) async fn restart(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
    Params(restart): Params<Restart>,
) -> Result<Response, Problem> {
    control(&service, id, Control::Restart, restart.from, &actor.name).await
}

/// Lets a failed job go on from its last kept checkpoint, as its next run with all its attempts; from the beginning
/// where it keeps none.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", operation_id = "retry_job",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "Queued again.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
    ),
)]
pub(super) async fn retry(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
) -> Result<Response, Problem> {
    control(&service, id, Control::Retry, None, &actor.name).await
}

/// Where a job shall wait. At least one is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Queue; the job type's own is named like the type.
    #[serde(default)]
    queue: Option<String>,
    /// 0 to 9; 9 is served first.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
}

impl request::Shape<'_> for Change {
    const FIELDS: &'static [&'static str] = &["queue", "priority"];
}

/// Moves a job that has not ended to another queue, another priority, or both. A running one goes there when it leaves
/// its worker.
#[utoipa::path(
    patch, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "move_job",
    params(("id" = String, Path, description = "The job's id.")),
    request_body = Change,
    responses(
        (status = 200, description = "The job.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
        (status = 422, description = "unknown-field, invalid-field"),
    ),
)]
pub(super) async fn change(
    Shared(service): Shared<Arc<Service>>,
    Id(id): Id,
    body: Body,
) -> Result<Response, Problem> {
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let Change { queue, priority } = request::json(&text)?;
    let wrong = |pointer: &str, detail: &str| {
        let violation = Violation { pointer: pointer.to_owned(), detail: detail.to_owned() };
        Err(Problem::violations(Code::InvalidField, vec![violation]))
    };
    if queue.is_none() && priority.is_none() {
        return wrong("", "name a queue, a priority, or both");
    }
    if queue.as_deref().is_some_and(|queue| !is_queue(queue)) {
        return wrong("/queue", QUEUE_RULE);
    }
    if priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        return wrong("/priority", "must be 0 to 9");
    }
    let answers = service.store.move_jobs(&[id], queue.as_deref(), priority).await?;
    match answers.first() {
        Some(ControlAnswer::Done(_)) => {
            tracing::info!(job_id = %id, queue, priority, "job moved");
            Ok(reply(StatusCode::OK, &Job::new(&service.view(&id).await?, Include::ALL)))
        }
        Some(ControlAnswer::Refused(state)) => Err(Problem::new(
            Code::WrongState,
            format!("The job is {}: it waits nowhere any more.", state.name()),
        )
        .met(*state)),
        _ => Err(Problem::unknown_job(id)),
    }
}

/// Ends the job now.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "Cancelled.", body = Job),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
    ),
)]
pub(super) async fn cancel(
    Shared(service): Shared<Arc<Service>>,
    Extension(actor): Extension<Actor>,
    Id(id): Id,
) -> Result<Response, Problem> {
    control(&service, id, Control::Cancel, None, &actor.name).await
}

/// Longest payload of a signal, bytes. It is kept until the job has read it.
const SIGNAL_BYTES_MAX: usize = 64 << 10;

/// Answer to a signal.
#[derive(Serialize, ToSchema)]
pub(super) struct Signalled {
    /// The job waited for it and goes on. Otherwise it is kept until the job asks.
    delivered: bool,
}

/// Sends a signal to a job; the body is its payload, any JSON, `null` when empty.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/signals/{name}", tag = "jobs", operation_id = "signal_job",
    params(
        ("id" = String, Path, description = "The job's id."),
        ("name" = String, Path, description = "1 to 64 of a-z, 0-9, '_' and '-'."),
    ),
    request_body(content = serde_json::Value),
    responses(
        (status = 202, description = "Delivered or kept.", body = Signalled),
        (status = 404, description = "unknown-job"),
        (status = 409, description = "wrong-state"),
        (status = 422, description = "invalid-field"),
    ),
)]
pub(super) async fn signal(
    Shared(service): Shared<Arc<Service>>,
    Names(id, name): Names,
    body: Body,
) -> Result<Response, Problem> {
    let id = JobId::parse(&id).map_err(|_| Problem::unknown_job(shorten(&id)))?;
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if !fits {
        let detail = "the name of a signal must be 1 to 64 of a-z, 0-9, '_' and '-'".to_owned();
        return Err(Problem::violations(
            Code::InvalidField,
            vec![Violation { pointer: String::new(), detail }],
        ));
    }
    let text = request::body(body, SIGNAL_BYTES_MAX, service.body_timeout()).await?;
    let payload = match text.trim_ascii() {
        [] => "null",
        text => serde_json::from_slice::<&serde_json::value::RawValue>(text)
            .map_err(|error| {
                Problem::new(Code::MalformedJson, format!("The payload is not well-formed JSON: {error}."))
            })?
            .get(),
    };
    match service.store.signal(&id, &name, payload).await? {
        SignalAnswer::Delivered => Ok(reply(StatusCode::ACCEPTED, &Signalled { delivered: true })),
        SignalAnswer::Stored => Ok(reply(StatusCode::ACCEPTED, &Signalled { delivered: false })),
        SignalAnswer::Ended(state) => Err(Problem::new(
            Code::WrongState,
            format!("The job is {}: it reads no more signals.", state.name()),
        )
        .met(state)),
        SignalAnswer::Missing => Err(Problem::unknown_job(id)),
    }
}
