//! Every setting of the host: flags over environment over file over defaults; unknown keys are refused.
//!
//! The file is TOML. In the environment a nested key is written with two underscores:
//! `WAYMARK_WORKER__SLOTS=64` sets `worker.slots`. Each module has the tables that belong together, with what is
//! checked of them when they are read.

mod api;
mod redaction;
mod retention;
mod store;
mod telemetry;
mod types;
mod webhooks;
mod worker;

pub use api::{Api, CallRate, Scope, Token, User};
pub use redaction::Redaction;
pub use retention::{Retention, TypeRetention};
pub use store::{Encryption, EncryptionKey, Redis, Results};
pub use telemetry::Telemetry;
pub use types::{Checkpoint, OnNewVersion, TypeOverride, TypePolicy};
pub use webhooks::{Delivery, Endpoint};
pub use worker::Worker;

use crate::api::schedules::Definition;
use crate::api::submission::{QUEUE_RULE, is_queue};
use crate::signature;
use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use waymark_job::flow::Limits;
use waymark_sandbox::{llm, secrets, sql};

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
        self.redis.check()?;
        self.results.check(&self.redis)?;
        self.worker.check()?;
        self.api.check()?;
        self.telemetry.check()?;
        self.plugins_policy.check().map_err(|why| anyhow::anyhow!("plugins_policy.{why}"))?;
        self.celery.check(self.redis.url.as_deref()).map_err(|why| anyhow::anyhow!("celery.{why}"))?;
        for (name, endpoint) in &self.webhooks {
            endpoint.check().map_err(|why| anyhow::anyhow!("webhooks.{name}.{why}"))?;
        }
        for (name, limits) in &self.queues {
            anyhow::ensure!(is_queue(name), "queues.{name}: the name of a queue {QUEUE_RULE}");
            if let Err((field, why)) = limits.check() {
                anyhow::bail!("queues.{name}{}: {why}", field.replace('/', "."));
            }
        }
        self.redaction()?;
        self.keyring()?;
        self.schedules()?;
        for (name, value) in &self.routes {
            crate::routes::read(value)
                .map_err(|(at, why)| anyhow::anyhow!("routes.{name}{}: {why}", at.replace('/', ".")))?;
        }
        self.check_services()?;
        self.check_types()
    }

    /// Checks what grants may name.
    fn check_services(&self) -> anyhow::Result<()> {
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

    /// Reads a file of this text.
    pub(super) fn load(text: &str) -> anyhow::Result<Config> {
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
    fn flags_win_over_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"[worker]\nprocesses = 3\n").unwrap();
        let flags = Flags { workers: Some(2), ..Flags::default() };
        assert_eq!(Config::load(Some(file.path()), flags).unwrap().worker.processes, 2);
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
}
