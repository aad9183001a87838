//! Routes of job types as this worker knows them, and what it counted under them.
//!
//! Routes are read when the worker starts, when somebody changes one, and every two seconds in case that was missed. A
//! worker that cannot read them goes on with those that it knows. What it counts is told every second: a worker that is
//! killed loses that much, and no job costs a call more.

use super::shared::Shared;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use waymark_job::route::{
    Stored,
    guard::{Arm, Counts},
};

/// How often counts are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often routes are read whatever is announced.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Job type and epoch, and what was counted there.
type Tally = HashMap<(String, u64), Counts>;

/// Where jobs go.
#[derive(Default)]
pub(super) struct Routes {
    by_type: RwLock<Arc<BTreeMap<String, Arc<Stored>>>>,
    /// There are any: most deployments have none, and pay for nothing else.
    any: AtomicBool,
    /// They were read once.
    read: AtomicBool,
    first: Notify,
    /// Somebody changed one.
    pub(super) changed: Notify,
    tally: Mutex<Tally>,
}

impl Routes {
    fn all(&self) -> Arc<BTreeMap<String, Arc<Stored>>> {
        self.by_type.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The route of a job type.
    pub(super) fn get(&self, job_type: &str) -> Option<Arc<Stored>> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.all().get(job_type).cloned()
    }

    /// Types with a target that needs no plugin.
    pub(super) fn outside(&self) -> Vec<String> {
        if !self.any.load(Relaxed) {
            return Vec::new();
        }
        let all = self.all();
        let outside = all
            .iter()
            .filter(|(_, stored)| stored.route.targets.iter().any(|target| target.version.is_none()));
        outside.map(|(name, _)| name.clone()).collect()
    }

    /// Waits until they were read once. Cancel-safe.
    pub(super) async fn known(&self) {
        while !self.read.load(Relaxed) {
            self.first.notified().await;
        }
    }

    /// Counts something of one arm.
    pub(super) fn count(&self, job_type: &str, epoch: u64, arm: &str, note: impl FnOnce(&mut Arm)) {
        self.add(job_type, epoch, |counts| note(counts.arms.entry(arm.to_owned()).or_default()));
    }

    /// Counts a pair of a job and its copy.
    pub(super) fn compared(&self, job_type: &str, epoch: u64, differ: bool) {
        self.add(job_type, epoch, |counts| {
            counts.compared += 1;
            counts.mismatched += u64::from(differ);
        });
    }

    fn add(&self, job_type: &str, epoch: u64, note: impl FnOnce(&mut Counts)) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        note(tally.entry((job_type.to_owned(), epoch)).or_default());
    }
}

/// Reads routes and tells counts until the process ends.
pub(super) async fn serve(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut read_at: Option<Instant> = None;
    loop {
        let told = tokio::select! {
            _ = ticks.tick() => false,
            () = shared.routes.changed.notified() => true,
        };
        if told || read_at.is_none_or(|at| at.elapsed() >= READ_EVERY) {
            match shared.store.routes().await {
                Ok(found) => {
                    read_at = Some(Instant::now());
                    take_up(&shared.routes, found);
                }
                Err(error) => tracing::warn!(%error, "routes stay as they were known last"),
            }
        }
        if !told {
            tell(&shared).await;
        }
    }
}

fn take_up(routes: &Routes, found: BTreeMap<String, Stored>) {
    let before = routes.all();
    let same = found.len() == before.len()
        && found
            .iter()
            .all(|(name, stored)| before.get(name).is_some_and(|known| known.revision == stored.revision));
    if !same {
        routes.any.store(!found.is_empty(), Relaxed);
        let found = found.into_iter().map(|(name, stored)| (name, Arc::new(stored))).collect();
        *routes.by_type.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
    }
    if !routes.read.swap(true, Relaxed) {
        routes.first.notify_one();
    }
}

/// Tells what was counted. What cannot be told now is told later.
pub(super) async fn tell(shared: &Shared) {
    let tally = std::mem::take(&mut *shared.routes.tally.lock().unwrap_or_else(PoisonError::into_inner));
    for ((job_type, epoch), counts) in tally {
        if let Err(error) = shared.store.count_route(&job_type, epoch, &counts).await {
            tracing::warn!(job_type, %error, "counts of a route are told later");
            shared.routes.add(&job_type, epoch, |kept| merge(kept, counts));
        }
    }
}

fn merge(into: &mut Counts, more: Counts) {
    into.compared += more.compared;
    into.mismatched += more.mismatched;
    for (name, arm) in more.arms {
        let into = into.arms.entry(name).or_default();
        into.attempts += arm.attempts;
        into.errors += arm.errors;
        into.ran_us += arm.ran_us;
        into.bytes += arm.bytes;
        for (bucket, count) in arm.times {
            *into.times.entry(bucket).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_told_is_kept_with_what_follows() {
        let routes = Routes::default();
        routes.count("t", 1, "a", |arm| arm.succeeded(100, 5));
        let mut kept = Counts::default();
        let mut arm = Arm::default();
        arm.succeeded(100, 5);
        arm.failed();
        kept.arms.insert("a".into(), arm);
        kept.compared = 2;
        routes.add("t", 1, |counts| merge(counts, kept));
        let tally = routes.tally.lock().unwrap();
        let counts = &tally[&("t".to_owned(), 1)];
        let arm = &counts.arms["a"];
        assert_eq!((arm.attempts, arm.errors, arm.bytes, counts.compared), (3, 1, 10, 2));
        assert_eq!(arm.times.values().sum::<u64>(), 2);
    }
}
