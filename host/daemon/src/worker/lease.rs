//! Staying alive in the eyes of the store, and hearing of controls.

use super::{
    protocol::Report,
    shared::{Shared, Wish},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use waymark_job::JobId;
use waymark_store::Message;

/// How often the claims in the store are compared with the jobs that are here.
const RECONCILE: Duration = Duration::from_secs(10);
/// How long a worker waits for partitions that do not answer before it begins with the others.
const REGISTER_WAIT: Duration = Duration::from_secs(5);

/// Registers every partition; waits until the store answers. A partition that takes long is registered later: the
/// others go on without it.
pub(super) async fn register(shared: &Arc<Shared>) {
    let worker = shared.worker();
    let mut registering: JoinSet<_> = (0..shared.store.partitions())
        .map(|partition| register_one(shared.clone(), partition, worker.clone()))
        .collect();
    let all = async { while registering.join_next().await.is_some() {} };
    if tokio::time::timeout(REGISTER_WAIT, all).await.is_err() {
        registering.detach_all();
    }
}

async fn register_one(shared: Arc<Shared>, partition: u16, worker: String) {
    while worker == shared.worker() && !shared.is_draining() {
        match shared.store.register(partition, &worker, shared.config.worker.lease_ms).await {
            Ok(()) => return shared.wake.notify_one(),
            Err(error) => tracing::warn!(%error, partition, "the store does not answer"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Renews the lease three times in its length, in all partitions at once; reaps what other workers left behind.
pub(super) async fn serve(shared: Arc<Shared>) {
    let lease_ms = shared.config.worker.lease_ms;
    let mut ticks = tokio::time::interval(Duration::from_millis(lease_ms / 3));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let worker = shared.worker();
        let renewals = (0..shared.store.partitions()).map(|partition| {
            let timer = shared.metrics.round_trip.start_timer();
            let renewal = shared.store.renew(partition, &worker, lease_ms);
            async move {
                let renewal = match tokio::time::timeout(Duration::from_millis(lease_ms / 3), renewal).await {
                    Ok(Ok(renewal)) => renewal,
                    Ok(Err(error)) => {
                        timer.stop_and_discard();
                        tracing::warn!(%error, partition, "the lease was not renewed");
                        return None;
                    }
                    Err(_) => {
                        timer.stop_and_discard();
                        tracing::warn!(partition, "the lease was not renewed in time");
                        return None;
                    }
                };
                timer.observe_duration();
                Some(renewal)
            }
        });
        for renewal in futures_util::future::join_all(renewals).await.into_iter().flatten() {
            if !renewal.alive {
                let jobs = shared.drop_all();
                let worker = shared.renew_worker();
                tracing::error!(
                    jobs,
                    worker,
                    "the lease had run out: all jobs are dropped, others have them"
                );
                register(&shared).await;
                shared.report(Report::Ready { worker });
                break;
            }
            shared.pause(&renewal.pauses);
            if renewal.reaped > 0 {
                tracing::warn!(jobs = renewal.reaped, "took over jobs of a worker that is gone");
                shared.wake.notify_one();
            }
        }
    }
}

/// Finds jobs that the store believes to be here and are not, and puts them back: a store that lost its last writes,
/// such as after a failover, shows jobs as running that this worker has long finished. What is missing in two looks
/// in a row is no claim that is only just arriving.
pub(super) async fn reconcile(shared: Arc<Shared>) {
    let mut suspects: HashSet<(JobId, String)> = HashSet::new();
    loop {
        tokio::time::sleep(RECONCILE).await;
        let worker = shared.worker();
        let mut missing = HashSet::new();
        for partition in 0..shared.store.partitions() {
            let held = match shared.store.held(partition, &worker).await {
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
                Ok(jobs) => tracing::warn!(jobs, "the store had lost writes: jobs went back to their queues"),
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
