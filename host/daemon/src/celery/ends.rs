//! Jobs hear at once of the ends of their tasks, which workers of Celery run.
//!
//! Celery publishes each result on a channel of its own. The host that leads listens to all of them while a route leads to
//! workers of Celery, and wakes the jobs that sleep until they look after those tasks again. What is missed here, the next
//! look finds (`worker/run/celery.rs`).

use super::{config::Celery, outgoing};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use uuid::Uuid;
use waymark_store::{Error, Store};

/// How often it is looked whether this host is to listen.
const LOOK: Duration = Duration::from_secs(1);
/// Ends that wait until their jobs are woken. A burst of more takes no memory: the rest is found by looking.
const ENDS_MAX: usize = 10_000;
/// Ends that the store is told of at once.
const BATCH_MAX: usize = 200;
/// A job that was looking when its task ended is told again after so long, and for so long.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_FOR: Duration = Duration::from_secs(1);

/// A task that has ended.
struct End {
    task: Uuid,
    /// When this host heard of it.
    heard: Instant,
}

/// What listens.
pub(crate) struct Ends {
    host: String,
    store: Store,
    settings: Arc<Celery>,
}

impl Ends {
    /// Of the host with this id. The store is no Cluster.
    pub(crate) const fn new(host: String, store: Store, settings: Arc<Celery>) -> Self {
        Self { host, store, settings }
    }

    /// Works for ever.
    pub(crate) async fn run(self) {
        loop {
            self.until(true).await;
            let (sender, receiver) = mpsc::channel(ENDS_MAX);
            tokio::select! {
                () = self.hear(sender) => {}
                () = self.wake(receiver) => {}
                () = self.until(false) => {}
            }
        }
    }

    /// Waits until this host is to listen, or is no longer. While the store does not answer it stays as it was.
    async fn until(&self, wanted: bool) {
        loop {
            match self.is_wanted().await {
                Ok(now) if now == wanted => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "whether to listen to Celery's results is seen later"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn is_wanted(&self) -> Result<bool, Error> {
        if !self.store.leads(&self.host).await? {
            return Ok(false);
        }
        let routes = self.store.routes().await?;
        let mut targets = routes.values().flat_map(|stored| &stored.route.targets);
        Ok(targets.any(|target| target.celery.is_some()))
    }

    /// Hands on what is published, for ever.
    async fn hear(&self, ends: mpsc::Sender<End>) {
        let mut listener = self.store.celery_listen_to_all(self.settings.result_pattern());
        loop {
            let Some(text) = listener.next().await else { continue };
            if let Some(task) = outgoing::ended(&text) {
                // Where there is no room, the job looks by itself.
                let _ = ends.try_send(End { task, heard: Instant::now() });
            }
        }
    }

    /// Wakes jobs, as many at once as have gathered while others were woken.
    async fn wake(&self, mut heard: mpsc::Receiver<End>) {
        let mut ends: Vec<End> = Vec::new();
        loop {
            if ends.is_empty() {
                if heard.recv_many(&mut ends, BATCH_MAX).await == 0 {
                    return;
                }
            } else {
                // Whether others came or not, those that are left are told again.
                let _ = tokio::time::timeout(AGAIN, heard.recv_many(&mut ends, BATCH_MAX)).await;
            }
            let tasks: Vec<_> = ends.iter().map(|end| end.task.to_string()).collect();
            match self.store.celery_wake(&tasks).await {
                Ok(looks) => {
                    let mut looks = looks.into_iter();
                    ends.retain(|end| looks.next() == Some(true) && end.heard.elapsed() < AGAIN_FOR);
                }
                Err(error) => {
                    tracing::warn!(%error, "the ends of some tasks of Celery are found by looking");
                    ends.clear();
                }
            }
        }
    }
}
