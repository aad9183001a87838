//! A store, a folder, and the hosts that share them.

use crate::{guest, host::Host, redis::Redis};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::{
    cell::Cell,
    env,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};
use tempfile::TempDir;

/// Partitions in a shared store.
const SHARED_PARTITIONS: u16 = 4;

/// Tests that measure time run alone; the others beside each other. Whoever comes while one waits to run alone comes after it:
/// otherwise those that wait would take the threads from those that could run.
static TURN: RwLock<()> = RwLock::new(());

thread_local! {
    /// Worlds of this thread's test.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    fn shared() -> Self {
        let worlds = HELD.get();
        HELD.set(worlds + 1);
        // The second world of a test does not wait for somebody who waits for the first.
        let guard = if worlds > 0 { TURN.read_recursive() } else { TURN.read() };
        Self::Shared { _guard: guard }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if matches!(self, Self::Shared { .. }) {
            HELD.set(HELD.get() - 1);
        }
    }
}

/// A part of a shared store that no other test uses.
fn shared(url: &str) -> String {
    static WORLDS: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}-{}-", process::id(), WORLDS.fetch_add(1, Relaxed));
    format!("url = {url:?}\nprefix = {prefix:?}\npartitions = {SHARED_PARTITIONS}")
}

/// A store, a folder, and the hosts that share them. Declare it before its hosts, so that it is dropped after them.
pub struct World {
    /// The store, unless the hosts were given another address.
    pub redis: Redis,
    folder: TempDir,
    config: String,
    /// What hosts are told about the store.
    store: Option<String>,
    _turn: Turn,
}

impl World {
    /// A world for a test that may run beside another one. `config` is the text of `waymark.toml`, without the
    /// addresses, which [`World::host`] adds.
    #[must_use]
    pub fn new(config: &str) -> Self {
        Self::with(config, Turn::shared())
    }

    /// A world for a test that must have the machine for itself.
    #[must_use]
    pub fn alone(config: &str) -> Self {
        Self::with(config, Turn::Alone { _guard: TURN.write() })
    }

    fn with(config: &str, turn: Turn) -> Self {
        Self {
            redis: Redis::start(),
            folder: TempDir::new().expect("a folder"),
            config: config.to_owned(),
            store: env::var("WAYMARK_TEST_STORE").ok().map(|url| shared(&url)),
            _turn: turn,
        }
    }

    /// Hosts use this store instead of [`World::redis`].
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        self.store = Some(format!("url = {url:?}"));
        self
    }

    /// Starts a host that has these plugins, and waits until it is ready and has loaded them. Every host has its own
    /// plugin directory and its own data.
    #[must_use]
    #[track_caller]
    pub fn host(&self, plugins: &[&str]) -> Host {
        let mut host = self.empty_host();
        for name in plugins {
            guest::copy(name, &host.plugins);
            host.warm(name);
        }
        host.start();
        host.wait_for_plugins(plugins);
        for name in plugins {
            host.share(name);
        }
        host
    }

    /// A host that is not started yet, with an empty plugin directory.
    #[must_use]
    pub fn empty_host(&self) -> Host {
        let folder = TempDir::new_in(self.folder.path()).expect("a folder");
        let own = format!("url = {:?}", self.redis.url());
        Host::new(folder, &self.config, self.store.as_deref().unwrap_or(&own))
    }

    /// A folder that lives as long as the world.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}
