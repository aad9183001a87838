//! What the last two days were like, minute by minute, and which plugin versions came when.
//!
//! One hash per hour, `history:<hour>`, forgotten two days later: never more than 49 of them. Its fields are
//! `<minute>.<name>`: what hosts counted adds up, what the leading host looked at is written over.

use crate::{Error, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Minutes that are kept.
pub const HISTORY_MINUTES: u64 = 48 * 60;
/// Milliseconds of an hour and of a minute.
const HOUR_MS: u64 = 3_600_000;
/// See [`HOUR_MS`].
const MINUTE_MS: u64 = 60_000;
/// Deploys that are kept.
const DEPLOYS_MAX: isize = 200;

/// What happened in a minute, and how it stood at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// When it began, Unix milliseconds.
    pub at_ms: u64,
    /// Jobs that succeeded on a worker.
    pub succeeded: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were claimed for the first time.
    pub started: u64,
    /// How long they had waited, added up, milliseconds.
    pub waited_ms: u64,
    /// Jobs that waited in queues; `None`: nobody looked.
    pub queued: Option<u64>,
    /// Jobs that ran.
    pub running: Option<u64>,
}

/// What a host counted since it last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were claimed for the first time.
    pub started: u64,
    /// How long they had waited, added up, milliseconds.
    pub waited_ms: u64,
}

/// How it stands now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Jobs that wait in queues.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
}

/// A version of a plugin that came into service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    /// When it was first seen, Unix milliseconds.
    pub at_ms: u64,
    /// Job type.
    pub job_type: String,
    /// Its version.
    pub version: String,
}

impl Store {
    fn history_key(&self, at_ms: u64) -> String {
        self.global(&format!("history:{}", at_ms / HOUR_MS))
    }

    /// Adds to the present minute what a host counted, and writes how it stands.
    ///
    /// # Errors
    /// The server does not answer; what was counted may or may not have been added.
    pub async fn add_history(&self, at_ms: u64, counted: Counted, level: Option<Level>) -> Result<(), Error> {
        let key = self.history_key(at_ms);
        let minute = at_ms % HOUR_MS / MINUTE_MS;
        let mut pipeline = redis::pipe();
        let counts = [
            ("s", counted.succeeded),
            ("f", counted.failed),
            ("c", counted.started),
            ("w", counted.waited_ms),
        ];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            pipeline.hincr(&key, format!("{minute}.{name}"), count).ignore();
        }
        if let Some(level) = level {
            pipeline.hset(&key, format!("{minute}.q"), level.queued).ignore();
            pipeline.hset(&key, format!("{minute}.r"), level.running).ignore();
        }
        pipeline.expire(&key, (HISTORY_MINUTES * 60 + HOUR_MS.div_ceil(1_000)) as i64).ignore();
        Ok(self.inner.link.pipeline(&pipeline).await?)
    }

    /// The last `minutes` minutes, oldest first, the present one included; at most [`HISTORY_MINUTES`].
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn history(&self, now_ms: u64, minutes: u64) -> Result<Vec<Minute>, Error> {
        let minutes = minutes.clamp(1, HISTORY_MINUTES);
        let last = now_ms / MINUTE_MS;
        let first = (last + 1).saturating_sub(minutes);
        let hours: Vec<_> = (first / 60..=last / 60).collect();
        let mut pipeline = redis::pipe();
        for hour in &hours {
            pipeline.hgetall(self.history_key(hour * HOUR_MS));
        }
        let stored: Vec<BTreeMap<String, u64>> = self.inner.link.pipeline(&pipeline).await?;
        let mut all: Vec<_> =
            (first..=last).map(|minute| Minute { at_ms: minute * MINUTE_MS, ..Minute::default() }).collect();
        for (hour, fields) in hours.iter().zip(stored) {
            for (field, value) in fields {
                let Some((minute, name)) = field.split_once('.') else { continue };
                let Ok(minute) = minute.parse::<u64>() else { continue };
                let Some(at) = (hour * 60 + minute).checked_sub(first) else { continue };
                let Some(slot) = all.get_mut(at as usize) else { continue };
                match name {
                    "s" => slot.succeeded = value,
                    "f" => slot.failed = value,
                    "c" => slot.started = value,
                    "w" => slot.waited_ms = value,
                    "q" => slot.queued = Some(value),
                    "r" => slot.running = Some(value),
                    _ => {}
                }
            }
        }
        Ok(all)
    }

    /// Notes the plugin versions, by job type and digest, that hosts have now; the ones that were not there before are
    /// deploys. One that went is forgotten when another of its type is there, so that its return is a deploy again.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn note_versions(
        &self,
        at_ms: u64,
        now: &BTreeMap<(String, String), String>,
    ) -> Result<(), Error> {
        let key = self.global("versions");
        let mut command = redis::cmd("HKEYS");
        command.arg(&key);
        let known: BTreeSet<String> = self.inner.link.any(&command).await?;
        let mut pipeline = redis::pipe();
        let name = |job_type: &str, digest: &str| format!("{job_type}|{digest}");
        for ((job_type, digest), version) in now {
            let field = name(job_type, digest);
            if !known.contains(&field) {
                pipeline.hset(&key, field, at_ms).ignore();
                pipeline.lpush(self.global("deploys"), format!("{at_ms}|{job_type}|{version}")).ignore();
            }
        }
        for field in &known {
            let Some((job_type, digest)) = field.split_once('|') else { continue };
            let replaced = now.keys().any(|(other, _)| other == job_type);
            if replaced && !now.contains_key(&(job_type.to_owned(), digest.to_owned())) {
                pipeline.hdel(&key, field).ignore();
            }
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        pipeline.ltrim(self.global("deploys"), 0, DEPLOYS_MAX - 1).ignore();
        Ok(self.inner.link.pipeline(&pipeline).await?)
    }

    /// The last deploys, newest first, at most 200.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn deploys(&self) -> Result<Vec<Deploy>, Error> {
        let mut command = redis::cmd("LRANGE");
        command.arg(self.global("deploys")).arg(0).arg(DEPLOYS_MAX - 1);
        let lines: Vec<String> = self.inner.link.any(&command).await?;
        let read = |line: String| {
            let mut parts = line.splitn(3, '|');
            Some(Deploy {
                at_ms: parts.next()?.parse().ok()?,
                job_type: parts.next()?.to_owned(),
                version: parts.next()?.to_owned(),
            })
        };
        Ok(lines.into_iter().filter_map(read).collect())
    }
}
