//! Schedules: at which times a job is made, and what happens to times that were missed.
//!
//! A schedule names *planned times*. Everything else follows from them: when one is due (jitter), which of those that
//! passed are still to fire (catch-up), and what comes next. Daylight saving, for cron patterns, in the schedule's zone:
//!
//! * A fixed time of day that the clock jumps over fires at the first instant after the jump, on the same day.
//! * A fixed time of day that comes twice fires once, the first time.
//! * A pattern with `*` or a step in its seconds, minutes or hours follows the clock: nothing is made up for an hour
//!   that is jumped over, and an hour that comes twice fires in both.
//!
//! Intervals count milliseconds and know no zone. The rules of the zones are those that the program was built with, so
//! that all hosts of one version agree.

use crate::Spec;
use croner::{Cron, errors::CronError, parser::CronParser};
use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Longest name, characters: with the tag's prefix it is still a tag.
pub const NAME_MAX: usize = 100;
/// The tag of jobs that a schedule made is this and its name.
pub const TAG: &str = "schedule:";
/// Names that begin so are the program's own.
pub const RESERVED: &str = "waymark.";
/// Shortest interval, milliseconds. Cron is as fine.
pub const EVERY_MS_MIN: u64 = 1_000;
/// Longest interval and longest jitter: ten years and a day. Catches units that were mistaken.
pub const EVERY_MS_MAX: u64 = 10 * 366 * 86_400_000;
/// See [`EVERY_MS_MAX`].
pub const JITTER_MS_MAX: u64 = 86_400_000;
/// Most missed times that are caught up.
pub const CATCH_UP_MAX: u32 = 1_000;
/// A time that is due for no longer is fired whatever the catch-up policy says: a host may have taken over, or was
/// busy, milliseconds.
pub const GRACE_MS: u64 = 15_000;
/// Most times of one schedule that one look fires; the next look goes on.
pub const FIRINGS_MAX: usize = 50;
/// Missed times that are counted after one downtime, where they are not caught up.
const MISSED_MAX: usize = 100;

/// A schedule as somebody wrote it down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name: 1 to 100 of letters, digits, '_', '-' and '.'.
    pub name: String,
    /// When.
    pub timing: Timing,
    /// IANA name of the zone that a cron pattern is read in.
    pub timezone: String,
    /// What if the job made last has not ended.
    #[serde(default)]
    pub overlap: Overlap,
    /// What becomes of times that nobody was there for.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Most missed times that [`CatchUp::All`] fires, the newest, 1 to 1,000.
    pub catch_up_max: u32,
    /// Each time is due up to so many milliseconds late; how many follows from name and time.
    #[serde(default)]
    pub jitter_ms: u64,
    /// No time before this, Unix milliseconds.
    #[serde(default)]
    pub starts_ms: Option<u64>,
    /// No time after this, Unix milliseconds.
    #[serde(default)]
    pub ends_ms: Option<u64>,
    /// It ends after it has fired so often.
    #[serde(default)]
    pub max_runs: Option<u64>,
    /// What it does.
    pub work: Work,
    /// Where the job that has its job's unique key waits and never ran, that one gets the schedule's input.
    #[serde(default)]
    pub replace_input: bool,
    /// The configuration file of a host holds it.
    #[serde(default)]
    pub from_file: bool,
}

/// When.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// Minute, hour, day of month, month, day of week; a sixth field in front is the second.
    Cron(String),
    /// At `anchor_ms` and every so many milliseconds before and after.
    Every {
        /// 1,000 at least.
        every_ms: u64,
        /// Unix milliseconds; 0 is the Unix epoch.
        anchor_ms: u64,
    },
    /// Once, Unix milliseconds.
    At(u64),
}

/// What if the job made last has not ended when the next is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The time is left out.
    #[default]
    Skip,
    /// One time waits until the job has ended; further ones are left out.
    QueueOne,
    /// Jobs may stand beside each other.
    Allow,
    /// The job is cancelled.
    CancelRunning,
}

/// What becomes of times that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out.
    Skip,
    /// The newest fires for all.
    #[default]
    Last,
    /// Each fires, oldest first, the newest up to a bound.
    All,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Skip, Self::QueueOne, Self::Allow, Self::CancelRunning];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::QueueOne => "queue_one",
            Self::Allow => "allow",
            Self::CancelRunning => "cancel_running",
        }
    }
}

impl CatchUp {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Last => "last",
            Self::All => "all",
        }
    }
}

/// What a schedule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Makes a job like this.
    Job(Box<Spec>),
    /// Has the host that leads do something itself.
    Action(Action),
}

/// What the program does for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Forgets ended jobs whose time is over, with their results, output, logs and checkpoints.
    ExpireResults,
    /// Forgets queues and job types that hold nothing.
    ExpireKeys,
    /// Compares indexes and counts with the jobs, and mends them.
    ReconcileIndexes,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ExpireResults, Self::ExpireKeys, Self::ReconcileIndexes];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExpireResults => "expire-results",
            Self::ExpireKeys => "expire-keys",
            Self::ReconcileIndexes => "reconcile-indexes",
        }
    }

    const fn every_ms(self) -> u64 {
        match self {
            Self::ExpireResults => 10_000,
            Self::ExpireKeys => 3_600_000,
            Self::ReconcileIndexes => 6 * 3_600_000,
        }
    }

    /// The built-in schedule for it.
    #[must_use]
    pub fn schedule(self) -> Schedule {
        Schedule {
            name: format!("{RESERVED}{}", self.name()),
            timing: Timing::Every { every_ms: self.every_ms(), anchor_ms: 0 },
            timezone: "UTC".to_owned(),
            overlap: Overlap::Allow,
            catch_up: CatchUp::Last,
            catch_up_max: 1,
            jitter_ms: 0,
            starts_ms: None,
            ends_ms: None,
            max_runs: None,
            work: Work::Action(self),
            replace_input: false,
            from_file: false,
        }
    }
}

/// Something in a schedule is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

/// What is to be done about a schedule now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The planned times to fire, oldest first, at most [`FIRINGS_MAX`].
    pub times: Vec<u64>,
    /// Times that are left out.
    pub missed: u64,
    /// The planned time that follows.
    pub next_ms: Option<u64>,
}

/// Can a schedule have this name?
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// A schedule that was read and can be asked for times.
#[derive(Clone, Debug)]
pub struct Calendar<'a> {
    schedule: &'a Schedule,
    cron: Option<Cron>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads pattern and zone, and checks all bounds.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn calendar(&self) -> Result<Calendar<'_>, Invalid> {
        let wrong = |field, detail: String| Err(Invalid { field, detail });
        let Ok(zone) = TimeZone::get(&self.timezone) else {
            return wrong("timezone", "is no time zone of the IANA database, such as Europe/Berlin".into());
        };
        let cron = match &self.timing {
            Timing::Cron(pattern) => match CronParser::new().parse(pattern) {
                Ok(cron) => Some(cron),
                Err(error) => return wrong("cron", format!("is no cron pattern: {error}")),
            },
            Timing::Every { every_ms, .. } if !(EVERY_MS_MIN..=EVERY_MS_MAX).contains(every_ms) => {
                return wrong("every_ms", format!("must be {EVERY_MS_MIN} to {EVERY_MS_MAX}"));
            }
            Timing::Every { .. } | Timing::At(_) => None,
        };
        if self.jitter_ms > JITTER_MS_MAX {
            return wrong("jitter_ms", format!("must be at most {JITTER_MS_MAX}"));
        }
        if !(1..=CATCH_UP_MAX).contains(&self.catch_up_max) {
            return wrong("catch_up_max", format!("must be 1 to {CATCH_UP_MAX}"));
        }
        if self.max_runs == Some(0) {
            return wrong("max_runs", "must be at least 1".into());
        }
        if let (Some(starts), Some(ends)) = (self.starts_ms, self.ends_ms)
            && starts > ends
        {
            return wrong("ends_at", "must not be before starts_at".into());
        }
        Ok(Calendar { schedule: self, cron, zone })
    }

    /// What the times depend on: as long as it stays the same, a schedule that is replaced keeps its next time.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self { timing, timezone, starts_ms, ends_ms, max_runs, jitter_ms, .. } = self;
        format!("{timing:?} {timezone} {starts_ms:?} {ends_ms:?} {max_runs:?} {jitter_ms}")
    }

    /// When a planned time is due: later by the jitter.
    #[must_use]
    pub fn due_ms(&self, planned_ms: u64) -> u64 {
        if self.jitter_ms == 0 {
            return planned_ms;
        }
        let digest = Sha256::new_with_prefix(&self.name).chain_update(planned_ms.to_be_bytes()).finalize();
        let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        planned_ms.saturating_add(number % (self.jitter_ms + 1))
    }
}

impl Calendar<'_> {
    /// The first planned time of a schedule that is made now. A one-off may lie in the past.
    ///
    /// # Errors
    /// The pattern never matches.
    pub fn first(&self, now_ms: u64) -> Result<Option<u64>, Invalid> {
        match self.schedule.timing {
            Timing::At(_) => self.next_after(0),
            _ => self.next_after(now_ms),
        }
    }

    /// The first planned time after `after_ms`.
    ///
    /// # Errors
    /// The pattern cannot be followed that far.
    pub fn next_after(&self, after_ms: u64) -> Result<Option<u64>, Invalid> {
        let after_ms = match self.schedule.starts_ms {
            Some(starts_ms) => after_ms.max(starts_ms.saturating_sub(1)),
            None => after_ms,
        };
        let next = match self.schedule.timing {
            Timing::At(at_ms) => Some(at_ms).filter(|at_ms| *at_ms > after_ms),
            Timing::Every { every_ms, anchor_ms } => {
                let phase = anchor_ms % every_ms;
                let past = (after_ms + every_ms - phase) / every_ms;
                Some(past * every_ms + phase)
            }
            Timing::Cron(_) => self.search(after_ms, |cron, from| cron.find_next_occurrence(from, false))?,
        };
        Ok(next.filter(|next| self.schedule.ends_ms.is_none_or(|ends_ms| *next <= ends_ms)))
    }

    /// The last planned time until `until_ms`, that included.
    fn last_until(&self, until_ms: u64) -> Result<Option<u64>, Invalid> {
        let until_ms = self.schedule.ends_ms.map_or(until_ms, |ends_ms| until_ms.min(ends_ms));
        let last = match self.schedule.timing {
            Timing::At(at_ms) => Some(at_ms).filter(|at_ms| *at_ms <= until_ms),
            Timing::Every { every_ms, anchor_ms } => {
                let phase = anchor_ms % every_ms;
                until_ms.checked_sub(phase).map(|since| since / every_ms * every_ms + phase)
            }
            Timing::Cron(_) => {
                self.search(until_ms, |cron, from| cron.find_previous_occurrence(from, true))?
            }
        };
        Ok(last.filter(|last| self.schedule.starts_ms.is_none_or(|starts_ms| *last >= starts_ms)))
    }

    fn search(
        &self,
        from_ms: u64,
        find: impl Fn(&Cron, &Zoned) -> Result<Zoned, CronError>,
    ) -> Result<Option<u64>, Invalid> {
        let Some(cron) = &self.cron else { return Ok(None) };
        let wrong = |detail: String| Invalid { field: "cron", detail };
        // Patterns know whole seconds.
        let seconds = i64::try_from(from_ms / 1_000).unwrap_or(i64::MAX);
        let from = Timestamp::from_second(seconds).map_err(|error| wrong(error.to_string()))?;
        match find(cron, &from.to_zoned(self.zone.clone())) {
            Ok(found) => Ok(u64::try_from(found.timestamp().as_millisecond()).ok()),
            Err(CronError::TimeSearchLimitExceeded | CronError::InvalidDate) => Ok(None),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// The next planned times after `after_ms`, at most `number`.
    ///
    /// # Errors
    /// The pattern cannot be followed that far.
    pub fn upcoming(&self, after_ms: u64, number: usize) -> Result<Vec<u64>, Invalid> {
        let (mut times, mut after_ms) = (Vec::with_capacity(number), after_ms);
        while times.len() < number
            && let Some(next) = self.next_after(after_ms)?
        {
            times.push(next);
            after_ms = next;
        }
        Ok(times)
    }

    /// What is to be done at `now_ms`, when the first planned time that did not fire is `next_ms`. A clock that was set
    /// back fires nothing twice: it has to reach `next_ms` again.
    ///
    /// # Errors
    /// The pattern cannot be followed that far.
    pub fn due(&self, next_ms: u64, now_ms: u64) -> Result<Due, Invalid> {
        if self.schedule.due_ms(next_ms) > now_ms {
            return Ok(Due { next_ms: Some(next_ms), ..Due::default() });
        }
        let catch_up_max = self.schedule.catch_up_max as usize;
        let looks_max = MISSED_MAX.max(catch_up_max) + FIRINGS_MAX;
        let (mut times, mut until_ms) = (Vec::new(), now_ms);
        while times.len() < looks_max
            && let Some(last) = self.last_until(until_ms)?
            && last >= next_ms
        {
            times.push(last);
            until_ms = last.saturating_sub(1);
        }
        times.reverse();
        let ready = times.iter().position(|time| self.schedule.due_ms(*time) > now_ms).unwrap_or(times.len());
        let mut following = match times.get(ready) {
            Some(time) => Some(*time),
            None => self.next_after(now_ms)?,
        };
        times.truncate(ready);
        let passed = times.len();
        let is_late = |time: &u64| now_ms - self.schedule.due_ms(*time) > GRACE_MS;
        let late = times.iter().filter(|time| is_late(time)).count();
        match self.schedule.catch_up {
            CatchUp::Skip => times.retain(|time| !is_late(time)),
            CatchUp::Last if late > 0 => times.drain(..passed - 1).for_each(drop),
            CatchUp::Last => {}
            CatchUp::All => times.drain(..late.saturating_sub(catch_up_max)).for_each(drop),
        }
        let missed = (passed - times.len()) as u64;
        if times.len() > FIRINGS_MAX {
            following = Some(times[FIRINGS_MAX]);
            times.truncate(FIRINGS_MAX);
        }
        Ok(Due { times, missed, next_ms: following })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(timing: Timing, timezone: &str) -> Schedule {
        Schedule {
            name: "s".into(),
            timing,
            timezone: timezone.into(),
            catch_up_max: 100,
            ..Action::ExpireKeys.schedule()
        }
    }

    fn cron(pattern: &str, timezone: &str) -> Schedule {
        schedule(Timing::Cron(pattern.into()), timezone)
    }

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    /// The planned times after `from` as the zone's own clock shows them, with its offset.
    fn times(schedule: &Schedule, from: &str, number: usize) -> Vec<String> {
        let calendar = schedule.calendar().unwrap();
        let shown = |at: u64| {
            let at = Timestamp::from_millisecond(at as i64).unwrap().to_zoned(calendar.zone.clone());
            at.strftime("%m-%d %H:%M %:z").to_string()
        };
        calendar.upcoming(ms(from), number).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn a_fixed_time_in_the_gap_fires_at_the_first_instant_after_it() {
        let berlin = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(times(&berlin, "2026-03-28T12:00:00Z", 2), ["03-29 03:00 +02:00", "03-30 02:30 +02:00"]);
        let new_york = cron("30 2 * * *", "America/New_York");
        assert_eq!(times(&new_york, "2026-03-07T12:00:00Z", 2), ["03-08 03:00 -04:00", "03-09 02:30 -04:00"]);
        // Half an hour is jumped over: 02:00 to 02:30.
        let lord_howe = cron("15 2 * * *", "Australia/Lord_Howe");
        assert_eq!(
            times(&lord_howe, "2026-10-03T00:00:00Z", 2),
            ["10-04 02:30 +11:00", "10-05 02:15 +11:00"]
        );
    }

    #[test]
    fn a_fixed_time_that_comes_twice_fires_once() {
        let berlin = cron("30 2 * * *", "Europe/Berlin");
        assert_eq!(times(&berlin, "2026-10-24T12:00:00Z", 2), ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
        let new_york = cron("30 1 * * *", "America/New_York");
        assert_eq!(times(&new_york, "2026-10-31T12:00:00Z", 2), ["11-01 01:30 -04:00", "11-02 01:30 -05:00"]);
        let lord_howe = cron("45 1 * * *", "Australia/Lord_Howe");
        assert_eq!(
            times(&lord_howe, "2026-04-04T00:00:00Z", 2),
            ["04-05 01:45 +11:00", "04-06 01:45 +10:30"]
        );
    }

    #[test]
    fn a_pattern_of_every_half_hour_goes_on_through_the_change() {
        let berlin = cron("*/30 * * * *", "Europe/Berlin");
        assert_eq!(
            times(&berlin, "2026-03-29T00:29:00Z", 3),
            ["03-29 01:30 +01:00", "03-29 03:00 +02:00", "03-29 03:30 +02:00"]
        );
        assert_eq!(
            times(&berlin, "2026-10-24T23:59:00Z", 5),
            [
                "10-25 02:00 +02:00",
                "10-25 02:30 +02:00",
                "10-25 02:00 +01:00",
                "10-25 02:30 +01:00",
                "10-25 03:00 +01:00"
            ]
        );
        let lord_howe = cron("*/15 * * * *", "Australia/Lord_Howe");
        assert_eq!(
            times(&lord_howe, "2026-10-03T15:14:00Z", 2),
            ["10-04 01:45 +10:30", "10-04 02:30 +11:00"]
        );
        assert_eq!(
            times(&lord_howe, "2026-04-04T14:29:00Z", 5),
            [
                "04-05 01:30 +11:00",
                "04-05 01:45 +11:00",
                "04-05 01:30 +10:30",
                "04-05 01:45 +10:30",
                "04-05 02:00 +10:30"
            ]
        );
    }

    #[test]
    fn an_interval_counts_from_its_anchor_whatever_the_zone() {
        let every = schedule(
            Timing::Every { every_ms: 3_600_000, anchor_ms: ms("2026-01-01T00:10:00Z") },
            "Europe/Berlin",
        );
        assert_eq!(times(&every, "2026-03-29T00:10:00Z", 2), ["03-29 03:10 +02:00", "03-29 04:10 +02:00"]);
        let before_its_anchor = every.calendar().unwrap().next_after(ms("1970-01-01T00:00:00Z"));
        assert_eq!(before_its_anchor, Ok(Some(600_000)));
    }

    #[test]
    fn walking_back_meets_the_same_times_as_walking_on() {
        let patterns =
            ["30 2 * * *", "*/30 * * * *", "0 */15 1,2,3 * * *", "15 2 29 3 *", "@hourly", "5 0 L * *"];
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"] {
            for pattern in patterns {
                for from in
                    ["2026-03-05", "2026-03-27", "2026-04-03", "2026-10-02", "2026-10-23", "2026-10-30"]
                {
                    let schedule = cron(pattern, zone);
                    let calendar = schedule.calendar().unwrap();
                    let from = ms(&format!("{from}T11:17:23Z"));
                    let on = calendar.upcoming(from, 120).unwrap();
                    assert!(on.is_sorted_by(|left, right| left < right), "{pattern} in {zone}");
                    let (mut back, mut until) = (Vec::new(), *on.last().unwrap());
                    while let Some(last) = calendar.last_until(until).unwrap()
                        && last > from
                    {
                        back.push(last);
                        until = last - 1;
                    }
                    back.reverse();
                    assert_eq!(on, back, "{pattern} in {zone}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |schedule: Schedule| schedule.calendar().unwrap_err().field;
        assert_eq!(field(cron("61 * * * *", "UTC")), "cron");
        assert_eq!(field(cron("", "UTC")), "cron");
        assert_eq!(field(cron("0 0 * *", "UTC")), "cron");
        assert_eq!(field(cron("0 0 * * *", "Europe/Atlantis")), "timezone");
        assert_eq!(field(schedule(Timing::Every { every_ms: 0, anchor_ms: 0 }, "UTC")), "every_ms");
        let at = schedule(Timing::At(1), "UTC");
        assert_eq!(field(Schedule { jitter_ms: u64::MAX, ..at.clone() }), "jitter_ms");
        assert_eq!(field(Schedule { catch_up_max: 0, ..at.clone() }), "catch_up_max");
        assert_eq!(field(Schedule { max_runs: Some(0), ..at.clone() }), "max_runs");
        assert_eq!(field(Schedule { starts_ms: Some(2), ends_ms: Some(1), ..at }), "ends_at");
    }

    #[test]
    fn a_pattern_that_never_matches_has_no_times() {
        let never = cron("0 0 31 2 *", "UTC");
        assert_eq!(never.calendar().unwrap().first(ms("2026-01-01T00:00:00Z")), Ok(None));
    }

    #[test]
    fn nothing_is_planned_outside_the_bounds() {
        let bound = Schedule {
            starts_ms: Some(100_000),
            ends_ms: Some(102_000),
            ..schedule(Timing::Every { every_ms: 1_000, anchor_ms: 0 }, "UTC")
        };
        let calendar = bound.calendar().unwrap();
        assert_eq!(calendar.upcoming(0, 10), Ok(vec![100_000, 101_000, 102_000]));
        let due = calendar.due(100_000, 110_000).unwrap();
        assert_eq!((due.times, due.next_ms), (vec![100_000, 101_000, 102_000], None));
    }

    #[test]
    fn what_was_missed_follows_the_policy() {
        let minutes = |catch_up| Schedule {
            catch_up,
            catch_up_max: 3,
            ..schedule(Timing::Every { every_ms: 60_000, anchor_ms: 0 }, "UTC")
        };
        let due = |schedule: &Schedule, now_ms| schedule.calendar().unwrap().due(600_000, now_ms).unwrap();
        let expected =
            |times: &[u64], missed, next_ms| Due { times: times.into(), missed, next_ms: Some(next_ms) };
        // A host that is a little late fires what is due, whatever the policy.
        for catch_up in [CatchUp::Skip, CatchUp::Last, CatchUp::All] {
            assert_eq!(due(&minutes(catch_up), 599_999), expected(&[], 0, 600_000));
            assert_eq!(due(&minutes(catch_up), 614_000), expected(&[600_000], 0, 660_000));
        }
        // Ten minutes later: 600,000 to 1,200,000 are late.
        assert_eq!(due(&minutes(CatchUp::Skip), 1_230_000), expected(&[], 11, 1_260_000));
        assert_eq!(due(&minutes(CatchUp::Last), 1_230_000), expected(&[1_200_000], 10, 1_260_000));
        assert_eq!(
            due(&minutes(CatchUp::All), 1_230_000),
            expected(&[1_080_000, 1_140_000, 1_200_000], 8, 1_260_000)
        );
        // The newest is in time: it stands for the others where one shall.
        assert_eq!(due(&minutes(CatchUp::Skip), 1_200_500), expected(&[1_200_000], 10, 1_260_000));
        assert_eq!(due(&minutes(CatchUp::Last), 1_200_500), expected(&[1_200_000], 10, 1_260_000));
    }

    #[test]
    fn many_missed_times_are_fired_by_several_looks_each_once() {
        let seconds = Schedule {
            catch_up: CatchUp::All,
            catch_up_max: 120,
            ..schedule(Timing::Every { every_ms: 1_000, anchor_ms: 0 }, "UTC")
        };
        let calendar = seconds.calendar().unwrap();
        let (now, mut next, mut fired, mut missed) = (1_000_000, 500_000, Vec::new(), 0);
        while next <= now {
            let due = calendar.due(next, now).unwrap();
            fired.extend(due.times);
            missed += due.missed;
            next = due.next_ms.unwrap();
        }
        // 120 that are late, and those of the last 15 s.
        assert_eq!(fired, (865..=1_000).map(|second| second * 1_000).collect::<Vec<_>>());
        assert!(missed > 0);
    }

    #[test]
    fn jitter_delays_each_time_by_its_own_share() {
        let jittered = Schedule { jitter_ms: 30_000, ..cron("* * * * *", "UTC") };
        let delays: Vec<_> =
            (1..100).map(|minute| jittered.due_ms(minute * 60_000) - minute * 60_000).collect();
        assert!(delays.iter().all(|delay| *delay <= 30_000));
        assert!(delays.iter().max().unwrap() - delays.iter().min().unwrap() > 20_000, "{delays:?}");
        let calendar = jittered.calendar().unwrap();
        let due = jittered.due_ms(60_000);
        assert!(calendar.due(60_000, due - 1).unwrap().times.is_empty());
        assert_eq!(calendar.due(60_000, due).unwrap().times, [60_000]);
    }

    #[test]
    fn a_clock_set_back_fires_nothing_twice() {
        let seconds = schedule(Timing::Every { every_ms: 1_000, anchor_ms: 0 }, "UTC");
        let due = seconds.calendar().unwrap().due(9_000, 4_500).unwrap();
        assert_eq!(due, Due { times: vec![], missed: 0, next_ms: Some(9_000) });
    }

    #[test]
    fn a_one_off_fires_once_and_ends() {
        let once = schedule(Timing::At(5_000), "UTC");
        let calendar = once.calendar().unwrap();
        assert_eq!(calendar.first(9_000_000), Ok(Some(5_000)));
        assert_eq!(
            calendar.due(5_000, 9_000_000).unwrap(),
            Due { times: vec![5_000], missed: 0, next_ms: None }
        );
    }
}
