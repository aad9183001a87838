//! Results as Celery's Redis backend writes them, and what a failure is called in Python.

use super::{
    canvas::Context,
    config::Celery,
    message::{Raw, isoformat, raw, repr, to_value},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use waymark_job::{JobError, Progress};

/// States of Celery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Started,
    Progress,
    Retry,
    Success,
    Failure,
    Revoked,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Progress => "PROGRESS",
            Self::Retry => "RETRY",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Revoked => "REVOKED",
        }
    }

    fn is_ready(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

/// An exception of Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) trace: Option<String>,
}

/// Exceptions of Python's `builtins` that a failure may name.
const BUILT_IN: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BufferError",
    "ConnectionError",
    "EOFError",
    "Exception",
    "FileExistsError",
    "FileNotFoundError",
    "IndexError",
    "InterruptedError",
    "KeyError",
    "LookupError",
    "MemoryError",
    "NameError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RecursionError",
    "RuntimeError",
    "StopIteration",
    "TimeoutError",
    "TypeError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
];

impl Exception {
    fn new(module: &str, name: &str, message: impl Into<String>) -> Self {
        Self { module: module.into(), name: name.into(), message: message.into(), trace: None }
    }

    /// What a job's failure is called. A message such as `ValueError: bad 2` or `app.errors.Missing: x` names the
    /// exception itself; else the kind of the failure does.
    pub(crate) fn of(error: &JobError) -> Self {
        let celery = "celery.exceptions";
        let named = error.message.split_once(": ").and_then(|(name, message)| {
            let (module, short) = name.rsplit_once('.').unwrap_or(("builtins", name));
            let is_name = |text: &str| {
                !text.is_empty()
                    && !text.starts_with(|letter: char| letter.is_ascii_digit())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            };
            let known = if module == "builtins" {
                BUILT_IN.contains(&short)
            } else {
                module.split('.').all(is_name)
                    && is_name(short)
                    && short.starts_with(|letter: char| letter.is_ascii_uppercase())
            };
            known.then(|| Self::new(module, short, message))
        });
        let exception = match error.kind.as_str() {
            "transient" | "permanent" | "retry-after" | "invalid-input" if named.is_some() => named,
            _ => None,
        };
        let mut exception = exception.unwrap_or_else(|| match error.kind.as_str() {
            "invalid-input" => Self::new("builtins", "ValueError", &error.message),
            "hard-limit" => Self::new(celery, "TimeLimitExceeded", &error.message),
            "expired" => Self::new(celery, "TaskRevokedError", "expired"),
            "poisonous" => Self::new("billiard.exceptions", "WorkerLostError", &error.message),
            "out-of-memory" => Self::new("builtins", "MemoryError", &error.message),
            _ => Self::new("builtins", "RuntimeError", &error.message),
        });
        exception.trace = error.trace.clone();
        exception
    }

    /// A task whose name no mapping has.
    pub(crate) fn not_registered(task: &str) -> Self {
        Self::new("celery.exceptions", "NotRegistered", task)
    }

    /// A message that cannot be read.
    pub(crate) fn refused(why: &str) -> Self {
        Self::new("kombu.exceptions", "ContentDisallowed", why)
    }

    /// A task that will not run.
    pub(crate) fn revoked(why: &str) -> Self {
        Self::new("celery.exceptions", "TaskRevokedError", why)
    }

    /// Anything else.
    pub(crate) fn runtime(why: impl Into<String>) -> Self {
        Self::new("builtins", "RuntimeError", why)
    }

    /// `{exc_type, exc_message, exc_module}`.
    pub(crate) fn encoded(&self) -> Raw {
        #[derive(Serialize)]
        struct Encoded<'a> {
            exc_type: &'a str,
            exc_message: [&'a str; 1],
            exc_module: &'a str,
        }
        raw(&Encoded { exc_type: &self.name, exc_message: [&self.message], exc_module: &self.module })
    }

    /// `ValueError('bad 2')`.
    pub(crate) fn repr(&self) -> String {
        format!("{}({})", self.name, repr(&Value::String(self.message.clone())))
    }

    /// What stands for a traceback.
    pub(crate) fn traceback(&self) -> String {
        let last = format!("{}: {}\n", self.name, self.message);
        match &self.trace {
            Some(trace) => format!("Traceback (of the job):\n{trace}\n{last}"),
            None => last,
        }
    }
}

/// Why the body of a chord cannot start.
pub(crate) fn dependency(task: &str, state: &str, value: &RawValue) -> Exception {
    let value = to_value(value);
    let shown = match (value["exc_type"].as_str(), value["exc_message"].as_array()) {
        (Some(name), Some(arguments)) => {
            format!("{name}({})", arguments.iter().map(repr).collect::<Vec<_>>().join(", "))
        }
        _ => state.to_owned(),
    };
    Exception::new("celery.exceptions", "ChordError", format!("Dependency {task} raised {shown}"))
}

/// The text of a result. Its status comes first, which the scripts rely on.
pub(crate) fn meta(
    settings: &Celery,
    context: &Context,
    state: State,
    value: &RawValue,
    exception: Option<&Exception>,
    children: &[String],
    now_ms: u64,
) -> String {
    let text = |text: &Option<String>| raw(text).get().to_owned();
    let done = state.is_ready().then(|| isoformat(now_ms));
    let mut meta = format!(
        "{{\"status\": \"{}\", \"result\": {}, \"traceback\": {}, \"children\": [{}], \"date_done\": {}",
        state.name(),
        value.get(),
        text(&exception.map(Exception::traceback)),
        children.join(", "),
        text(&done),
    );
    if context.group.is_some() {
        meta.push_str(&format!(", \"group_id\": {}", text(&context.group)));
    }
    if context.parent.is_some() {
        meta.push_str(&format!(", \"parent_id\": {}", text(&context.parent)));
    }
    if settings.result_extended {
        let (args, kwargs) = match &context.arguments {
            Some((args, kwargs)) => (raw(args), raw(kwargs)),
            None => (RawValue::NULL.to_owned(), RawValue::NULL.to_owned()),
        };
        meta.push_str(&format!(
            ", \"name\": {}, \"args\": {args}, \"kwargs\": {kwargs}, \"worker\": {}, \"retries\": {}, \"queue\": {}",
            raw(&context.task),
            raw(&settings.node()),
            context.retries,
            raw(&context.queue),
        ));
    }
    meta.push_str(&format!(", \"task_id\": {}}}", raw(&context.id)));
    meta
}

/// Progress in the shape of celery-progress, which takes every status that it does not know for a failure: a paused job
/// is shown as one in progress.
pub(crate) fn progress(progress: Option<&Progress>, paused: bool) -> Raw {
    let current = progress.map_or(0, |progress| progress.current);
    let total = progress.and_then(|progress| progress.total).unwrap_or(0);
    let percent = if total == 0 { 0.0 } else { (current as f64 / total as f64 * 1e4).round() / 1e2 };
    let message = progress.and_then(|progress| progress.message.clone()).unwrap_or_default();
    let description = match (paused, message.is_empty()) {
        (false, _) => message,
        (true, true) => "paused".to_owned(),
        (true, false) => format!("paused: {message}"),
    };
    let mut value = serde_json::json!({
        "pending": false, "current": current, "total": total, "percent": percent, "description": description,
    });
    if paused {
        value["paused"] = true.into();
    }
    raw(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &str, message: &str) -> (String, String, String) {
        let error = JobError { kind: kind.into(), message: message.into(), trace: None };
        let exception = Exception::of(&error);
        (exception.module, exception.name, exception.message)
    }

    #[test]
    fn a_failure_names_its_exception_or_its_kind_does() {
        let three = |module: &str, name: &str, message: &str| {
            (module.to_owned(), name.to_owned(), message.to_owned())
        };
        assert_eq!(of("permanent", "ValueError: bad 2"), three("builtins", "ValueError", "bad 2"));
        assert_eq!(of("permanent", "app.errors.Missing: x: y"), three("app.errors", "Missing", "x: y"));
        assert_eq!(of("permanent", "line 3: no"), three("builtins", "RuntimeError", "line 3: no"));
        assert_eq!(of("permanent", "os.system: no"), three("builtins", "RuntimeError", "os.system: no"));
        assert_eq!(of("invalid-input", "n is missing"), three("builtins", "ValueError", "n is missing"));
        assert_eq!(of("hard-limit", "x").1, "TimeLimitExceeded");
        // What a trap says is not the author's choice of words.
        assert_eq!(of("guest-trap", "ValueError: x").1, "RuntimeError");
    }

    #[test]
    fn a_result_begins_with_its_status_and_reads_as_celerys() {
        let settings = Celery { result_extended: true, ..Celery::default() };
        let context =
            Context { id: "i".into(), task: "t".into(), group: Some("g".into()), ..Context::default() };
        let exception =
            Exception::of(&JobError { kind: "permanent".into(), message: "KeyError: k".into(), trace: None });
        let text = meta(&settings, &context, State::Failure, &exception.encoded(), Some(&exception), &[], 0);
        assert!(text.starts_with("{\"status\": \"FAILURE\""), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["result"],
            serde_json::json!({"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"})
        );
        assert_eq!(
            (&value["group_id"], &value["task_id"], &value["name"]),
            (&"g".into(), &"i".into(), &"t".into())
        );
        assert_eq!(value["date_done"], "1970-01-01T00:00:00.000000+00:00");
        let started = meta(&settings, &context, State::Started, RawValue::NULL, None, &[], 0);
        assert_eq!(serde_json::from_str::<Value>(&started).unwrap()["date_done"], Value::Null);
    }

    #[test]
    fn a_paused_job_is_in_progress_for_old_clients() {
        let known = Progress { current: 1, total: Some(3), message: Some("rows".into()) };
        assert_eq!(
            to_value(&progress(Some(&known), true)),
            serde_json::json!({
                "pending": false, "current": 1, "total": 3, "percent": 33.33, "description": "paused: rows", "paused": true
            })
        );
        assert_eq!(to_value(&progress(None, false))["percent"], 0.0);
    }
}
