//! Queues, hosts, job types and counts.

use crate::{Error, PROBE_MAX, Store};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use waymark_job::{JobId, State};

/// Longest wait for the names of a partition's queues: a worker needs them before it claims anything.
const NAMES_MAX: Duration = Duration::from_secs(1);

/// A queue as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Queued jobs.
    pub depth: u64,
    /// When the oldest queued job was created, Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Nothing is claimed from it.
    pub paused: bool,
}

impl Store {
    /// All queues that have or had jobs, or are paused, by name.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        let mut queues: BTreeMap<String, Queue> = BTreeMap::new();
        for partition in 0..self.partitions() {
            let head = self.head(partition);
            let mut pipeline = redis::pipe();
            pipeline.hgetall(format!("{head}depth")).smembers(format!("{head}paused"));
            let (depths, paused): (HashMap<String, i64>, BTreeSet<String>) =
                self.inner.link.pipeline(&pipeline).await?;
            let names: BTreeSet<String> = depths.keys().cloned().chain(paused.iter().cloned()).collect();
            let waiting: Vec<_> =
                names.iter().filter(|name| depths.get(*name).is_some_and(|depth| *depth > 0)).collect();
            let mut oldest: HashMap<&str, u64> = HashMap::new();
            for piece in waiting.chunks(500) {
                let mut pipeline = redis::pipe();
                for name in piece {
                    pipeline.smembers(format!("{head}lines:{name}"));
                }
                let lines: Vec<Vec<String>> = self.inner.link.pipeline(&pipeline).await?;
                let keys: Vec<_> = piece
                    .iter()
                    .zip(lines)
                    .flat_map(|(name, lines)| lines.into_iter().map(move |line| (name.as_str(), line)))
                    .collect();
                if keys.is_empty() {
                    continue;
                }
                let mut pipeline = redis::pipe();
                for (_, line) in &keys {
                    pipeline.lindex(format!("{head}line:{line}"), -1);
                }
                let fronts: Vec<Option<String>> = self.inner.link.pipeline(&pipeline).await?;
                for ((name, _), front) in keys.iter().zip(fronts) {
                    if let Some(id) = front.and_then(|id| JobId::parse(&id).ok()) {
                        let known = oldest.entry(name).or_insert(u64::MAX);
                        *known = (*known).min(id.created_ms());
                    }
                }
            }
            for name in &names {
                let queue = queues
                    .entry(name.clone())
                    .or_insert_with(|| Queue { name: name.clone(), ..Queue::default() });
                queue.depth += u64::try_from(depths.get(name).copied().unwrap_or(0)).unwrap_or(0);
                queue.paused |= paused.contains(name);
                if let Some(found) = oldest.get(name.as_str()) {
                    queue.oldest_ms = Some(queue.oldest_ms.map_or(*found, |known| known.min(*found)));
                }
            }
        }
        Ok(queues.into_values().collect())
    }

    /// One verb of the script `queue`, portion by portion. Answers how many jobs it cancelled.
    pub(crate) async fn queue_steps(
        &self,
        partition: u16,
        queue: &str,
        verb: &str,
        rules: &[u8],
    ) -> Result<u64, Error> {
        let (mut cursor, mut all) = ("0".to_owned(), 0);
        loop {
            let mut call = self.call(&self.inner.scripts.queue, partition);
            call.arg(queue).arg(verb).arg(&cursor).arg(rules);
            let (next, cancelled): (String, u64) = call.run().await?;
            all += cancelled;
            if next == "0" {
                return Ok(all);
            }
            cursor = next;
        }
    }

    async fn queue_call(&self, queue: &str, verb: &str) -> Result<u64, Error> {
        let mut cancelled = 0;
        for partition in 0..self.partitions() {
            cancelled += self.queue_steps(partition, queue, verb, b"").await?;
        }
        Ok(cancelled)
    }

    /// Nothing more is claimed from the queue.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn pause_queue(&self, queue: &str) -> Result<(), Error> {
        self.queue_call(queue, "pause").await.map(drop)
    }

    /// The queue is served again.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn resume_queue(&self, queue: &str) -> Result<(), Error> {
        self.queue_call(queue, "resume").await.map(drop)
    }

    /// Cancels every queued job of the queue. Returns how many.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        self.queue_call(queue, "purge").await
    }

    /// Jobs kept, by type and state; states without jobs are left out.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn counts(&self) -> Result<Vec<(String, State, u64)>, Error> {
        let mut all: BTreeMap<(String, State), u64> = BTreeMap::new();
        for partition in 0..self.partitions() {
            let mut command = redis::cmd("HGETALL");
            command.arg(format!("{}counts", self.head(partition)));
            let counts: HashMap<String, i64> = self.inner.link.any(&command).await?;
            for (field, number) in counts {
                let Some((job_type, letter)) = field.rsplit_once('|') else { continue };
                let Some(state) = letter.chars().next().and_then(State::from_letter) else { continue };
                if let Ok(number) = u64::try_from(number)
                    && number > 0
                {
                    *all.entry((job_type.to_owned(), state)).or_default() += number;
                }
            }
        }
        Ok(all.into_iter().map(|((job_type, state), number)| (job_type, state, number)).collect())
    }

    /// A host says that it is there; it is forgotten after `ttl_ms`.
    ///
    /// # Errors
    /// The server does not take it within 2 s.
    pub async fn put_host(&self, id: &str, json: &str, ttl_ms: u64) -> Result<(), Error> {
        let (seconds, _): (u64, u64) = self.inner.link.probe(&redis::cmd("TIME"), PROBE_MAX).await?;
        let until = seconds * 1_000 + ttl_ms;
        let mut command = redis::cmd("HSET");
        command.arg(self.global("hosts")).arg(id).arg(format!("{until}:{json}"));
        Ok(self.inner.link.probe(&command, PROBE_MAX).await?)
    }

    /// Notes whether a host shall claim nothing, and tells it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn pause_host(&self, id: &str, paused: bool) -> Result<(), Error> {
        let mut command = redis::cmd(if paused { "SADD" } else { "SREM" });
        command.arg(self.global("hosts-paused")).arg(id);
        let _: redis::Value = self.inner.link.any(&command).await?;
        let mut command = redis::cmd("PUBLISH");
        let verb = if paused { "pause" } else { "resume" };
        command.arg(self.control_channel()).arg(format!("host {verb} {id}"));
        Ok(self.inner.link.any(&command).await?)
    }

    /// Shall this host claim nothing? What a host that missed the message asks.
    ///
    /// # Errors
    /// The server does not answer within 2 s.
    pub async fn is_host_paused(&self, id: &str) -> Result<bool, Error> {
        let mut command = redis::cmd("SISMEMBER");
        command.arg(self.global("hosts-paused")).arg(id);
        Ok(self.inner.link.probe(&command, PROBE_MAX).await?)
    }

    /// The names of all queues in which jobs wait, but for partitions that do not answer.
    ///
    /// # Errors
    /// None answers within 1 s.
    pub async fn waiting_queues(&self) -> Result<BTreeSet<String>, Error> {
        let there = (0..self.partitions()).filter(|partition| !self.is_away(*partition));
        let reads = there.map(|partition| async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(format!("{}depth", self.head(partition)));
            self.inner.link.soon::<HashMap<String, i64>>(&command, NAMES_MAX).await
        });
        let (mut names, mut answered, mut failed) = (BTreeSet::new(), false, None);
        for read in futures_util::future::join_all(reads).await {
            match read {
                Ok(depths) => {
                    answered = true;
                    names.extend(depths.into_iter().filter(|(_, depth)| *depth > 0).map(|(name, _)| name));
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if !answered => Err(error.into()),
            _ => Ok(names),
        }
    }

    /// The hosts that are there: id and what they say, JSON text.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn hosts(&self) -> Result<Vec<(String, String)>, Error> {
        let now_ms = self.now_ms().await?;
        let mut command = redis::cmd("HGETALL");
        command.arg(self.global("hosts"));
        let stored: BTreeMap<String, String> = self.inner.link.any(&command).await?;
        let mut hosts = Vec::new();
        for (id, value) in stored {
            match value.split_once(':') {
                Some((until, json)) if until.parse::<u64>().is_ok_and(|until| until >= now_ms) => {
                    hosts.push((id, json.to_owned()));
                }
                _ => self.remove_host(&id).await?,
            }
        }
        Ok(hosts)
    }

    /// Forgets a host.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn remove_host(&self, id: &str) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        pipeline.hdel(self.global("hosts"), id).ignore().srem(self.global("hosts-paused"), id).ignore();
        Ok(self.inner.link.pipeline(&pipeline).await?)
    }

    /// Announces a job type that some host has: its descriptor, JSON text.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn put_type(&self, name: &str, descriptor: &str) -> Result<(), Error> {
        let mut command = redis::cmd("HSET");
        command.arg(self.global("types")).arg(name).arg(descriptor);
        Ok(self.inner.link.any(&command).await?)
    }

    /// The job types that some host has or had: name and descriptor.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn types(&self) -> Result<Vec<(String, String)>, Error> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.global("types"));
        let types: BTreeMap<String, String> = self.inner.link.any(&command).await?;
        Ok(types.into_iter().collect())
    }

    /// Asks a host to drain.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn publish_drain(&self, host: &str) -> Result<(), Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.control_channel()).arg(format!("host drain {host}"));
        Ok(self.inner.link.any(&command).await?)
    }
}
