//! What the files of one scratch directory may take of the disk, and what they take.
//!
//! Bytes are taken before a file grows and given back after it has shrunk, both under the lock of that file, so that
//! what is on the disk is never more than what was taken. A file without a name holds its bytes until nothing has it
//! open any more.

use super::{Counts, Grant};
use crate::log::{Level, Logger};
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// File systems hand out whole blocks, and keep a name and what stands under it in about one more.
pub(super) const BLOCK_BYTES: u64 = 4 << 10;

/// The bounds of one scratch directory.
pub(super) struct Quota {
    grant: Grant,
    used: Mutex<Used>,
    counts: Counts,
    logger: Arc<Logger>,
    /// The job's log says once that the directory was full.
    told: AtomicBool,
}

#[derive(Default)]
struct Used {
    bytes: u64,
    files: u32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a file of this length takes of the disk.
fn blocks(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

impl Quota {
    pub(super) fn new(grant: &Grant, counts: Counts, logger: Arc<Logger>) -> Self {
        Self { grant: grant.clone(), used: Mutex::default(), counts, logger, told: AtomicBool::new(false) }
    }

    /// # Errors
    /// [`ErrorKind::StorageFull`]: one of the two bounds would be passed. Nothing was taken.
    fn take(&self, bytes: u64, files: u32) -> io::Result<()> {
        let Grant { bytes_max, files_max } = self.grant;
        let mut used = locked(&self.used);
        let bound = if used.bytes.checked_add(bytes).is_none_or(|sum| sum > bytes_max) {
            "bytes"
        } else if used.files.checked_add(files).is_none_or(|sum| sum > files_max) {
            "files"
        } else {
            used.bytes += bytes;
            used.files += files;
            self.counts.grew(bytes);
            return Ok(());
        };
        drop(used);
        self.counts.refused(bound);
        if !self.told.swap(true, Relaxed) {
            let fields = serde_json::json!({"bytes_max": bytes_max, "files_max": files_max});
            let message = format!("the scratch directory is full: grants.scratch.{bound}_max");
            self.logger.say(Level::Warn, message, fields.to_string());
        }
        Err(io::Error::new(ErrorKind::StorageFull, format!("the scratch directory has no {bound} left")))
    }

    fn give_back(&self, bytes: u64, files: u32) {
        let mut used = locked(&self.used);
        used.bytes = used.bytes.saturating_sub(bytes);
        used.files = used.files.saturating_sub(files);
        self.counts.shrank(bytes);
    }
}

/// What stands under a name, or stood there and is still open: a file with its length, or a directory without any.
pub(super) struct Content {
    bytes: Mutex<u64>,
    quota: Arc<Quota>,
}

impl Content {
    /// Something new and empty.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`].
    pub(super) fn new(quota: &Arc<Quota>) -> io::Result<Arc<Self>> {
        quota.take(BLOCK_BYTES, 1)?;
        Ok(Arc::new(Self { bytes: Mutex::new(0), quota: quota.clone() }))
    }

    /// Makes `file`, which is this, so many bytes long. Blocks the thread. Holes count as what they may become.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`], and those of the system; the length is what it was.
    pub(super) fn set_length(&self, file: &File, bytes: u64) -> io::Result<()> {
        let mut length = locked(&self.bytes);
        let (before, after) = (blocks(*length), blocks(bytes));
        let more = after.saturating_sub(before);
        self.quota.take(more, 0)?;
        if let Err(error) = file.set_len(bytes) {
            self.quota.give_back(more, 0);
            return Err(error);
        }
        *length = bytes;
        self.quota.give_back(before.saturating_sub(after), 0);
        Ok(())
    }

    /// Writes all of `data` into `file`, which is this, from `at` on, or at its end. Blocks the thread. Answers where the
    /// last byte ends.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`]: nothing was written. Those of the system: a part may have been.
    pub(super) fn write(&self, file: &File, at: Option<u64>, data: &[u8]) -> io::Result<u64> {
        let mut length = locked(&self.bytes);
        let from = at.unwrap_or(*length);
        if data.is_empty() {
            return Ok(from);
        }
        let end = from.checked_add(data.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        let after = blocks(end.max(*length));
        self.quota.take(after.saturating_sub(blocks(*length)), 0)?;
        let mut next = from;
        let mut rest = data;
        let outcome = loop {
            match file.write_at(rest, next) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    next = next.saturating_add(written as u64);
                    rest = rest.get(written..).unwrap_or_default();
                    if rest.is_empty() {
                        break Ok(next);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if next > from {
            *length = (*length).max(next);
        }
        self.quota.give_back(after.saturating_sub(blocks(*length)), 0);
        outcome
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.quota.give_back(blocks(bytes).saturating_add(BLOCK_BYTES), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Metrics;
    use prometheus::Registry;

    fn quota(blocks: u64, files_max: u32) -> Arc<Quota> {
        let grant = Grant { bytes_max: blocks * BLOCK_BYTES, files_max };
        let counts = Metrics::new(&Registry::new()).unwrap().of("tester");
        Arc::new(Quota::new(&grant, counts, Arc::new(Logger::new(Box::new(drop), 1_024, 10))))
    }

    fn used(quota: &Quota) -> (u64, u32) {
        let used = locked(&quota.used);
        (used.bytes / BLOCK_BYTES, used.files)
    }

    fn full<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::StorageFull)
    }

    #[test]
    fn a_file_takes_whole_blocks_and_one_for_its_name() {
        let (quota, file) = (quota(4, 9), tempfile::tempfile().unwrap());
        let content = Content::new(&quota).unwrap();
        assert_eq!(used(&quota), (1, 1));
        assert_eq!(content.write(&file, Some(0), b"one").unwrap(), 3);
        assert_eq!(content.write(&file, None, b"two").unwrap(), 6);
        assert_eq!(used(&quota), (2, 1));
        content.set_length(&file, 2 * BLOCK_BYTES + 1).unwrap();
        assert_eq!(used(&quota), (4, 1));
        assert!(full(content.set_length(&file, 3 * BLOCK_BYTES + 1)));
        assert!(full(content.write(&file, None, &[0; 5_000])));
        assert_eq!(file.metadata().unwrap().len(), 2 * BLOCK_BYTES + 1, "what is refused changes nothing");
        content.set_length(&file, 0).unwrap();
        assert_eq!(used(&quota), (1, 1));
        drop(content);
        assert_eq!(used(&quota), (0, 0));
    }

    #[test]
    fn the_far_end_of_a_sparse_file_is_refused_and_so_is_what_no_file_can_hold() {
        let (quota, file) = (quota(4, 9), tempfile::tempfile().unwrap());
        let content = Content::new(&quota).unwrap();
        for length in [1 << 40, u64::MAX] {
            assert!(full(content.set_length(&file, length)), "{length}");
        }
        assert!(full(content.write(&file, Some(1 << 40), b"x")));
        assert!(full(content.write(&file, Some(u64::MAX - 1), b"x")));
        assert_eq!(content.write(&file, Some(u64::MAX), b"x").unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!((used(&quota), file.metadata().unwrap().len()), ((1, 1), 0));
    }

    #[test]
    fn there_are_no_more_files_than_granted_however_small() {
        let quota = quota(100, 2);
        let first = Content::new(&quota).unwrap();
        let _second = Content::new(&quota).unwrap();
        assert!(full(Content::new(&quota)));
        drop(first);
        let _third = Content::new(&quota).unwrap();
    }

    #[test]
    fn threads_that_write_at_once_share_one_quota() {
        const THREADS: u64 = 4;
        let quota = quota(40, 100);
        let contents: Vec<_> = (0..THREADS).map(|_| Content::new(&quota).unwrap()).collect();
        let written: u64 = std::thread::scope(|scope| {
            let write = |content: &Content| {
                let file = tempfile::tempfile().unwrap();
                let blocks =
                    (0..50).filter(|_| content.write(&file, None, &[1; 4_096]).is_ok()).count() as u64;
                assert_eq!(file.metadata().unwrap().len(), blocks * BLOCK_BYTES);
                blocks
            };
            let threads: Vec<_> =
                contents.iter().map(|content| scope.spawn(move || write(content))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((written, used(&quota)), (40 - THREADS, (40, 4)), "all of it, and no more");
        drop(contents);
        assert_eq!(used(&quota), (0, 0));
    }
}
