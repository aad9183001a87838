//! What the front tells whoever watches: that it is there, and what becomes of tasks.

use super::{
    Front,
    canvas::Context,
    message::{self, Task},
    outcome::{Exception, State},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use waymark_job::Record;
use waymark_store::CeleryEntry;

/// How often it says that it is there, as Celery's workers do.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// Events published together.
const TOGETHER_MAX: usize = 200;

/// A message came.
pub(super) fn received(task: &Task, now_ms: u64) -> Value {
    json!({
        "type": "task-received", "uuid": task.id, "name": task.name, "args": task.argsrepr,
        "kwargs": task.kwargsrepr, "root_id": task.root, "parent_id": task.parent, "retries": task.retries,
        "eta": task.eta, "expires": task.expires, "timestamp": now_ms as f64 / 1e3,
    })
}

/// Something happened to a task.
pub(super) fn happened(
    context: &Context,
    entry: &CeleryEntry,
    state: Option<State>,
    exception: Option<&Exception>,
    record: &Record,
    now_ms: u64,
) -> Option<Value> {
    let timestamp = now_ms as f64 / 1e3;
    if entry.letter == 'b' {
        return Some(json!({"type": "task-started", "uuid": context.id, "timestamp": timestamp}));
    }
    let failed = |kind: &str| {
        json!({
            "type": kind, "uuid": context.id, "exception": exception.map(Exception::repr),
            "traceback": exception.map(Exception::traceback), "timestamp": timestamp,
        })
    };
    match state? {
        State::Success => {
            let result = serde_json::from_str(&entry.body).unwrap_or(Value::Null);
            Some(json!({
                "type": "task-succeeded", "uuid": context.id, "result": message::repr(&result),
                "runtime": record.ran_ms as f64 / 1e3, "timestamp": timestamp,
            }))
        }
        State::Failure => Some(failed("task-failed")),
        State::Retry => Some(failed("task-retried")),
        State::Revoked => Some(json!({
            "type": "task-revoked", "uuid": context.id, "terminated": record.started_ms.is_some(), "signum": null,
            "expired": exception.is_some_and(|exception| exception.message == "expired"), "timestamp": timestamp,
        })),
        State::Started | State::Progress => None,
    }
}

impl Front {
    /// The next time of Celery's logical clock.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed) + 1
    }

    fn event_channel(&self, key: &str) -> String {
        format!("{}/{}.celeryev/{key}", self.settings.key_prefix, self.at.broker)
    }

    fn stamped(&self, mut event: Value) -> Value {
        event["hostname"] = self.settings.node().into();
        event["utcoffset"] = 0.0.into();
        event["pid"] = std::process::id().into();
        event["clock"] = self.tick().into();
        event
    }

    async fn publish(&self, key: &str, body: &Value) {
        let node = self.settings.node();
        let text = message::envelope(
            &body.to_string(),
            &json!({"hostname": node}),
            json!({
                "delivery_mode": 1, "delivery_info": {"exchange": "celeryev", "routing_key": key}, "priority": 0,
                "body_encoding": "base64", "delivery_tag": uuid::Uuid::new_v4().to_string(),
            }),
        );
        if let Err(error) = self.store.celery_publish(&self.event_channel(key), &text).await {
            tracing::debug!(%error, "an event is lost");
        }
    }

    /// Publishes events of tasks, many in one message.
    pub(super) async fn publish_events(&self, events: Vec<Value>) {
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let together: Vec<_> =
                events.by_ref().take(TOGETHER_MAX).map(|event| self.stamped(event)).collect();
            self.publish("task.multi", &Value::Array(together)).await;
        }
    }

    async fn say(&self, kind: &str) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<f64> = load.split(' ').take(3).filter_map(|part| part.parse().ok()).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = json!({
            "type": kind, "freq": BEAT.as_secs_f64(), "active": self.active_count().await,
            "processed": self.processed.load(Relaxed), "loadavg": load, "sw_ident": "waymark",
            "sw_ver": env!("CARGO_PKG_VERSION"), "sw_sys": "Linux", "timestamp": now.as_secs_f64(),
        });
        self.publish(&kind.replace('-', "."), &self.stamped(event)).await;
    }

    /// Says that it is there, for ever.
    pub(super) async fn beat(&self) {
        self.say("worker-online").await;
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.say("worker-heartbeat").await;
        }
    }

    /// Says that it leaves.
    pub async fn sign_off(&self) {
        self.say("worker-offline").await;
    }

    /// Says at once that it is there, because somebody asked.
    pub(super) async fn say_heartbeat(&self) {
        self.say("worker-heartbeat").await;
    }
}
