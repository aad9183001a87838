//! Prometheus metrics. A worker process counts for itself and sends its families to the control process, which
//! adds the label `worker` and serves them together with its own at `/metrics`.

use crate::scale::{self, Chosen};
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
    proto::{LabelPair, MetricFamily},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};
use waymark_store::Counted;

/// Upper bounds of durations, seconds: 0.5 ms to an hour.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0, 3600.0,
];

/// What one worker process counts.
pub struct WorkerMetrics {
    registry: Registry,
    /// Claimed jobs by type.
    pub claimed: IntCounterVec,
    /// Jobs that left this worker, by type and state.
    pub left: IntCounterVec,
    /// Queued to started, by type.
    pub waited: HistogramVec,
    /// Run time of one stay on a worker, by type.
    pub ran: HistogramVec,
    /// Steps, by type.
    pub steps: IntCounterVec,
    /// Commits.
    pub commits: IntCounter,
    /// Checkpoint bytes written, by type.
    pub checkpoint_bytes: IntCounterVec,
    /// Claims found lost when committing.
    pub lost: IntCounter,
    /// Attempts that ended under a route, by type, target and outcome.
    pub routed: IntCounterVec,
    /// Traps and exceeded limits, by type and kind.
    pub traps: IntCounterVec,
    /// Slots in all and in use.
    pub slots: IntGauge,
    /// Slots in use.
    pub slots_used: IntGauge,
    /// Round trips of lease renewals.
    pub round_trip: Histogram,
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> anyhow::Result<IntCounterVec> {
    let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

fn counter(registry: &Registry, name: &str, help: &str) -> anyhow::Result<IntCounter> {
    let one = IntCounter::new(name, help)?;
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> anyhow::Result<IntGauge> {
    let one = IntGauge::new(name, help)?;
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> anyhow::Result<HistogramVec> {
    let vector = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

impl WorkerMetrics {
    /// A fresh registry.
    ///
    /// # Errors
    /// Two metrics bear the same name.
    pub fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let round_trip = Histogram::with_opts(
            HistogramOpts::new("waymark_redis_round_trip_seconds", "Round-trip time of lease renewals.")
                .buckets(SECONDS[..12].to_vec()),
        )?;
        registry.register(Box::new(round_trip.clone()))?;
        Ok(Self {
            claimed: counters(&registry, "waymark_jobs_claimed_total", "Jobs claimed.", &["type"])?,
            left: counters(
                &registry,
                "waymark_jobs_left_total",
                "Jobs that left a worker, by the state they went to.",
                &["type", "state"],
            )?,
            waited: histograms(
                &registry,
                "waymark_job_queued_seconds",
                "Time from creation to the first claim.",
                &["type"],
            )?,
            ran: histograms(
                &registry,
                "waymark_job_run_seconds",
                "Time of one stay of a job on a worker.",
                &["type"],
            )?,
            steps: counters(&registry, "waymark_steps_total", "Steps run.", &["type"])?,
            commits: counter(&registry, "waymark_commits_total", "Commits written.")?,
            checkpoint_bytes: counters(
                &registry,
                "waymark_checkpoint_bytes_total",
                "Bytes of checkpoints written, before compression.",
                &["type"],
            )?,
            lost: counter(
                &registry,
                "waymark_claims_lost_total",
                "Commits refused because the claim was another's by then.",
            )?,
            routed: counters(
                &registry,
                "waymark_route_attempts_total",
                "Attempts that ended under a route.",
                &["type", "arm", "outcome"],
            )?,
            traps: counters(
                &registry,
                "waymark_traps_total",
                "Traps and exceeded limits of guests.",
                &["type", "kind"],
            )?,
            slots: gauge(&registry, "waymark_slots", "Jobs that may run at once.")?,
            slots_used: gauge(&registry, "waymark_slots_used", "Jobs claimed now.")?,
            round_trip,
            registry,
        })
    }

    /// Where others add what they count.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All families in the Prometheus text format.
    #[must_use]
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

/// What the control process serves.
pub struct Metrics {
    /// Registry of the control process; the API adds its own counters here.
    pub registry: Registry,
    workers: Mutex<HashMap<String, Vec<MetricFamily>>>,
    /// What each worker had counted when it was last told.
    told: Mutex<HashMap<String, Counted>>,
    jobs: IntGaugeVec,
    queue_depth: IntGaugeVec,
    queue_age: GaugeVec,
    /// Plugins loaded and refused.
    pub plugin_loads: IntCounterVec,
    /// Changes of routes that this host made, by type and what was done.
    pub route_changes: IntCounterVec,
    /// Worker processes that ended without being asked.
    pub worker_crashes: IntCounter,
    ping: Gauge,
    results_up: IntGaugeVec,
    waiting: IntGaugeVec,
    waiting_age: GaugeVec,
    wanted_slots: IntGauge,
    wanted_hosts: IntGauge,
}

/// Queues that get a line of their own; the rest is added up under the name `other`.
const QUEUE_LABELS_MAX: usize = 200;

impl Metrics {
    /// A fresh registry.
    ///
    /// # Errors
    /// Two metrics bear the same name.
    pub fn new() -> anyhow::Result<Self> {
        let registry = Registry::new();
        let jobs =
            IntGaugeVec::new(Opts::new("waymark_jobs", "Jobs kept, by type and state."), &["type", "state"])?;
        let queue_depth =
            IntGaugeVec::new(Opts::new("waymark_queue_depth", "Queued jobs of a queue."), &["queue"])?;
        let queue_age = GaugeVec::new(
            Opts::new("waymark_queue_oldest_seconds", "Age of the oldest queued job of a queue."),
            &["queue"],
        )?;
        let ping = Gauge::new("waymark_redis_ping_seconds", "Last measured round trip of a PING.")?;
        registry.register(Box::new(jobs.clone()))?;
        registry.register(Box::new(queue_depth.clone()))?;
        registry.register(Box::new(queue_age.clone()))?;
        registry.register(Box::new(ping.clone()))?;
        let results_up = IntGaugeVec::new(
            Opts::new(
                "waymark_results_redis_up",
                "Does the second Redis answer? Absent where there is none.",
            ),
            &[],
        )?;
        registry.register(Box::new(results_up.clone()))?;
        let waiting = IntGaugeVec::new(
            Opts::new("waymark_queue_waiting", "Jobs of a queue that could be claimed now."),
            &["queue"],
        )?;
        let waiting_age = GaugeVec::new(
            Opts::new("waymark_queue_waiting_oldest_seconds", "Age of the oldest of them."),
            &["queue"],
        )?;
        registry.register(Box::new(waiting.clone()))?;
        registry.register(Box::new(waiting_age.clone()))?;
        Ok(Self {
            plugin_loads: counters(
                &registry,
                "waymark_plugin_loads_total",
                "Plugin files read, by outcome.",
                &["outcome"],
            )?,
            route_changes: counters(
                &registry,
                "waymark_route_changes_total",
                "Changes of routes that this host made, by what was done.",
                &["type", "what"],
            )?,
            worker_crashes: counter(
                &registry,
                "waymark_worker_crashes_total",
                "Worker processes that ended without being asked.",
            )?,
            workers: Mutex::default(),
            told: Mutex::default(),
            jobs,
            queue_depth,
            queue_age,
            ping,
            results_up,
            waiting,
            waiting_age,
            wanted_slots: gauge(
                &registry,
                "waymark_wanted_slots",
                "Slots with which all that waits would begin within 10 s.",
            )?,
            wanted_hosts: gauge(&registry, "waymark_wanted_hosts", "The same in hosts of the present size.")?,
            registry,
        })
    }

    /// Keeps what a worker process sent; `None` forgets a worker that ended.
    pub fn worker(&self, name: &str, families: Option<Vec<MetricFamily>>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        match families {
            Some(families) => workers.insert(name.to_owned(), families),
            None => workers.remove(name),
        };
    }

    /// What the workers counted since this was last asked. What a worker counted in its last second is lost with it.
    pub fn counted(&self) -> Counted {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|name, _| workers.contains_key(name));
        let mut all = Counted::default();
        for (name, families) in workers.iter() {
            let now = totals(families);
            let before = told.insert(name.clone(), now).unwrap_or_default();
            // A worker that was started again begins at 0.
            let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            all.succeeded += more(now.succeeded, before.succeeded);
            all.failed += more(now.failed, before.failed);
            all.started += more(now.started, before.started);
            all.waited_ms += more(now.waited_ms, before.waited_ms);
        }
        all
    }

    /// Reads the gauges that the store knows.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn read_store(&self, store: &waymark_store::Store) -> Result<(), waymark_store::Error> {
        if let Some(answered) = store.ping_results().await {
            self.results_up.with_label_values::<&str>(&[]).set(i64::from(answered.is_ok()));
        }
        self.ping.set(store.ping().await?.as_secs_f64());
        let counts = store.counts().await?;
        let now_ms = store.now_ms().await?;
        let queues = store.queues().await?;
        self.jobs.reset();
        for (job_type, state, number) in counts {
            self.jobs.with_label_values(&[job_type.as_str(), state.name()]).set(number as i64);
        }
        self.queue_depth.reset();
        self.queue_age.reset();
        for (index, queue) in queues.iter().enumerate() {
            let name = if index < QUEUE_LABELS_MAX { queue.name.as_str() } else { "other" };
            self.queue_depth.with_label_values(&[name]).add(queue.depth as i64);
            let age = queue.oldest_ms.map_or(0.0, |oldest| now_ms.saturating_sub(oldest) as f64 / 1e3);
            let gauge = self.queue_age.with_label_values(&[name]);
            gauge.set(gauge.get().max(age));
        }
        let signal = scale::read(store, &Chosen::new([]), scale::TARGET_MS).await?;
        self.waiting.reset();
        self.waiting_age.reset();
        for (index, queue) in signal.queues.iter().enumerate() {
            let name = if index < QUEUE_LABELS_MAX { queue.name.as_str() } else { "other" };
            self.waiting.with_label_values(&[name]).add(queue.waiting as i64);
            let gauge = self.waiting_age.with_label_values(&[name]);
            gauge.set(gauge.get().max(queue.oldest_waiting_seconds));
        }
        self.wanted_slots.set(signal.wanted_slots as i64);
        self.wanted_hosts.set(signal.wanted_hosts as i64);
        Ok(())
    }

    /// Everything in the Prometheus text format.
    ///
    /// # Errors
    /// A family could not be encoded.
    pub fn render(&self) -> anyhow::Result<String> {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        let mut add = |family: MetricFamily| match families.get_mut(family.name()) {
            Some(known) => known.metric.extend(family.metric),
            None => {
                families.insert(family.name().to_owned(), family);
            }
        };
        self.registry.gather().into_iter().for_each(&mut add);
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for (worker, own) in workers.iter() {
            for mut family in own.clone() {
                for metric in family.mut_metric() {
                    let mut label = LabelPair::default();
                    label.set_name("worker".into());
                    label.set_value(worker.clone());
                    metric.label.push(label);
                }
                add(family);
            }
        }
        drop(workers);
        let mut text = Vec::new();
        TextEncoder::new().encode(&families.into_values().collect::<Vec<_>>(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

/// What a worker's families add up to.
fn totals(families: &[MetricFamily]) -> Counted {
    let mut all = Counted::default();
    for family in families {
        for metric in &family.metric {
            match family.name() {
                "waymark_jobs_left_total" => {
                    let to = metric.label.iter().find(|label| label.name() == "state").map(LabelPair::value);
                    let jobs = metric.counter.value() as u64;
                    match to {
                        Some("succeeded") => all.succeeded += jobs,
                        Some("failed") => all.failed += jobs,
                        _ => {}
                    }
                }
                "waymark_job_queued_seconds" => {
                    all.started += metric.histogram.sample_count();
                    all.waited_ms += (metric.histogram.sample_sum() * 1e3) as u64;
                }
                _ => {}
            }
        }
    }
    all
}
