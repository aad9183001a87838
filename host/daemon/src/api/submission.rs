//! What a caller asks for becomes a job.

use super::{
    Service,
    error::{Code, Problem, Violation},
    request::{Shape, shorten},
};
use crate::{directory::Validation, worker::is_open};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;
use waymark_job::{
    RetryPolicy, Spec, State, Webhook, flow,
    record::{PRIORITY_MAX, UniqueUntil},
    retry::{ATTEMPTS_MAX, MS_MAX},
};
use waymark_store::{NewJob, WebhookRule};

/// Longest name of a queue, tag, correlation id or key, characters. Keeps keys in the store small.
const NAME_MAX: usize = 128;
/// Most tags of one job. Each costs an entry in an index.
const TAGS_MAX: usize = 32;
/// Longest address of a webhook, characters.
const URL_MAX: usize = 2_048;
/// Longest metadata, bytes. It travels with every read of the job.
const METADATA_BYTES_MAX: usize = 64 << 10;
/// Furthest start and longest limit. Catches seconds and nanoseconds that were taken for milliseconds.
const DELAY_MS_MAX: u64 = MS_MAX;
/// How long the list of all known job types is believed when a type is not in it.
const TYPES_AGE_MAX: Duration = Duration::from_secs(1);

/// A job to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission<'a> {
    /// Job type: the name of a plugin, or `waymark.echo`, whose result is its input.
    #[serde(rename = "type", borrow)]
    #[schema(value_type = String, example = "intelligent_sampling", pattern = "^([a-z0-9_-]{1,64}|waymark\\.echo)$")]
    job_type: Cow<'a, str>,
    /// Input; must fit the job type's input schema. At most 1 MiB.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value)]
    input: &'a RawValue,
    /// Queue: 1 to 128 of letters, digits, '_', '-' and '.'. Default: the job type's own.
    #[serde(default)]
    queue: Option<String>,
    /// 0 to 9; 9 is served first. Default 0.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<u8>,
    /// Start no sooner than so many milliseconds from now. Not together with `not_before`.
    #[serde(default)]
    delay_ms: Option<u64>,
    /// Start no sooner than this time (RFC 3339).
    #[serde(default)]
    #[schema(format = DateTime)]
    not_before: Option<String>,
    /// Attempts in all, 1 to 1,000. Default: the job type's.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// What this job says about retries; what is absent is as the job type says. `max_attempts`, `backoff`
    /// (`exponential`, `linear` or `fixed`), `base_ms`, `max_ms`, `jitter`, `max_age_ms`, `retry_after_max_ms`,
    /// `retry` (`false`: never) and `kinds`: the same for a kind of failure, such as
    /// `{"transient": {"max_attempts": 9}}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    retry: Option<Box<RetryPolicy>>,
    /// Running time after which the job is asked to finish, milliseconds.
    #[serde(default)]
    #[schema(minimum = 1)]
    soft_limit_ms: Option<u64>,
    /// Running time after which an attempt fails, milliseconds.
    #[serde(default)]
    #[schema(minimum = 1)]
    hard_limit_ms: Option<u64>,
    /// Anything the caller wants to keep with the job; a JSON object of at most 64 KiB.
    #[serde(borrow, default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// Labels to list jobs by, at most 32.
    #[serde(default)]
    #[schema(max_items = 32)]
    tags: Option<Vec<String>>,
    /// The caller's id for the larger whole that the job belongs to.
    #[serde(default)]
    correlation_id: Option<String>,
    /// While a job with this key has not ended, another one is not made: the first is answered.
    #[serde(default)]
    unique_key: Option<String>,
    /// How long the unique key holds: until the job has `ended`, or until it is `started` for the first time. Default
    /// `ended`.
    #[serde(default)]
    unique_until: Option<Until>,
    /// The unique key holds for so many milliseconds from now on instead, whatever becomes of the job. At most ten
    /// years. Such keys are apart from those that a job's end frees.
    #[serde(default)]
    #[schema(minimum = 1)]
    unique_for_ms: Option<u64>,
    /// Where a job with the same unique key waits and never ran, it gets this input and metadata, and waits this
    /// `delay_ms` anew if it is scheduled. Default false: the first input stays.
    #[serde(default)]
    replace_input: Option<bool>,
    /// Jobs of one flow key take turns with those of the queue's other keys, and share the limits that the queue sets
    /// per key. Default: what the queue's limits point at, if they do.
    #[serde(default)]
    flow_key: Option<String>,
    /// What the job counts for in limits, 1 to 1,000,000. Default 1.
    #[serde(default)]
    #[schema(minimum = 1)]
    weight: Option<u32>,
    /// Who is told of the job's end.
    #[serde(default)]
    webhook: Option<WebhookRequest>,
}

/// How long a unique key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// Until the job is claimed for the first time.
    Started,
    /// Until the job has ended.
    Ended,
}

/// An address that is told of a job's end, by a signed message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookRequest {
    /// `https://` or `http://`; at most 2,048 characters.
    url: String,
    /// Which ends: `succeeded`, `failed`, `cancelled`. Default: all three.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    on: Option<Vec<State>>,
    /// Name of an endpoint in the host's configuration, whose secret signs. Default: unsigned.
    #[serde(default)]
    secret: Option<String>,
}

impl WebhookRequest {
    /// What is wrong with it: field and words.
    pub(super) fn fault(&self, endpoints: &[WebhookRule]) -> Option<(&'static str, &'static str)> {
        let parsed = reqwest::Url::parse(&self.url);
        if self.url.len() > URL_MAX || !parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            return Some((
                "webhook/url",
                "must be an address of http:// or https:// of at most 2048 characters",
            ));
        }
        if self.on.iter().flatten().any(|state| !state.is_ended()) {
            return Some(("webhook/on", "there are succeeded, failed and cancelled"));
        }
        let known = |name: &String| endpoints.iter().any(|endpoint| endpoint.name == *name);
        if self.secret.as_ref().is_some_and(|name| !known(name)) {
            return Some((
                "webhook/secret",
                "must be the name of an endpoint under [webhooks] of the configuration",
            ));
        }
        None
    }
}

impl From<WebhookRequest> for Webhook {
    fn from(request: WebhookRequest) -> Self {
        let on = request.on.unwrap_or_else(|| vec![State::Succeeded, State::Failed, State::Cancelled]);
        Self {
            url: Some(request.url),
            endpoint: request.secret,
            on: on.into_iter().map(State::letter).collect(),
        }
    }
}

impl<'a> Shape<'a> for Submission<'a> {
    const FIELDS: &'static [&'static str] = &[
        "type",
        "input",
        "queue",
        "priority",
        "delay_ms",
        "not_before",
        "max_attempts",
        "retry",
        "soft_limit_ms",
        "hard_limit_ms",
        "metadata",
        "tags",
        "correlation_id",
        "unique_key",
        "unique_until",
        "unique_for_ms",
        "replace_input",
        "flow_key",
        "weight",
        "webhook",
    ];
}

/// The job types that any host ever announced, read from the store when a type is in question.
#[derive(Default)]
pub struct KnownTypes(Mutex<Option<(Instant, HashSet<String>)>>);

impl KnownTypes {
    /// Whether the type is known; `None` if the list is missing or may be out of date.
    fn look(&self, name: &str) -> Option<bool> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, names) = cached.as_ref()?;
        if names.contains(name) {
            return Some(true);
        }
        (read_at.elapsed() < TYPES_AGE_MAX).then_some(false)
    }

    fn replace(&self, names: HashSet<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), names));
    }
}

impl Submission<'_> {
    /// Checks the fields, the job type and the input, and makes the job that the store is asked for.
    ///
    /// # Errors
    /// `invalid-field`, `input-too-large`, `unknown-job-type`, `invalid-input`, or the store does not answer.
    pub async fn accept(self, service: &Service) -> Result<NewJob, Problem> {
        let (job_type, input) = (self.job_type.clone(), self.input);
        let job = self.plain(service.settings.input_bytes_max, &service.store.options().webhooks)?;
        service.check_input(&job_type, input).await?;
        Ok(job)
    }

    /// The same without asking whether the job type is known and takes the input. `endpoints`: those whose secrets
    /// webhooks may name.
    ///
    /// # Errors
    /// `invalid-field` or `input-too-large`.
    pub fn plain(self, bytes_max: usize, endpoints: &[WebhookRule]) -> Result<NewJob, Problem> {
        let not_before_ms = self.check(endpoints)?;
        if self.input.get().len() > bytes_max {
            return Err(Problem::new(
                Code::InputTooLarge,
                format!(
                    "The input has {} bytes; this host accepts {bytes_max}. Put the data where the job can read \
                     it, and name the place in the input.",
                    self.input.get().len()
                ),
            ));
        }
        let queue = self.queue.filter(|queue| *queue != self.job_type).unwrap_or_default();
        Ok(NewJob {
            id: None,
            spec: Spec {
                job_type: self.job_type.into_owned(),
                queue,
                priority: self.priority.unwrap_or(0),
                input: self.input.get().to_owned(),
                metadata: self.metadata.map(|metadata| metadata.get().to_owned()),
                tags: self.tags.unwrap_or_default(),
                correlation_id: self.correlation_id,
                unique_key: self.unique_key,
                unique_until: self
                    .unique_until
                    .filter(|until| *until == Until::Started)
                    .map(|_| UniqueUntil::Started),
                unique_for_ms: self.unique_for_ms,
                key: self.flow_key.as_deref().map(flow::encode_key),
                weight: self.weight.filter(|weight| *weight > 1),
                max_attempts: self.max_attempts,
                retry: self.retry,
                soft_limit_ms: self.soft_limit_ms,
                hard_limit_ms: self.hard_limit_ms,
                parent: None,
                replay_of: None,
                schedule: None,
                shadow: None,
                webhooks: self.webhook.map(Webhook::from).into_iter().collect(),
                ..Spec::default()
            },
            not_before_ms,
            delay_ms: self.delay_ms,
            idempotency_key: None,
            replaces_input: self.replace_input.unwrap_or(false),
        })
    }

    /// Checks each field by itself; answers `not_before` in Unix milliseconds.
    fn check(&self, endpoints: &[WebhookRule]) -> Result<Option<u64>, Problem> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, detail: &str| {
            errors.push(Violation { pointer: format!("/{field}"), detail: detail.to_owned() });
        };
        if !is_job_type(&self.job_type) && !is_open(&self.job_type) {
            wrong("type", "must be 1 to 64 of a-z, 0-9, '_' and '-'");
        }
        if self.queue.as_deref().is_some_and(|queue| !is_queue(queue)) {
            wrong("queue", QUEUE_RULE);
        }
        if self.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
            wrong("priority", "must be 0 to 9");
        }
        if self.delay_ms.is_some_and(|delay| delay > DELAY_MS_MAX) {
            wrong("delay_ms", "must be at most ten years, in milliseconds");
        }
        let mut not_before_ms = None;
        if let Some(text) = &self.not_before {
            match OffsetDateTime::parse(text, &Rfc3339) {
                Ok(_) if self.delay_ms.is_some() => {
                    wrong("not_before", "cannot be given together with delay_ms")
                }
                Ok(time) => {
                    not_before_ms = Some(u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
                }
                Err(_) => wrong("not_before", "must be a time in RFC 3339, such as 2026-01-31T18:00:00Z"),
            }
        }
        if self.max_attempts.is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts)) {
            wrong("max_attempts", "must be 1 to 1000");
        }
        for (at, what) in self.retry.iter().flat_map(|retry| retry.mistakes()) {
            wrong(&format!("retry/{at}"), &what);
        }
        for (name, limit) in [("soft_limit_ms", self.soft_limit_ms), ("hard_limit_ms", self.hard_limit_ms)] {
            if limit.is_some_and(|limit| limit > DELAY_MS_MAX) {
                wrong(name, "must be at most ten years, in milliseconds");
            }
        }
        if self.soft_limit_ms == Some(0) {
            wrong("soft_limit_ms", "must be at least 1");
        }
        if self.hard_limit_ms == Some(0) {
            wrong("hard_limit_ms", "must be at least 1");
        }
        if let (Some(soft), Some(hard)) = (self.soft_limit_ms, self.hard_limit_ms)
            && soft > hard
        {
            wrong("soft_limit_ms", "must not be above hard_limit_ms");
        }
        if let Some(metadata) = self.metadata {
            if !metadata.get().starts_with('{') {
                wrong("metadata", "must be a JSON object");
            } else if metadata.get().len() > METADATA_BYTES_MAX {
                wrong("metadata", "must be at most 65536 bytes long");
            }
        }
        if let Some(tags) = &self.tags {
            if tags.len() > TAGS_MAX {
                wrong("tags", "must be at most 32");
            }
            for (index, tag) in tags.iter().enumerate().filter(|(_, tag)| !is_label(tag)).take(TAGS_MAX) {
                wrong(
                    &format!("tags/{index}"),
                    if tag.is_empty() { "must not be empty" } else { LABEL_RULE },
                );
            }
        }
        if self.correlation_id.as_deref().is_some_and(|text| !is_label(text)) {
            wrong("correlation_id", LABEL_RULE);
        }
        if self.unique_key.as_deref().is_some_and(|text| !is_label(text)) {
            wrong("unique_key", LABEL_RULE);
        }
        if self.unique_key.is_none() {
            let given = [
                ("unique_until", self.unique_until.is_some()),
                ("unique_for_ms", self.unique_for_ms.is_some()),
                ("replace_input", self.replace_input.is_some()),
            ];
            for (field, _) in given.into_iter().filter(|(_, given)| *given) {
                wrong(field, "needs a unique_key");
            }
        }
        if self.unique_until.is_some() && self.unique_for_ms.is_some() {
            wrong("unique_for_ms", "cannot be given together with unique_until");
        }
        if self.unique_for_ms.is_some_and(|time| !(1..=DELAY_MS_MAX).contains(&time)) {
            wrong("unique_for_ms", "must be 1 to ten years, in milliseconds");
        }
        if self.flow_key.as_deref().is_some_and(|text| !is_label(text)) {
            wrong("flow_key", LABEL_RULE);
        }
        if self.weight.is_some_and(|weight| !(1..=flow::WEIGHT_MAX).contains(&weight)) {
            wrong("weight", "must be 1 to 1000000");
        }
        if let Some((field, detail)) = self.webhook.as_ref().and_then(|webhook| webhook.fault(endpoints)) {
            wrong(field, detail);
        }
        if errors.is_empty() {
            Ok(not_before_ms)
        } else {
            Err(Problem::violations(Code::InvalidField, errors))
        }
    }
}

/// What [`is_queue`] asks for.
pub const QUEUE_RULE: &str = "must be 1 to 128 of letters, digits, '_', '-' and '.'";
const LABEL_RULE: &str = "must be 1 to 128 characters without control characters";

pub(super) fn is_job_type(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// Is this a queue's name?
#[must_use]
pub fn is_queue(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Is this a queue's name, or a pattern of such names with `*`?
pub(crate) fn is_queue_pattern(text: &str) -> bool {
    is_queue(&text.replace('*', "x"))
}

/// Is this a tag, a correlation id or a key?
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= NAME_MAX && !text.chars().any(char::is_control)
}

impl Service {
    /// Is the type known to this host, or to any other, and does the input fit the schema where this host has it?
    pub(super) async fn check_input(&self, job_type: &str, input: &RawValue) -> Result<(), Problem> {
        let value: serde_json::Value = serde_json::from_str(input.get()).map_err(|error| {
            let detail = format!("cannot be read: {error}");
            Problem::violations(Code::InvalidInput, vec![Violation { pointer: "/input".into(), detail }])
        })?;
        if is_open(job_type) {
            return Ok(());
        }
        match self.directory.validate(job_type, &value) {
            Validation::Valid => Ok(()),
            Validation::Invalid(found) => {
                let errors = found.iter().map(|text| violation(text)).collect();
                Err(Problem::violations(Code::InvalidInput, errors))
            }
            Validation::Unknown if self.is_known(job_type).await? => Ok(()),
            Validation::Unknown => Err(Problem::new(
                Code::UnknownJobType,
                format!(
                    "No host knows the job type {:?}. GET /api/v1/plugins lists the types; a new one is a .wasm file \
                     in the plugin directory of a host.",
                    shorten(job_type)
                ),
            )),
        }
    }

    /// Is there such a job type, and does the input fit it where both are known?
    pub(super) async fn check_task(
        &self,
        job_type: &str,
        input: Option<&serde_json::Value>,
    ) -> Result<Vec<String>, Problem> {
        if is_open(job_type) {
            return Ok(Vec::new());
        }
        match self.directory.validate(job_type, input.unwrap_or(&serde_json::Value::Null)) {
            Validation::Invalid(found) if input.is_some() => Ok(found),
            Validation::Valid | Validation::Invalid(_) => Ok(Vec::new()),
            Validation::Unknown if is_job_type(job_type) && self.is_known(job_type).await? => Ok(Vec::new()),
            Validation::Unknown => Ok(vec![format!("no host knows the job type {:?}", shorten(job_type))]),
        }
    }

    async fn is_known(&self, job_type: &str) -> Result<bool, Problem> {
        if let Some(known) = self.types.look(job_type) {
            return Ok(known);
        }
        let mut names: HashSet<_> = self.store.types().await?.into_iter().map(|(name, _)| name).collect();
        // A route may send jobs where no plugin is needed.
        names.extend(self.store.routes().await?.into_keys());
        let known = names.contains(job_type);
        self.types.replace(names);
        Ok(known)
    }
}

/// `"<pointer into the input>: <message>"`, as the directory writes it.
fn violation(text: &str) -> Violation {
    let (at, detail) = text.split_once(": ").unwrap_or(("", text));
    Violation { pointer: format!("/input{}", at.trim_end_matches('/')), detail: detail.to_owned() }
}
