//! What does not go on, and why.

use super::{format, part};
use crate::api::{Problem, Service};
use maud::{Markup, html};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use waymark_job::{State, flow::Limits};
use waymark_store::{Queue, Store};

/// A round trip that takes longer is worth a word.
const SLOW: Duration = Duration::from_millis(50);
/// Share of the memory that a host may use from which on it is worth a word: soon the kernel kills a worker.
const FULL: f64 = 0.95;
/// Queues with limits that are looked at, the deepest first. Bounds the time of a page.
const QUEUES_MAX: usize = 20;
/// Causes that are shown.
const CAUSES_MAX: usize = 12;

/// A cause, with where to look.
pub(super) struct Cause {
    what: String,
    why: String,
    link: String,
}

/// All that is known about where jobs wait.
pub(super) struct Standing {
    pub(super) counts: Vec<(String, State, u64)>,
    pub(super) queues: Vec<Queue>,
    pub(super) hosts: Vec<Value>,
    pub(super) ping: Duration,
}

impl Standing {
    /// Reads it.
    pub(super) async fn read(store: &Store) -> Result<Self, Problem> {
        let ping = store.ping().await?;
        let hosts = store.hosts().await?;
        Ok(Self {
            counts: store.counts().await?,
            queues: store.queues().await?,
            // Text that is no JSON can only come of damage in the store.
            hosts: hosts.iter().map(|(_, record)| serde_json::from_str(record).unwrap_or_default()).collect(),
            ping,
        })
    }

    /// Jobs in a state.
    pub(super) fn jobs(&self, state: State) -> u64 {
        self.counts.iter().filter(|(_, other, _)| *other == state).map(|(_, _, jobs)| jobs).sum()
    }

    fn hosts_that_claim(&self) -> impl Iterator<Item = &Value> {
        self.hosts.iter().filter(|host| host["paused"] != true && host["draining"] != true)
    }
}

fn serves(host: &Value, queue: &str) -> bool {
    let patterns = host["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
    patterns.is_empty()
        || patterns
            .iter()
            .filter_map(Value::as_str)
            .any(|pattern| wildmatch::WildMatch::new(pattern).matches(queue))
}

/// Looks for all causes; the ones that concern everything come first.
pub(super) async fn causes(service: &Service, standing: &Standing) -> Result<Vec<Cause>, Problem> {
    let mut found = Vec::new();
    let mut add =
        |what: String, why: String, link: &str| found.push(Cause { what, why, link: link.to_owned() });
    if standing.ping > SLOW {
        let took = format::span(standing.ping.as_millis() as u64);
        add("Redis is slow".into(), format!("A round trip took {took}."), "/hosts");
    }
    let queued = standing.jobs(State::Queued);
    if queued > 0 && standing.hosts_that_claim().next().is_none() {
        let why =
            if standing.hosts.is_empty() { "There is no host." } else { "Every host is paused or drains." };
        add("No host claims jobs".into(), why.into(), "/hosts");
    }
    for host in &standing.hosts {
        let used = host["load"]["memory"].as_f64().unwrap_or_default();
        if used >= FULL {
            let what = format!("{} is short of memory", host["id"].as_str().unwrap_or_default());
            let why = format!(
                "{:.0} % of what it may use is in use: slots that follow the load are taken away until some is free.",
                used * 100.0
            );
            add(what, why, "/hosts");
        }
    }
    let waiting = standing.jobs(State::Waiting);
    let others = [State::Queued, State::Running, State::Scheduled];
    if waiting > 0 && others.into_iter().all(|state| standing.jobs(state) == 0) {
        let why = "Nothing runs that could wake them: they wait for a signal, or for jobs that are paused.";
        add(format!("{} waiting", format::number(waiting)), why.into(), "/jobs?status=waiting");
    }
    let have: BTreeSet<&str> = standing
        .hosts
        .iter()
        .flat_map(|host| host["types"].as_array().into_iter().flatten())
        .filter_map(|one| one["name"].as_str())
        .collect();
    for (job_type, state, jobs) in &standing.counts {
        if *state == State::Queued && !job_type.starts_with("waymark.") && !have.contains(job_type.as_str()) {
            add(
                format!("{} × {job_type}", format::number(*jobs)),
                "No host has this job type: put its plugin into a host's plugin directory.".into(),
                &format!("/jobs?{}", part::query([("status", "queued"), ("type", job_type.as_str())])),
            );
        }
    }
    let (dead, _) = service.store.celery_dead(0).await?;
    if dead > 0 {
        add(
            format!("{} on the Celery dead list", format::number(dead)),
            "They are no protocol 2 JSON, or no [celery.tasks] names their job type: see GET /api/v1/celery."
                .into(),
            "/api/v1/celery",
        );
    }
    let plugins = service.directory.list();
    for plugin in plugins.iter().filter(|plugin| matches!(plugin.state.as_str(), "quarantined" | "failed")) {
        let error = plugin.error.as_ref().map_or("", |error| error.message.as_str());
        let what = format!(
            "{} is {}",
            plugin.name,
            if plugin.state == "failed" { "refused" } else { "quarantined" }
        );
        add(what, error.to_owned(), "/plugins");
    }
    let mut waiting: Vec<_> = standing.queues.iter().filter(|queue| queue.depth > 0).collect();
    waiting.sort_by_key(|queue| std::cmp::Reverse(queue.depth));
    let limits: BTreeMap<String, Limits> =
        if waiting.is_empty() { BTreeMap::new() } else { service.store.all_limits().await? };
    let blocked = if limits.is_empty() { BTreeMap::new() } else { service.store.blocked().await? };
    for queue in waiting.into_iter().take(QUEUES_MAX) {
        let what = format!("{} in queue {}", format::number(queue.depth), queue.name);
        let link = format!("/jobs?{}", part::query([("status", "queued"), ("queue", queue.name.as_str())]));
        if queue.paused {
            add(what, "The queue is paused.".into(), "/queues");
        } else if !standing.hosts.is_empty() && !standing.hosts.iter().any(|host| serves(host, &queue.name)) {
            add(what, "No host serves this queue.".into(), &link);
        } else if let Some(limits) = limits.get(&queue.name)
            && let Some(why) = limited(service, &queue.name, limits, &blocked).await?
        {
            add(what, why, "/queues");
        }
    }
    Ok(found)
}

/// Which limit of a queue its jobs wait behind, if any does. `blocked`: lines by the limit that they wait behind.
async fn limited(
    service: &Service,
    queue: &str,
    limits: &Limits,
    blocked: &BTreeMap<String, u64>,
) -> Result<Option<String>, Problem> {
    if let Some(most) = limits.concurrency {
        let running = service.store.flow(queue).await?.running;
        if running >= u64::from(most.get()) {
            return Ok(Some(format!("Its limit is reached: {running} of {most} run.")));
        }
    }
    if let Some(rate) = limits.rate.filter(|_| blocked.contains_key(queue)) {
        let span = format::span(rate.per_ms.get());
        return Ok(Some(format!("Its rate is used up: {} may start in {span}.", rate.count)));
    }
    let prefix = format!("{queue}/");
    let keys = blocked.range(prefix.clone()..).take_while(|(scope, _)| scope.starts_with(&prefix)).count();
    Ok((keys > 0).then(|| format!("{keys} of its keys are at their limit.")))
}

/// The list of causes.
pub(super) fn list(causes: &[Cause]) -> Markup {
    html! {
        @if causes.is_empty() {
            p.calm { (part::badge("ready")) span { "Nothing is stuck." } }
        } @else {
            ul.causes {
                @for cause in causes.iter().take(CAUSES_MAX) {
                    li { a href=(cause.link) { (cause.what) } span { (cause.why) } }
                }
            }
            @if causes.len() > CAUSES_MAX { p.hint { "and " (causes.len() - CAUSES_MAX) " more" } }
        }
    }
}
