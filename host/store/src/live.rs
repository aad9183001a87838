//! Checkpoints of jobs that have not ended: what a new version of a plugin is tried with.

use crate::{Checkpoint, Error, Store, pack};
use std::collections::BTreeSet;
use waymark_job::JobId;

/// Claims of a partition that are looked at.
const CLAIMS_MAX: usize = 2_000;
/// Queued jobs of a partition that are looked at: most of them never ran.
const QUEUED_MAX: usize = 200;

impl Store {
    /// The newest checkpoints of up to `most` jobs of a type that have not ended, newest jobs first. Bounded work: where
    /// very many jobs are queued, those behind the newest 200 are not looked at.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn live_checkpoints(
        &self,
        job_type: &str,
        most: usize,
    ) -> Result<Vec<(JobId, Checkpoint)>, Error> {
        let mut live = BTreeSet::new();
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut ids: BTreeSet<String> = self.running(&head, job_type).await?;
            for (class, limit) in [("o", QUEUED_MAX), ("s", most), ("w", most), ("p", most)] {
                let mut command = redis::cmd("ZREVRANGEBYLEX");
                command.arg(format!("{head}x:{class}:{job_type}")).arg("+").arg("-");
                command.arg("LIMIT").arg(0).arg(limit);
                ids.extend(self.inner.link.any::<Vec<String>>(&command).await?);
            }
            if ids.is_empty() {
                continue;
            }
            let ids: Vec<_> = ids.into_iter().collect();
            let mut pipeline = redis::pipe();
            for id in &ids {
                pipeline.llen(format!("{head}cp:{id}"));
            }
            let kept: Vec<u64> = self.inner.link.pipeline(&pipeline).await?;
            live.extend(ids.into_iter().zip(kept).filter(|(_, kept)| *kept > 0).map(|(id, _)| id));
        }
        let mut found = Vec::new();
        // Ids sort by the time of creation.
        for id in live.iter().rev().filter_map(|id| JobId::parse(id).ok()) {
            if found.len() == most {
                break;
            }
            let mut command = redis::cmd("LINDEX");
            command.arg(self.key(&id, &format!("cp:{id}"))).arg(0);
            let bytes: Option<Vec<u8>> = self.inner.link.any(&command).await?;
            match bytes.map(|bytes| pack::read_checkpoint(&id, &bytes, None, self.keyring())) {
                Some(Ok(checkpoint)) => found.push((id, checkpoint)),
                Some(Err(error)) => tracing::warn!(job_id = %id, %error, "a checkpoint is not tried"),
                None => {}
            }
        }
        Ok(found)
    }

    /// Running jobs of a type.
    async fn running(&self, head: &str, job_type: &str) -> Result<BTreeSet<String>, Error> {
        let claims: Vec<(String, redis::Value)> =
            self.inner.link.fields(&format!("{head}claims"), CLAIMS_MAX).await?;
        let claimed: Vec<_> = claims.into_iter().map(|(id, _)| id).collect();
        if claimed.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut command = redis::cmd("ZMSCORE");
        command.arg(format!("{head}x:o:{job_type}")).arg(&claimed);
        let scores: Vec<Option<f64>> = self.inner.link.any(&command).await?;
        Ok(claimed.into_iter().zip(scores).filter(|(_, score)| score.is_some()).map(|(id, _)| id).collect())
    }
}
