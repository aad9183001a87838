//! How many jobs to take, and when; and the threads that run them.

use super::{
    run,
    shared::{Running, Shared},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc};
use waymark_store::{ClaimRequest, ClaimedJob};

/// Longest wait between two looks at the store; new work is announced, this is the safety net.
const POLL: Duration = Duration::from_secs(1);
/// Of so many claims one begins with another priority than the highest, by turns, so that none starves.
const FAIR_EVERY: u64 = 10;

/// What the jobs of one claim have in common.
pub(super) struct Claim {
    pub(super) token: String,
    pub(super) worker: String,
    pub(super) partition: u16,
    now_ms: u64,
    at: Instant,
}

impl Claim {
    /// The store's time, as far as this process knows.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms + self.at.elapsed().as_millis() as u64
    }
}

type Batch = (Arc<Claim>, Vec<(ClaimedJob, Arc<Running>)>);

/// A thread that runs guests.
pub(super) fn executor(shared: &Arc<Shared>, index: u32) -> std::io::Result<mpsc::UnboundedSender<Batch>> {
    let (sender, mut batches) = mpsc::unbounded_channel::<Batch>();
    let shared = shared.clone();
    let slots = shared.config.worker.slots.div_ceil(shared.config.worker.threads) as usize;
    // Guests yield every 10 ms; looking at timers and messages after each turn keeps a pause fast.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(7).build()?;
    std::thread::Builder::new().name(format!("guests-{index}")).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let places = Arc::new(Semaphore::new(slots));
            while let Some((claim, jobs)) = batches.recv().await {
                for (job, running) in jobs {
                    let Ok(place) = places.clone().acquire_owned().await else { return };
                    tokio::task::spawn_local(run::job(shared.clone(), claim.clone(), job, running, place));
                }
            }
            // Nothing more is claimed. Each job holds a place until it has ended its step and left.
            let _ = places.acquire_many(slots as u32).await;
        });
    })?;
    Ok(sender)
}

/// Claims until the worker drains.
pub(super) async fn serve(shared: Arc<Shared>, executors: Vec<mpsc::UnboundedSender<Batch>>) {
    let partitions = shared.store.partitions();
    let mut calls: u64 = 0;
    let mut empty_in_a_row = 0;
    let mut next_due: Option<Instant> = None;
    while !shared.is_draining() {
        if shared.capacity() < shared.claim_at_least() && shared.in_flight() > 0 {
            let _ = tokio::time::timeout(POLL, shared.freed.notified()).await;
            continue;
        }
        let plugins = shared.plugins();
        let partition = (calls % u64::from(partitions)) as u16;
        calls += 1;
        let mut selectors = plugins.selectors.clone();
        let turn = calls as usize % selectors.len();
        selectors.rotate_left(turn);
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::error!(%error, "no randomness, no claims");
            tokio::time::sleep(POLL).await;
            continue;
        }
        let request = ClaimRequest {
            worker: shared.worker(),
            token: hex::encode(random),
            selectors,
            queues: None,
            limit: shared.capacity().clamp(1, shared.config.worker.batch as usize),
            fair: if calls.is_multiple_of(FAIR_EVERY) { (calls / FAIR_EVERY) as u32 } else { 0 },
        };
        let claimed = match shared.store.claim(partition, &request).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "claiming failed");
                recover(&shared, partition, &request).await;
                continue;
            }
        };
        shared.claimed_now();
        if let Some(due) = claimed.next_due_ms {
            let due = Instant::now() + Duration::from_millis(due.saturating_sub(claimed.now_ms));
            next_due = Some(next_due.map_or(due, |known| known.min(due)));
        }
        if claimed.jobs.is_empty() {
            empty_in_a_row += 1;
            if empty_in_a_row >= partitions {
                empty_in_a_row = 0;
                let until = next_due
                    .take()
                    .map_or(POLL, |due| due.saturating_duration_since(Instant::now()).min(POLL));
                let _ = tokio::time::timeout(until, shared.wake.notified()).await;
            }
            continue;
        }
        empty_in_a_row = 0;
        let claim = Arc::new(Claim {
            token: request.token,
            worker: request.worker,
            partition,
            now_ms: claimed.now_ms,
            at: Instant::now(),
        });
        let ids: Vec<_> = claimed.jobs.iter().map(|job| job.id).collect();
        let running = shared.enter(&claim.token, &ids);
        let mut shares: Vec<Vec<_>> = executors.iter().map(|_| Vec::new()).collect();
        let count = shares.len();
        for (index, job) in claimed.jobs.into_iter().zip(running).enumerate() {
            shares[index % count].push(job);
        }
        for (executor, share) in executors.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
            if executor.send((claim.clone(), share)).is_err() {
                tracing::error!("a thread that runs guests is gone: this worker ends");
                std::process::exit(70);
            }
        }
    }
}

/// A claim whose answer was lost may have taken jobs: they go back before anything else is claimed.
async fn recover(shared: &Shared, partition: u16, request: &ClaimRequest) {
    let mut wait = Duration::from_millis(50);
    loop {
        tokio::time::sleep(wait).await;
        match shared.store.recover(partition, &request.worker, &request.token).await {
            Ok(jobs) => {
                if jobs > 0 {
                    tracing::warn!(jobs, "jobs of a claim whose answer was lost went back to their queue");
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "the store does not answer"),
        }
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}
