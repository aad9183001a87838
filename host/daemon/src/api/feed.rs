//! One subscription to the store for all who wait for a job.
//!
//! It begins with the first watcher and ends a few seconds after the last one: a host that runs thousands of jobs a
//! second should not read their events for nobody. A message can be lost while the connection to the store is away,
//! so a watcher looks again by itself every [`LOOK_AGAIN`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use waymark_job::{JobId, State};
use waymark_store::{Message, Store};

/// How long a watcher trusts silence.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the subscription outlives its last watcher.
const IDLE: Duration = Duration::from_secs(5);

/// The shared subscription.
pub struct Feed {
    store: Store,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    watchers: HashMap<JobId, watch::Sender<Option<State>>>,
    running: bool,
}

/// Told of every change of one job.
pub struct Watcher {
    id: JobId,
    changes: watch::Receiver<Option<State>>,
    shared: Arc<Mutex<Shared>>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    /// A feed that is not connected yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, shared: Arc::default() }
    }

    /// Watches a job. Changes from now on are told, except for those in the first moments of a subscription.
    #[must_use]
    pub fn watch(&self, id: JobId) -> Watcher {
        let mut shared = lock(&self.shared);
        let changes = shared.watchers.entry(id).or_insert_with(|| watch::Sender::new(None)).subscribe();
        if !shared.running {
            shared.running = true;
            crate::task::spawn(follow(self.store.clone(), self.shared.clone()));
        }
        Watcher { id, changes, shared: self.shared.clone() }
    }
}

impl Watcher {
    /// The job changed; with its state then, where that is known. Cancel-safe.
    pub async fn changed(&mut self) -> Option<State> {
        match self.changes.changed().await {
            Ok(()) => *self.changes.borrow_and_update(),
            // The sender lives as long as this watcher.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        // This watcher still counts.
        if shared.watchers.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            shared.watchers.remove(&self.id);
        }
    }
}

async fn follow(store: Store, shared: Arc<Mutex<Shared>>) {
    let mut messages = store.subscribe();
    loop {
        let message = tokio::time::timeout(IDLE, messages.next()).await;
        let mut shared = lock(&shared);
        if shared.watchers.is_empty() && message.is_err() {
            shared.running = false;
            return;
        }
        match message {
            Ok(Message::Event { items, .. }) if !shared.watchers.is_empty() => {
                for (id, state) in items {
                    if let Some(sender) = shared.watchers.get(&id) {
                        sender.send_replace(Some(state));
                    }
                }
            }
            // What happened meanwhile is not known: everybody looks.
            Ok(Message::Reconnected) => {
                for sender in shared.watchers.values() {
                    sender.send_replace(None);
                }
            }
            _ => {}
        }
    }
}
