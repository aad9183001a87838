//! Plugins that were uploaded to one host come to all of them.
//!
//! An upload is first put into service where it arrived: one that is refused there goes nowhere. Then the file lies in
//! the store, and every host looks there every two seconds, and takes what is newer than what it took last, with the
//! checks of any other file of its directory. Files that somebody put into a directory stay that host's own.

use crate::{
    config::Config,
    directory::{self, Upload},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use waymark_store::{NewPlugin, SharedPlugin, Store};

/// How often a host looks for what others were given.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    store: Store,
    directory: directory::Handle,
    bytes_max: u64,
    /// Number of the entry that was taken last, by job type; also in a file, so that a host that starts again does
    /// not undo what somebody put into its directory since.
    taken: Arc<Mutex<BTreeMap<String, u64>>>,
    file: Arc<PathBuf>,
}

impl Handle {
    /// Nothing is looked for yet.
    #[must_use]
    pub fn new(store: Store, directory: directory::Handle, config: &Config) -> Self {
        let file = config.data.join("shared-plugins.json");
        let taken = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            store,
            directory,
            bytes_max: config.api.upload_bytes_max as u64,
            taken: Arc::new(Mutex::new(taken.unwrap_or_default())),
            file: Arc::new(file),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: &str, number: u64) {
        let mut taken = self.lock();
        taken.insert(name.to_owned(), number);
        if let Ok(text) = serde_json::to_vec(&*taken)
            && let Err(error) = std::fs::write(&*self.file, text)
        {
            tracing::warn!(%error, "the list of shared plugins cannot be kept");
        }
    }

    /// Lets all hosts have what is in service here.
    ///
    /// # Errors
    /// The store does not answer or has no room. The plugin is in service on this host alone then.
    pub async fn share(&self, new: NewPlugin<'_>) -> Result<(), waymark_store::Error> {
        let number = self.store.share_plugin(new).await?;
        self.take(new.name, number);
        Ok(())
    }

    /// Takes a type back from all hosts that had it from here. Nothing happens where it was never shared.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn withdraw(&self, name: &str) -> Result<bool, waymark_store::Error> {
        let shared = self.store.shared_plugins().await?;
        if !shared.iter().any(|plugin| plugin.name == name && plugin.digest.is_some()) {
            return Ok(false);
        }
        let number = self.store.withdraw_plugin(name).await?;
        self.take(name, number);
        Ok(true)
    }

    /// Looks for what others were given, for ever.
    pub async fn run(self) {
        loop {
            match self.store.shared_plugins().await {
                Ok(shared) => {
                    for plugin in shared {
                        let last = self.lock().get(&plugin.name).copied();
                        if last.is_none_or(|last| last < plugin.number) {
                            self.follow(&plugin, last.is_none()).await;
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "shared plugins cannot be looked for"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes one newer entry. `first`: this host never took any of the type; what its directory holds may be newer.
    async fn follow(&self, plugin: &SharedPlugin, first: bool) {
        let SharedPlugin { name, number, digest, forced, signature, .. } = plugin;
        let Some(digest) = digest else {
            if !first && let Err(error) = self.directory.remove(name).await {
                tracing::warn!(plugin = name, %error, "a plugin that was taken back cannot be removed");
                return;
            }
            return self.take(name, *number);
        };
        let here = self.directory.get(name).and_then(|status| status.digest);
        if here.as_ref() == Some(digest) {
            return self.take(name, *number);
        }
        let file = match self.store.shared_plugin(digest, self.bytes_max).await {
            Ok(Some(file)) if hex::encode(Sha256::digest(&file)) == *digest => file,
            // It is being replaced: the next look finds the newer one.
            Ok(_) => {
                return tracing::warn!(
                    plugin = name,
                    digest,
                    "a shared plugin is not whole; it is looked for again"
                );
            }
            Err(error) => {
                return tracing::warn!(plugin = name, digest, %error, "a shared plugin cannot be read");
            }
        };
        let upload =
            Upload { name, bytes: &file, signature: signature.as_deref(), forced: *forced && !first };
        match self.directory.upload(upload).await {
            Ok(status) => {
                tracing::info!(plugin = name, digest, version = status.version, "shared plugin taken")
            }
            Err(error) => {
                tracing::warn!(
                    plugin = name,
                    digest,
                    code = error.code,
                    error = error.message,
                    "shared plugin refused"
                );
                self.directory.tell_refused(name, error);
            }
        }
        self.take(name, *number);
    }
}
