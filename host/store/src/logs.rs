//! Log lines of jobs: on the server that has the jobs, or on one of its own.
//!
//! On a server of its own nothing says whether a job exists. So the first is asked before lines are written, and notes
//! that there are some; it tells of them when they are there; and when the job is deleted it knows that something is to
//! be taken away (`objects`).

use crate::{Error, Store, apart, script::Call, seal::Kind};
use std::collections::{BTreeMap, BTreeSet};
use waymark_job::JobId;

/// Lines of a job's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Number of the first line that follows, those counted that were dropped: larger than what was asked for
    /// when they are gone.
    pub first: u64,
    /// The lines, oldest first.
    pub lines: Vec<String>,
}

/// Lines that are not written.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unwritten {
    /// Why not: [`Error::Storage`] where the second server is away, and the lines may be written later.
    pub error: Error,
    /// Which.
    pub lines: Vec<(JobId, String)>,
}

impl Store {
    /// Log lines from number `from` (0 is the job's first line ever), oldest first. Lines that were dropped are
    /// left out: the page says where it begins.
    ///
    /// # Errors
    /// The server does not answer; [`Error::Storage`] where that is the second one.
    pub async fn logs(&self, id: &JobId, from: u64, limit: u64) -> Result<LogPage, Error> {
        // The script counts in doubles.
        const EXACT_MAX: u64 = 1 << 52;
        let (partition, script) = (self.partition_of(id), &self.inner.scripts.read_logs);
        let second = match &self.inner.results {
            Some(second) if self.are_logs_apart(id).await? => Some(second),
            _ => None,
        };
        let mut call = match second {
            Some(second) => self.call_on(second, script, partition),
            None => self.call(script, partition),
        };
        call.arg(id.as_str()).arg(from.min(EXACT_MAX)).arg(limit.min(EXACT_MAX));
        let mut lines: Vec<String> = match second {
            Some(_) => call.run_soon(apart::ANSWER_MAX).await.map_err(apart::away)?,
            None => call.run().await?,
        };
        if lines.is_empty() {
            return Err(Error::corrupt("a log", "no answer"));
        }
        let first = lines.remove(0).parse().map_err(|error| Error::corrupt("a log", error))?;
        let open = |line| self.keyring().open_text(id.as_str(), Kind::Log, line);
        Ok(LogPage { first, lines: lines.into_iter().map(open).collect::<Result<_, _>>()? })
    }

    /// A job that wrote all its lines before there was a second server has them on the first.
    pub(crate) async fn are_logs_apart(&self, id: &JobId) -> Result<bool, Error> {
        let mut command = redis::cmd("SISMEMBER");
        command.arg(self.key(id, "logged")).arg(id.as_str());
        Ok(self.inner.link.any(&command).await?)
    }

    /// Adds log lines, each a JSON text; of each job the newest are kept. Lines of jobs that do not exist are
    /// dropped. After a broken connection lines may stand twice.
    ///
    /// # Errors
    /// A server does not answer; with the lines of all partitions that were not written.
    pub async fn append_logs(&self, mut lines: Vec<(JobId, String)>) -> Result<(), Unwritten> {
        let mut partitions: BTreeMap<u16, BTreeMap<JobId, Vec<&str>>> = BTreeMap::new();
        for (id, line) in &lines {
            partitions.entry(self.partition_of(id)).or_default().entry(*id).or_default().push(line);
        }
        let calls = partitions.into_iter().map(|(partition, jobs)| async move {
            self.append_logs_of(partition, jobs).await.map_err(|error| (partition, error))
        });
        // Those of a partition that is away must not take others with them.
        let answers = futures_util::future::join_all(calls).await;
        let (mut away, mut why) = (BTreeSet::new(), None);
        for (partition, error) in answers.into_iter().filter_map(Result::err) {
            away.insert(partition);
            why.get_or_insert(error);
        }
        match why {
            None => Ok(()),
            Some(error) => {
                lines.retain(|(id, _)| away.contains(&self.partition_of(id)));
                Err(Unwritten { error, lines })
            }
        }
    }

    async fn append_logs_of(
        &self,
        partition: u16,
        mut jobs: BTreeMap<JobId, Vec<&str>>,
    ) -> Result<(), Error> {
        let Some(second) = &self.inner.results else {
            let mut call = self.call(&self.inner.scripts.append_logs, partition);
            call.arg(self.options().log_lines_max).arg(1);
            self.add_lines(&mut call, jobs)?;
            return call.run::<u64>().await.map(drop);
        };
        let ids: Vec<_> = jobs.keys().map(JobId::to_string).collect();
        let mut call = self.call(&self.inner.scripts.note_logs, partition);
        let exist: Vec<String> = call.arg("note").arg(&ids).run().await?;
        jobs.retain(|id, _| exist.iter().any(|known| known == id.as_str()));
        if jobs.is_empty() {
            return Ok(());
        }
        let mut call = self.call_on(second, &self.inner.scripts.append_logs, partition);
        call.arg(self.options().log_lines_max).arg(0);
        self.add_lines(&mut call, jobs)?;
        let _: u64 = call.run_soon(apart::ANSWER_MAX).await.map_err(apart::away)?;
        let mut call = self.call(&self.inner.scripts.note_logs, partition);
        let _: Vec<String> = call.arg("tell").arg(&exist).run().await?;
        Ok(())
    }
    fn add_lines(&self, call: &mut Call<'_>, jobs: BTreeMap<JobId, Vec<&str>>) -> Result<(), Error> {
        for (id, lines) in jobs {
            call.arg(id.as_str()).arg(lines.len());
            for line in lines {
                call.arg(&*self.keyring().seal_text(id.as_str(), Kind::Log, line)?);
            }
        }
        Ok(())
    }
}
