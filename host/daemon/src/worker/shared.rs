//! What all parts of a worker know.

use super::{commits::Item, logs::Logs, native, protocol::Report, routing::Routes};
use crate::{
    config::{Config, TypePolicy},
    directory::{self, Load},
    metrics::WorkerMetrics,
    traces::Tracer,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc, watch};
use waymark_job::{JobId, redact::Rules};
use waymark_sandbox as sandbox;
use waymark_store::Store;

/// How long a wish waits for the answer of the claim that it is about.
const EARLY_KEPT: Duration = Duration::from_secs(10);
/// Wishes that wait; a host that is told of more has other troubles.
const EARLY_MAX: usize = 10_000;

/// What somebody wants of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Wish {
    GoOn = 0,
    Pause = 1,
    Release = 2,
    Drop = 3,
}

/// The handle of a job that this worker holds.
pub(super) struct Running {
    /// True when the guest should return from its step soon.
    pub(super) yields: Arc<AtomicBool>,
    wish: AtomicU8,
    dropped: Notify,
    /// The claim under which it is held.
    pub(super) token: String,
}

impl Running {
    fn new(token: &str) -> Self {
        Self {
            yields: Arc::default(),
            wish: AtomicU8::new(Wish::GoOn as u8),
            dropped: Notify::new(),
            token: token.to_owned(),
        }
    }

    pub(super) fn wish(&self) -> Wish {
        match self.wish.load(Relaxed) {
            0 => Wish::GoOn,
            1 => Wish::Pause,
            2 => Wish::Release,
            _ => Wish::Drop,
        }
    }

    /// A later wish replaces an earlier one, but nothing replaces a drop, and a release only a drop.
    pub(super) fn want(&self, wish: Wish) {
        let replace = |now| {
            let kept = now == Wish::Drop as u8 || (now == Wish::Release as u8 && wish != Wish::Drop);
            (!kept).then_some(wish as u8)
        };
        if self.wish.fetch_update(Relaxed, Relaxed, replace).is_ok() {
            self.yields.store(wish != Wish::GoOn, Relaxed);
            if wish == Wish::Drop {
                self.dropped.notify_one();
            }
        }
    }

    /// Ends when the job was taken away. Cancel-safe.
    pub(super) async fn dropped(&self) {
        while self.wish() != Wish::Drop {
            self.dropped.notified().await;
        }
    }
}

/// One loaded version.
pub(super) struct Version {
    pub(super) plugin: sandbox::Plugin,
    pub(super) policy: Arc<TypePolicy>,
    /// A trap happened since a job last ended well.
    pub(super) suspect: AtomicBool,
}

/// The versions that this worker holds.
pub(super) struct Plugins {
    active: HashMap<String, Arc<Version>>,
    by_digest: HashMap<String, Arc<Version>>,
    /// Versions that an operator went back from.
    withdrawn: HashSet<String>,
    /// What to claim: the worker's own types, every active type, and every version for the jobs that need just
    /// that one.
    pub(super) selectors: Vec<String>,
}

impl Default for Plugins {
    /// No plugin: what the worker runs by itself.
    fn default() -> Self {
        let selectors = native::TYPES.map(str::to_owned).to_vec();
        Self { active: HashMap::new(), by_digest: HashMap::new(), withdrawn: HashSet::new(), selectors }
    }
}

impl Plugins {
    /// Loads what is new and keeps what is loaded already.
    pub(super) fn load(shared: &Shared, loads: &[Load]) -> Self {
        let before = shared.plugins();
        let mut plugins = Self::default();
        for load in loads {
            let known = before.by_digest.get(&load.digest).cloned();
            let version = match known {
                Some(version) => version,
                None => {
                    let policy = shared.config.policy(&load.name);
                    let loaded = shared.engine.load(
                        &shared.config.cache_dir(),
                        &load.digest,
                        directory::limits(&shared.config, &load.name),
                        policy.grants.clone(),
                    );
                    match loaded {
                        Ok(plugin) => Arc::new(Version {
                            plugin,
                            policy: Arc::new(policy),
                            suspect: AtomicBool::new(false),
                        }),
                        Err(error) => {
                            tracing::error!(plugin = load.name, digest = load.digest, %error, "plugin not loaded");
                            continue;
                        }
                    }
                }
            };
            if load.withdrawn {
                plugins.withdrawn.insert(load.digest.clone());
            }
            if load.active {
                plugins.active.insert(load.name.clone(), version.clone());
                plugins.selectors.push(load.name.clone());
            }
            plugins.selectors.push(format!("{}@{}", load.name, load.digest));
            plugins.by_digest.insert(load.digest.clone(), version);
        }
        plugins
    }

    /// The version that new jobs of the type begin with.
    pub(super) fn active(&self, job_type: &str) -> Option<Arc<Version>> {
        self.active.get(job_type).cloned()
    }

    /// Did an operator go back from this version?
    pub(super) fn is_withdrawn(&self, digest: &str) -> bool {
        self.withdrawn.contains(digest)
    }

    pub(super) fn digest(&self, digest: &str) -> Option<Arc<Version>> {
        self.by_digest.get(digest).cloned()
    }
}

/// What all parts of a worker know.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) engine: sandbox::Engine,
    pub(super) metrics: WorkerMetrics,
    pub(super) tracer: Tracer,
    /// What people are not shown of jobs.
    pub(super) redaction: Rules,
    /// One for each partition.
    commits: Vec<mpsc::UnboundedSender<Item>>,
    pub(super) logs: Logs,
    /// Where jobs go.
    pub(super) routes: Routes,
    /// There may be something to claim.
    pub(super) wake: Notify,
    /// A slot may be free.
    pub(super) freed: Notify,
    /// A partition is back whose jobs were dropped: it may believe that they are here.
    pub(super) returned: Notify,
    reports: mpsc::UnboundedSender<Report>,
    worker: String,
    plugins: RwLock<Arc<Plugins>>,
    running: Mutex<HashMap<JobId, Arc<Running>>>,
    /// Wishes about claims whose answer is still on its way.
    early: Mutex<HashMap<(JobId, String), (Wish, Instant)>>,
    in_flight: AtomicUsize,
    draining: AtomicBool,
    paused: AtomicBool,
    /// Jobs that may run at once now.
    slots: watch::Sender<u32>,
    /// Has a job ended yet?
    stays_known: AtomicBool,
    /// Moving average of the time a job stays on this worker, nanoseconds.
    stay_ns: AtomicU64,
    /// Graphs of the workflows that it coordinates.
    pub(super) graphs: native::Graphs,
    started: Instant,
    claimed_at_ms: AtomicU64,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once; each is a part of its own")]
    pub(super) fn new(
        config: Arc<Config>,
        store: Store,
        engine: sandbox::Engine,
        name: String,
        slots: u32,
        metrics: WorkerMetrics,
        tracer: Tracer,
        commits: Vec<mpsc::UnboundedSender<Item>>,
        logs: Logs,
        reports: mpsc::UnboundedSender<Report>,
    ) -> anyhow::Result<Self> {
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self {
            worker: format!("{name}.{}", hex::encode(random)),
            store,
            engine,
            redaction: config.redaction()?,
            config,
            metrics,
            tracer,
            commits,
            logs,
            routes: Routes::default(),
            wake: Notify::new(),
            freed: Notify::new(),
            returned: Notify::new(),
            reports,
            plugins: RwLock::default(),
            running: Mutex::default(),
            early: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            slots: watch::Sender::new(slots),
            stays_known: AtomicBool::new(false),
            stay_ns: AtomicU64::new(10_000_000),
            graphs: native::Graphs::default(),
            started: Instant::now(),
            claimed_at_ms: AtomicU64::new(0),
        })
    }

    /// The id under which the store knows this process.
    pub(super) fn worker(&self) -> &str {
        &self.worker
    }

    pub(super) fn plugins(&self) -> Arc<Plugins> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_plugins(&self, plugins: Plugins) {
        *self.plugins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plugins);
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, HashMap<(JobId, String), (Wish, Instant)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a job held under this claim what is wanted of it. The word may be faster than the answer of the claim:
    /// then it waits for it.
    pub(super) fn want(&self, id: JobId, token: String, wish: Wish) {
        let tell = || {
            let running = self.running().get(&id).filter(|running| running.token == token).cloned();
            running.map(|running| running.want(wish)).is_some()
        };
        if tell() {
            return;
        }
        let mut early = self.early();
        early.retain(|_, (_, at)| at.elapsed() < EARLY_KEPT);
        if early.len() < EARLY_MAX {
            early.insert((id, token.clone()), (wish, Instant::now()));
        }
        drop(early);
        // It may have come in between.
        if tell() {
            self.early().remove(&(id, token));
        }
    }

    /// Hands over a commit.
    pub(super) fn commit(&self, item: Item) {
        if let Some(commits) = self.commits.get(usize::from(item.partition)) {
            // Whoever writes them ends only with the process.
            let _ = commits.send(item);
        }
    }

    pub(super) fn report(&self, report: Report) {
        // The thread that writes them ends only with the process.
        let _ = self.reports.send(report);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// Claims nothing, or claims again; what is here goes on.
    pub(super) fn pause_claims(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.running().values().for_each(|running| running.want(Wish::Release));
        self.wake.notify_one();
        self.freed.notify_one();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Jobs that are here, be it that their last commit is still under way.
    pub(super) fn held(&self) -> usize {
        self.running().len()
    }

    /// Takes up claimed jobs. A job that is here under an older claim is dropped under that one.
    pub(super) fn enter(&self, token: &str, ids: &[JobId]) -> Vec<Arc<Running>> {
        let mut running = self.running();
        let entered: Vec<_> = ids
            .iter()
            .map(|&id| {
                let one = Arc::new(Running::new(token));
                if let Some(older) = running.insert(id, one.clone()) {
                    older.want(Wish::Drop);
                }
                one
            })
            .collect();
        let ids: Vec<_> = {
            let early = self.early();
            let known = |id: &&JobId| early.contains_key(&(**id, token.to_owned()));
            if early.is_empty() { Vec::new() } else { ids.iter().filter(known).copied().collect() }
        };
        for id in ids {
            if let (Some(one), Some((wish, _))) =
                (running.get(&id), self.early().remove(&(id, token.to_owned())))
            {
                one.want(wish);
            }
        }
        drop(running);
        self.in_flight.fetch_add(entered.len(), Relaxed);
        if self.is_draining() {
            entered.iter().for_each(|running| running.want(Wish::Release));
        }
        entered
    }

    /// Lets go of a job.
    pub(super) fn leave(&self, id: &JobId, running: &Arc<Running>) {
        self.forget(std::iter::once((id, running)));
        self.free(1);
    }

    /// Jobs are no longer here. A job that was claimed again meanwhile has another handle and stays.
    pub(super) fn forget<'a>(&self, jobs: impl Iterator<Item = (&'a JobId, &'a Arc<Running>)>) {
        let mut running = self.running();
        for (id, handle) in jobs {
            if running.get(id).is_some_and(|known| Arc::ptr_eq(known, handle)) {
                running.remove(id);
            }
        }
    }

    /// So many jobs make room for others.
    pub(super) fn free(&self, jobs: usize) {
        self.in_flight.fetch_sub(jobs, Relaxed);
        if self.capacity() >= self.claim_at_least() {
            self.freed.notify_one();
        }
    }

    /// Notes how long a job stayed: short jobs are claimed ahead.
    pub(super) fn stayed(&self, time: Duration) {
        let now = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(10_000_000_000);
        let before = self.stay_ns.load(Relaxed);
        self.stay_ns.store(before - before / 16 + now / 16, Relaxed);
        self.stays_known.store(true, Relaxed);
    }

    /// How long a job stays at present, microseconds; 0: none has ended yet.
    pub(super) fn stay_us(&self) -> u64 {
        if self.stays_known.load(Relaxed) { (self.stay_ns.load(Relaxed) / 1_000).max(1) } else { 0 }
    }

    /// Jobs that may run at once now.
    pub(super) fn slots(&self) -> u32 {
        *self.slots.borrow()
    }

    /// Tells of every change of the slots.
    pub(super) fn slots_changes(&self) -> watch::Receiver<u32> {
        self.slots.subscribe()
    }

    /// So many jobs may run at once from now on; what runs beyond them goes on.
    pub(super) fn set_slots(&self, slots: u32) {
        let slots = slots.clamp(1, self.config.worker.slots);
        if self.slots.send_replace(slots) < slots {
            self.freed.notify_one();
        }
    }

    /// Jobs claimed beyond the slots: as many as keep this worker busy for 20 ms, so that short jobs do not wait
    /// for round trips and long ones are left to others.
    fn ahead(&self) -> usize {
        let ahead = 20_000_000 / self.stay_ns.load(Relaxed).max(1);
        usize::try_from(ahead).unwrap_or(usize::MAX).min(4 * self.config.worker.batch as usize)
    }

    /// Jobs that may be claimed now.
    pub(super) fn capacity(&self) -> usize {
        (self.slots() as usize + self.ahead()).saturating_sub(self.in_flight())
    }

    /// Fewer free places than this are not worth a call yet.
    pub(super) fn claim_at_least(&self) -> usize {
        (self.ahead() / 4).clamp(1, self.config.worker.batch as usize)
    }

    pub(super) fn claimed_now(&self) {
        self.claimed_at_ms.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }

    pub(super) fn claimed_ms_ago(&self) -> u64 {
        (self.started.elapsed().as_millis() as u64).saturating_sub(self.claimed_at_ms.load(Relaxed))
    }

    /// Does this process know the job, be it that its last commit is still under way?
    pub(super) fn holds(&self, id: &JobId) -> bool {
        self.running().contains_key(id)
    }

    /// Drops every job of a partition that is held now; answers how many there are.
    pub(super) fn drop_all(&self, partition: u16) -> usize {
        let running = self.running();
        let mut dropped = 0;
        for (_, one) in running.iter().filter(|(id, _)| id.partition() == partition) {
            one.want(Wish::Drop);
            dropped += 1;
        }
        dropped
    }

    /// Pauses the jobs named.
    pub(super) fn pause(&self, ids: &[JobId]) {
        if ids.is_empty() {
            return;
        }
        let wanted: HashSet<_> = ids.iter().collect();
        for (id, running) in self.running().iter() {
            if wanted.contains(id) {
                running.want(Wish::Pause);
            }
        }
    }
}
