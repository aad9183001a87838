//! The Celery front: this host as a worker of Celery, for clients that know nothing else.
//!
//! It owns queues: takes their messages, each of which becomes a job by the same script call that takes it away, and
//! tells the callers what became of them. What is said to Redis about it is in the store's `celery` module, with the
//! promise that nothing is lost or done twice. Here is what messages and results look like:
//!
//! * [`config`], [`mapping`]: which queues, and which job type runs a task on which input.
//! * [`message`]: kombu's messages. [`outcome`]: results and exceptions. [`canvas`]: what follows a task. Pure.
//! * [`outgoing`]: the other way, a task that Celery's workers run in place of a job. [`targets`]: routes that send it.
//!   [`ends`]: how the job hears of its end.
//! * [`control`]: remote control, so that `app.control`, `celery inspect` and Flower see this host. [`events`]: what it
//!   tells them unasked.
//!
//! [`Front`] is all of it that takes messages at work; without `celery.enabled` in the configuration there is none.

mod canvas;
pub mod config;
mod control;
mod ends;
mod events;
mod mapping;
mod message;
mod outcome;
pub(crate) mod outgoing;
mod targets;

pub(crate) use ends::Ends;
pub use mapping::TaskMapping;
pub(crate) use targets::complete;

use crate::metrics::Metrics;
use canvas::{Context, Join, Out};
use config::Celery;
use message::{Raw, Task};
use outcome::{Exception, State};
use prometheus::{IntCounterVec, IntGauge, Opts};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};
use waymark_job::{JobId, Spec};
use waymark_store::{
    CeleryBroker, CeleryEntry, CeleryOperation as Operation, CeleryTake, CeleryTaken, CeleryWhat, Error,
    NewJob, Store,
};

/// Fewest and most messages that are looked at together.
const WINDOW_MIN: usize = 4;
const WINDOW_MAX: usize = 300;
/// So many bytes of messages together are enough.
const WINDOW_BYTES: usize = 4 << 20;
/// How often the outbox is looked at although nobody said that there is something.
const OUTBOX_LOOK: Duration = Duration::from_millis(500);
/// Longest pause after the store did not answer.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often the length of the dead list is counted.
const DEAD_LOOK: Duration = Duration::from_secs(10);

/// The front at work.
pub struct Front {
    settings: Arc<Celery>,
    store: Store,
    at: CeleryBroker,
    /// The host's id.
    host: String,
    /// Longest input of a job, bytes.
    input_bytes_max: usize,
    /// Asks this host to drain.
    drain: mpsc::Sender<()>,
    /// Queues that it takes from now.
    queues: Mutex<BTreeSet<String>>,
    /// Events of tasks are published.
    events: AtomicBool,
    /// Celery's logical clock.
    clock: AtomicU64,
    processed: AtomicU64,
    started: Instant,
    outbox: Notify,
    taken: IntCounterVec,
    told: IntCounterVec,
    dead: IntGauge,
}

/// Where Celery's keys lie.
#[must_use]
pub fn broker(settings: &Celery, store: &Store) -> CeleryBroker {
    let broker = settings.broker_db.unwrap_or_else(|| store.database());
    CeleryBroker { broker, results: settings.result_db.unwrap_or(broker) }
}

/// The lists of a queue, in the order in which they are served.
#[must_use]
pub fn lists(settings: &Celery, queue: &str) -> [String; 4] {
    message::lists(&settings.key_prefix, queue)
}

/// What the outbox says of a built-in task.
#[derive(Serialize, Deserialize)]
struct BuiltIn {
    name: String,
    args: Vec<Raw>,
    kwargs: BTreeMap<String, Raw>,
}

/// What the outbox says of a message on the dead list.
#[derive(Serialize, Deserialize)]
struct Refusal {
    code: String,
    why: String,
}

fn counters(metrics: &Metrics, name: &str, help: &str, label: &str) -> anyhow::Result<IntCounterVec> {
    let vector = IntCounterVec::new(Opts::new(name, help), &[label])?;
    metrics.registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

impl Front {
    /// Of the host with this id; nothing runs yet.
    ///
    /// # Errors
    /// The store is a Cluster, or a metric is there already.
    pub fn new(
        settings: Arc<Celery>,
        store: Store,
        host: String,
        input_bytes_max: usize,
        drain: mpsc::Sender<()>,
        metrics: &Metrics,
    ) -> anyhow::Result<Arc<Self>> {
        anyhow::ensure!(
            store.can_serve_celery(),
            "celery.enabled: Celery's messages become jobs on the same server only, which a Cluster has not: use \
             redis:// or redis-sentinel:// for redis.url"
        );
        let dead = IntGauge::new("waymark_celery_dead", "Celery messages on the dead list.")?;
        metrics.registry.register(Box::new(dead.clone()))?;
        Ok(Arc::new(Self {
            at: broker(&settings, &store),
            queues: Mutex::new(settings.queues.iter().cloned().collect()),
            events: AtomicBool::new(settings.events),
            settings,
            store,
            host,
            input_bytes_max,
            drain,
            clock: AtomicU64::new(0),
            processed: AtomicU64::new(0),
            started: Instant::now(),
            outbox: Notify::new(),
            taken: counters(
                metrics,
                "waymark_celery_messages_total",
                "Messages taken off Celery queues, by what they became: job, built-in, dead, forwarded, revoked.",
                "became",
            )?,
            told: counters(
                metrics,
                "waymark_celery_results_total",
                "What callers of Celery tasks were told, by state.",
                "state",
            )?,
            dead,
        }))
    }

    /// Works until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let queues = self.settings.queues.join(", ");
        tracing::info!(node = self.settings.node(), queues, "the Celery front takes messages");
        tokio::join!(self.take(), self.tell(), self.listen(), self.beat(), self.count_dead());
    }

    /// Takes messages for ever.
    async fn take(&self) {
        let mut window = WINDOW_MIN;
        let mut pause = Duration::ZERO;
        loop {
            match self.take_some(window).await {
                Ok((0, _)) => {
                    pause = Duration::ZERO;
                    tokio::time::sleep(Duration::from_millis(self.settings.poll_ms)).await;
                }
                Ok((_, bytes)) => {
                    pause = Duration::ZERO;
                    // Long messages come in small portions.
                    window = if bytes > WINDOW_BYTES { window / 2 } else { window * 2 };
                    window = window.clamp(WINDOW_MIN, WINDOW_MAX);
                }
                Err(error) => {
                    tracing::warn!(%error, "Celery messages cannot be taken");
                    pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// The lists in the order in which Celery's workers serve them.
    fn lists(&self) -> Vec<(String, String)> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut lists = Vec::with_capacity(4 * queues.len());
        for step in 0..4 {
            for queue in &queues {
                let list = message::lists(&self.settings.key_prefix, queue)[step].clone();
                lists.push((queue.clone(), list));
            }
        }
        lists
    }

    /// Answers how many messages there were, and their bytes.
    async fn take_some(&self, window: usize) -> Result<(usize, usize), Error> {
        let lists = self.lists();
        if lists.is_empty() {
            return Ok((0, 0));
        }
        let names: Vec<_> = lists.iter().map(|(_, list)| list.clone()).collect();
        let peeked = self.store.celery_peek(self.at, &names, window).await?;
        if peeked.is_empty() {
            return Ok((0, 0));
        }
        let bytes = peeked.iter().map(|message| message.text.len()).sum();
        let count = peeked.len();
        let now_ms = self.store.now_ms().await?;
        let (mut takes, mut received) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let events = self.events.load(Relaxed);
        for message in peeked {
            let Some((queue, list)) = lists.get(message.list) else { continue };
            let (take, event) = self.plan(queue, list, message.text, events, now_ms);
            takes.push(take);
            received.push(event);
        }
        let taken = self.store.celery_take(self.at, window, takes).await?;
        let mut heard = Vec::new();
        for (taken, event) in taken.into_iter().zip(received) {
            let became = match taken {
                CeleryTaken::Job => "job",
                CeleryTaken::Entry => "built-in",
                CeleryTaken::Dead => "dead",
                CeleryTaken::Forwarded => "forwarded",
                CeleryTaken::Revoked => "revoked",
                CeleryTaken::Missing => continue,
            };
            self.taken.with_label_values(&[became]).inc();
            if taken != CeleryTaken::Forwarded {
                heard.extend(event);
            }
        }
        self.publish_events(heard).await;
        Ok((count, bytes))
    }

    /// What a message becomes, and the event that says that it came.
    fn plan(
        &self,
        queue: &str,
        list: &str,
        text: Vec<u8>,
        events: bool,
        now_ms: u64,
    ) -> (CeleryTake, Option<Value>) {
        let take = |text, task: &str, context: &Context, what| CeleryTake {
            list: list.to_owned(),
            text,
            task: task.to_owned(),
            context: message::raw(context).get().to_owned(),
            what,
        };
        let dead = |code: &'static str, why: String| {
            let body = Refusal { code: code.to_owned(), why };
            CeleryWhat::Dead { why: code, body: message::raw(&body).get().to_owned() }
        };
        let task = match message::read(&text) {
            Ok(task) => task,
            Err(refused) => {
                let (id, name) = refused.task.unwrap_or_default();
                tracing::error!(
                    queue,
                    task_id = id,
                    task = name,
                    code = refused.code,
                    why = refused.why,
                    "a Celery message goes to the dead list"
                );
                let context =
                    Context { id: id.clone(), task: name, queue: queue.into(), ..Context::default() };
                return (take(text, &id, &context, dead(refused.code, refused.why)), None);
            }
        };
        let mapping = self.settings.tasks.get(&task.name);
        if mapping.is_none()
            && let Some(other) = self.settings.route(&task.name)
            && let Some(moved) = message::rerouted(&text, other)
        {
            let list = message::list(&self.settings.key_prefix, other, task.priority);
            let what = CeleryWhat::Forward { list, text: moved };
            return (take(text, &task.id, &Context::default(), what), None);
        }
        let event = events.then(|| events::received(&task, now_ms));
        let mut context = context_of(&task, queue);
        if self.settings.result_extended {
            context.arguments = Some((task.args.clone(), task.kwargs.clone()));
        }
        if mapping.is_none() && canvas::is_built_in(&task.name) {
            let body = BuiltIn { name: task.name, args: task.args, kwargs: task.kwargs };
            let what = CeleryWhat::Entry { letter: 'B', body: message::raw(&body).get().to_owned() };
            return (take(text, &task.id, &context, what), event);
        }
        let made = match mapping {
            None => Err(("not-registered", format!("no [celery.tasks.{:?}] names its job type", task.name))),
            Some(mapping) => self.job(mapping, &task, &context, events),
        };
        let what = match made {
            Ok(job) => CeleryWhat::Job(Box::new(job)),
            Err((code, why)) => {
                tracing::error!(
                    queue,
                    task_id = task.id,
                    task = task.name,
                    code,
                    why,
                    "a Celery message goes to the dead list"
                );
                dead(code, why)
            }
        };
        (take(text, &task.id, &context, what), event)
    }

    fn job(
        &self,
        mapping: &TaskMapping,
        task: &Task,
        context: &Context,
        events: bool,
    ) -> Result<NewJob, (&'static str, String)> {
        let time = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => message::time_ms(text)
                .map(Some)
                .ok_or_else(|| ("malformed", format!("{name} is no ISO 8601 time: {text:?}"))),
        };
        let input = mapping::input(mapping.input.as_ref(), &task.args, &task.kwargs);
        if input.len() > self.input_bytes_max {
            let why = format!(
                "its input has {} bytes: api.input_bytes_max is {}",
                input.len(),
                self.input_bytes_max
            );
            return Err(("too-large", why));
        }
        let mut metadata =
            serde_json::json!({"celery": {"task": task.name, "id": task.id, "retries": task.retries}});
        for (name, value) in [("root_id", &task.root), ("parent_id", &task.parent), ("group_id", &task.group)]
        {
            if value.as_ref().is_some_and(|value| *value != task.id) {
                metadata["celery"][name] = message::to_value(&message::raw(value));
            }
        }
        if !task.headers.is_empty() {
            metadata["headers"] = Value::Object(task.headers.clone());
        }
        let (hard_limit_ms, soft_limit_ms) = task.limits_ms;
        Ok(NewJob {
            not_before_ms: time("eta", &task.eta)?,
            spec: Spec {
                job_type: mapping.job_type.clone(),
                queue: mapping.queue.clone().unwrap_or_default(),
                priority: mapping.priority.unwrap_or(9 - task.priority),
                input,
                metadata: Some(metadata.to_string()),
                correlation_id: Some(task.id.clone()),
                max_attempts: mapping.max_attempts,
                soft_limit_ms,
                hard_limit_ms,
                celery: Some(message::raw(context).get().to_owned()),
                celery_begin: events || self.settings.track_started,
                expires_ms: time("expires", &task.expires)?,
                ..Spec::default()
            },
            ..NewJob::default()
        })
    }

    /// Tells callers for ever.
    async fn tell(&self) {
        let mut pause = Duration::ZERO;
        loop {
            let mut more = false;
            let mut failed = false;
            for partition in 0..self.store.partitions() {
                match self.tell_some(partition).await {
                    Ok(told) => more |= told > 0,
                    Err(error) => {
                        tracing::warn!(%error, "callers of Celery tasks are told later");
                        failed = true;
                    }
                }
            }
            if failed {
                pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                tokio::time::sleep(pause).await;
            } else if !more {
                pause = Duration::ZERO;
                // Whether it was told or not, it is looked at again.
                let _ = tokio::time::timeout(OUTBOX_LOOK, self.outbox.notified()).await;
            }
        }
    }

    async fn tell_some(&self, partition: u16) -> Result<usize, Error> {
        let entries = self.store.celery_outbox(partition).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        let now_ms = self.store.now_ms().await?;
        let (mut plans, mut tellings) =
            (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in &entries {
            let telling = self.telling(entry, now_ms).await?;
            plans.push((entry.id.clone(), telling.unless_success, telling.operations));
            tellings.push((telling.state, telling.event));
        }
        let settled = self.store.celery_settle(self.at, partition, &plans).await?;
        let mut happened = Vec::new();
        for (_, (state, event)) in settled.iter().zip(tellings).filter(|(settled, _)| **settled) {
            if let Some(state) = state {
                self.told.with_label_values(&[state.name()]).inc();
                if matches!(state, State::Success | State::Failure | State::Revoked) {
                    self.processed.fetch_add(1, Relaxed);
                }
            }
            happened.extend(event);
        }
        if self.events.load(Relaxed) {
            self.publish_events(happened).await;
        }
        Ok(entries.len())
    }

    /// What an entry of the outbox asks for.
    async fn telling(&self, entry: &CeleryEntry, now_ms: u64) -> Result<Telling, Error> {
        if entry.letter == 'J' {
            return self.joining(entry, now_ms).await;
        }
        let context: Context = match serde_json::from_str(&entry.context) {
            Ok(context) => context,
            Err(error) => {
                tracing::error!(entry = entry.id, %error, "an entry of the Celery outbox cannot be read and is dropped");
                return Ok(Telling::default());
            }
        };
        if context.id.is_empty() {
            // A message that did not say whose it is: nobody waits.
            return Ok(Telling::default());
        }
        let record = entry.record.clone().unwrap_or_default();
        let mut out = Out::new(&self.settings, now_ms, &context);
        let failure = |exception: Exception| (State::Failure, exception);
        let revoked = |why: &str| (State::Revoked, Exception::revoked(why));
        let ended = match entry.letter {
            'S' | 'B' if entry.body_error.is_some() => {
                let why = entry.body_error.clone().unwrap_or_default();
                Some(failure(Exception::runtime(format!("the result cannot be had: {why}"))))
            }
            'F' => {
                let error = record.error.clone().unwrap_or_default();
                let exception = Exception::of(&error);
                Some(if error.kind == "expired" { (State::Revoked, exception) } else { failure(exception) })
            }
            'C' => Some(revoked(if record.started_ms.is_some() { "terminated" } else { "revoked" })),
            'V' => Some(revoked("revoked")),
            'L' => Some(failure(Exception::runtime("the queue of its job type is full and lets none wait"))),
            'D' => {
                let Refusal { code, why } = serde_json::from_str(&entry.body)
                    .unwrap_or_else(|_| Refusal { code: String::new(), why: entry.body.clone() });
                Some(failure(match code.as_str() {
                    "not-registered" => Exception::not_registered(&context.task),
                    _ => Exception::refused(&why),
                }))
            }
            _ => None,
        };
        let mut state = ended.as_ref().map(|(state, _)| *state);
        let mut done = Ok(());
        let mut exception = None;
        if let Some((state, failed)) = ended {
            done = out.failed(&context, state, &failed);
            exception = Some(failed);
        } else {
            match entry.letter {
                'S' => {
                    state = Some(State::Success);
                    done = value_of(&entry.body).and_then(|value| out.succeeded(&context, &value));
                }
                'B' => {
                    done = serde_json::from_str::<BuiltIn>(&entry.body)
                        .map_err(|error| error.to_string())
                        .and_then(|one| canvas::built_in(&one.name, &one.args, &one.kwargs))
                        .and_then(|what| out.built_in(&context, what));
                }
                'b' if self.settings.track_started => {
                    state = Some(State::Started);
                    let value =
                        serde_json::json!({"pid": std::process::id(), "hostname": self.settings.node()});
                    out.note(&context, State::Started, &message::raw(&value), None);
                }
                'g' | 'p' if entry.letter == 'p' || record.progress.is_some() => {
                    state = Some(State::Progress);
                    let value = outcome::progress(record.progress.as_ref(), entry.letter == 'p');
                    out.note(&context, State::Progress, &value, None);
                }
                'r' => {
                    state = Some(State::Retry);
                    let failed = Exception::of(&record.error.clone().unwrap_or_default());
                    out.note(&context, State::Retry, &failed.encoded(), Some(&failed));
                    exception = Some(failed);
                }
                _ => {}
            }
        }
        if let Err(why) = done {
            // What follows cannot be read: the caller learns of it, and nothing of it is sent.
            tracing::error!(
                task_id = context.id,
                task = context.task,
                why,
                "what follows a Celery task cannot be sent"
            );
            out = Out::new(&self.settings, now_ms, &context);
            let failed = Exception::runtime(format!("what follows the task cannot be sent: {why}"));
            let alone = Context { embed: canvas::without_follow_ups(&context.embed), ..context.clone() };
            state = Some(State::Failure);
            if let Err(why) = out.failed(&alone, State::Failure, &failed) {
                tracing::error!(task_id = context.id, why, "a chord is not told of it");
            }
            exception = Some(failed);
        }
        let event = events::happened(&context, entry, state, exception.as_ref(), &record, now_ms);
        Ok(Telling {
            operations: out.operations,
            // A later run of a job that succeeded before sends nothing twice.
            unless_success: (record.run > 1).then(|| self.settings.result_key(&context.id)),
            state,
            event,
        })
    }

    /// The parts of a chord are all there.
    async fn joining(&self, entry: &CeleryEntry, now_ms: u64) -> Result<Telling, Error> {
        let join: Join = match serde_json::from_str(&entry.context) {
            Ok(join) => join,
            Err(error) => {
                tracing::error!(entry = entry.id, %error, "a chord cannot be read and is dropped");
                return Ok(Telling::default());
            }
        };
        #[derive(Deserialize)]
        struct Saved {
            result: Raw,
        }
        let group = self.settings.group_key(&join.group);
        let parts = self.store.celery_parts(self.at, &group).await?;
        let saved = self.store.celery_read(self.at, &group).await?;
        let saved = saved.and_then(|text| serde_json::from_str::<Saved>(&text).ok());
        let context =
            Context { id: join.parent.clone(), root: Some(join.root.clone()), ..Context::default() };
        let mut out = Out::joining(&self.settings, now_ms, &context, &join);
        if let Err(why) = out.join(&join, &parts, saved.as_ref().map(|saved| saved.result.as_ref())) {
            tracing::error!(group = join.group, why, "the body of a chord cannot be started");
        }
        let mut operations = out.operations;
        for name in [".j", ".t", ".s", ".d"] {
            operations.push(Operation::Delete { key: format!("{group}{name}") });
        }
        Ok(Telling { operations, ..Telling::default() })
    }

    async fn count_dead(&self) {
        loop {
            match self.store.celery_dead(0).await {
                Ok((length, _)) => self.dead.set(length as i64),
                Err(error) => tracing::debug!(%error, "the dead list is counted later"),
            }
            tokio::time::sleep(DEAD_LOOK).await;
        }
    }
}

/// What is written for an entry, and what it means.
#[derive(Default)]
struct Telling {
    operations: Vec<Operation>,
    unless_success: Option<String>,
    state: Option<State>,
    event: Option<Value>,
}

fn value_of(text: &str) -> Result<Box<RawValue>, String> {
    if text.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    serde_json::from_str(text).map_err(|error| format!("the result is no JSON: {error}"))
}

fn context_of(task: &Task, queue: &str) -> Context {
    Context {
        id: task.id.clone(),
        task: task.name.clone(),
        queue: queue.to_owned(),
        root: task.root.clone().filter(|root| *root != task.id),
        parent: task.parent.clone(),
        group: task.group.clone(),
        group_index: task.group_index,
        embed: canvas::trimmed(&task.embed),
        ignore_result: task.ignore_result,
        retries: task.retries,
        reply_to: task.reply_to.clone(),
        arguments: None,
    }
}

/// The job and its task, where it came from Celery.
fn task_of(spec: &Spec, id: &JobId) -> Option<(JobId, Context)> {
    Some((*id, serde_json::from_str(spec.celery.as_deref()?).ok()?))
}
