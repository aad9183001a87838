//! `waymark bench`: measures a running host from outside, one JSON line per figure.
//!
//! The job type should do nothing, so that the figures are those of the host: `tests/guests/noop` is one. Jobs go
//! through a queue of the run's own, which is paused while it is filled, so that enqueueing and running are measured
//! apart. With `--redis` the store is also filled directly, without HTTP. Jobs that were never run are cancelled at
//! the end.

use crate::cli::{Client, Remote, client::read, table::say};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Args;
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use waymark_job::Spec;
use waymark_store::{NewJob, Options, Store};

/// How often the end of a run is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// A run in which no job ends for so long is given up.
const STUCK: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Which host.
    #[command(flatten)]
    remote: Remote,
    /// Job type that does nothing.
    #[arg(long = "type", default_value = "noop", value_name = "TYPE")]
    job_type: String,
    /// Input of every job.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    input: String,
    /// Jobs of the throughput figure, which are also those of the batch enqueue figure.
    #[arg(long, default_value_t = 50_000)]
    jobs: u64,
    /// Jobs per batch.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// Jobs of the single enqueue figures.
    #[arg(long, default_value_t = 5_000)]
    singles: u64,
    /// Jobs of the latency figure, one after the other.
    #[arg(long, default_value_t = 1_000)]
    latencies: u64,
    /// Connections of the figures that use several.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    connections: u64,
    /// Also fill this store directly; must be the host's own.
    #[arg(long, env = "WAYMARK_REDIS", value_name = "URL")]
    redis: Option<String>,
    /// First part of every key in that store.
    #[arg(long, default_value = "wm")]
    prefix: String,
    /// Partitions of that store.
    #[arg(long, default_value_t = 1)]
    partitions: u16,
    /// Also measure jobs of 100 flow keys under limits that are not reached, each with a unique key and a retry
    /// policy of its own.
    #[arg(long)]
    limits: bool,
}

struct Bench {
    client: Client,
    arguments: Arguments,
    queue: String,
}

/// Measures, and prints.
///
/// # Errors
/// The host cannot be reached, lacks the job type, or jobs do not end.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = Client::new(&arguments.remote)?;
    let random = getrandom::u32().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let bench = Bench { client, arguments, queue: format!("bench-{random:08x}") };
    let outcome = bench.all().await;
    // Whatever happened: leave no paused queue behind.
    let cleaned = bench.clean().await;
    outcome.and(cleaned)
}

fn rate(figure: &str, jobs: u64, took: Duration, connections: u64) {
    let per_second = (jobs as f64 / took.as_secs_f64()).round();
    say!(
        "{}",
        json!({
            "figure": figure, "value": per_second, "unit": "jobs/s", "jobs": jobs,
            "seconds": took.as_secs_f64(), "connections": connections,
        })
    );
}

fn spread(figure: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let at = |share: f64| {
        let index = ((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1));
        samples.get(index).map_or(0.0, |sample| (sample.as_secs_f64() * 1e6).round() / 1e3)
    };
    say!(
        "{}",
        json!({
            "figure": figure, "unit": "ms", "jobs": samples.len(),
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0),
        })
    );
}

impl Bench {
    async fn all(&self) -> anyhow::Result<()> {
        let arguments = &self.arguments;
        self.warm_up().await?;
        self.switch("pause").await?;
        if arguments.jobs > 0 {
            let took = self.fill_by_batch(1).await?;
            rate("enqueue_batch_http", arguments.jobs, took, 1);
            let took = self.drain(arguments.jobs).await?;
            rate("throughput", arguments.jobs, took, 1);
            self.switch("pause").await?;
        }
        if arguments.jobs > 0 && arguments.limits {
            self.limit().await?;
            let took = self.fill_limited().await?;
            rate("enqueue_batch_http_limited", arguments.jobs, took, 1);
            let took = self.drain(arguments.jobs).await?;
            rate("throughput_limited", arguments.jobs, took, 1);
            self.switch("pause").await?;
            self.unlimit().await?;
        }
        if arguments.singles > 0 {
            let (took, samples) = self.fill_one_by_one(1).await?;
            rate("enqueue_single_http", arguments.singles, took, 1);
            spread("enqueue_single_http_latency", samples);
            let (took, _) = self.fill_one_by_one(arguments.connections).await?;
            rate("enqueue_single_http_concurrent", arguments.singles, took, arguments.connections);
            self.purge().await?;
        }
        if let Some(url) = &arguments.redis {
            let store = self.connect(url).await?;
            let took = self.fill_store(&store, arguments.jobs, arguments.batch).await?;
            rate("enqueue_batch_store", arguments.jobs, took, 1);
            let took = self.fill_store(&store, arguments.singles, 1).await?;
            rate("enqueue_single_store", arguments.singles, took, 1);
            self.purge().await?;
        }
        self.switch("resume").await?;
        if arguments.latencies > 0 {
            spread("enqueue_to_finished", self.latencies().await?);
        }
        Ok(())
    }

    fn job(&self) -> String {
        format!(
            "{{\"type\":{:?},\"queue\":{:?},\"input\":{}}}",
            self.arguments.job_type, self.queue, self.arguments.input
        )
    }

    async fn post(&self, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request =
            self.client.request(Method::POST, path).header("content-type", "application/json").body(body);
        Ok(self.client.send(request).await?.bytes().await?)
    }

    /// One job to its end: the type exists, its code is loaded, connections stand.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let body = Bytes::from(self.job());
        for _ in 0..20 {
            let answer = self.post("/api/v1/jobs?wait_ms=30000", body.clone()).await?;
            let job: Value = serde_json::from_slice(&answer)?;
            ensure!(
                job["status"] == "succeeded",
                "a job of type {:?} is {}, not succeeded, after 30 s",
                self.arguments.job_type,
                job["status"]
            );
        }
        Ok(())
    }

    async fn switch(&self, verb: &str) -> anyhow::Result<()> {
        let _: Value = self.client.post(&format!("/api/v1/queues/{}/{verb}", self.queue), &[]).await?;
        Ok(())
    }

    async fn purge(&self) -> anyhow::Result<()> {
        self.switch("purge").await
    }

    async fn clean(&self) -> anyhow::Result<()> {
        if self.arguments.limits {
            self.unlimit().await?;
        }
        self.purge().await?;
        self.switch("resume").await
    }

    fn limits_path(&self) -> String {
        format!("/api/v1/queues/{}/limits", self.queue)
    }

    /// Limits of every kind, none of which is ever reached: what they cost, not what they hold back.
    async fn limit(&self) -> anyhow::Result<()> {
        let limits = json!({
            "concurrency": 1_000_000, "rate": {"count": 1_000_000, "per_ms": 1_000},
            "per_key": {"concurrency": 100_000, "rate": {"count": 1_000_000, "per_ms": 1_000, "burst": 1_000_000}},
        });
        self.client.send(self.client.request(Method::PUT, &self.limits_path()).json(&limits)).await.map(drop)
    }

    async fn unlimit(&self) -> anyhow::Result<()> {
        self.client.delete(&self.limits_path()).await
    }

    async fn fill_limited(&self) -> anyhow::Result<Duration> {
        let Arguments { jobs, batch, .. } = self.arguments;
        let plain = self.job();
        let plain = plain.strip_suffix('}').unwrap_or(&plain);
        let begin = Instant::now();
        for from in (0..jobs).step_by(usize::try_from(batch)?) {
            let list: Vec<_> = (from..jobs.min(from + batch))
                .map(|number| {
                    format!(
                        "{plain},\"unique_key\":\"{}-{number}\",\"flow_key\":\"k{}\",\
                         \"retry\":{{\"max_attempts\":3,\"backoff\":\"linear\"}}}}",
                        self.queue,
                        number % 100
                    )
                })
                .collect();
            self.post("/api/v1/jobs/batch", Bytes::from(format!("{{\"jobs\":[{}]}}", list.join(","))))
                .await?;
        }
        Ok(begin.elapsed())
    }

    async fn fill_by_batch(&self, connections: u64) -> anyhow::Result<Duration> {
        let Arguments { jobs, batch, .. } = self.arguments;
        let full = self.batch(batch);
        let left = AtomicU64::new(jobs);
        let begin = Instant::now();
        try_join_all((0..connections).map(|_| async {
            loop {
                let before = left.load(Ordering::Relaxed);
                let take = before.min(batch);
                if take == 0 {
                    return anyhow::Ok(());
                }
                if left.compare_exchange(before, before - take, Ordering::Relaxed, Ordering::Relaxed).is_err()
                {
                    continue;
                }
                let body = if take == batch { full.clone() } else { self.batch(take) };
                let answer = self.post("/api/v1/jobs/batch", body).await?;
                ensure!(!answer.is_empty(), "an empty answer to a batch");
            }
        }))
        .await?;
        Ok(begin.elapsed())
    }

    fn batch(&self, jobs: u64) -> Bytes {
        let job = self.job();
        let list = vec![job.as_str(); usize::try_from(jobs).unwrap_or(usize::MAX)];
        Bytes::from(format!("{{\"jobs\":[{}]}}", list.join(",")))
    }

    async fn fill_one_by_one(&self, connections: u64) -> anyhow::Result<(Duration, Vec<Duration>)> {
        let body = Bytes::from(self.job());
        let left = AtomicU64::new(self.arguments.singles);
        let begin = Instant::now();
        let samples = try_join_all((0..connections).map(|_| async {
            let mut samples = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                let asked = Instant::now();
                self.post("/api/v1/jobs", body.clone()).await?;
                samples.push(asked.elapsed());
            }
            anyhow::Ok(samples)
        }))
        .await?;
        Ok((begin.elapsed(), samples.concat()))
    }

    /// Number of jobs of the type that succeeded so far.
    async fn succeeded(&self) -> anyhow::Result<u64> {
        let answer: Value = self.client.get("/api/v1/counts", &[]).await?;
        let counts = answer["counts"].as_array().context("no counts")?;
        let own = counts.iter().find(|count| {
            count["type"] == self.arguments.job_type.as_str() && count["status"] == "succeeded"
        });
        Ok(own.and_then(|count| count["jobs"].as_u64()).unwrap_or(0))
    }

    /// Opens the queue and waits until so many jobs have succeeded.
    async fn drain(&self, jobs: u64) -> anyhow::Result<Duration> {
        let goal = self.succeeded().await? + jobs;
        let begin = Instant::now();
        self.switch("resume").await?;
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.succeeded().await?;
            if now >= goal {
                return Ok(begin.elapsed());
            }
            if now != last {
                (last, moved) = (now, Instant::now());
            }
            ensure!(
                moved.elapsed() < STUCK,
                "no job has ended for {} s; {} are missing",
                STUCK.as_secs(),
                goal - now
            );
        }
    }

    async fn latencies(&self) -> anyhow::Result<Vec<Duration>> {
        let body = Bytes::from(self.job());
        let mut samples = Vec::new();
        for _ in 0..self.arguments.latencies {
            let request = self.client.request(Method::POST, "/api/v1/jobs?wait_ms=30000");
            let request = request.header("content-type", "application/json").body(body.clone());
            let begin = Instant::now();
            let response = self.client.send(request).await?;
            let job: Value = read(response).await?;
            samples.push(begin.elapsed());
            ensure!(job["status"] == "succeeded", "a job is {} after 30 s", job["status"]);
        }
        Ok(samples)
    }

    async fn connect(&self, url: &str) -> anyhow::Result<Arc<Store>> {
        let store = Store::connect(Options {
            prefix: self.arguments.prefix.clone(),
            partitions: self.arguments.partitions,
            ..Options::at(url)
        });
        Ok(Arc::new(store.await?))
    }

    async fn fill_store(&self, store: &Store, jobs: u64, batch: u64) -> anyhow::Result<Duration> {
        let spec = Spec {
            job_type: self.arguments.job_type.clone(),
            queue: self.queue.clone(),
            input: self.arguments.input.clone(),
            ..Spec::default()
        };
        let begin = Instant::now();
        let mut left = jobs;
        while left > 0 {
            let take = left.min(batch);
            let new = || NewJob { spec: spec.clone(), ..NewJob::default() };
            store.create((0..take).map(|_| new()).collect()).await?;
            left -= take;
        }
        Ok(begin.elapsed())
    }
}
