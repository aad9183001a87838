//! `defaults` and `plugins`: limits, retries and grants of job types.

use super::{Config, TypeRetention};
use serde::{Deserialize, Serialize};
use waymark_job::RetryPolicy;
use waymark_sandbox::{Grants, Setting};

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
    /// Running time after which an attempt fails, milliseconds. Default: none.
    pub hard_limit_ms: Option<u64>,
    /// When a checkpoint is committed. Default at least one second apart.
    pub checkpoint: Checkpoint,
    /// Retries.
    pub retry: RetryPolicy,
    /// What becomes of jobs that run when another version of the plugin comes into service. Default `finish`.
    pub on_new_version: OnNewVersion,
    /// What jobs of this type may use beyond the contract.
    pub grants: Grants,
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
            grants: Grants::default(),
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
    pub grants: Option<Grants>,
    /// How long ended jobs of this type are kept.
    pub retention: TypeRetention,
    /// Fields of inputs that people are not shown, besides [`super::Redaction::fields`].
    pub redact: Vec<String>,
}

impl Config {
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

    /// # Errors
    /// A value is out of its bounds, or a grant names what there is not; the message names the key.
    pub(super) fn check_types(&self) -> anyhow::Result<()> {
        let types = self.plugins.iter();
        let types = types.map(|(name, own)| (format!("plugins.{name}"), &own.retry, own.grants.as_ref()));
        let all = ("defaults".to_owned(), &self.defaults.retry, Some(&self.defaults.grants));
        for (table, retry, grants) in types.chain(std::iter::once(all)) {
            if let Some((at, what)) = retry.mistakes().first() {
                anyhow::bail!("{table}.retry.{}: {what}", at.replace('/', "."));
            }
            if let Some(grants) = grants {
                self.check_grants(&table, grants)?;
            }
        }
        for (name, own) in &self.plugins {
            for grant in own.grants.iter().flat_map(|grants| &grants.files) {
                anyhow::ensure!(
                    grant.host.is_dir(),
                    "plugins.{name}.grants.files: {} is not a directory",
                    grant.host.display()
                );
            }
        }
        Ok(())
    }

    fn check_grants(&self, table: &str, grants: &Grants) -> anyhow::Result<()> {
        grants.check_scratch().map_err(|why| anyhow::anyhow!("{table}.grants.{why}"))?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

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
    fn the_cadence_of_checkpoints_is_one_of_two() {
        let steps = load("[defaults]\ncheckpoint = { every_steps = 3 }\n").unwrap();
        assert_eq!(steps.policy("x").checkpoint, Checkpoint::EverySteps(3));
        let own = load("[plugins.x]\ncheckpoint = { every_ms = 5 }\n").unwrap();
        assert_eq!(own.policy("x").checkpoint, Checkpoint::EveryMs(5));
        let both = load("[defaults]\ncheckpoint = { every_steps = 3, every_ms = 5 }\n").unwrap_err();
        assert!(both.to_string().contains("one key"), "{both}");
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
}
