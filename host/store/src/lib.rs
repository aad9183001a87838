//! Everything that Waymark says to Redis.
//!
//! One Lua script per operation (`lua/`), each atomic; typed calls on [`Store`]. Nobody else names Redis. The
//! layout of keys is documented in `docs/decisions/0002-keys.md`. The modules:
//!
//! * `link`: one connection to a single server, to a Sentinel's master, or to a Cluster, healed when it breaks.
//! * `script`: calling scripts by digest.
//! * `jobs`: creating, reading, listing and controlling jobs.
//! * `limits`: limits of queues and their flow keys.
//! * `work`: claims, commits, leases.
//! * `accounts`: sessions, and the log of what was asked for.
//! * `errors`: groups of failures.
//! * `workflows`: graphs, ends of nodes, controls that reach children.
//! * `maintenance`: what is mended and forgotten from time to time.
//! * `logs`: log lines of jobs.
//! * `objects`: values too long for Redis.
//! * `storage`: where those lie.
//! * `apart`: a second server for those and for logs.
//! * `queues`: queues, hosts, types, counts.
//! * `waiting`: what a worker could claim now.
//! * `schedules`: schedules, and which host leads.
//! * `kv`: what job types remember beyond their jobs.
//! * `plugins`: files that all hosts share.
//! * `llm`: what hosts share about language models.
//! * `history`: what the last two days were like.
//! * `celery`: messages and results of Celery, and the outbox between them and jobs.
//! * `events`: what other processes publish. `channels`: how it is listened to.
//! * `changes`: what happened to all jobs of late.
//! * `pack`: how records travel. `seal`: encryption of what they hold; `reseal`: by another key.

mod accounts;
mod apart;
mod celery;
mod changes;
mod channels;
mod errors;
mod events;
mod history;
mod jobs;
mod kv;
mod limits;
mod link;
mod live;
mod llm;
mod logs;
mod maintenance;
mod objects;
mod pack;
mod plugins;
mod queues;
mod reseal;
mod routes;
mod schedules;
mod script;
mod seal;
mod storage;
mod waiting;
mod work;
mod workflows;

pub use accounts::AuditEntry;
pub use apart::ResultsOptions;
pub use celery::{
    CeleryBroker, CeleryDead, CeleryEntry, CeleryListener, CeleryOperation, CeleryPeeked, CelerySent,
    CeleryTake, CeleryTaken, CeleryWhat,
};
pub use changes::{CHANGES_KEPT, Change, Changes, Labels, Place};
pub use errors::{ErrorGroup, ErrorOrder};
pub use events::{Message, Subscription};
pub use history::{Counted, Deploy, HISTORY_MINUTES, Level, Minute};
pub use jobs::{
    Checkpoint, ControlAnswer, Created, Filter, NewJob, Page, Retention, SignalAnswer, Span, View,
};
pub use limits::{Flow, Known};
pub use link::Tls;
pub use logs::{LogPage, Unwritten};
pub use objects::ObjectOptions;
pub use plugins::{NewPlugin, SharedPlugin};
pub use queues::Queue;
pub use reseal::Resealed;
pub use routes::{MISMATCHES_MAX, Mismatch, ROUTE_CHANGES_MAX};
pub use schedules::{FireRequest, Fired, Outcome, PutAnswer, ScheduleState, StoredSchedule};
pub use seal::{KEY_BYTES, Keyring};
pub use waiting::Waiting;
pub use work::{
    ChildOutcome, ClaimRequest, Claimed, ClaimedJob, Commit, CommitAnswer, NewCheckpoint, Renewal, Resume,
    Signal, Then,
};

pub use workflows::NodeResult;

use link::Link;
use objects::Objects;
use script::Scripts;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use waymark_job::{JobId, id::PARTITIONS_MAX};

/// Where the store is and what it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// `redis://`, `rediss://`, `redis+unix:///path`,
    /// `redis-sentinel://host:port,host:port/master[/database]` or `redis-cluster://host:port,host:port`.
    pub url: String,
    /// Certificates, where the address asks for TLS.
    pub tls: Tls,
    /// First part of every key.
    pub prefix: String,
    /// Slices of all keys, 1 to 1,024.
    pub partitions: u16,
    /// Checkpoints kept per job, at least 1.
    pub checkpoint_keep: u32,
    /// How long checkpoints are kept since the last one was written, milliseconds.
    pub checkpoint_ttl_ms: u64,
    /// Workers that may die under a job between two commits before it is poisonous.
    pub crashes_max: u32,
    /// Log lines kept per job.
    pub log_lines_max: u32,
    /// Where long results and output records go; `None`: they stay in Redis.
    pub objects: Option<ObjectOptions>,
    /// A second server for long results and output records, instead of an object storage, and for logs.
    pub results: Option<ResultsOptions>,
    /// Who is told of the ends of all jobs of some types.
    pub webhooks: Vec<WebhookRule>,
    /// Keys that values are sealed with; by default there are none.
    pub encryption: Keyring,
}

/// Somebody who is told of the ends of jobs.
#[derive(Clone, Debug)]
pub struct WebhookRule {
    /// Name of the endpoint.
    pub name: String,
    /// Letters of the ends; empty: none, only its secret is used.
    pub on: String,
    /// Job types; empty: all.
    pub types: Vec<String>,
}

impl WebhookRule {
    fn takes(&self, job_type: &str) -> bool {
        !self.on.is_empty()
            && job_type != waymark_job::Webhook::JOB_TYPE
            && (self.types.is_empty() || self.types.iter().any(|name| name == job_type))
    }
}

impl Options {
    /// The defaults of every setting but the address.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            tls: Tls::default(),
            prefix: "wm".to_owned(),
            partitions: 1,
            checkpoint_keep: 5,
            checkpoint_ttl_ms: 86_400_000,
            crashes_max: 3,
            log_lines_max: 1_000,
            objects: None,
            results: None,
            webhooks: Vec::new(),
            encryption: Keyring::default(),
        }
    }
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server did not answer, or answered with an error.
    #[error("Redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The server cannot be used as it is set up; the text says what to change.
    #[error("{0}")]
    Setup(String),
    /// The cursor is not one that a listing gave.
    #[error("the cursor is not one that a listing gave: leave it out to begin at the newest job")]
    BadCursor,
    /// The worker is not registered, or its lease ran out: nothing was claimed.
    #[error("the worker's lease has run out")]
    Unregistered,
    /// A stored value cannot be read: it was written by something else, or by a newer version.
    #[error("stored value of {what} cannot be read: {why}")]
    Corrupt {
        /// Which value.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value is encrypted with a key that is not there.
    #[error(
        "it is encrypted with the key {0:?}, which this host does not have: add that key to [encryption] of its \
         configuration"
    )]
    KeyMissing(String),
    /// A schedule cannot be followed.
    #[error("{0}")]
    Schedule(waymark_job::schedule::Invalid),
    /// A long value lies in the object storage, and cannot be had.
    #[error("the object {path} cannot be read: {why}")]
    Object {
        /// Its path in the storage.
        path: String,
        /// Why not.
        why: String,
    },
    /// The object storage does not answer.
    #[error("the object storage: {0}")]
    Storage(String),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

impl Error {
    fn corrupt(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }

    /// May the same call succeed later without anybody changing anything?
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Redis(error) => link::is_passing(error),
            other => matches!(other, Self::Storage(_)),
        }
    }

    /// Is the server's memory full, so that it refuses to grow? Deleting jobs, or more memory, helps.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("OOM"))
    }
}

/// A handle to the store. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    link: Link,
    scripts: Scripts,
    clock: Clock,
    objects: Option<Objects>,
    /// The second server.
    results: Option<Arc<Link>>,
    /// Jobs created so far: the next ones go to the partitions after theirs.
    created: AtomicU64,
    /// Where retention stopped in each index.
    swept: Mutex<HashMap<String, String>>,
    /// The limits of all queues, and when they were read.
    limits: Mutex<Option<(Instant, limits::Known)>>,
}

/// The server's clock, carried on by this machine's monotonic one.
struct Clock {
    started: Instant,
    /// The server's time when `started` was taken, Unix milliseconds; 0: not known yet.
    offset_ms: AtomicU64,
    /// When that was learnt, milliseconds after `started`.
    learnt_ms: AtomicU64,
}

impl Clock {
    fn set(&self, now_ms: u64) {
        let since = self.started.elapsed().as_millis() as u64;
        self.offset_ms.store(now_ms.saturating_sub(since), Relaxed);
        self.learnt_ms.store(since, Relaxed);
    }

    fn get(&self) -> Option<u64> {
        let since = self.started.elapsed().as_millis() as u64;
        let offset = self.offset_ms.load(Relaxed);
        let fresh = since.saturating_sub(self.learnt_ms.load(Relaxed)) < CLOCK_AGE_MAX.as_millis() as u64;
        (offset > 0 && fresh).then_some(offset + since)
    }
}

/// Oldest server version that is known to work.
const VERSION_MIN: (u32, u32) = (6, 2);
/// First server version that knows a script's first line.
const SHEBANG_SINCE: (u32, u32) = (7, 0);
/// How long a server that refuses connections may take to start.
const STARTING_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the answer to a question whether the server is there.
pub(crate) const PROBE_MAX: Duration = Duration::from_secs(2);
/// How old the known difference to the server's clock may be.
const CLOCK_AGE_MAX: Duration = Duration::from_secs(30);
/// How long a server may load its data before the host gives up.
const LOADING_MAX: Duration = Duration::from_secs(600);

/// What the server of a key answers in no time: of a Cluster `PING` asks all masters, and fails with one.
fn question(key: String) -> redis::Cmd {
    let mut command = redis::cmd("GET");
    command.arg(key);
    command
}

impl Store {
    /// Connects, waits while the server loads its data, and checks that it can be trusted with jobs.
    ///
    /// # Errors
    /// The address is malformed or does not answer, the server is older than 6.2, or it evicts keys.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        if options.partitions == 0 || options.partitions > PARTITIONS_MAX {
            return Err(Error::Setup(format!("the number of partitions must be 1 to {PARTITIONS_MAX}")));
        }
        if options.prefix.is_empty() || options.prefix.contains(['{', '}']) {
            return Err(Error::Setup(
                "the prefix of the keys must not be empty or contain braces".to_owned(),
            ));
        }
        let link = Link::open(&options.url, &options.tls)?;
        let version = check_server(&link).await?;
        let results =
            options.results.as_ref().map(|second| Link::open(&second.url, &options.tls)).transpose()?;
        let results = results.map(Arc::new);
        if let Some(second) = &results {
            apart::check(second).await?;
        }
        let objects = Objects::open(&options, results.as_ref())?;
        let inner = Inner {
            options,
            objects,
            results,
            link,
            scripts: Scripts::new(version >= SHEBANG_SINCE),
            clock: Clock {
                started: Instant::now(),
                offset_ms: AtomicU64::new(0),
                learnt_ms: AtomicU64::new(0),
            },
            created: AtomicU64::new(0),
            swept: Mutex::default(),
            limits: Mutex::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.check_partitions().await?;
        Ok(store)
    }

    /// The first host fixes the number of partitions: a key is looked up in the partition that follows from it,
    /// and a worker that serves fewer would leave jobs behind.
    async fn check_partitions(&self) -> Result<(), Error> {
        let key = self.global("partitions");
        let own = self.partitions();
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(own).arg("NX");
        let _: redis::Value = self.inner.link.any(&command).await?;
        let mut command = redis::cmd("GET");
        command.arg(&key);
        let stored: u16 = self.inner.link.any(&command).await?;
        if stored == own {
            return Ok(());
        }
        Err(Error::Setup(format!(
            "this deployment has {stored} partitions and {own} are configured: configure {stored}, or choose \
             another prefix"
        )))
    }

    /// Slices of all keys.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.inner.options.partitions
    }

    /// The options that the store was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Time of one round trip. On a Cluster to the master that has the keys of the whole deployment.
    ///
    /// # Errors
    /// The server does not answer within 2 s.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let began = Instant::now();
        let _: redis::Value = self.inner.link.probe(&question(self.global("partitions")), PROBE_MAX).await?;
        Ok(began.elapsed())
    }

    /// Asks a partition that is away whether it is back; [`Store::is_away`] knows then.
    ///
    /// # Errors
    /// It does not answer within 2 s.
    pub async fn ask(&self, partition: u16) -> Result<(), Error> {
        let command = question(format!("{}partitions", self.head(partition)));
        let _: redis::Value = self.inner.link.probe(&command, PROBE_MAX).await?;
        Ok(())
    }

    /// The server's time, milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        let (seconds, micros): (u64, u64) = self.inner.link.any(&redis::cmd("TIME")).await?;
        let now_ms = seconds * 1_000 + micros / 1_000;
        self.inner.clock.set(now_ms);
        Ok(now_ms)
    }

    /// The same without asking, where it was learnt lately.
    async fn about_now_ms(&self) -> Result<u64, Error> {
        match self.inner.clock.get() {
            Some(now_ms) => Ok(now_ms),
            None => self.now_ms().await,
        }
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.inner.options.encryption
    }

    /// Head of every key of a partition.
    fn head(&self, partition: u16) -> String {
        format!("{{{}{partition}}}:", self.inner.options.prefix)
    }

    fn key(&self, id: &JobId, name: &str) -> String {
        format!("{}{name}", self.head(self.partition_of(id)))
    }

    fn global(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.inner.options.prefix)
    }

    /// The partition of a job. An identifier of a deployment with more partitions stays readable.
    fn partition_of(&self, id: &JobId) -> u16 {
        id.partition()
    }

    /// Did the server of a partition not answer lately? Only ever so in a Cluster.
    #[must_use]
    pub fn is_away(&self, partition: u16) -> bool {
        self.inner.link.is_away(&format!("{}{partition}", self.inner.options.prefix))
    }

    /// The partition of jobs that a key stands for.
    #[must_use]
    pub fn partition_of_key(&self, key: &str) -> u16 {
        (jobs::hash(key) % u64::from(self.partitions())) as u16
    }

    /// A partition for something that belongs to none: by turns, as `number` grows, and one that answers.
    #[must_use]
    pub fn any_partition(&self, number: u64) -> u16 {
        self.answering((number % u64::from(self.partitions())) as u16)
    }

    /// The first partition from this one on whose server answers; this one where none does.
    fn answering(&self, partition: u16) -> u16 {
        let partitions = self.partitions();
        let from_here = (0..partitions).map(|step| (partition + step) % partitions);
        from_here.into_iter().find(|partition| !self.is_away(*partition)).unwrap_or(partition)
    }

    fn control_channel(&self) -> String {
        self.global("ctl")
    }
}

/// Waits while the server starts or loads its data, and checks that it can be trusted with jobs. Answers its
/// version.
async fn check_server(link: &Link) -> Result<(u32, u32), Error> {
    let began = Instant::now();
    let mut wait = Duration::from_millis(50);
    let info = loop {
        match link.info().await {
            Ok(info) if field(&info, "loading") != Some("1") => break info,
            Ok(_) if began.elapsed() < LOADING_MAX => tracing::info!("Redis loads its data"),
            Ok(_) => return Err(Error::Setup("Redis has been loading its data for 10 minutes".to_owned())),
            // A server that is not there may be starting; a wrong password or address does not mend itself.
            Err(error) if link::is_passing(&error) && began.elapsed() < STARTING_MAX => {
                tracing::info!(%error, "waiting for Redis");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(link::jitter(wait)).await;
        wait = (wait * 2).min(Duration::from_secs(1));
    };
    let text = field(&info, "redis_version").unwrap_or("0");
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < VERSION_MIN {
        return Err(Error::Setup(format!("Redis {text} is too old: 6.2 or newer is needed")));
    }
    if let Some(policy) = field(&info, "maxmemory_policy")
        && policy != "noeviction"
    {
        return Err(Error::Setup(format!(
            "Redis evicts keys when its memory is full (maxmemory-policy {policy}), which would lose jobs: set \
             maxmemory-policy noeviction"
        )));
    }
    if field(&info, "cluster_enabled") == Some("1") && !link.is_cluster() {
        return Err(Error::Setup("this server belongs to a Cluster: use redis-cluster://".to_owned()));
    }
    if field(&info, "role") == Some("slave") && !link.is_cluster() {
        return Err(Error::Setup(
            "this server is a replica: give the address of its master, or use redis-sentinel://".to_owned(),
        ));
    }
    Ok(version)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
