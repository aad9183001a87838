//! The whole system under test: the released binary, real Redis servers, real plugins.
//!
//! * [`World`]: a store and a folder; starts hosts that share them.
//! * [`host::Host`]: a host in a process group of its own, which can be killed, frozen, woken and drained.
//! * [`client::Client`]: the HTTP API, as a caller meets it.
//! * [`postgres::Postgres`]: a real server on a free port.
//! * [`redis::Redis`]: a real server on a free port, which can be killed and started again with its data.
//! * [`cluster::Cluster`]: real servers that form a Cluster.
//! * [`registry::Registry`]: a real registry of containers on a free port.
//! * [`endpoint::Endpoint`]: a scripted HTTP server that counts.
//! * [`model::Model`]: a language model for such a server.
//! * [`guest`]: where plugins come from.
//!
//! The harness panics where something is not as it should be: a test fails at the line that asked, and a host that
//! is dropped while a test fails prints the end of its log. Everything that was started is stopped when it is
//! dropped, by its process id.
//!
//! `WAYMARK_TEST_STORE` names a store that all hosts use instead of a server of each test; every test has a part of its own
//! there, in several partitions.
//!
//! Before: `cargo build --profile quick --workspace --bins` and `cargo xtask guests`; `cargo xtask test` does both. In the
//! environment `WAYMARK_BIN` names another binary, `WAYMARK_TARGET` another folder that was built into.

pub mod client;
pub mod cluster;
pub mod endpoint;
pub mod guest;
pub mod host;
pub mod model;
pub mod postgres;
pub mod redis;
pub mod registry;
mod world;

pub use world::World;

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest wait for anything that should happen. The machine may be busy; nothing that works takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at something that tells nobody when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The workspace's folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The folder that the product was built into.
#[must_use]
pub fn target() -> PathBuf {
    let named = env::var_os("WAYMARK_TARGET").or_else(|| env::var_os("CARGO_TARGET_DIR"));
    named.map_or_else(|| root().join("target"), PathBuf::from)
}

/// The binary under test.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn binary() -> PathBuf {
    // Beside the test programs, which are in `target/PROFILE/deps`.
    let built = || {
        let program = env::current_exe().expect("this program has a path");
        program.ancestors().nth(2).expect("it is in the target directory").join("waymark")
    };
    let path = env::var_os("WAYMARK_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: cargo build --profile quick --workspace --bins",
        path.display()
    );
    path
}

/// Looks until there is an answer.
///
/// # Panics
/// There is none within `within`; the message says `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let from = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(from.elapsed() < within, "waited {within:?} for this: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs `work` for every item, on so many threads at once; answers in the order of the items.
///
/// # Panics
/// One of them panicked.
pub fn at_once<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let answers = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let answer = work(item);
                    answers.lock().expect("no thread panicked").push((index, answer));
                }
            });
        }
    });
    let mut answers = answers.into_inner().expect("no thread panicked");
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
