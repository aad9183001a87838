//! Claims, commits and leases.

use crate::{Checkpoint, Error, NewJob, Store, jobs, pack, seal::Kind};
use std::{collections::HashMap, sync::Arc};
use waymark_job::{JobId, Record, Spec, State, Trace};

/// Commits in one script call: about 6 ms of the server.
const COMMITS_MAX: usize = 500;

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// The worker, as registered.
    pub worker: String,
    /// 32 random hexadecimal characters: the right to write, shared by the jobs of this call.
    pub token: String,
    /// Job types served, and `type@digest` for the versions held.
    pub selectors: Vec<String>,
    /// Queues served; `None`: all.
    pub queues: Option<Vec<String>>,
    /// Most jobs, 1 to 1,000.
    pub limit: usize,
    /// 0: highest priority first. Else which priority goes first this time, by turns from the lowest up to the one
    /// below the highest, so that none starves.
    pub fair: u32,
}

/// What a worker got.
#[derive(Debug)]
pub struct Claimed {
    /// The jobs.
    pub jobs: Vec<ClaimedJob>,
    /// The server's time, Unix milliseconds.
    pub now_ms: u64,
    /// When the next scheduled job is due, Unix milliseconds.
    pub next_due_ms: Option<u64>,
}

/// A claimed job.
#[derive(Debug)]
pub struct ClaimedJob {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub spec: Spec,
    /// As last committed.
    pub record: Record,
}

/// All that a fresh instance needs besides the input.
#[derive(Debug)]
pub struct Resume {
    /// The newest checkpoint, if it is that of the last commit.
    pub checkpoint: Option<Checkpoint>,
    /// Children, in the order they were spawned.
    pub children: Vec<(JobId, ChildOutcome)>,
    /// Signals that arrived.
    pub signals: Vec<Signal>,
}

/// A signal that a job was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// JSON text.
    pub payload: String,
    /// When it arrived, Unix microseconds: tells it from a later one of the same name.
    pub arrived_us: u64,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildOutcome {
    /// It has not.
    Pending,
    /// Its result, JSON text.
    Succeeded(String),
    /// Why it failed or was cancelled.
    Failed(String),
}

impl From<ChildOutcome> for Result<String, String> {
    fn from(outcome: ChildOutcome) -> Self {
        match outcome {
            ChildOutcome::Pending => Err("not ended".to_owned()),
            ChildOutcome::Succeeded(result) => Ok(if result.is_empty() { "null".to_owned() } else { result }),
            ChildOutcome::Failed(why) => Err(why),
        }
    }
}

/// What a worker did, to be written at once or not at all.
#[derive(Debug)]
pub struct Commit {
    /// The job.
    pub id: JobId,
    /// The token of the claim.
    pub token: String,
    /// Number of the last step done, which tells a repeated commit.
    pub step: u64,
    /// Number of the committed step that this one goes on from, which tells a server that lost it.
    pub base_step: u64,
    /// What was asked for.
    pub spec: Arc<Spec>,
    /// The record from now on.
    pub record: Record,
    /// What happens next.
    pub then: Then,
    /// The state after the step.
    pub checkpoint: Option<NewCheckpoint>,
    /// Output records, JSON texts.
    pub outputs: Vec<String>,
    /// Children, each with its id.
    pub children: Vec<NewJob>,
    /// Name of the signal that the step took, and when that arrived: it is forgotten with the commit.
    pub took: Option<(String, u64)>,
    /// The span that did it: what is made of the job's end belongs to it.
    pub trace: Option<Trace>,
}

/// The state of a job as its plugin wrote it.
#[derive(Debug)]
pub struct NewCheckpoint {
    /// Media type.
    pub mime_type: String,
    /// Version of the shape.
    pub state_version: u32,
    /// The bytes.
    pub state: Vec<u8>,
    /// Version of the plugin.
    pub plugin_version: String,
    /// Digest of the plugin.
    pub plugin_digest: String,
}

/// What happens after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// The worker goes on.
    Continue,
    /// Done.
    Succeeded {
        /// JSON text.
        result: String,
    },
    /// Failed for good; the error is in the record.
    Failed,
    /// The attempt failed, the error is in the record; another one after so long.
    Retry {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// Go on after so long.
    Sleep {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// Go on when every child has ended.
    AwaitChildren,
    /// A workflow: go on when more children have ended than it has seen.
    AwaitChild {
        /// Ends of children seen, as listed by [`Store::ends`].
        seen: u64,
    },
    /// Go on when the signal arrives.
    AwaitSignal {
        /// Its name.
        name: String,
        /// Go on without it after so many milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Stay until resumed.
    Paused,
    /// The same, as an operator asked; back to the front of the line if that was taken back meanwhile.
    PausedAsAsked,
    /// Back to the front of the line.
    Release {
        /// Digest of the only version that can go on.
        pin: Option<String>,
    },
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Written; the job is in this state now. A pending pause turns anything but an end into a pause.
    Done(State),
    /// It was written before.
    Already,
    /// Another has the job: nothing was written.
    Lost,
}

/// What a renewal tells.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// `false`: the lease had run out and the jobs were taken.
    pub alive: bool,
    /// Jobs of this worker that shall pause.
    pub pauses: Vec<JobId>,
    /// Jobs taken back from workers that are gone.
    pub reaped: u64,
    /// The server's time, Unix milliseconds.
    pub now_ms: u64,
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

impl Store {
    /// Makes a worker known; without it nothing can be claimed. A worker whose lease had run out, and whose jobs others
    /// were taking, is known again when they are all taken.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn register(&self, partition: u16, worker: &str, lease_ms: u64) -> Result<(), Error> {
        while !self.beat(partition, worker, lease_ms, true).await?.alive {}
        Ok(())
    }

    /// Renews the lease of a worker and takes back the jobs of workers that are gone.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn renew(&self, partition: u16, worker: &str, lease_ms: u64) -> Result<Renewal, Error> {
        self.beat(partition, worker, lease_ms, false).await
    }

    async fn beat(
        &self,
        partition: u16,
        worker: &str,
        lease_ms: u64,
        register: bool,
    ) -> Result<Renewal, Error> {
        let (mut renewal, mut more) = self.beat_once(partition, worker, lease_ms, register).await?;
        // A dead worker may have held thousands; each call takes a portion, so that none holds up the server.
        while more {
            let (next, again) = self.beat_once(partition, worker, lease_ms, false).await?;
            renewal = Renewal { reaped: renewal.reaped + next.reaped, ..next };
            more = again;
        }
        Ok(renewal)
    }

    async fn beat_once(
        &self,
        partition: u16,
        worker: &str,
        lease_ms: u64,
        register: bool,
    ) -> Result<(Renewal, bool), Error> {
        let mut call = self.call(&self.inner.scripts.renew, partition);
        call.arg(worker).arg(lease_ms).arg(u8::from(register)).arg(self.options().crashes_max);
        let (alive, now_ms, reaped, more, pauses): (u8, u64, u64, u8, Vec<String>) = {
            let mut answer: Vec<redis::Value> = call.run().await?;
            let pauses = answer.split_off(answer.len().min(4));
            let mut head = answer.into_iter();
            let mut next = || head.next().unwrap_or(redis::Value::Nil);
            (
                redis::from_redis_value(next()).map_err(redis::RedisError::from)?,
                redis::from_redis_value(next()).map_err(redis::RedisError::from)?,
                redis::from_redis_value(next()).map_err(redis::RedisError::from)?,
                redis::from_redis_value(next()).map_err(redis::RedisError::from)?,
                pauses
                    .into_iter()
                    .map(redis::from_redis_value)
                    .collect::<Result<_, _>>()
                    .map_err(redis::RedisError::from)?,
            )
        };
        self.inner.clock.set(now_ms);
        let pauses = pauses.iter().filter_map(|id| JobId::parse(id).ok()).collect();
        Ok((Renewal { alive: alive == 1, pauses, reaped, now_ms }, more == 1))
    }

    /// Takes waiting jobs. Not to be repeated when the answer was lost: call [`Store::recover`] first.
    ///
    /// # Errors
    /// [`Error::Unregistered`] if the worker's lease ran out, or the server does not answer.
    pub async fn claim(&self, partition: u16, request: &ClaimRequest) -> Result<Claimed, Error> {
        let mut call = self.call(&self.inner.scripts.claim, partition);
        call.arg(&request.worker).arg(&request.token).arg(request.limit.clamp(1, 1_000)).arg(request.fair);
        if request.queues.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Claimed { jobs: Vec::new(), now_ms: self.about_now_ms().await?, next_due_ms: None });
        }
        let queues = request.queues.as_deref().unwrap_or_default();
        call.arg(queues.len()).arg(queues).arg(&request.selectors);
        let answer: Vec<Vec<u8>> = call.run_once().await?;
        let mut parts = answer.into_iter();
        let now_ms = match parts.next() {
            Some(gone) if gone == b"GONE" => return Err(Error::Unregistered),
            Some(used) if used == b"USED" => {
                return Err(Error::corrupt("a claim", "its token was used before: recover it"));
            }
            Some(now) => number(&now).ok_or_else(|| Error::corrupt("a claim", "no time"))?,
            None => return Err(Error::corrupt("a claim", "no answer")),
        };
        self.inner.clock.set(now_ms);
        let next_due_ms = parts.next().and_then(|due| number(&due));
        let mut jobs = Vec::with_capacity(parts.len() / 3);
        while let (Some(id), Some(spec), Some(state)) = (parts.next(), parts.next(), parts.next()) {
            let id = jobs::parse_id(&id)?;
            let stored = (!state.is_empty()).then_some(state.as_slice());
            match (pack::read_spec(&id, &spec, self.keyring()), pack::read_state(&id, stored)) {
                (Ok(spec), Ok((_, record))) => jobs.push(ClaimedJob { id, spec, record }),
                // It stays claimed by this worker for now, so that it does not come back and stop every claim; the worker
                // gives back what it does not hold from time to time.
                (Err(error @ Error::KeyMissing(_)), _) => {
                    tracing::error!(job_id = %id, %error, "a job cannot be read here");
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(job_id = %id, %error, "a job cannot be read: delete it");
                }
            }
        }
        Ok(Claimed { jobs, now_ms, next_due_ms })
    }

    /// Puts the jobs of a claim whose answer was lost back to the front of their lines. Returns how many.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn recover(&self, partition: u16, worker: &str, token: &str) -> Result<u64, Error> {
        self.take_back(partition, worker, token, false).await
    }

    /// Takes back all jobs of a worker that left, or that crashed, which counts against its jobs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn retire(&self, partition: u16, worker: &str, crashed: bool) -> Result<u64, Error> {
        self.take_back(partition, worker, "", crashed).await
    }

    async fn take_back(
        &self,
        partition: u16,
        worker: &str,
        token: &str,
        crashed: bool,
    ) -> Result<u64, Error> {
        let mut cursor = "0".to_owned();
        let mut all = 0;
        loop {
            let mut call = self.call(&self.inner.scripts.retire, partition);
            call.arg(worker).arg(token).arg(u8::from(crashed)).arg(self.options().crashes_max).arg(&cursor);
            let (next, taken): (String, u64) = call.run().await?;
            all += taken;
            if next == "0" {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// The jobs that the store believes this worker to hold, each with the token of its claim. Looks at every
    /// claim of the partition.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn held(&self, partition: u16, worker: &str) -> Result<Vec<(JobId, String)>, Error> {
        let claims = format!("{}claims", self.head(partition));
        let claims: Vec<(String, String)> = self.inner.link.fields(&claims, usize::MAX).await?;
        let held = claims.iter().filter_map(|(id, claim)| {
            let (token, owner, _) = pack::read_claim(claim)?;
            (owner == worker).then_some((JobId::parse(id).ok()?, token.to_owned()))
        });
        Ok(held.collect())
    }

    /// Puts claimed jobs, named with the tokens of their claims, back to the front of their lines: their worker
    /// does not hold them. Returns how many.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn give_back(&self, partition: u16, jobs: &[(JobId, String)]) -> Result<u64, Error> {
        let mut taken = 0;
        for piece in jobs.chunks(COMMITS_MAX) {
            let mut call = self.call(&self.inner.scripts.give_back, partition);
            for (id, token) in piece {
                call.arg(id.as_str()).arg(token);
            }
            taken += call.run::<u64>().await?;
        }
        Ok(taken)
    }

    /// What a fresh instance needs to go on.
    ///
    /// # Errors
    /// The server does not answer, or the checkpoint is damaged.
    pub async fn load(&self, id: &JobId, record: &Record) -> Result<Resume, Error> {
        let mut pipeline = redis::pipe();
        pipeline
            .lindex(self.key(id, &format!("cp:{id}")), 0)
            .pttl(self.key(id, &format!("cp:{id}")))
            .hgetall(self.key(id, &format!("kids:{id}")))
            .hgetall(self.key(id, &format!("sig:{id}")));
        type Answer = (Option<Vec<u8>>, i64, HashMap<String, Vec<u8>>, Vec<(String, String)>);
        let (bytes, ttl_ms, kids, signals): Answer = self.inner.link.pipeline(&pipeline).await?;
        let now_ms = self.about_now_ms().await?;
        let expires_ms = u64::try_from(ttl_ms).ok().map(|ttl_ms| now_ms + ttl_ms);
        let checkpoint = match bytes {
            Some(bytes) if record.step > 0 => {
                Some(pack::read_checkpoint(id, &bytes, expires_ms, self.keyring())?)
                    .filter(|found| (found.run, found.step) == (record.run, record.step))
            }
            _ => None,
        };
        let children = record.children.iter().map(|child| {
            let outcome = match kids.get(child.as_str()).and_then(|stored| stored.split_first()) {
                Some((b'S', result)) => {
                    ChildOutcome::Succeeded(pack::read_value(child, Kind::Result, result, self.keyring())?)
                }
                Some((b'F', why)) => ChildOutcome::Failed(String::from_utf8_lossy(why).into_owned()),
                _ => ChildOutcome::Pending,
            };
            Ok((*child, outcome))
        });
        let signals = signals.into_iter().map(|(name, stored)| {
            let (arrived_us, payload) = stored
                .split_once(' ')
                .and_then(|(arrived_us, payload)| Some((arrived_us.parse().ok()?, payload.to_owned())))
                .ok_or_else(|| Error::corrupt("a signal", &stored))?;
            let payload = self.keyring().open_text(id.as_str(), Kind::Signal, payload)?;
            Ok(Signal { name, payload, arrived_us })
        });
        Ok(Resume {
            checkpoint,
            children: children.collect::<Result<_, Error>>()?,
            signals: signals.collect::<Result<_, Error>>()?,
        })
    }

    /// Writes commits, all of one partition. Safe to repeat until it is answered; the due time of a parked job
    /// and its claim are noted in the records given.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn commit(&self, partition: u16, commits: &mut [Commit]) -> Result<Vec<CommitAnswer>, Error> {
        let mut answers = Vec::with_capacity(commits.len());
        for piece in commits.chunks_mut(COMMITS_MAX) {
            answers.extend(self.commit_piece(partition, piece).await?);
        }
        Ok(answers)
    }

    async fn commit_piece(&self, partition: u16, commits: &mut [Commit]) -> Result<Vec<CommitAnswer>, Error> {
        let mut call = self.call(&self.inner.scripts.commit, partition);
        call.arg(self.options().checkpoint_keep).arg(self.options().checkpoint_ttl_ms);
        for commit in commits.iter_mut().filter(|commit| !commit.children.is_empty()) {
            self.settle(&mut commit.children).await?;
        }
        for commit in &mut *commits {
            let spec = &commit.spec;
            let (letter, delay_ms) = match &commit.then {
                Then::Continue => ("r", None),
                Then::Succeeded { .. } => ("S", None),
                Then::Failed => ("F", None),
                Then::Retry { delay_ms } | Then::Sleep { delay_ms } => ("s", Some(*delay_ms)),
                Then::AwaitChildren | Then::AwaitChild { .. } => ("w", None),
                Then::AwaitSignal { timeout_ms, .. } => ("w", *timeout_ms),
                Then::Paused => ("P", None),
                Then::PausedAsAsked => ("p", None),
                Then::Release { .. } => ("q", None),
            };
            let due_ms =
                delay_ms.map(|delay_ms| commit.record.committed_ms.unwrap_or(0).saturating_add(delay_ms));
            commit.record.not_before_ms = due_ms;
            if commit.then != Then::Continue {
                commit.record.claim = Some(commit.token.clone());
            }
            let record = &commit.record;
            call.arg(commit.id.as_str()).arg(&commit.token).arg(commit.step);
            call.arg(&spec.job_type)
                .arg(spec.lane().as_ref())
                .arg(spec.priority)
                .arg(letter)
                .arg(pack::record(record)?);
            match due_ms {
                Some(due_ms) => call.arg(due_ms),
                None => call.arg(""),
            };
            match &commit.then {
                Then::Succeeded { result } if result != "null" => {
                    call.arg(&*pack::value(&commit.id, Kind::Result, result, self.keyring())?)
                }
                _ => call.arg(""),
            };
            match &commit.then {
                Then::Release { pin: Some(digest) } => call.arg(format!("{}@{digest}", spec.job_type)),
                _ => call.arg(""),
            };
            match &commit.checkpoint {
                Some(checkpoint) => {
                    call.arg(pack::checkpoint(&commit.id, checkpoint, record, self.keyring())?)
                }
                None => call.arg(""),
            };
            call.arg(spec.unique_key.as_deref().unwrap_or_default());
            match &spec.parent {
                Some(parent) => call.arg(parent.as_str()),
                None => call.arg(""),
            };
            match &record.error {
                // What goes wrong in a copy is no failure of its type.
                Some(error)
                    if matches!(commit.then, Then::Failed | Then::Retry { .. }) && spec.shadow.is_none() =>
                {
                    call.arg(pack::failure(&spec.job_type, error, record.version.as_deref())?)
                }
                _ => call.arg(""),
            };
            let took = commit.took.as_ref().map(|(name, arrived_us)| format!("{name} {arrived_us}"));
            let awaited = match &commit.then {
                Then::AwaitSignal { name, .. } => Some(name.clone()),
                Then::AwaitChild { seen } => Some(format!(">{seen}")),
                _ => None,
            };
            if took.is_some() || awaited.is_some() {
                call.arg(format!("{}|{}", took.unwrap_or_default(), awaited.unwrap_or_default()));
            } else {
                call.arg("");
            }
            call.arg(commit.outputs.len()).arg(commit.children.len()).arg(commit.base_step);
            if spec.webhooks.is_empty() && spec.celery.is_none() {
                call.arg("");
            } else {
                call.arg(pack::announcement(record.run, spec, commit.trace.as_ref())?);
            }
            for output in &commit.outputs {
                call.arg(&*pack::value(&commit.id, Kind::Output, output, self.keyring())?);
            }
            for child in &commit.children {
                jobs::new_job(&mut call, child)?;
            }
        }
        let answers: Vec<String> = call.run().await?;
        answers
            .iter()
            .map(|answer| match answer.as_str() {
                "A" => Ok(CommitAnswer::Already),
                "L" => Ok(CommitAnswer::Lost),
                done => match done.strip_prefix('D').and_then(|letter| letter.chars().next()) {
                    Some(letter) => Ok(CommitAnswer::Done(pack::state(letter)?)),
                    None => Err(Error::corrupt("a commit's answer", done)),
                },
            })
            .collect()
    }
}
