//! A store, a folder, and the hosts that share them.

use crate::{guest, host::Host, redis::Redis};
use std::{
    path::PathBuf,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tempfile::TempDir;

/// Tests that measure, or that load the machine, run alone; the others beside each other.
static TURN: RwLock<()> = RwLock::new(());

enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A store, a folder, and the hosts that share them. Declare it before its hosts, so that it is dropped after them.
pub struct World {
    /// The store, unless the hosts were given another address.
    pub redis: Redis,
    folder: TempDir,
    config: String,
    url: Option<String>,
    _turn: Turn,
}

impl World {
    /// A world for a test that may run beside another one. `config` is the text of `waymark.toml`, without the
    /// addresses, which [`World::host`] adds.
    #[must_use]
    pub fn new(config: &str) -> Self {
        let guard = TURN.read().unwrap_or_else(PoisonError::into_inner);
        Self::with(config, Turn::Shared { _guard: guard })
    }

    /// A world for a test that must have the machine for itself.
    #[must_use]
    pub fn alone(config: &str) -> Self {
        let guard = TURN.write().unwrap_or_else(PoisonError::into_inner);
        Self::with(config, Turn::Alone { _guard: guard })
    }

    fn with(config: &str, turn: Turn) -> Self {
        Self {
            redis: Redis::start(),
            folder: TempDir::new().expect("a folder"),
            config: config.to_owned(),
            url: None,
            _turn: turn,
        }
    }

    /// Hosts use this store instead of [`World::redis`].
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
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
        }
        host.start();
        host.wait_for_plugins(plugins);
        host
    }

    /// A host that is not started yet, with an empty plugin directory.
    #[must_use]
    pub fn empty_host(&self) -> Host {
        let folder = TempDir::new_in(self.folder.path()).expect("a folder");
        Host::new(folder, &self.config, self.url.as_deref().unwrap_or(&self.redis.url()))
    }

    /// A folder that lives as long as the world.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}
