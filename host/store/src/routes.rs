//! Routes of job types, what was counted under them, and results that differ.
//!
//! Keys of the whole deployment: `routes` (hash, type → JSON), `routeh:<type>` (list of changes, newest first),
//! `routen:<type>:<epoch>` (hash of counts), `mismatches:<type>` (list, newest first).

use crate::{Error, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use waymark_job::{
    JobId,
    route::{
        Change, Stored,
        compare::{Difference, Outcome},
        guard::{Arm, Counts},
    },
};

/// Changes kept of each route.
pub const ROUTE_CHANGES_MAX: usize = 50;
/// Differing pairs kept of each type.
pub const MISMATCHES_MAX: usize = 100;
/// Longest stored side of a differing pair, bytes; longer ones are told by their differences alone.
const SIDE_BYTES_MAX: usize = 16 << 10;
/// How long counts are kept that nobody adds to, seconds: 30 days.
const COUNTS_TTL_S: i64 = 30 * 86_400;

/// A job and its copy that ended in different ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// When they were compared, Unix milliseconds.
    pub at_ms: u64,
    /// The job.
    pub job: JobId,
    /// Its copy.
    pub shadow: JobId,
    /// How the job ended; `None`: too long to be kept here.
    pub left: Option<Outcome>,
    /// How its copy ended.
    pub right: Option<Outcome>,
    /// Where they differ, at most 20 places.
    pub differences: Vec<Difference>,
}

impl Mismatch {
    /// Without sides that are too long.
    fn shortened(mut self) -> Self {
        for side in [&mut self.left, &mut self.right] {
            if serde_json::to_string(side).is_ok_and(|text| text.len() > SIDE_BYTES_MAX) {
                *side = None;
            }
        }
        for difference in &mut self.differences {
            for side in [&mut difference.left, &mut difference.right] {
                if side.as_ref().is_some_and(|value| value.to_string().len() > SIDE_BYTES_MAX / 20) {
                    *side = Some("(too long to be shown)".into());
                }
            }
        }
        self
    }
}

impl Store {
    fn counts_key(&self, job_type: &str, epoch: u64) -> String {
        self.global(&format!("routen:{job_type}:{epoch}"))
    }

    /// All routes, by job type. One that cannot be read is left out and said in the log.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn routes(&self) -> Result<BTreeMap<String, Stored>, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.global("routes"));
        let found: BTreeMap<String, String> = self.inner.link.any(&command).await?;
        let read = |(job_type, text): (String, String)| match serde_json::from_str(&text) {
            Ok(stored) => Some((job_type, stored)),
            Err(error) => {
                tracing::error!(job_type, %error, "a route cannot be read: put it anew");
                None
            }
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// The route of a job type.
    ///
    /// # Errors
    /// The server does not answer, or the route cannot be read.
    pub async fn route(&self, job_type: &str) -> Result<Option<Stored>, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(self.global("routes")).arg(job_type);
        let found: Option<String> = self.inner.link.any(&command).await?;
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|error| Error::corrupt(format!("route of {job_type}"), error))
        };
        found.map(read).transpose()
    }

    /// Writes a route (`None`: removes it) if `known` is still the one that is stored, and keeps what changed where
    /// that is told. `false`: somebody else changed it meanwhile.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn put_route(
        &self,
        job_type: &str,
        known: Option<&Stored>,
        route: Option<&Stored>,
        change: Option<&Change>,
    ) -> Result<bool, Error> {
        let json = |error| Error::corrupt("a route", error);
        let mut call = self.call_at(&self.inner.scripts.route_put, self.global(""));
        call.arg(job_type).arg(known.map_or_else(String::new, |known| known.revision.to_string()));
        call.arg(route.map(serde_json::to_string).transpose().map_err(json)?.unwrap_or_default());
        call.arg(change.map(serde_json::to_string).transpose().map_err(json)?.unwrap_or_default());
        call.arg(ROUTE_CHANGES_MAX)
            .arg(route.map_or_else(String::new, |route| route.epoch.to_string()))
            .arg(self.control_channel());
        let answer: String = call.run_once().await?;
        Ok(answer == "D")
    }

    /// Changes of a route, newest first, at most 50. They outlive the route.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn route_changes(&self, job_type: &str) -> Result<Vec<Change>, Error> {
        self.kept(&format!("routeh:{job_type}"), ROUTE_CHANGES_MAX).await
    }

    async fn kept<T: for<'a> Deserialize<'a>>(&self, name: &str, most: usize) -> Result<Vec<T>, Error> {
        let mut command = redis::cmd("LRANGE");
        command.arg(self.global(name)).arg(0).arg(most - 1);
        let found: Vec<String> = self.inner.link.any(&command).await?;
        // What another version wrote and this one cannot read is left out.
        Ok(found.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Adds what a worker counted.
    ///
    /// # Errors
    /// The server does not answer; then it may or may not have been added.
    pub async fn count_route(&self, job_type: &str, epoch: u64, more: &Counts) -> Result<(), Error> {
        let key = self.counts_key(job_type, epoch);
        let mut pipeline = redis::pipe();
        let mut add = |field: String, by: u64| {
            if by > 0 {
                pipeline.hincr(&key, field, by).ignore();
            }
        };
        for (arm, counted) in &more.arms {
            add(format!("{arm}|a"), counted.attempts);
            add(format!("{arm}|e"), counted.errors);
            add(format!("{arm}|u"), counted.ran_us);
            add(format!("{arm}|b"), counted.bytes);
            for (bucket, count) in &counted.times {
                add(format!("{arm}|t{bucket}"), *count);
            }
        }
        add("c".to_owned(), more.compared);
        add("m".to_owned(), more.mismatched);
        pipeline.expire(&key, COUNTS_TTL_S).ignore();
        Ok(self.inner.link.pipeline(&pipeline).await?)
    }

    /// What was counted since the route has this epoch.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn route_counts(&self, job_type: &str, epoch: u64) -> Result<Counts, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.counts_key(job_type, epoch));
        let found: BTreeMap<String, u64> = self.inner.link.any(&command).await?;
        let mut counts = Counts::default();
        for (field, value) in found {
            let Some((arm, name)) = field.split_once('|') else {
                match field.as_str() {
                    "c" => counts.compared = value,
                    "m" => counts.mismatched = value,
                    _ => {}
                }
                continue;
            };
            let arm: &mut Arm = counts.arms.entry(arm.to_owned()).or_default();
            match (name, name.strip_prefix('t').and_then(|bucket| bucket.parse().ok())) {
                ("a", _) => arm.attempts = value,
                ("e", _) => arm.errors = value,
                ("u", _) => arm.ran_us = value,
                ("b", _) => arm.bytes = value,
                (_, Some(bucket)) => drop(arm.times.insert(bucket, value)),
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Keeps a pair that differs; of each type the newest 100.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn keep_mismatch(&self, job_type: &str, mismatch: Mismatch) -> Result<(), Error> {
        let text = serde_json::to_string(&mismatch.shortened())
            .map_err(|error| Error::corrupt("a mismatch", error))?;
        let key = self.global(&format!("mismatches:{job_type}"));
        let mut pipeline = redis::pipe();
        pipeline.lpush(&key, text).ignore().ltrim(&key, 0, MISMATCHES_MAX as isize - 1).ignore();
        Ok(self.inner.link.pipeline(&pipeline).await?)
    }

    /// Pairs that differ, newest first, at most 100.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn mismatches(&self, job_type: &str) -> Result<Vec<Mismatch>, Error> {
        self.kept(&format!("mismatches:{job_type}"), MISMATCHES_MAX).await
    }
}
