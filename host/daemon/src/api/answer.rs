//! What a job looks like in answers. Values of callers and plugins are passed on as the text that they are.

use super::schedules::MadeBy;
use serde::{Deserialize, Serialize, Serializer, ser};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};
use time::OffsetDateTime;
use utoipa::ToSchema;
use waymark_job::{JobId, State, flow};
use waymark_store::View;

/// The last time that RFC 3339 can write in UTC, Unix milliseconds. A time that a caller gives with an offset may be later.
const LATEST_MS: u64 = 253_402_300_799_999;

/// A time in answers: RFC 3339, UTC, milliseconds. What is later than the year 9999 is written as its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.min(LATEST_MS);
        let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
        let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write!(
            formatter,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            ms % 1_000
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// JSON text that is passed on. Text that is no JSON, which only damage in the store can bring about, becomes a
/// string.
#[derive(Clone, Copy, Debug)]
pub struct Json<'a>(pub &'a str);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(self.0) {
            Ok(value) => value.serialize(serializer),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}

/// A line that a job logged, as the store keeps it; in answers its time is written like all others.
#[derive(Deserialize)]
struct Line<'a> {
    at: u64,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow, default)]
    fields: Option<&'a RawValue>,
}

/// A log line.
#[derive(Serialize, ToSchema)]
pub struct LogLine<'a> {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    level: Cow<'a, str>,
    /// The text.
    #[schema(value_type = String)]
    message: &'a RawValue,
    /// A JSON object, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, required = false)]
    fields: Option<&'a RawValue>,
    /// The job's, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

impl<'a> LogLine<'a> {
    /// Reads a stored line; `None` if it has another shape. The correlation id is not stored with every line: it is the
    /// job's.
    #[must_use]
    pub fn read(text: &'a str, correlation_id: Option<&'a str>) -> Option<Self> {
        let Line { at, level, message, fields } = serde_json::from_str(text).ok()?;
        Some(Self { at: Timestamp(at), level, message, fields, correlation_id })
    }
}

/// A state by its name.
#[derive(Clone, Copy, Debug)]
struct Name(State);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

/// Where a job stands.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Status {
    /// Not before a time.
    Scheduled,
    /// In a line.
    Queued,
    /// Claimed by a host.
    Running,
    /// For children or a signal.
    Waiting,
    /// Stopped by an operator, with its last checkpoint.
    Paused,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended by an operator.
    Cancelled,
}

/// How far a job is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Progress<'a> {
    /// Units of work finished.
    pub current: u64,
    /// Units of work in all, where known.
    pub total: Option<u64>,
    /// One line for a person.
    pub message: Option<&'a str>,
    /// 0 to 100 with one decimal, where the total is known.
    pub percent: Option<f64>,
}

impl<'a> Progress<'a> {
    /// The stored progress, with its percentage.
    #[must_use]
    pub fn new(progress: &'a waymark_job::Progress) -> Self {
        let percent = progress.total.filter(|total| *total > 0).map(|total| {
            let share = progress.current.min(total) as f64 / total as f64;
            (share * 1_000.0).floor() / 10.0
        });
        Self {
            current: progress.current,
            total: progress.total,
            message: progress.message.as_deref(),
            percent,
        }
    }
}

/// Why a job failed, or why its last attempt did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct JobFailure<'a> {
    /// Stable code.
    pub kind: &'a str,
    /// One sentence.
    pub message: &'a str,
    /// Back-trace of the guest, where there is one.
    pub trace: Option<&'a str>,
}

/// Where a route sent a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = JobRoute)]
pub struct Routed<'a> {
    /// Name of the target.
    arm: &'a str,
    /// `version`, `celery` or `http`.
    kind: &'a str,
    /// SHA-256 of the version, the Celery queue and task, or the address.
    target: &'a str,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt<'a> {
    /// Run in which it was.
    run: u32,
    /// Its number in that run.
    attempt: u32,
    /// When it failed.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Stable code.
    kind: &'a str,
    /// One sentence, cut at 300 characters.
    message: &'a str,
}

/// Something in a job's life: a stay on a worker that is over, or something that was asked of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobHistory)]
pub struct Happened<'a> {
    /// When it was; of a stay, when it ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Of a stay how it ended: `succeeded`, `failed`, `tried again`, `sleeps`, `waits for children`, `waits for a signal`,
    /// `paused`, `released`, `cancelled` or `lost`. Else what was asked for: `pause`, `resume`, `restart`, `retry` or
    /// `cancel`; a pause stands where it took effect.
    what: &'a str,
    /// The run.
    run: u32,
    /// When the stay began; `null`: it is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The worker, or who asked; `null` where that is not known.
    by: Option<&'a str>,
    /// Version of the plugin that the run began with.
    plugin_version: Option<&'a str>,
    /// So many stays of this kind one after the other.
    times: u32,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job<'a> {
    /// 26 characters; ids sort by creation time.
    #[schema(value_type = String, example = "01K0Q5Z3V6T4S8W2R9YBXNCMDE")]
    id: JobId,
    /// Job type.
    #[serde(rename = "type")]
    job_type: &'a str,
    /// Queue.
    queue: &'a str,
    /// Where the job stands.
    #[schema(value_type = Status)]
    status: Name,
    /// A pause was asked for and happens at the end of the running step.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pause_pending: bool,
    /// 0 to 9, 9 first.
    priority: u8,
    /// As last committed.
    progress: Option<Progress<'a>>,
    /// Number of the current or last attempt in this run; 0 before the first start.
    attempt: u32,
    /// Number of the run; a restart begins the next.
    run: u32,
    /// The ended job that this one was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    replay_of: Option<JobId>,
    /// The last 10 jobs that were made from this one after its end, oldest first. Left out if there are none.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    replays: &'a [JobId],
    /// Committed steps of this run.
    step: u64,
    /// Committed output records of this run.
    outputs: u64,
    /// As given. Left out in lists unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    input: Option<Json<'a>>,
    /// Id of the key that input and metadata are encrypted with, where this host does not have it: they are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    missing_key: Option<&'a str>,
    /// `null` until the job has succeeded. Left out in lists unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    result: Option<Json<'a>>,
    /// Why `result` is `null` although the job succeeded: it lies in the object storage and cannot be had, or its key is
    /// missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    result_error: Option<&'a str>,
    /// Result and output records were forgotten: `retention.results_ms`.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    result_expired: bool,
    /// Why the job, or its last attempt, failed.
    error: Option<JobFailure<'a>>,
    /// The last failed attempts, of earlier runs too, oldest first; at most 10. Left out if there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    failures: Vec<Attempt<'a>>,
    /// What was in its life, of earlier runs too, oldest first; at most 20. Left out of a job that was not more than created
    /// and run once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    history: Vec<Happened<'a>>,
    /// What was asked for about retries. Left out if that was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, required = false)]
    retry: Option<&'a waymark_job::RetryPolicy>,
    /// As given.
    #[schema(value_type = Object)]
    metadata: Json<'a>,
    /// Labels.
    tags: &'a [String],
    /// The caller's id for the larger whole.
    correlation_id: Option<&'a str>,
    /// See the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unique_key: Option<&'a str>,
    /// Jobs of one flow key take turns with those of the queue's other keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    flow_key: Option<String>,
    /// What it counts for in limits, where that is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    weight: Option<u32>,
    /// The job that spawned this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    parent: Option<JobId>,
    /// The schedule that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    schedule: Option<MadeBy<'a>>,
    /// The jobs that this one spawned in this run.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    children: &'a [JobId],
    /// The signal that the job waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    awaited_signal: Option<&'a str>,
    /// Version of the plugin that runs or ran the job.
    plugin_version: Option<&'a str>,
    /// SHA-256 of that plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    plugin_digest: Option<&'a str>,
    /// Where the route of the job type sent it, as last committed. Left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    route: Option<Routed<'a>>,
    /// The job that this one is a copy of: it runs without effects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    shadow_of: Option<JobId>,
    /// The worker that holds or last held the job.
    host: Option<&'a str>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// First start of this run.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// It starts or goes on no sooner than this.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_before: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a list shows of each job beyond the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Include {
    /// The input.
    pub input: bool,
    /// The result.
    pub result: bool,
}

impl Include {
    /// Both.
    pub const ALL: Self = Self { input: true, result: true };
    /// Neither.
    pub const NONE: Self = Self { input: false, result: false };
}

impl<'a> Job<'a> {
    /// The answer for a job as the store knows it.
    #[must_use]
    pub fn new(view: &'a View, include: Include) -> Self {
        let View { spec, record, .. } = view;
        let started = record.started_ms.is_some() || view.state == State::Running;
        let attempt = match view.state {
            _ if !started => 0,
            // The attempt that failed last is counted already.
            State::Failed => record.attempt.max(1),
            _ => record.attempt + 1,
        };
        Self {
            id: view.id,
            job_type: &spec.job_type,
            queue: spec.queue(),
            status: Name(view.state),
            pause_pending: view.pause_pending,
            priority: spec.priority,
            progress: record.progress.as_ref().map(|progress| {
                let mut progress = Progress::new(progress);
                // The last step has no progress of its own.
                if view.state == State::Succeeded {
                    progress.percent = Some(100.0);
                }
                progress
            }),
            attempt,
            run: record.run,
            replay_of: spec.replay_of,
            replays: &record.replays,
            step: record.step,
            outputs: record.outputs,
            input: include.input.then_some(Json(&spec.input)),
            missing_key: view.sealed.as_deref(),
            result: include.result.then(|| match view.state {
                State::Succeeded => Json(view.result.as_deref().unwrap_or("null")),
                _ => Json("null"),
            }),
            result_error: view.result_error.as_deref(),
            result_expired: record.expired,
            error: record.error.as_ref().map(|error| JobFailure {
                kind: &error.kind,
                message: &error.message,
                trace: error.trace.as_deref(),
            }),
            failures: record
                .failures
                .iter()
                .map(|one| Attempt {
                    run: one.run,
                    attempt: one.attempt,
                    at: Timestamp(one.at_ms),
                    kind: &one.kind,
                    message: &one.message,
                })
                .collect(),
            history: record
                .past
                .iter()
                .map(|one| Happened {
                    at: Timestamp(one.at_ms),
                    what: &one.what,
                    run: one.run,
                    since: one.since_ms.map(Timestamp),
                    by: one.by.as_deref(),
                    plugin_version: one.version.as_deref(),
                    times: one.times.unwrap_or(1),
                })
                .collect(),
            retry: spec.retry.as_deref(),
            metadata: Json(spec.metadata.as_deref().unwrap_or("{}")),
            tags: &spec.tags,
            correlation_id: spec.correlation_id.as_deref(),
            unique_key: spec.unique_key.as_deref(),
            flow_key: spec.key.as_deref().map(flow::decode_key),
            weight: spec.weight,
            parent: spec.parent,
            schedule: spec
                .schedule
                .as_ref()
                .map(|firing| MadeBy { name: &firing.name, planned_at: Timestamp(firing.planned_ms) }),
            children: &record.children,
            awaited_signal: record.signal.as_deref().filter(|_| view.state == State::Waiting),
            plugin_version: record.version.as_deref(),
            plugin_digest: record.digest.as_deref(),
            route: record.route.as_deref().map(|routed| Routed {
                arm: &routed.arm,
                kind: &routed.kind,
                target: &routed.target,
            }),
            shadow_of: spec.shadow.as_ref().map(|of| of.job),
            host: record.host.as_deref(),
            created_at: Timestamp(view.id.created_ms()),
            started_at: record.started_ms.map(Timestamp),
            ended_at: record.ended_ms.filter(|_| view.state.is_ended()).map(Timestamp),
            not_before: record.not_before_ms.map(Timestamp),
        }
    }
}

/// JSON text on one line: what guests write may have line breaks between its tokens, never within them.
#[must_use]
pub fn one_line(text: String) -> String {
    if text.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        text.replace(['\n', '\r'], " ")
    } else {
        text
    }
}

/// Serialises to text; what cannot be serialised becomes `null`.
pub fn text<T: ser::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_790_000_000_123).to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!(Timestamp(253_402_318_799_000).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn percent_never_rounds_up_to_the_end() {
        let percent =
            |current, total| Progress::new(&waymark_job::Progress { current, total, message: None }).percent;
        assert_eq!(percent(9_999, Some(10_000)), Some(99.9));
        assert_eq!(percent(5, Some(4)), Some(100.0));
        assert_eq!(percent(5, Some(0)), None);
        assert_eq!(percent(5, None), None);
    }

    #[test]
    fn numbers_pass_as_they_were_written() {
        let text = r#"{"n":123456789012345678901234567890,"f":1.10}"#;
        assert_eq!(super::text(&Json(text)), text);
        assert_eq!(super::text(&Json("oops")), "\"oops\"");
    }
}
