//! What a no-op job costs Redis: CPU time per job to enqueue, claim and finish, and memory per queued job; and what
//! flow keys, limits, unique keys and retry policies add.
//!
//! `cargo run --release -p waymark-store --example store_cost [jobs] [batch]` starts servers of its own and prints
//! one JSON line per figure.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use waymark_job::{RetryPolicy, Spec, flow::Limits, retry::Backoff};
use waymark_store::{ClaimRequest, Commit, CommitAnswer, NewJob, Options, Store, Then};

const TYPE: &str = "noop";
/// Flow keys of the jobs that have one.
const KEYS: usize = 100;
/// Limits of every kind that are never reached.
const LIMITS: &str = r#"{"concurrency": 1000000, "rate": {"count": 1000000, "per_ms": 1000},
    "per_key": {"concurrency": 100000, "rate": {"count": 1000000, "per_ms": 1000, "burst": 1000000}}}"#;

/// What the jobs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    keys: bool,
    limits: bool,
    uniques: bool,
    retries: bool,
}

const PLAIN: Kind = Kind { name: "plain", keys: false, limits: false, uniques: false, retries: false };
const KINDS: [Kind; 6] = [
    PLAIN,
    Kind { name: "flow keys", keys: true, ..PLAIN },
    Kind { name: "flow keys and limits", keys: true, limits: true, ..PLAIN },
    Kind { name: "unique keys", uniques: true, ..PLAIN },
    Kind { name: "retry policies", retries: true, ..PLAIN },
    Kind { name: "all of them", keys: true, limits: true, uniques: true, retries: true },
];

impl Kind {
    fn job(self, number: usize) -> NewJob {
        let input = format!("{{\"text\":\"{}\"}}", "x".repeat(89));
        let mut spec = Spec { job_type: TYPE.into(), input, ..Spec::default() };
        spec.key = self.keys.then(|| format!("k{}", number % KEYS));
        spec.unique_key = self.uniques.then(|| format!("unique-{number}"));
        let retry =
            RetryPolicy { max_attempts: Some(3), backoff: Some(Backoff::Linear), ..RetryPolicy::default() };
        spec.retry = self.retries.then(|| Box::new(retry));
        NewJob { spec, ..NewJob::default() }
    }
}

struct Server {
    child: std::process::Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, url: format!("redis://127.0.0.1:{port}") })
    }

    /// Seconds of CPU of the server's main thread, and bytes of memory in use.
    fn usage(&self) -> Result<(f64, f64), redis::RedisError> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection()?;
        let info: String = redis::cmd("INFO").arg("everything").query(&mut connection)?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0)
        };
        let cpu = field("used_cpu_user_main_thread") + field("used_cpu_sys_main_thread");
        Ok((cpu, field("used_memory")))
    }
}

fn print(kind: Kind, what: &str, value: f64, unit: &str) {
    let jobs = kind.name;
    println!("{{\"jobs\":\"{jobs}\",\"what\":\"{what}\",\"value\":{value:.2},\"unit\":\"{unit}\"}}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let jobs = arguments.next().unwrap_or(100_000);
    let batch = arguments.next().unwrap_or(200).clamp(1, 1_000);
    for kind in KINDS {
        measure(kind, jobs, batch).await?;
    }
    Ok(())
}

async fn measure(kind: Kind, jobs: usize, batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start()?;
    let store = Store::connect(Options::at(&server.url)).await?;
    store.register(0, "worker-1.0123456789ab.0", 600_000).await?;
    if kind.limits {
        let limits: Limits = serde_json::from_str(LIMITS)?;
        store.set_limits(TYPE, Some(&limits)).await?;
    }

    let (cpu, memory) = server.usage()?;
    let began = Instant::now();
    for first in (0..jobs / batch).map(|call| call * batch) {
        store.create((first..first + batch).map(|number| kind.job(number)).collect()).await?;
    }
    let wall = began.elapsed();
    let (after, used) = server.usage()?;
    let number = (jobs / batch * batch) as f64;
    print(kind, "enqueue, Redis CPU per job", (after - cpu) / number * 1e6, "us");
    print(kind, "enqueue, jobs per second with one caller", number / wall.as_secs_f64(), "1/s");
    print(kind, "memory per queued job, 100 bytes of input", (used - memory) / number, "bytes");

    let (mut claiming, mut finishing) = (0.0, 0.0);
    let mut wall = Duration::ZERO;
    let mut calls: u128 = 0;
    loop {
        calls += 1;
        let request = ClaimRequest {
            worker: "worker-1.0123456789ab.0".into(),
            token: format!("{calls:032x}"),
            selectors: vec![TYPE.into(), format!("{TYPE}@{}", "d".repeat(64))],
            queues: None,
            limit: batch,
            fair: u32::from(calls.is_multiple_of(10)),
        };
        let (first, _) = server.usage()?;
        let began = Instant::now();
        let claimed = store.claim(0, &request).await?;
        wall += began.elapsed();
        if claimed.jobs.is_empty() {
            break;
        }
        let (second, _) = server.usage()?;
        let commit = |job: waymark_store::ClaimedJob| {
            let mut record = job.record;
            record.step = 1;
            record.host = Some(request.worker.clone());
            record.digest = Some("d".repeat(64));
            record.version = Some("1.0.0".into());
            record.started_ms = Some(claimed.now_ms);
            record.committed_ms = Some(claimed.now_ms);
            record.ended_ms = Some(claimed.now_ms);
            Commit {
                id: job.id,
                token: request.token.clone(),
                step: 1,
                base_step: 0,
                spec: Arc::new(job.spec),
                record,
                then: Then::Succeeded { result: "{\"n\":1}".into() },
                checkpoint: None,
                outputs: Vec::new(),
                children: Vec::new(),
                took: None,
                trace: None,
            }
        };
        let mut commits: Vec<_> = claimed.jobs.into_iter().map(commit).collect();
        let began = Instant::now();
        let answers = store.commit(0, &mut commits).await?;
        wall += began.elapsed();
        if answers.iter().any(|answer| !matches!(answer, CommitAnswer::Done(_))) {
            return Err("a commit was refused".into());
        }
        let (third, _) = server.usage()?;
        claiming += second - first;
        finishing += third - second;
    }
    // The measuring call itself costs the server about 100 us: it is taken off once per reading.
    let (before, _) = server.usage()?;
    for _ in 0..200 {
        server.usage()?;
    }
    let (after, used) = server.usage()?;
    let reading = (after - before) / 201.0 * (number / batch as f64);
    print(kind, "claim, Redis CPU per job", (claiming - reading) / number * 1e6, "us");
    print(kind, "finish, Redis CPU per job", (finishing - reading) / number * 1e6, "us");
    print(
        kind,
        "claim and finish, Redis CPU per job",
        (claiming + finishing - 2.0 * reading) / number * 1e6,
        "us",
    );
    print(kind, "claim and finish, jobs per second with one caller", number / wall.as_secs_f64(), "1/s");
    print(kind, "memory per finished job", (used - memory) / number, "bytes");
    Ok(())
}
