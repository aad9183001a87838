//! `/schedules`: which jobs are made when, and the switches of a schedule. The same shape is read from the
//! configuration file.

use super::{
    Service,
    answer::{Json, Timestamp},
    error::{Code, Problem, Violation},
    request::{self, Name, Params, Shape, invalid_query, limit, reply},
    submission::Submission,
};
use axum::{body::Body, extract::State as Shared, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};
use waymark_job::{
    JobId, RetryPolicy, Schedule, Spec, flow,
    record::UniqueUntil,
    schedule::{self, CatchUp, Overlap, RESERVED, Timing, Work},
};
use waymark_store::{Fired, NewJob, Outcome, PutAnswer, StoredSchedule, WebhookRule};

/// Planned times that are shown.
const UPCOMING: usize = 10;
/// Most times of a preview.
const PREVIEW_MAX: usize = 100;
/// Schedules of a page, where none is asked for, and at most.
const LIST_DEFAULT: usize = 100;
/// See [`LIST_DEFAULT`].
const LIST_MAX: usize = 1_000;
/// Missed times caught up at most, where nothing is said.
const CATCH_UP_DEFAULT: u32 = 100;
/// A name that is a path of its own.
const PREVIEW: &str = "preview";

/// A schedule to be kept. One of `cron`, `every_ms` and `at`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest<'a> {
    /// Minute, hour, day of month, month, day of week; a sixth field in front is the second.
    #[serde(default)]
    #[schema(example = "30 2 * * *")]
    cron: Option<String>,
    /// Milliseconds between two times, 1,000 at least.
    #[serde(default)]
    #[schema(minimum = 1000)]
    every_ms: Option<u64>,
    /// A time that `every_ms` counts from (RFC 3339). Default: the Unix epoch.
    #[serde(default)]
    #[schema(format = DateTime)]
    anchor: Option<String>,
    /// Once, at this time (RFC 3339).
    #[serde(default)]
    #[schema(format = DateTime)]
    at: Option<String>,
    /// IANA name of the zone that `cron` is read in. Default `UTC`.
    #[serde(default)]
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// What if the job made last has not ended: `skip` (default), `queue_one`, `allow` or `cancel_running`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    overlap: Option<Overlap>,
    /// What becomes of times that no host was there for: `skip`, `last` (default: one run for all) or `all`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    catch_up: Option<CatchUp>,
    /// Most missed times that `all` fires, the newest, 1 to 1,000. Default 100.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    catch_up_max: Option<u32>,
    /// Each time is due up to so many milliseconds late. Default 0.
    #[serde(default)]
    jitter_ms: Option<u64>,
    /// No time before this (RFC 3339).
    #[serde(default)]
    #[schema(format = DateTime)]
    starts_at: Option<String>,
    /// No time after this (RFC 3339).
    #[serde(default)]
    #[schema(format = DateTime)]
    ends_at: Option<String>,
    /// The schedule ends after it has fired so often.
    #[serde(default)]
    #[schema(minimum = 1)]
    max_runs: Option<u64>,
    /// It does not fire. Default: the switch stays as it is.
    #[serde(default)]
    paused: Option<bool>,
    /// The job to make, without `delay_ms` and `not_before`. A time that finds its `unique_key` taken makes none.
    #[serde(borrow)]
    #[schema(value_type = Submission)]
    job: &'a RawValue,
}

impl<'a> Shape<'a> for ScheduleRequest<'a> {
    const FIELDS: &'static [&'static str] = &[
        "cron",
        "every_ms",
        "anchor",
        "at",
        "timezone",
        "overlap",
        "catch_up",
        "catch_up_max",
        "jitter_ms",
        "starts_at",
        "ends_at",
        "max_runs",
        "paused",
        "job",
    ];
}

/// A schedule as it was asked for.
#[derive(Clone, Debug)]
pub struct Definition {
    /// It.
    pub schedule: Schedule,
    /// The switch, where one was given.
    pub paused: Option<bool>,
}

impl Definition {
    /// Reads and checks the JSON text of a [`ScheduleRequest`]. `endpoints`: those whose secrets webhooks may name.
    ///
    /// # Errors
    /// `malformed-json`, `unknown-field`, `invalid-field`, or the input is too large.
    pub fn read(
        name: &str,
        text: &[u8],
        input_bytes_max: usize,
        endpoints: &[WebhookRule],
    ) -> Result<Self, Problem> {
        if !schedule::is_name(name) || name == PREVIEW {
            let detail = format!(
                "the name of a schedule must be 1 to {} of letters, digits, '_', '-' and '.', and not {PREVIEW}",
                schedule::NAME_MAX
            );
            return Err(wrong("", detail));
        }
        if name.starts_with(RESERVED) {
            return Err(Problem::new(
                Code::ScheduleHeld,
                format!("Names that begin with {RESERVED:?} are the host's own."),
            ));
        }
        let asked: ScheduleRequest<'_> = request::json(text)?;
        let timing = timing(asked.cron, asked.every_ms, asked.anchor.as_deref(), asked.at.as_deref(), wrong)?;
        let (spec, replace_input) = template(asked.job, input_bytes_max, endpoints)?;
        let schedule = Schedule {
            name: name.to_owned(),
            timing,
            timezone: asked.timezone.unwrap_or_else(|| "UTC".to_owned()),
            overlap: asked.overlap.unwrap_or_default(),
            catch_up: asked.catch_up.unwrap_or_default(),
            catch_up_max: asked.catch_up_max.unwrap_or(CATCH_UP_DEFAULT),
            jitter_ms: asked.jitter_ms.unwrap_or(0),
            starts_ms: moment("starts_at", asked.starts_at.as_deref(), wrong)?,
            ends_ms: moment("ends_at", asked.ends_at.as_deref(), wrong)?,
            max_runs: asked.max_runs,
            work: Work::Job(Box::new(spec)),
            replace_input,
            from_file: false,
        };
        schedule.calendar().map_err(|invalid| wrong(invalid.field, invalid.detail))?;
        Ok(Self { schedule, paused: asked.paused })
    }
}

/// The job that a schedule makes, and whether it replaces the input of one that waits; its times are the schedule's.
fn template(
    text: &RawValue,
    input_bytes_max: usize,
    endpoints: &[WebhookRule],
) -> Result<(Spec, bool), Problem> {
    let read = || -> Result<NewJob, Problem> {
        request::json::<Submission<'_>>(text.get().as_bytes())?.plain(input_bytes_max, endpoints)
    };
    let job = read().map_err(|problem| problem.within("/job"))?;
    for (field, given) in
        [("job/delay_ms", job.delay_ms.is_some()), ("job/not_before", job.not_before_ms.is_some())]
    {
        if given {
            return Err(wrong(field, "cannot be given here: the schedule says when".into()));
        }
    }
    Ok((job.spec, job.replaces_input))
}

fn wrong(field: &str, detail: String) -> Problem {
    let pointer = if field.is_empty() { String::new() } else { format!("/{field}") };
    Problem::violations(Code::InvalidField, vec![Violation { pointer, detail }])
}

fn timing(
    cron: Option<String>,
    every_ms: Option<u64>,
    anchor: Option<&str>,
    at: Option<&str>,
    wrong: fn(&str, String) -> Problem,
) -> Result<Timing, Problem> {
    let anchor_ms = moment("anchor", anchor, wrong)?;
    let at_ms = moment("at", at, wrong)?;
    match (cron, every_ms, at_ms) {
        (Some(pattern), None, None) if anchor_ms.is_none() => Ok(Timing::Cron(pattern)),
        (None, Some(every_ms), None) => Ok(Timing::Every { every_ms, anchor_ms: anchor_ms.unwrap_or(0) }),
        (None, None, Some(at_ms)) if anchor_ms.is_none() => Ok(Timing::At(at_ms)),
        (Some(_), None, None) | (None, None, Some(_)) => {
            Err(wrong("anchor", "goes together with every_ms only".into()))
        }
        _ => Err(wrong("", "one of cron, every_ms and at is expected".into())),
    }
}

fn moment(
    field: &str,
    text: Option<&str>,
    wrong: fn(&str, String) -> Problem,
) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) => Ok(Some(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))),
        Err(_) => Err(wrong(field, "must be a time in RFC 3339, such as 2026-01-31T18:00:00Z".into())),
    }
}

/// The job that a schedule makes.
#[derive(Serialize, ToSchema)]
struct Template<'a> {
    #[serde(rename = "type")]
    job_type: &'a str,
    queue: &'a str,
    priority: u8,
    #[schema(value_type = serde_json::Value)]
    input: Json<'a>,
    #[schema(value_type = Object)]
    metadata: Json<'a>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, required = false)]
    retry: Option<&'a RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    soft_limit_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    hard_limit_ms: Option<u64>,
    /// See the submission, as the five that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unique_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unique_until: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unique_for_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replace_input: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    flow_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    weight: Option<u32>,
}

/// What became of a planned time.
#[derive(Serialize, ToSchema)]
struct HistoryEntry<'a> {
    /// The planned time; the first of several.
    #[schema(value_type = String, format = DateTime)]
    planned_at: Timestamp,
    /// When this was noted.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The job that was made.
    #[schema(value_type = Option<String>)]
    job: Option<JobId>,
    /// Why none was made: `overlap`, `waiting`, `missed`, `unique` (`job` has the unique key) or `limit` (its queue's
    /// limits let no more wait); what was done, of built-in schedules.
    note: Option<&'a str>,
    /// How many times, where it stands for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    times: Option<u64>,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(super) struct ScheduleAnswer<'a> {
    /// Its name.
    name: &'a str,
    /// Who holds it: `api`, `file` (the configuration of a host) or `built-in`.
    source: &'static str,
    /// `active`, `paused` or `ended`.
    status: &'static str,
    /// See the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    cron: Option<&'a str>,
    /// See the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    every_ms: Option<u64>,
    /// See the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    anchor: Option<Timestamp>,
    /// See the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    at: Option<Timestamp>,
    /// See the request.
    timezone: &'a str,
    /// See the request.
    overlap: &'static str,
    /// See the request.
    catch_up: &'static str,
    /// See the request.
    catch_up_max: u32,
    /// See the request.
    jitter_ms: u64,
    /// See the request.
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Timestamp>,
    /// See the request.
    #[schema(value_type = Option<String>, format = DateTime)]
    ends_at: Option<Timestamp>,
    /// See the request.
    max_runs: Option<u64>,
    /// The job that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    job: Option<Template<'a>>,
    /// What a built-in one does: `expire-results`, `expire-keys` or `reconcile-indexes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    action: Option<&'static str>,
    /// The next planned time.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// A planned time that waits for the end of the job made last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    waiting_at: Option<Timestamp>,
    /// When it fired last.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_at: Option<Timestamp>,
    /// The job made last.
    #[schema(value_type = Option<String>)]
    last_job: Option<JobId>,
    /// Times it fired.
    fired: u64,
    /// Times it missed; of each downtime the first hundred or so count.
    missed: u64,
    /// Why it cannot go on, or what went wrong last.
    error: Option<&'a str>,
    /// What a built-in one did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    did: Option<&'a str>,
    /// How long that took, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    took_ms: Option<u64>,
    /// The next ten planned times, without jitter. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, required = false)]
    upcoming: Option<Vec<Timestamp>>,
    /// What became of the last 20 times, newest first. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    history: Option<Vec<HistoryEntry<'a>>>,
}

impl<'a> ScheduleAnswer<'a> {
    fn new(stored: &'a StoredSchedule) -> Self {
        let StoredSchedule { schedule, state } = stored;
        let (mut cron, mut every_ms, mut anchor, mut at) = (None, None, None, None);
        match &schedule.timing {
            Timing::Cron(pattern) => cron = Some(pattern.as_str()),
            Timing::Every { every_ms: every, anchor_ms } => {
                (every_ms, anchor) = (Some(*every), Some(Timestamp(*anchor_ms)));
            }
            Timing::At(at_ms) => at = Some(Timestamp(*at_ms)),
        }
        let (mut job, mut action) = (None, None);
        match &schedule.work {
            Work::Job(spec) => {
                job = Some(Template {
                    job_type: &spec.job_type,
                    queue: spec.queue(),
                    priority: spec.priority,
                    input: Json(&spec.input),
                    metadata: Json(spec.metadata.as_deref().unwrap_or("{}")),
                    tags: &spec.tags,
                    correlation_id: spec.correlation_id.as_deref(),
                    max_attempts: spec.max_attempts,
                    retry: spec.retry.as_deref(),
                    soft_limit_ms: spec.soft_limit_ms,
                    hard_limit_ms: spec.hard_limit_ms,
                    unique_key: spec.unique_key.as_deref(),
                    unique_until: spec.unique_until.map(|UniqueUntil::Started| "started"),
                    unique_for_ms: spec.unique_for_ms,
                    replace_input: schedule.replace_input,
                    flow_key: spec.key.as_deref().map(flow::decode_key),
                    weight: spec.weight,
                });
            }
            Work::Action(which) => action = Some(which.name()),
        }
        Self {
            name: &schedule.name,
            source: match schedule.work {
                Work::Action(_) => "built-in",
                Work::Job(_) if schedule.from_file => "file",
                Work::Job(_) => "api",
            },
            status: match (state.paused, state.next_ms.or(state.waiting_ms)) {
                (true, _) => "paused",
                (false, Some(_)) => "active",
                (false, None) => "ended",
            },
            cron,
            every_ms,
            anchor,
            at,
            timezone: &schedule.timezone,
            overlap: schedule.overlap.name(),
            catch_up: schedule.catch_up.name(),
            catch_up_max: schedule.catch_up_max,
            jitter_ms: schedule.jitter_ms,
            starts_at: schedule.starts_ms.map(Timestamp),
            ends_at: schedule.ends_ms.map(Timestamp),
            max_runs: schedule.max_runs,
            job,
            action,
            next_at: state.next_ms.filter(|_| !state.paused).map(Timestamp),
            waiting_at: state.waiting_ms.map(Timestamp),
            last_at: state.last_ms.map(Timestamp),
            last_job: state.job,
            fired: state.fired,
            missed: state.missed,
            error: state.error.as_deref(),
            did: state.did.as_deref(),
            took_ms: state.took_ms,
            upcoming: None,
            history: None,
        }
    }

    /// With what the list leaves out.
    fn full(stored: &'a StoredSchedule, history: &'a [Fired], now_ms: u64) -> Self {
        let entry = |fired: &'a Fired| HistoryEntry {
            planned_at: Timestamp(fired.planned_ms),
            at: Timestamp(fired.at_ms),
            job: fired.job,
            note: fired.note.as_deref(),
            times: fired.times,
        };
        Self {
            upcoming: Some(upcoming(stored, now_ms, UPCOMING).into_iter().map(Timestamp).collect()),
            history: Some(history.iter().map(entry).collect()),
            ..Self::new(stored)
        }
    }
}

/// The next planned times, at most `most`, without jitter.
pub(crate) fn upcoming(stored: &StoredSchedule, now_ms: u64, most: usize) -> Vec<u64> {
    let StoredSchedule { schedule, state } = stored;
    let number = match schedule.max_runs {
        Some(runs) => most.min(runs.saturating_sub(state.fired) as usize),
        None => most,
    };
    let from_ms = match state.next_ms {
        Some(next_ms) if !state.paused => next_ms.saturating_sub(1),
        _ => now_ms,
    };
    match (state.next_ms, schedule.calendar()) {
        (Some(_), Ok(calendar)) => calendar.upcoming(from_ms, number).unwrap_or_default(),
        _ => Vec::new(),
    }
}

impl Service {
    pub(crate) async fn schedule(&self, name: &str) -> Result<StoredSchedule, Problem> {
        self.store.schedule(name).await?.ok_or_else(|| unknown(name))
    }

    /// Hides what people are not shown of the job that a schedule makes.
    fn hide_template(&self, stored: &mut StoredSchedule) {
        if let Work::Job(spec) = &mut stored.schedule.work {
            spec.input = self.shown_input(spec);
        }
    }

    async fn show_schedule(&self, status: StatusCode, name: &str) -> Result<Response, Problem> {
        let mut stored = self.schedule(name).await?;
        self.hide_template(&mut stored);
        let history = self.store.schedule_history(name).await?;
        let now_ms = self.store.now_ms().await?;
        Ok(reply(status, &ScheduleAnswer::full(&stored, &history, now_ms)))
    }
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::UnknownSchedule, format!("There is no schedule {:?}.", request::shorten(name)))
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
pub(super) struct Schedules<'a> {
    /// By name.
    schedules: Vec<ScheduleAnswer<'a>>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<&'a str>,
}

/// What to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Schedules of a page, 1 to 1,000. Default 100.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the schedules by name, the built-in ones included.
#[utoipa::path(
    get, path = "/api/v1/schedules", tag = "schedules", operation_id = "list_schedules", params(List),
    responses((status = 200, description = "One page.", body = Schedules)),
)]
pub(super) async fn list(
    Shared(service): Shared<Arc<Service>>,
    Params(query): Params<List>,
) -> Result<Response, Problem> {
    let limit = limit(query.limit, LIST_DEFAULT, LIST_MAX)?;
    let mut found = service.store.schedules(query.cursor.as_deref(), limit).await?;
    found.iter_mut().for_each(|stored| service.hide_template(stored));
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|last| last.schedule.name.as_str());
    let schedules = found.iter().map(ScheduleAnswer::new).collect();
    Ok(reply(StatusCode::OK, &Schedules { schedules, next_cursor }))
}

/// One schedule, its next ten times, and what became of the last 20.
#[utoipa::path(
    get, path = "/api/v1/schedules/{name}", tag = "schedules", operation_id = "show_schedule",
    params(("name" = String, Path, description = "Its name.")),
    responses(
        (status = 200, description = "The schedule.", body = ScheduleAnswer),
        (status = 404, description = "unknown-schedule"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    service.show_schedule(StatusCode::OK, &name).await
}

/// Creates or replaces a schedule. The same again changes nothing. As long as the fields that say when stay the same,
/// the next time does.
#[utoipa::path(
    put, path = "/api/v1/schedules/{name}", tag = "schedules", operation_id = "put_schedule",
    params(("name" = String, Path, description = "1 to 100 of letters, digits, '_', '-' and '.'.")),
    request_body = ScheduleRequest,
    responses(
        (status = 201, description = "Created.", body = ScheduleAnswer),
        (status = 200, description = "Replaced, or the same was there.", body = ScheduleAnswer),
        (status = 409, description = "schedule-held"),
        (status = 413, description = "input-too-large"),
        (status = 422, description = "unknown-field, invalid-field, unknown-job-type, invalid-input"),
    ),
)]
pub(super) async fn put(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
    body: Body,
) -> Result<Response, Problem> {
    let text = request::body(body, service.settings.body_bytes_max, service.body_timeout()).await?;
    let definition =
        Definition::read(&name, &text, service.settings.input_bytes_max, &service.store.options().webhooks)?;
    if let Work::Job(spec) = &definition.schedule.work {
        let input = RawValue::from_string(spec.input.clone()).map_err(Problem::internal)?;
        service.check_input(&spec.job_type, &input).await.map_err(|problem| problem.within("/job"))?;
    }
    let status = match service.store.put_schedule(&definition.schedule, definition.paused).await? {
        PutAnswer::Created => StatusCode::CREATED,
        PutAnswer::Replaced | PutAnswer::Same => StatusCode::OK,
        PutAnswer::FromFile => {
            return Err(Problem::new(
                Code::ScheduleHeld,
                format!(
                    "The configuration file of a host holds the schedule {name:?}: change it there. It can be paused, \
                     resumed, run and deleted here."
                ),
            ));
        }
    };
    tracing::info!(schedule = name, "schedule kept");
    service.show_schedule(status, &name).await
}

/// Forgets a schedule. Jobs that it made stay.
#[utoipa::path(
    delete, path = "/api/v1/schedules/{name}", tag = "schedules", operation_id = "delete_schedule",
    params(("name" = String, Path, description = "Its name.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "unknown-schedule"),
        (status = 409, description = "schedule-held"),
    ),
)]
pub(super) async fn delete(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    if name.starts_with(RESERVED) {
        return Err(Problem::new(
            Code::ScheduleHeld,
            "A built-in schedule cannot be deleted; it can be paused.",
        ));
    }
    if !service.store.delete_schedule(&name).await? {
        return Err(unknown(&name));
    }
    tracing::info!(schedule = name, "schedule deleted");
    Ok(axum::response::IntoResponse::into_response(StatusCode::NO_CONTENT))
}

/// Pauses a schedule: it does not fire, and what passes meanwhile is not missed.
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/pause", tag = "schedules", operation_id = "pause_schedule",
    params(("name" = String, Path, description = "Its name.")),
    responses(
        (status = 202, description = "Paused.", body = ScheduleAnswer),
        (status = 404, description = "unknown-schedule"),
    ),
)]
pub(crate) async fn pause(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    if !service.store.pause_schedule(&name).await? {
        return Err(unknown(&name));
    }
    tracing::info!(schedule = name, "schedule paused");
    service.show_schedule(StatusCode::ACCEPTED, &name).await
}

/// Lets a schedule fire again, from its next time on.
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/resume", tag = "schedules", operation_id = "resume_schedule",
    params(("name" = String, Path, description = "Its name.")),
    responses(
        (status = 202, description = "Resumed.", body = ScheduleAnswer),
        (status = 404, description = "unknown-schedule"),
    ),
)]
pub(crate) async fn resume(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    if !service.store.resume_schedule(&name).await? {
        return Err(unknown(&name));
    }
    tracing::info!(schedule = name, "schedule resumed");
    service.show_schedule(StatusCode::ACCEPTED, &name).await
}

/// What became of a wish to run a schedule now.
#[derive(Serialize, ToSchema)]
pub(super) struct Ran<'a> {
    /// The schedule.
    name: &'a str,
    /// The job that was made, or the one that has its unique key.
    #[schema(value_type = Option<String>)]
    job: Option<JobId>,
    /// The run waits for the end of the job made last.
    waiting: bool,
}

/// Runs a schedule now, whether it is paused or not. Its planned times stay as they are; its overlap policy holds.
#[utoipa::path(
    post, path = "/api/v1/schedules/{name}/run", tag = "schedules", operation_id = "run_schedule",
    params(("name" = String, Path, description = "Its name.")),
    responses(
        (status = 202, description = "It runs, or waits.", body = Ran),
        (status = 404, description = "unknown-schedule"),
        (status = 409, description = "schedule-busy"),
    ),
)]
pub(crate) async fn run(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    let Some((outcome, request)) = service.store.run_schedule(&name).await? else {
        return Err(unknown(&name));
    };
    tracing::info!(schedule = name, ?outcome, "schedule asked to run");
    let ran = match outcome {
        Outcome::Job(id) | Outcome::Unique(id) => Ran { name: &name, job: Some(id), waiting: false },
        Outcome::Waits => Ran { name: &name, job: None, waiting: true },
        Outcome::Action => {
            let maintenance = service.maintenance.clone();
            crate::task::spawn(async move { maintenance.act(&request).await });
            Ran { name: &name, job: None, waiting: false }
        }
        Outcome::Refused => {
            return Err(Problem::new(
                Code::ScheduleBusy,
                format!(
                    "The limits of the queue let no more jobs of the schedule {name:?} wait; run it later."
                ),
            ));
        }
        Outcome::Overlap => {
            return Err(Problem::new(
                Code::ScheduleBusy,
                format!(
                    "The job that the schedule {name:?} made last has not ended, and its overlap policy says so."
                ),
            ));
        }
        Outcome::Ended => {
            return Err(Problem::new(
                Code::ScheduleBusy,
                format!("The schedule {name:?} has made all the jobs that max_runs allows."),
            ));
        }
    };
    Ok(reply(StatusCode::ACCEPTED, &ran))
}

/// Times to look at before a schedule is made. One of `cron`, `every_ms` and `at`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Preview {
    /// See the schedule.
    cron: Option<String>,
    /// See the schedule.
    every_ms: Option<u64>,
    /// See the schedule.
    anchor: Option<String>,
    /// See the schedule.
    at: Option<String>,
    /// See the schedule.
    timezone: Option<String>,
    /// Times after this one (RFC 3339). Default: now.
    after: Option<String>,
    /// How many, 1 to 100. Default 10.
    limit: Option<usize>,
}

/// Planned times.
#[derive(Serialize, ToSchema)]
pub(super) struct Upcoming {
    /// The zone.
    timezone: String,
    /// Oldest first.
    #[schema(value_type = Vec<String>)]
    upcoming: Vec<Timestamp>,
}

/// The next times of a pattern, without keeping a schedule.
#[utoipa::path(
    get, path = "/api/v1/schedules/preview", tag = "schedules", operation_id = "preview_schedule", params(Preview),
    responses((status = 200, description = "The times.", body = Upcoming)),
)]
pub(super) async fn preview(
    Shared(service): Shared<Arc<Service>>,
    Params(query): Params<Preview>,
) -> Result<Response, Problem> {
    let number = limit(query.limit, UPCOMING, PREVIEW_MAX)?;
    let wrong = |field: &str, detail: String| match field {
        "" => invalid_query(detail),
        _ => invalid_query(format!("{field}: {detail}")),
    };
    let timing = timing(query.cron, query.every_ms, query.anchor.as_deref(), query.at.as_deref(), wrong)?;
    let after_ms = match moment("after", query.after.as_deref(), wrong)? {
        Some(after_ms) => after_ms,
        None => service.store.now_ms().await?,
    };
    let schedule = Schedule {
        timing,
        timezone: query.timezone.unwrap_or_else(|| "UTC".to_owned()),
        ..schedule::Action::ExpireKeys.schedule()
    };
    let times = schedule.calendar().and_then(|calendar| calendar.upcoming(after_ms, number));
    let times = times.map_err(|invalid| wrong(invalid.field, invalid.detail))?;
    let upcoming = times.into_iter().map(Timestamp).collect();
    Ok(reply(StatusCode::OK, &Upcoming { timezone: schedule.timezone, upcoming }))
}

/// The schedule that made a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeBy<'a> {
    /// Its name.
    pub name: &'a str,
    /// The planned time.
    #[schema(value_type = String, format = DateTime)]
    pub planned_at: Timestamp,
}
