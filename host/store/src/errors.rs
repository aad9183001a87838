//! Groups of failures. A failing commit counts itself into its group; here they are read and forgotten.

use crate::{Error, Store};
use std::collections::HashMap;
use waymark_job::JobId;

/// Failures that have their fingerprint in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorGroup {
    /// 16 hexadecimal digits.
    pub fingerprint: String,
    /// Job type.
    pub job_type: String,
    /// Kind of the failure.
    pub kind: String,
    /// The newest message.
    pub message: String,
    /// The message without what differs from job to job.
    pub pattern: String,
    /// The innermost calls of the guest, at most three.
    pub frames: Vec<String>,
    /// Failed attempts.
    pub attempts: u64,
    /// Jobs that failed for good.
    pub failed: u64,
    /// Unix milliseconds.
    pub first_ms: u64,
    /// Unix milliseconds.
    pub last_ms: u64,
    /// Versions of the plugin, each with its failed attempts; at most 20 per partition, the first met.
    pub versions: Vec<(String, u64)>,
    /// Jobs that failed so lately, newest first; some may be deleted by now. At most 10.
    pub jobs: Vec<JobId>,
}

/// Which groups come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorOrder {
    /// Those seen last.
    LastSeen,
    /// Those with the most failed attempts.
    Attempts,
}

/// Sample jobs of a group.
const SAMPLES_MAX: usize = 10;

impl Store {
    /// Groups of failures of one job type or of all, seen last at `since_ms` or later; at most 100 per type and
    /// partition are kept.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn error_groups(
        &self,
        job_type: Option<&str>,
        since_ms: u64,
        order: ErrorOrder,
    ) -> Result<Vec<ErrorGroup>, Error> {
        let mut found: HashMap<String, ErrorGroup> = HashMap::new();
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut fingerprints = Vec::new();
            for types in self.types_of(partition, job_type).await?.chunks(1_000) {
                let mut pipeline = redis::pipe();
                for name in types {
                    let key = format!("{head}errors:{name}");
                    pipeline.cmd("ZRANGEBYSCORE").arg(key).arg(since_ms).arg("+inf");
                }
                let lists: Vec<Vec<String>> = self.inner.link.pipeline(&pipeline).await?;
                fingerprints.extend(lists.into_iter().flatten());
            }
            for fingerprints in fingerprints.chunks(100) {
                for group in self.groups(partition, fingerprints).await? {
                    match found.get_mut(&group.fingerprint) {
                        Some(known) => known.join(group),
                        None => drop(found.insert(group.fingerprint.clone(), group)),
                    }
                }
            }
        }
        let mut groups: Vec<_> = found.into_values().collect();
        groups.sort_by_key(|group| {
            let (first, second) = match order {
                ErrorOrder::LastSeen => (group.last_ms, group.attempts),
                ErrorOrder::Attempts => (group.attempts, group.last_ms),
            };
            std::cmp::Reverse((first, second, group.fingerprint.clone()))
        });
        Ok(groups)
    }

    /// One group.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn error_group(&self, fingerprint: &str) -> Result<Option<ErrorGroup>, Error> {
        let mut whole: Option<ErrorGroup> = None;
        for partition in 0..self.partitions() {
            for group in self.groups(partition, &[fingerprint.to_owned()]).await? {
                match &mut whole {
                    Some(known) => known.join(group),
                    None => whole = Some(group),
                }
            }
        }
        Ok(whole)
    }

    /// Forgets a group; the next failure of its kind begins a new one. `false` where there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn forget_error_group(&self, fingerprint: &str) -> Result<bool, Error> {
        let Some(group) = self.error_group(fingerprint).await? else { return Ok(false) };
        for partition in 0..self.partitions() {
            let mut call = self.call(&self.inner.scripts.forget_errors, partition);
            let _: u64 = call.arg(&group.job_type).arg(fingerprint).arg("").run().await?;
        }
        Ok(true)
    }

    /// Forgets groups that were last seen so long ago. Returns how many.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn sweep_error_groups(&self, kept_ms: u64) -> Result<u64, Error> {
        let mut forgotten = 0;
        for partition in 0..self.partitions() {
            for job_type in self.types_of(partition, None).await? {
                let mut call = self.call(&self.inner.scripts.forget_errors, partition);
                forgotten += call.arg(&job_type).arg("").arg(kept_ms).run::<u64>().await?;
            }
        }
        Ok(forgotten)
    }

    pub(crate) async fn types_of(
        &self,
        partition: u16,
        job_type: Option<&str>,
    ) -> Result<Vec<String>, Error> {
        if let Some(name) = job_type {
            return Ok(vec![name.to_owned()]);
        }
        let mut command = redis::cmd("SMEMBERS");
        command.arg(format!("{}types", self.head(partition)));
        Ok(self.inner.link.any(&command).await?)
    }

    async fn groups(&self, partition: u16, fingerprints: &[String]) -> Result<Vec<ErrorGroup>, Error> {
        if fingerprints.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for fingerprint in fingerprints {
            pipeline.hgetall(format!("{}error:{fingerprint}", self.head(partition)));
        }
        let fields: Vec<HashMap<String, String>> = self.inner.link.pipeline(&pipeline).await?;
        let groups = fingerprints.iter().zip(fields).filter(|(_, fields)| !fields.is_empty());
        Ok(groups.map(|(fingerprint, fields)| ErrorGroup::read(fingerprint, &fields)).collect())
    }
}

impl ErrorGroup {
    fn read(fingerprint: &str, fields: &HashMap<String, String>) -> Self {
        let text = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let version = |(name, attempts): (&String, &String)| {
            let name = name.strip_prefix("v:").filter(|name| !name.is_empty())?;
            Some((name.to_owned(), attempts.parse().unwrap_or(0)))
        };
        let mut versions: Vec<_> = fields.iter().filter_map(version).collect();
        versions.sort();
        Self {
            fingerprint: fingerprint.to_owned(),
            job_type: text("type"),
            kind: text("kind"),
            message: text("message"),
            pattern: text("pattern"),
            frames: text("trace").lines().map(str::to_owned).collect(),
            attempts: number("count"),
            failed: number("failed"),
            first_ms: number("first"),
            last_ms: number("last"),
            versions,
            jobs: text("jobs").split_whitespace().filter_map(|id| JobId::parse(id).ok()).collect(),
        }
    }

    /// The same group of another partition.
    fn join(&mut self, other: Self) {
        if other.last_ms > self.last_ms {
            (self.last_ms, self.message) = (other.last_ms, other.message);
        }
        self.first_ms = self.first_ms.min(other.first_ms);
        self.attempts += other.attempts;
        self.failed += other.failed;
        for (version, attempts) in other.versions {
            match self.versions.iter_mut().find(|(known, _)| *known == version) {
                Some((_, sum)) => *sum += attempts,
                None => self.versions.push((version, attempts)),
            }
        }
        self.jobs.extend(other.jobs);
        self.jobs.sort_unstable_by(|left, right| right.cmp(left));
        self.jobs.truncate(SAMPLES_MAX);
    }
}
