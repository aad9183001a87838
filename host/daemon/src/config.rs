//! Every setting of the host: flags over environment over file over defaults; unknown keys are refused.
//!
//! The file is TOML. In the environment a nested key is written with two underscores:
//! `WAYMARK_WORKER__SLOTS=64` sets `worker.slots`.

use crate::api::oidc;
use crate::api::password::Password;
use crate::api::schedules::Definition;
use crate::api::submission::{QUEUE_RULE, is_queue};
use crate::signature;
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
};
use waymark_job::{RetryPolicy, State, flow::Limits, redact::Rules};
use waymark_sandbox::{Setting, http, keyvalue, llm, scratch, secrets, sql};

/// All settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of the host's own files: private Redis, compiled plugins. Default `waymark-data`.
    pub data: PathBuf,
    /// Directory that is watched for `.wasm` files. Default `plugins`.
    pub plugins_dir: PathBuf,
    /// The store.
    pub redis: Redis,
    /// The HTTP API.
    pub api: Api,
    /// The worker processes.
    pub worker: Worker,
    /// Traces.
    pub telemetry: Telemetry,
    /// What people are not shown of jobs.
    pub redaction: Redaction,
    /// Encryption of what is kept in the store.
    pub encryption: Encryption,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// Where long results are kept.
    pub results: Results,
    /// Endpoints that are told of the ends of jobs, by their names.
    pub webhooks: BTreeMap<String, Endpoint>,
    /// How they are told.
    pub delivery: Delivery,
    /// What holds for every job type that does not say otherwise.
    pub defaults: TypePolicy,
    /// Limits of queues, by name; set when the host starts.
    pub queues: BTreeMap<String, Limits>,
    /// Settings per job type; each overrides `defaults` as a whole table of its own keys.
    pub plugins: BTreeMap<String, TypeOverride>,
    /// Which plugins this host takes.
    pub plugins_policy: signature::Policy,
    /// Passwords and keys, by name; what needs one names it. Read when the host starts.
    pub secrets: BTreeMap<String, secrets::Source>,
    /// Language models, by name.
    pub llm: BTreeMap<String, llm::config::Provider>,
    /// Databases, by name.
    pub sql: BTreeMap<String, sql::config::Connection>,
    /// The Celery front.
    pub celery: crate::celery::config::Celery,
    /// Schedules, by name, in the shape of `PUT /api/v1/schedules/{name}`. Every host that starts writes its own; one
    /// that is no longer in any file stays until it is deleted.
    pub schedules: BTreeMap<String, serde_json::Value>,
    /// Routes, by job type, in the shape of `PUT /api/v1/routes/{type}`. Each is put once, when its versions are there,
    /// and again when the file says something else; what was changed over the API meanwhile stays.
    pub routes: BTreeMap<String, serde_json::Value>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "waymark-data".into(),
            plugins_dir: "plugins".into(),
            redis: Redis::default(),
            api: Api::default(),
            worker: Worker::default(),
            telemetry: Telemetry::default(),
            redaction: Redaction::default(),
            encryption: Encryption::default(),
            retention: Retention::default(),
            results: Results::default(),
            webhooks: BTreeMap::new(),
            delivery: Delivery::default(),
            defaults: TypePolicy::default(),
            queues: BTreeMap::new(),
            plugins: BTreeMap::new(),
            plugins_policy: signature::Policy::default(),
            secrets: BTreeMap::new(),
            llm: BTreeMap::new(),
            sql: BTreeMap::new(),
            celery: crate::celery::config::Celery::default(),
            schedules: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }
}

/// Where the store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://`, `rediss://`, `redis+unix://`, `redis-sentinel://` or `redis-cluster://`.
    /// Default: none, which starts a private `redis-server` in the data directory.
    pub url: Option<String>,
    /// First part of every key. Default `wm`.
    pub prefix: String,
    /// Slices of all keys, 1 to 1,024. Fixed by the first host that uses the store. Default 1.
    pub partitions: u16,
    /// Certificates (PEM file) of the authorities that are trusted. Default: those of the well-known authorities.
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate chain (PEM file), for servers that ask for one. Default: none.
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM file).
    pub tls_key: Option<PathBuf>,
    /// A second server, or another database, for long results and output records and for logs; an address like `url`, with
    /// the same prefix and certificates. Default: none, the first has everything.
    pub results_url: Option<String>,
    /// Results and output records longer than this go there, bytes, at least 512. Default 1,024.
    pub results_above_bytes: usize,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "wm".into(),
            partitions: 1,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            results_url: None,
            results_above_bytes: 1_024,
        }
    }
}

/// The HTTP API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address to listen on. Default `127.0.0.1:7420`. Another than loopback needs tokens.
    pub listen: SocketAddr,
    /// Bearer tokens. Default: none; a host with neither tokens nor users listens on loopback only.
    pub tokens: Vec<Token>,
    /// People who sign in with a name and a password. Default: none.
    pub users: Vec<User>,
    /// A provider of OpenID Connect through which people sign in. Default: none.
    pub oidc: Option<oidc::settings::Settings>,
    /// How long somebody stays signed in, milliseconds. Default 12 hours.
    pub session_ms: u64,
    /// Session cookies travel over TLS (or to localhost) only. Default true; false is for plain HTTP in a network
    /// that is trusted.
    pub secure_cookies: bool,
    /// Names by which this host may be called (the `Host` header, with or without a port), for hosts with tokens or
    /// users. Default: none, which takes any.
    pub hosts: Vec<String>,
    /// Show, and change nothing. Default false.
    pub read_only: bool,
    /// Entries that the audit log keeps, about. Default 100,000.
    pub audit_entries: u64,
    /// Longest request body, bytes. Default 8 MiB.
    pub body_bytes_max: usize,
    /// Longest input of one job, bytes. Default 1 MiB.
    pub input_bytes_max: usize,
    /// Longest plugin that may be uploaded, bytes. Default 64 MiB.
    pub upload_bytes_max: usize,
    /// Time to send the request's head, milliseconds. Default 10,000.
    pub header_timeout_ms: u64,
    /// Time for a whole request that neither waits nor streams, milliseconds. Default 30,000.
    pub request_timeout_ms: u64,
    /// Connections at once. Default 2,000.
    pub connections_max: usize,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)),
            tokens: Vec::new(),
            users: Vec::new(),
            oidc: None,
            session_ms: 12 * 3_600_000,
            secure_cookies: true,
            hosts: Vec::new(),
            read_only: false,
            audit_entries: 100_000,
            body_bytes_max: 8 << 20,
            input_bytes_max: 1 << 20,
            upload_bytes_max: 64 << 20,
            header_timeout_ms: 10_000,
            request_timeout_ms: 30_000,
            connections_max: 2_000,
        }
    }
}

/// A bearer token of the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who holds it, for logs.
    pub name: String,
    /// SHA-256 of the token, 64 hexadecimal characters.
    pub sha256: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How often it may ask. Default: as often as it likes.
    #[serde(default)]
    pub rate: Option<CallRate>,
}

/// So many calls at once, and as many again in every `per_ms`, evenly. Each host counts for itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRate {
    /// How many.
    pub count: NonZeroU32,
    /// In so many milliseconds.
    pub per_ms: NonZeroU64,
}

/// Somebody who signs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name they sign in with, which the audit log has too.
    pub name: String,
    /// What `waymark password` prints for their password.
    pub password: String,
    /// What they may do: `viewer`, `operator` or `admin`.
    pub role: Scope,
}

/// What a token or user may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look. As a role: `viewer`.
    #[serde(alias = "viewer")]
    Read,
    /// Submit and control jobs and queues. As a role: `operator`.
    #[serde(alias = "operator")]
    Operate,
    /// Change plugins and hosts, and read the audit log.
    Admin,
}

/// The worker processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Worker {
    /// Worker processes; 0 serves the API only. Default 1.
    pub processes: u32,
    /// Jobs at once in one worker process, the most where `slots_min` is set. Default 64.
    pub slots: u32,
    /// Fewest jobs at once in one worker process: it begins with so many, and they follow what waits, for how long,
    /// and how busy the machine is. Default: none, there are always `slots`.
    pub slots_min: Option<u32>,
    /// Share of the machine's processors in use, above 0 up to 1, above which slots are taken away, down to
    /// `slots_min`; none is added above nine tenths of it. 1: processors do not matter. Default 0.9.
    pub slots_cpu_max: f64,
    /// The same for the memory that the host may use. Default 0.9.
    pub slots_memory_max: f64,
    /// Threads that run guests in one worker process; more than 1 suits long CPU-bound jobs. Default 1.
    pub threads: u32,
    /// Most jobs claimed in one call, 1 to 1,000. Default 200.
    pub batch: u32,
    /// A worker that has not answered for so long has lost its jobs, milliseconds. Default 15,000.
    pub lease_ms: u64,
    /// Time to finish the current steps when asked to stop, milliseconds. Default 20,000.
    pub drain_ms: u64,
    /// Linear memory of all jobs of one worker process, bytes; jobs wait above it. Default 4 GiB.
    pub memory_bytes: u64,
    /// Hosts that may die under a job between two commits before it fails as poisonous. Default 3.
    pub crashes_max: u32,
    /// Traps in a row, without a job that ended well between, that quarantine a plugin. Default 20.
    pub quarantine_traps: u32,
    /// Queues served: names, or patterns with `*`. Default: none, which serves all.
    pub queues: Vec<String>,
    /// Claim nothing until somebody resumes the host. Default false.
    pub start_paused: bool,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            processes: 1,
            slots: 64,
            slots_min: None,
            slots_cpu_max: 0.9,
            slots_memory_max: 0.9,
            threads: 1,
            batch: 200,
            lease_ms: 15_000,
            drain_ms: 20_000,
            memory_bytes: 4 << 30,
            crashes_max: 3,
            quarantine_traps: 20,
            queues: Vec::new(),
            start_paused: false,
        }
    }
}

/// What people are not shown of jobs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redaction {
    /// Fields of inputs, of every job type: JSON Pointers in which `*` is every item of a list or member of an object, such
    /// as `/password` or `/customers/*/ssn`. Default: none.
    pub fields: Vec<String>,
}

/// Encryption of what callers and plugins put into the store. The same for all hosts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Encryption {
    /// Keys, the old ones included as long as anything is kept that they encrypt. Default: none.
    pub keys: Vec<EncryptionKey>,
    /// Id of the key that new values are encrypted with. Default: none, which keeps new values as they are.
    pub active: Option<String>,
}

/// A key; `file` or `env` says where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptionKey {
    /// Its name, which stands in every value that it encrypts; 1 to 64 bytes.
    pub id: String,
    /// File that holds 32 bytes as 64 hexadecimal characters or in base64 (`openssl rand -hex 32`).
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Environment variable that holds the same.
    #[serde(default)]
    pub env: Option<String>,
}

impl EncryptionKey {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let text = match (&self.file, &self.env) {
            (Some(file), None) => std::fs::read_to_string(file)
                .with_context(|| format!("the file {} cannot be read", file.display()))?,
            (None, Some(name)) => {
                std::env::var(name).with_context(|| format!("the environment variable {name}"))?
            }
            _ => anyhow::bail!("it needs either file or env"),
        };
        let text = text.trim();
        let bytes = hex::decode(text).ok().or_else(|| BASE64.decode(text).ok());
        bytes
            .filter(|bytes| bytes.len() == waymark_store::KEY_BYTES)
            .context("it must be 32 bytes, as 64 hexadecimal characters or in base64 (openssl rand -hex 32)")
    }
}

/// Traces (OpenTelemetry). What is not set here is taken from the standard variables: `OTEL_EXPORTER_OTLP_ENDPOINT`,
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`;
/// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES` hold too, and `OTEL_SDK_DISABLED=true` switches all off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans are sent, OTLP over HTTP: `/v1/traces` is added. Default: none, which makes no spans.
    pub otlp_endpoint: Option<String>,
    /// Of traces that begin here, the share that is kept, 0 to 1. A caller's `traceparent` decides for itself. Default 1.
    pub sample_ratio: f64,
    /// What this deployment is called. Default `waymark`.
    pub service_name: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, service_name: "waymark".into() }
    }
}

impl Telemetry {
    /// What the environment says where the file says nothing.
    fn of_environment(&self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut own = self.clone();
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            own.otlp_endpoint = None;
            return own;
        }
        if own.otlp_endpoint.is_none() {
            // The variable for traces alone is the whole address.
            let whole = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
            own.otlp_endpoint = whole.or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        }
        if own.service_name == Self::default().service_name
            && let Some(name) = variable("OTEL_SERVICE_NAME")
        {
            own.service_name = name;
        }
        let sampler = variable("OTEL_TRACES_SAMPLER").unwrap_or_default();
        if own.sample_ratio == Self::default().sample_ratio {
            if sampler.ends_with("always_off") {
                own.sample_ratio = 0.0;
            } else if sampler.ends_with("traceidratio")
                && let Some(ratio) = variable("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok())
            {
                own.sample_ratio = ratio;
            }
        }
        own
    }

    /// The address that spans are sent to.
    #[must_use]
    pub fn traces_url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_deref()?.trim_end_matches('/');
        Some(if endpoint.ends_with("/v1/traces") {
            endpoint.to_owned()
        } else {
            format!("{endpoint}/v1/traces")
        })
    }
}

/// How long ended jobs are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Succeeded jobs, milliseconds. Default one day.
    pub succeeded_ms: u64,
    /// Failed jobs, milliseconds. Default seven days.
    pub failed_ms: u64,
    /// Cancelled jobs, milliseconds. Default one day.
    pub cancelled_ms: u64,
    /// Checkpoints since the last write, milliseconds. Default one day.
    pub checkpoint_ms: u64,
    /// Checkpoints kept per job. Default 5.
    pub checkpoints: u32,
    /// Log lines kept per job. Default 1,000.
    pub log_lines: u32,
    /// Results and output records of ended jobs, milliseconds. Default: as long as their job.
    pub results_ms: Option<u64>,
    /// Groups of failures since the last one, milliseconds. Default 30 days.
    pub errors_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            succeeded_ms: DAY_MS,
            failed_ms: 7 * DAY_MS,
            cancelled_ms: DAY_MS,
            checkpoint_ms: DAY_MS,
            checkpoints: 5,
            log_lines: 1_000,
            results_ms: None,
            errors_ms: 30 * DAY_MS,
        }
    }
}

/// How long ended jobs of one type are kept; what is absent is taken from `retention`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeRetention {
    /// See [`Retention::succeeded_ms`].
    pub succeeded_ms: Option<u64>,
    /// See [`Retention::failed_ms`].
    pub failed_ms: Option<u64>,
    /// See [`Retention::cancelled_ms`].
    pub cancelled_ms: Option<u64>,
    /// See [`Retention::results_ms`].
    pub results_ms: Option<u64>,
}

/// Where long results and output records are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// `file:///directory`, `s3://bucket` or `s3://bucket/prefix`; the same for all hosts. Default: none, everything
    /// stays in Redis.
    pub storage: Option<String>,
    /// Results and output records longer than this go to the storage, bytes, at least 1,024. Default 256 KiB.
    pub spill_above_bytes: usize,
    /// Settings of an S3-compatible storage: `endpoint`, `region`, `access_key_id`, `secret_access_key`, `allow_http`
    /// and others of the crate `object_store`. Default: those of the environment, such as `AWS_REGION`.
    pub s3: BTreeMap<String, String>,
}

impl Default for Results {
    fn default() -> Self {
        Self { storage: None, spill_above_bytes: 256 << 10, s3: BTreeMap::new() }
    }
}

/// Somebody who is told of the ends of jobs, or whose secret signs what is sent to addresses of callers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Address, `https://` or `http://`. Without it the name only stands for its secret.
    pub url: Option<String>,
    /// Signs every message: `whsec_` and base64 of 24 to 64 bytes, or any other text as it is. Default: unsigned.
    pub secret: Option<String>,
    /// Which ends: `succeeded`, `failed`, `cancelled`. Default: all three.
    pub events: Option<Vec<State>>,
    /// Of which job types. Default: of all.
    pub types: Vec<String>,
}

impl Endpoint {
    /// Letters of the ends that it is told by itself.
    fn letters(&self) -> String {
        let all = [State::Succeeded, State::Failed, State::Cancelled];
        let events = self.events.as_deref().unwrap_or(&all);
        self.url.iter().flat_map(|_| events).map(|state| state.letter()).collect()
    }
}

/// How webhooks are sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Allow addresses of loopback, private and other networks that are not public. Default false: callers name
    /// addresses, and must not reach what only this host reaches.
    pub private_addresses: bool,
    /// Longest time of one delivery, milliseconds. Default 10,000.
    pub timeout_ms: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { private_addresses: false, timeout_ms: 10_000 }
    }
}

/// What holds for a job type.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypePolicy {
    /// All linear memory and tables of one job, bytes. Default 256 MiB.
    pub memory_bytes: u64,
    /// Longest result, bytes. Default 1 MiB.
    pub result_bytes_max: u64,
    /// Longest checkpoint, bytes. Default 16 MiB.
    pub checkpoint_bytes_max: u64,
    /// Longest output record, bytes. Default 1 MiB.
    pub output_bytes_max: u64,
    /// Longest time of one step, milliseconds. Default 60,000.
    pub step_limit_ms: u64,
    /// Running time after which a job is asked to finish, milliseconds. Default: none.
    pub soft_limit_ms: Option<u64>,
    /// Running time after which a job fails, milliseconds. Default: none.
    pub hard_limit_ms: Option<u64>,
    /// When a checkpoint is committed. Default at least one second apart.
    pub checkpoint: Checkpoint,
    /// Retries.
    pub retry: RetryPolicy,
    /// What becomes of jobs that run when another version of the plugin comes into service. Default `finish`.
    pub on_new_version: OnNewVersion,
    /// What jobs of this type may use beyond the contract.
    pub grants: GrantsConfig,
}

impl Default for TypePolicy {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            result_bytes_max: 1 << 20,
            checkpoint_bytes_max: 16 << 20,
            output_bytes_max: 1 << 20,
            step_limit_ms: 60_000,
            soft_limit_ms: None,
            hard_limit_ms: None,
            checkpoint: Checkpoint::default(),
            retry: RetryPolicy::default(),
            on_new_version: OnNewVersion::default(),
            grants: GrantsConfig::default(),
        }
    }
}

/// What becomes of jobs that run when another version of their plugin comes into service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNewVersion {
    /// They end under the version that they began with; what failed is tried again under the new one.
    #[default]
    Finish,
    /// They move with their next commit, each if the new version reads its checkpoint.
    Migrate,
}

/// What is granted beyond the contract.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantsConfig {
    /// Directories, read-only.
    pub files: Vec<FileGrant>,
    /// Files that an instance may write below `/scratch`, until it ends. Default: none.
    pub scratch: Option<scratch::Grant>,
    /// Outbound HTTP. Default: none, which refuses plugins that import `wasi:http`.
    pub http: Option<http::config::Grant>,
    /// Values that are remembered beyond a job. Default: none, which refuses plugins that import `wasi:keyvalue`.
    pub keyvalue: Option<keyvalue::Grant>,
    /// What job types are told, by key. Default: nothing, which refuses plugins that import `wasi:config`.
    pub config: BTreeMap<String, Setting>,
    /// Language models. Default: none, which refuses plugins that import `waymark:llm`.
    pub llm: Option<llm::config::Grant>,
    /// Databases, by the name of their connection. Default: none, which refuses plugins that import `waymark:sql`.
    pub sql: BTreeMap<String, sql::config::Grant>,
}

/// A directory that a job type may read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// The path that the guest sees. Default `/`.
    #[serde(default = "root")]
    pub guest: String,
    /// The directory on this host.
    pub host: PathBuf,
}

fn root() -> String {
    "/".into()
}

/// When a checkpoint is committed; always on pause, drain, sleep, wait and end besides. One key of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "CheckpointKeys")]
pub enum Checkpoint {
    /// After so many steps; 1 is every step.
    EverySteps(u64),
    /// At least so many milliseconds apart.
    EveryMs(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointKeys {
    every_steps: Option<u64>,
    every_ms: Option<u64>,
}

impl TryFrom<CheckpointKeys> for Checkpoint {
    type Error = &'static str;

    fn try_from(keys: CheckpointKeys) -> Result<Self, Self::Error> {
        match keys {
            CheckpointKeys { every_steps: Some(steps), every_ms: None } => Ok(Self::EverySteps(steps)),
            CheckpointKeys { every_steps: None, every_ms: Some(ms) } => Ok(Self::EveryMs(ms)),
            _ => Err("checkpoint takes one key, every_steps or every_ms"),
        }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self::EveryMs(1_000)
    }
}

/// The settings of one job type; what is absent is taken from `defaults`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeOverride {
    /// See [`TypePolicy::memory_bytes`].
    pub memory_bytes: Option<u64>,
    /// See [`TypePolicy::result_bytes_max`].
    pub result_bytes_max: Option<u64>,
    /// See [`TypePolicy::checkpoint_bytes_max`].
    pub checkpoint_bytes_max: Option<u64>,
    /// See [`TypePolicy::output_bytes_max`].
    pub output_bytes_max: Option<u64>,
    /// See [`TypePolicy::step_limit_ms`].
    pub step_limit_ms: Option<u64>,
    /// See [`TypePolicy::soft_limit_ms`].
    pub soft_limit_ms: Option<u64>,
    /// See [`TypePolicy::hard_limit_ms`].
    pub hard_limit_ms: Option<u64>,
    /// See [`TypePolicy::checkpoint`].
    pub checkpoint: Option<Checkpoint>,
    /// See [`TypePolicy::retry`].
    pub retry: RetryPolicy,
    /// See [`TypePolicy::on_new_version`].
    pub on_new_version: Option<OnNewVersion>,
    /// See [`TypePolicy::grants`].
    pub grants: Option<GrantsConfig>,
    /// How long ended jobs of this type are kept.
    pub retention: TypeRetention,
    /// Fields of inputs that people are not shown, besides [`Redaction::fields`].
    pub redact: Vec<String>,
}

/// The flags that override everything else.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--plugins`
    pub plugins_dir: Option<PathBuf>,
    /// `--redis`
    pub redis_url: Option<String>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--workers`
    pub workers: Option<u32>,
    /// `--queue`, as often as there are queues; empty: what the file says.
    pub queues: Vec<String>,
    /// `--start-paused`
    pub start_paused: bool,
}

impl Config {
    /// Reads the file, if one is named, then the environment, then the flags.
    ///
    /// # Errors
    /// The file cannot be read, a key is unknown, or a value is out of its bounds; the message names the key.
    pub fn load(file: Option<&Path>, flags: Flags) -> anyhow::Result<Self> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            anyhow::ensure!(file.is_file(), "there is no configuration file {}", file.display());
            figment = figment.merge(Toml::file_exact(file));
        }
        // Only nested keys: WAYMARK_URL, WAYMARK_TOKEN and the flags' own variables are not settings of the file.
        figment =
            figment.merge(Env::prefixed("WAYMARK_").filter(|key| key.as_str().contains("__")).split("__"));
        let mut config: Self = read(&figment)?;
        if let Some(value) = flags.plugins_dir {
            config.plugins_dir = value;
        }
        if let Some(value) = flags.redis_url {
            config.redis.url = Some(value);
        }
        if let Some(value) = flags.listen {
            config.api.listen = value;
        }
        if let Some(value) = flags.data {
            config.data = value;
        }
        if let Some(value) = flags.workers {
            config.worker.processes = value;
        }
        if !flags.queues.is_empty() {
            config.worker.queues = flags.queues;
        }
        config.worker.start_paused |= flags.start_paused;
        config.telemetry = config.telemetry.of_environment(|name| std::env::var(name).ok());
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let worker = &self.worker;
        anyhow::ensure!(
            (1..=waymark_job::id::PARTITIONS_MAX).contains(&self.redis.partitions),
            "redis.partitions must be 1 to {}",
            waymark_job::id::PARTITIONS_MAX
        );
        anyhow::ensure!((1..=1_000).contains(&worker.batch), "worker.batch must be 1 to 1000");
        anyhow::ensure!((1..=10_000).contains(&worker.slots), "worker.slots must be 1 to 10000");
        anyhow::ensure!(
            worker.slots_min.is_none_or(|min| (1..=worker.slots).contains(&min)),
            "worker.slots_min must be 1 to worker.slots"
        );
        for (name, share) in [("cpu", worker.slots_cpu_max), ("memory", worker.slots_memory_max)] {
            anyhow::ensure!(
                share > 0.0 && share <= 1.0,
                "worker.slots_{name}_max must be above 0, at most 1"
            );
        }
        anyhow::ensure!((1..=64).contains(&worker.threads), "worker.threads must be 1 to 64");
        anyhow::ensure!(worker.processes <= 256, "worker.processes must be at most 256");
        for name in &worker.queues {
            let plain = name.replace('*', "x");
            anyhow::ensure!(
                is_queue(&plain),
                "worker.queues: {name:?} is neither a queue's name nor a pattern with *"
            );
        }
        anyhow::ensure!(
            self.redis.tls_cert.is_some() == self.redis.tls_key.is_some(),
            "redis.tls_cert and redis.tls_key go together"
        );
        anyhow::ensure!(worker.lease_ms >= 500, "worker.lease_ms must be at least 500");
        anyhow::ensure!(
            self.api.listen.ip().is_loopback()
                || !self.api.tokens.is_empty()
                || !self.api.users.is_empty()
                || self.api.oidc.is_some(),
            "listening on {} without tokens would let anybody run jobs: add [[api.tokens]] to the configuration, \
             or listen on 127.0.0.1",
            self.api.listen
        );
        for token in &self.api.tokens {
            anyhow::ensure!(
                token.sha256.len() == 64 && token.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "api.tokens: the sha256 of token {:?} must be 64 hexadecimal characters \
                 (printf %s TOKEN | sha256sum)",
                token.name
            );
        }
        for (index, user) in self.api.users.iter().enumerate() {
            let at = format!("api.users: {:?}", user.name);
            anyhow::ensure!(!user.name.is_empty(), "api.users: a user has no name");
            anyhow::ensure!(
                self.api.users[..index].iter().all(|other| other.name != user.name),
                "{at} is there twice"
            );
            Password::read(&user.password).with_context(|| format!("{at}: password"))?;
        }
        if let Some(provider) = &self.api.oidc {
            let checked = provider.check(self.api.secure_cookies);
            checked.map_err(|why| anyhow::anyhow!("api.oidc.{why:#}"))?;
        }
        anyhow::ensure!(
            (60_000..=30 * 86_400_000).contains(&self.api.session_ms),
            "api.session_ms must be one minute to 30 days"
        );
        for (name, limits) in &self.queues {
            anyhow::ensure!(is_queue(name), "queues.{name}: the name of a queue {QUEUE_RULE}");
            if let Err((field, why)) = limits.check() {
                anyhow::bail!("queues.{name}{}: {why}", field.replace('/', "."));
            }
        }
        let types = self.plugins.iter().map(|(name, own)| (format!("plugins.{name}"), &own.retry));
        let all = ("defaults".to_owned(), &self.defaults.retry);
        for (table, retry) in types.chain(std::iter::once(all)) {
            if let Some((at, what)) = retry.mistakes().first() {
                anyhow::bail!("{table}.retry.{}: {what}", at.replace('/', "."));
            }
        }
        anyhow::ensure!(
            (0.0..=1.0).contains(&self.telemetry.sample_ratio),
            "telemetry.sample_ratio must be 0 to 1"
        );
        if let Some(endpoint) = &self.telemetry.otlp_endpoint {
            anyhow::ensure!(
                endpoint.starts_with("http://") || endpoint.starts_with("https://"),
                "telemetry.otlp_endpoint must begin with http:// or https://"
            );
        }
        self.redaction()?;
        self.keyring()?;
        self.schedules()?;
        for (name, value) in &self.routes {
            crate::routes::read(value)
                .map_err(|(at, why)| anyhow::anyhow!("routes.{name}{}: {why}", at.replace('/', ".")))?;
        }
        self.check_capabilities()?;
        self.celery.check(self.redis.url.as_deref()).map_err(|why| anyhow::anyhow!("celery.{why}"))?;
        for (name, endpoint) in &self.webhooks {
            let url = endpoint.url.as_deref().unwrap_or("https://example.com");
            anyhow::ensure!(
                url.starts_with("https://") || url.starts_with("http://"),
                "webhooks.{name}.url must begin with https:// or http://"
            );
            anyhow::ensure!(
                endpoint.events.iter().flatten().all(|state| state.is_ended()),
                "webhooks.{name}.events: there are succeeded, failed and cancelled"
            );
        }
        anyhow::ensure!(
            self.results.spill_above_bytes >= 1_024,
            "results.spill_above_bytes must be at least 1024"
        );
        anyhow::ensure!(
            self.redis.results_above_bytes >= 512,
            "redis.results_above_bytes must be at least 512"
        );
        anyhow::ensure!(
            self.redis.results_url.is_none() || self.results.storage.is_none(),
            "redis.results_url and results.storage are two places for the same values: give one of them"
        );
        for (name, policy) in &self.plugins {
            for grant in policy.grants.iter().flat_map(|grants| &grants.files) {
                anyhow::ensure!(
                    grant.host.is_dir(),
                    "plugins.{name}.grants.files: {} is not a directory",
                    grant.host.display()
                );
            }
        }
        Ok(())
    }

    fn check_capabilities(&self) -> anyhow::Result<()> {
        self.plugins_policy.check().map_err(|why| anyhow::anyhow!("plugins_policy.{why}"))?;
        secrets::Secrets::read(&self.secrets).map_err(anyhow::Error::msg)?;
        for (name, provider) in &self.llm {
            provider.check().map_err(|why| anyhow::anyhow!("llm.{name}.{why}"))?;
            if let Some(key) = &provider.key {
                anyhow::ensure!(self.secrets.contains_key(key), "llm.{name}.key: there is no secrets.{key}");
            }
        }
        for (name, connection) in &self.sql {
            connection.check(&self.secrets).map_err(|why| anyhow::anyhow!("sql.{name}.{why}"))?;
        }
        let types = self.plugins.iter().map(|(name, own)| (format!("plugins.{name}"), own.grants.as_ref()));
        let all = std::iter::once(("defaults".to_owned(), Some(&self.defaults.grants)));
        for (table, grants) in types.chain(all) {
            let Some(grants) = grants else { continue };
            if let Some(grant) = &grants.scratch {
                grant.check().map_err(|why| anyhow::anyhow!("{table}.grants.scratch.{why}"))?;
                let taken = |files: &FileGrant| Path::new(&files.guest).starts_with(scratch::GUEST_PATH);
                anyhow::ensure!(
                    !grants.files.iter().any(taken),
                    "{table}.grants.files: {} is where the scratch directory is",
                    scratch::GUEST_PATH
                );
            }
            if let Some(grant) = &grants.http {
                grant.check(&self.secrets).map_err(|why| anyhow::anyhow!("{table}.grants.http.{why}"))?;
            }
            for (key, setting) in &grants.config {
                if let Setting::Secret { secret } = setting {
                    let known = self.secrets.contains_key(secret);
                    anyhow::ensure!(known, "{table}.grants.config.{key}: there is no secrets.{secret}");
                }
            }
            if let Some(name) = grants.sql.keys().find(|name| !self.sql.contains_key(*name)) {
                anyhow::bail!("{table}.grants.sql: there is no [sql.{name}]");
            }
            if let Some(grant) = &grants.llm {
                grant.check(&self.llm).map_err(|why| anyhow::anyhow!("{table}.grants.llm.{why}"))?;
            }
        }
        Ok(())
    }

    /// The schedules. Whether their job types are known and take the inputs shows when they fire.
    ///
    /// # Errors
    /// One is wrong; the message names it and the field.
    pub fn schedules(&self) -> anyhow::Result<Vec<Definition>> {
        let endpoints = self.webhook_rules();
        let read = |(name, value): (&String, &serde_json::Value)| {
            let mut definition =
                Definition::read(name, value.to_string().as_bytes(), self.api.input_bytes_max, &endpoints)
                    .map_err(|problem| {
                        anyhow::anyhow!("schedules.{name}: {}", problem.document(None).detail)
                    })?;
            definition.schedule.from_file = true;
            Ok(definition)
        };
        self.schedules.iter().map(read).collect()
    }

    /// The policy of a job type.
    #[must_use]
    pub fn policy(&self, job_type: &str) -> TypePolicy {
        let mut policy = self.defaults.clone();
        if job_type == waymark_job::Webhook::JOB_TYPE {
            policy.retry = policy.retry.with(&RetryPolicy {
                max_attempts: Some(12),
                base_ms: Some(2_000),
                max_ms: Some(3_600_000),
                ..RetryPolicy::default()
            });
        }
        let Some(own) = self.plugins.get(job_type) else { return policy };
        policy.memory_bytes = own.memory_bytes.unwrap_or(policy.memory_bytes);
        policy.result_bytes_max = own.result_bytes_max.unwrap_or(policy.result_bytes_max);
        policy.checkpoint_bytes_max = own.checkpoint_bytes_max.unwrap_or(policy.checkpoint_bytes_max);
        policy.output_bytes_max = own.output_bytes_max.unwrap_or(policy.output_bytes_max);
        policy.step_limit_ms = own.step_limit_ms.unwrap_or(policy.step_limit_ms);
        policy.soft_limit_ms = own.soft_limit_ms.or(policy.soft_limit_ms);
        policy.hard_limit_ms = own.hard_limit_ms.or(policy.hard_limit_ms);
        policy.checkpoint = own.checkpoint.unwrap_or(policy.checkpoint);
        policy.retry = policy.retry.with(&own.retry);
        policy.on_new_version = own.on_new_version.unwrap_or(policy.on_new_version);
        policy.grants = own.grants.clone().unwrap_or(policy.grants);
        policy
    }

    /// The keys that values in the store are encrypted with. They are read now.
    ///
    /// # Errors
    /// A key cannot be read; the message names it.
    pub fn keyring(&self) -> anyhow::Result<waymark_store::Keyring> {
        let read = |key: &EncryptionKey| {
            Ok((key.id.clone(), key.read().with_context(|| format!("encryption.keys: {:?}", key.id))?))
        };
        let keys = self.encryption.keys.iter().map(read).collect::<anyhow::Result<_>>()?;
        waymark_store::Keyring::new(keys, self.encryption.active.clone())
            .map_err(|why| anyhow::anyhow!("encryption: {why}"))
    }

    /// What people are not shown of jobs.
    ///
    /// # Errors
    /// A pointer is malformed; the message names its table.
    pub fn redaction(&self) -> anyhow::Result<Rules> {
        for (name, own) in &self.plugins {
            Rules::new(&own.redact, []).map_err(|why| anyhow::anyhow!("plugins.{name}.redact: {why}"))?;
        }
        let own = self.plugins.iter().map(|(name, own)| (name.as_str(), own.redact.as_slice()));
        Rules::new(&self.redaction.fields, own).map_err(|why| anyhow::anyhow!("redaction.fields: {why}"))
    }

    /// How long ended jobs of a type are kept.
    #[must_use]
    pub fn retention_of(&self, job_type: &str) -> waymark_store::Retention {
        let own = self.plugins.get(job_type).map(|own| own.retention).unwrap_or_default();
        waymark_store::Retention {
            succeeded_ms: own.succeeded_ms.unwrap_or(self.retention.succeeded_ms),
            failed_ms: own.failed_ms.unwrap_or(self.retention.failed_ms),
            cancelled_ms: own.cancelled_ms.unwrap_or(self.retention.cancelled_ms),
            results_ms: own.results_ms.or(self.retention.results_ms),
        }
    }

    /// Where scratch files lie.
    #[must_use]
    pub fn scratch_dir(&self) -> PathBuf {
        self.data.join("scratch")
    }

    /// Where compiled plugins are kept.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.data.join("cache")
    }

    fn webhook_rules(&self) -> Vec<waymark_store::WebhookRule> {
        let rules = self.webhooks.iter().map(|(name, endpoint)| waymark_store::WebhookRule {
            name: name.clone(),
            on: endpoint.letters(),
            types: endpoint.types.clone(),
        });
        rules.collect()
    }

    /// What the store needs to know. Certificates are read now.
    ///
    /// # Errors
    /// A certificate or key cannot be read.
    pub fn store(&self, url: &str) -> anyhow::Result<waymark_store::Options> {
        let read = |file: &Option<PathBuf>| {
            let read = |file: &PathBuf| {
                std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
            };
            file.as_ref().map(read).transpose()
        };
        let tls = waymark_store::Tls {
            ca: read(&self.redis.tls_ca)?,
            identity: read(&self.redis.tls_cert)?.zip(read(&self.redis.tls_key)?),
        };
        Ok(waymark_store::Options {
            url: url.to_owned(),
            tls,
            prefix: self.redis.prefix.clone(),
            partitions: self.redis.partitions,
            checkpoint_keep: self.retention.checkpoints,
            checkpoint_ttl_ms: self.retention.checkpoint_ms,
            crashes_max: self.worker.crashes_max,
            log_lines_max: self.retention.log_lines,
            objects: self.results.storage.as_ref().map(|url| waymark_store::ObjectOptions {
                url: url.clone(),
                above_bytes: self.results.spill_above_bytes,
                settings: self.results.s3.clone(),
            }),
            results: self.redis.results_url.as_ref().map(|url| waymark_store::ResultsOptions {
                url: url.clone(),
                above_bytes: self.redis.results_above_bytes,
            }),
            webhooks: self.webhook_rules(),
            encryption: self.keyring()?,
        })
    }
}

/// Reads the settings from JSON: to read them from what figment has takes eight copies of each table's reader.
fn read(figment: &Figment) -> anyhow::Result<Config> {
    let text = figment.extract::<serde_json::Value>()?.to_string();
    let mut reader = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let source = figment.find_metadata(&path).map(|from| match &from.source {
            Some(source) => format!(" in {source}"),
            None => format!(" in the {}", from.name),
        });
        anyhow::anyhow!("{path}: {message}{}", source.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        Config::load(Some(file.path()), Flags::default())
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load("[worker]\nslotz = 3\n").unwrap_err().to_string();
        assert!(error.contains("slotz"), "{error}");
    }

    #[test]
    fn long_results_have_one_place() {
        let error = load("[redis]\nresults_url = \"redis://b\"\n[results]\nstorage = \"file:///a\"\n");
        assert!(error.unwrap_err().to_string().contains("give one of them"));
        assert!(load("[redis]\nresults_url = \"redis://b\"\nresults_above_bytes = 100\n").is_err());
        let config = load("[redis]\nresults_url = \"redis://b/1\"\n").unwrap();
        let results = config.store("redis://a").unwrap().results.unwrap();
        assert_eq!((results.url.as_str(), results.above_bytes), ("redis://b/1", 1_024));
    }

    #[test]
    fn a_type_overrides_only_what_it_names() {
        let config = load("[defaults]\nmemory_bytes = 1000\n[plugins.x]\nstep_limit_ms = 5\n").unwrap();
        let policy = config.policy("x");
        assert_eq!((policy.memory_bytes, policy.step_limit_ms), (1000, 5));
        assert_eq!(config.policy("y").step_limit_ms, 60_000);
    }

    #[test]
    fn a_scratch_directory_has_bounds_that_make_sense_and_a_path_of_its_own() {
        let config = load("[plugins.x.grants.scratch]\nbytes_max = 1048576\n").unwrap();
        let grant = config.policy("x").grants.scratch.unwrap();
        assert_eq!((grant.bytes_max, grant.files_max), (1 << 20, 1_000));
        assert_eq!(config.policy("y").grants.scratch, None);
        let error = load("[plugins.x.grants.scratch]\nfiles_max = 0\n").unwrap_err().to_string();
        assert!(error.starts_with("plugins.x.grants.scratch.files_max"), "{error}");
        let files = "files = [{ guest = \"/scratch/in\", host = \".\" }]";
        let error = load(&format!("[plugins.x.grants]\nscratch = {{}}\n{files}\n")).unwrap_err().to_string();
        assert!(error.starts_with("plugins.x.grants.files: /scratch is where"), "{error}");
        load(&format!("[plugins.x.grants]\n{files}\n")).unwrap();
    }

    #[test]
    fn a_type_says_only_what_is_different_about_its_retries() {
        let config = load(
            "[defaults.retry]\nmax_attempts = 2\n[plugins.x.retry]\nbase_ms = 7\n\
             kinds.guest-trap = { retry = false }\n",
        )
        .unwrap();
        let retry = config.policy("x").retry;
        assert_eq!((retry.max_attempts, retry.base_ms), (Some(2), Some(7)));
        assert_eq!(retry.of_kind("guest-trap").retry, Some(false));
        let error = load("[plugins.x.retry]\nkinds.bad-luck = {}\n").unwrap_err().to_string();
        assert!(error.contains("plugins.x.retry.kinds: there is no such kind"), "{error}");
    }

    #[test]
    fn a_type_keeps_its_jobs_as_long_as_it_says() {
        let text =
            "[retention]\nfailed_ms = 9\n[plugins.x]\nretention = { succeeded_ms = 5, results_ms = 2 }\n";
        let config = load(text).unwrap();
        let own = config.retention_of("x");
        assert_eq!((own.succeeded_ms, own.failed_ms, own.results_ms), (5, 9, Some(2)));
        assert_eq!(config.retention_of("y").results_ms, None);
    }

    #[test]
    fn the_cadence_of_checkpoints_is_one_of_two() {
        let steps = load("[defaults]\ncheckpoint = { every_steps = 3 }\n").unwrap();
        assert_eq!(steps.policy("x").checkpoint, Checkpoint::EverySteps(3));
        let own = load("[plugins.x]\ncheckpoint = { every_ms = 5 }\n").unwrap();
        assert_eq!(own.policy("x").checkpoint, Checkpoint::EveryMs(5));
        let both = load("[defaults]\ncheckpoint = { every_steps = 3, every_ms = 5 }\n").unwrap_err();
        assert!(both.to_string().contains("one key"), "{both}");
    }

    #[test]
    fn limits_of_queues_are_checked_by_name() {
        let config =
            load("[queues.mail]\nrate = { count = 10, per_ms = 1000 }\nwhen_full = \"wait\"\n").unwrap();
        assert_eq!(config.queues["mail"].rate.unwrap().count.get(), 10);
        let error = load("[queues.mail.per_key]\nconcurrency = 2000000\n").unwrap_err().to_string();
        assert!(error.contains("queues.mail.per_key.concurrency"), "{error}");
        assert!(load("[queues.mail]\nconcurency = 2\n").unwrap_err().to_string().contains("concurency"));
    }

    #[test]
    fn a_language_model_is_granted_by_the_name_of_its_provider() {
        let provider = "[llm.main]\nurl = \"http://127.0.0.1:1/v1\"\nmodels.small = {}\n";
        let grant = "[plugins.x.grants.llm]\nprovider = \"main\"\n";
        let config = load(&format!("{provider}{grant}")).unwrap();
        assert!(config.policy("x").grants.llm.is_some() && config.policy("y").grants.llm.is_none());
        let error = load(grant).unwrap_err().to_string();
        assert_eq!(error, "plugins.x.grants.llm.provider: there is no [llm.main]");
        let error = load(&format!("{provider}key = \"k\"\n")).unwrap_err().to_string();
        assert_eq!(error, "llm.main.key: there is no secrets.k");
        let error = load("[secrets]\nk = { env = \"WAYMARK_NO_SUCH_VARIABLE\" }\n").unwrap_err().to_string();
        assert!(error.contains("secrets.k"), "{error}");
    }

    #[test]
    fn a_schedule_of_the_file_has_the_shape_of_the_api() {
        let text = "[schedules.nightly]\ncron = \"0 2 * * *\"\ntimezone = \"Europe/Berlin\"\n\
                    job = { type = \"noop\", input = { n = 1 } }\n";
        let read = load(text).unwrap().schedules().unwrap().remove(0);
        assert!(read.schedule.from_file && read.schedule.name == "nightly");
        let error = load(&text.replace("Berlin", "Atlantis")).unwrap_err().to_string();
        assert!(error.starts_with("schedules.nightly: /timezone"), "{error}");
        let error = load(&text.replace("input", "inptu")).unwrap_err().to_string();
        assert!(error.starts_with("schedules.nightly: /job/inptu"), "{error}");
        let error = load(&text.replace("nightly", "\"waymark.x\"")).unwrap_err().to_string();
        assert!(error.contains("host's own"), "{error}");
    }

    #[test]
    fn keys_are_read_where_they_lie() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "07".repeat(32) + "\n").unwrap();
        let key = format!("keys = [{{ id = \"k1\", file = {:?} }}]\n", file.path().display().to_string());
        let config = load(&format!("[encryption]\n{key}active = \"k1\"\n")).unwrap();
        assert!(config.keyring().unwrap().seals() && !format!("{config:?}").contains("0707"));
        assert!(!load(&format!("[encryption]\n{key}")).unwrap().keyring().unwrap().seals());
        let error = load("[encryption]\nactive = \"k2\"\n").unwrap_err().to_string();
        assert_eq!(error, "encryption: active: there is no key \"k2\"");
        std::fs::write(file.path(), BASE64.encode([7; 31])).unwrap();
        let error = format!("{:#}", load(&format!("[encryption]\n{key}")).unwrap_err());
        assert!(error.starts_with("encryption.keys: \"k1\": it must be 32 bytes"), "{error}");
        assert!(load("[encryption]\nkeys = [{ id = \"k1\" }]\n").is_err());
    }

    #[test]
    fn fields_that_are_hidden_are_checked() {
        let text = "[redaction]\nfields = [\"/password\"]\n[plugins.mail]\nredact = [\"/to/*/address\"]\n";
        let rules = load(text).unwrap().redaction().unwrap();
        assert!(!rules.mask("any", "{\"password\":\"abcdef\"}").is_empty());
        assert!(!rules.mask("mail", "{\"to\":[{\"address\":\"abcdef\"}]}").is_empty());
        let error = load(&text.replace("/to", "to")).unwrap_err().to_string();
        assert!(error.starts_with("plugins.mail.redact: \"to/*/address\""), "{error}");
    }

    #[test]
    fn the_standard_variables_say_where_traces_go() {
        let own = load("[telemetry]\notlp_endpoint = \"http://collector:4318/\"\nservice_name = \"jobs\"\n")
            .unwrap();
        assert_eq!(own.telemetry.traces_url().as_deref(), Some("http://collector:4318/v1/traces"));
        let said = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => Some("http://other/v1/traces".to_owned()),
            "OTEL_SERVICE_NAME" => Some("others".to_owned()),
            "OTEL_TRACES_SAMPLER" => Some("parentbased_traceidratio".to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some("0.5".to_owned()),
            _ => None,
        };
        let kept = own.telemetry.of_environment(said);
        assert_eq!((kept.service_name.as_str(), kept.sample_ratio), ("jobs", 0.5));
        assert_eq!(kept.traces_url(), own.telemetry.traces_url(), "the file wins");
        let told = Telemetry::default().of_environment(said);
        assert_eq!(told.traces_url().as_deref(), Some("http://other/v1/traces"));
        assert_eq!(told.service_name, "others");
        let off = |name: &str| (name == "OTEL_SDK_DISABLED").then(|| "true".to_owned());
        assert_eq!(own.telemetry.of_environment(off).traces_url(), None);
        assert!(load("[telemetry]\nsample_ratio = 1.5\n").is_err());
        assert!(load("[telemetry]\notlp_endpoint = \"collector:4318\"\n").is_err());
    }

    #[test]
    fn a_route_of_the_file_has_the_shape_of_the_api() {
        let text = "[[routes.mail.targets]]\narm = \"old\"\nweight = 100\nversion = \"1.0.0\"\n";
        assert!(load(text).unwrap().routes.contains_key("mail"));
        let error = load(&text.replace("100", "90")).unwrap_err().to_string();
        assert_eq!(error, "routes.mail.targets: the weights add up to 90, not 100");
    }

    #[test]
    fn the_celery_front_is_checked_by_name() {
        let text = "[celery]\nenabled = true\nresult_db = 1\n\
                    [celery.tasks.\"app.add\"]\ntype = \"adder\"\ninput = { x = \"$/args/0\" }\n";
        let config = load(text).unwrap();
        assert_eq!(config.celery.tasks["app.add"].job_type, "adder");
        let error = load(&text.replace("$/args", "$args")).unwrap_err().to_string();
        assert!(error.starts_with("celery.tasks.\"app.add\".input"), "{error}");
        let error = load(&format!("{text}[redis]\nurl = \"redis-cluster://a:1\"\n")).unwrap_err().to_string();
        assert!(error.starts_with("celery.enabled") && error.contains("Cluster"), "{error}");
        assert!(load("[celery]\nqueue = \"x\"\n").unwrap_err().to_string().contains("queue"));
    }

    #[test]
    fn a_provider_is_checked_by_name_and_its_secret_is_not_shown() {
        let text = "[api]\nlisten = \"0.0.0.0:7420\"\n[api.oidc]\nissuer = \"https://id.example.com\"\n\
                    client_id = \"waymark\"\nclient_secret = \"0123456789abcdef\"\n\
                    redirect_url = \"https://waymark.example.com/login/oidc/callback\"\n\
                    roles = { ops = \"operator\" }\n";
        let config = load(text).unwrap();
        assert!(!format!("{config:?}").contains("0123456789"), "{config:?}");
        let error = load(&text.replace("https://id", "http://id")).unwrap_err().to_string();
        assert!(error.starts_with("api.oidc.issuer: "), "{error}");
        let error = load(&text.replace("operator", "owner")).unwrap_err().to_string();
        assert!(error.starts_with("api.oidc.roles.ops: "), "{error}");
    }

    #[test]
    fn listening_beyond_loopback_needs_a_token() {
        let error = load("[api]\nlisten = \"0.0.0.0:7420\"\n").unwrap_err().to_string();
        assert!(error.contains("without tokens"), "{error}");
    }

    #[test]
    fn flags_win_over_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"[worker]\nprocesses = 3\n").unwrap();
        let flags = Flags { workers: Some(2), ..Flags::default() };
        assert_eq!(Config::load(Some(file.path()), flags).unwrap().worker.processes, 2);
    }
}
