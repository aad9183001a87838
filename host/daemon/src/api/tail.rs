//! What happened to all jobs of late, read once for all readers of this host.
//!
//! With the first reader a task per partition begins to read the changes of its partition, and with the last reader
//! they end: nobody reads for nobody, and a partition that is away holds up no other. The newest changes are kept here;
//! a reader that is further behind asks the store.

use super::feed::LOOK_AGAIN;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::Instant,
};
use waymark_job::{JobId, State};
use waymark_store::{Change, Error, Labels, Message, Place, Store};

/// Shortest time between two looks at a partition. Bounds what it costs the store.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// Changes kept here per partition.
const KEPT: usize = 500;
/// Changes read at once.
pub(super) const PAGE: usize = 50;
/// How long labels are trusted: a job may move to another queue.
const LABELS_AGE_MAX: Duration = Duration::from_secs(5);
/// Jobs whose labels are remembered.
const LABELS_MAX: usize = 10_000;

/// The way to the tail of the changes.
pub(super) struct Tail {
    store: Store,
    live: Mutex<Weak<Live>>,
}

/// The tail, as long as anybody reads it.
pub(super) struct Live {
    shared: Arc<Shared>,
    /// Ends with the last reader.
    _tasks: JoinSet<()>,
}

struct Shared {
    store: Store,
    slices: Vec<Slice>,
    /// Something was read, in whatever partition.
    news: watch::Sender<()>,
    labels: Mutex<HashMap<JobId, Known>>,
}

/// Labels, `None` of a job that is gone, and when they were learnt.
type Known = (Instant, Option<Arc<Labels>>);

/// One partition.
#[derive(Default)]
struct Slice {
    recent: Mutex<Recent>,
    /// The store told of a change.
    told: Notify,
}

#[derive(Default)]
struct Recent {
    /// What follows this place is here; `None`: not begun.
    after: Option<Place>,
    entries: VecDeque<Arc<Entry>>,
}

/// Jobs that changed at once.
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) jobs: Vec<Told>,
}

/// A job that changed.
pub(super) struct Told {
    pub(super) id: JobId,
    /// The state it was in then.
    pub(super) state: State,
    /// `None`: it was deleted.
    pub(super) labels: Option<Arc<Labels>>,
}

/// A part of the changes of a partition.
pub(super) struct Page {
    /// Something between the place asked for and what follows is not kept.
    pub(super) gap: bool,
    /// At most [`PAGE`], oldest first.
    pub(super) entries: Vec<Arc<Entry>>,
    /// Where to go on.
    pub(super) next: Place,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    /// A tail that nobody reads yet.
    pub(super) fn new(store: Store) -> Self {
        Self { store, live: Mutex::default() }
    }

    /// Begins to read, or joins those who do.
    pub(super) fn join(&self) -> Arc<Live> {
        let mut live = lock(&self.live);
        if let Some(live) = live.upgrade() {
            return live;
        }
        let fresh = Arc::new(Live::begin(self.store.clone()));
        *live = Arc::downgrade(&fresh);
        fresh
    }
}

impl Live {
    fn begin(store: Store) -> Self {
        let partitions = store.partitions();
        let shared = Arc::new(Shared {
            store,
            slices: (0..partitions).map(|_| Slice::default()).collect(),
            news: watch::Sender::new(()),
            labels: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(crate::task::boxed(listen(shared.clone())));
        for partition in 0..partitions {
            tasks.spawn(crate::task::boxed(follow(shared.clone(), partition)));
        }
        Self { shared, _tasks: tasks }
    }

    /// Tells when something was read.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.shared.news.subscribe()
    }

    /// What is here of the changes of a partition after a place; `None` where the store has to be asked. Without a
    /// place: nothing, and the newest one.
    pub(super) fn recent(&self, partition: u16, after: Option<Place>) -> Option<Page> {
        let recent = lock(&self.shared.slices.get(usize::from(partition))?.recent);
        let begun = recent.after?;
        let newest = recent.entries.back().map_or(begun, |entry| entry.place);
        let place = after.unwrap_or(newest);
        if place < begun {
            return None;
        }
        let from = recent.entries.partition_point(|entry| entry.place <= place);
        let entries: Vec<_> = recent.entries.range(from..).take(PAGE).cloned().collect();
        let next = entries.last().map_or(place, |last| last.place);
        Some(Page { gap: false, entries, next })
    }

    /// The changes of a partition after a place, from the store.
    pub(super) async fn read(&self, partition: u16, after: Place) -> Result<Page, Error> {
        self.shared.read(partition, after).await
    }
}

impl Shared {
    async fn read(&self, partition: u16, after: Place) -> Result<Page, Error> {
        let changes = self.store.changes(partition, after, PAGE).await?;
        let labels = self.labels(partition, &changes.list).await?;
        let told = |(id, state)| Told { id, state, labels: labels.get(&id).cloned().flatten() };
        let entry = |change: Change| {
            Arc::new(Entry { place: change.place, jobs: change.jobs.into_iter().map(&told).collect() })
        };
        Ok(Page {
            gap: changes.gap,
            entries: changes.list.into_iter().map(entry).collect(),
            next: changes.next,
        })
    }

    /// The labels of jobs that changed, asked for where they are not known.
    async fn labels(
        &self,
        partition: u16,
        changes: &[Change],
    ) -> Result<HashMap<JobId, Option<Arc<Labels>>>, Error> {
        let now = Instant::now();
        let mut unknown = Vec::new();
        let mut all = HashMap::new();
        {
            let known = lock(&self.labels);
            for (id, _) in changes.iter().flat_map(|change| &change.jobs) {
                match known.get(id).filter(|(learnt, _)| now - *learnt < LABELS_AGE_MAX) {
                    Some((_, labels)) => drop(all.insert(*id, labels.clone())),
                    None => unknown.push(*id),
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        let found = self.store.labels(partition, &unknown).await?;
        let found = unknown.into_iter().zip(found.into_iter().map(|labels| labels.map(Arc::new)));
        let mut known = lock(&self.labels);
        for (id, labels) in found {
            if known.len() >= LABELS_MAX {
                known.clear();
            }
            known.insert(id, (now, labels.clone()));
            all.insert(id, labels);
        }
        Ok(all)
    }
}

/// Wakes those whose partition has news. A message can be lost, so they look by themselves too.
async fn listen(shared: Arc<Shared>) {
    let mut messages = shared.store.subscribe();
    loop {
        match messages.next().await {
            Message::Event { partition, .. } => {
                if let Some(slice) = shared.slices.get(usize::from(partition)) {
                    slice.told.notify_one();
                }
            }
            Message::Reconnected => shared.slices.iter().for_each(|slice| slice.told.notify_one()),
            _ => {}
        }
    }
}

async fn follow(shared: Arc<Shared>, partition: u16) {
    let Some(slice) = shared.slices.get(usize::from(partition)) else { return };
    let mut place = loop {
        match shared.store.newest_change(partition).await {
            Ok(place) => break place,
            Err(error) => tracing::debug!(%error, partition, "the changes cannot be read for a moment"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    lock(&slice.recent).after = Some(place);
    shared.news.send_replace(());
    loop {
        let looked_at = Instant::now();
        let full = match shared.read(partition, place).await {
            Ok(page) => {
                let (full, next) = (page.entries.len() == PAGE, page.next);
                if page.gap || !page.entries.is_empty() {
                    lock(&slice.recent).take(place, page);
                    shared.news.send_replace(());
                }
                place = next;
                full
            }
            Err(error) => {
                tracing::debug!(%error, partition, "the changes cannot be read for a moment");
                false
            }
        };
        if !full {
            // Either a message or the time tells that it is worth a look.
            let _ = tokio::time::timeout(LOOK_AGAIN, slice.told.notified()).await;
            tokio::time::sleep_until(looked_at + LOOK_MIN).await;
        }
    }
}

/// Later than every place.
const NOWHERE: Place = Place { ms: u64::MAX, number: u64::MAX };

impl Recent {
    /// Adds what followed a place.
    fn take(&mut self, place: Place, page: Page) {
        let mut entries = page.entries.into_iter();
        if page.gap {
            // Whoever stands before this asks the store, which knows that something is missing.
            self.entries.clear();
            self.after = Some(entries.next().map_or(NOWHERE, |first| first.place));
        } else if self.after == Some(NOWHERE) {
            self.after = Some(place);
        }
        self.entries.extend(entries);
        while self.entries.len() > KEPT {
            self.after = self.entries.pop_front().map(|gone| gone.place).or(self.after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(gap: bool, places: &[u64]) -> Page {
        let place = |ms: &u64| Place { ms: *ms, number: 0 };
        let entries: Vec<_> =
            places.iter().map(|ms| Arc::new(Entry { place: place(ms), jobs: Vec::new() })).collect();
        Page { gap, next: places.last().map_or_else(Place::default, place), entries }
    }

    #[test]
    fn the_newest_are_kept_and_nobody_passes_over_a_gap() {
        let mut recent = Recent { after: Some(Place { ms: 5, number: 0 }), ..Recent::default() };
        recent.take(Place { ms: 5, number: 0 }, page(false, &[7, 8]));
        assert_eq!((recent.after.unwrap().ms, recent.entries.len()), (5, 2));
        recent.take(Place { ms: 8, number: 0 }, page(true, &[20, 21]));
        assert_eq!((recent.after.unwrap().ms, recent.entries.len()), (20, 1));
        // The server lost everything.
        recent.take(Place { ms: 21, number: 0 }, page(true, &[]));
        assert_eq!((recent.after, recent.entries.len()), (Some(NOWHERE), 0));
        recent.take(Place::default(), page(false, &[22]));
        assert_eq!((recent.after, recent.entries.len()), (Some(Place::default()), 1));
        let many: Vec<_> = (30..30 + KEPT as u64).collect();
        recent.take(Place { ms: 22, number: 0 }, page(false, &many));
        assert_eq!((recent.after.unwrap().ms, recent.entries.len()), (22, KEPT));
    }
}
