//! The plugin directory: a `.wasm` file in a folder is a job type.
//!
//! A changed file is read once, compiled in a child process, checked against its grants and published, all or
//! nothing: a bad file never disturbs the version that runs, and its error is shown by every interface. Older
//! versions stay loadable by digest, for the jobs that began with them. Removing the file retires the type.
//!
//! The folder is watched, and read again every second besides: file systems that send no events are common.

use crate::{
    config::Config,
    metrics::Metrics,
    signature,
    swap::{self, Swap},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use waymark_sandbox as sandbox;
use waymark_store::Store;

/// How often the folder is read whatever the watcher says.
const RESCAN: Duration = Duration::from_secs(1);
/// Versions kept per type.
const VERSIONS_MAX: usize = 8;
/// Plugins compiled at once: one that takes long must not hold up the others.
const COMPILERS: usize = 4;
/// Longest time for which plugins that are being compiled keep a host unready.
const FIRST_SCAN_MAX: Duration = Duration::from_secs(20);

/// A reason why a plugin is not in service.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Stable code, such as `not-a-component` or `import-not-granted`.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Error {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// One version of a plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    /// SHA-256 of the file, hexadecimal.
    pub digest: String,
    /// The version that the plugin says.
    pub version: String,
    /// When this host loaded it.
    #[serde(with = "time::serde::rfc3339")]
    pub loaded_at: OffsetDateTime,
    /// New jobs start with this one.
    pub active: bool,
    /// An operator went back from it: it is active again when it is uploaded again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// What became of the jobs of the version before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
}

/// A capability that a plugin imports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Capability {
    /// Name of the import.
    pub import: String,
    /// `granted`, or `optional, not granted`: then its calls fail.
    pub state: String,
    /// The line of configuration that would grant it, where it is not granted.
    pub grant: Option<String>,
}

/// What is known of a plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Name of the job type; for a file that failed to load, its file name without the ending.
    pub name: String,
    /// File name below the plugin directory.
    pub file: String,
    /// `loaded`, `failed`, `retired` or `quarantined`.
    pub state: String,
    /// SHA-256 of the active version.
    pub digest: Option<String>,
    /// The version that the plugin says.
    pub version: Option<String>,
    /// What the plugin says of itself.
    pub description: Option<String>,
    /// JSON Schema of the input.
    pub input_schema: Option<serde_json::Value>,
    /// JSON Schema of the result.
    pub result_schema: Option<serde_json::Value>,
    /// What the plugin imports.
    pub imports: Vec<String>,
    /// Which of that are capabilities, and whether they are granted.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Size of the file.
    pub bytes: u64,
    /// When this host loaded it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub loaded_at: Option<OffsetDateTime>,
    /// Why the newest file is not in service.
    pub error: Option<Error>,
    /// Versions that jobs may still need, newest last.
    pub versions: Vec<Version>,
}

impl PluginStatus {
    /// One that is not in service: nothing else is known of it.
    fn absent(name: String, file: String, state: &str, bytes: u64) -> Self {
        Self {
            name,
            file,
            state: state.into(),
            digest: None,
            version: None,
            description: None,
            input_schema: None,
            result_schema: None,
            imports: Vec::new(),
            capabilities: Vec::new(),
            bytes,
            loaded_at: None,
            error: None,
            versions: Vec::new(),
        }
    }
}

/// Does an input fit?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It fits.
    Valid,
    /// This host does not have the type.
    Unknown,
    /// It does not fit: one line per violation, each beginning with a JSON Pointer.
    Invalid(Vec<String>),
}

/// A plugin that somebody brings.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Job type; must be the name that the plugin says.
    pub name: &'a str,
    /// The file.
    pub bytes: &'a [u8],
    /// Detached signature, in Base64.
    pub signature: Option<&'a str>,
    /// It may replace a newer version.
    pub forced: bool,
}

/// A version that workers shall hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Job type.
    pub name: String,
    /// SHA-256 of the file.
    pub digest: String,
    /// New jobs start with it.
    pub active: bool,
    /// An operator went back from it: its jobs move to the active version or pause.
    pub withdrawn: bool,
}

/// A request to go back to the version before.
type Back = (String, oneshot::Sender<Result<PluginStatus, Error>>);

struct Type {
    status: PluginStatus,
    validator: Option<Arc<jsonschema::Validator>>,
}

#[derive(Default)]
struct Shared {
    types: BTreeMap<String, Type>,
    /// Files that failed, by file name.
    failed: BTreeMap<String, PluginStatus>,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Mutex<Shared>>,
    rescan: mpsc::Sender<()>,
    backs: mpsc::Sender<Back>,
    loads: watch::Receiver<Vec<Load>>,
    loads_sender: Arc<watch::Sender<Vec<Load>>>,
    scanned: watch::Receiver<bool>,
    directory: Arc<PathBuf>,
    versions_file: Arc<PathBuf>,
    config: Arc<Config>,
    executable: Arc<PathBuf>,
    places: Arc<Semaphore>,
}

/// How to tell that a file changed: modification time and size, bytes; and when its signature was modified.
type Stamp = (SystemTime, u64, Option<SystemTime>);

/// A file that was read and compiled, or could not be.
struct Compiled {
    file: String,
    stamp: Stamp,
    outcome: Result<sandbox::Compiled, Error>,
    swap: Option<Swap>,
}

struct Service {
    handle: Handle,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    store: Store,
    engine: sandbox::Engine,
    /// What was last read of each file, and the type it gave.
    seen: HashMap<String, (Stamp, Option<String>)>,
    /// Files that are being compiled. One that changes meanwhile is compiled once more afterwards.
    compiling: JoinSet<Compiled>,
    busy: HashSet<String>,
    published: mpsc::UnboundedSender<(String, String)>,
}

/// Starts watching. The receiver tells of each type that came into service: its name and its descriptor as JSON.
///
/// # Errors
/// The directory cannot be made or the engine cannot be started.
pub async fn start(
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    executable: PathBuf,
    store: Store,
) -> anyhow::Result<(Handle, mpsc::UnboundedReceiver<(String, String)>)> {
    std::fs::create_dir_all(&config.plugins_dir)?;
    std::fs::create_dir_all(config.cache_dir())?;
    let (rescan, mut rescans) = mpsc::channel(1);
    let (backs, mut backs_asked) = mpsc::channel::<Back>(1);
    let (loads_sender, loads) = watch::channel(Vec::new());
    let (published, publications) = mpsc::unbounded_channel();
    let (scanned_sender, scanned) = watch::channel(false);
    let handle = Handle {
        shared: Arc::default(),
        rescan: rescan.clone(),
        backs,
        loads,
        loads_sender: Arc::new(loads_sender),
        scanned,
        directory: Arc::new(config.plugins_dir.clone()),
        versions_file: Arc::new(config.cache_dir().join("versions.json")),
        config: config.clone(),
        executable: Arc::new(executable),
        places: Arc::new(Semaphore::new(COMPILERS)),
    };
    let engine = sandbox::Engine::new(&sandbox::EngineOptions {
        memory_budget_bytes: 1 << 30,
        instances_max: 1,
        pooling: false,
    })?;
    let mut service = Service {
        handle: handle.clone(),
        config,
        metrics,
        store,
        engine,
        seen: HashMap::new(),
        compiling: JoinSet::new(),
        busy: HashSet::new(),
        published,
    };
    service.recall();
    let watcher = watch_directory(&service.handle.directory, rescan);
    crate::task::spawn(async move {
        // The watcher stops when it is dropped.
        let _watcher = watcher;
        let began = Instant::now();
        service.scan();
        let mut first = service.busy.clone();
        loop {
            if !*scanned_sender.borrow() && (first.is_empty() || began.elapsed() >= FIRST_SCAN_MAX) {
                scanned_sender.send_replace(true);
            }
            tokio::select! {
                // Either way it is time to look.
                _ = tokio::time::timeout(RESCAN, rescans.recv()) => service.scan(),
                Some((name, reply)) = backs_asked.recv() => {
                    // Whoever asked may have gone.
                    let _ = reply.send(service.go_back(&name));
                }
                Some(compiled) = service.compiling.join_next() => match compiled {
                    Ok(compiled) => {
                        first.remove(&compiled.file);
                        service.take_up(compiled);
                    }
                    Err(error) => {
                        tracing::error!(%error, "a plugin could not be loaded; the folder is read again");
                        service.busy.clear();
                    }
                },
            }
        }
    });
    Ok((handle, publications))
}

fn watch_directory(directory: &Path, rescan: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    use notify::Watcher;
    let sender = move |event: notify::Result<notify::Event>| {
        // Reading the folder is an event too: answering it with another reading would never end.
        if event.is_ok_and(|event| matches!(event.kind, notify::EventKind::Access(_))) {
            return;
        }
        // Full means that a scan is due anyway.
        let _ = rescan.try_send(());
    };
    let started = notify::recommended_watcher(sender).and_then(|mut watcher| {
        watcher.watch(directory, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match started {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the plugin directory cannot be watched; it is read every second instead");
            None
        }
    }
}

impl Service {
    /// Versions of earlier runs of this host, which paused jobs may still need.
    fn recall(&mut self) {
        let Ok(text) = std::fs::read(&*self.handle.versions_file) else { return };
        let Ok(known) = serde_json::from_slice::<BTreeMap<String, Vec<Version>>>(&text) else { return };
        let mut shared = self.handle.lock();
        for (name, versions) in known {
            let mut versions: Vec<_> = versions
                .into_iter()
                .filter(|version| self.engine.is_cached(&self.config.cache_dir(), &version.digest))
                .collect();
            versions.iter_mut().for_each(|version| version.active = false);
            let absent = PluginStatus::absent(name.clone(), String::new(), "retired", 0);
            let status = PluginStatus { versions, ..absent };
            if !status.versions.is_empty() {
                shared.types.insert(name, Type { status, validator: None });
            }
        }
    }

    /// Reads the folder: retires what is gone, and begins to compile what is new.
    fn scan(&mut self) {
        let mut present = HashMap::new();
        let entries = match std::fs::read_dir(&*self.handle.directory) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "the plugin directory cannot be read");
                return;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // A link is followed: mounted configuration is made of links.
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if name.starts_with('.') || !metadata.is_file() {
                continue;
            }
            if name.ends_with(".wasm") || name.ends_with(".cwasm") {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let signature = std::fs::metadata(signature::beside(&entry.path()));
                let signed = signature.and_then(|metadata| metadata.modified()).ok();
                present.insert(name, (modified, metadata.len(), signed));
            }
        }
        let gone: Vec<_> = self.seen.keys().filter(|name| !present.contains_key(*name)).cloned().collect();
        for file in gone {
            if let Some((_, Some(job_type))) = self.seen.remove(&file) {
                self.retire(&job_type, &file);
            }
            self.handle.lock().failed.remove(&file);
        }
        let mut changed: Vec<_> = present
            .into_iter()
            .filter(|(name, _)| !self.busy.contains(name))
            .filter(|(name, stamp)| self.seen.get(name).is_none_or(|(seen, _)| seen != stamp))
            .collect();
        changed.sort();
        for (file, stamp) in changed {
            self.busy.insert(file.clone());
            let (handle, store) = (self.handle.clone(), self.store.clone());
            self.compiling.spawn(async move {
                let path = handle.directory.join(&file);
                let outcome = match signature::read_beside(&path) {
                    Ok(signature) => handle.compile(&path, stamp.1, signature.as_deref()).await,
                    Err(error) => Err(Error::new("bad-signature", error.to_string())),
                };
                let mut swap = None;
                if let Ok(compiled) = &outcome {
                    let (name, digest) = (&compiled.descriptor.name, &compiled.digest);
                    let before = handle.get(name).filter(|known| known.state != "failed");
                    if let Some(from) = before.and_then(|known| known.digest).filter(|from| from != digest) {
                        let (config, executable) = (&handle.config, &handle.executable);
                        swap = Some(swap::report(config, executable, &store, name, digest, &from).await);
                    }
                }
                Compiled { file, stamp, outcome, swap }
            });
        }
    }

    /// Puts a compiled plugin into service, or says why it is not.
    fn take_up(&mut self, compiled: Compiled) {
        let Compiled { file, stamp, outcome, swap } = compiled;
        self.busy.remove(&file);
        let before = self.seen.get(&file).and_then(|(_, job_type)| job_type.clone());
        let job_type = match outcome.and_then(|compiled| self.put_in_service(&file, stamp.1, &compiled, swap))
        {
            Ok(job_type) => {
                self.metrics.plugin_loads.with_label_values(&["loaded"]).inc();
                self.handle.lock().failed.remove(&file);
                if let Some(before) = before.filter(|before| *before != job_type) {
                    self.retire(&before, &file);
                }
                Some(job_type)
            }
            Err(error) => {
                self.metrics.plugin_loads.with_label_values(&["refused"]).inc();
                tracing::warn!(file, code = error.code, error = error.message, "plugin refused");
                self.refuse(&file, stamp.1, error, before.as_deref());
                before
            }
        };
        self.seen.insert(file, (stamp, job_type));
        self.handle.publish();
    }

    fn put_in_service(
        &self,
        file: &str,
        size: u64,
        compiled: &sandbox::Compiled,
        swap: Option<Swap>,
    ) -> Result<String, Error> {
        let cache = self.config.cache_dir();
        let descriptor = &compiled.descriptor;
        let name = descriptor.name.clone();
        {
            let shared = self.handle.lock();
            if let Some(other) = shared.types.get(&name) {
                let status = &other.status;
                if status.state != "retired"
                    && status.file != file
                    && self.handle.directory.join(&status.file).is_file()
                {
                    return Err(Error::new(
                        "duplicate-type",
                        format!(
                            "job type {name:?} is already given by the file {:?}: remove one of the two",
                            status.file
                        ),
                    ));
                }
            }
        }
        let grants = self.config.policy(&name).grants;
        self.engine
            .load(&cache, &compiled.digest, limits(&self.config, &name), grants.clone())
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        let schema = |text: &str, what: &str| {
            serde_json::from_str::<serde_json::Value>(text).map_err(|error| {
                Error::new("bad-descriptor", format!("the {what} schema is not JSON: {error}"))
            })
        };
        let input_schema = schema(&descriptor.input_schema, "input")?;
        let result_schema = schema(&descriptor.result_schema, "result")?;
        let validator = jsonschema::validator_for(&input_schema).map_err(|error| {
            Error::new("bad-descriptor", format!("the input schema is not a JSON Schema: {error}"))
        })?;
        let now = OffsetDateTime::now_utc();
        let mut shared = self.handle.lock();
        let mut versions =
            shared.types.get(&name).map(|known| known.status.versions.clone()).unwrap_or_default();
        let known = versions.iter().find(|version| version.digest == compiled.digest);
        let withdrawn = known.is_some_and(|version| version.withdrawn);
        let swap = swap.or_else(|| known.and_then(|version| version.swap.clone()));
        versions.retain(|version| version.digest != compiled.digest);
        versions.iter_mut().for_each(|version| version.active = false);
        versions.push(Version {
            digest: compiled.digest.clone(),
            version: descriptor.version.clone(),
            loaded_at: now,
            active: true,
            withdrawn,
            swap,
        });
        if versions.len() > VERSIONS_MAX {
            versions.drain(..versions.len() - VERSIONS_MAX);
        }
        let status = PluginStatus {
            name: name.clone(),
            file: file.to_owned(),
            state: "loaded".into(),
            digest: Some(compiled.digest.clone()),
            version: Some(descriptor.version.clone()),
            description: Some(descriptor.description.clone()),
            input_schema: Some(input_schema),
            result_schema: Some(result_schema),
            imports: compiled.imports.clone(),
            capabilities: capabilities(descriptor, &compiled.imports, &grants),
            bytes: size,
            loaded_at: Some(now),
            error: None,
            versions,
        };
        tracing::info!(
            plugin = name,
            file,
            version = descriptor.version,
            digest = compiled.digest,
            "plugin loaded"
        );
        let published = serde_json::json!({
            "name": name, "version": descriptor.version, "description": descriptor.description,
            "digest": compiled.digest, "input_schema": status.input_schema, "result_schema": status.result_schema,
        });
        shared.types.insert(name.clone(), Type { status, validator: Some(Arc::new(validator)) });
        drop(shared);
        // Nobody listens only while the host stops.
        let _ = self.published.send((name.clone(), published.to_string()));
        if withdrawn && let Err(error) = self.go_back(&name) {
            tracing::warn!(
                plugin = name,
                error = error.message,
                "the version before a withdrawn one is gone"
            );
        }
        Ok(name)
    }

    /// Makes the version before the active one active again, and withdraws the active one.
    fn go_back(&self, name: &str) -> Result<PluginStatus, Error> {
        let none = |why: String| Error::new("no-version-before", why);
        let (active, before) = {
            let shared = self.handle.lock();
            let known = shared.types.get(name).filter(|known| known.status.state != "retired");
            let known = known.ok_or_else(|| none(format!("this host has no plugin {name:?}")))?;
            let versions = &known.status.versions;
            let at = versions.iter().position(|version| version.active).unwrap_or(versions.len());
            let before = versions[..at].iter().rev().find(|version| !version.withdrawn);
            let before = before.ok_or_else(|| {
                none(format!("this host holds no version of {name:?} from before the active one"))
            })?;
            (versions.get(at).map(|version| version.digest.clone()), before.clone())
        };
        let grants = self.config.policy(name).grants;
        let plugin = self
            .engine
            .load(&self.config.cache_dir(), &before.digest, limits(&self.config, name), grants)
            .map_err(|error| Error::new(error.code(), error.to_string()))?;
        let descriptor = plugin.descriptor();
        let schema = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let input_schema = schema(&descriptor.input_schema);
        // It was good when the version came into service.
        let validator = input_schema.as_ref().and_then(|schema| jsonschema::validator_for(schema).ok());
        let mut shared = self.handle.lock();
        let Some(known) = shared.types.get_mut(name) else {
            return Err(none(format!("this host has no plugin {name:?}")));
        };
        for version in &mut known.status.versions {
            version.active = version.digest == before.digest;
            version.withdrawn |= Some(&version.digest) == active.as_ref();
        }
        known.status.state = "loaded".into();
        known.status.error = None;
        known.status.digest = Some(before.digest.clone());
        known.status.version = Some(before.version.clone());
        known.status.description = Some(descriptor.description.clone());
        known.status.result_schema = schema(&descriptor.result_schema);
        known.status.input_schema = input_schema;
        known.validator = validator.map(Arc::new);
        let status = known.status.clone();
        drop(shared);
        tracing::warn!(plugin = name, digest = before.digest, "an operator went back to the version before");
        self.handle.publish();
        Ok(status)
    }

    fn refuse(&self, file: &str, size: u64, error: Error, before: Option<&str>) {
        let mut shared = self.handle.lock();
        if let Some(known) = before.and_then(|name| shared.types.get_mut(name)) {
            // The version before stays in service; its entry says why the newer file is not.
            known.status.error = Some(error.clone());
        }
        let name =
            Path::new(file).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let status = PluginStatus {
            error: Some(error),
            ..PluginStatus::absent(name, file.to_owned(), "failed", size)
        };
        shared.failed.insert(file.to_owned(), status);
    }

    fn retire(&mut self, job_type: &str, file: &str) {
        let mut shared = self.handle.lock();
        // Another file may have been refused because of this one: it gets its chance.
        let refused = |file: &str| {
            let failed = shared.failed.get(file).and_then(|status| status.error.as_ref());
            failed.is_some_and(|error| error.code == "duplicate-type")
        };
        self.seen.retain(|file, _| !refused(file));
        if let Some(known) = shared.types.get_mut(job_type).filter(|known| known.status.file == file) {
            known.status.state = "retired".into();
            known.status.versions.iter_mut().for_each(|version| version.active = false);
            tracing::info!(plugin = job_type, file, "plugin retired");
        }
        drop(shared);
        self.handle.publish();
    }
}

impl Handle {
    async fn compile(
        &self,
        path: &Path,
        size: u64,
        signature: Option<&str>,
    ) -> Result<sandbox::Compiled, Error> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await.ok();
        compile(&self.config, &self.executable, path, size, signature).await
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let shared = self.lock();
        let mut loads = Vec::new();
        let mut versions = BTreeMap::new();
        for (name, known) in &shared.types {
            versions.insert(name.clone(), known.status.versions.clone());
            loads.extend(known.status.versions.iter().map(|version| Load {
                name: name.clone(),
                digest: version.digest.clone(),
                active: version.active && known.status.state == "loaded",
                withdrawn: version.withdrawn,
            }));
        }
        drop(shared);
        if let Ok(text) = serde_json::to_vec_pretty(&versions)
            && let Err(error) = std::fs::write(&*self.versions_file, text)
        {
            tracing::warn!(%error, "the list of plugin versions cannot be kept");
        }
        self.loads_sender.send_if_modified(|before| {
            let modified = *before != loads;
            *before = loads;
            modified
        });
    }

    /// What workers shall hold; changes as plugins come and go.
    #[must_use]
    pub fn loads(&self) -> watch::Receiver<Vec<Load>> {
        self.loads.clone()
    }

    /// Every file that was there at the start has been read, or takes very long.
    #[must_use]
    pub fn is_scanned(&self) -> bool {
        *self.scanned.borrow()
    }

    /// All plugins, failed files included, by name.
    #[must_use]
    pub fn list(&self) -> Vec<PluginStatus> {
        let shared = self.lock();
        let mut all: Vec<_> = shared.types.values().map(|known| known.status.clone()).collect();
        all.extend(shared.failed.values().cloned());
        all.sort_by(|left, right| (&left.name, &left.file).cmp(&(&right.name, &right.file)));
        all
    }

    /// One plugin by its job type, or by its file name's stem if the file failed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<PluginStatus> {
        let shared = self.lock();
        let known = shared.types.get(name).map(|known| known.status.clone());
        known.or_else(|| shared.failed.values().find(|status| status.name == name).cloned())
    }

    /// Does `input` fit the type's schema?
    #[must_use]
    pub fn validate(&self, name: &str, input: &serde_json::Value) -> Validation {
        let validator = {
            let shared = self.lock();
            match shared.types.get(name) {
                Some(Type { status, validator: Some(validator) }) if status.state != "retired" => {
                    validator.clone()
                }
                _ => return Validation::Unknown,
            }
        };
        let violations: Vec<_> = validator
            .iter_errors(input)
            .take(20)
            .map(|error| {
                let at = error.instance_path().to_string();
                format!("{}: {error}", if at.is_empty() { "/" } else { &at })
            })
            .collect();
        if violations.is_empty() { Validation::Valid } else { Validation::Invalid(violations) }
    }

    /// Writes an uploaded plugin into the directory, and waits until it is in service or refused. A refused file
    /// is removed again and the version before it stays.
    ///
    /// # Errors
    /// The name is malformed, the file cannot be written, or the plugin is refused; `downgrade` where it is older than
    /// the version in service, and not forced.
    pub async fn upload(&self, upload: Upload<'_>) -> Result<PluginStatus, Error> {
        let Upload { name, bytes, signature, forced } = upload;
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if !fits {
            return Err(Error::new("bad-name", "a job type is named with 1 to 64 of a-z, 0-9, '_' and '-'"));
        }
        // Asked first: a file that is in service already must not lose its signature either.
        let admitted = self.config.plugins_policy.admit(bytes, signature);
        admitted.map_err(|(code, message)| Error::new(code, message))?;
        let digest = hex::encode(Sha256::digest(bytes));
        self.trust(name, &digest);
        let file = self.get(name).map(|status| status.file).filter(|file| !file.is_empty());
        let file = file.unwrap_or_else(|| format!("{name}.wasm"));
        let path = self.directory.join(&file);
        if !forced {
            self.refuse_downgrade(upload).await?;
        }
        let before = std::fs::read(&path).ok();
        let signed_before = signature::read_beside(&path).ok().flatten();
        // What is said of an older file must not be taken for an answer about this one.
        self.lock().failed.remove(&file);
        let write = |bytes: &[u8]| -> std::io::Result<()> {
            // Written beside and renamed, so that no half file is ever seen.
            let mut temporary = tempfile::Builder::new().prefix(".upload-").tempfile_in(&*self.directory)?;
            std::io::Write::write_all(&mut temporary, bytes)?;
            temporary.persist(&path)?;
            Ok(())
        };
        // The signature goes first: the file must find it. Without one, that of the file before must not stay.
        let sign = |signature: Option<&str>| match signature {
            Some(signature) => std::fs::write(signature::beside(&path), signature),
            None => match std::fs::remove_file(signature::beside(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        sign(signature)
            .and_then(|()| write(bytes))
            .map_err(|error| Error::new("write-failed", error.to_string()))?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(150);
        while tokio::time::Instant::now() < deadline {
            let _ = self.rescan.try_send(());
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(status) =
                self.get(name).filter(|status| status.digest.as_deref() == Some(digest.as_str()))
            {
                return Ok(status);
            }
            let failed = self.lock().failed.get(&file).and_then(|status| status.error.clone());
            let other =
                self.list().into_iter().find(|status| status.digest.as_deref() == Some(digest.as_str()));
            let error = match (failed, other) {
                (Some(error), _) => error,
                (None, Some(other)) if other.name != name => Error::new(
                    "wrong-name",
                    format!(
                        "the plugin calls itself {:?}, not {name:?}: upload it under that name",
                        other.name
                    ),
                ),
                _ => continue,
            };
            let undone = match &before {
                Some(before) => sign(signed_before.as_deref()).and_then(|()| write(before)),
                None => sign(None).and_then(|()| std::fs::remove_file(&path)),
            };
            if let Err(undo) = undone {
                tracing::warn!(error = %undo, file, "a refused upload cannot be undone");
            }
            return Err(error);
        }
        Err(Error::new("load-timeout", "the plugin was written but did not come into service within 150 s"))
    }

    /// Refuses a version that is older than the one in service. It is compiled for that, which is not done twice: what
    /// was compiled is in the cache. Whatever else is wrong with it is found when it is put into service.
    async fn refuse_downgrade(&self, upload: Upload<'_>) -> Result<(), Error> {
        let Some(active) =
            self.get(upload.name).filter(|status| status.state == "loaded").and_then(|status| status.version)
        else {
            return Ok(());
        };
        let draft = || -> std::io::Result<tempfile::NamedTempFile> {
            let mut draft = tempfile::Builder::new().prefix(".upload-").tempfile_in(&*self.directory)?;
            std::io::Write::write_all(&mut draft, upload.bytes)?;
            Ok(draft)
        };
        let draft = draft().map_err(|error| Error::new("write-failed", error.to_string()))?;
        let Ok(compiled) = self.compile(draft.path(), upload.bytes.len() as u64, upload.signature).await
        else {
            return Ok(());
        };
        let parse = |text: &str| semver::Version::parse(text).ok();
        let (new, old) = (parse(&compiled.descriptor.version), parse(&active));
        if new.zip(old).is_some_and(|(new, old)| new.cmp_precedence(&old).is_lt()) {
            return Err(Error::new(
                "downgrade",
                format!(
                    "version {} is older than version {active}, which is in service: repeat it with --force (?force=true) \
                     if that is what you want",
                    compiled.descriptor.version
                ),
            ));
        }
        Ok(())
    }

    /// Shows why a plugin that came from elsewhere is not in service.
    pub fn tell_refused(&self, name: &str, error: Error) {
        let mut shared = self.lock();
        if let Some(known) = shared.types.get_mut(name) {
            known.status.error = Some(error);
            return;
        }
        let file = format!("{name}.wasm");
        let status = PluginStatus {
            error: Some(error),
            ..PluginStatus::absent(name.to_owned(), file.clone(), "failed", 0)
        };
        shared.failed.insert(file, status);
    }

    /// A version that somebody uploads is not withdrawn any more.
    fn trust(&self, name: &str, digest: &str) {
        let mut shared = self.lock();
        let versions = shared.types.get_mut(name).map(|known| &mut known.status.versions);
        let known = versions.and_then(|versions| versions.iter_mut().find(|one| one.digest == digest));
        if let Some(version) = known {
            version.withdrawn = false;
        }
    }

    /// Makes the version before the active one active again, and withdraws the active one: its jobs move to the one
    /// that is active now where that reads their checkpoints, and pause where it does not.
    ///
    /// # Errors
    /// `no-version-before`, or that version cannot be loaded any more.
    pub async fn go_back(&self, name: &str) -> Result<PluginStatus, Error> {
        let stopping = || Error::new("host-error", "the host stops");
        let (reply, answer) = oneshot::channel();
        self.backs.send((name.to_owned(), reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Removes the file of a type: it retires. `false` where there is none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<bool, Error> {
        let Some(status) =
            self.get(name).filter(|status| !status.file.is_empty() && status.state != "retired")
        else {
            return Ok(false);
        };
        let path = self.directory.join(&status.file);
        std::fs::remove_file(&path).map_err(|error| Error::new("remove-failed", error.to_string()))?;
        // One without its file means nothing.
        let _ = std::fs::remove_file(signature::beside(&path));
        let _ = self.rescan.try_send(());
        Ok(true)
    }

    /// Takes a plugin that keeps trapping out of service; its queue is held until another file comes.
    pub fn quarantine(&self, name: &str, digest: &str, reason: &str) {
        let mut shared = self.lock();
        if let Some(known) =
            shared.types.get_mut(name).filter(|known| known.status.digest.as_deref() == Some(digest))
        {
            tracing::error!(plugin = name, digest, reason, "plugin quarantined");
            known.status.state = "quarantined".into();
            let before = known.status.versions.iter().rev().find(|version| version.digest != digest);
            let offer = before.map_or_else(String::new, |version| {
                format!(
                    ", or the file of version {} ({:.12}), which was in service before",
                    version.version, version.digest
                )
            });
            known.status.error = Some(Error::new(
                "quarantined",
                format!("{reason}: its jobs wait. Put a mended version into the plugin directory{offer}"),
            ));
        }
        drop(shared);
        self.publish();
    }
}

/// Compiles a file that the policy admits.
async fn compile(
    config: &Config,
    executable: &Path,
    path: &Path,
    size: u64,
    signature: Option<&str>,
) -> Result<sandbox::Compiled, Error> {
    if path.extension().is_some_and(|ending| ending == "cwasm") {
        return Err(Error::new(
            "precompiled",
            "compiled code is never loaded from the plugin directory: put the .wasm file there",
        ));
    }
    if size > config.api.upload_bytes_max as u64 {
        return Err(Error::new(
            "too-large",
            format!("{size} bytes are more than api.upload_bytes_max = {}", config.api.upload_bytes_max),
        ));
    }
    let mut admitted = None;
    if config.plugins_policy.asks() {
        let bytes = tokio::fs::read(path).await;
        let bytes =
            bytes.map_err(|error| Error::new("host-error", format!("the file cannot be read: {error}")))?;
        let admit = config.plugins_policy.admit(&bytes, signature);
        admit.map_err(|(code, message)| Error::new(code, message))?;
        admitted = Some(hex::encode(Sha256::digest(&bytes)));
    }
    let compiled = sandbox::compile_in_child(executable, path, &config.cache_dir())
        .await
        .map_err(|error| Error::new(error.code(), error.to_string()))?;
    // What was admitted must be what was compiled: the file may have been replaced in between.
    if admitted.is_some_and(|digest| digest != compiled.digest) {
        return Err(Error::new("bad-signature", "the file changed while its signature was checked"));
    }
    Ok(compiled)
}

/// The limits of a job type, in the sandbox's words.
#[must_use]
pub fn limits(config: &Config, job_type: &str) -> sandbox::Limits {
    let policy = config.policy(job_type);
    sandbox::Limits {
        memory_bytes: policy.memory_bytes,
        input_bytes_max: config.api.input_bytes_max as u64,
        result_bytes_max: policy.result_bytes_max,
        checkpoint_bytes_max: policy.checkpoint_bytes_max,
        output_item_bytes_max: policy.output_bytes_max,
        step_hard_ms: Some(policy.step_limit_ms),
        ..sandbox::Limits::default()
    }
}

/// The capabilities of a plugin that was loaded: what is not granted is optional.
#[must_use]
pub fn capabilities(
    descriptor: &sandbox::Descriptor,
    imports: &[String],
    grants: &sandbox::Grants,
) -> Vec<Capability> {
    let told = |one: sandbox::plugin::Import| match one.granted {
        true => Capability { import: one.import, state: "granted".to_owned(), grant: None },
        false => Capability {
            import: one.import,
            state: "optional, not granted".to_owned(),
            grant: Some(one.grant),
        },
    };
    sandbox::plugin::capabilities(descriptor, imports, grants).into_iter().map(told).collect()
}
