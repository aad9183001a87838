//! Remote control (pidbox): what `app.control`, `celery inspect` and Flower ask of workers.
//!
//! A request comes on a channel and says where its answer goes. Celery's workers keep their tasks for themselves; here
//! they are jobs that all hosts share, so `active` answers with what runs on this host, and `reserved` and `scheduled`
//! with what waits for any. What has no counterpart is answered with an error that says what to do.

use super::{Front, canvas::Context, message, task_of};
use serde_json::{Map, Value, json};
use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::{PoisonError, atomic::Ordering::Relaxed},
};
use waymark_job::{State, flow};
use waymark_store::{Error, Filter, View};

/// Jobs that an answer lists.
const LISTED_MAX: usize = 100;
/// Tasks of one request.
const TASKS_MAX: usize = 1_000;

fn error(why: impl Into<String>) -> Value {
    json!({"error": why.into()})
}

fn ok(what: impl Into<String>) -> Value {
    json!({"ok": what.into()})
}

/// `"10/m"` and the like: so many in so many milliseconds; `None` for no limit.
fn rate(value: &Value) -> Result<Option<flow::Rate>, String> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return Err("a rate limit looks like 10/m".into()),
    };
    let (count, unit) = text.split_once('/').unwrap_or((&text, "s"));
    let per_ms: u64 = match unit.trim() {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => return Err(format!("{other:?} is no unit of a rate limit: use s, m or h")),
    };
    let count = count.trim().parse::<f64>().map_err(|_| format!("{text:?} is no rate limit such as 10/m"))?;
    if count <= 0.0 {
        return Ok(None);
    }
    // Half a task a second is one in two.
    let (count, per_ms) =
        if count < 1.0 { (1.0, (per_ms as f64 / count).round() as u64) } else { (count.round(), per_ms) };
    let count = NonZeroU32::new(count.min(1e6) as u32);
    let per_ms = NonZeroU64::new(per_ms.min(86_400_000));
    Ok(count.zip(per_ms).map(|(count, per_ms)| flow::Rate { count, per_ms, burst: None }))
}

/// Task ids of an argument that is one or several.
fn ids(arguments: &Value, names: &[&str]) -> Vec<String> {
    let value = names.iter().map(|name| &arguments[*name]).find(|value| !value.is_null());
    match value {
        Some(Value::String(id)) => vec![id.clone()],
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).take(TASKS_MAX).collect()
        }
        _ => Vec::new(),
    }
}

impl Front {
    /// Answers requests for ever, and wakes whoever looks at the outbox.
    pub(super) async fn listen(&self) {
        let prefix = &self.settings.key_prefix;
        let mut channels = vec![format!("{prefix}/{}.celery.pidbox", self.at.broker)];
        // Clients of Sentinels with kombu before 5.4 do not fill in the number.
        channels.push(format!("{prefix}/{{db}}.celery.pidbox"));
        let mut listener = self.store.celery_listen(channels);
        loop {
            match listener.next().await {
                None => self.outbox.notify_one(),
                Some(text) => self.request(&text).await,
            }
        }
    }

    fn is_meant(&self, body: &Value) -> bool {
        let node = self.settings.node();
        if let Some(destination) = body["destination"].as_array() {
            return destination.iter().any(|name| name == node);
        }
        match (body["pattern"].as_str(), body["matcher"].as_str()) {
            (Some(pattern), Some("glob") | None) => wildmatch::WildMatch::new(pattern).matches(node),
            // A regular expression of Python's: only what it means literally is known here.
            (Some(pattern), Some(_)) => node.contains(pattern),
            _ => true,
        }
    }

    async fn request(&self, text: &[u8]) {
        let Some((body, headers)) = message::body_of(text) else { return };
        // How long the asker waits for answers does not matter: a late revoke is obeyed, as Celery's workers do.
        if !self.is_meant(&body) {
            return;
        }
        if let Some(clock) = headers.get("clock").and_then(Value::as_u64) {
            self.clock.fetch_max(clock, Relaxed);
        }
        let method = body["method"].as_str().unwrap_or_default();
        let arguments = if body["arguments"].is_object() { body["arguments"].clone() } else { json!({}) };
        let answer = match self.answer(method, &arguments).await {
            Ok(answer) => answer,
            Err(why) => error(format!("the store does not answer: {why}")),
        };
        let reply_to = &body["reply_to"];
        let (Some(exchange), Some(key)) = (reply_to["exchange"].as_str(), reply_to["routing_key"].as_str())
        else {
            return;
        };
        let list = format!("{}{key}.{exchange}", self.settings.key_prefix);
        let text = message::envelope(
            &json!({(self.settings.node()): answer}).to_string(),
            &json!({"ticket": body["ticket"], "clock": self.tick()}),
            json!({
                "delivery_mode": 1, "delivery_info": {"exchange": exchange, "routing_key": key}, "priority": 0,
                "body_encoding": "base64", "delivery_tag": uuid::Uuid::new_v4().to_string(),
            }),
        );
        if let Err(why) = self.store.celery_push(self.at, &list, &text).await {
            tracing::warn!(method, error = %why, "an answer to remote control is lost");
        }
    }

    async fn answer(&self, method: &str, arguments: &Value) -> Result<Value, Error> {
        Ok(match method {
            "ping" => ok("pong"),
            "clock" => json!({"clock": self.tick()}),
            "hello" => json!({"clock": self.tick(), "revoked": {}}),
            "stats" => self.stats().await?,
            "conf" | "dump_conf" => self.conf(),
            "report" => ok(format!(
                "software -> waymark:{}\nplatform -> system:Linux\nnode -> {}\nhost -> {}\n",
                env!("CARGO_PKG_VERSION"),
                self.settings.node(),
                self.host
            )),
            "registered" | "dump_tasks" => self.settings.tasks.keys().cloned().collect(),
            "active_queues" => self.active_queues(),
            "active" | "dump_active" => self.list(State::Running).await?.into_iter().filter(|view| self.is_here(view)).map(|view| self.shown(&view)).collect(),
            "reserved" | "dump_reserved" => self.list(State::Queued).await?.iter().map(|view| self.shown(view)).collect(),
            "scheduled" | "dump_schedule" => self
                .list(State::Scheduled)
                .await?
                .iter()
                .map(|view| {
                    let eta = view.record.not_before_ms.map(message::isoformat);
                    json!({"eta": eta, "priority": 9 - view.spec.priority.min(9), "request": self.shown(view)})
                })
                .collect(),
            "revoked" | "dump_revoked" => self.store.celery_revoked().await?.into(),
            "query_task" => self.query(&ids(arguments, &["ids", "task_ids"])).await?,
            "revoke" | "terminate" => {
                let ids = ids(arguments, &["task_id", "task_ids"]);
                if ids.is_empty() {
                    return Ok(error("revoke needs a task_id"));
                }
                let terminate = method == "terminate" || arguments["terminate"] == true;
                let cancelled = self.store.celery_revoke(&ids, terminate).await?;
                tracing::info!(tasks = ids.len(), cancelled, terminate, "Celery tasks were revoked");
                let verb = if terminate { "terminating" } else { "tasks" };
                ok(format!("{verb} {} {}", ids.join(", "), if terminate { "" } else { "flagged as revoked" }).trim().to_owned())
            }
            "rate_limit" => self.rate_limit(arguments).await?,
            "add_consumer" => match arguments["queue"].as_str() {
                Some(queue) if !queue.is_empty() => {
                    let new = self.queues.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned());
                    ok(format!("{} {queue}", if new { "add consumer" } else { "already consuming from" }))
                }
                _ => error("add_consumer needs a queue"),
            },
            "cancel_consumer" => match arguments["queue"].as_str() {
                Some(queue) => {
                    self.queues.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
                    ok(format!("no longer consuming from {queue}"))
                }
                None => error("cancel_consumer needs a queue"),
            },
            "enable_events" => {
                let before = self.events.swap(true, Relaxed);
                ok(if before { "task events already enabled" } else { "task events enabled" })
            }
            "disable_events" => {
                let before = self.events.swap(false, Relaxed);
                ok(if before { "task events disabled" } else { "task events already disabled" })
            }
            "heartbeat" => {
                self.say_heartbeat().await;
                Value::Null
            }
            "shutdown" if self.settings.allow_shutdown => {
                tracing::info!("asked to drain by Celery's remote control");
                // A second request finds the first under way.
                let _ = self.drain.try_send(());
                ok("draining")
            }
            "shutdown" => error("shutdown is not allowed here: set celery.allow_shutdown, or use waymark host drain"),
            "time_limit" => error("time limits belong to job types: set plugins.TYPE.soft_limit_ms and hard_limit_ms"),
            "autoscale" | "pool_grow" | "pool_shrink" | "pool_restart" => {
                error("there is no pool: set worker.slots and worker.slots_min")
            }
            "revoke_by_stamped_headers" => error("stamps are not kept: revoke by task id"),
            "election" => Value::Null,
            other => error(format!("No such control command: {other}")),
        })
    }

    async fn list(&self, state: State) -> Result<Vec<View>, Error> {
        let filter = Filter { states: vec![state], ..Filter::default() };
        let page = self.store.list(&filter, LISTED_MAX, None).await?;
        Ok(page.jobs.into_iter().filter(|view| view.spec.celery.is_some()).collect())
    }

    fn is_here(&self, view: &View) -> bool {
        view.record.host.as_deref().is_some_and(|worker| worker.starts_with(&self.host))
    }

    /// Celery tasks that run here; at most as many as are listed.
    pub(super) async fn active_count(&self) -> usize {
        self.list(State::Running)
            .await
            .map_or(0, |views| views.iter().filter(|view| self.is_here(view)).count())
    }

    /// A job as Celery's workers show a task.
    fn shown(&self, view: &View) -> Value {
        let Some((_, context)) = task_of(&view.spec, &view.id) else { return Value::Null };
        let input: Value = serde_json::from_str(&view.spec.input).unwrap_or(Value::Null);
        let part = |name: &str, otherwise: Value| input.get(name).cloned().unwrap_or(otherwise);
        let Context { id, task, queue, .. } = context;
        json!({
            "id": id, "name": task, "type": task, "args": part("args", json!([])), "kwargs": part("kwargs", json!({})),
            "hostname": self.settings.node(), "time_start": view.record.started_ms.map(|at_ms| at_ms as f64 / 1e3),
            "acknowledged": true, "worker_pid": std::process::id(),
            "delivery_info": {
                "exchange": "", "routing_key": queue, "priority": 9 - view.spec.priority.min(9), "redelivered": false,
            },
        })
    }

    async fn query(&self, ids: &[String]) -> Result<Value, Error> {
        let mut found = Map::new();
        for id in ids {
            let filter = Filter { correlation_id: Some(id.clone()), ..Filter::default() };
            for view in self.store.list(&filter, 1, None).await?.jobs {
                let state = match view.state {
                    State::Running => "active",
                    State::Queued | State::Waiting | State::Paused | State::Scheduled => "reserved",
                    _ => continue,
                };
                found.insert(id.clone(), json!([state, self.shown(&view)]));
            }
        }
        Ok(Value::Object(found))
    }

    fn active_queues(&self) -> Value {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        queues
            .iter()
            .map(|queue| {
                json!({
                    "name": queue, "routing_key": queue, "durable": true, "exclusive": false, "auto_delete": false,
                    "no_ack": false, "alias": null, "bindings": [], "binding_arguments": null, "queue_arguments": null,
                    "consumer_arguments": null, "expires": null, "message_ttl": null, "max_length": null,
                    "max_length_bytes": null, "max_priority": null, "no_declare": null,
                    "exchange": {
                        "name": queue, "type": "direct", "arguments": null, "durable": true, "passive": false,
                        "auto_delete": false, "delivery_mode": null, "no_declare": false,
                    },
                })
            })
            .collect()
    }

    async fn stats(&self) -> Result<Value, Error> {
        let mut total = Map::new();
        for (job_type, state, jobs) in self.store.counts().await? {
            let tasks = self.settings.tasks.iter().filter(|(_, mapping)| mapping.job_type == job_type);
            for (task, _) in tasks.filter(|_| state == State::Succeeded) {
                total.insert(task.clone(), jobs.into());
            }
        }
        Ok(json!({
            "total": total, "pid": std::process::id(), "clock": self.tick().to_string(),
            "uptime": self.started.elapsed().as_secs(),
            "pool": {"implementation": "waymark", "max-concurrency": 0, "processes": [], "timeouts": [0, 0], "max-tasks-per-child": "N/A"},
            "broker": {"transport": "redis", "virtual_host": self.at.broker.to_string()},
            "prefetch_count": 0, "rusage": {},
        }))
    }

    fn conf(&self) -> Value {
        let routes: Map<String, Value> = self
            .settings
            .routes
            .iter()
            .map(|(task, queue)| (task.clone(), json!({"queue": queue})))
            .collect();
        json!({
            "task_default_queue": self.settings.default_queue(), "task_serializer": "json", "accept_content": ["json"],
            "result_serializer": "json", "result_expires": self.settings.result_expires_s,
            "result_extended": self.settings.result_extended, "task_track_started": self.settings.track_started,
            "worker_send_task_events": self.events.load(Relaxed), "task_routes": routes,
        })
    }

    /// A rate limit holds for the queue of the task's job type, over all hosts.
    async fn rate_limit(&self, arguments: &Value) -> Result<Value, Error> {
        let name = arguments["task_name"].as_str().unwrap_or_default();
        let Some(mapping) = self.settings.tasks.get(name) else { return Ok(error("unknown task")) };
        let rate = match rate(&arguments["rate_limit"]) {
            Ok(rate) => rate,
            Err(why) => return Ok(error(format!("Invalid rate limit string: {why}"))),
        };
        let queue = mapping.queue.as_deref().unwrap_or(&mapping.job_type);
        let mut limits = self.store.all_limits().await?.remove(queue).unwrap_or_default();
        limits.rate = rate;
        let empty = limits == flow::Limits::default();
        self.store.set_limits(queue, (!empty).then_some(&limits)).await?;
        tracing::info!(queue, "the rate of a queue was changed by Celery's remote control");
        Ok(ok(if rate.is_some() {
            "new rate limit set successfully"
        } else {
            "rate limit disabled successfully"
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_read_as_celery_writes_it() {
        let read =
            |value: Value| rate(&value).map(|rate| rate.map(|rate| (rate.count.get(), rate.per_ms.get())));
        assert_eq!(read(json!("10/m")), Ok(Some((10, 60_000))));
        assert_eq!(read(json!(100)), Ok(Some((100, 1_000))));
        assert_eq!(read(json!("0.5/s")), Ok(Some((1, 2_000))));
        assert_eq!(read(json!("0")), Ok(None));
        assert_eq!(read(Value::Null), Ok(None));
        assert!(read(json!("10/w")).is_err() && read(json!("ten/m")).is_err());
    }

    #[test]
    fn ids_are_one_or_several() {
        assert_eq!(ids(&json!({"task_id": "a"}), &["task_id"]), ["a"]);
        assert_eq!(ids(&json!({"task_id": ["a", "b", 3]}), &["task_id"]), ["a", "b"]);
        assert!(ids(&json!({}), &["task_id"]).is_empty());
    }
}
