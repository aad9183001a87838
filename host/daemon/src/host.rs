//! The control process: serves the API, watches plugins, supervises workers.

use crate::{
    api,
    celery::{Ends, Front},
    config::Config,
    directory,
    embedded::Embedded,
    history, load,
    metrics::Metrics,
    routes::{self, Routes},
    scale::{self, Chosen},
    scheduler::{self, Maintenance},
    sharing,
    traces::Tracer,
    worker::protocol::{self, Assignment, Order, Report},
};
use anyhow::Context as _;
use std::{
    collections::HashMap,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use waymark_job::scale::{Bounds, Look, Slots};
use waymark_store::{Message, Store};

/// How often a host says that it is there; others forget it after three times as long.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How often controls of parents are passed on that nobody passed on yet.
const SPREAD: Duration = Duration::from_secs(1);
/// Longest time for that in one partition, before the others have their turn again.
const SPREAD_MAX: Duration = Duration::from_secs(3);
/// Longest time to take back the jobs of a worker that crashed from one partition.
const RETIRE_MAX: Duration = Duration::from_secs(10);
/// Longest look at what waits, for the number of slots: readiness and heartbeat wait for it.
const TUNE_MAX: Duration = Duration::from_secs(2);
/// A worker that ended by itself is started again after so long.
const RESTART_WAIT: Duration = Duration::from_millis(500);
/// A worker that has not been answered a claim for longer makes its host unready.
const READY_WITHIN_MS: u64 = 10_000;

/// Can this host take and run jobs?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// Why not, or `ready`, or what is wrong although it can.
    pub reason: String,
}

/// What is wanted of this host; the API, messages and signals say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// It claims nothing.
    paused: bool,
    /// It stops.
    draining: bool,
    /// Jobs that may run at once in one worker process.
    slots: u32,
}

/// What a worker process last said.
#[derive(Clone, Debug, Default)]
struct Figures {
    worker: String,
    pid: u32,
    slots: u32,
    used: u32,
    claimed_ms_ago: u64,
    stay_us: u64,
}

type Workers = Arc<Mutex<HashMap<u32, Figures>>>;

/// Runs a host until it is asked to stop and has drained.
///
/// # Errors
/// The store, the plugin directory or the address is not to be had; the message says what to do.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let config = Arc::new(config);
    std::fs::create_dir_all(&config.data)
        .with_context(|| format!("the data directory {} cannot be made", config.data.display()))?;
    let executable = std::env::current_exe()?;
    let (embedded, url) = match &config.redis.url {
        Some(url) => (None, url.clone()),
        None => {
            let embedded = Embedded::start(&config.data).await?;
            let url = embedded.url();
            (Some(embedded), url)
        }
    };
    let store = Store::connect(config.store(&url)?).await?;
    for (queue, limits) in &config.queues {
        store.set_limits(queue, Some(limits)).await?;
    }
    let metrics = Arc::new(Metrics::new()?);
    let (plugins, mut published) =
        directory::start(config.clone(), metrics.clone(), executable.clone(), store.clone()).await?;
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = format!("{node}-{}", hex::encode(random));
    let (tracer, sending) = Tracer::start(&config.telemetry, &id, &metrics.registry)?;
    let workers: Workers = Arc::default();
    let (ready_sender, ready) = watch::channel(Readiness { ready: false, reason: "starting".into() });
    let (drain, mut drains) = mpsc::channel(1);
    let started = OffsetDateTime::now_utc();
    let maintenance = Arc::new(Maintenance::new(store.clone(), config.clone()));
    let (wants, wanted) = watch::channel(Wanted {
        paused: config.worker.start_paused,
        draining: false,
        slots: config.worker.slots_min.unwrap_or(config.worker.slots),
    });
    if config.worker.start_paused {
        store.pause_host(&id, true).await?;
    }
    let sharing = sharing::Handle::new(store.clone(), plugins.clone(), &config);
    let celery = Arc::new(config.celery.clone());
    let context = api::Context {
        store: store.clone(),
        directory: plugins.clone(),
        host: api::HostInfo {
            id: id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: u64::try_from(started.unix_timestamp_nanos() / 1_000_000).unwrap_or(0),
        },
        api: config.api.clone(),
        celery: celery.clone(),
        metrics: metrics.clone(),
        ready,
        drain: drain.clone(),
        maintenance: maintenance.clone(),
        sharing: sharing.clone(),
        tracer,
        redaction: config.redaction()?,
    };
    let listener = tokio::net::TcpListener::bind(config.api.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another --listen", config.api.listen))?;
    let address = listener.local_addr()?;
    let (stop_api, stopped) = watch::channel(false);
    let server = crate::task::spawn(api::serve(context, listener, stopped));
    tracing::info!(host = id, address = %address, workers = config.worker.processes, "host started");
    println!("waymark host {id} is listening on http://{address}");

    let (stop_workers, workers_stopped) = watch::channel(false);
    let mut children = JoinSet::new();
    for index in 0..config.worker.processes {
        children.spawn(supervise(
            index,
            format!("{id}.{index}"),
            config.clone(),
            url.clone(),
            executable.clone(),
            store.clone(),
            plugins.clone(),
            metrics.clone(),
            workers.clone(),
            wanted.clone(),
            workers_stopped.clone(),
        ));
    }
    let mut background = JoinSet::new();
    {
        let store = store.clone();
        background.spawn(async move {
            while let Some((name, descriptor)) = published.recv().await {
                while let Err(error) = store.put_type(&name, &descriptor).await {
                    tracing::warn!(%error, "a job type cannot be announced yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
    }
    background.spawn(crate::task::boxed(heartbeat(
        id.clone(),
        address.to_string(),
        started,
        config.clone(),
        store.clone(),
        plugins.clone(),
        workers.clone(),
        wants.clone(),
        ready_sender,
    )));
    let schedules_changed = Arc::new(Notify::new());
    let scheduler =
        scheduler::Service::new(id.clone(), store.clone(), &config, schedules_changed.clone(), maintenance)?;
    background.spawn(crate::task::boxed(scheduler.run()));
    background.spawn(crate::task::boxed(history::run(id.clone(), store.clone(), metrics.clone())));
    background.spawn(crate::task::boxed(routes::lead(
        id.clone(),
        store.clone(),
        metrics.clone(),
        config.api.audit_entries,
    )));
    let routes = Routes::new(store.clone(), plugins.clone(), celery.clone());
    background.spawn(crate::task::boxed(routes.put_own(config.clone())));
    background.spawn(crate::task::boxed(spread(store.clone())));
    background.spawn(crate::task::boxed(sharing.run()));
    if store.can_serve_celery() {
        let ends = Ends::new(id.clone(), store.clone(), celery.clone());
        background.spawn(crate::task::boxed(ends.run()));
    }
    let mut front = None;
    if celery.enabled {
        let input_bytes_max = config.api.input_bytes_max;
        let one = Front::new(celery, store.clone(), id.clone(), input_bytes_max, drain.clone(), &metrics)?;
        background.spawn(crate::task::boxed(one.clone().run()));
        front = Some(one);
    }
    {
        let (store, id, wants) = (store.clone(), id.clone(), wants.clone());
        background.spawn(async move {
            let mut messages = store.subscribe_work();
            loop {
                match messages.next().await {
                    Message::Drain { host } if host == id => {
                        // A second request finds the first under way.
                        let _ = drain.try_send(());
                    }
                    Message::Pause { host, paused } if host == id => want_paused(&wants, paused),
                    Message::Schedules => schedules_changed.notify_one(),
                    _ => {}
                }
            }
        });
    }

    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = tokio::signal::ctrl_c() => tracing::info!("asked to stop"),
        _ = drains.recv() => tracing::info!("asked to drain"),
    }
    wants.send_modify(|wanted| wanted.draining = true);
    // Jobs first, so that they are released while others can still see this host.
    let _ = stop_workers.send(true);
    while children.join_next().await.is_some() {}
    background.abort_all();
    if let Some(front) = front {
        front.sign_off().await;
    }
    scheduler::Service::resign(&id, &store).await;
    let _ = stop_api.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(5), server).await;
    if let Some(sending) = sending {
        sending.finish().await;
    }
    if let Err(error) = store.remove_host(&id).await {
        tracing::warn!(%error, "this host could not sign off");
    }
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    tracing::info!(host = id, "host stopped");
    Ok(())
}

/// Notes that the host shall claim nothing, or claim again.
fn want_paused(wants: &watch::Sender<Wanted>, paused: bool) {
    let changed = wants.send_if_modified(|wanted| {
        let changed = wanted.paused != paused;
        wanted.paused = paused;
        changed
    });
    if changed {
        tracing::info!(paused, "claiming was switched");
    }
}

/// Notes how many jobs may run at once in each worker process.
fn want_slots(wants: &watch::Sender<Wanted>, slots: u32) {
    let changed = wants.send_if_modified(|wanted| {
        let changed = wanted.slots != slots;
        wanted.slots = slots;
        changed
    });
    if changed {
        tracing::info!(slots, "the slots of each worker process were changed");
    }
}

/// Lets the slots follow what waits and how busy the machine is.
struct Tuner {
    slots: Slots,
    chosen: Chosen,
}

impl Tuner {
    /// `None` where the slots are fixed.
    fn new(config: &Config) -> Option<Self> {
        let worker = &config.worker;
        let bounds = Bounds {
            min: worker.slots_min.filter(|min| *min < worker.slots)?,
            max: worker.slots,
            cpu_max: worker.slots_cpu_max,
            memory_max: worker.slots_memory_max,
        };
        let chosen = Chosen::new(worker.queues.iter().map(String::as_str));
        Some(Self { slots: Slots::new(bounds), chosen })
    }

    async fn look(
        &mut self,
        store: &Store,
        used: u32,
        load: &load::Load,
    ) -> Result<u32, waymark_store::Error> {
        let signal = scale::read(store, &self.chosen, scale::TARGET_MS).await?;
        Ok(self.slots.look(&Look {
            waiting: signal.waiting,
            oldest_ms: (signal.oldest_waiting_seconds * 1e3) as u64,
            used,
            cpu: load.cpu,
            memory: load.memory,
        }))
    }
}

/// Keeps one worker process alive until the host stops.
#[expect(clippy::too_many_arguments, reason = "one call; each is a part of its own")]
async fn supervise(
    index: u32,
    name: String,
    config: Arc<Config>,
    url: String,
    executable: PathBuf,
    store: Store,
    plugins: directory::Handle,
    metrics: Arc<Metrics>,
    workers: Workers,
    mut wanted: watch::Receiver<Wanted>,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let Wanted { paused, slots, .. } = *wanted.borrow_and_update();
        let assignment = Assignment {
            config: (*config).clone(),
            redis_url: url.clone(),
            name: name.clone(),
            paused,
            slots,
        };
        let started = start_worker(&executable, &assignment).await;
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(worker = name, %error, "a worker process cannot be started");
                let _ = tokio::time::timeout(Duration::from_secs(5), stop.changed()).await;
                continue;
            }
        };
        let last =
            attend(index, &mut child, &config, &plugins, &metrics, &workers, &mut wanted, &mut stop).await;
        workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
        metrics.worker(&index.to_string(), None);
        if *stop.borrow() {
            return;
        }
        metrics.worker_crashes.inc();
        let status = child.wait().await;
        tracing::error!(worker = name, ?status, "a worker process ended by itself; it is started again");
        // Its jobs need not wait for the lease to run out.
        if let Some(worker) = last {
            let partitions = (0..store.partitions())
                .map(|partition| tokio::time::timeout(RETIRE_MAX, store.retire(partition, &worker, true)));
            for retired in futures_util::future::join_all(partitions).await {
                if !matches!(retired, Ok(Ok(_))) {
                    tracing::warn!("jobs of a crashed worker wait for its lease to run out");
                }
            }
        }
        let _ = tokio::time::timeout(RESTART_WAIT, stop.changed()).await;
    }
}

async fn start_worker(executable: &PathBuf, assignment: &Assignment) -> anyhow::Result<Child> {
    let mut child = Command::new(executable)
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(false)
        .spawn()?;
    let line = serde_json::to_string(assignment)? + "\n";
    let input = child.stdin.as_mut().context("no standard input")?;
    input.write_all(line.as_bytes()).await?;
    Ok(child)
}

/// Talks with a worker until it ends; returns the id under which the store knew it last.
#[expect(clippy::too_many_arguments, reason = "one call; each is a part of its own")]
async fn attend(
    index: u32,
    child: &mut Child,
    config: &Config,
    plugins: &directory::Handle,
    metrics: &Metrics,
    workers: &Workers,
    wanted: &mut watch::Receiver<Wanted>,
    stop: &mut watch::Receiver<bool>,
) -> Option<String> {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return None };
    let pid = child.id().unwrap_or(0);
    let mut lines = BufReader::new(output).lines();
    let mut loads = plugins.loads();
    loads.mark_changed();
    let mut last = None;
    let mut traps: HashMap<String, u32> = HashMap::new();
    let mut kill_at: Option<tokio::time::Instant> = None;
    loop {
        let order = |order: &Order| serde_json::to_string(order).map(|text| text + "\n");
        let overdue = async {
            match kill_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { return last };
                match serde_json::from_str(&line) {
                    Ok(Report::Ready { worker }) => last = Some(worker),
                    Ok(Report::Figures { families, slots, used, claimed_ms_ago, stay_us }) => {
                        match protocol::unpack(&families) {
                            Ok(families) => metrics.worker(&index.to_string(), Some(families)),
                            Err(error) => tracing::warn!(%error, "metrics of a worker are malformed"),
                        }
                        let figures = Figures {
                            worker: last.clone().unwrap_or_default(),
                            pid,
                            slots,
                            used,
                            claimed_ms_ago,
                            stay_us,
                        };
                        workers.lock().unwrap_or_else(PoisonError::into_inner).insert(index, figures);
                    }
                    Ok(Report::Trap { name, digest, kind }) => {
                        let count = traps.entry(digest.clone()).or_default();
                        *count += 1;
                        if *count == config.worker.quarantine_traps {
                            let reason = format!("{count} traps in a row, the last a {kind}");
                            plugins.quarantine(&name, &digest, &reason);
                        }
                    }
                    Ok(Report::Recovered { digest, .. }) => {
                        traps.remove(&digest);
                    }
                    Err(error) => tracing::warn!(%error, line, "a worker said something unknown"),
                }
            }
            changed = loads.changed(), if kill_at.is_none() => {
                if changed.is_err() {
                    return last;
                }
                let current = loads.borrow_and_update().clone();
                traps.retain(|digest, _| current.iter().any(|load| load.active && load.digest == *digest));
                let Ok(text) = order(&Order::Plugins(current)) else { continue };
                if input.write_all(text.as_bytes()).await.is_err() {
                    return last;
                }
            }
            changed = wanted.changed(), if kill_at.is_none() => {
                if changed.is_err() {
                    return last;
                }
                let Wanted { paused, slots, .. } = *wanted.borrow_and_update();
                for one in [Order::Pause(paused), Order::Slots(slots)] {
                    let Ok(text) = order(&one) else { continue };
                    if input.write_all(text.as_bytes()).await.is_err() {
                        return last;
                    }
                }
            }
            _ = stop.changed(), if kill_at.is_none() => {
                let Ok(text) = order(&Order::Drain) else { return last };
                if input.write_all(text.as_bytes()).await.is_err() {
                    return last;
                }
                kill_at = Some(tokio::time::Instant::now() + Duration::from_millis(config.worker.drain_ms + 5_000));
            }
            () = overdue => {
                tracing::error!(pid, "a worker process did not drain in time and is killed");
                if let Err(error) = child.kill().await {
                    tracing::error!(%error, pid, "a worker process cannot be killed");
                }
                return last;
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one call; each is a part of its own")]
async fn heartbeat(
    id: String,
    address: String,
    started: OffsetDateTime,
    config: Arc<Config>,
    store: Store,
    plugins: directory::Handle,
    workers: Workers,
    wants: watch::Sender<Wanted>,
    ready: watch::Sender<Readiness>,
) {
    let started_at = started.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    let mut ticks = tokio::time::interval(HEARTBEAT.min(Duration::from_millis(500)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut machine = load::Machine::new();
    let mut tuner = Tuner::new(&config);
    let mut said: Option<Instant> = None;
    // Why the store did not take what this host last said.
    let mut refused: Option<waymark_store::Error> = None;
    loop {
        ticks.tick().await;
        let figures: Vec<_> =
            workers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let wanted = *wants.borrow();
        let (answers, results) = tokio::join!(store.ping(), store.ping_results());
        let not_ready = match (&answers, &refused) {
            (Err(error), _) => Some(format!("the store does not answer: {error}")),
            (_, Some(error)) => Some(format!("the store does not take writes: {error}")),
            _ if !plugins.is_scanned() => Some("plugins are loading".to_owned()),
            _ if (figures.len() as u32) < config.worker.processes => {
                Some("worker processes are starting".to_owned())
            }
            _ if figures.iter().any(|one| one.claimed_ms_ago > READY_WITHIN_MS && one.used < one.slots) => {
                Some("a worker has not been answered a claim for 10 s".to_owned())
            }
            _ => None,
        };
        let now = match not_ready {
            Some(reason) => Readiness { ready: false, reason },
            None => Readiness {
                ready: true,
                // Jobs go on without it.
                reason: match results {
                    Some(Err(error)) => error.to_string(),
                    _ => "ready".into(),
                },
            },
        };
        ready.send_if_modified(|before| {
            let modified = *before != now;
            *before = now.clone();
            modified
        });
        if answers.is_err() || said.is_some_and(|at| at.elapsed() < HEARTBEAT) {
            continue;
        }
        let types: Vec<_> = plugins
            .list()
            .into_iter()
            .filter(|plugin| plugin.state == "loaded")
            .map(|plugin| serde_json::json!({"name": plugin.name, "version": plugin.version, "digest": plugin.digest}))
            .collect();
        // Every version: a route may name one that another host holds.
        let held: Vec<_> = plugins
            .list()
            .into_iter()
            .flat_map(|plugin| plugin.versions.into_iter().map(move |version| (plugin.name.clone(), version)))
            .map(|(name, version)| serde_json::json!({"name": name, "version": version.version, "digest": version.digest}))
            .collect();
        let pids: Vec<_> = figures.iter().map(|one| one.pid).collect();
        let load = machine.look(&pids);
        let stays: Vec<_> = figures.iter().map(|one| one.stay_us).filter(|stay_us| *stay_us > 0).collect();
        let record = serde_json::json!({
            "id": id,
            "version": env!("CARGO_PKG_VERSION"),
            "address": address,
            "started_at": started_at,
            "ready": now.ready,
            "paused": wanted.paused,
            "draining": wanted.draining,
            "queues": config.worker.queues,
            "slots": figures.iter().map(|one| one.slots).sum::<u32>(),
            "slots_max": config.worker.slots * config.worker.processes,
            "stay_us": stays.iter().sum::<u64>() / (stays.len() as u64).max(1),
            "used": figures.iter().map(|one| one.used).sum::<u32>(),
            "load": load,
            "workers": figures.iter().map(|one| serde_json::json!({
                "id": one.worker, "pid": one.pid, "slots": one.slots, "used": one.used,
            })).collect::<Vec<_>>(),
            "types": types,
            "held": held,
        });
        let put = store.put_host(&id, &record.to_string(), 3 * HEARTBEAT.as_millis() as u64).await;
        if let Err(error) = put {
            tracing::warn!(%error, "the host's heartbeat was not written");
            refused = Some(error);
            continue;
        }
        (said, refused) = (Some(Instant::now()), None);
        // The message may have been missed.
        match store.is_host_paused(&id).await {
            Ok(paused) => want_paused(&wants, paused),
            Err(error) => tracing::debug!(%error, "whether the host is paused is asked again"),
        }
        if let Some(tuner) = &mut tuner {
            let used = figures.iter().map(|one| one.used).max().unwrap_or(0);
            match tokio::time::timeout(TUNE_MAX, tuner.look(&store, used, &load)).await {
                Ok(Ok(slots)) => want_slots(&wants, slots),
                Ok(Err(error)) => tracing::debug!(%error, "the slots stay as they are"),
                Err(_) => tracing::debug!("the slots stay as they are: the store is slow"),
            }
        }
    }
}

/// Finishes what somebody who asked something of a parent left unfinished.
async fn spread(store: Store) {
    let mut ticks = tokio::time::interval(SPREAD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let partitions = (0..store.partitions()).map(|partition| {
            let spreading = tokio::time::timeout(SPREAD_MAX, store.spread(partition));
            async move {
                match spreading.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, partition, "controls of parents did not reach all children yet");
                    }
                    Err(_) => tracing::debug!(partition, "controls of parents are passed on later"),
                }
            }
        });
        futures_util::future::join_all(partitions).await;
    }
}
