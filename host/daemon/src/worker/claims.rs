//! How many jobs to take, and when; and the threads that run them.

use super::{
    run,
    shared::{Running, Shared},
};
use crate::task::{Boxed, boxed};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use waymark_store::{ClaimRequest, ClaimedJob};
use wildmatch::WildMatch;

/// Longest wait between two looks at the store; new work is announced, this is the safety net.
const POLL: Duration = Duration::from_secs(1);
/// How long the other partitions wait for the answer to a claim. A later one is taken up when it comes.
const PATIENCE: Duration = Duration::from_millis(100);
/// Longest wait for the answer to a claim, which is given up then.
const CLAIM_MAX: Duration = Duration::from_secs(3);
/// First and longest pause before a partition that did not answer is asked again.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long the names of queues that match a pattern are believed.
const NAMES_AGE_MAX: Duration = Duration::from_secs(1);
/// Of so many claims of a partition one begins with another priority than the highest, by turns, so that none starves.
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
            let holding = tokio::task::spawn_local(hold_back(shared.clone(), places.clone(), slots));
            while let Some((claim, jobs)) = batches.recv().await {
                for (job, running) in jobs {
                    let Ok(place) = places.clone().acquire_owned().await else { return };
                    tokio::task::spawn_local(run::job(shared.clone(), claim.clone(), job, running, place));
                }
            }
            holding.abort();
            // Nothing more is claimed. Each job holds a place until it has ended its step and left.
            let _ = places.acquire_many(slots as u32).await;
        });
    })?;
    Ok(sender)
}

/// Keeps places of one thread from jobs while there are fewer slots than at most.
async fn hold_back(shared: Arc<Shared>, places: Arc<Semaphore>, most: usize) {
    let mut changes = shared.slots_changes();
    let mut held: Vec<OwnedSemaphorePermit> = Vec::new();
    loop {
        let slots = changes.borrow_and_update().div_ceil(shared.config.worker.threads) as usize;
        let wanted = most.saturating_sub(slots);
        held.truncate(wanted);
        // Places in use are held as they become free.
        while held.len() < wanted && !changes.has_changed().unwrap_or(true) {
            tokio::select! {
                place = places.clone().acquire_owned() => held.extend(place),
                _ = changes.changed() => changes.mark_changed(),
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What a claim brought.
struct Taken {
    jobs: usize,
    /// When the next parked job of the partition is due.
    next_due: Option<Instant>,
}

/// Claims until the worker drains.
pub(super) async fn serve(shared: Arc<Shared>, executors: Vec<mpsc::UnboundedSender<Batch>>) {
    let partitions = shared.store.partitions();
    let executors: Arc<[_]> = executors.into();
    let mut calls: u64 = 0;
    let mut empty_in_a_row = 0;
    let mut next_due: Option<Instant> = None;
    // Partitions whose last claim is not answered yet.
    let asked: Arc<Mutex<BTreeSet<u16>>> = Arc::default();
    let mut served = Served::new(&shared);
    // A job that is taken before it is known where jobs go might go wrong.
    shared.routes.known().await;
    while !shared.is_draining() {
        if shared.is_paused() {
            shared.claimed_now();
            let _ = tokio::time::timeout(POLL, shared.wake.notified()).await;
            continue;
        }
        if shared.capacity() < shared.claim_at_least() && shared.in_flight() > 0 {
            let _ = tokio::time::timeout(POLL, shared.freed.notified()).await;
            continue;
        }
        let plugins = shared.plugins();
        let partition = (calls % u64::from(partitions)) as u16;
        // Every partition has its turn of whatever goes by turns.
        let round = calls / u64::from(partitions) + 1;
        calls += 1;
        let unanswered = asked.lock().unwrap_or_else(PoisonError::into_inner).contains(&partition);
        let later = |asking: Boxed<()>| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
            let (shared, asked) = (shared.clone(), asked.clone());
            crate::task::spawn(async move {
                asking.await;
                asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition);
                shared.wake.notify_one();
            });
        };
        let taken = if unanswered {
            None
        } else if shared.store.is_away(partition) {
            later(boxed(until_back(shared.clone(), partition)));
            None
        } else {
            let mut selectors = plugins.selectors.clone();
            // Types that others run need no plugin here.
            let outside = shared.routes.outside();
            selectors.extend(outside.into_iter().filter(|name| plugins.active(name).is_none()));
            let turn = round as usize % selectors.len();
            selectors.rotate_left(turn);
            let mut random = [0; 16];
            if let Err(error) = getrandom::fill(&mut random) {
                tracing::error!(%error, "no randomness, no claims");
                tokio::time::sleep(POLL).await;
                continue;
            }
            let request = ClaimRequest {
                worker: shared.worker().to_owned(),
                token: hex::encode(random),
                selectors,
                queues: served.names(&shared).await,
                limit: shared.capacity().clamp(1, shared.config.worker.batch as usize),
                fair: if round.is_multiple_of(FAIR_EVERY) { (round / FAIR_EVERY) as u32 } else { 0 },
            };
            let mut asking = boxed(ask(shared.clone(), executors.clone(), partition, request));
            match tokio::time::timeout(PATIENCE, &mut asking).await {
                Ok(taken) => taken,
                Err(_) => {
                    later(boxed(async move {
                        asking.await;
                    }));
                    None
                }
            }
        };
        let due = taken.as_ref().and_then(|taken| taken.next_due);
        next_due = next_due.into_iter().chain(due).min();
        if taken.is_some_and(|taken| taken.jobs > 0) {
            empty_in_a_row = 0;
            continue;
        }
        // One that is not answered is as good as one that is empty.
        empty_in_a_row += 1;
        if empty_in_a_row >= partitions {
            empty_in_a_row = 0;
            idle(&shared, next_due.take()).await;
        }
    }
}

/// Claims jobs of one partition and hands them over; `None` where the claim was not answered, and what it may have
/// taken is back in its queue.
async fn ask(
    shared: Arc<Shared>,
    executors: Arc<[mpsc::UnboundedSender<Batch>]>,
    partition: u16,
    request: ClaimRequest,
) -> Option<Taken> {
    let claimed = match tokio::time::timeout(CLAIM_MAX, shared.store.claim(partition, &request)).await {
        Ok(Ok(claimed)) => claimed,
        failed => {
            match failed {
                Ok(Err(error)) => tracing::warn!(%error, partition, "claiming failed"),
                _ => tracing::warn!(partition, "a claim was not answered in time"),
            }
            recover(&shared, partition, &request).await;
            return None;
        }
    };
    shared.claimed_now();
    let next_due = claimed
        .next_due_ms
        .map(|due_ms| Instant::now() + Duration::from_millis(due_ms.saturating_sub(claimed.now_ms)));
    let taken = Taken { jobs: claimed.jobs.len(), next_due };
    if taken.jobs == 0 {
        return Some(taken);
    }
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
    Some(taken)
}

/// Waits for new work, or until something is due.
async fn idle(shared: &Shared, due: Option<Instant>) {
    let until = due.map_or(POLL, |due| due.saturating_duration_since(Instant::now()).min(POLL));
    let _ = tokio::time::timeout(until, shared.wake.notified()).await;
}

/// The queues that this worker serves.
struct Served {
    names: Vec<String>,
    patterns: Vec<WildMatch>,
    /// Queues with waiting jobs that match a pattern, and when they were looked for.
    matching: Vec<String>,
    at: Option<Instant>,
}

impl Served {
    fn new(shared: &Shared) -> Self {
        let (patterns, names): (Vec<_>, Vec<_>) =
            shared.config.worker.queues.iter().cloned().partition(|name| name.contains('*'));
        let patterns = patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
        Self { names, patterns, matching: Vec::new(), at: None }
    }

    /// The names to claim from; nothing: all.
    async fn names(&mut self, shared: &Shared) -> Option<Vec<String>> {
        if self.names.is_empty() && self.patterns.is_empty() {
            return None;
        }
        if !self.patterns.is_empty() && self.at.is_none_or(|at| at.elapsed() > NAMES_AGE_MAX) {
            match tokio::time::timeout(CLAIM_MAX, shared.store.waiting_queues()).await {
                Ok(Ok(mut known)) => {
                    known.retain(|name| self.patterns.iter().any(|pattern| pattern.matches(name)));
                    self.matching = known.into_iter().filter(|name| !self.names.contains(name)).collect();
                }
                Ok(Err(error)) => tracing::warn!(%error, "the names of queues cannot be read"),
                Err(_) => tracing::warn!("the names of queues were not answered in time"),
            }
            self.at = Some(Instant::now());
        }
        Some(self.names.iter().chain(&self.matching).cloned().collect())
    }
}

/// Asks a partition that is away until it answers.
async fn until_back(shared: Arc<Shared>, partition: u16) {
    let mut wait = RETRY_MIN;
    while shared.store.is_away(partition) {
        tokio::time::sleep(wait).await;
        if let Err(error) = shared.store.ask(partition).await {
            tracing::debug!(%error, partition, "the partition is still away");
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// A claim whose answer was lost may have taken jobs: they go back before anything else is claimed.
async fn recover(shared: &Shared, partition: u16, request: &ClaimRequest) {
    let mut wait = RETRY_MIN;
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
        wait = (wait * 2).min(RETRY_MAX);
    }
}
