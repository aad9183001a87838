//! Staying alive in the eyes of the store, and hearing of controls.

use super::{
    protocol::Report,
    shared::{Shared, Wish},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use waymark_job::JobId;
use waymark_store::Message;

/// How often the claims in the store are compared with the jobs that are here.
const RECONCILE: Duration = Duration::from_secs(10);

/// Registers every partition; waits until the store answers.
pub(super) async fn register(shared: &Shared) {
    for partition in 0..shared.store.partitions() {
        loop {
            match shared.store.register(partition, &shared.worker(), shared.config.worker.lease_ms).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(%error, "the store does not answer");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// Renews the lease three times in its length; reaps what other workers left behind.
pub(super) async fn serve(shared: Arc<Shared>) {
    let lease_ms = shared.config.worker.lease_ms;
    let mut ticks = tokio::time::interval(Duration::from_millis(lease_ms / 3));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for partition in 0..shared.store.partitions() {
            let timer = shared.metrics.round_trip.start_timer();
            let renewal = match shared.store.renew(partition, &shared.worker(), lease_ms).await {
                Ok(renewal) => renewal,
                Err(error) => {
                    timer.stop_and_discard();
                    tracing::warn!(%error, "the lease was not renewed");
                    continue;
                }
            };
            timer.observe_duration();
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
            Message::Wake { .. } | Message::Reconnected => shared.wake.notify_one(),
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
            Message::Event { .. } | Message::Drain { .. } | Message::Schedules => {}
        }
    }
}
