//! What jobs say, on its way to the store.
//!
//! Lines gather for a moment and travel together, those of each partition by themselves, so that one whose server is
//! away holds up no other. They never hold up a job: beyond [`WAITING_BYTES_MAX`] they are dropped, and counted. Where logs
//! have a server of their own and that is away, they wait. Whoever must know that all lines are written asks for a flush.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use waymark_job::JobId;
use waymark_store::{Error, Store, Unwritten};

/// How long lines gather.
const EVERY: Duration = Duration::from_millis(100);
/// Bytes written in one call: a longer call would keep others waiting.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Lines written in one call.
const LINES_AT_ONCE: usize = 1_000;
/// Bytes that may wait, so that a flood costs no memory.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Pause before lines are written again that were not.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest wait for a flush.
const FLUSH_MAX: Duration = Duration::from_secs(1);

enum Entry {
    /// JSON.
    Line(JobId, String),
    /// Everything before this shall be written now; answered when it is.
    Flush(oneshot::Sender<()>),
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs {
    /// One for each partition.
    entries: Arc<[mpsc::UnboundedSender<Entry>]>,
    waiting: Arc<Waiting>,
}

/// Writes what comes in of one partition.
pub(super) struct Writer {
    entries: mpsc::UnboundedReceiver<Entry>,
    waiting: Arc<Waiting>,
}

pub(super) fn channel(partitions: u16) -> (Logs, Vec<Writer>) {
    let waiting = Arc::<Waiting>::default();
    let pairs = (0..partitions).map(|_| {
        let (sender, entries) = mpsc::unbounded_channel();
        (sender, Writer { entries, waiting: waiting.clone() })
    });
    let (entries, writers): (Vec<_>, Vec<_>) = pairs.unzip();
    (Logs { entries: entries.into(), waiting }, writers)
}

impl Logs {
    /// Hands over a line, JSON.
    pub(super) fn say(&self, id: JobId, line: String) {
        let Some(entries) = self.entries.get(usize::from(id.partition())) else { return };
        let bytes = line.len();
        if self.waiting.bytes.fetch_add(bytes, Relaxed) + bytes > WAITING_BYTES_MAX {
            self.waiting.bytes.fetch_sub(bytes, Relaxed);
            self.waiting.dropped.fetch_add(1, Relaxed);
            return;
        }
        // The writer lives as long as the process.
        let _ = entries.send(Entry::Line(id, line));
    }

    /// Waits until all that jobs of a partition said is written, for a second at most.
    pub(super) async fn flush(&self, partition: u16) {
        let Some(entries) = self.entries.get(usize::from(partition)) else { return };
        let (answer, written) = oneshot::channel();
        if entries.send(Entry::Flush(answer)).is_ok() {
            let _ = tokio::time::timeout(FLUSH_MAX, written).await;
        }
    }

    /// The same for all partitions.
    pub(super) async fn flush_all(&self) {
        futures_util::future::join_all(
            (0..).zip(self.entries.iter()).map(|(partition, _)| self.flush(partition)),
        )
        .await;
    }
}

impl Writer {
    pub(super) async fn serve(mut self, store: Store) {
        let mut unwritten = Vec::new();
        loop {
            let mut lines: Vec<(JobId, String)> = std::mem::take(&mut unwritten);
            let mut bytes: usize = lines.iter().map(|(_, line)| line.len()).sum();
            let mut until = (!lines.is_empty()).then(Instant::now);
            let mut flushes = Vec::new();
            while bytes < BYTES_AT_ONCE && lines.len() < LINES_AT_ONCE && flushes.is_empty() {
                let entry = match until {
                    None => self.entries.recv().await,
                    Some(until) => match tokio::time::timeout_at(until, self.entries.recv()).await {
                        Ok(entry) => entry,
                        Err(_) => break,
                    },
                };
                match entry {
                    Some(Entry::Line(id, line)) => {
                        bytes += line.len();
                        lines.push((id, line));
                    }
                    Some(Entry::Flush(answer)) => flushes.push(answer),
                    None => return,
                }
                until.get_or_insert_with(|| Instant::now() + EVERY);
            }
            let written = if lines.is_empty() { Ok(()) } else { store.append_logs(lines).await };
            let away = match written {
                Err(Unwritten { error: error @ Error::Storage(_), lines }) => {
                    tracing::warn!(%error, "log lines of jobs wait");
                    bytes -= lines.iter().map(|(_, line)| line.len()).sum::<usize>();
                    unwritten = lines;
                    true
                }
                Err(Unwritten { error, lines }) => {
                    tracing::warn!(%error, lines = lines.len(), "log lines of jobs are lost");
                    false
                }
                Ok(()) => false,
            };
            self.waiting.bytes.fetch_sub(bytes, Relaxed);
            let dropped = self.waiting.dropped.swap(0, Relaxed);
            if dropped > 0 {
                tracing::warn!(lines = dropped, "jobs said more than can be written; log lines were dropped");
            }
            for answer in flushes {
                // Whoever waited too long has gone.
                let _ = answer.send(());
            }
            if away {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
