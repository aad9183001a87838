//! Schedules: kept in the partition that follows from their name, together with the jobs they make.
//!
//! Who fires reads the schedules that are due, computes what is to be done ([`StoredSchedule::firing`]), and asks the
//! store to do it ([`Store::fire`]). The store does so only where nothing has changed since, so that any number of
//! hosts may ask at once.
//!
//! A job whose partition follows from a key (a unique key, or a limit of its queue) is created there and not here: that
//! it is owed is noted in the call that fires, with its id, and whoever finds the note creates it
//! ([`Store::settle_schedules`]).

use crate::{Error, NewJob, Store, jobs};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use waymark_job::{
    Control, Firing, JobId, Schedule,
    schedule::{Due, Invalid, Overlap, TAG, Work},
};

/// Schedules looked at in one call.
const LOOK_MAX: usize = 100;
/// Jobs made in one call.
const JOBS_MAX: usize = 40;
/// How often somebody else may change a schedule while it is asked to run now.
const TRIES_MAX: u32 = 20;

/// What changes of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ScheduleState {
    /// Counts changes of its definition.
    pub rev: u64,
    /// The next planned time, Unix milliseconds; `None`: it has ended.
    #[serde(rename = "next")]
    pub next_ms: Option<u64>,
    /// A planned time that waits for the end of the job made last.
    #[serde(rename = "wait")]
    pub waiting_ms: Option<u64>,
    /// It does not fire.
    pub paused: bool,
    /// The job made last.
    pub job: Option<JobId>,
    /// When it fired last, Unix milliseconds.
    #[serde(rename = "last")]
    pub last_ms: Option<u64>,
    /// Times it fired.
    pub fired: u64,
    /// Times it missed.
    pub missed: u64,
    /// Why it cannot go on, or what went wrong last.
    pub error: Option<String>,
    /// How long the last run took, milliseconds; only of schedules that make no jobs.
    #[serde(rename = "took")]
    pub took_ms: Option<u64>,
    /// What the last run did; only of schedules that make no jobs.
    pub did: Option<String>,
}

/// What became of a planned time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fired {
    /// The planned time, Unix milliseconds; the first of them where there are several.
    #[serde(rename = "p")]
    pub planned_ms: u64,
    /// When this was noted, Unix milliseconds.
    #[serde(rename = "f")]
    pub at_ms: u64,
    /// The job that was made.
    #[serde(rename = "j", default)]
    pub job: Option<JobId>,
    /// Why none was made: `overlap`, `waiting`, `missed`, `unique` (`job` has the unique key) or `limit`; what was done,
    /// of schedules that make no jobs.
    #[serde(rename = "w", default)]
    pub note: Option<String>,
    /// How many times, where it stands for several.
    #[serde(rename = "n", default)]
    pub times: Option<u64>,
}

/// A schedule as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSchedule {
    /// As somebody wrote it down.
    pub schedule: Schedule,
    /// What changes.
    pub state: ScheduleState,
}

/// What became of a schedule to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutAnswer {
    /// It is new.
    Created,
    /// It replaced another.
    Replaced,
    /// It was there, just so.
    Same,
    /// The configuration file of a host holds it.
    FromFile,
}

/// What became of one planned time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A job was made, or will be when its partition answers.
    Job(JobId),
    /// This job has the unique key: none was made.
    Unique(JobId),
    /// The limits of its queue let no more jobs wait: none was made.
    Refused,
    /// The caller does it, and says so with [`Store::schedule_ran`].
    Action,
    /// The job made last has not ended: left out.
    Overlap,
    /// It waits for the end of the job made last.
    Waits,
    /// The schedule has made all the jobs it may.
    Ended,
}

/// A schedule to be fired, and how it stood when its times were looked at.
#[derive(Clone, Debug)]
pub struct FireRequest {
    stored: StoredSchedule,
    due: Due,
    error: Option<String>,
    asked: bool,
}

impl FireRequest {
    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.stored.schedule
    }

    /// The planned times, in the order of the outcomes.
    #[must_use]
    pub fn times(&self) -> &[u64] {
        &self.due.times
    }
}

impl StoredSchedule {
    /// What is to be done at `now_ms`, the store's time.
    #[must_use]
    pub fn firing(self, now_ms: u64) -> FireRequest {
        let computed = match self.state.next_ms {
            Some(next_ms) => self.schedule.calendar().and_then(|calendar| calendar.due(next_ms, now_ms)),
            None => Ok(Due::default()),
        };
        // What cannot be computed stops: the error says why, and a new definition starts it again.
        let (mut due, error) = match computed {
            Ok(due) => (due, None),
            Err(error) => (Due::default(), Some(error.to_string())),
        };
        if let Some(waiting_ms) = self.state.waiting_ms {
            due.times.insert(0, waiting_ms);
        }
        FireRequest { stored: self, due, error, asked: false }
    }

    /// One more time now, beside the planned ones.
    #[must_use]
    pub fn firing_now(self, now_ms: u64) -> FireRequest {
        let due = Due { times: vec![now_ms], missed: 0, next_ms: self.state.next_ms };
        let error = self.state.error.clone();
        FireRequest { stored: self, due, error, asked: true }
    }
}

impl Store {
    /// The partition of a schedule.
    fn schedule_partition(&self, name: &str) -> u16 {
        (jobs::hash(name) % u64::from(self.partitions())) as u16
    }

    /// Keeps a schedule. `paused`: `None` leaves the switch as it is.
    ///
    /// # Errors
    /// [`Error::Schedule`] if it has no times or a field is wrong, or the server does not answer.
    pub async fn put_schedule(&self, schedule: &Schedule, paused: Option<bool>) -> Result<PutAnswer, Error> {
        let next_ms = schedule.calendar()?.first(self.now_ms().await?)?;
        let packed =
            rmp_serde::to_vec_named(schedule).map_err(|error| Error::corrupt("a schedule", error))?;
        let partition = self.schedule_partition(&schedule.name);
        let mut call = self.call(&self.inner.scripts.schedule_put, partition);
        call.arg(&schedule.name).arg(packed).arg(schedule.fingerprint());
        call.arg(text(next_ms)).arg(text(next_ms.map(|next_ms| schedule.due_ms(next_ms))));
        call.arg(paused.map_or("", |paused| if paused { "1" } else { "0" }));
        call.arg(if schedule.from_file { "1" } else { "0" });
        let answer: String = call.run().await?;
        let answer = match answer.as_str() {
            "C" => PutAnswer::Created,
            "R" => PutAnswer::Replaced,
            "S" => PutAnswer::Same,
            "F" => PutAnswer::FromFile,
            _ => return Err(Error::corrupt("a schedule's answer", answer)),
        };
        if matches!(answer, PutAnswer::Created | PutAnswer::Replaced) {
            self.publish_schedules().await?;
        }
        Ok(answer)
    }

    async fn control_schedule(&self, name: &str, verb: &str, next: [String; 2]) -> Result<bool, Error> {
        let mut call = self.call(&self.inner.scripts.schedule_control, self.schedule_partition(name));
        let answer: String = call.arg(name).arg(verb).arg(&next[..]).run().await?;
        Ok(answer == "D")
    }

    /// Forgets a schedule; `false` where there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn delete_schedule(&self, name: &str) -> Result<bool, Error> {
        self.control_schedule(name, "delete", Default::default()).await
    }

    /// Pauses a schedule; `false` where there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        self.control_schedule(name, "pause", Default::default()).await
    }

    /// Lets a schedule fire again, from its next time on; `false` where there is none.
    ///
    /// # Errors
    /// Its times cannot be computed, or the server does not answer.
    pub async fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let Some(stored) = self.schedule(name).await? else { return Ok(false) };
        if !stored.state.paused {
            return Ok(true);
        }
        let next_ms = stored.schedule.calendar()?.next_after(self.now_ms().await?)?;
        let due_ms = next_ms.map(|next_ms| stored.schedule.due_ms(next_ms));
        let resumed = self.control_schedule(name, "resume", [text(next_ms), text(due_ms)]).await?;
        self.publish_schedules().await?;
        Ok(resumed)
    }

    /// One schedule.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn schedule(&self, name: &str) -> Result<Option<StoredSchedule>, Error> {
        Ok(self.read_schedules(self.schedule_partition(name), &[name.to_owned()]).await?.pop())
    }

    /// The last 20 things that became of its times, newest first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn schedule_history(&self, name: &str) -> Result<Vec<Fired>, Error> {
        let mut command = redis::cmd("LRANGE");
        command.arg(format!("{}schedh:{name}", self.head(self.schedule_partition(name)))).arg(0).arg(-1);
        let entries: Vec<Vec<u8>> = self.inner.link.any(&command).await?;
        let read = |entry: &Vec<u8>| rmp_serde::from_slice(entry);
        entries.iter().map(read).collect::<Result<_, _>>().map_err(|error| unreadable(name, error))
    }

    /// Schedules by name, those after `after`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn schedules(&self, after: Option<&str>, limit: usize) -> Result<Vec<StoredSchedule>, Error> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut found = BTreeMap::new();
        for partition in 0..self.partitions() {
            let mut command = redis::cmd("ZRANGEBYLEX");
            command.arg(format!("{}schedx", self.head(partition)));
            command.arg(&from).arg("+").arg("LIMIT").arg(0).arg(limit);
            let names: Vec<String> = self.inner.link.any(&command).await?;
            let read = self.read_schedules(partition, &names).await?;
            found.extend(read.into_iter().map(|stored| (stored.schedule.name.clone(), stored)));
        }
        Ok(found.into_values().take(limit).collect())
    }

    async fn read_schedules(&self, partition: u16, names: &[String]) -> Result<Vec<StoredSchedule>, Error> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.call(&self.inner.scripts.read_schedules, partition);
        call.arg(names);
        let parts: Vec<Option<Vec<u8>>> = call.run().await?;
        let mut found = Vec::with_capacity(names.len());
        for (name, parts) in names.iter().zip(parts.chunks_exact(2)) {
            let [Some(definition), Some(state)] = parts else { continue };
            let schedule = rmp_serde::from_slice(definition).map_err(|error| unreadable(name, error))?;
            let state = rmp_serde::from_slice(state).map_err(|error| unreadable(name, error))?;
            found.push(StoredSchedule { schedule, state });
        }
        Ok(found)
    }

    /// When the first schedule of a partition is due, Unix milliseconds.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn next_schedule_ms(&self, partition: u16) -> Result<Option<u64>, Error> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(format!("{}schedn", self.head(partition))).arg(0).arg(0).arg("WITHSCORES");
        let first: Vec<(String, f64)> = self.inner.link.any(&command).await?;
        Ok(first.first().map(|(_, due)| *due as u64))
    }

    /// Schedules of a partition that are due at `now_ms`, at most 100, the longest due first.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn due_schedules(&self, partition: u16, now_ms: u64) -> Result<Vec<StoredSchedule>, Error> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(format!("{}schedn", self.head(partition))).arg("-inf").arg(now_ms);
        command.arg("LIMIT").arg(0).arg(LOOK_MAX);
        let names: Vec<String> = self.inner.link.any(&command).await?;
        self.read_schedules(partition, &names).await
    }

    /// Fires schedules of one partition. One answer for each: the outcomes of its times, or `None` where it stands
    /// otherwise by now and nothing was done. Safe to repeat.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn fire(
        &self,
        partition: u16,
        requests: &[FireRequest],
        now_ms: u64,
    ) -> Result<Vec<Option<Vec<Outcome>>>, Error> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let mut times = 0;
            let fits = rest.iter().take_while(|request| {
                times += request.due.times.len();
                times <= JOBS_MAX
            });
            let (piece, behind) = rest.split_at(fits.count().max(1));
            rest = behind;
            let mut call = self.call(&self.inner.scripts.schedule_fire, partition);
            call.arg(self.control_channel());
            let mut ids = Vec::new();
            let mut owes = false;
            for FireRequest { stored: StoredSchedule { schedule, state }, due, error, asked } in piece {
                call.arg(&schedule.name).arg(state.rev).arg(text(state.next_ms)).arg(text(state.waiting_ms));
                let next = due.next_ms.map(|next_ms| schedule.due_ms(next_ms));
                call.arg(text(due.next_ms)).arg(text(next)).arg(due.missed);
                call.arg(error.as_deref().unwrap_or("")).arg(schedule.overlap.name());
                call.arg(text(schedule.max_runs));
                call.arg(self.last_job(partition, schedule, state).await).arg(due.times.len());
                let mut made = Vec::with_capacity(due.times.len());
                for planned_ms in &due.times {
                    call.arg(*planned_ms);
                    let asked = if *asked { "M" } else { "" };
                    let id = |partition| JobId::fired(&schedule.name, *planned_ms, now_ms, partition);
                    let Work::Job(spec) = &schedule.work else {
                        call.arg(asked).arg(&[""; 6][..]);
                        made.push(id(partition));
                        continue;
                    };
                    let mut spec = (**spec).clone();
                    spec.tags.push(format!("{TAG}{}", schedule.name));
                    spec.schedule = Some(Firing { name: schedule.name.clone(), planned_ms: *planned_ms });
                    let replaces_input = schedule.replace_input;
                    let mut job = [NewJob { spec, replaces_input, ..NewJob::default() }];
                    let limits = self.settle(&mut job).await?;
                    for job in &mut job {
                        let home = jobs::home(job, &limits).map(|key| self.partition_of_key(&key));
                        call.arg(if home.is_some() { format!("{asked}O") } else { asked.to_owned() });
                        owes |= home.is_some();
                        let id = id(home.unwrap_or(partition));
                        job.id = Some(id);
                        jobs::new_job(&mut call, job)?;
                        made.push(id);
                    }
                }
                ids.push(made);
            }
            let letters: Vec<String> = call.run().await?;
            let settled = if owes { self.settle_schedules(partition).await } else { Ok(HashMap::new()) };
            let settled = settled.unwrap_or_else(|error| {
                tracing::warn!(%error, partition, "jobs that schedules owe are made later");
                HashMap::new()
            });
            for (letters, ids) in letters.iter().zip(ids) {
                answers.push(outcomes(letters, &ids, &settled)?);
            }
        }
        Ok(answers)
    }

    /// The job that a schedule made last, behind what is known of it: see `schedule_fire.lua`.
    async fn last_job(&self, partition: u16, schedule: &Schedule, state: &ScheduleState) -> String {
        let Some(id) = state.job else { return String::new() };
        let home = id.partition();
        if home == partition || schedule.overlap == Overlap::Allow {
            return format!("H{id}");
        }
        // What cannot be seen may still run.
        let ended = !self.is_away(home)
            && match self.views(home, &[id]).await {
                Ok(views) => views.first().is_none_or(|view| view.state.is_ended()),
                Err(error) => {
                    tracing::warn!(%error, schedule = schedule.name, "the job made last cannot be seen");
                    false
                }
            };
        format!("{}{id}", if ended { 'E' } else { 'S' })
    }

    /// Creates the jobs that schedules of a partition owe. Answers what became of each that is settled. Any number of
    /// hosts may do so at once, and as often as they like.
    ///
    /// # Errors
    /// The partition does not answer. Where that of a job does not, it stays owed.
    pub async fn settle_schedules(&self, partition: u16) -> Result<HashMap<JobId, Outcome>, Error> {
        let (mut owed, mut cursor) = (Vec::new(), b"0".to_vec());
        loop {
            let mut call = self.call(&self.inner.scripts.schedule_owed, partition);
            let mut page = call.arg(&cursor).run::<Vec<Vec<u8>>>().await?.into_iter();
            cursor = page.next().unwrap_or_else(|| b"0".to_vec());
            owed.extend(page);
            if cursor == b"0" {
                break;
            }
        }
        let mut owed: Vec<_> = owed.chunks_exact(10).collect();
        // A job that is to take the place of another comes after it.
        owed.sort_by_key(|entry| {
            std::str::from_utf8(&entry[1]).ok().and_then(|time| time.parse::<u64>().ok())
        });
        let mut settled = HashMap::new();
        for entry in owed {
            let id = jobs::parse_id(&entry[4])?;
            if self.is_away(id.partition()) {
                continue;
            }
            match self.create_owed(&id, entry).await {
                Ok((outcome, letter, other)) => {
                    let mut call = self.call(&self.inner.scripts.schedule_settle, partition);
                    call.arg(&entry[0]).arg(id.as_str()).arg(&entry[1]).arg(&entry[3]).arg(letter);
                    let _: u8 = call.arg(other.as_ref().map_or("", JobId::as_str)).run().await?;
                    settled.insert(id, outcome);
                }
                Err(error) => {
                    tracing::warn!(%error, job_id = %id, "a job that a schedule owes is made later")
                }
            }
        }
        Ok(settled)
    }

    /// What became of an owed job: for the caller, and for the schedule.
    async fn create_owed(
        &self,
        id: &JobId,
        entry: &[Vec<u8>],
    ) -> Result<(Outcome, &'static str, Option<JobId>), Error> {
        if !entry[2].is_empty() {
            self.control(&jobs::parse_id(&entry[2])?, Control::Cancel, None).await?;
        }
        let mut call = self.call(&self.inner.scripts.create, id.partition());
        call.arg(self.control_channel()).arg(&entry[4..]);
        let answers: Vec<String> = call.run().await?;
        let answer = answers.get(1).map(String::as_str).unwrap_or_default();
        match answer.chars().next() {
            Some('L') => Ok((Outcome::Refused, "L", None)),
            // The kind, the letter of the state, the id.
            Some('E' | 'U') => match jobs::parse_id(answer.as_bytes().get(2..).unwrap_or_default())? {
                // It was created by a call whose answer was lost, or by another host.
                own if own == *id => Ok((Outcome::Job(own), "C", None)),
                other => Ok((Outcome::Unique(other), "E", Some(other))),
            },
            _ => Ok((Outcome::Job(*id), "C", None)),
        }
    }

    /// Do schedules of a partition owe jobs?
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn schedules_owe(&self, partition: u16) -> Result<bool, Error> {
        let mut command = redis::cmd("HLEN");
        command.arg(format!("{}schedo", self.head(partition)));
        let owed: u64 = self.inner.link.any(&command).await?;
        Ok(owed > 0)
    }

    /// Fires a schedule now, whether it is paused or not, and leaves its planned times as they are. `None` where there
    /// is no such schedule.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn run_schedule(&self, name: &str) -> Result<Option<(Outcome, FireRequest)>, Error> {
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.schedule(name).await? else { return Ok(None) };
            let now_ms = self.now_ms().await?;
            let request = stored.firing_now(now_ms);
            let answers =
                self.fire(self.schedule_partition(name), std::slice::from_ref(&request), now_ms).await?;
            if let Some(Some(outcomes)) = answers.into_iter().next()
                && let Some(outcome) = outcomes.into_iter().next()
            {
                return Ok(Some((outcome, request)));
            }
        }
        Err(Error::corrupt(format!("schedule {name}"), "it changes faster than it can be fired"))
    }

    /// Notes what was done for a schedule that makes no jobs.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn schedule_ran(
        &self,
        name: &str,
        planned_ms: u64,
        took_ms: u64,
        done: Result<&str, &str>,
    ) -> Result<(), Error> {
        let mut call = self.call(&self.inner.scripts.schedule_ran, self.schedule_partition(name));
        call.arg(name).arg(planned_ms).arg(took_ms);
        call.arg(done.unwrap_or("")).arg(done.err().unwrap_or(""));
        let _: u64 = call.run().await?;
        Ok(())
    }

    /// Asks to lead the hosts for the next `ttl_ms`, or goes on leading. Answers who leads.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn lead(&self, host: &str, ttl_ms: u64) -> Result<String, Error> {
        self.call_at(&self.inner.scripts.lead, self.global("")).arg(host).arg(ttl_ms).run().await
    }

    /// The host that leads.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(self.global("leader"));
        Ok(self.inner.link.any(&command).await?)
    }

    /// Does this host lead?
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn leads(&self, host: &str) -> Result<bool, Error> {
        Ok(self.leader().await?.as_deref() == Some(host))
    }

    /// Tells the host that leads that a schedule may be due sooner than it knows.
    async fn publish_schedules(&self) -> Result<(), Error> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.control_channel()).arg("host schedules *");
        Ok(self.inner.link.any(&command).await?)
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Schedule(invalid)
    }
}

fn unreadable(name: &str, error: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("schedule {name}"), error)
}

/// A number, or nothing, for a script.
fn text(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn outcomes(
    letters: &str,
    ids: &[JobId],
    settled: &HashMap<JobId, Outcome>,
) -> Result<Option<Vec<Outcome>>, Error> {
    if letters == "L" {
        return Ok(None);
    }
    let outcome = |(letter, id): (char, &JobId)| match letter {
        'C' => Ok(Outcome::Job(*id)),
        'O' => Ok(settled.get(id).copied().unwrap_or(Outcome::Job(*id))),
        'A' => Ok(Outcome::Action),
        'S' => Ok(Outcome::Overlap),
        'W' => Ok(Outcome::Waits),
        'X' => Ok(Outcome::Ended),
        _ => Err(Error::corrupt("a firing's answer", letters)),
    };
    letters.chars().zip(ids).map(outcome).collect::<Result<_, _>>().map(Some)
}
