//! Scratch files: a directory for each instance of a job that its operator grants one, with a quota.
//!
//! A job sees it as [`GUEST_PATH`] through `wasi:filesystem`. It belongs to one instance: it is empty at the beginning,
//! nobody else sees it, and it is gone when the instance is, which a pause, a move to another host or a crash ends as
//! much as the end of the job. On the disk it lies below a directory of its process, which holds a lock as long as
//! the process lives: what a killed one left is removed by the next one that starts.
//!
//! * `quota` keeps to the bounds, whatever way a file grows.
//! * `filesystem` is `wasi:filesystem` as guests see it: where it writes, it asks `quota`.
//! * `stream` has the streams of scratch files.

mod filesystem;
mod quota;
mod stream;

use crate::log::Logger;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use quota::{BLOCK_BYTES, Content, Quota};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Where a job finds its scratch directory.
pub const GUEST_PATH: &str = "/scratch";

/// What an operator grants under `[plugins.<type>.grants.scratch]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Bytes that the files of one instance may take of the disk, in blocks of 4 KiB, one more for each file and
    /// directory. Default 64 MiB.
    pub bytes_max: u64,
    /// Files and directories that one instance may have at once. Default 1,000.
    pub files_max: u32,
}

impl Default for Grant {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, files_max: 1_000 }
    }
}

/// Most files that may be granted: the host remembers each, and removes it when the instance ends.
const FILES_MAX: u32 = 100_000;

impl Grant {
    /// # Errors
    /// A value is out of its bounds; the message begins with its key.
    pub fn check(&self) -> Result<(), String> {
        if self.bytes_max < BLOCK_BYTES {
            return Err(format!("bytes_max must be at least {BLOCK_BYTES}"));
        }
        if !(1..=FILES_MAX).contains(&self.files_max) {
            return Err(format!("files_max must be between 1 and {FILES_MAX}"));
        }
        Ok(())
    }
}

/// What job types do with their scratch directories.
pub(crate) struct Metrics {
    bytes: IntGaugeVec,
    refusals: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// The registry has them already.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let bytes = IntGaugeVec::new(
            Opts::new("waymark_scratch_bytes", "Bytes of the disk that scratch files take now."),
            &["type"],
        )?;
        let refusals = IntCounterVec::new(
            Opts::new(
                "waymark_scratch_refusals_total",
                "Times that a scratch directory was full, by what it had no more of: bytes or files.",
            ),
            &["type", "limit"],
        )?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(refusals.clone()))?;
        Ok(Self { bytes, refusals })
    }

    /// Those of a job type.
    fn of(&self, job_type: &str) -> Counts {
        let bytes = self.bytes.with_label_values(&[job_type]);
        Counts { job_type: job_type.to_owned(), bytes, refusals: self.refusals.clone() }
    }
}

struct Counts {
    job_type: String,
    bytes: IntGauge,
    refusals: IntCounterVec,
}

impl Counts {
    fn grew(&self, bytes: u64) {
        self.bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn shrank(&self, bytes: u64) {
        self.bytes.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn refused(&self, limit: &str) {
        self.refusals.with_label_values(&[self.job_type.as_str(), limit]).inc();
    }
}

/// What a job type may have, made ready.
pub(crate) struct Room {
    pub(crate) job_type: String,
    pub(crate) grant: Grant,
    pub(crate) place: Arc<Place>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The scratch directory of one instance.
pub(crate) struct Scratch {
    /// What stands under the names of the directory, by its identity.
    entries: HashMap<Identity, Arc<Content>>,
    /// Files that the guest has open, by their place in its table.
    open: HashMap<u32, Arc<Content>>,
    quota: Arc<Quota>,
    directory: Directory,
}

/// Tells files apart: what `metadata-hash` answers.
type Identity = (u64, u64);

impl Scratch {
    /// An empty one. Blocks the thread for the time of making a directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(room: &Room, logger: &Arc<Logger>) -> io::Result<Self> {
        let quota = Quota::new(&room.grant, room.metrics.of(&room.job_type), logger.clone());
        let directory = room.place.directory()?;
        Ok(Self { entries: HashMap::new(), open: HashMap::new(), quota: Arc::new(quota), directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory.path
    }
}

/// Where the scratch directories of all processes of a host lie, and that of this one.
pub(crate) struct Place {
    root: PathBuf,
    own: Mutex<Option<Own>>,
}

/// The directory of this process.
struct Own {
    path: PathBuf,
    /// Says that the process lives.
    _lock: File,
}

/// Numbers whatever this process names.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Held while somebody looks who lives, or begins to live.
const ROOT_LOCK: &str = "lock";
/// In the directory of each process.
const OWN_LOCK: &str = "lock";
/// How often a directory is tried to be removed: calls that were given up may still be making files in it.
const REMOVALS: u32 = 10;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

impl Place {
    /// Names the place, and removes what processes left there that live no more. What cannot be removed stays, and the
    /// log of the host says so.
    pub(crate) fn new(root: &Path) -> Self {
        if root.is_dir()
            && let Err(error) = sweep(root)
        {
            tracing::warn!(path = %root.display(), %error, "scratch files of an earlier process cannot be removed");
        }
        Self { root: root.to_owned(), own: Mutex::new(None) }
    }

    /// A new, empty directory.
    fn directory(self: &Arc<Self>) -> io::Result<Directory> {
        let mut slot = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match slot.take() {
            Some(own) => own,
            None => Own::new(&self.root)?,
        };
        let path = slot.insert(own).path.join(NEXT.fetch_add(1, Relaxed).to_string());
        drop(slot);
        private().create(&path)?;
        Ok(Directory { path, place: self.clone() })
    }
}

/// Directories that are this user's alone.
fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

fn lock(root: &Path) -> io::Result<File> {
    let lock = File::create(root.join(ROOT_LOCK))?;
    lock.lock()?;
    Ok(lock)
}

impl Own {
    fn new(root: &Path) -> io::Result<Self> {
        private().recursive(true).create(root)?;
        let _looking = lock(root)?;
        loop {
            // Processes in containers of their own may have the same number.
            let path = root.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
            match private().create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let lock = File::create(path.join(OWN_LOCK))?;
            lock.lock()?;
            return Ok(Self { path, _lock: lock });
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        remove(&self.path, &self.path);
    }
}

/// Removes the directories of processes that live no more.
fn sweep(root: &Path) -> io::Result<()> {
    let _looking = lock(root)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        let lives = match File::open(path.join(OWN_LOCK)) {
            Ok(lock) => lock.try_lock().is_err(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if !lives {
            clear(&path, &path)?;
            fs::remove_dir(&path)?;
        }
    }
    Ok(())
}

/// The directory of an instance. It is removed when this is dropped, on a thread that may block.
struct Directory {
    path: PathBuf,
    /// It lies in the directory of the process, which must live as long.
    place: Arc<Place>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        let (path, place) = (std::mem::take(&mut self.path), self.place.clone());
        let removal = move || {
            remove(&path, path.parent().unwrap_or(&path));
            drop(place);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(removal)),
            Err(_) => removal(),
        }
    }
}

/// Removes a directory with all below it. `beside` is on the same file system, and gone some day too.
fn remove(path: &Path, beside: &Path) {
    for attempt in 1..=REMOVALS {
        let Err(error) = clear(path, beside).and_then(|()| fs::remove_dir(path)) else { return };
        if error.kind() == ErrorKind::NotFound {
            return;
        }
        if attempt == REMOVALS {
            tracing::warn!(path = %path.display(), %error, "a scratch directory cannot be removed");
        } else {
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }
}

/// Removes all below a directory, however deep a guest nested it: no directory is opened below another one, but moved
/// out of it to `beside` first.
fn clear(path: &Path, beside: &Path) -> io::Result<()> {
    let mut directories = take_apart(path, beside)?;
    while let Some(directory) = directories.pop() {
        directories.extend(take_apart(&directory, beside)?);
        fs::remove_dir(&directory)?;
    }
    Ok(())
}

/// Removes the files of a directory. Answers where its directories are then: in `beside`.
fn take_apart(path: &Path, beside: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        } else if path == beside {
            directories.push(entry.path());
        } else {
            let aside = beside.join(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
            fs::rename(entry.path(), &aside)?;
            directories.push(aside);
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not() {
        let root = tempfile::tempdir().unwrap();
        let place = Arc::new(Place::new(root.path()));
        let living = place.directory().unwrap();
        fs::write(living.path.join("file"), "kept").unwrap();
        let killed = root.path().join("4711-0");
        fs::create_dir_all(killed.join("1/below")).unwrap();
        fs::write(killed.join("1/below/file"), "left").unwrap();
        // Nobody holds it any more.
        fs::write(killed.join(OWN_LOCK), "").unwrap();
        let next = Arc::new(Place::new(root.path()));
        assert!(!killed.exists());
        assert_eq!(fs::read_to_string(living.path.join("file")).unwrap(), "kept");
        assert_eq!(names(&next.directory().unwrap().path), 0);
        drop((living, place, next));
        let left: Vec<_> =
            fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [ROOT_LOCK], "an orderly end leaves nothing either");
    }

    #[test]
    fn a_tree_is_removed_however_deep_it_is() {
        const DEPTH: usize = 1_500;
        let root = tempfile::tempdir().unwrap();
        let place = Arc::new(Place::new(root.path()));
        let directory = place.directory().unwrap();
        let path = directory.path.clone();
        fs::create_dir_all(path.join("d/".repeat(DEPTH))).unwrap();
        fs::write(path.join("d/file"), "").unwrap();
        drop(directory);
        assert!(!path.exists());
        assert_eq!(names(path.parent().unwrap()), 1, "the lock");
    }

    #[test]
    fn bounds_that_make_no_sense_are_named() {
        Grant::default().check().unwrap();
        let bad = |bytes_max, files_max| Grant { bytes_max, files_max }.check().unwrap_err();
        assert!(bad(4_095, 1).starts_with("bytes_max"));
        assert!(bad(4_096, 0).starts_with("files_max"));
        assert!(bad(4_096, FILES_MAX + 1).starts_with("files_max"));
    }
}
