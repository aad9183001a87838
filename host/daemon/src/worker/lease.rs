//! Staying alive in the eyes of the store, and hearing of controls.

use super::shared::{Shared, Wish};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use waymark_job::JobId;
use waymark_store::Message;

/// How often the claims in the store are compared with the jobs that are here.
const RECONCILE: Duration = Duration::from_secs(10);
/// The same after a partition came back whose jobs were dropped.
const RECONCILE_SOON: Duration = Duration::from_secs(1);
/// How long a worker waits for partitions that do not answer before it begins with the others.
const REGISTER_WAIT: Duration = Duration::from_secs(5);

/// Holds a lease in every partition; waits until all are registered. A partition that takes long is registered later:
/// the others go on without it.
pub(super) async fn hold(shared: &Arc<Shared>) {
    let (sender, mut registering) = mpsc::channel::<()>(1);
    for partition in 0..shared.store.partitions() {
        crate::task::spawn(serve(shared.clone(), partition, sender.clone()));
    }
    drop(sender);
    // Each lets go of its end.
    let _ = tokio::time::timeout(REGISTER_WAIT, registering.recv()).await;
}

async fn register(shared: &Shared, partition: u16) {
    while !shared.is_draining() {
        match shared.store.register(partition, shared.worker(), shared.config.worker.lease_ms).await {
            Ok(()) => return shared.wake.notify_one(),
            Err(error) => tracing::warn!(%error, partition, "the store does not answer"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Renews the lease of one partition three times in its length; reaps what other workers left behind.
async fn serve(shared: Arc<Shared>, partition: u16, registering: mpsc::Sender<()>) {
    register(&shared, partition).await;
    drop(registering);
    let length = Duration::from_millis(shared.config.worker.lease_ms);
    let mut ticks = tokio::time::interval(length / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut renewed, mut dropped) = (Instant::now(), false);
    loop {
        ticks.tick().await;
        let timer = shared.metrics.round_trip.start_timer();
        let renewal = shared.store.renew(partition, shared.worker(), shared.config.worker.lease_ms);
        let renewal = match tokio::time::timeout(length / 3, renewal).await {
            Ok(Ok(renewal)) => renewal,
            failed => {
                timer.stop_and_discard();
                match failed {
                    Ok(Err(error)) => tracing::warn!(%error, partition, "the lease was not renewed"),
                    _ => tracing::warn!(partition, "the lease was not renewed in time"),
                }
                // What waits for this partition must not keep its place from jobs of the others.
                if !dropped && renewed.elapsed() > length && shared.store.is_away(partition) {
                    let jobs = shared.drop_all(partition);
                    tracing::warn!(
                        jobs,
                        partition,
                        "jobs of a partition that is away longer than a lease are dropped"
                    );
                    dropped = true;
                }
                continue;
            }
        };
        timer.observe_duration();
        renewed = Instant::now();
        if !renewal.alive {
            let jobs = shared.drop_all(partition);
            tracing::error!(
                jobs,
                partition,
                "the lease had run out: all its jobs are dropped, others have them"
            );
            register(&shared, partition).await;
        }
        if std::mem::take(&mut dropped) {
            shared.returned.notify_one();
        }
        shared.pause(&renewal.pauses);
        if renewal.reaped > 0 {
            tracing::warn!(jobs = renewal.reaped, "took over jobs of a worker that is gone");
            shared.wake.notify_one();
        }
    }
}

/// Finds jobs that the store believes to be here and are not, and puts them back: a store that lost its last writes,
/// such as after a failover, shows jobs as running that this worker has long finished. What is missing in two looks
/// in a row is no claim that is only just arriving.
pub(super) async fn reconcile(shared: Arc<Shared>) {
    let mut suspects: HashSet<(JobId, String)> = HashSet::new();
    let mut wait = RECONCILE;
    loop {
        let returned = tokio::time::timeout(wait, shared.returned.notified()).await.is_ok();
        wait = if returned { RECONCILE_SOON } else { RECONCILE };
        let mut missing = HashSet::new();
        for partition in 0..shared.store.partitions() {
            if shared.store.is_away(partition) {
                continue;
            }
            let held = match shared.store.held(partition, shared.worker()).await {
                Ok(held) => held,
                Err(error) => {
                    tracing::warn!(%error, "claims could not be compared with the store");
                    continue;
                }
            };
            let (again, new): (Vec<_>, Vec<_>) =
                held.into_iter().filter(|(id, _)| !shared.holds(id)).partition(|one| suspects.contains(one));
            missing.extend(new);
            if again.is_empty() {
                continue;
            }
            match shared.store.give_back(partition, &again).await {
                Ok(jobs) => {
                    tracing::warn!(jobs, "jobs that the store believed to be here went back to their queues")
                }
                Err(error) => tracing::warn!(%error, "jobs that are not here could not be given back yet"),
            }
        }
        suspects = missing;
    }
}

/// Controls and new work arrive within milliseconds.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut subscription = shared.store.subscribe_work();
    loop {
        match subscription.next().await {
            Message::Wake { .. } => shared.wake.notify_one(),
            Message::Reconnected => {
                shared.wake.notify_one();
                shared.routes.changed.notify_one();
            }
            Message::Routes => shared.routes.changed.notify_one(),
            Message::Control { worker, verb, id, token } => {
                if worker != shared.worker() {
                    continue;
                }
                match verb.as_str() {
                    "pause" => shared.want(id, token, Wish::Pause),
                    "resume" => shared.want(id, token, Wish::GoOn),
                    "drop" => shared.want(id, token, Wish::Drop),
                    _ => tracing::warn!(verb, "unknown control"),
                }
            }
            Message::Event { .. } | Message::Drain { .. } | Message::Pause { .. } | Message::Schedules => {}
        }
    }
}
