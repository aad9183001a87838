//! Messages and results of Celery, and the outbox between them and jobs.
//!
//! Celery's keys lie in the databases of its broker and of its results, on the very server of the store, so that one
//! script takes a message off its queue and makes the job: a message is one or the other at every instant. A job's end is
//! noted in the *outbox*, a stream of its partition, by the script that ends it; a host reads the entries, and one
//! script writes what they ask for and removes them. So results and following messages are written exactly once.
//!
//! What messages and results look like is the daemon's affair: here they are texts.
//!
//! Letters of entries: `S`, `F`, `C` a job ended; `b` it begins, `g` it goes on, `r` it failed and is tried again, `p` it
//! is paused; `V` revoked before it came; `L` its queue was full; `D` dead, the body says why; `B` a built-in task,
//! `J` a chord whose parts are all there, in the shapes of whoever wrote them.

use crate::{Error, NewJob, Store, channels::Channels, jobs, pack, seal::Kind};
use serde::Deserialize;
use std::collections::BTreeMap;
use waymark_job::{JobId, Record};

/// Entries of the outbox read at once.
const ENTRIES_MAX: usize = 300;
/// Entries settled by one script call.
const SETTLE_MAX: usize = 100;
/// How long a revoked task is remembered, milliseconds: as long as Celery's workers do.
const REVOKED_MS: u64 = 10_800_000;
/// Messages requeued by one script call.
const REQUEUE_MAX: u64 = 200;
/// Tasks whose jobs are woken by one script call.
const WAKE_MAX: usize = 200;
/// Number and width of a message's arguments, see `celery_take.lua`.
const TAKE_WIDTH: usize = 14;

/// Where Celery's keys lie: databases of the store's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CeleryBroker {
    /// The database of queues.
    pub broker: i64,
    /// The database of results.
    pub results: i64,
}

/// A message at the end of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeleryPeeked {
    /// Its list, by its place among those asked for.
    pub list: usize,
    /// Its text.
    pub text: Vec<u8>,
}

/// A message to be taken.
#[derive(Debug)]
pub struct CeleryTake {
    /// The list that it stands in.
    pub list: String,
    /// Its text.
    pub text: Vec<u8>,
    /// Its task, where that is known.
    pub task: String,
    /// What the outbox shall know of it, JSON.
    pub context: String,
    /// What it becomes.
    pub what: CeleryWhat,
}

/// What a message becomes.
#[derive(Debug)]
pub enum CeleryWhat {
    /// A job.
    Job(Box<NewJob>),
    /// An entry of the outbox.
    Entry {
        /// Its letter.
        letter: char,
        /// Its body.
        body: String,
    },
    /// An entry of the dead list, and one `D` of the outbox.
    Dead {
        /// A stable code.
        why: &'static str,
        /// The body of the entry.
        body: String,
    },
    /// A message in another list.
    Forward {
        /// The list.
        list: String,
        /// The text there.
        text: String,
    },
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CeleryTaken {
    /// A job.
    Job,
    /// An entry of the outbox.
    Entry,
    /// It is on the dead list.
    Dead,
    /// It is in the other list.
    Forwarded,
    /// Its task was revoked before.
    Revoked,
    /// Another took it.
    Missing,
}

/// What became of a task that was to be sent in place of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CelerySent {
    /// It is on its queue, and the job's record says so.
    Sent,
    /// It was sent before.
    Before,
    /// The job is another's by now, or was cancelled, or is gone.
    Lost,
}

/// Something that the callers of a task are to be told.
#[derive(Clone, Debug)]
pub struct CeleryEntry {
    /// Its id in the outbox.
    pub id: String,
    /// What happened, see the module.
    pub letter: char,
    /// The job, where there is one.
    pub job: Option<JobId>,
    /// What the daemon noted about the task.
    pub context: String,
    /// A result, or what the letter says.
    pub body: String,
    /// Why the result cannot be had although the job succeeded.
    pub body_error: Option<String>,
    /// The job's record.
    pub record: Option<Record>,
}

/// A part of what an entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeleryOperation {
    /// A message to the end of a list of the broker.
    Push {
        /// The list.
        list: String,
        /// The message.
        message: String,
    },
    /// A result, unless one that says SUCCESS is there; listeners are told.
    Result {
        /// Its key, also the channel.
        key: String,
        /// Its text.
        text: String,
        /// How long it is kept, seconds.
        expires_s: u64,
    },
    /// A value of the results' database.
    Set {
        /// Its key.
        key: String,
        /// Its text.
        text: String,
        /// How long it is kept, seconds.
        expires_s: u64,
    },
    /// Forgets a key of the results' database.
    Delete {
        /// The key.
        key: String,
    },
    /// A part of a chord. The last one adds an entry `J` with the context.
    Part {
        /// The key of the group, without the suffixes of its parts.
        group: String,
        /// The encoded part; empty: only look whether all are there.
        member: String,
        /// Its place in the group.
        index: i64,
        /// Its task.
        task: String,
        /// How long parts are kept, seconds.
        expires_s: u64,
        /// Of the entry.
        context: String,
    },
    /// A further entry.
    Entry {
        /// Its letter.
        letter: char,
        /// Its context.
        context: String,
        /// Its body.
        body: String,
    },
    /// A text for the dead list.
    Dead {
        /// The list that it belongs to.
        list: String,
        /// Why.
        why: String,
        /// The text.
        text: String,
    },
}

/// A message of the dead list.
#[derive(Clone, Debug, Deserialize)]
pub struct CeleryDead {
    /// The list that it came from.
    #[serde(rename = "k")]
    pub list: String,
    /// Why, a stable code.
    #[serde(rename = "w")]
    pub why: String,
    /// When, Unix milliseconds.
    #[serde(rename = "t")]
    pub at_ms: u64,
    /// The message.
    #[serde(rename = "m")]
    pub message: String,
}

impl Store {
    /// The database of the store itself.
    #[must_use]
    pub fn database(&self) -> i64 {
        self.inner.link.database()
    }

    /// Can Celery's keys be reached from the store's scripts? Not on a Cluster, where they lie in other slots.
    #[must_use]
    pub fn can_serve_celery(&self) -> bool {
        !self.inner.link.is_cluster()
    }

    /// Reads up to `most` messages in the order of the lists, the oldest of each first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_peek(
        &self,
        at: CeleryBroker,
        lists: &[String],
        most: usize,
    ) -> Result<Vec<CeleryPeeked>, Error> {
        let mut call = self.call(&self.inner.scripts.celery_peek, 0);
        call.arg(self.database()).arg(at.broker).arg(most).arg(lists);
        let answer: Vec<Vec<u8>> = call
            .run::<Vec<redis::Value>>()
            .await?
            .into_iter()
            .map(|value| match value {
                redis::Value::Int(number) => Ok(number.to_string().into_bytes()),
                other => redis::from_redis_value(other).map_err(redis::RedisError::from),
            })
            .collect::<Result<_, _>>()?;
        let mut parts = answer.into_iter();
        let mut peeked = Vec::with_capacity(parts.len() / 2);
        while let (Some(number), Some(text)) = (parts.next(), parts.next()) {
            let number = std::str::from_utf8(&number).ok().and_then(|text| text.parse::<usize>().ok());
            let list = number.and_then(|number| number.checked_sub(1));
            peeked.push(CeleryPeeked {
                list: list.ok_or_else(|| Error::corrupt("a list", "no number"))?,
                text,
            });
        }
        Ok(peeked)
    }

    /// Takes messages that were peeked at, at most `window` of each list from its end. One answer for each.
    ///
    /// # Errors
    /// The server does not answer; what was taken then is what it became.
    pub async fn celery_take(
        &self,
        at: CeleryBroker,
        window: usize,
        mut messages: Vec<CeleryTake>,
    ) -> Result<Vec<CeleryTaken>, Error> {
        let partitions = u64::from(self.partitions());
        let now_ms = self.about_now_ms().await?;
        let mut pieces = vec![Vec::new(); usize::from(self.partitions())];
        for (index, message) in messages.iter_mut().enumerate() {
            // A task revoked before it came is noted where its job would be.
            let partition = (jobs::hash(&message.task) % partitions) as u16;
            if let CeleryWhat::Job(job) = &mut message.what {
                job.id = Some(JobId::generate(now_ms, partition)?);
                let mut one = [std::mem::take(&mut **job)];
                self.settle(&mut one).await?;
                let [settled] = one;
                **job = settled;
            }
            pieces[usize::from(partition)].push(index);
        }
        let mut taken = vec![CeleryTaken::Missing; messages.len()];
        for (partition, indexes) in pieces.into_iter().enumerate().filter(|(_, indexes)| !indexes.is_empty())
        {
            let mut call = self.call(&self.inner.scripts.celery_take, partition as u16);
            call.arg(self.control_channel()).arg(self.database()).arg(at.broker).arg(window);
            for index in &indexes {
                let message = &messages[*index];
                call.arg(&message.list).arg(&message.text[..]).arg(&message.task);
                let empty = |call: &mut crate::script::Call<'_>, number: usize| {
                    for _ in 0..number {
                        call.arg("");
                    }
                };
                match &message.what {
                    CeleryWhat::Job(job) => {
                        call.arg("J").arg(&message.context);
                        empty(&mut call, 3);
                        jobs::new_job(&mut call, job)?;
                    }
                    CeleryWhat::Entry { letter, body } => {
                        call.arg("E").arg(&message.context).arg(letter.to_string()).arg(body);
                        empty(&mut call, TAKE_WIDTH - 7);
                    }
                    CeleryWhat::Dead { why, body } => {
                        call.arg("D").arg(&message.context).arg("D").arg(body).arg(*why);
                        empty(&mut call, TAKE_WIDTH - 8);
                    }
                    CeleryWhat::Forward { list, text } => {
                        call.arg("F").arg("").arg("").arg(text).arg(list);
                        empty(&mut call, TAKE_WIDTH - 8);
                    }
                }
            }
            // A message that was taken by a call whose answer was lost is missing the second time.
            let answers: Vec<String> = call.run().await?;
            for (index, answer) in indexes.into_iter().zip(answers) {
                taken[index] = match answer.as_str() {
                    "J" => CeleryTaken::Job,
                    "E" => CeleryTaken::Entry,
                    "D" | "L" => CeleryTaken::Dead,
                    "F" => CeleryTaken::Forwarded,
                    "R" => CeleryTaken::Revoked,
                    _ => CeleryTaken::Missing,
                };
            }
        }
        Ok(taken)
    }

    /// The oldest entries of a partition's outbox.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_outbox(&self, partition: u16) -> Result<Vec<CeleryEntry>, Error> {
        let mut command = redis::cmd("XRANGE");
        command
            .arg(format!("{}celery", self.head(partition)))
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(ENTRIES_MAX);
        let stored: Vec<(String, Vec<Vec<u8>>)> = self.inner.link.any(&command).await?;
        let mut entries = Vec::with_capacity(stored.len());
        for (id, fields) in stored {
            let mut entry = CeleryEntry {
                id,
                letter: '?',
                job: None,
                context: String::new(),
                body: String::new(),
                body_error: None,
                record: None,
            };
            let mut fields = fields.into_iter();
            while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                match name.as_slice() {
                    b"l" => entry.letter = value.first().map_or('?', |byte| char::from(*byte)),
                    b"j" => entry.job = std::str::from_utf8(&value).ok().and_then(|id| JobId::parse(id).ok()),
                    b"c" => entry.context = String::from_utf8_lossy(&value).into_owned(),
                    b"b" => match self.body_of(entry.job, value).await {
                        Ok(text) => entry.body = text,
                        Err(error) if error.is_passing() => return Err(error),
                        Err(error) => entry.body_error = Some(error.to_string()),
                    },
                    b"m" if !value.is_empty() => entry.record = pack::read_record(&value).ok(),
                    _ => {}
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The id of the job comes before it: the script writes the fields in this order. What no job said is never sealed.
    async fn body_of(&self, job: Option<JobId>, stored: Vec<u8>) -> Result<String, Error> {
        match job {
            Some(id) => self.text_of(&id, Kind::Result, stored).await,
            None => pack::text(&stored),
        }
    }

    /// Does what entries ask for, each wholly and once. Where the result `unless_success` of an entry is a success,
    /// nothing is done for it. Answers for each whether it was there.
    ///
    /// # Errors
    /// The server does not answer; asking again is safe.
    pub async fn celery_settle(
        &self,
        at: CeleryBroker,
        partition: u16,
        entries: &[(String, Option<String>, Vec<CeleryOperation>)],
    ) -> Result<Vec<bool>, Error> {
        let mut settled = Vec::with_capacity(entries.len());
        for piece in entries.chunks(SETTLE_MAX) {
            let mut call = self.call(&self.inner.scripts.celery_settle, partition);
            call.arg(self.database()).arg(at.broker).arg(at.results);
            for (id, unless_success, operations) in piece {
                call.arg(id).arg(unless_success.as_deref().unwrap_or_default()).arg(operations.len());
                for operation in operations {
                    match operation {
                        CeleryOperation::Push { list, message } => {
                            call.arg("P").arg(list).arg(message).arg("").arg("")
                        }
                        CeleryOperation::Result { key, text, expires_s } => {
                            call.arg("R").arg(key).arg(text).arg(*expires_s).arg("")
                        }
                        CeleryOperation::Set { key, text, expires_s } => {
                            call.arg("S").arg(key).arg(text).arg(*expires_s).arg("")
                        }
                        CeleryOperation::Delete { key } => call.arg("X").arg(key).arg("").arg("").arg(""),
                        CeleryOperation::Part { group, member, index, task, expires_s, context } => {
                            let place = format!("{index}:{expires_s}:{task}");
                            call.arg("C").arg(group).arg(member).arg(place).arg(context)
                        }
                        CeleryOperation::Entry { letter, context, body } => {
                            call.arg("Q").arg(letter.to_string()).arg(context).arg(body).arg("")
                        }
                        CeleryOperation::Dead { list, why, text } => {
                            call.arg("D").arg(list).arg(why).arg(text).arg("")
                        }
                    };
                }
            }
            let answers: Vec<u8> = call.run::<Vec<u64>>().await?.into_iter().map(|one| one as u8).collect();
            settled.extend(answers.into_iter().map(|one| one == 1));
        }
        Ok(settled)
    }

    /// Revokes tasks: those that come later become no jobs, and jobs that have not begun are cancelled; with `running`
    /// those that run too. Answers how many jobs were cancelled.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_revoke(&self, tasks: &[String], running: bool) -> Result<u64, Error> {
        let mut cancelled = 0;
        for task in tasks {
            let partition = (jobs::hash(task) % u64::from(self.partitions())) as u16;
            let mut call = self.call(&self.inner.scripts.celery_revoke, partition);
            call.arg(self.control_channel()).arg(REVOKED_MS).arg(u8::from(running)).arg(task);
            cancelled += call.run::<u64>().await?;
        }
        Ok(cancelled)
    }

    /// The tasks that are revoked now, up to 1,000 of each partition.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_revoked(&self) -> Result<Vec<String>, Error> {
        let now_ms = self.about_now_ms().await?;
        let mut revoked = Vec::new();
        for partition in 0..self.partitions() {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(format!("{}celery:revoked", self.head(partition))).arg(now_ms).arg("+inf");
            command.arg("LIMIT").arg(0).arg(1_000);
            revoked.extend(self.inner.link.any::<Vec<String>>(&command).await?);
        }
        Ok(revoked)
    }

    /// How many messages the dead list has, and its newest ones.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_dead(&self, most: usize) -> Result<(u64, Vec<CeleryDead>), Error> {
        let (mut length, mut newest) = (0, Vec::new());
        for partition in 0..self.partitions() {
            let name = format!("{}celery:dead", self.head(partition));
            let mut pipeline = redis::pipe();
            // An end of -1 would be all of them.
            let last = isize::try_from(most).unwrap_or(isize::MAX).max(1) - 1;
            pipeline.llen(&name).lrange(&name, 0, last);
            let (number, packed): (u64, Vec<Vec<u8>>) = self.inner.link.pipeline(&pipeline).await?;
            length += number;
            newest.extend(packed.iter().filter_map(|one| rmp_serde::from_slice::<CeleryDead>(one).ok()));
        }
        newest.sort_by_key(|one| std::cmp::Reverse(one.at_ms));
        newest.truncate(most);
        Ok((length, newest))
    }

    /// Puts up to `most` messages of the dead list back, the oldest first. Answers how many, and how many are left.
    ///
    /// # Errors
    /// The server does not answer; messages may have been put back.
    pub async fn celery_requeue(&self, at: CeleryBroker, most: u64) -> Result<(u64, u64), Error> {
        let (mut moved, mut left) = (0, 0);
        for partition in 0..self.partitions() {
            loop {
                let portion = (most - moved).min(REQUEUE_MAX);
                let mut call = self.call(&self.inner.scripts.celery_requeue, partition);
                let (now, rest): (u64, u64) =
                    call.arg(self.database()).arg(at.broker).arg(portion).run_once().await?;
                moved += now;
                if now < portion || moved >= most {
                    left += rest;
                    break;
                }
            }
        }
        Ok((moved, left))
    }

    /// Pushes a Celery message to the end of a queue of the broker: whoever serves that queue runs it.
    ///
    /// # Errors
    /// The server does not answer; then it may have been pushed.
    pub async fn celery_push(&self, at: CeleryBroker, list: &str, message: &str) -> Result<(), Error> {
        let mut call = self.call(&self.inner.scripts.celery_at, 0);
        call.arg(self.database()).arg(at.broker).arg("push").arg(list).arg(message);
        call.run_once::<u64>().await.map(drop)
    }

    /// Sends the task that `record` names (`sent`) in place of a claimed job, to the end of a list of the broker, and
    /// writes the record. Safe to repeat: a task that the job's record names already is not sent again.
    ///
    /// # Errors
    /// The server does not answer, or the list is none.
    pub async fn celery_send(
        &self,
        at: CeleryBroker,
        id: &JobId,
        token: &str,
        record: &Record,
        list: &str,
        message: &str,
    ) -> Result<CelerySent, Error> {
        let task = record.sent.as_ref().map(|sent| sent.id.as_str());
        let task = task.ok_or_else(|| Error::corrupt("a record", "it names no task"))?;
        let mut call = self.call(&self.inner.scripts.celery_send, id.partition());
        call.arg(id.as_str()).arg(token).arg(pack::record(record)?).arg(task);
        call.arg(self.database()).arg(at.broker).arg(list).arg(message);
        let answer: String = call.run().await?;
        Ok(match answer.as_str() {
            "D" => CelerySent::Sent,
            "A" => CelerySent::Before,
            _ => CelerySent::Lost,
        })
    }

    /// Notes for so long which job a task runs for: its end wakes the job.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_note(&self, task: &str, job: &JobId, kept_ms: u64) -> Result<(), Error> {
        let mut command = redis::cmd("SET");
        command.arg(self.task_key(task)).arg(job.as_str()).arg("PX").arg(kept_ms);
        Ok(self.inner.link.any(&command).await?)
    }

    /// Wakes the jobs that sleep until they look after these tasks again, for the tasks have ended. Those that nothing was
    /// noted of are others'. Answers for each whether its job looks after it just now, and may sleep again.
    ///
    /// # Errors
    /// The server does not answer; asking again is safe.
    pub async fn celery_wake(&self, tasks: &[String]) -> Result<Vec<bool>, Error> {
        let mut looks = vec![false; tasks.len()];
        if tasks.is_empty() {
            return Ok(looks);
        }
        let mut command = redis::cmd("MGET");
        for task in tasks {
            command.arg(self.task_key(task));
        }
        let noted: Vec<Option<String>> = self.inner.link.any(&command).await?;
        let mut jobs: BTreeMap<u16, Vec<(JobId, usize)>> = BTreeMap::new();
        for (index, noted) in noted.iter().enumerate() {
            if let Some(id) = noted.as_ref().and_then(|id| JobId::parse(id).ok()) {
                jobs.entry(id.partition()).or_default().push((id, index));
            }
        }
        for (partition, jobs) in &jobs {
            for piece in jobs.chunks(WAKE_MAX) {
                let mut call = self.call(&self.inner.scripts.celery_wake, *partition);
                for (id, index) in piece {
                    call.arg(id.as_str()).arg(&tasks[*index]);
                }
                let answers: Vec<String> = call.run().await?;
                for ((_, index), answer) in piece.iter().zip(answers) {
                    looks[*index] = answer == "L";
                }
            }
        }
        Ok(looks)
    }

    fn task_key(&self, task: &str) -> String {
        self.global(&format!("task:{task}"))
    }

    /// What workers of Celery wrote under a key of the results' database, which may be anything.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_result(&self, at: CeleryBroker, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut call = self.call(&self.inner.scripts.celery_at, 0);
        call.arg(self.database()).arg(at.results).arg("read").arg(key).run().await
    }

    /// The text under a key of the results' database.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_read(&self, at: CeleryBroker, key: &str) -> Result<Option<String>, Error> {
        let mut call = self.call(&self.inner.scripts.celery_at, 0);
        call.arg(self.database()).arg(at.results).arg("read").arg(key).run().await
    }

    /// The parts of a chord that are there, by their places.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_parts(&self, at: CeleryBroker, group: &str) -> Result<Vec<String>, Error> {
        let mut call = self.call(&self.inner.scripts.celery_at, 0);
        call.arg(self.database()).arg(at.results).arg("parts").arg(format!("{group}.j")).run().await
    }

    /// Messages that stand in these lists of the broker.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_length(&self, at: CeleryBroker, lists: &[String]) -> Result<u64, Error> {
        let mut call = self.call(&self.inner.scripts.celery_at, 0);
        call.arg(self.database()).arg(at.broker).arg("length").arg(lists).run().await
    }

    /// Publishes on a channel. Whoever does not listen misses it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn celery_publish(&self, channel: &str, text: &str) -> Result<(), Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(text);
        self.inner.link.send::<u64>(crate::link::Repeat::Never, &command).await?;
        Ok(())
    }

    /// Listens to channels, and to the outboxes.
    #[must_use]
    pub fn celery_listen(&self, channels: Vec<String>) -> CeleryListener {
        let outboxes = (0..self.partitions()).map(|partition| format!("{}celery", self.head(partition)));
        let names = channels.iter().cloned().chain(outboxes).collect();
        CeleryListener { channels: Channels::new(self, names, Vec::new()), asked: channels }
    }

    /// Listens to the channels whose names fit a glob-style pattern.
    #[must_use]
    pub fn celery_listen_to_all(&self, pattern: String) -> CeleryListener {
        CeleryListener { channels: Channels::new(self, Vec::new(), vec![pattern]), asked: Vec::new() }
    }
}

/// A subscription with a connection of its own, which comes back when it breaks.
pub struct CeleryListener {
    channels: Channels,
    /// Those that are no outboxes.
    asked: Vec<String>,
}

impl CeleryListener {
    /// The next text of a channel; `None`: there may be something in an outbox, or texts may have been missed. Waits for
    /// ever; cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let message = self.channels.next().await?;
        let name = message.get_channel_name();
        let of_outbox = name.ends_with("}:celery") && !self.asked.iter().any(|asked| asked == name);
        (!of_outbox).then(|| message.get_payload_bytes().to_vec())
    }
}
