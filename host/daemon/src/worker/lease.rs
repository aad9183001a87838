//! Staying alive in the eyes of the store, and hearing of controls.

use super::{
    protocol::Report,
    shared::{Shared, Wish},
};
use std::{sync::Arc, time::Duration};
use waymark_store::Message;

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

/// Controls and new work arrive within milliseconds.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut subscription = shared.store.subscribe_work();
    loop {
        match subscription.next().await {
            Message::Wake { .. } | Message::Reconnected => shared.wake.notify_one(),
            Message::Control { worker, verb, id } => {
                if worker != shared.worker() {
                    continue;
                }
                let Some(running) = shared.find(&id) else { continue };
                match verb.as_str() {
                    "pause" => running.want(Wish::Pause),
                    "resume" => running.want(Wish::GoOn),
                    "drop" => running.want(Wish::Drop),
                    _ => tracing::warn!(verb, "unknown control"),
                }
            }
            Message::Event { .. } | Message::Drain { .. } => {}
        }
    }
}
