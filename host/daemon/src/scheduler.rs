//! Fires schedules, and does what the built-in ones ask for.
//!
//! Every host runs this service; the one that leads does the work, so that the others need not ask. The lease that says
//! who leads saves work and nothing else: a planned time fires once however many hosts believe that they lead, because
//! the store compares and sets. The clock is the store's. A store that does not answer is asked again with growing
//! pauses, and what became due meanwhile follows the catch-up policy of its schedule.

use crate::{api::schedules::Definition, config::Config};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Notify};
use waymark_job::schedule::{Action, Work};
use waymark_store::{FireRequest, Outcome, Store};

/// A host that leads and is not heard of for so long is followed by another, milliseconds.
const LEASE_MS: u64 = 3_000;
/// How often the lease is renewed or asked for. Also the longest sleep: a clock that was set shows by then.
const LOOK: Duration = Duration::from_secs(1);
/// Longest look at one partition: one that does not answer must not hold up the others.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// Longest pause after the store did not answer.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Ended jobs looked at by one call of the retention.
const SWEEP_BUDGET: usize = 5_000;
/// Longest time that one run of the retention goes on while there is more to remove.
const SWEEP_MAX: Duration = Duration::from_secs(5);

/// What the service was started with.
pub struct Service {
    host: String,
    store: Store,
    from_file: Vec<Definition>,
    /// A schedule may be due sooner than was known.
    changed: Arc<Notify>,
    maintenance: Arc<Maintenance>,
}

/// What the built-in schedules ask for.
pub struct Maintenance {
    store: Store,
    config: Arc<Config>,
    /// Queues and job types that held nothing when it was last looked, by partition.
    idle: Mutex<HashSet<(u16, String)>>,
}

impl Service {
    /// Of the host with this id. `changed` wakes it when a schedule was changed.
    ///
    /// # Errors
    /// A schedule of the configuration is wrong.
    pub fn new(
        host: String,
        store: Store,
        config: &Config,
        changed: Arc<Notify>,
        maintenance: Arc<Maintenance>,
    ) -> anyhow::Result<Self> {
        Ok(Self { host, store, from_file: config.schedules()?, changed, maintenance })
    }

    /// Works for ever.
    pub async fn run(self) {
        while let Err(error) = self.put_own().await {
            tracing::warn!(%error, "the schedules of the configuration cannot be written yet");
            tokio::time::sleep(LOOK).await;
        }
        let mut leads = false;
        let mut pause = Duration::ZERO;
        let mut asked: Option<Instant> = None;
        loop {
            tokio::time::sleep(pause).await;
            if asked.is_none_or(|at| at.elapsed() >= LOOK) {
                match self.store.lead(&self.host, LEASE_MS).await {
                    Ok(leader) => {
                        let now = leader == self.host;
                        if now != leads {
                            tracing::info!(leader, leads = now, "the host that leads changed");
                        }
                        leads = now;
                        asked = Some(Instant::now());
                        pause = Duration::ZERO;
                    }
                    Err(error) => {
                        pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                        tracing::warn!(%error, "it is not known which host leads");
                        continue;
                    }
                }
            }
            if !leads {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            match self.look().await {
                Ok(wait) => {
                    pause = Duration::ZERO;
                    tokio::select! {
                        () = tokio::time::sleep(wait.min(LOOK)) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE_MAX);
                    tracing::warn!(%error, "schedules could not be fired");
                }
            }
        }
    }

    /// Lets another host lead, when this one stops.
    pub async fn resign(host: &str, store: &Store) {
        if let Err(error) = store.lead(host, 0).await {
            tracing::warn!(%error, "another host leads when the lease has run out");
        }
    }

    /// The built-in schedules, and those of the configuration file.
    async fn put_own(&self) -> Result<(), waymark_store::Error> {
        for action in Action::ALL {
            self.store.put_schedule(&action.schedule(), None).await?;
        }
        for Definition { schedule, paused } in &self.from_file {
            let answer = self.store.put_schedule(schedule, *paused).await?;
            tracing::info!(schedule = schedule.name, ?answer, "schedule of the configuration");
        }
        Ok(())
    }

    /// Fires what is due; answers how long until there is more. A partition that is away holds up no other, and is an
    /// error only where all are.
    async fn look(&self) -> Result<Duration, waymark_store::Error> {
        let looks = (0..self.store.partitions())
            .map(|partition| tokio::time::timeout(LOOK_MAX, self.look_at(partition)));
        let (mut wait, mut answered, mut failed) = (LOOK, false, None);
        for look in futures_util::future::join_all(looks).await {
            match look {
                Ok(Ok(until)) => {
                    wait = wait.min(until);
                    answered = true;
                }
                Ok(Err(error)) => failed = Some(error),
                // It is asked again.
                Err(_) => {}
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            Some(error) => {
                tracing::warn!(%error, "the schedules of a partition could not be fired");
                Ok(wait)
            }
            None => Ok(wait),
        }
    }

    async fn look_at(&self, partition: u16) -> Result<Duration, waymark_store::Error> {
        // Others find out when it is back.
        if self.store.is_away(partition) {
            return Ok(LOOK);
        }
        if self.store.schedules_owe(partition).await? {
            self.store.settle_schedules(partition).await?;
        }
        let now_ms = self.store.now_ms().await?;
        let Some(due_ms) = self.store.next_schedule_ms(partition).await? else { return Ok(LOOK) };
        if due_ms > now_ms {
            return Ok(Duration::from_millis(due_ms - now_ms));
        }
        let due = self.store.due_schedules(partition, now_ms).await?;
        let requests: Vec<_> = due.into_iter().map(|stored| stored.firing(now_ms)).collect();
        let answers = self.store.fire(partition, &requests, now_ms).await?;
        for (request, answer) in requests.into_iter().zip(answers) {
            self.account(request, answer.unwrap_or_default());
        }
        Ok(Duration::ZERO)
    }

    fn account(&self, request: FireRequest, outcomes: Vec<Outcome>) {
        if outcomes.contains(&Outcome::Action) {
            let maintenance = self.maintenance.clone();
            // Firing goes on meanwhile.
            crate::task::spawn(async move { maintenance.act(&request).await });
        } else if !outcomes.is_empty() {
            tracing::debug!(schedule = request.schedule().name, ?outcomes, "schedule fired");
        }
    }
}

impl Maintenance {
    /// On this store.
    #[must_use]
    pub fn new(store: Store, config: Arc<Config>) -> Self {
        Self { store, config, idle: Mutex::default() }
    }

    /// Does what a built-in schedule asks for, and notes it.
    pub async fn act(&self, request: &FireRequest) {
        let schedule = request.schedule();
        let (Work::Action(action), Some(planned_ms)) = (&schedule.work, request.times().last()) else {
            return;
        };
        let began = Instant::now();
        let done = match action {
            Action::ExpireResults => self.expire_results().await,
            Action::ExpireKeys => self.expire_keys().await,
            Action::ReconcileIndexes => self.reconcile().await,
        };
        let took = began.elapsed();
        let noted = match &done {
            Ok(text) => {
                tracing::debug!(schedule = schedule.name, ?took, text, "periodic work done");
                Ok(text.as_str())
            }
            Err(error) => {
                tracing::warn!(schedule = schedule.name, ?took, error, "periodic work failed");
                Err(error.as_str())
            }
        };
        let took_ms = took.as_millis() as u64;
        if let Err(error) = self.store.schedule_ran(&schedule.name, *planned_ms, took_ms, noted).await {
            tracing::warn!(schedule = schedule.name, %error, "what was done could not be noted");
        }
    }

    async fn expire_results(&self) -> Result<String, String> {
        let (began, mut gone) = (Instant::now(), 0);
        loop {
            let retention = |job_type: &str| self.config.retention_of(job_type);
            let more = self.store.sweep(retention, SWEEP_BUDGET).await.map_err(|error| error.to_string())?;
            gone += more;
            if more < SWEEP_BUDGET as u64 / 2 || began.elapsed() > SWEEP_MAX {
                break;
            }
        }
        let errors_ms = self.config.retention.errors_ms;
        self.store.sweep_error_groups(errors_ms).await.map_err(|error| error.to_string())?;
        self.store.sweep_objects().await.map_err(|error| error.to_string())?;
        if gone > 0 {
            tracing::info!(jobs = gone, "expired jobs were removed");
        }
        Ok(format!("{gone} jobs removed"))
    }

    async fn expire_keys(&self) -> Result<String, String> {
        let mut idle = self.idle.lock().await;
        let forgotten = self.store.expire_keys(&mut idle).await.map_err(|error| error.to_string())?;
        Ok(format!("{forgotten} queues and job types forgotten"))
    }

    async fn reconcile(&self) -> Result<String, String> {
        let mended = self.store.reconcile().await.map_err(|error| error.to_string())?;
        if mended > 0 {
            tracing::warn!(mended, "indexes or counts did not agree with the jobs and were mended");
        }
        Ok(format!("{mended} entries mended"))
    }
}
