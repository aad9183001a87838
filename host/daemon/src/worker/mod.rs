//! A worker process: claims jobs, runs them in the sandbox, commits what they did.
//!
//! One thread talks (to the store and to the control process), others run guests, so that no guest can delay a
//! lease or a pause. The parts:
//!
//! * [`protocol`]: what control process and worker say to each other over the worker's standard streams.
//! * `shared`: what all parts of a worker know.
//! * `capabilities`: what the sandbox needs for what is granted to jobs.
//! * `claims`: how many jobs to take, and when.
//! * `run`: one job from claim to its last commit.
//! * `commits`: many jobs' commits in few calls.
//! * `routing`: routes of job types as this worker knows them, and what it counted under them.
//! * `shadow`: copies of jobs, and what became of them beside the jobs.
//! * `logs`: what jobs say, on its way to the store.
//! * `lease`: staying alive in the eyes of the store, and hearing of controls.

mod capabilities;
mod claims;
mod commits;
mod lease;
mod logs;
mod native;
pub mod protocol;
mod routing;
mod run;
mod shadow;
mod shared;

pub(crate) use native::{GRAPH_BYTES_MAX, WORKFLOW, is_open};
pub(crate) use run::classify;

use crate::{metrics::WorkerMetrics, traces::Tracer};
use anyhow::Context as _;
use protocol::{Assignment, Order, Report};
use shared::{Plugins, Shared};
use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::mpsc,
};
use waymark_sandbox as sandbox;
use waymark_store::Store;

/// Longest time to sign off from one partition.
const GOODBYE_MAX: Duration = Duration::from_secs(3);
/// How often a worker reports its figures.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Runs a worker process until it has drained: on an order, on SIGTERM, or when the control process is gone.
///
/// # Errors
/// The first line on standard input is no assignment, or the store or the sandbox cannot be reached.
pub fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let first = lines.next_line().await?.context("a worker process is started by `waymark host`")?;
    let assignment: Assignment =
        serde_json::from_str(&first).context("a worker process is started by `waymark host`")?;
    let config = Arc::new(assignment.config);
    let store = Store::connect(config.store(&assignment.redis_url)?).await?;
    let options = sandbox::EngineOptions {
        memory_budget_bytes: config.worker.memory_bytes,
        instances_max: config.worker.slots + config.worker.threads,
        pooling: true,
    };
    let metrics = WorkerMetrics::new()?;
    let (tracer, sending) = Tracer::start(&config.telemetry, &assignment.name, metrics.registry())?;
    let offer = capabilities::offer(&config, &store, metrics.registry())?;
    let engine = sandbox::Engine::offering(&options, &offer)?;
    let (reports, mut reports_out) = mpsc::unbounded_channel::<Report>();
    let (commits, commits_in): (Vec<_>, Vec<_>) =
        (0..store.partitions()).map(|_| mpsc::unbounded_channel()).unzip();
    let (logs, writers) = logs::channel(store.partitions());
    let shared = Arc::new(Shared::new(
        config.clone(),
        store,
        engine,
        assignment.name,
        assignment.slots,
        metrics,
        tracer,
        commits,
        logs,
        reports,
    )?);
    // Standard output is a pipe: it is written by a thread of its own, which ends with the process.
    std::thread::spawn(move || {
        let mut output = std::io::stdout().lock();
        while let Some(report) = reports_out.blocking_recv() {
            let Ok(line) = serde_json::to_string(&report) else { continue };
            if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    let executors = (0..config.worker.threads)
        .map(|index| claims::executor(&shared, index))
        .collect::<Result<Vec<_>, _>>()?;
    shared.pause_claims(assignment.paused);
    for (partition, items) in (0..).zip(commits_in) {
        crate::task::spawn(commits::serve(shared.clone(), partition, items));
    }
    for writer in writers {
        crate::task::spawn(writer.serve(shared.store.clone()));
    }
    lease::hold(&shared).await;
    crate::task::spawn(lease::listen(shared.clone()));
    crate::task::spawn(lease::reconcile(shared.clone()));
    crate::task::spawn(routing::serve(shared.clone()));
    crate::task::spawn(claims::serve(shared.clone(), executors));
    crate::task::spawn(report(shared.clone()));
    shared.report(Report::Ready { worker: shared.worker().to_owned() });
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // The terminal sends SIGINT to the whole group: the control process decides what it means.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => match serde_json::from_str(&line) {
                    Ok(Order::Plugins(loads)) => {
                        let plugins = Plugins::load(&shared, &loads);
                        shared.set_plugins(plugins);
                        shared.wake.notify_one();
                    }
                    Ok(Order::Pause(paused)) => shared.pause_claims(paused),
                    Ok(Order::Slots(slots)) => shared.set_slots(slots),
                    Ok(Order::Drain) => break,
                    Err(error) => tracing::error!(%error, "an order of the control process is malformed"),
                },
                Ok(None) | Err(_) => break,
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => {}
        }
    }
    drain(&shared).await;
    if let Some(sending) = sending {
        sending.finish().await;
    }
    Ok(())
}

async fn drain(shared: &Shared) {
    shared.drain();
    let deadline = Instant::now() + Duration::from_millis(shared.config.worker.drain_ms);
    while shared.held() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // An orderly stop loses nothing that was said or counted.
    shared.logs.flush_all().await;
    routing::tell(shared).await;
    let left = shared.held();
    if left > 0 {
        tracing::warn!(
            jobs = left,
            "steps did not end in time; their jobs go on elsewhere from their last commit"
        );
    }
    let worker = shared.worker();
    let goodbyes = (0..shared.store.partitions())
        .map(|partition| tokio::time::timeout(GOODBYE_MAX, shared.store.retire(partition, worker, false)));
    for goodbye in futures_util::future::join_all(goodbyes).await {
        match goodbye {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "this worker could not sign off; its lease will run out instead");
            }
            Err(_) => {
                tracing::warn!("this worker could not sign off in time; its lease will run out instead")
            }
        }
    }
    tracing::info!(worker = shared.worker(), "worker drained");
}

async fn report(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        shared.metrics.slots.set(i64::from(shared.slots()));
        shared.metrics.slots_used.set(shared.in_flight() as i64);
        match protocol::pack(&shared.metrics.families()) {
            Ok(families) => shared.report(Report::Figures {
                families,
                slots: shared.slots(),
                used: shared.in_flight() as u32,
                claimed_ms_ago: shared.claimed_ms_ago(),
                stay_us: shared.stay_us(),
            }),
            Err(error) => tracing::warn!(%error, "metrics cannot be sent"),
        }
    }
}
