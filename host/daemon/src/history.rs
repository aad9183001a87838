//! Writes down what happens, for the charts of the dashboard.
//!
//! Every host adds what its workers counted to the present minute; the host that leads adds what only one needs to look
//! at: how many jobs wait and run, and which versions of plugins are there. A host that is killed loses the last few
//! seconds of its counts, and nothing else.

use crate::metrics::Metrics;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use waymark_job::State;
use waymark_store::{Counted, Error, Level, Store};

/// How often a host tells what it counted.
const EVERY: Duration = Duration::from_secs(5);

/// Works for ever, for the host with this id.
pub async fn run(host: String, store: Store, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counted = Counted::default();
    loop {
        ticks.tick().await;
        let more = metrics.counted();
        counted.succeeded += more.succeeded;
        counted.failed += more.failed;
        counted.started += more.started;
        counted.waited_ms += more.waited_ms;
        match tell(&host, &store, counted).await {
            Ok(()) => counted = Counted::default(),
            Err(error) => tracing::debug!(%error, "the history is written later"),
        }
    }
}

async fn tell(host: &str, store: &Store, counted: Counted) -> Result<(), Error> {
    let leads = store.leads(host).await?;
    if !leads && counted == Counted::default() {
        return Ok(());
    }
    let now_ms = store.now_ms().await?;
    let level = if leads { Some(level(store).await?) } else { None };
    if leads {
        store.note_versions(now_ms, &versions(store).await?).await?;
    }
    store.add_history(now_ms, counted, level).await
}

async fn level(store: &Store) -> Result<Level, Error> {
    let mut level = Level::default();
    for (_, state, jobs) in store.counts().await? {
        match state {
            State::Queued => level.queued += jobs,
            State::Running => level.running += jobs,
            _ => {}
        }
    }
    Ok(level)
}

/// The versions that hosts have, by job type and digest.
async fn versions(store: &Store) -> Result<BTreeMap<(String, String), String>, Error> {
    let mut versions = BTreeMap::new();
    for (_, record) in store.hosts().await? {
        // Text that is no JSON can only come of damage in the store.
        let record: Value = serde_json::from_str(&record).unwrap_or_default();
        for one in record["types"].as_array().into_iter().flatten() {
            if let (Some(name), Some(digest)) = (one["name"].as_str(), one["digest"].as_str()) {
                let version = one["version"].as_str().unwrap_or_default();
                versions.insert((name.to_owned(), digest.to_owned()), version.to_owned());
            }
        }
    }
    Ok(versions)
}
