//! Tasks that workers of Celery run in place of jobs: what they are sent, and what they say became of it. Pure.

use super::{
    config::Celery,
    mapping,
    message::{self, Embed, Outgoing, Raw},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use waymark_job::{Failure, JobId, Progress, Record, SentTask, Spec, route};
use waymark_sandbox::Fault;

/// Characters kept of a traceback, its end: it travels with the job's record.
const TRACEBACK_CHARS_MAX: usize = 8_000;
/// What messages say of where they come from.
const ORIGIN: &str = "waymark";

/// The id of the task that runs in place of an attempt: whoever asks again gets the same.
pub(crate) fn task_id(job: &JobId, run: u32, attempt: u32) -> String {
    message::uuid_of(&format!("attempt {job} {run} {attempt}"))
}

/// A message for workers, and what the job's record notes of it.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) list: String,
    pub(crate) message: String,
    pub(crate) sent: SentTask,
}

/// An attempt that a task is to stand for.
pub(crate) struct Attempt<'a> {
    pub(crate) job: &'a JobId,
    pub(crate) spec: &'a Spec,
    pub(crate) record: &'a Record,
    /// How long it may take.
    pub(crate) hard_limit_ms: Option<u64>,
    /// Now, Unix milliseconds.
    pub(crate) now_ms: u64,
}

/// The task of an attempt. `broker`: number of the broker's database.
///
/// # Errors
/// The input cannot be read as arguments of the task; one sentence.
pub(crate) fn sending(
    settings: &Celery,
    broker: i64,
    target: &route::Celery,
    attempt: &Attempt<'_>,
) -> Result<Sending, String> {
    let Attempt { job, spec, record, hard_limit_ms, now_ms } = *attempt;
    let (args, kwargs) = mapping::arguments(target.input.as_ref(), &spec.input)?;
    let id = task_id(job, record.run, record.attempt);
    // Celery on Redis serves 0 first.
    let priority = 9 - spec.priority.min(9);
    let seconds = hard_limit_ms.map(|limit_ms| limit_ms as f64 / 1e3);
    let mut headers = Map::new();
    headers.insert("waymark_job".into(), job.as_str().into());
    let message = message::write(Outgoing {
        id: &id,
        task: target.task.as_deref().unwrap_or_default(),
        queue: &target.queue,
        args,
        kwargs: &kwargs,
        embed: Embed::default(),
        root: &id,
        parent: None,
        group: None,
        eta: None,
        expires: None,
        limits: (json!(seconds), Value::Null),
        ignore_result: false,
        priority,
        reply_to: None,
        origin: ORIGIN,
        headers,
    });
    let list = message::list(&settings.key_prefix, &target.queue, priority);
    let sent = SentTask {
        since_ms: now_ms.saturating_sub(record.ran_ms),
        channel: format!("{}/{broker}.celery.pidbox", settings.key_prefix),
        revoke: revoke(&id),
        id,
    };
    Ok(Sending { list, message, sent })
}

/// What `app.control.revoke(id, terminate=True)` publishes.
fn revoke(id: &str) -> String {
    message::envelope(
        &json!({
            "method": "revoke", "arguments": {"task_id": id, "terminate": true, "signal": "SIGTERM"},
            "destination": null, "pattern": null, "matcher": null,
        })
        .to_string(),
        &json!({"clock": 1, "expires": 0}),
        json!({
            "delivery_mode": 2, "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": message::uuid_of(&format!("revoke {id}")),
        }),
    )
}

/// What workers say of a task.
#[derive(Debug)]
pub(crate) enum Told {
    /// It has not ended; how far it is, where it says so.
    Goes(Option<Progress>),
    /// Its result, JSON text in one line; when it ended, Unix milliseconds.
    Succeeded(String, Option<u64>),
    /// Why it failed, and when.
    Failed(Fault, Option<u64>),
    /// Somebody revoked it.
    Revoked,
}

/// What Celery's Redis backend writes.
#[derive(Deserialize)]
struct Meta {
    status: String,
    #[serde(default)]
    result: Option<Raw>,
    #[serde(default)]
    traceback: Option<String>,
    #[serde(default)]
    date_done: Option<String>,
}

/// Reads a result; `None`: nothing was written yet.
pub(crate) fn told(text: Option<&[u8]>) -> Told {
    let Some(text) = text else { return Told::Goes(None) };
    let meta: Meta = match serde_json::from_slice(text) {
        Ok(meta) => meta,
        Err(error) => {
            let why = format!(
                "the task's result is no JSON ({error}): its workers need result_serializer = \"json\", and values that \
                 JSON has"
            );
            return Told::Failed(Fault::Failure(Failure::Permanent(why)), None);
        }
    };
    let done_ms = meta.date_done.as_deref().and_then(message::time_ms);
    let value = || meta.result.as_deref().map_or(Value::Null, message::to_value);
    match meta.status.as_str() {
        "SUCCESS" => {
            let text = meta.result.as_deref().map_or("null", |raw| raw.get());
            // Inside of strings line breaks are escaped.
            Told::Succeeded(text.replace(['\n', '\r'], " "), done_ms)
        }
        "FAILURE" => Told::Failed(fault(&value(), meta.traceback), done_ms),
        "REVOKED" => Told::Revoked,
        // Celery tries it again, under the same id. Any other state is one of the task's own.
        "RETRY" | "PENDING" | "RECEIVED" | "STARTED" => Told::Goes(None),
        _ => Told::Goes(progress(&value())),
    }
}

/// The task that a published result is of, where it says that the task has ended. What cannot be read is no such end.
pub(crate) fn ended(text: &[u8]) -> Option<uuid::Uuid> {
    #[derive(Deserialize)]
    struct End {
        status: String,
        task_id: String,
    }
    let end: End = serde_json::from_slice(text).ok()?;
    let is_end = matches!(end.status.as_str(), "SUCCESS" | "FAILURE" | "REVOKED");
    // Another's task may be named in any way; those that were sent from here have this shape.
    is_end.then(|| uuid::Uuid::parse_str(&end.task_id).ok()).flatten()
}

/// Progress in the shape of celery-progress.
fn progress(value: &Value) -> Option<Progress> {
    let number =
        |name: &str| value[name].as_f64().filter(|number| *number >= 0.0).map(|number| number as u64);
    let message = value["description"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Progress { current: number("current")?, total: number("total").filter(|total| *total > 0), message })
}

/// A failure of the task, named so that callers of the Celery front meet the same exception.
fn fault(exception: &Value, traceback: Option<String>) -> Fault {
    let kind = exception["exc_type"].as_str().unwrap_or("Exception");
    let arguments = match &exception["exc_message"] {
        Value::Array(arguments) => arguments.clone(),
        Value::Null => Vec::new(),
        other => vec![other.clone()],
    };
    let shown = match arguments.as_slice() {
        [Value::String(text)] => text.clone(),
        many => many.iter().map(message::repr).collect::<Vec<_>>().join(", "),
    };
    let name = match exception["exc_module"].as_str() {
        None | Some("builtins") => kind.to_owned(),
        Some(module) => format!("{module}.{kind}"),
    };
    let message = format!("{name}: {shown}");
    let trace = traceback.map(|text| {
        let length = text.chars().count();
        text.chars().skip(length.saturating_sub(TRACEBACK_CHARS_MAX)).collect()
    });
    match kind {
        // The worker died, not the task.
        "WorkerLostError" | "WorkerShutdown" | "WorkerTerminate" => {
            Fault::Failure(Failure::Transient(message))
        }
        "TimeLimitExceeded" | "SoftTimeLimitExceeded" => Fault::Trap { kind: "hard-limit", message, trace },
        // Celery has tried as often as the task says.
        _ => Fault::Trap { kind: "permanent", message, trace },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (JobId, Spec) {
        let id = JobId::generate(1_790_000_000_000, 0).unwrap();
        let input = r#"{"args": [1, "x"], "kwargs": {"y": 2}}"#.to_owned();
        (id, Spec { job_type: "t".into(), priority: 5, input, ..Spec::default() })
    }

    fn target() -> route::Celery {
        route::Celery { queue: "old".into(), task: Some("app.add".into()), input: None }
    }

    #[test]
    fn a_job_is_sent_as_its_task_the_same_each_time() {
        let (id, spec) = job();
        let settings = Celery { key_prefix: "app:".into(), ..Celery::default() };
        let record = Record { ran_ms: 300, ..Record::default() };
        let send = |record: &Record| {
            let attempt =
                Attempt { job: &id, spec: &spec, record, hard_limit_ms: Some(1_500), now_ms: 10_000 };
            sending(&settings, 3, &target(), &attempt).unwrap()
        };
        let first = send(&record);
        assert_eq!(first.list, "app:old\u{6}\u{16}3");
        let task = message::read(first.message.as_bytes()).unwrap();
        assert_eq!((task.id.as_str(), task.name.as_str()), (first.sent.id.as_str(), "app.add"));
        assert_eq!((task.args.len(), task.kwargs["y"].get(), task.priority), (2, "2", 4));
        assert_eq!((task.limits_ms, task.ignore_result), ((Some(1_500), None), false));
        assert_eq!(task.headers["waymark_job"], id.as_str());
        assert_eq!((first.sent.since_ms, first.sent.channel.as_str()), (9_700, "app:/3.celery.pidbox"));
        let (body, _) = message::body_of(first.sent.revoke.as_bytes()).unwrap();
        assert_eq!(
            (&body["method"], &body["arguments"]["task_id"]),
            (&json!("revoke"), &json!(first.sent.id))
        );
        assert_eq!(send(&record).message, first.message, "the same message, to the letter");
        let next = send(&Record { attempt: 1, ..record.clone() });
        let again = send(&Record { run: 2, ..record });
        assert!(
            next.sent.id != first.sent.id && again.sent.id != first.sent.id && next.sent.id != again.sent.id
        );
    }

    #[test]
    fn an_input_that_is_no_arguments_is_refused() {
        let (id, spec) = job();
        let spec = Spec { input: r#"{"n": 1}"#.into(), ..spec };
        let record = Record::default();
        let attempt = Attempt { job: &id, spec: &spec, record: &record, hard_limit_ms: None, now_ms: 0 };
        let refused = sending(&Celery::default(), 0, &target(), &attempt).unwrap_err();
        assert!(refused.starts_with("input/n"), "{refused}");
    }

    #[test]
    fn results_become_ends() {
        let read = |value: Value| told(Some(value.to_string().as_bytes()));
        assert!(matches!(told(None), Told::Goes(None)));
        for goes in ["PENDING", "RECEIVED", "STARTED", "RETRY"] {
            assert!(
                matches!(read(json!({"status": goes, "result": {"current": 1}})), Told::Goes(None)),
                "{goes}"
            );
        }
        let done = br#"{"status": "SUCCESS", "result": {"n": 123456789012345678901234567890},
                        "traceback": null, "children": [], "date_done": "2026-11-24T00:05:49.954000+00:00"}"#;
        match told(Some(done)) {
            Told::Succeeded(text, done_ms) => {
                assert_eq!(text, r#"{"n": 123456789012345678901234567890}"#);
                assert_eq!(done_ms, Some(1_795_478_749_954));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(read(json!({"status": "SUCCESS"})), Told::Succeeded(text, None) if text == "null"));
        assert!(matches!(
            read(json!({"status": "REVOKED", "result": {"exc_type": "TaskRevokedError"}})),
            Told::Revoked
        ));
        let half =
            json!({"current": 3, "total": 6, "percent": 50.0, "description": "rows", "pending": false});
        match read(json!({"status": "PROGRESS", "result": half})) {
            Told::Goes(Some(progress)) => assert_eq!(
                (progress.current, progress.total, progress.message.as_deref()),
                (3, Some(6), Some("rows"))
            ),
            other => panic!("{other:?}"),
        }
        assert!(matches!(read(json!({"status": "MINE", "result": [1]})), Told::Goes(None)));
        for broken in [&b"\x80\x04pickle"[..], b"{\"status\": \"SUCCESS\", \"result\": NaN}", b"[]"] {
            assert!(
                matches!(told(Some(broken)), Told::Failed(Fault::Failure(Failure::Permanent(why)), _) if why.contains("result_serializer"))
            );
        }
    }

    #[test]
    fn a_published_end_names_its_task() {
        let id = task_id(&job().0, 1, 0);
        let told = |status: &str, task: &str| {
            ended(json!({"status": status, "result": [1], "task_id": task}).to_string().as_bytes())
        };
        for end in ["SUCCESS", "FAILURE", "REVOKED"] {
            assert_eq!(told(end, &id).map(|task| task.to_string()), Some(id.clone()), "{end}");
        }
        for goes in ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS"] {
            assert_eq!(told(goes, &id), None, "{goes}");
        }
        assert_eq!(told("SUCCESS", "mine"), None);
        for broken in [&b"\x80\x04pickle"[..], b"{\"status\": \"SUCCESS\", \"result\": NaN}", b"[]"] {
            assert_eq!(ended(broken), None);
        }
    }

    #[test]
    fn a_failure_keeps_its_exception() {
        let of = |module: Value, name: &str, message: Value| {
            let exception = json!({"exc_type": name, "exc_message": message, "exc_module": module});
            fault(&exception, Some("Traceback: x".repeat(2_000)))
        };
        match of(json!("builtins"), "ValueError", json!(["bad 2"])) {
            Fault::Trap { kind: "permanent", message, trace } => {
                assert_eq!(
                    (message.as_str(), trace.unwrap().len()),
                    ("ValueError: bad 2", TRACEBACK_CHARS_MAX)
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            of(json!("app.errors"), "Missing", json!(["a", 2])),
            Fault::Trap { message, .. } if message == "app.errors.Missing: 'a', 2"
        ));
        assert!(matches!(
            of(json!("billiard.exceptions"), "WorkerLostError", json!("gone")),
            Fault::Failure(Failure::Transient(message)) if message.ends_with("WorkerLostError: gone")
        ));
        assert!(matches!(
            of(json!("billiard.exceptions"), "TimeLimitExceeded", json!([1.5])),
            Fault::Trap { kind: "hard-limit", .. }
        ));
        assert!(matches!(fault(&Value::Null, None), Fault::Trap { message, .. } if message == "Exception: "));
    }
}
