//! The settings of the Celery front.

use super::mapping::TaskMapping;
use crate::api::submission::{QUEUE_RULE, is_queue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The Celery front: queues that this host takes over from Celery's workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Celery {
    /// Take messages, write results, answer remote control. Default false.
    pub enabled: bool,
    /// The database of the broker, on the server of `redis.url`. Default: that of `redis.url`.
    pub broker_db: Option<i64>,
    /// The database of the results, on the same server. Default: that of the broker.
    pub result_db: Option<i64>,
    /// Celery's queues that the front owns: every message there is taken. The first is the default queue of what
    /// follows a task. Default `["celery"]`.
    pub queues: Vec<String>,
    /// `global_keyprefix` of the applications' `broker_transport_options`. Default: none.
    pub key_prefix: String,
    /// `global_keyprefix` of their `result_backend_transport_options`. Default: none.
    pub result_key_prefix: String,
    /// How long results are kept, seconds. Default 86,400.
    pub result_expires_s: u64,
    /// The name under which the front shows itself; another for each host of a machine. Default `waymark@` and the
    /// machine's name.
    pub node_name: String,
    /// Job types of tasks, by the tasks' names.
    pub tasks: BTreeMap<String, TaskMapping>,
    /// Queues of tasks that others run, by their names or patterns with `*`: such a message goes on unchanged, and so do
    /// following tasks whose signatures name no queue. Default: none.
    pub routes: BTreeMap<String, String>,
    /// Write STARTED when a job begins, as `task_track_started`. Default false.
    pub track_started: bool,
    /// Results have name, arguments, worker, retries and queue too, as `result_extended`. Default false.
    pub result_extended: bool,
    /// Publish events of tasks from the start, as `-E`; `enable_events` and `disable_events` switch them. Default false.
    pub events: bool,
    /// `control.shutdown()` drains this host. Default false.
    pub allow_shutdown: bool,
    /// Time between two looks at queues that had nothing, milliseconds, 1 to 10,000. Default 20.
    pub poll_ms: u64,
}

impl Default for Celery {
    fn default() -> Self {
        Self {
            enabled: false,
            broker_db: None,
            result_db: None,
            queues: vec!["celery".into()],
            key_prefix: String::new(),
            result_key_prefix: String::new(),
            result_expires_s: 86_400,
            node_name: format!("waymark@{}", rustix::system::uname().nodename().to_string_lossy()),
            tasks: BTreeMap::new(),
            routes: BTreeMap::new(),
            track_started: false,
            result_extended: false,
            events: false,
            allow_shutdown: false,
            poll_ms: 20,
        }
    }
}

impl Celery {
    /// What is wrong with it, in one sentence that begins with the key.
    pub(crate) fn check(&self, redis_url: Option<&str>) -> Result<(), String> {
        if !self.enabled {
            return Ok(());
        }
        if redis_url.is_some_and(|url| {
            url.split("://")
                .next()
                .is_some_and(|scheme| scheme.ends_with("redis-cluster") || scheme.ends_with("rediss-cluster"))
        }) {
            return Err("enabled: Celery does not run on a Redis Cluster, and its messages become jobs on the same server only: \
                        use redis:// or redis-sentinel:// for redis.url"
                .into());
        }
        if self.queues.is_empty() || self.queues.iter().any(String::is_empty) {
            return Err("queues: name at least one queue".into());
        }
        if !(1..=10_000).contains(&self.poll_ms) {
            return Err("poll_ms: must be 1 to 10000".into());
        }
        if self.result_expires_s == 0 {
            return Err("result_expires_s: must be at least 1".into());
        }
        if !self.node_name.contains('@') {
            return Err("node_name: must look like name@host".into());
        }
        for (name, database) in [("broker_db", self.broker_db), ("result_db", self.result_db)] {
            if database.is_some_and(|number| !(0..=65_535).contains(&number)) {
                return Err(format!("{name}: must be the number of a database"));
            }
        }
        for (name, mapping) in &self.tasks {
            mapping.check().map_err(|why| format!("tasks.{name:?}.{why}"))?;
            if mapping.queue.as_deref().is_some_and(|queue| !is_queue(queue)) {
                return Err(format!("tasks.{name:?}.queue: {QUEUE_RULE}"));
            }
        }
        for (name, queue) in &self.routes {
            if self.queues.contains(queue) {
                return Err(format!("routes.{name:?}: the queue {queue:?} is the front's own"));
            }
        }
        Ok(())
    }

    /// Key and channel of a task's result.
    pub(crate) fn result_key(&self, id: &str) -> String {
        format!("{}celery-task-meta-{id}", self.result_prefix())
    }

    /// Glob-style pattern of the channels of all results.
    pub(crate) fn result_pattern(&self) -> String {
        let mut pattern = String::new();
        for letter in self.result_key("").chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern + "*"
    }

    /// Key of what is kept of a group, without the suffixes of its parts.
    pub(crate) fn group_key(&self, id: &str) -> String {
        format!("{}celery-taskset-meta-{id}", self.result_prefix())
    }

    /// As Celery builds it: a prefix that does not end with a mark gets one.
    fn result_prefix(&self) -> String {
        match self.result_key_prefix.chars().last() {
            None | Some(':' | '_' | '-' | '.') => self.result_key_prefix.clone(),
            Some(_) => format!("{}_", self.result_key_prefix),
        }
    }

    /// The queue of a task that others run.
    pub(crate) fn route(&self, task: &str) -> Option<&str> {
        let exact = self.routes.get(task);
        let found = exact.or_else(|| {
            let mut patterns = self.routes.iter().filter(|(name, _)| name.contains('*'));
            patterns.find(|(name, _)| wildmatch::WildMatch::new(name).matches(task)).map(|(_, queue)| queue)
        });
        found.map(String::as_str)
    }

    /// Where tasks go that name no queue.
    pub(crate) fn default_queue(&self) -> &str {
        self.queues.first().map_or("celery", String::as_str)
    }

    /// The name under which the front shows itself.
    pub(crate) fn node(&self) -> &str {
        &self.node_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_prefixes_that_celery_builds() {
        let plain = Celery::default();
        assert_eq!(plain.result_key("x"), "celery-task-meta-x");
        let with = |prefix: &str| Celery { result_key_prefix: prefix.into(), ..Celery::default() };
        assert_eq!(with("app").group_key("g"), "app_celery-taskset-meta-g");
        assert_eq!(with("app:").result_key("x"), "app:celery-task-meta-x");
        assert_eq!(plain.result_pattern(), "celery-task-meta-*");
        assert_eq!(with(r"a*[\?:").result_pattern(), r"a\*\[\\\?:celery-task-meta-*");
    }

    #[test]
    fn a_route_is_found_by_name_before_patterns_and_never_leads_to_an_own_queue() {
        let routes =
            BTreeMap::from([("a.*".to_owned(), "old".to_owned()), ("a.b".to_owned(), "other".to_owned())]);
        let front = Celery { enabled: true, routes, ..Celery::default() };
        assert_eq!(
            (front.route("a.b"), front.route("a.c"), front.route("b")),
            (Some("other"), Some("old"), None)
        );
        assert_eq!(front.check(None), Ok(()));
        let own = Celery { routes: BTreeMap::from([("x".into(), "celery".into())]), ..front };
        assert!(own.check(None).unwrap_err().contains("the front's own"));
        let cluster = Celery { enabled: true, ..Celery::default() };
        assert!(cluster.check(Some("redis-cluster://a:1")).unwrap_err().contains("Cluster"));
    }
}
